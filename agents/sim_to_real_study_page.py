"""The page of the sim-to-real study: how methods do when every evaluation trains a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.sim_to_real_study_data import DATASETS
from agents.study import read_results
from agents.versions import versions_text
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import (
    RecordTable,
    RegretCurves,
    best_score,
    bootstrap_interval,
    grpoformer_metrics,
    mean_ranks,
    pairwise_tests,
    regret_curves,
)
from hpo_gym.evaluation.significance import paired_tests
from hpo_gym.evaluation.style import p_value_text, plural, verdict_text
from hpo_gym.live.embedded_models import EMBEDDED_FAMILIES

__all__ = ["COMMAND", "NAME", "write_page"]

NAME = "sim-to-real"
COMMAND = "python -m agents.sim_to_real_study"

_POLICY = "grpo"
_SHOWN = (2, 5, 10, 20, 30)
_TESTED = (10, 30)
# It plays the same list in every repetition, which are no evidence of their own.
_ALWAYS_ALIKE = ("portfolio",)


def write_page(documents: Path) -> str:
    """Fill the page from ``docs/studies/data``; return its path.

    Raises:
        DataMissingError: If the study was never played.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    frames, facts = read_results(folder / "data", NAME, COMMAND)
    records = RecordTable(frames[NAME])
    tables = {
        "sim_to_real_answer": lambda: _answer(regret_curves(records)),
        "sim_to_real_episodes": lambda: _episodes(regret_curves(records)),
        "sim_to_real_results": lambda: _results(records),
        "sim_to_real_scores": lambda: _scores(records),
        "sim_to_real_datasets": _datasets,
        "sim_to_real_made": lambda: _made(records, facts),
    }
    return fill_page(folder / f"{NAME}.md", tables)


def _shown(trials: tuple[int, ...], budget: int) -> tuple[int, ...]:
    return tuple(trial for trial in trials if trial <= budget) or (budget,)


def _answer(curves: RegretCurves) -> str:
    """Return in words whether the policy beats each other method at each tested trial."""
    played = {space for _, space, _ in curves.tasks}
    missing = sorted(set(EMBEDDED_FAMILIES) - played)
    lines = [f"**Not finished**: not played yet are {', '.join(missing)}.\n"] if missing else []
    for trial in _shown(_TESTED, curves.budget):
        tests = pairwise_tests(curves, _POLICY, trial)
        mine = float(curves.values[_POLICY][:, trial - 1].mean())
        said = []
        for agent, test in sorted(tests.items()):
            regret = float(curves.values[agent][:, trial - 1].mean())
            said.append(f"{verdict_text(test.corrected_p, mine < regret)} `{agent}` ({regret:.3f})")
        lines.append(f"* After {trial} evaluations (regret {mine:.3f}) the shipped policy is {', '.join(said)}.")
    return "\n".join(lines)


def _episodes(curves: RegretCurves) -> str:
    """Return in words what pairs of episodes say of these very tasks."""
    trials = _shown(_TESTED, curves.budget)
    names = sorted(agent for agent in curves.episodes if agent not in (_POLICY, *_ALWAYS_ALIKE))
    keys = [(trial, name) for trial in trials for name in names]
    gaps = [(curves.episodes[_POLICY] - curves.episodes[name])[..., trial - 1].ravel() for trial, name in keys]
    tests = dict(zip(keys, paired_tests(gaps), strict=True))
    lines = []
    for trial in trials:
        said = []
        for name in names:
            test = tests[trial, name]
            told = f"{test.wins}/{test.ties}/{test.losses}, p {p_value_text(test.corrected_p, '= ')}"
            said.append(f"{verdict_text(test.corrected_p, test.wins > test.losses)} `{name}` ({told})")
        lines.append(f"* After {trial} evaluations, {len(gaps[0])} pairs: {', '.join(said)}.")
    return "\n".join(lines)


def _results(records: RecordTable) -> str:
    """Return a table over all tasks, then one for each family."""
    curves = regret_curves(records)
    spaces = sorted({space for _, space, _ in curves.tasks})
    # Of a single family the two would be one table twice.
    parts = [f"### All {len(spaces)} families\n\n{_table(records)}"] if len(spaces) > 1 else []
    for space in spaces:
        frame = records.frame
        parts.append(f"### {space}\n\n{_table(RecordTable(frame[frame['space'] == space]))}")
    return "\n\n".join(parts)


def _table(records: RecordTable) -> str:
    curves = regret_curves(records)
    shown, tested = _shown(_SHOWN, curves.budget), _shown(_TESTED, curves.budget)
    tests = {trial: pairwise_tests(curves, _POLICY, trial) for trial in tested}
    ranks = mean_ranks(curves)
    means = {agent: values.mean(axis=0) for agent, values in curves.values.items()}
    rows = []
    for agent in sorted(means, key=lambda agent: (means[agent][-1], agent)):
        cells = [f"`{agent}`"]
        for trial in shown:
            text = f"{means[agent][trial - 1]:.3f}"
            if trial in tested:
                low, high = bootstrap_interval(curves.values[agent][:, trial - 1, None])
                text = f"{text} [{low[0]:.3f}, {high[0]:.3f}]"
            best = means[agent][trial - 1] == min(each[trial - 1] for each in means.values())
            cells.append(f"**{text}**" if best else text)
        cells.append(f"{ranks[agent][-1]:.2f}")
        for trial in tested:
            test = tests[trial].get(agent)
            # Turned round: the table says how the policy does against each.
            cells.append(
                "" if test is None else f"{test.losses}/{test.ties}/{test.wins}, {p_value_text(test.corrected_p, '= ')}"
            )
        rows.append(cells)
    titles = [
        "agent",
        *(f"at {trial}" for trial in shown),
        f"rank at {curves.budget}",
        *(f"GRPO W/T/L, p at {trial}" for trial in tested),
    ]
    return f"{plural(len(curves.tasks), 'task')}.\n\n{markdown_table(titles, rows, (0,))}"


def _scores(records: RecordTable) -> str:
    found, scores = grpoformer_metrics(records), best_score(records)
    rows = []
    for agent in sorted(found, key=lambda agent: (found[agent].mean_rank, agent)):
        each = found[agent]
        low, high = bootstrap_interval(scores[agent][:, None])
        rows.append(
            [
                f"`{agent}`",
                f"{each.beats_random:.2f}",
                f"{each.ties_with_random:.2f}",
                f"{each.median_performance:.4f}",
                f"{each.mean_performance:.4f} [{low[0]:.4f}, {high[0]:.4f}]",
                f"{each.mean_rank:.2f}",
            ]
        )
    return markdown_table(["agent", "BtR", "ties with random", "MP", "MnP", "MnR"], rows, (0,))


def _datasets() -> str:
    rows = [[f"`{each.name}`", each.what, f"{each.subsample:g}"] for each in DATASETS]
    return markdown_table(["dataset", "what is learned", "share of the training rows"], rows, (0, 1))


def _made(records: RecordTable, facts: dict[str, Any]) -> str:
    frame = records.frame
    spaces = ", ".join(sorted(set(frame["space"].astype(str))))
    seconds = frame.groupby("space", observed=True)["seconds"].mean()
    took = ", ".join(f"{space} {value:.2f} s" for space, value in seconds.items())
    used = versions_text(facts["versions"])
    return (
        f"Families played: {spaces}; {len(frame):,} evaluations, {facts['seeds']} repetitions per dataset, "
        f"{facts['budget']} evaluations each, root seed 0. A training takes on average: {took}. {used}."
    )
