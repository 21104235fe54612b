"""What the documents say about the bundle is what the bundle says."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from hpo_gym import register_card
from hpo_gym.documents import fill_document, fill_page
from hpo_gym.errors import DataMissingError, InvalidSettingError, UnknownNameError
from hpo_gym.fitting.report import TABLES, main

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
        fill_document("<!-- split:begin --><!-- split:end -->", TABLES)


def test_the_example_of_a_policy_of_ones_own_runs_verbatim(capsys):
    text = (REPOSITORY / "docs" / "agents" / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "docs/agents/README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "| random" in printed and "| up" in printed and "regret at 20" in printed


def test_the_card_in_the_documents_can_be_registered(tmp_path):
    text = (REPOSITORY / "docs" / "environments.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "card.yaml"
    path.write_text(block)
    name = register_card(path)
    try:
        env = gym.make("My-HPO-v0")
        env.reset(seed=0)
        assert env.unwrapped.suite.name == "xgboost" and env.unwrapped.engine.settings.budget == 30
    finally:
        # Other tests ask for all registered ids.
        del gym.registry[name]


def test_the_example_of_a_surrogate_of_ones_own_runs_verbatim(tmp_path):
    text = (REPOSITORY / "docs" / "environments.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "SurrogateCase" in block]
    (tmp_path / "test_my_surrogate.py").write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b1\d passed", done.stdout), done.stdout


def test_a_page_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataMissingError, match=r"no .*away\.md.*the folder `docs`"):
        fill_page(tmp_path / "away.md", TABLES)
    page = tmp_path / "here.md"
    page.write_text("<!-- unknown:begin --><!-- unknown:end -->")
    with pytest.raises(InvalidSettingError, match="was not written"):
        fill_page(page, TABLES)
