"""Mean regret of published methods on HPO-B v3, from facts compact enough to ship.

What is kept of 430 runs per method: the mean over the runs of each search space at every trial, the mean over the
seeds of each dataset at a few trials (and its ``test0`` run alone), and on how many runs one method ends above
another. From that follow the aggregates of Pineda Arango et al. (2021), "HPO-B", arXiv 2106.06257: the plain
mean over runs and the mean rank; and what these hide: errors over datasets, and paired tests.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_gym.errors import InvalidSettingError, require_names, unknown_name
from hpo_gym.evaluation.published.methods import PublishedMethod, Setting
from hpo_gym.evaluation.significance import WinsTiesLosses, count_wins, signed_rank_test

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CHOSEN_TRIALS", "MISLEADING_SPACE", "TRIALS", "PairedTest", "PublishedCurves", "TableRow"]

#: Trials after the initial points in a complete result file.
TRIALS = 100

#: When regret is kept per dataset.
CHOSEN_TRIALS = (0, 5, 10, 25, 50, 100)

#: The space on which the OptFormer files stand still: tables give the mean without it, too.
MISLEADING_SPACE = "5970"


@dataclass(frozen=True)
class TableRow:
    """A row of the published tables; ``None`` where the file says nothing.

    Args:
        method: Whose row.
        regret: Mean normalised regret over all runs, in [0, 1], at the trials that were asked for.
        standard_error: Of the mean at trial 100, over the means of the datasets.
        without_5970: Mean at trial 100 over the runs of the other 15 spaces.
        mean_rank: At trial 100 among the discrete methods, 1 = best. Not given for continuous ones: many share
            files, and starts are not shared.
    """

    method: PublishedMethod
    regret: tuple[float | None, ...]
    standard_error: float | None
    without_5970: float | None
    mean_rank: float | None


@dataclass(frozen=True)
class PairedTest(WinsTiesLosses):
    """Two methods compared dataset by dataset.

    Args:
        wins: Datasets on which the first method's regret is lower.
        ties: Datasets on which they differ by less than :data:`~hpo_gym.evaluation.significance.TIE_TOLERANCE`.
        losses: Datasets on which it is higher.
        p_value: Two-sided Wilcoxon signed-rank test without the ties, not corrected for the number of comparisons;
            ``None`` if all are ties. Datasets within a space are not independent: read it as a lower bound.
    """

    p_value: float | None


@dataclass(frozen=True)
class PublishedCurves:
    """Reference curves; made by ``aggregate_incumbents``, shipped and read back by ``published_curves``.

    Regret is ``1 - incumbent``, where the incumbent is scaled to [0, 1] per dataset; ``M`` methods, ``S`` spaces,
    ``N`` pairs of space and dataset, ``K`` chosen trials. NaN stands for what a file does not hold: a space that
    is missing, or trials after the file's end.

    Args:
        methods: The ``M`` methods.
        spaces: The ``S`` ids of the search spaces.
        runs: Runs per space (datasets times seeds), int ``[S]``.
        regret: Mean over the runs of a space, float64 ``[M, S, 101]``; entry ``k`` is after ``k`` trials.
        datasets: The ``N`` pairs of space and OpenML task id.
        chosen: The ``K`` trials of the next two.
        dataset_regret: Mean over the seeds of a dataset, float64 ``[M, N, K]``.
        first_seed_regret: The run ``test0`` of a dataset, float64 ``[M, N, K]``.
        better: On how many runs the row's method ends with a higher incumbent than the column's, int ``[M, M]``.
        ties: On how many runs both end with the same one (to 8 decimals), int ``[M, M]``.
    """

    methods: tuple[PublishedMethod, ...]
    spaces: tuple[str, ...]
    runs: np.ndarray[Any, Any]
    regret: np.ndarray[Any, Any]
    datasets: tuple[tuple[str, str], ...]
    chosen: tuple[int, ...]
    dataset_regret: np.ndarray[Any, Any]
    first_seed_regret: np.ndarray[Any, Any]
    better: np.ndarray[Any, Any]
    ties: np.ndarray[Any, Any]

    def __post_init__(self) -> None:
        # What is shipped is read once and handed to everybody.
        for values in (self.runs, self.regret, self.dataset_regret, self.first_seed_regret, self.better, self.ties):
            values.setflags(write=False)

    def index(self, method: str) -> int:
        """Return the position of a method, given by name or by the name of a file with the same numbers.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        for position, known in enumerate(self.methods):
            if method == known.name or method in known.aliases:
                return position
        raise unknown_name("published method", method, [known.name for known in self.methods])

    def of_setting(self, setting: Setting) -> tuple[PublishedMethod, ...]:
        """Return the methods of one of the two problems."""
        return tuple(method for method in self.methods if method.setting == setting)

    def curve(
        self, method: str, spaces: Collection[str] | None = None, without: Collection[str] = ()
    ) -> np.ndarray[Any, Any]:
        """Return the mean regret after 0, 1, .. 100 trials, float64 ``[101]``; NaN after a file's end.

        Every run weighs the same, so that a space weighs by its number of datasets.

        Args:
            method: Name of the method.
            spaces: Search spaces to average over; ``None`` means all.
            without: Search spaces to leave out of these.

        Raises:
            UnknownNameError: For an unknown method or space.
            InvalidSettingError: If no space is left, or the method has no file for one of them.
        """
        row, columns = self.index(method), self._columns(spaces, without)
        missing = [self.spaces[column] for column in columns if _missing(self.regret[row, column, 0])]
        if missing:
            known = [space for column, space in enumerate(self.spaces) if not _missing(self.regret[row, column, 0])]
            raise InvalidSettingError(
                f"{method} has no published runs on {', '.join(missing)}; "
                f"average over what it has: spaces={known}, for every method that it is compared with."
            )
        weights = self.runs[columns]
        mean: np.ndarray[Any, Any] = (weights[:, None] * self.regret[row, columns]).sum(axis=0) / weights.sum()
        return mean

    def mean_regret(
        self, method: str, trial: int, spaces: Collection[str] | None = None, without: Collection[str] = ()
    ) -> float:
        """Return the mean regret of a method after some trials; arguments as in :meth:`curve`.

        Raises:
            UnknownNameError: For an unknown method or space.
            InvalidSettingError: If the file does not reach that trial, or as in :meth:`curve`.
        """
        curve = self.curve(method, spaces, without)
        last = int((curve == curve).sum()) - 1
        if not 0 <= trial <= last:
            raise InvalidSettingError(f"trial={trial} is not published for {method}: choose one of 0 .. {last}.")
        return float(curve[trial])

    def per_space(self, method: str, trial: int = TRIALS) -> dict[str, float]:
        """Return the mean regret on every space that the method has runs on.

        Raises:
            UnknownNameError: For an unknown method.
            InvalidSettingError: If the file does not reach that trial.
        """
        row = self.index(method)
        held = [space for column, space in enumerate(self.spaces) if not _missing(self.regret[row, column, 0])]
        return {space: self.mean_regret(method, trial, [space]) for space in held}

    def standard_error(self, method: str, trial: int = TRIALS) -> float:
        """Return the standard error of the mean regret over datasets, whose seeds are averaged first.

        Raises:
            UnknownNameError: For an unknown method.
            InvalidSettingError: For a trial that is not kept per dataset, or not published for all of them.
        """
        values = self._on_datasets(self.dataset_regret, method, trial)
        return float(values.std(ddof=1) / len(values) ** 0.5)

    def mean_ranks(self, methods: Sequence[str]) -> dict[str, float]:
        """Return the mean rank of each method among these after 100 trials; 1 is best, ties share their mean.

        A rank is one more than the number of better methods plus half the number of equal ones, so that counts of
        pairs give the ranks within any set of methods.

        Raises:
            UnknownNameError: For an unknown method.
            InvalidSettingError: For fewer than two different methods, methods of both settings, or one whose file is
                incomplete.
        """
        rows = [self.index(method) for method in methods]
        if len(set(rows)) < max(2, len(rows)):
            raise InvalidSettingError(f"methods={list(methods)}: a rank needs two or more different methods.")
        settings = sorted({self.methods[row].setting for row in rows})
        if len(settings) > 1:
            raise InvalidSettingError(f"Ranks mix settings {settings}: their scores come from different problems.")
        for row in rows:
            if _missing(self.regret[row, :, -1].sum()):
                raise InvalidSettingError(f"{self.methods[row].name} has no rank at trial {TRIALS}: incomplete file.")
        total = float(self.runs.sum())
        ranks = {}
        for method, row in zip(methods, rows, strict=True):
            others = [other for other in rows if other != row]
            points = self.better[others, row].sum() + 0.5 * self.ties[others, row].sum()
            ranks[method] = 1.0 + float(points) / total
        return ranks

    def paired_test(self, method: str, other: str, trial: int = TRIALS, *, first_seed: bool) -> PairedTest:
        """Compare two methods dataset by dataset.

        Args:
            method: Whose wins are counted.
            other: Its opponent.
            trial: After how many trials; one of ``chosen``.
            first_seed: ``True`` compares the ``test0`` runs only, ``False`` the means over seeds.

        Raises:
            UnknownNameError: For an unknown method.
            InvalidSettingError: For methods of different settings, for runs that start from different points, or for
                a trial that is not kept per dataset, or not published.
        """
        one, two = (self.methods[self.index(name)] for name in (method, other))
        if one.setting != two.setting:
            raise InvalidSettingError(f"{method} is {one.setting}, {other} is {two.setting}: nothing to compare.")
        if one.start != two.start and ("unknown" in (one.start, two.start) or not first_seed):
            remedy = "choose another method" if "unknown" in (one.start, two.start) else "use first_seed=True"
            raise InvalidSettingError(
                f"The runs of {method} (start: {one.start}) and {other} (start: {two.start}) begin with different "
                f"points and are no pairs: {remedy}."
            )
        values = self.first_seed_regret if first_seed else self.dataset_regret
        gap = self._on_datasets(values, method, trial) - self._on_datasets(values, other, trial)
        counts = count_wins(gap)
        p_value = signed_rank_test(gap)[1] if counts.wins + counts.losses else None
        return PairedTest(**vars(counts), p_value=p_value)

    def first_seed_mean(self, method: str, trial: int) -> float:
        """Return the mean regret over the ``test0`` runs of all datasets.

        Raises:
            UnknownNameError: For an unknown method.
            InvalidSettingError: For a trial that is not kept per dataset, or not published for all of them.
        """
        return float(self._on_datasets(self.first_seed_regret, method, trial).mean())

    def table(self, trials: Sequence[int] = CHOSEN_TRIALS, setting: Setting | None = None) -> list[TableRow]:
        """Return a row per method, as HPO-B's aggregates are usually printed.

        Args:
            trials: When regret is shown.
            setting: Only the methods of this problem; ``None`` means all.

        Raises:
            InvalidSettingError: For a trial outside 0 .. 100.
        """
        for trial in trials:
            if not 0 <= trial <= TRIALS:
                raise InvalidSettingError(f"trial={trial} must be in 0 .. {TRIALS}.")
        whole = [method for method in self.methods if not _missing(self.regret[self.index(method.name), :, -1].sum())]
        discrete = [method.name for method in whole if method.setting == "discrete"]
        ranks = self.mean_ranks(discrete) if len(discrete) > 1 else {}
        others = [space for space in self.spaces if space != MISLEADING_SPACE]
        rows = []
        for method in self.methods if setting is None else self.of_setting(setting):
            row, complete = self.index(method.name), method in whole
            mean = (self.runs[:, None] * self.regret[row]).sum(axis=0) / self.runs.sum()
            rows.append(
                TableRow(
                    method,
                    tuple(None if _missing(mean[trial]) else float(mean[trial]) for trial in trials),
                    self.standard_error(method.name) if complete else None,
                    self.mean_regret(method.name, TRIALS, others) if complete and others else None,
                    ranks.get(method.name),
                )
            )
        return rows

    def _columns(self, spaces: Collection[str] | None, without: Collection[str]) -> list[int]:
        for name, given in (("spaces", spaces), ("without", without)):
            if isinstance(given, str):
                raise InvalidSettingError(f"{name}={given!r} must be a list of spaces: {name}=[{given!r}].")
            require_names("HPO-B search space", given or (), self.spaces)
        wanted = self.spaces if spaces is None else spaces
        columns = [i for i, space in enumerate(self.spaces) if space in wanted and space not in without]
        if not columns:
            raise InvalidSettingError(f"spaces={spaces} without={without} leaves no search space to average over.")
        return columns

    def _on_datasets(self, values: np.ndarray[Any, Any], method: str, trial: int) -> np.ndarray[Any, Any]:
        row = self.index(method)
        if trial not in self.chosen:
            raise InvalidSettingError(f"trial={trial} is not kept per dataset: choose one of {list(self.chosen)}.")
        found: np.ndarray[Any, Any] = values[row, :, self.chosen.index(trial)]
        if _missing(found.sum()):
            raise InvalidSettingError(f"{method} has no published runs at trial {trial} on every dataset.")
        return found


def _missing(value: float) -> bool:
    return bool(value != value)
