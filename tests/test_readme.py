"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
TABLE = "dataset,lr,depth,accuracy\n" + "\n".join(
    f"{task},{rate},{depth},{0.5 + 0.1 * depth - rate + 0.01 * task}"
    for task in range(6)
    for rate in (0.01, 0.1, 0.2)
    for depth in (1, 2, 3)
)


def test_the_readme_opens_with_the_two_commands_and_a_short_example():
    head = README[: README.index("```python")]
    assert "make train" in head and "make test" in head
    assert BLOCKS[0].strip().count("\n") <= 12


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPO_GYM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "my_runs.csv").write_text(TABLE)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert names["terminated"] is not None
