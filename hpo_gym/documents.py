"""Figures in documents: Markdown tables, and documents that hold them between markers.

Between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` everything is replaced by the table ``NAME``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpo_gym.errors import DataMissingError, HPOGymError, InvalidSettingError, unknown_name
from hpo_gym.sources.bundle_files import write_atomic

__all__ = ["fill_document", "fill_files", "fill_page", "markdown_table"]

#: Makes the content of a table.
Table = Callable[[], str]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]], wordy: Sequence[int] | None = None) -> str:
    """Return a Markdown table.

    Args:
        header: Names of the columns.
        rows: Their cells; bars are escaped.
        wordy: Columns that hold words and are aligned to the left, the others to the right; ``None`` leaves it open.
    """
    rule = ["---"] * len(header)
    if wordy is not None:
        rule = [":--" if index in wordy else "--:" for index in range(len(header))]
    lines = [[str(cell).replace("|", r"\|") for cell in row] for row in (header, *rows)]
    lines.insert(1, rule)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill_document(text: str, tables: Mapping[str, Table]) -> str:
    """Return a document with the table between each pair of markers made anew.

    Raises:
        UnknownNameError: For a marker of an unknown table.
        InvalidSettingError: If there is no marker at all.
    """

    def table(match: re.Match[str]) -> str:
        name = match[1]
        if name not in tables:
            raise unknown_name("table", name, tables)
        return f"<!-- {name}:begin -->\n{tables[name]()}\n<!-- {name}:end -->"

    filled, count = re.subn(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", table, text, flags=re.DOTALL)
    if not count:
        first = next(iter(tables))
        raise InvalidSettingError(
            f"The document has no table to fill: write <!-- {first}:begin --><!-- {first}:end --> where one belongs; "
            f"tables: {', '.join(tables)}."
        )
    return filled


def fill_page(page: Path, tables: Mapping[str, Table]) -> str:
    """Fill one page that must not stay as it was, and return its path.

    Raises:
        DataMissingError: If there is no such page.
        InvalidSettingError: If it could not be filled; what was wrong stands on standard error.
    """
    if not page.is_file():
        raise DataMissingError(
            f"There is no {page}, whose tables were to be filled. Give the folder `docs` of this repository, or a copy "
            "of it. What the tables are made from is kept."
        )
    if fill_files([page], tables):
        raise InvalidSettingError(f"{page} was not written; see the message above.")
    return str(page)


def fill_files(documents: Sequence[Path], tables: Mapping[str, Table], check: bool = False) -> int:
    """Fill documents, or only say which are not up to date.

    Args:
        documents: The files.
        tables: What may be in them.
        check: Write nothing.

    Returns:
        The exit status of a command: 1 where ``check`` found a document out of date, 2 after an error.
    """
    stale = []
    try:
        for path in documents:
            text = path.read_text(encoding="utf-8")
            filled = fill_document(text, tables)
            if filled != text:
                stale.append(path)
                if not check:
                    write_atomic(path, filled.encode())
    except (HPOGymError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if check and stale:
        print(f"out of date: {', '.join(map(str, stale))}; run this without --check", file=sys.stderr)
        return 1
    return 0
