"""An evaluation of several search spaces: which of them can be played here, and one table of all their scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpo_gym.documents import markdown_table
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import RecordTable
from hpo_gym.evaluation.protocols import Protocol
from hpo_gym.evaluation.scenario_scores import Estimate, ScenarioScores, scenario_scores

__all__ = ["LeftOut", "playable_spaces", "scenario_table", "scenarios_markdown"]


@dataclass
class LeftOut:
    """What a protocol asks for and this machine cannot play.

    Args:
        spaces: Reasons by search space.
        tasks: Reasons by dataset.
    """

    spaces: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return a line for each."""
        return [
            *(f"Left out: all scenarios of {name}. {reason}" for name, reason in self.spaces.items()),
            *(f"Left out: {name} with every model. {reason}" for name, reason in self.tasks.items()),
        ]


def playable_spaces(protocol: Protocol) -> tuple[list[str], LeftOut]:
    """Return the search spaces of a protocol whose models can be trained here, and the others with the reason.

    Raises:
        InvalidSettingError: If there is none.
    """
    from hpo_gym.sources.grpoformer import missing_families

    missing = missing_families(protocol.spaces)
    playable = [name for name in protocol.spaces if name not in missing]
    if not playable:
        raise InvalidSettingError(f"protocol={protocol.name} cannot be played here: {' '.join(missing.values())}")
    return playable, LeftOut(missing)


def scenario_table(scores: Mapping[str, ScenarioScores], note: Mapping[str, str] | None = None) -> str:
    """Return the scores of methods as a Markdown table with the set of methods below it.

    Args:
        scores: What :func:`~hpo_gym.evaluation.scenario_scores.scenario_scores` returned.
        note: Text of a further column by method, e.g. its budget.
    """
    header = ["method", "BtR", "ties with random", "MP", "MnP", "MnR", "regret"]
    rows = []
    for name, each in scores.items():
        row = [
            f"`{name}`",
            _shown(each.beats_random, 2),
            _shown(each.ties_with_random, 2),
            _shown(each.median_performance, 4),
            _shown(each.mean_performance, 4),
            _shown(each.mean_rank, 2),
            _shown(each.regret, 3),
        ]
        rows.append(row if note is None else [row[0], note[name], *row[1:]])
    if note is not None:
        header.insert(1, "evaluations")
    compared = ", ".join(next(iter(scores.values())).compared)
    return f"{markdown_table(header, rows, (0,))}\n\nRanks and regret are among: {compared}."


def scenarios_markdown(records: RecordTable, reference: str, left_out: LeftOut, datasets: Sequence[str]) -> str:
    """Return what an evaluation of several spaces says, as a document.

    Args:
        records: The trials of all spaces.
        reference: Name of the random search that has to be beaten.
        left_out: What was not played.
        datasets: What was.
    """
    layout = records.layout
    spaces = sorted({space for _, space, _ in layout.tasks})
    head = (
        f"{len(layout.tasks)} scenarios: {', '.join(spaces)} on {', '.join(datasets)}; {layout.budget} evaluations, "
        f"{layout.seeds} repetition(s). BtR and ties are against {reference}; regret: 0 is the best that anybody "
        "found, 1 the worst start. [95 % intervals over repetitions.]"
    )
    return "\n\n".join([head, scenario_table(scenario_scores(records, reference)), *left_out.lines()]) + "\n"


def _shown(estimate: Estimate, digits: int) -> str:
    text = f"{estimate.value:.{digits}f}"
    if estimate.low != estimate.low:
        return text
    return f"{text} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
