"""The protocol of HPO-B v3 as data: what is optimised, from where, for how long, and how results are put together.

Source: Pineda Arango, Jomaa, Wistuba and Grabocka (2021), "HPO-B: A Large-Scale Reproducible Benchmark for Black-Box
HPO based on OpenML", arXiv 2106.06257, and the released handler of ``releaunifreiburg/HPO-B``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hpo_gym.errors import unknown_name
from hpo_gym.evaluation.published.methods import Setting
from hpo_gym.tasks.ref import TaskRef

__all__ = ["HPOB_V3", "HPOBProtocol", "HPOBSpace"]


@dataclass(frozen=True)
class HPOBSpace:
    """A search space of HPO-B and the datasets to test on.

    Args:
        name: Its id (an OpenML flow).
        dimension: Number of encoded columns in [0, 1], indicators of choices and of missing values among them.
        tasks: Test datasets; HPO-B names them by OpenML *task* id.
    """

    name: str
    dimension: int
    tasks: tuple[TaskRef, ...]


@dataclass(frozen=True)
class HPOBProtocol:
    """A comparison of optimisers over tabulated and surrogate response surfaces.

    Args:
        name: Name of the protocol.
        spaces: What is tested.
        seeds: Names of the sets of initial points, one run each.
        initial_points: Size of such a set. Believed, not verified: take it from ``bo-initializations.json``.
        trials: Evaluations after the initial points; entry 0 of a curve is the best initial point.
        settings: How a run goes, for each of the two problems.
        aggregation: How runs become one number.
        caveats: What a reader of the published numbers has to know.
        archives: SHA-256 of the published files by name.
    """

    name: str
    spaces: tuple[HPOBSpace, ...]
    seeds: tuple[str, ...]
    initial_points: int
    trials: int
    settings: Mapping[Setting, str]
    aggregation: str
    caveats: tuple[str, ...]
    archives: Mapping[str, str]

    def space(self, name: str) -> HPOBSpace:
        """Return a search space by id.

        Raises:
            UnknownNameError: If there is none of that id.
        """
        for space in self.spaces:
            if space.name == name:
                return space
        raise unknown_name("HPO-B search space", name, [space.name for space in self.spaces])

    def runs(self) -> tuple[tuple[str, TaskRef, str], ...]:
        """Return every run of one method: space, test dataset, seed."""
        return tuple((space.name, task, seed) for space in self.spaces for task in space.tasks for seed in self.seeds)


def _space(name: str, dimension: int, tasks: str) -> HPOBSpace:
    return HPOBSpace(name, dimension, tuple(TaskRef("openml-task", task) for task in tasks.split()))


#: HPO-B v3, meta-test part: 16 spaces, 86 pairs of space and dataset, 430 runs.
HPOB_V3 = HPOBProtocol(
    name="hpob-v3",
    spaces=(
        _space("4796", 3, "3549 3918 9903 23"),
        _space("5527", 8, "146064 146065 9914 145804 31 10101"),
        _space("5636", 6, "146064 145804 9914 146065 10101 31"),
        _space("5859", 6, "9983 31 37 3902 9977 125923"),
        _space("5860", 2, "14965 9976 3493"),
        _space("5889", 6, "9971 3918"),
        _space("5891", 8, "9889 3899 6566 9980 3891 3492"),
        _space("5906", 16, "9971 3918"),
        _space("5965", 10, "145836 9914 3903 10101 9889 49 9946"),
        _space("5970", 2, "37 3492 9952 49 34536 14951"),
        _space("5971", 16, "10093 3954 43 34536 9970 6566"),
        _space("6766", 2, "3903 146064 145953 145804 31 10101"),
        _space("6767", 18, "146065 145804 146064 9914 9967 31"),
        _space("6794", 10, "145804 3 146065 10101 9914 31"),
        _space("7607", 9, "14965 145976 3896 3913 3903 9946 9967"),
        _space("7609", 9, "145854 3903 9967 145853 34537 125923 145878"),
    ),
    seeds=("test0", "test1", "test2", "test3", "test4"),
    initial_points=5,
    trials=100,
    settings=MappingProxyType(
        {
            "discrete": (
                "Scores of a dataset's whole table are scaled to [0, 1] before the method sees any; the rows of "
                "bo-initializations are observed, all others are candidates. Each trial picks one candidate. A run "
                "ends early at the table's maximum and is padded with it."
            ),
            "continuous": (
                "One XGBoost surrogate per dataset answers anywhere in [0, 1]^D, scaled by its stored minimum and "
                "maximum and clipped; the initial scores come from the table. In released files the incumbent is "
                "noted before each evaluation, so that the last one is not counted, and a run that reaches the "
                "maximum holds one stale entry before its padding with 1."
            ),
        }
    ),
    aggregation=(
        "Regret is 1 - best scaled score so far. Aggregate: plain mean over the 430 runs, so that a space weighs by "
        "its datasets; mean rank per run with ties averaged after rounding to 8 decimals. The plotted band of the "
        "released code is 0.5 x 1.96 x std / sqrt(n), half the usual interval."
    ),
    caveats=(
        "Means are driven by few hard datasets: the median regret at trial 100 is 0 for every discrete model-based "
        "method. With these standard errors compare dataset by dataset, not means.",
        "All five seeds of the main OptFormer files (optformer*, random_search_ei) start from the points of test0; "
        "only test0 is paired with other methods. oss_* files start from yet other points.",
        "On space 5970 every main OptFormer file stands still in all 30 runs, and early surrogates held a wrong "
        "minimum and maximum: give continuous means with and without it.",
        "For a policy trained across spaces the official split leaks: 43 of the 46 distinct test datasets are in the "
        "meta-train part of another space.",
        "Surrogates accept fractional indicators of choices; that the published continuous methods used them is "
        "likely, not verified.",
        "Irregular files: RF.json ends after 5 trials; 13 curves of GP.json fall at some trial; NAP's cover 6 spaces.",
    ),
    archives=MappingProxyType(
        {
            "hpob-data.zip": "ab1c439e50ffea3d8a3f1e0ad7ee7f03cd3c12df05576de84ad7c3b58fbf3358",
            "saved-surrogates.zip": "bda3a71e8b720efa97ea654a5e883f87aed1345fa35553318980e1d45b7b5662",
        }
    ),
)
