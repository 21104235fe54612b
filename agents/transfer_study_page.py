"""The transfer study as a page: figure, tables and answers made of ``docs/studies/data/transfer*.parquet``.

The distance to strong methods is that to the curves of the leaderboard, ``docs/leaderboard/curves.parquet``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.leaderboard_page import read_curves
from agents.study import WALK, read_results
from agents.transfer_figure import transfer_figure
from agents.transfer_series import RANDOM, SpaceSeries
from agents.transfer_study_best import best_agents, best_tables
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.errors import DataMissingError
from hpo_gym.evaluation import PairedTest, save_figure
from hpo_gym.evaluation.style import SIGNIFICANT, p_value_text, plural, verdict_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EPISODES", "NAME", "VALIDATION", "tables", "write_page"]

#: Of the study, its page and its data; of its data on validation datasets; of the episodes behind the final regrets.
NAME, VALIDATION, EPISODES = "transfer", "transfer-validation", "transfer-episodes"

_COMMAND = "python -m agents.transfer_study"


def write_page(documents: Path) -> Path:
    """Draw the figure and fill the tables of the page from the data beside it; return its path.

    Args:
        documents: The folder ``docs``.

    Raises:
        DataMissingError: If there are no data, no leaderboard, or no page.
        DataIntegrityError: If the data are not what was written.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    page = folder / f"{NAME}.md"
    frames, facts = read_results(folder / "data", NAME, _COMMAND)
    if not page.is_file():
        raise DataMissingError(f"There is no {page}: its text is part of the repository.")
    made = tables(frames, read_curves(documents), facts)
    spaces = list(_spaces(frames[NAME], facts).values())
    # Where everybody was trained on everything there is no line to draw.
    drawn = [space for space in spaces if any(0 < series.datasets < space.training for series in space.series)]
    save_figure(transfer_figure(drawn or spaces, facts["trials"][-1]), folder / "figures" / NAME)
    fill_page(page, made)
    return page


def tables(
    frames: Mapping[str, pd.DataFrame], leaderboard: pd.DataFrame, facts: Mapping[str, Any]
) -> dict[str, Callable[[], str]]:
    """Return the makers of everything between markers, by name.

    Args:
        frames: By name: regrets on test datasets; those on validation datasets, of who was trained on all training
            datasets; final regrets of their episodes on test datasets.
        leaderboard: As :func:`~agents.leaderboard_page.read_curves` returns it.
        facts: What they were made with.
    """
    frame, validation, episodes = (frames[name] for name in (NAME, VALIDATION, EPISODES))
    spaces = _spaces(frame, facts)
    trial = facts["trials"][-1]
    return {
        "transfer_status": lambda: _status(facts),
        "transfer_answers": lambda: "\n\n".join([_headline(spaces), *(_answer(space) for space in spaces.values())]),
        "transfer_best": lambda: best_tables(best_agents(frame, validation, leaderboard, facts), episodes, trial),
        "transfer_figure": lambda: _figure(facts),
        "transfer_tables": lambda: "\n\n".join(_table(space, facts) for space in spaces.values()),
        "transfer_zero_shot": lambda: _zero_shot(frame, facts),
        "transfer_made_with": lambda: _made_with(facts),
    }


def _spaces(frame: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, SpaceSeries]:
    return {
        space: SpaceSeries.of_training(frame, space, facts["training"][space], facts["trials"])
        for space in facts["spaces"]
    }


def _status(facts: Mapping[str, Any]) -> str:
    missing = facts["missing"]
    repeated = f"{plural(facts['repetitions'], 'repetition')} per policy and dataset"
    steps = ", ".join(f"`{agent}` {count:,}" for agent, count in sorted(facts["steps"].items()))
    every = facts["validate_every"]
    kept = (
        f"The policy that is kept of a run is the one with the least regret on the *validation* datasets, measured "
        f"every {every:,} transitions: they are data, too, beside the training datasets counted here."
        if every
        else "The last policy of a run is kept: nothing but its training datasets decides what it is."
    )
    runs = f"{plural(facts['seeds'], 'training seed')}, each with a subset of its own where not all datasets are used"
    lines = [f"{runs}; transitions per run: {steps}; {repeated}. {kept}"]
    if missing:
        lines.append(f"**Not complete**: {plural(len(missing), 'run')} missing: {'; '.join(missing)}.")
    return "\n\n".join(lines)


def _headline(spaces: Mapping[str, SpaceSeries]) -> str:
    """Return in how many spaces each agent is better than its references, trained on all datasets."""
    random: dict[str, list[str]] = {}
    portfolio: dict[str, list[str]] = {}
    for space in spaces.values():
        for series in space.trained:
            if series.datasets == space.training:
                random.setdefault(series.agent, []).append(_verdict(space.against_random[series.label]))
                rival = space.against_portfolio.get(series.label)
                portfolio.setdefault(series.agent, []).append(_verdict(rival) if rival else "without")
    lines = ["Trained on all training datasets of a space:", ""]
    for agent, verdicts in random.items():
        counted = [
            f"better than {rival} in {words.count('better than')} and worse in {words.count('worse than')}"
            for rival, words in (("random search", verdicts), ("the portfolio of the same datasets", portfolio[agent]))
        ]
        lines.append(f"* `{agent}`, in {plural(len(verdicts), 'space')}: {', '.join(counted)}.")
    return "\n".join(lines)


def _answer(space: SpaceSeries) -> str:
    """Return what the numbers of a space say, in words."""
    final = [series for series in space.trained if series.datasets == space.training]
    counts = f"{plural(space.training, 'training dataset')}, {plural(space.tests, 'test dataset')}"
    start = f"**{space.name}** ({counts})"
    if not final:
        return f"{start}: no run on all training datasets."
    best = min(final, key=lambda series: (series.mean, series.agent))
    random, rival = space.random, space.rival(best)
    sentences = [
        f"{start}: trained on all of them, the best is `{best.agent}` with regret {best.interval}. It is "
        f"{_verdict(space.against_random[best.label])} random search ({random.mean:.4f}"
        f"{_p(space.against_random[best.label])})"
    ]
    if rival is not None:
        test = space.against_portfolio[best.label]
        sentences[0] += f" and {_verdict(test)} the portfolio of the same datasets ({rival.mean:.4f}{_p(test)})"
    sentences[0] += "."
    for agent in sorted({series.agent for series in space.trained}):
        mine = sorted((series for series in space.trained if series.agent == agent), key=lambda each: each.datasets)
        path = ", ".join(f"{series.mean:.4f} with {series.datasets}" for series in mine)
        # Fewest datasets with which it is better, and stays so with more.
        better = [_verdict(space.against_random[series.label]) == "better than" for series in mine]
        from_here = [series.datasets for index, series in enumerate(mine) if all(better[index:])]
        since = f"better than random search from {from_here[0]} on" if from_here else "not better than random search"
        rivals = [space.against_portfolio.get(series.label) for series in mine]
        above = [
            str(series.datasets)
            for series, test in zip(mine, rivals, strict=True)
            if test is not None and _verdict(test) == "better than"
        ]
        against = (
            f"better than the same datasets' portfolio with {', '.join(above)}"
            if above
            else ("never better than the same datasets' portfolio")
        )
        sentences.append(f"`{agent}`: {path} ({since}; {against}).")
    if 2.0 * 0.5**space.tests >= SIGNIFICANT:
        sentences.append(f"With {plural(space.tests, 'test dataset')} no difference can be significant.")
    return " ".join(sentences)


def _verdict(test: PairedTest) -> str:
    """Return how an agent compares: on more datasets better or worse, where the test finds a difference."""
    return verdict_text(test.corrected_p, test.wins > test.losses)


def _p(test: PairedTest) -> str:
    return f", p {p_value_text(test.corrected_p, '= ')}"


def _figure(facts: Mapping[str, Any]) -> str:
    trial = facts["trials"][-1]
    return (
        f"![Regret after {trial} evaluations against the number of training datasets](figures/{NAME}.png)\n\n"
        f"*Mean normalised regret on test datasets after {trial} evaluations; both axes are logarithmic. A point is "
        "the mean over subsets of so many training datasets, each with a training seed of its own; bands are 95 % "
        "bootstrap intervals over these subsets (with all datasets: over training seeds). `portfolio` learned from the "
        "same subsets; its horizontal line is the portfolio of all training datasets.*"
    )


def _table(space: SpaceSeries, facts: Mapping[str, Any]) -> str:
    trials = [trial for trial in facts["trials"] if trial > 1]
    best = min(space.series, key=lambda series: (series.mean, series.label))
    rows = []
    for series in space.series:
        cells = [series.interval_at(index) for index in range(len(facts["trials"]) - len(trials), len(facts["trials"]))]
        if series is best:
            cells[-1] = f"**{cells[-1]}**"
        rows.append(
            [
                series.agent,
                series.datasets or "-",
                series.runs if series.datasets else "-",
                *cells,
                *_compared(space.against_random.get(series.label)),
                *_compared(space.against_portfolio.get(series.label)),
            ]
        )
    header = ["agent", "training datasets", "runs", *(f"regret at {trial}" for trial in trials)]
    header += ["W/T/L vs random", "p (Holm)", "W/T/L vs portfolio of the same", "p (Holm)"]
    asked = facts["training_evaluations"].get(space.name, {})
    note = f"{plural(space.tests, 'held-out dataset')}."
    if asked:
        listed = ", ".join(f"{asked[count]:,} with {count}" for count in sorted(asked, key=int))
        note += f" Evaluations on training datasets that a portfolio took: {listed}."
    return f"### {space.name}\n\n{note}\n\n{markdown_table(header, rows, wordy=(0,))}"


def _compared(test: PairedTest | None) -> list[str]:
    if test is None:
        return ["-", "-"]
    return [f"{test.wins}/{test.ties}/{test.losses}", p_value_text(test.corrected_p)]


def _zero_shot(frame: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Return the table of policies on spaces that they were not trained on, and what it says."""
    rows: list[list[object]] = []
    verdicts: dict[str, list[str]] = {RANDOM: [], WALK: []}
    foreign_rows = (frame["trained_on"] != "") & (frame["trained_on"].astype(str) != frame["space"].astype(str))
    for space in sorted(set(frame.loc[foreign_rows, "space"])):
        board = SpaceSeries.of_other_spaces(frame, space, facts["training"], facts["trials"])
        for series in board.series:
            tests = {RANDOM: board.against_random.get(series.label), WALK: board.against_walk.get(series.label)}
            foreign = series.trained_on not in ("", space)
            if foreign:
                for name, test in tests.items():
                    assert test is not None  # only references have none against themselves
                    verdicts[name].append(_verdict(test))
            origin = series.trained_on if foreign else ("the same space" if series.trained_on else "-")
            runs = series.runs if series.trained_on else "-"
            compared = [cell for name in (RANDOM, WALK) for cell in _compared(tests[name])]
            rows.append([space, series.agent, origin, runs, series.interval, *compared])
    if not rows:
        return "No policy of the study was tested on a space that it was not trained on."
    trial = facts["trials"][-1]
    header = ["tested on", "agent", "trained on", "runs", f"regret at {trial}", "W/T/L vs random", "p (Holm)"]
    header += ["W/T/L vs random walk", "p (Holm)"]
    said = [
        f"against {name}: better on {words.count('better than')}, worse on {words.count('worse than')}, not told apart "
        f"on {words.count('not told apart from')}"
        for name, words in (("random search", verdicts[RANDOM]), ("random grid walks", verdicts[WALK]))
    ]
    count = plural(len(verdicts[RANDOM]), "pair")
    return (
        f"{count} of a space to be trained on and another one to be tested on; {'; '.join(said)}.\n\n"
        f"{markdown_table(header, rows, wordy=(0, 1, 2))}"
    )


def _made_with(facts: Mapping[str, Any]) -> str:
    trained = "; ".join(f"{name} {' / '.join(values)}" for name, values in facts["trained_with"].items())
    now = facts["evaluated_with"]
    packages = {"python": now["python"], **now["packages"]}
    evaluated = "; ".join(f"{name} {value}" for name, value in sorted(packages.items()) if value)
    data = markdown_table(["file", "SHA-256"], [[f"`{file}`", f"`{value}`"] for file, value in facts["data"].items()])
    return f"`{facts['command']}`\n\nTrained with {trained}.\n\nEvaluated with {evaluated}.\n\n{data}"
