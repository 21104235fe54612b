"""The page of the study of exploration policies: tables, sentences and figures made of its result files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.exploration_study_figure import learning_figure
from agents.exploration_study_results import COMMAND, CURVES, LEVEL, STUDY, Compared, Study, mean_series
from agents.study import WALK, read_results
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import PairedTest, bootstrap_interval, friedman, pairwise_tests, save_figure
from hpo_gym.evaluation.rank_diagram import draw_critical_difference
from hpo_gym.evaluation.significance import LEAST_AGENTS, LEAST_TASKS, FriedmanResult
from hpo_gym.evaluation.style import p_value_text, plural

if TYPE_CHECKING:
    import numpy as np

__all__ = ["tables", "write_page"]

_RANDOM = "random"
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


def write_page(documents: Path) -> str:
    """Draw the figures and fill the tables of the page; return its path.

    Args:
        documents: ``docs/studies``.

    Raises:
        As :func:`agents.study.read_results` and :func:`hpo_gym.documents.fill_page`.
    """
    found, facts = read_results(documents / "data", STUDY, COMMAND)
    study = Study(found[STUDY], found[CURVES], facts)
    figures = documents / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for space in study.spaces:
        save_figure(learning_figure(study, space), figures / f"{STUDY}-{space}")
    ranks = _ranks(study)
    if ranks is not None:
        save_figure(draw_critical_difference(ranks, study.facts["trials"][-1], LEVEL), figures / f"{STUDY}-ranks")
    page = documents / f"{STUDY}.md"
    return fill_page(page, tables(study))


def tables(study: Study) -> dict[str, Any]:
    """Return the makers of the page's tables by name."""
    together = [None] if len(study.spaces) > 1 and study.policies(None) else []
    compared = {space: Compared.of(study, space) for space in [*study.spaces, *together]}

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


def _answer(title: str, compared: Compared) -> str:
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
        if least >= LEVEL:
            lines.append(f"With {plural(len(curves.tasks), unit)} no corrected p can be below {least:.2g}.")
    return "\n  * ".join(lines)


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    """Return pairs in words, grouped by the better one."""
    worse: dict[str, list[str]] = {}
    for low, high in pairs:
        worse.setdefault(low, []).append(f"`{high}`")
    return "; ".join(f"`{low}` below {', '.join(highs)}" for low, highs in worse.items()) or "none"


def _question(compared: Compared, policy: str) -> str:
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


def _pairs(compared: Compared) -> str:
    """Return the corrected p-values of all pairs: over datasets above the diagonal, over seeds below it."""
    order = compared.order
    rows = []
    for row, policy in enumerate(order):
        cells = []
        for column, other in enumerate(order):
            tasks, seeds = compared.p_values(policy, other)
            p_value = tasks if row < column else seeds
            text = p_value_text(p_value)
            cells.append("-" if row == column else f"**{text}**" if p_value < LEVEL else text)
        rows.append([f"`{policy}`", f"{compared.means[policy]:.4f}", *cells])
    return markdown_table(["policy", "regret", *(f"`{name}`" for name in order)], rows, wordy=(0,))


def _ranks(study: Study) -> FriedmanResult | None:
    curves = study.over_tasks(None, "test", [*study.policies(None), *_SHOWN])
    if len(curves.agents) < LEAST_AGENTS or len(curves.tasks) < LEAST_TASKS:
        return None
    return friedman(curves, alpha=LEVEL)


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


def _explored(study: Study) -> str:
    """Return how often each policy explored in training, by space."""
    rows = []
    for policy in study.facts["policies"]:
        cells = []
        for space in study.spaces:
            if policy not in study.policies(space):
                cells.append("-")
                continue
            values = mean_series(study, space, policy, "explored")[1].mean(axis=0)
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
