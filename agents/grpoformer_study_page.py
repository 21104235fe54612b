"""The page of the study of GRPOformer's scenarios."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.evaluation_scenarios import scenario_table
from agents.grpoformer_study_data import BUDGETS, entries, records_of
from agents.study import read_results
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import PairedTest, RecordTable, pairwise_tests, regret_curves
from hpo_gym.evaluation.metrics import TIE_TOLERANCE
from hpo_gym.evaluation.protocols import find_protocol
from hpo_gym.evaluation.published import GRPOFORMER_36
from hpo_gym.evaluation.scenario_scores import ends_of_episodes, scenario_scores
from hpo_gym.evaluation.style import p_value_text, plural, verdict_text
from hpo_gym.live.datasets import DataSource

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMMAND", "NAME", "PROTOCOL", "write_page"]

#: Name of the study, of its page and of its protocol.
NAME = PROTOCOL = "grpoformer-36"
COMMAND = "python -m agents.grpoformer_study"

_ASKED = "grpo_paper"
_SHOWN = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def write_page(documents: Path) -> str:
    """Fill the page from ``docs/studies/data``; return its path.

    Raises:
        DataMissingError: If the study was never played.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    frames, facts = read_results(folder / "data", NAME, COMMAND)
    frame = frames[NAME]
    parts = {name: frame[frame["budgets"] == name] for name in BUDGETS}
    tables: dict[str, Callable[[], str]] = {
        "grpoformer_answer": lambda: "\n".join(line for name, part in parts.items() for line in _answers(name, part)),
        "grpoformer_curves": lambda: _each(parts["equal"], _curves),
        "grpoformer_families": lambda: _each(parts["equal"], _families),
        "grpoformer_paper_families": lambda: _each(parts["paper"], _families),
        "grpoformer_cost": lambda: _cost(frame),
        "grpoformer_ran": lambda: _ran(frame, facts),
        "grpoformer_left": lambda: _left(frame, facts),
        "grpoformer_made": lambda: _made(facts),
    }
    tables |= {f"grpoformer_{name}": partial(_each, part, _scores) for name, part in parts.items()}
    return fill_page(folder / f"{NAME}.md", tables)


def _groups(part: pd.DataFrame) -> list[pd.DataFrame]:
    """Return rows apart by how often, and with which budgets, a family was played: only the same can be averaged."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for space, rows in part.groupby("space"):
        key = (rows["seed"].nunique(), *sorted(_evaluations(rows).items()))
        groups.setdefault(key, []).append(str(space))
    ordered = sorted(groups.values(), key=lambda spaces: (-len(spaces), spaces))
    return [part[part["space"].isin(spaces)] for spaces in ordered]


def _each(part: pd.DataFrame, table: Callable[[pd.DataFrame], str]) -> str:
    """Return a table for each group of families, with their names above it where there are several."""
    groups = _groups(part)
    if len(groups) < 2:
        return table(groups[0]) if groups else "Not played yet."
    return "\n\n".join(f"**{_named(rows)}**\n\n{table(rows)}" for rows in groups)


def _named(rows: pd.DataFrame) -> str:
    families = ", ".join(sorted(rows["space"].unique()))
    return f"{families} ({plural(rows['seed'].nunique(), 'repetition')})"


def _ends(part: pd.DataFrame) -> RecordTable:
    return ends_of_episodes(records_of(part))


def _evaluations(part: pd.DataFrame) -> dict[str, int]:
    return {str(name): int(count) for name, count in part.groupby("method")["evaluations"].max().items()}


def _answers(budgets: str, part: pd.DataFrame) -> list[str]:
    """Return in words whether GRPOformer beats each other method, and whether random search would have."""
    groups = _groups(part)
    if not groups:
        return [f"* **{budgets.capitalize()} budgets**: not played yet."]
    return [f"* **{budgets.capitalize()} budgets**, {_named(rows)}: {_answer(rows)}." for rows in groups]


def _answer(part: pd.DataFrame) -> str:
    spent, records = _evaluations(part), _ends(part)
    if _ASKED not in spent:
        return f"`{_ASKED}` was not played"
    scores = scenario_scores(records)
    tests = pairwise_tests(regret_curves(records), _ASKED, 2)
    mine = scores[_ASKED].regret.value
    said = [_verdict(name, spent[name], mine, scores[name].regret.value, test) for name, test in sorted(tests.items())]
    count = plural(len(records.layout.tasks), "scenario")
    compared = f"{count}, `{_ASKED}` ({spent[_ASKED]:,} evaluations, regret {mine:.3f}) is {'; '.join(said)}"
    return f"{compared}. {_alike(part)}{_on_test_rows(part)}"


def _alike(part: pd.DataFrame) -> str:
    """Say how many scenarios are no comparison, because all methods end at one score."""
    ends = part[part["trial"] == part["evaluations"]].groupby(["space", "task", "method"])["incumbent"].mean()
    spread = ends.groupby(["space", "task"]).agg(lambda scores: scores.max() - scores.min())
    same = int((spread < TIE_TOLERANCE).sum())
    return f"In {same} of them all methods end at the same score. " if same else ""


def _on_test_rows(part: pd.DataFrame) -> str:
    """Say where the method asked for stands on the rows that nothing was chosen by."""
    tested = part[part["trial"] == part["evaluations"]].groupby("method")["test"].mean().dropna()
    if _ASKED not in tested:
        return ""
    place = int((tested > tested[_ASKED]).sum()) + 1
    return (
        f"On the test rows it has place {place} of {len(tested)} ({tested[_ASKED]:.4f}; the best: {tested.max():.4f})"
    )


def _verdict(name: str, spent: int, mine: float, regret: float, test: PairedTest) -> str:
    word = verdict_text(test.corrected_p, mine < regret)
    # Turned round: the test is that of the other method against GRPOformer.
    wins = f"W/T/L {test.losses}/{test.ties}/{test.wins}"
    return f"{word} `{name}` ({spent:,}; {regret:.3f}; {wins}, p {p_value_text(test.corrected_p, '= ')})"


def _scores(part: pd.DataFrame) -> str:
    spent, records = _evaluations(part), _ends(part)
    layout = records.layout
    scores = scenario_scores(records)
    head = f"{plural(len(layout.tasks), 'scenario')}, {plural(layout.seeds, 'repetition')}."
    table = scenario_table(scores, {name: f"{count:,}" for name, count in spent.items()})
    ends = part[part["trial"] == part["evaluations"]]
    tested = ends.groupby("method")[["incumbent", "test"]].mean()
    rows = [[f"`{name}`", f"{tested.loc[name, 'incumbent']:.4f}", f"{tested.loc[name, 'test']:.4f}"] for name in scores]
    test = markdown_table(["method", "MnP: validation rows, chosen by", "the same models on the test rows"], rows, (0,))
    return f"{head}\n\n{table}\n\n{test}"


def _curves(part: pd.DataFrame) -> str:
    records = records_of(part)
    curves = regret_curves(records)
    trials = sorted(int(trial) for trial in part["trial"].unique())
    shown = [trial for trial in trials if trial in _SHOWN or trial == trials[-1]]
    means = {name: values.mean(axis=0) for name, values in curves.values.items()}
    rows = []
    for name in sorted(means, key=lambda name: (means[name][-1], name)):
        cells = [(means[name][trials.index(trial)], trial) for trial in shown]
        best = {trial: min(each[trials.index(trial)] for each in means.values()) for trial in shown}
        rows.append(
            [f"`{name}`", *(f"**{value:.3f}**" if value == best[trial] else f"{value:.3f}" for value, trial in cells)]
        )
    return markdown_table(["method", *(f"at {trial:,}" for trial in shown)], rows, (0,))


def _families(part: pd.DataFrame) -> str:
    spaces = sorted(part["space"].unique())
    scores = {space: scenario_scores(_ends(part[part["space"] == space])) for space in spaces}
    methods = list(scenario_scores(_ends(part)))
    rows = [
        [
            f"`{name}`",
            *(
                f"{scores[space][name].mean_performance.value:.4f} / {scores[space][name].regret.value:.3f}"
                for space in spaces
            ),
        ]
        for name in methods
    ]
    return markdown_table(["method", *spaces], rows, (0,))


def _cost(frame: pd.DataFrame) -> str:
    """Return what a training takes in each family, and what a method takes to choose."""
    ends = frame[frame["trial"] == frame["evaluations"]]
    per_family = [
        [name, f"{1000.0 * each['seconds'].sum() / each['evaluations'].sum():.0f}", f"{each['evaluations'].sum():,}"]
        for name, each in ends.groupby("space")
    ]
    per_method = [
        [
            f"`{name}`",
            budgets,
            f"{each['evaluations'].max():,}",
            f"{1000.0 * each['agent_seconds'].sum() / each['evaluations'].sum():.1f}",
        ]
        for (budgets, name), each in ends.groupby(["budgets", "method"])
    ]
    first = markdown_table(["family", "ms a training", "evaluations"], per_family, (0,))
    second = markdown_table(["method", "budgets", "evaluations", "ms a choice"], per_method, (0, 1))
    return f"{first}\n\n{second}"


def _ran(frame: pd.DataFrame, facts: dict[str, Any]) -> str:
    rows = []
    ends = frame[frame["trial"] == frame["evaluations"]]
    for key, each in _played(facts):
        budgets, family = key.split("/")
        tasks = [str(DataSource(name).task_ref) for name in each["datasets"]]
        mine = ends[(ends["budgets"] == budgets) & (ends["space"] == family) & ends["task"].isin(tasks)]
        spent = ", ".join(f"`{name}` {count:,}" for name, count in sorted(each["evaluations"].items()))
        minutes = (mine["seconds"].sum() + mine["agent_seconds"].sum()) / 60.0
        datasets = ", ".join(name.removeprefix("sklearn:") for name in each["datasets"])
        rows.append([budgets, family, datasets, each["seeds"], spent, f"{minutes:.1f}"])
    header = ["budgets", "family", "datasets, at once", "seeds", "evaluations a scenario", "minutes"]
    return markdown_table(header, rows, (0, 1, 2, 4))


def _played(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return what was played at once: ``<budgets>/<family>`` and its facts, in order."""
    return [(key, each) for key, groups in sorted(facts["played"].items()) for each in groups]


def _left(frame: pd.DataFrame, facts: dict[str, Any]) -> str:
    """Return what the whole study has and this page does not."""
    protocol = find_protocol(PROTOCOL)
    lines = []
    for budgets in BUDGETS:
        done = set(frame[frame["budgets"] == budgets]["space"])
        left = [name for name in protocol.spaces if name not in done]
        if left:
            lines.append(f"* {budgets} budgets: not played are {', '.join(left)}.")
    lines += [f"* {reason}" for reason in facts["missing"].values()]
    wanted, scenarios = GRPOFORMER_36.fair_budget, len(GRPOFORMER_36.tasks)
    for key, groups in sorted(facts["played"].items()):
        # Of one family all have the same methods, budgets and repetitions.
        each = groups[0]
        fewer = {name: count for name, count in each["evaluations"].items() if count < wanted}
        if fewer:
            lines.append(f"* {key}: {max(fewer.values()):,} evaluations instead of {wanted:,}.")
        methods = [one.method for one in entries(key.split("/")[0], wanted) if one.method not in each["evaluations"]]
        if methods:
            lines.append(f"* {key}: no {', '.join(f'`{name}`' for name in methods)}.")
        if each["seeds"] < protocol.seeds:
            lines.append(f"* {key}: {plural(each['seeds'], 'seed')} instead of {protocol.seeds}.")
        datasets = sum(len(group["datasets"]) for group in groups)
        if datasets < scenarios:
            lines.append(f"* {key}: {plural(datasets, 'dataset')} instead of {scenarios}.")
        left_out = {name: reason for group in groups for name, reason in group["left_out"].items()}
        lines += [f"* {key}: {name} is left out. {reason}" for name, reason in left_out.items()]
    return "\n".join(lines) or "Nothing."


def _made(facts: dict[str, Any]) -> str:
    used = facts["versions"]
    numbers = sorted({**used["packages"], **facts["libraries"]}.items())
    packages = ", ".join(f"{name} {number}" for name, number in numbers if number)
    return f"Python {used['python']} on {used['system']} ({used['machine']}); {packages}. Root seed 0."
