"""What the documents say about the bundle is what the bundle says."""

from pathlib import Path

import pytest

from hpo_gym.errors import UnknownNameError
from hpo_gym.fitting.report import TABLES, fill_document, main

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("document", ["README.md", "docs/data.md"])
def test_tables_of_the_bundle_are_up_to_date(document):
    assert main(["--check", str(REPOSITORY / document)]) == 0


def test_every_table_is_published():
    text = (REPOSITORY / "README.md").read_text() + (REPOSITORY / "docs" / "data.md").read_text()
    assert all(f"<!-- {name}:begin -->" in text for name in TABLES)


def test_a_stale_document_is_found_and_repaired(tmp_path):
    path = tmp_path / "x.md"
    path.write_text("before\n<!-- splits:begin -->\nold\n<!-- splits:end -->\nafter\n")
    assert main(["--check", str(path)]) == 1
    assert "old" in path.read_text()
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "`rpart`" in text
    with pytest.raises(UnknownNameError, match="splits"):
        fill_document("<!-- split:begin --><!-- split:end -->")
