"""The report of an evaluation: one self-contained page, and its figures as files."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_gym.evaluation.configurations import ConfigurationTable
from hpo_gym.evaluation.curves import regret_curves
from hpo_gym.evaluation.definitions import DEFINITIONS
from hpo_gym.evaluation.figure import save_figure
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.evaluation.report_sections import ReportFigure, Section, report_sections
from hpo_gym.evaluation.statistics import summarise
from hpo_gym.evaluation.style import plural
from hpo_gym.sources.bundle_files import write_atomic

if TYPE_CHECKING:
    from jinja2 import Template

    from hpo_gym.evaluation.run import Failure

__all__ = ["write_report"]

_TEMPLATE = Path(__file__).with_name("report.html.j2")
# An SVG with more would open slowly, and its PNG is smaller.
_LARGEST_SVG = 150_000


def write_report(
    records: RecordTable,
    folder: str | Path,
    *,
    reference: str,
    split: str,
    settings: Mapping[str, Any] | None = None,
    configurations: ConfigurationTable | None = None,
    failures: Sequence[Failure] | None = None,
    trials: Sequence[int] | None = None,
    summary: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Path:
    """Write ``report.html``, which needs no other file, and ``figures/*.png`` and ``*.svg``.

    The same arguments give the same page, but for what was measured (``agent_seconds``).

    Args:
        records: The trials, of one space or several.
        folder: Where to write.
        reference: Agent that the others are compared with.
        split: The split that was played.
        settings: What was evaluated and with what, for the reader; nested mappings are flattened.
        configurations: What was tried, for the trace of a single run.
        failures: Episodes that could not be played.
        trials: When regret is reported; ``None`` means :func:`~hpo_gym.evaluation.chosen_trials`.
        summary: What :func:`~hpo_gym.evaluation.summarise` returned of the same, where it is at hand.
        seed: Root of the resampling streams.

    Returns:
        The path of the page.

    Raises:
        UnknownNameError: For an unknown reference.
        InvalidSettingError: If the records cannot be compared.
    """
    target = Path(folder)
    curves = regret_curves(records)
    found = summarise(records, reference, trials, seed=seed) if summary is None else summary
    sections = []
    number = 0
    for section in report_sections(records, curves, found, split, configurations, seed):
        shown = []
        for figure in section.figures:
            number += 1
            shown.append(_saved(figure, number, target))
        sections.append({**_plain(section), "figures": shown})
    lost = list(failures or ())
    title = f"{', '.join(found['spaces'])}: {plural(len(found['agents']), 'method')} compared"
    page = _template().render(
        title=title,
        lead=_lead(found, split),
        facts=[
            ("Agents", ", ".join(sorted(found["agents"]))),
            ("Reference", reference),
            ("Spaces", ", ".join(found["spaces"])),
            ("Split", split),
            ("Tasks", str(found["tasks"])),
            ("Repetitions per task", str(found["seeds"])),
            ("Budget", f"{found['budget']} full evaluations, the first included"),
        ],
        settings=list(_flat(settings or {})),
        sections=sections,
        failures=[(f"{one.agent} {one.run}, {one.task}, seed {one.seed}", one.episodes, one.error) for one in lost],
        failures_lead=f"{plural(sum(one.episodes for one in lost), 'episode')} could not be played.",
        definitions=DEFINITIONS,
    )
    write_atomic(target / "report.html", page.encode())
    return target / "report.html"


def _lead(summary: Mapping[str, Any], split: str) -> str:
    agents, final = summary["agents"], str(summary["trials"][-1])
    best = min(agents, key=lambda name: (agents[name]["regret"][final]["mean"], name))
    return (
        f"{plural(summary['tasks'], 'task')} of the {split} split, {plural(summary['seeds'], 'repetition')} each, "
        f"{summary['budget']} evaluations per episode. The lowest mean regret at the end is that of {best}: "
        f"{agents[best]['regret'][final]['mean']:.4f}."
    )


def _saved(figure: ReportFigure, number: int, folder: Path) -> dict[str, Any]:
    """Draw a figure, write its files, and return what the page needs of it."""
    png, svg = save_figure(figure.draw(), folder / "figures" / figure.name)
    chosen, kind = (svg, "image/svg+xml") if svg.stat().st_size <= _LARGEST_SVG else (png, "image/png")
    content = base64.b64encode(chosen.read_bytes()).decode()
    return {
        "name": figure.name,
        "number": number,
        "title": figure.title,
        "caption": figure.caption,
        "source": f"data:{kind};base64,{content}",
        "files": f"figures/{png.name}, figures/{svg.name}",
    }


def _plain(section: Section) -> dict[str, Any]:
    tables = [asdict(table) for table in section.tables]
    return {"anchor": section.anchor, "title": section.title, "tables": tables, "notes": section.notes}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, default=str)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
