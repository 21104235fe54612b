"""The page of the study of exploration policies: tables, sentences and figures made of its result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.study import WALK, read_results
from hpo_gym.documents import fill_files, markdown_table
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import (
    AllPairs,
    PairedTest,
    all_pairs,
    bootstrap_interval,
    friedman,
    pairwise_tests,
    save_figure,
    wins_ties_losses,
)
from hpo_gym.evaluation.curves import RegretCurves
from hpo_gym.evaluation.rank_diagram import draw_critical_difference
from hpo_gym.evaluation.significance import LEAST_AGENTS, LEAST_TASKS, FriedmanResult
from hpo_gym.evaluation.style import agent_styles, p_value_text, plural

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["CURVES", "STUDY", "Study", "tables", "write_page"]

#: Names of the result files: regrets with their facts, and what the trainings logged.
STUDY, CURVES = "exploration", "exploration-curves"

_COMMAND = "python -m agents.exploration_study --runs runs/exploration"
_RANDOM, _LEVEL = "random", 0.05
_SHOWN = {_RANDOM: "random search", WALK: "random walk"}
# The question of the study: each against epsilon-greedy.
_ASKED, _AGAINST = ("softmax", "softmax_scaled"), "epsilon_greedy"
_ALL = "all spaces together"
# What a difference holds over: in a list of pairs, and of one policy.
_VERDICTS = {
    "both": ("Significant over datasets and over training seeds", "**{}**"),
    "tasks": ("Significant over datasets alone", "{} with these networks, but other trainings may change that"),
    "seeds": ("Significant over training seeds alone", "{} on these datasets, but other datasets may change that"),
    "opposed": ("Lower by mean, yet significantly worse by ranks", "{} by mean, yet not by ranks"),
}


@dataclass(frozen=True)
class Study:
    """The results of the study.

    Args:
        regrets: ``policy`` (references included), ``space``, ``seed``, ``split``, ``task`` and ``regret`` (lists, one
            per trial of ``facts["trials"]``), one row per trained policy and task.
        logged: ``policy``, ``space``, ``seed``, ``series``, and lists ``steps`` and ``values``.
        facts: What they were made with.
    """

    regrets: pd.DataFrame
    logged: pd.DataFrame
    facts: Mapping[str, Any]

    @property
    def spaces(self) -> list[str]:
        """The spaces, in the order of the page."""
        return list(self.facts["spaces"])

    def within(self, space: str | None) -> list[str]:
        """Return one space, or all for ``None``."""
        return self.spaces if space is None else [space]

    def policies(self, space: str | None) -> list[str]:
        """Return the policies that were trained on a space; on every one for ``None``."""
        there = [set(self.regrets.loc[self.regrets["space"] == name, "policy"]) for name in self.within(space)]
        return [policy for policy in self.facts["policies"] if all(policy in each for each in there)]

    def arrays(self, space: str, split: str, policy: str) -> tuple[list[str], list[int], np.ndarray[Any, Any]]:
        """Return tasks, seeds, and regrets float64 ``[N, S, K]`` after each of the ``K`` shown trials.

        Raises:
            InvalidSettingError: If a trained policy did not play all tasks.
        """
        import numpy as np

        frame = self.regrets
        part = frame[(frame["space"] == space) & (frame["split"] == split) & (frame["policy"] == policy)]
        part = part.sort_values(["task", "seed"])
        tasks, seeds = sorted(set(part["task"])), sorted(set(part["seed"].tolist()))
        if len(part) != len(tasks) * len(seeds):
            raise InvalidSettingError(
                f"{policy} on {space}, {split}: {len(part)} results of {len(tasks)} tasks and {len(seeds)} seeds. Make "
                f"them again: `{_COMMAND}`."
            )
        values = np.stack(list(part["regret"])).astype(float)
        return tasks, seeds, values.reshape(len(tasks), len(seeds), -1)

    def over_tasks(self, space: str | None, split: str, agents: Sequence[str]) -> RegretCurves:
        """Return curves of agents whose units are tasks, seeds averaged; those of all spaces for ``None``."""
        import numpy as np

        tasks: list[tuple[str, str, str]] = []
        values: dict[str, np.ndarray[Any, Any]] = {}
        for agent in sorted(agents):
            parts = [(name, *self.arrays(name, split, agent)) for name in self.within(space)]
            mine = [("", name, task) for name, played, _, _ in parts for task in played]
            tasks = tasks or mine
            if mine != tasks:
                raise InvalidSettingError(f"Policies played other tasks of {split}. Make them again: `{_COMMAND}`.")
            values[agent] = np.concatenate([part.mean(axis=1) for *_, part in parts])
        return _curves(tasks, values)

    def over_seeds(self, space: str | None, split: str, agents: Sequence[str]) -> RegretCurves:
        """Return curves whose units are training seeds, those that all agents have.

        Tasks are averaged, then spaces, each of which counts the same.
        """
        import numpy as np

        parts = {agent: [self.arrays(name, split, agent) for name in self.within(space)] for agent in sorted(agents)}
        common = sorted(set.intersection(*(set(seeds) for each in parts.values() for _, seeds, _ in each)))
        values = {
            agent: np.mean([part.mean(axis=0)[np.isin(seeds, common)] for _, seeds, part in each], axis=0)
            for agent, each in parts.items()
        }
        return _curves([("", "", str(seed)) for seed in common], values)


def _curves(units: Sequence[tuple[str, str, str]], values: Mapping[str, np.ndarray[Any, Any]]) -> RegretCurves:
    """Return values ``[N, K]`` by agent as what tests take; their trials are those of the study, by position."""
    return RegretCurves(
        tasks=tuple(units),
        seeds=1,
        budget=next(iter(values.values())).shape[1],
        runs=dict.fromkeys(values, 1),
        values=values,
        episodes={agent: each[:, None] for agent, each in values.items()},
    )


@dataclass(frozen=True)
class _Compared:
    """All pairs of policies of one space, or of all, on held-out tasks when the budget is spent.

    Args:
        means: Mean regret by policy, in which every space counts the same.
        curves: Their curves over tasks and over training seeds, by what such a unit is called.
        tests: The tests on each.
    """

    means: Mapping[str, float]
    curves: Mapping[str, RegretCurves]
    tests: Mapping[str, AllPairs]

    @classmethod
    def of(cls, study: Study, space: str | None) -> _Compared:
        policies = study.policies(space)
        each = [study.over_tasks(name, "test", policies) for name in study.within(space)]
        means = {policy: sum(float(of.of(policy)[:, -1].mean()) for of in each) / len(each) for policy in policies}
        tasks, seeds = (over(space, "test", policies) for over in (study.over_tasks, study.over_seeds))
        curves = {"held-out dataset": tasks, "training seed": seeds}
        return cls(means, curves, {name: all_pairs(each) for name, each in curves.items()})

    @property
    def order(self) -> list[str]:
        """The policies, the lowest mean first."""
        return sorted(self.means, key=lambda policy: (self.means[policy], policy))

    def p_values(self, first: str, second: str) -> tuple[float, float]:
        """Return corrected p-values over tasks and over seeds."""
        tasks, seeds = (
            float(test.corrected_p[test.agents.index(first), test.agents.index(second)]) for test in self.tests.values()
        )
        return tasks, seeds

    def verdict(self, low: str, high: str) -> str:
        """Return over what a policy is significantly better than one with a higher mean: a key of ``_VERDICTS``."""
        significant = [p_value < _LEVEL for p_value in self.p_values(low, high)]
        counts = [wins_ties_losses(curves, low, high) for curves in self.curves.values()]
        # A mean may be due to a few tasks, a test of ranks never is.
        if any(found and count.wins < count.losses for found, count in zip(significant, counts, strict=True)):
            return "opposed"
        return {(True, True): "both", (True, False): "tasks", (False, True): "seeds", (False, False): ""}[
            significant[0], significant[1]
        ]


def write_page(documents: Path) -> str:
    """Draw the figures and fill the tables of the page; return its path.

    Args:
        documents: ``docs/studies``.

    Raises:
        DataMissingError: If the result files are not there.
        DataIntegrityError: If they do not belong together.
        InvalidSettingError: If the page cannot be filled.
    """
    found, facts = read_results(documents / "data", STUDY, _COMMAND)
    study = Study(found[STUDY], found[CURVES], facts)
    figures = documents / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for space in study.spaces:
        save_figure(learning_figure(study, space), figures / f"{STUDY}-{space}")
    ranks = _ranks(study)
    if ranks is not None:
        save_figure(draw_critical_difference(ranks, study.facts["trials"][-1], _LEVEL), figures / f"{STUDY}-ranks")
    page = documents / f"{STUDY}.md"
    if fill_files([page], tables(study)):
        raise InvalidSettingError(f"{page} was not written; see the message above.")
    return str(page)


def tables(study: Study) -> dict[str, Any]:
    """Return the makers of the page's tables by name."""
    together = [None] if len(study.spaces) > 1 and study.policies(None) else []
    compared = {space: _Compared.of(study, space) for space in [*study.spaces, *together]}

    def each(make: Any, names: Sequence[str | None]) -> str:
        return "\n\n".join(f"### {_title(name)}\n\n{make(name)}" for name in names)

    return {
        "state": lambda: _state(study),
        "answers": lambda: "\n".join(_answer(_title(name), pairs) for name, pairs in compared.items()),
        "curves": lambda: each(_curve_image, study.spaces),
        "regret": lambda: each(lambda space: _regret(study, space), study.spaces),
        "pairs": lambda: each(lambda name: _pairs(compared[name]), list(compared)),
        "ranks": lambda: _rank_image(study),
        "explored": lambda: _explored(study),
        "policies": lambda: _policies(study),
        "made": lambda: _made(study),
        "data": lambda: _data(study),
    }


def _title(space: str | None) -> str:
    return _ALL.capitalize() if space is None else space


def _state(study: Study) -> str:
    facts = study.facts
    text = (
        f"{facts['runs']} of {facts['wanted']} trainings: {len(facts['policies'])} policies, "
        f"{plural(len(facts['spaces']), 'space')}, {plural(facts['seeds'], 'seed')}, "
        f"{facts['shared']['agent.total_steps']:,} environment steps each; every policy played each dataset "
        f"{plural(facts['repetitions'], 'time')}, with {facts['trials'][-1]} evaluations."
    )
    if not facts["missing"]:
        return text
    return "\n".join([f"**Not complete.** {text} Missing:", "", *(f"* {line}" for line in facts["missing"])])


def _answer(title: str, compared: _Compared) -> str:
    """Return in words which policy is best, and which differences are more than chance."""
    best, *others = order = compared.order
    text = f"* **{title}.** Lowest mean regret on held-out datasets: `{best}` ({compared.means[best]:.4f})"
    if not others:
        return f"{text}, the only policy there is."
    pairs = list(combinations(order, 2))
    found: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        found.setdefault(compared.verdict(*pair), []).append(pair)
    lines = [f"{text}, then `{others[0]}` ({compared.means[others[0]]:.4f}). {plural(len(pairs), 'pair')} of policies:"]
    if not set(found) & set(_VERDICTS):
        lines.append("None differs significantly after correction: **no difference** can be claimed.")
    lines += [f"{_VERDICTS[key][0]}: {_listed(found[key])}." for key in _VERDICTS if key in found]
    lines += [_question(compared, policy) for policy in _ASKED if {policy, _AGAINST} <= {*order}]
    for unit, curves in compared.curves.items():
        # The smallest p of a signed-rank test, all differences having one sign, times what Holm multiplies it by.
        least = min(1.0, 2.0 ** (1 - len(curves.tasks)) * len(pairs))
        if least >= _LEVEL:
            lines.append(f"With {plural(len(curves.tasks), unit)} no corrected p can be below {least:.2g}.")
    return "\n  * ".join(lines)


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    """Return pairs in words, grouped by the better one."""
    worse: dict[str, list[str]] = {}
    for low, high in pairs:
        worse.setdefault(low, []).append(f"`{high}`")
    return "; ".join(f"`{low}` below {', '.join(highs)}" for low, highs in worse.items()) or "none"


def _question(compared: _Compared, policy: str) -> str:
    low, high = sorted((policy, _AGAINST), key=compared.order.index)
    better = "lower" if low == policy else "higher"
    verdict = compared.verdict(low, high)
    words = _VERDICTS[verdict][1].format(better) if verdict else "no difference can be claimed"
    tasks, seeds = map(p_value_text, compared.p_values(low, high))
    numbers = f"{compared.means[policy]:.4f} against {compared.means[_AGAINST]:.4f}"
    return f"`{policy}` against `{_AGAINST}`: {words} ({numbers}; p over datasets {tasks}, over seeds {seeds})."


def _regret(study: Study, space: str) -> str:
    """Return the table of one space: all policies, then the references."""
    policies, trials = study.policies(space), study.facts["trials"]
    agents = [*policies, *_SHOWN]
    held_out, training = (study.over_tasks(space, split, agents) for split in ("test", "train"))
    final = {agent: float(held_out.of(agent)[:, -1].mean()) for agent in agents}
    # One reference at a time: the other one is no policy that is tested.
    tests = {each: pairwise_tests(study.over_tasks(space, "test", [*policies, each]), each) for each in _SHOWN}
    best = min(policies, key=lambda policy: (final[policy], policy))
    rows = []
    for agent in sorted(agents, key=lambda name: (name in _SHOWN, final[name], name)):
        arrays = {split: study.arrays(space, split, agent)[2][:, :, -1].mean(axis=0) for split in ("test", "train")}
        last = _interval(held_out.of(agent)[:, -1])
        rows.append(
            [
                _shown(agent),
                len(arrays["test"]),
                *(f"{held_out.of(agent)[:, index].mean():.4f}" for index in range(1, len(trials) - 1)),
                f"**{last}**" if agent == best else last,
                _bounds(arrays["test"]),
                _interval(training.of(agent)[:, -1]),
                _interval(arrays["test"] - arrays["train"]),
                *(_test_in_words(each.get(agent)) for each in tests.values()),
            ]
        )
    end = trials[-1]
    header = ["policy", "seeds", *(f"held-out at {trial}" for trial in trials[1:-1])]
    header += [f"held-out at {end} [over datasets]", "[over seeds]", f"training at {end} [over datasets]"]
    header += ["gap [over seeds]", *(f"W/T/L, p against {name}" for name in _SHOWN.values())]
    note = f"{plural(len(held_out.tasks), 'held-out dataset')}, {plural(len(training.tasks), 'training dataset')}."
    return f"{note}\n\n{markdown_table(header, rows, wordy=(0,))}"


def _test_in_words(test: PairedTest | None) -> str:
    return "-" if test is None else f"{test.wins}/{test.ties}/{test.losses}, {p_value_text(test.corrected_p)}"


def _shown(agent: str) -> str:
    return _SHOWN.get(agent, f"`{agent}`")


def _interval(values: np.ndarray[Any, Any]) -> str:
    """Return mean and interval of units ``[N]``."""
    return f"{values.mean():.4f} {_bounds(values)}"


def _bounds(values: np.ndarray[Any, Any]) -> str:
    low, high = bootstrap_interval(values[:, None])
    return "[one only]" if low[0] != low[0] else f"[{low[0]:.4f}, {high[0]:.4f}]"


def _pairs(compared: _Compared) -> str:
    """Return the corrected p-values of all pairs: over datasets above the diagonal, over seeds below it."""
    order = compared.order
    rows = []
    for row, policy in enumerate(order):
        cells = []
        for column, other in enumerate(order):
            tasks, seeds = compared.p_values(policy, other)
            p_value = tasks if row < column else seeds
            text = p_value_text(p_value)
            cells.append("-" if row == column else f"**{text}**" if p_value < _LEVEL else text)
        rows.append([f"`{policy}`", f"{compared.means[policy]:.4f}", *cells])
    return markdown_table(["policy", "regret", *(f"`{name}`" for name in order)], rows, wordy=(0,))


def _ranks(study: Study) -> FriedmanResult | None:
    curves = study.over_tasks(None, "test", [*study.policies(None), *_SHOWN])
    if len(curves.agents) < LEAST_AGENTS or len(curves.tasks) < LEAST_TASKS:
        return None
    return friedman(curves, alpha=_LEVEL)


def _rank_image(study: Study) -> str:
    result = _ranks(study)
    if result is None:
        return "Too few policies or datasets for ranks."
    best = next(iter(result.ranks))
    return (
        f"![Critical-difference diagram of mean ranks over all held-out datasets](figures/{STUDY}-ranks.png)\n\n"
        f"Mean ranks over {plural(result.tasks, 'pair')} of space and held-out dataset; the best: "
        f"{_shown(best)} ({result.ranks[best]:.2f}). Friedman's test: p "
        f"{p_value_text(result.p_value, '= ')}. Critical difference: {result.critical_difference:.2f}."
    )


def _curve_image(space: str) -> str:
    return f"![Learning curves of all policies on {space}](figures/{STUDY}-{space}.png)"


def learning_figure(study: Study, space: str) -> Figure:
    """Draw regret against environment steps, means over seeds with 95 % intervals over seeds.

    Left: the policy without exploration on validation datasets, which chooses the policy that is kept. Right: what
    the exploring policy reaches on training datasets.

    Args:
        study: The results.
        space: Which space.
    """
    import numpy as np
    from matplotlib.figure import Figure

    styles = agent_styles(study.facts["policies"])
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    panels: Any = figure.subplots(1, 2)
    titles = {"validation": "validation datasets, no exploration", "training": "training datasets, exploring"}
    for axes, (series, title) in zip(panels, titles.items(), strict=True):
        for policy in study.policies(space):
            steps, values = _series(study, space, policy, series)
            style, mean = styles[policy], values.mean(axis=0)
            look = {"color": style.colour, "linestyle": style.line}
            every = (style.index % max(1, len(steps) // 5), max(1, len(steps) // 5))
            axes.plot(steps, mean, **look, marker=style.marker, markersize=4, markevery=every, label=policy)
            low, high = bootstrap_interval(values, resamples=2000)
            if not np.isnan(low).any():
                axes.fill_between(steps, low, high, color=style.colour, alpha=0.1, linewidth=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("environment steps")
        axes.set_yscale("log")
        axes.grid(which="both", alpha=0.3, linewidth=0.5)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(which="both", labelsize=8)
        axes.xaxis.set_major_formatter("{x:,.0f}")
    panels[0].set_ylabel(f"normalised regret after {study.facts['trials'][-1]} evaluations", fontsize=9)
    counts = {len(_series(study, space, policy, "validation")[1]) for policy in study.policies(space)}
    seeds = f"{'up to ' if len(counts) > 1 else ''}{plural(max(counts), 'training seed')}"
    figure.suptitle(f"{space}: mean of {seeds}, 95 % interval over seeds", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3.5, fontsize=9)
    return figure


def _series(study: Study, space: str, policy: str, series: str) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Return the steps that all seeds logged, ``K`` of them, and values float64 ``[S, K]``."""
    import numpy as np

    frame = study.logged
    part = frame[(frame["space"] == space) & (frame["policy"] == policy) & (frame["series"] == series)]
    points = [
        dict(zip(steps, values, strict=True)) for steps, values in zip(part["steps"], part["values"], strict=True)
    ]
    common = sorted(set.intersection(*map(set, points)))
    return common, np.array([[each[step] for step in common] for each in points], dtype=float)


def _explored(study: Study) -> str:
    """Return how often each policy explored in training, by space."""
    rows = []
    for policy in study.facts["policies"]:
        cells = []
        for space in study.spaces:
            if policy not in study.policies(space):
                cells.append("-")
                continue
            values = _series(study, space, policy, "explored")[1].mean(axis=0)
            quarter = max(1, len(values) // 4)
            cells.append(f"{values.mean():.0%} ({values[:quarter].mean():.0%}, {values[-quarter:].mean():.0%})")
        rows.append([f"`{policy}`", *cells])
    return markdown_table(["policy", *study.spaces], rows, wordy=(0,))


def _policies(study: Study) -> str:
    rows = [
        [f"`{policy}`", ", ".join(f"`{name}={value}`" for name, value in settings.items())]
        for policy, settings in study.facts["exploration"].items()
    ]
    return markdown_table(["policy", "its settings"], rows, wordy=(0, 1))


def _made(study: Study) -> str:
    facts = study.facts
    own = {f"agent.{setting}" for settings in facts["exploration"].values() for setting in settings}
    shared = ", ".join(f"`{name}={value}`" for name, value in facts["shared"].items() if name not in own)
    trained = ", ".join(f"{name} {' / '.join(values)}" for name, values in facts["trained_with"].items())
    evaluated = facts["evaluated_with"]
    commit = (evaluated["git"] or {}).get("commit", "unknown")[:12]
    return "\n".join(
        [
            f"* Evaluation: `{facts['command']}`",
            f"* Settings that all trainings share: {shared}",
            f"* Trained with: {trained}",
            f"* Evaluated with: hpo_gym {evaluated['packages']['hpo_gym']}, torch {evaluated['packages']['torch']}, "
            f"python {evaluated['python']}, {evaluated['system']} {evaluated['machine']}, commit {commit}",
        ]
    )


def _data(study: Study) -> str:
    rows = [
        [space, f"`{file}`", f"`{digest}`"]
        for space, files in study.facts["data"].items()
        for file, digest in sorted(files.items())
    ]
    return markdown_table(["space", "file", "SHA-256"], rows, wordy=(0, 1, 2))
