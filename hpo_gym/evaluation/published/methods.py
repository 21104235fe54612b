"""Whose result files on HPO-B v3 the reference curves come from, and what is known about those files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from hpo_gym.errors import unknown_name

__all__ = ["PUBLISHED_METHODS", "QUOTED", "PublishedMethod", "QuotedCurve", "Setting", "Start"]

#: ``discrete``: choose among the rows of a table; ``continuous``: ask a surrogate anywhere in the unit cube.
Setting = Literal["discrete", "continuous"]

#: Where the runs of a file start: ``by-seed``, five different sets of initial points, those of HPO-B; ``shared``,
#: all seeds from the points of ``test0``; ``unknown``, from points that no other file has.
Start = Literal["by-seed", "shared", "unknown"]

_LICENCES = {
    "releaunifreiburg/HPO-B": "MIT",
    "releaunifreiburg/FSBO": "BSD-3-Clause",
    "google-research/optformer": "Apache-2.0",
}
_FOLDERS = {"hpob": "releaunifreiburg/HPO-B", "fsbo": "releaunifreiburg/FSBO", "optformer": "google-research/optformer"}


@dataclass(frozen=True)
class PublishedMethod:
    """A method with a published result file.

    Args:
        name: Repository and file, e.g. ``"hpob/GP"``: the name by which its curve is asked for.
        printed: What tables call it; the same word may stand for a discrete and a continuous method.
        setting: Which of the two problems of HPO-B it solves; their regrets do not compare.
        aliases: Other files with the same 430 x 101 numbers.
        start: Which initial points its runs have; it decides which runs of two methods are pairs.
        note: What else to know about the file.

    Raises:
        UnknownNameError: For an unknown setting or start.
    """

    name: str
    printed: str
    setting: Setting
    aliases: tuple[str, ...] = ()
    start: Start = "by-seed"
    note: str = ""

    def __post_init__(self) -> None:
        if self.setting not in get_args(Setting):
            raise unknown_name("setting", self.setting, get_args(Setting))
        if self.start not in get_args(Start):
            raise unknown_name("start", self.start, get_args(Start))

    @property
    def repository(self) -> str:
        """The GitHub repository of the file; of another origin, the part of the name before the slash."""
        folder = self.name.partition("/")[0]
        return _FOLDERS.get(folder, folder)

    @property
    def licence(self) -> str:
        """The licence of that repository, as an SPDX identifier; empty if unknown."""
        return _LICENCES.get(self.repository, "")


def _discrete(file: str, printed: str, note: str = "") -> PublishedMethod:
    return PublishedMethod(f"hpob/{file}", printed, "discrete", (f"fsbo/{file}",), note=note)


def _copied(file: str, printed: str) -> PublishedMethod:
    return PublishedMethod(f"hpob/{file}", printed, "continuous", (f"fsbo/{file}",))


def _optformer(file: str, printed: str, start: Start = "by-seed", note: str = "") -> PublishedMethod:
    return PublishedMethod(f"optformer/{file}", printed, "continuous", (), start, note)


_OPEN_SOURCE = "Trained on public data; starts from other points, or on other surrogates, than every other file."

#: Every method of the two tables in the order of its mean regret after 100 trials, as printed.
PUBLISHED_METHODS: tuple[PublishedMethod, ...] = (
    _discrete("FSBO2", "FSBO2 (refactored)"),
    _discrete("FSBO", "FSBO"),
    _discrete("BOHAMIANN", "BOHAMIANN"),
    _discrete("DGP", "DGP (deep-kernel GP, no transfer)"),
    _discrete("DNGO", "DNGO"),
    _discrete("TAF", "TAF"),
    _discrete("GP", "GP", "13 of the 430 curves fall at some trial; averaged as published."),
    _discrete("RGPE", "RGPE"),
    _discrete("TST", "TST"),
    _discrete("Random", "Random"),
    _optformer("optformer_ei", "OptFormer-EI", "shared"),
    PublishedMethod("fsbo/FSBO2-C", "FSBO2-C", "continuous"),
    _optformer("optformer_pi", "OptFormer-PI", "shared"),
    _optformer("optformer_ts", "OptFormer-TS", "shared"),
    _optformer("optformer_H_ei", "OptFormer-H-EI", "shared"),
    _optformer("optformer_ucb", "OptFormer-UCB", "shared"),
    _optformer("oss_optformer_H_ei", "oss OptFormer-H-EI", "unknown", _OPEN_SOURCE),
    _optformer("optformer_min_ei", "OptFormer-min-EI", "shared"),
    _optformer("vizier", "Vizier (GP-UCB)"),
    _optformer("dgp", "DGP", note="A copy of hpob/DGP-C in most runs."),
    _optformer("hyperbo", "HyperBO"),
    _optformer("random_search_ei", "random + OptFormer-EI ranking", "shared"),
    _optformer("optformer_R_ei", "OptFormer-R-EI", "shared"),
    _optformer("oss_optformer_B_ei", "oss OptFormer-B-EI", "unknown", _OPEN_SOURCE),
    _optformer("gp", "GP", note="A copy of hpob/GP-C in most runs."),
    _optformer("oss_optformer_B", "oss OptFormer-B", "unknown", _OPEN_SOURCE),
    _optformer("fsbo", "FSBO (OptFormer repository)"),
    _optformer("oss_optformer_H", "oss OptFormer-H", "unknown", _OPEN_SOURCE),
    _optformer("optformer_B_ei", "OptFormer-B-EI", "shared"),
    _optformer("optformer", "OptFormer prior", "shared"),
    _optformer("optformer_min", "OptFormer-min prior", "shared"),
    _optformer("gp_ucb", "gp_ucb"),
    _optformer("ablr", "ABLR"),
    _optformer("random_search", "Random", note="A copy of hpob/RS-C in most runs."),
    _copied("RS-C", "RS-C (HPO-B repository)"),
    _copied("GP-C", "GP-C (HPO-B repository)"),
    _copied("DGP-C", "DGP-C (HPO-B repository)"),
)


@dataclass(frozen=True)
class QuotedCurve:
    """Mean regrets known only as printed, four digits each: the incumbents themselves are not among our data.

    Args:
        name: What tables call the method.
        setting: Which problem of HPO-B it solves.
        spaces: Search spaces that its file covers; empty means all 16.
        regret: Mean normalised regret by trial, over the runs on these spaces.
        per_space: Mean regret after 100 trials by space, where known.
        note: Why there is no more.
    """

    name: str
    setting: Setting
    spaces: tuple[str, ...]
    regret: Mapping[int, float]
    per_space: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""


_NAP_SPACES = ("4796", "5527", "5859", "5860", "5889", "5906")

#: Irregular files, quoted from ``methods.md`` 5.5, 5.6 and 5.9, which measured them from the published files.
QUOTED: tuple[QuotedCurve, ...] = (
    QuotedCurve(
        "RF",
        "discrete",
        (),
        MappingProxyType({0: 0.2029, 5: 0.1338}),
        note="RF.json of releaunifreiburg/HPO-B ends after 5 trials (6 entries a run).",
    ),
    QuotedCurve(
        "NAP",
        "discrete",
        _NAP_SPACES,
        MappingProxyType({10: 0.0687, 25: 0.0381, 50: 0.0164, 100: 0.0048}),
        MappingProxyType(dict(zip(_NAP_SPACES, (0.0, 0.0097, 0.0017, 0.0, 0.0, 0.0206), strict=True))),
        note="huawei-noah/HEBO, NAP/results/HPO-B: 6 of the 16 spaces, 23 datasets, 115 runs.",
    ),
    QuotedCurve(
        "OptFormer (re-trained by NAP's authors)",
        "discrete",
        _NAP_SPACES,
        MappingProxyType({10: 0.0726, 25: 0.0535, 50: 0.0229, 100: 0.0084}),
        note="huawei-noah/HEBO, NAP/results/HPO-B: 6 of the 16 spaces, 23 datasets, 115 runs.",
    ),
)
