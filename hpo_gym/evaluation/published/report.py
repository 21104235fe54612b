"""``python -m hpo_gym.evaluation.published.report``: print what is published, or write it into documents.

Without arguments every table is printed; ``--table discrete`` prints one. Given documents, everything between
``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` is replaced by the table ``NAME``; with ``--check`` nothing is
written, and the exit status is 1 where a document is not up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hpo_gym.documents import fill_files
from hpo_gym.errors import HPOGymError, require_names
from hpo_gym.evaluation.published.tables import TABLES

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.evaluation.published.report", description=__doc__)
    parser.add_argument("documents", nargs="*", type=Path, help="documents to fill; none: print")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a document is out of date")
    parser.add_argument("--table", action="append", metavar="NAME", help=f"print only this one: {', '.join(TABLES)}")
    options = parser.parse_args(arguments)
    if options.check and not options.documents:
        parser.error("--check needs documents")
    if options.table and options.documents:
        parser.error("--table prints; it does not go with documents")
    if options.documents:
        tables = {name: _markdown(name) for name in TABLES}
        return fill_files(options.documents, tables, options.check)
    try:
        _print(options.table or list(TABLES))
    except HPOGymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _markdown(name: str) -> Callable[[], str]:
    return lambda: TABLES[name]().markdown()


def _print(names: Sequence[str]) -> None:
    from rich.console import Console

    require_names("table", names, TABLES)
    tables = [TABLES[name]() for name in names]
    # In a narrow terminal lines go on below; a number without its last digits would be worse.
    console = Console(width=max(Console().width, *(table.least_width for table in tables)))
    for table in tables:
        console.print(table.rich(Console().width), "")


if __name__ == "__main__":
    sys.exit(main())
