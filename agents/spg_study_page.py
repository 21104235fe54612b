"""The page of the study of Sequential Policy Gradient: tables and sentences made of its result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.spg_study_results import LEVEL, NONE, START, Study, direction
from agents.study import read_results
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import PairedTest, bootstrap_interval
from hpo_gym.evaluation.style import p_value_text, plural

if TYPE_CHECKING:
    import numpy as np

__all__ = ["COMMAND", "STUDY", "tables", "write_page"]

#: Name of the page and of its result files.
STUDY = "spg"
COMMAND = "python -m agents.spg_study"
_SHOWN = {
    START: "before (the weights all begin with)",
    NONE: "as many epochs without it",
    "dropout_grid": "dropout, best of four rates on validation",
    "dropout_search": "dropout, random search at equal compute",
    "deep_supervision": "deep supervision",
    "heads_without_masks": "SPG's heads and dropout, no masks",
    "masks_without_dropout": "SPG's masks, no dropout",
    "spg_paper": "**SPG, paper's form**",
    "spg_released": "**SPG, released form**",
    "spg_gradient": "**SPG, policy-gradient loss**",
    "spg_layers": "**SPG, layers**",
}


def write_page(documents: Path) -> str:
    """Fill the tables of the page; return its path.

    Args:
        documents: ``docs/studies``.

    Raises:
        As :func:`agents.study.read_results` and :func:`hpo_gym.documents.fill_page`.
    """
    found, facts = read_results(documents / "data", STUDY, COMMAND)
    return fill_page(documents / f"{STUDY}.md", tables(Study(found[STUDY], facts)))


def tables(study: Study) -> dict[str, Any]:
    """Return the makers of the page's tables by name."""
    regimes = study.regimes

    def each(make: Any) -> str:
        return "\n\n".join(f"### {regime.capitalize()}\n\n{make(study, regime)}" for regime in regimes)

    return {
        "state": lambda: _state(study),
        "answers": lambda: "\n".join([*_summary(study), *(line for name in regimes for line in _answers(study, name))]),
        "errors": lambda: each(_errors),
        "tests": lambda: each(_tests),
        "by_task": lambda: each(_by_task),
        "cross_entropy": lambda: each(_cross_entropies),
        "cost": lambda: each(_costs),
        "replicas": lambda: _replicas(study),
        "made": lambda: _made(study),
    }


def _state(study: Study) -> str:
    regimes = [
        f"{one['name']}: {plural(one['epochs'], 'epoch')} after {one['pretrain_epochs']} without any method"
        for one in study.facts["regimes"]
    ]
    return (
        f"{plural(len(study.tasks), 'task')}, {plural(study.facts['seeds'], 'seed')}, {len(study.rows):,} results "
        f"({'; '.join(regimes)}), device `{study.facts['device']}`."
    )


def _shown(method: str) -> str:
    return _SHOWN.get(method, method.replace("dropout_", "dropout "))


def _plain(method: str) -> str:
    return _shown(method).replace("*", "")


def _is_dropout(method: str) -> bool:
    return method.startswith("dropout_")


def _summary(study: Study) -> list[str]:
    """Return how often any form of SPG is better or worse than training as long, and than plain dropout."""
    compared = study.comparisons.values()
    lines = []
    for question, chosen in (("as many epochs without it", lambda name: name == NONE), ("plain dropout", _is_dropout)):
        found = [direction(test) for tests in compared for name, test in tests.items() if chosen(name)]
        better, worse = found.count(-1), found.count(1)
        answer = "Yes, always" if better == len(found) else "Sometimes" if better else "No"
        counted = f"of {plural(len(found), 'comparison')}, SPG is significantly better in {better} and worse in {worse}"
        lines.append(f"* **Does SPG beat {question}? {answer}**: {counted}.")
    return lines


def _answers(study: Study, regime: str) -> list[str]:
    """Return in words whether SPG beats training as long, plain dropout, and what is left of it without its parts."""
    what = f"mean test error over tasks, in points; Holm's p over {plural(study.facts['seeds'], 'seed')}"
    lines = [f"* **{regime.capitalize()}** ({what}):"]
    for form in study.forms:
        tests = study.comparisons[regime, form]
        same = _against(study, regime, form, NONE, tests[NONE])
        dropouts = [name for name in tests if _is_dropout(name)]
        parts = [name for name in tests if name != NONE and not _is_dropout(name)]
        sentences = [f"{_plain(form)} {same}"]
        for kind, names in (("plain dropout (fixed rates, grid, search)", dropouts), ("the other controls", parts)):
            better = [_plain(name) for name in names if direction(tests[name]) < 0]
            worse = [_plain(name) for name in names if direction(tests[name]) > 0]
            verdict = [f"significantly better than {', '.join(better)}"] if better else []
            verdict += [f"significantly worse than {', '.join(worse)}"] if worse else []
            sentences.append(f"against {kind}: {' and '.join(verdict) or 'no significant difference'}")
        lines.append(f"  * {'; '.join(sentences)}.")
    return [*lines, *(f"  * {line}" for line in _answers_by_task(study, regime))]


def _answers_by_task(study: Study, regime: str) -> list[str]:
    """Return in words on which tasks the paper's form differs from training as long and from plain dropout."""
    form = study.forms[0]
    found: dict[int, list[str]] = {-1: [], 1: []}
    for task in study.tasks:
        for control, test in study.compare(regime, form, task).items():
            sign = direction(test)
            if sign and (control == NONE or _is_dropout(control)):
                found[sign].append(f"than {_plain(control)} on {task}")
    said = [f"{word} {', '.join(found[sign])}" for sign, word in ((-1, "better"), (1, "worse")) if found[sign]]
    if not said:
        return []
    return [f"Task by task (not corrected for their number) {_plain(form)} is significantly {'; '.join(said)}."]


def _against(study: Study, regime: str, form: str, control: str, test: PairedTest) -> str:
    words = {-1: "**beats**", 1: "**loses to**", 0: "shows **no difference** from"}
    numbers = _intervals([study.difference(regime, form, control)], "+.2f")[0]
    sign = words[direction(test)]
    return f"{sign} as many epochs without it ({numbers}, p {p_value_text(test.corrected_p)})"


def _intervals(columns: Sequence[np.ndarray[Any, Any]], digits: str) -> list[str]:
    """Return mean and interval of each column ``[S]``; all at once, because resampling takes time."""
    import numpy as np

    values = np.stack(columns, axis=1)
    ends = zip(values.mean(0), *bootstrap_interval(values), strict=True)
    return [
        f"{mean:{digits}} [{'one seed' if np.isnan(low) else f'{low:{digits}}, {high:{digits}}'}]"
        for mean, low, high in ends
    ]


def _errors(study: Study, regime: str) -> str:
    methods = study.methods(regime)
    errors = {method: 100.0 * study.values(regime, method, "error") for method in methods}
    columns = [column for each in errors.values() for column in (*each.T, each.mean(1))]
    texts = iter(_intervals(columns, ".2f"))
    lowest = min(each.mean() for each in errors.values())
    rows = []
    for method in methods:
        *cells, mean = (next(texts) for _ in range(len(study.tasks) + 1))
        cost = "" if method == START else f"{study.cost(regime, method).mean():.2f}"
        rows.append([_shown(method), *cells, f"**{mean}**" if errors[method].mean() == lowest else mean, cost])
    header = ["method", *study.tasks, "mean over tasks", "cost"]
    return markdown_table(header, rows, wordy=(0,))


def _tests(study: Study, regime: str) -> str:
    compared = {form: study.comparisons[regime, form] for form in study.forms}
    controls = study.facts["controls"]
    columns = [study.difference(regime, form, control) for control in controls for form in compared]
    texts = iter(_intervals(columns, "+.2f"))
    rows = [
        [_shown(control), *(_tested(next(texts), tests[control]) for tests in compared.values())]
        for control in controls
    ]
    return markdown_table(["against", *(_plain(form) for form in compared)], rows, wordy=(0,))


def _tested(interval: str, test: PairedTest) -> str:
    text = f"{interval}, {_record(test)}"
    return f"**{text}**" if test.corrected_p < LEVEL else text


def _record(test: PairedTest) -> str:
    """Return SPG's won, tied and lost seeds, and p."""
    return f"{test.losses}/{test.ties}/{test.wins}, {p_value_text(test.corrected_p)}"


def _by_task(study: Study, regime: str) -> str:
    """Return the paper's form against training as long and plain dropout, task by task."""
    form = study.forms[0]
    against = [name for name in study.facts["controls"] if name == NONE or _is_dropout(name)]
    columns = [study.difference(regime, form, control, task) for task in study.tasks for control in against]
    texts = iter(_intervals(columns, "+.2f"))
    rows = []
    for task in study.tasks:
        tests = study.compare(regime, form, task)
        rows.append([task, *(_tested(next(texts), tests[control]) for control in against)])
    return markdown_table(["task", *(_shown(name) for name in against)], rows, wordy=(0,))


def _cross_entropies(study: Study, regime: str) -> str:
    methods = study.methods(regime)
    values = [study.values(regime, method, "cross_entropy") for method in methods]
    means = _intervals([each.mean(1) for each in values], ".3f")
    rows = [
        [_shown(method), *(f"{mean:.3f}" for mean in each.mean(0)), text]
        for method, each, text in zip(methods, values, means, strict=True)
    ]
    return markdown_table(["method", *study.tasks, "mean over tasks"], rows, wordy=(0,))


def _costs(study: Study, regime: str) -> str:
    rows = []
    for method in study.methods(regime):
        if method != START:
            rows.append([_shown(method), *(f"{ratio:.2f}" for ratio in study.cost(regime, method))])
    alone = study.values(regime, NONE, "seconds").mean(0)
    rows.append([f"seconds of {_plain(NONE)}", *(f"{seconds:.2f}" for seconds in alone)])
    return markdown_table(["method", *study.tasks], rows, wordy=(0,))


def _replicas(study: Study) -> str:
    moved = study.rows.dropna(subset=["replicas_moved"]).groupby("method")["replicas_moved"]
    low, high = moved.min(), moved.max()
    rows = [[_plain(form), f"{low[form]:.4g}", f"{high[form]:.4g}"] for form in study.forms]
    return markdown_table(["form", "least over all trainings", "most"], rows, wordy=(0,))


def _made(study: Study) -> str:
    facts, made = study.facts, study.facts["versions"]
    own = ("task", "epochs", "pretrain_epochs")
    settings = {name: value for name, value in facts["training"].items() if name not in own}
    spg = [f"{_plain(form['name'])}: {_settings(form['settings'])}" for form in facts["forms"]]
    packages = ", ".join(f"{name} {made['packages'][name]}" for name in ("hpo_gym", "torch", "numpy", "scipy"))
    commit = (made["git"] or {}).get("commit", "unknown")[:12]
    data = ", ".join(f"{name} `{digest[:16]}`" for name, digest in facts["data"].items())
    return "\n".join(
        [
            f"* Command: `{facts['command']}`",
            f"* Every training: {_settings(settings)}",
            *(f"* {line}" for line in spg),
            f"* Made with {packages}, python {made['python']}, {made['system']} {made['machine']}, "
            f"{made['threads']} thread(s), commit {commit}",
            f"* Examples (SHA-256): {data}",
        ]
    )


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={_value(value)}`" for name, value in values.items() if value is not None)


def _value(value: Any) -> str:
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
