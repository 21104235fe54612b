"""``python -m hpo_gym.evaluation.published.report``: print what is published, or write it into documents.

Without arguments every table is printed; ``--table discrete`` prints one. Given documents, everything between
``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` is replaced by the table ``NAME``; with ``--check`` nothing is
written, and the exit status is 1 where a document is not up to date.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hpo_gym.errors import HPOGymError, InvalidSettingError, unknown_name
from hpo_gym.evaluation.published.tables import TABLES
from hpo_gym.sources.bundle_files import write_atomic

__all__ = ["fill_document", "main"]


def fill_document(text: str) -> str:
    """Return a document with the table between each pair of markers made anew.

    Raises:
        UnknownNameError: For a marker of an unknown table.
        InvalidSettingError: If there is no marker at all.
    """

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise unknown_name("table", name, TABLES)
        return f"<!-- {name}:begin -->\n{TABLES[name]().markdown()}\n<!-- {name}:end -->"

    filled, count = re.subn(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", table, text, flags=re.DOTALL)
    if not count:
        raise InvalidSettingError(
            "The document has no table to fill: write <!-- discrete:begin --><!-- discrete:end --> where one belongs; "
            f"tables: {', '.join(TABLES)}."
        )
    return filled


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
    try:
        if not options.documents:
            _print(options.table or list(TABLES))
            return 0
        stale = []
        for path in options.documents:
            text = path.read_text(encoding="utf-8")
            filled = fill_document(text)
            if filled != text:
                stale.append(path)
                if not options.check:
                    write_atomic(path, filled.encode())
    except (HPOGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.check and stale:
        print(f"out of date: {', '.join(map(str, stale))}; run this without --check", file=sys.stderr)
        return 1
    return 0


def _print(names: Sequence[str]) -> None:
    from rich.console import Console

    for name in names:
        if name not in TABLES:
            raise unknown_name("table", name, TABLES)
    tables = [TABLES[name]() for name in names]
    # In a narrow terminal lines go on below; a number without its last digits would be worse.
    console = Console(width=max(Console().width, *(table.least_width for table in tables)))
    for table in tables:
        console.print(table.rich(Console().width), "")


if __name__ == "__main__":
    sys.exit(main())
