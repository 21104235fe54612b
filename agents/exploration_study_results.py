"""The numbers of the study of exploration policies: its result files, and what is compared of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.exploration_settings import EXPLORATIONS
from agents.study import kept_results, mean_curves
from hpo_gym.errors import InvalidSettingError
from hpo_gym.evaluation import AllPairs, RegretCurves, all_pairs, wins_ties_losses

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["COMMAND", "CURVES", "LEVEL", "STUDY", "Compared", "Study", "mean_series", "with_kept"]

#: Names of the result files: regrets with their facts, and what the trainings logged.
STUDY, CURVES = "exploration", "exploration-curves"

# Facts that the results of all policies have to share; besides, all play the same tasks.
_ALIKE = ("spaces", "seeds", "repetitions", "trials")

COMMAND = "python -m agents.exploration_study --runs runs/exploration"
LEVEL = 0.05


def with_kept(
    folder: Path, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, Any]
) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """Return the results of some policies together with what the page has of the others.

    Args:
        folder: ``docs/studies/data``.
        tables: The new tables.
        facts: What they were made with.

    Raises:
        InvalidSettingError: If the others were trained or evaluated otherwise, naming what differs.
        DataIntegrityError: If a file is another one than was written.
    """
    import pandas as pd

    before, kept = kept_results(folder, STUDY, COMMAND)
    others = [policy for policy in kept.get("policies", ()) if policy not in facts["policies"]]
    if not others:
        return dict(tables), dict(facts)
    together = {
        name: pd.concat([before[name][before[name]["policy"].isin(others)], table], ignore_index=True)
        for name, table in tables.items()
    }
    pairs = [(name, kept[name], facts[name]) for name in _ALIKE]
    # A setting that is new has its default in what was trained before.
    pairs += [(name, kept["shared"].get(name, value), value) for name, value in facts["shared"].items()]
    pairs += [(f"tasks of {place}", len(each[0]), len(each[-1])) for place, each in _tasks(together[STUDY]).items()]
    told = "; ".join(f"{name}: {then!r} against {now!r}" for name, then, now in pairs if then != now)
    if told:
        raise InvalidSettingError(
            f"{', '.join(others)} in {folder} cannot be kept beside {', '.join(facts['policies'])}, because they were "
            f"trained or evaluated otherwise ({told}). Evaluate all policies, without --keep."
        )
    policies = [policy for policy in EXPLORATIONS if policy in (*others, *facts["policies"])]
    made = {name: {*kept["trained_with"].get(name, ()), *values} for name, values in facts["trained_with"].items()}
    return together, {
        **facts,
        "policies": policies,
        "exploration": {**kept["exploration"], **facts["exploration"]},
        "trained_with": {name: sorted(values) for name, values in made.items()},
        "missing": [line for line in kept["missing"] if line.split(" ")[0] in others] + facts["missing"],
        "runs": len(together[CURVES][["policy", "space", "seed"]].drop_duplicates()),
        "wanted": len(policies) * len(facts["spaces"]) * facts["seeds"],
    }


def _tasks(regrets: pd.DataFrame) -> dict[str, list[frozenset[str]]]:
    """Return the different sets of tasks that policies played, the largest first, by space and split."""
    played = regrets.groupby(["space", "split", "policy"], observed=True)["task"].agg(frozenset)
    return {
        f"{space}, {split}": sorted(set(each), key=len, reverse=True)
        for (space, split), each in played.groupby(level=["space", "split"])
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
                f"them again: `{COMMAND}`."
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
                raise InvalidSettingError(f"Policies played other tasks of {split}. Make them again: `{COMMAND}`.")
            values[agent] = np.concatenate([part.mean(axis=1) for *_, part in parts])
        return mean_curves(tasks, values)

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
        return mean_curves([("", "", str(seed)) for seed in common], values)


@dataclass(frozen=True)
class Compared:
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
    def of(cls, study: Study, space: str | None) -> Compared:
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
        """Return over what a policy is significantly better than one with a higher mean: a key of the verdicts."""
        significant = [p_value < LEVEL for p_value in self.p_values(low, high)]
        counts = [wins_ties_losses(curves, low, high) for curves in self.curves.values()]
        # A mean may be due to a few tasks, a test of ranks never is.
        if any(found and count.wins < count.losses for found, count in zip(significant, counts, strict=True)):
            return "opposed"
        return {(True, True): "both", (True, False): "tasks", (False, True): "seeds", (False, False): ""}[
            significant[0], significant[1]
        ]


def mean_series(study: Study, space: str, policy: str, series: str) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Return the steps that all seeds logged, ``K`` of them, and values float64 ``[S, K]``."""
    import numpy as np

    frame = study.logged
    part = frame[(frame["space"] == space) & (frame["policy"] == policy) & (frame["series"] == series)]
    points = [
        dict(zip(steps, values, strict=True)) for steps, values in zip(part["steps"], part["values"], strict=True)
    ]
    common = sorted(set.intersection(*map(set, points)))
    return common, np.array([[each[step] for step in common] for each in points], dtype=float)
