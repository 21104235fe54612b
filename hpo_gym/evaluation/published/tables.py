"""The tables of ``docs/published.md``: made from the shipped curves and the protocols, for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hpo_gym.documents import markdown_table
from hpo_gym.evaluation.published.curves import CHOSEN_TRIALS, MISLEADING_SPACE
from hpo_gym.evaluation.published.grpoformer import GRPOFORMER_36
from hpo_gym.evaluation.published.hpob_v3 import HPOB_V3
from hpo_gym.evaluation.published.methods import QUOTED, QuotedCurve, Setting
from hpo_gym.evaluation.published.shipped import card, published_curves
from hpo_gym.spaces.columns import Column

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["TABLES", "PrintedTable"]

_LATER = (10, 25, 50, 100)
_OPTFORMER = "optformer/optformer_ei"
_PAIRED = (
    "optformer/optformer_ei",
    "fsbo/FSBO2-C",
    "optformer/dgp",
    "optformer/hyperbo",
    "optformer/vizier",
    "optformer/gp",
    "optformer/random_search",
)
_SUBSET = ("hpob/BOHAMIANN", "hpob/FSBO2", "hpob/FSBO", "hpob/DGP", "hpob/GP", "hpob/Random")
_BY_SPACE = {
    "hpob/Random": "Random",
    "hpob/GP": "GP",
    "hpob/DGP": "DGP",
    "hpob/FSBO": "FSBO",
    "hpob/FSBO2": "FSBO2",
    "NAP": "NAP (quoted)",
    "optformer/random_search": "Random-C",
    "optformer/vizier": "Vizier",
    "optformer/hyperbo": "HyperBO",
    "fsbo/FSBO2-C": "FSBO2-C",
    "optformer/optformer_ei": "OptFormer-EI",
}


@dataclass(frozen=True)
class PrintedTable:
    """A table of text.

    Args:
        title: What it shows.
        header: Name of each column.
        rows: Its cells.
        wordy: Columns that hold words, not numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    wordy: tuple[int, ...] = (0,)

    def markdown(self) -> str:
        """Return the table as Markdown, its title above."""
        return "\n".join([f"**{self.title}**", "", markdown_table(self.header, self.rows, self.wordy)])

    def rich(self, width: int) -> Table:
        """Return the table for a terminal, wider than it if numbers or words would be broken otherwise.

        Args:
            width: Columns of the terminal.
        """
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(self.title), show_edge=False)
        # rich narrows the widest column first, even beyond its longest word: the widths are our own.
        widths = self._widths(lambda cell: cell.split())
        spare = width - self.least_width
        for column, whole in enumerate(self._widths(lambda cell: [cell])):
            if column in self.wordy and spare > 0:
                more = min(spare, whole - widths[column])
                widths[column], spare = widths[column] + more, spare - more
        for column, name in enumerate(self.header):
            side: Literal["left", "right"] = "left" if column in self.wordy else "right"
            table.add_column(Text(name), justify=side, width=widths[column], overflow="fold")
        for row in self.rows:
            # Text, because in a plain string rich would read "[...]" as markup.
            table.add_row(*(Text(_plain(cell)) for cell in row))
        return table

    @property
    def least_width(self) -> int:
        """How many columns of a terminal the table needs for no word and no number to be broken."""
        return sum(width + 3 for width in self._widths(lambda cell: cell.split())) - 1

    def _widths(self, parts: Callable[[str], list[str]]) -> list[int]:
        columns = zip(self.header, *self.rows, strict=True)
        return [max(len(part) for cell in column for part in parts(_plain(cell))) for column in columns]


def _plain(cell: str) -> str:
    """Return a cell without the marks of Markdown."""
    return cell.replace("`", "")


def _digits(value: float | None, decimals: int = 4) -> str:
    if value is None:
        return "-"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("0") if abs(value) < 1 else text


def _quoted(name: str) -> QuotedCurve:
    return next(curve for curve in QUOTED if curve.name == name)


def _setting(setting: Setting) -> PrintedTable:
    header = [
        "method",
        "file",
        *(f"@{trial}" for trial in CHOSEN_TRIALS),
        "SE at 100",
        f"without {MISLEADING_SPACE}",
    ]
    rows = []
    for row in published_curves().table(setting=setting):
        cells = [row.method.printed, f"`{row.method.name}`", *map(_digits, row.regret)]
        cells += [_digits(row.standard_error), _digits(row.without_5970)]
        if setting == "discrete":
            cells.append(_digits(row.mean_rank, 2))
        rows.append(tuple(cells))
    if setting == "discrete":
        header.append("rank at 100")
        curve = _quoted("RF")
        values = [_digits(curve.regret.get(trial)) for trial in CHOSEN_TRIALS]
        rows.append((f"{curve.name} (quoted)", "", *values, "-", "-", "-"))
    title = f"HPO-B v3, {setting}: mean normalised regret after 0 .. 100 trials, {_run_count()} runs"
    return PrintedTable(title, tuple(header), tuple(rows), (0, 1))


def _run_count() -> int:
    return int(published_curves().runs.sum())


def _spaces() -> PrintedTable:
    curves, nap = published_curves(), _quoted("NAP")
    columns = {name: nap.per_space if name == "NAP" else curves.per_space(name) for name in _BY_SPACE}
    rows = []
    for space in sorted(HPOB_V3.spaces, key=lambda space: space.name):
        values = [_digits(columns[name].get(space.name)) for name in _BY_SPACE]
        rows.append((space.name, str(space.dimension), str(len(space.tasks)), *values))
    title = "Mean normalised regret after 100 trials by search space (D columns, n test datasets); left six discrete"
    return PrintedTable(title, ("space", "D", "n", *_BY_SPACE.values()), tuple(rows))


def _first_seed() -> PrintedTable:
    curves = published_curves()
    rows = []
    for name in _PAIRED:
        method = curves.methods[curves.index(name)]
        values = [_digits(curves.first_seed_mean(name, trial)) for trial in _LATER]
        cells = ["-", "-", "-", "-"]
        if name != _OPTFORMER:
            cells = []
            for trial in (10, 100):
                test = curves.paired_test(_OPTFORMER, name, trial, first_seed=True)
                cells += [f"{test.wins}/{test.ties}/{test.losses}", _p_value(test.p_value)]
        rows.append((method.printed, *values, *cells))
    header = ("method", *(f"@{trial}" for trial in _LATER), "W/T/L at 10", "p at 10", "W/T/L at 100", "p at 100")
    count = len(curves.datasets)
    title = (
        f"HPO-B v3, continuous, only test0 ({count} runs): mean regret; wins, ties and losses of OptFormer-EI, and "
        "Wilcoxon's p, uncorrected"
    )
    return PrintedTable(title, header, tuple(rows))


def _p_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _subset() -> PrintedTable:
    curves, nap = published_curves(), _quoted("NAP")
    rows = [
        (f"{quoted.name} (quoted)", *(_digits(quoted.regret[trial]) for trial in _LATER))
        for quoted in QUOTED
        if quoted.spaces == nap.spaces
    ]
    for name in _SUBSET:
        printed = curves.methods[curves.index(name)].printed
        rows.append((printed, *(_digits(curves.mean_regret(name, trial, nap.spaces)) for trial in _LATER)))
    runs = sum(int(curves.runs[curves.spaces.index(space)]) for space in nap.spaces)
    title = f"HPO-B v3, discrete, the six spaces of NAP's files ({', '.join(nap.spaces)}; {runs} runs): mean regret"
    return PrintedTable(title, ("method", *(f"@{trial}" for trial in _LATER)), tuple(rows))


def _source() -> PrintedTable:
    source = card()["source"]
    falling = "; ".join(f"`{name}`: {count}" for name, count in source["non_monotone_curves"].items())
    rows = (
        ("incumbents", f"`{source['incumbents']}`: {source['files']} files x {source['runs_per_file']} runs"),
        ("SHA-256", f"`{source['sha256']}`"),
        ("curves that fall at some trial", falling),
        *((f"`{name}`", licence) for name, licence in source["repositories"].items()),
        ("shipped", source["licence"]),
        ("made by", f"`{source['made_by']}`"),
    )
    return PrintedTable("Where the curves come from", ("what", "value"), rows, (0, 1))


def _range(column: Column) -> str:
    integer, log = "integer " if column.kind == "integer" else "", ", log" if column.log else ""
    return f"{integer}[{column.lower:.6g}, {column.upper:.6g}]{log}"


def _grpoformer_spaces() -> PrintedTable:
    rows = []
    for family in GRPOFORMER_36.families:
        for column in family.spec.columns:
            first = "unknown" if family.first is None else f"{family.first[column.name]:.6g}"
            rows.append((family.name, f"`{column.name}`", _range(column), f"{column.default:.6g}", first))
    header = ("model", "hyperparameter", "range", "HPOBench's default", "first configuration")
    return PrintedTable("GRPOformer's search spaces", header, tuple(rows), (0, 1, 2))


def _grpoformer_models() -> PrintedTable:
    rows = []
    for family in GRPOFORMER_36.families:
        fidelity = ", ".join(f"{name} {value:g}" for name, value in family.fidelity.items())
        rows.append((family.name, family.learner, fidelity, family.note))
    return PrintedTable(
        "GRPOformer's model families", ("model", "learner", "fidelity", "note"), tuple(rows), (0, 1, 2, 3)
    )


def _grpoformer_budgets() -> PrintedTable:
    rows = [
        (budget.method, "unknown" if budget.evaluations is None else f"{budget.evaluations:,}", budget.how)
        for budget in GRPOFORMER_36.budgets
    ]
    header = ("method", "evaluations", "made up of")
    return PrintedTable("Evaluations per scenario in GRPOformer's released code", header, tuple(rows), (0, 2))


#: Every table by name.
TABLES: dict[str, Callable[[], PrintedTable]] = {
    "discrete": lambda: _setting("discrete"),
    "continuous": lambda: _setting("continuous"),
    "spaces": _spaces,
    "first_seed": _first_seed,
    "subset": _subset,
    "source": _source,
    "grpoformer_models": _grpoformer_models,
    "grpoformer_spaces": _grpoformer_spaces,
    "grpoformer_budgets": _grpoformer_budgets,
}
