"""What an objective's code is, for kept results: that of its functions, and of the modules that they name."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from training_runs import REPOSITORY

from hpo_gym.live import code_origin, preset_objective
from hpo_gym.live.description import Undescribed, describe

pytest.importorskip("sklearn")


MODULE = """
import {helper}
OFFSET = {offset}

def late(rows):
    from mine_late import shifted

    return shifted(rows)

def rounded(values):
    return values - OFFSET

class Mine:
    def __init__(self, depth=1, *, fixed={fixed}):
        self.depth = depth

    def predict(self, rows):
        return {helper}.scaled(late(rounded(rows))){change}

    @property
    def size(self):
        return [each for each in range({size})]
"""


def defined(
    tmp_path: Path, monkeypatch: Any, name: str = "mine", factor: int = 2, shift: int = 1, deep: int = 1, **changes: Any
) -> Any:
    """Return a class of a module that is written anew."""
    filled = {"helper": "mine_helper", "offset": 0, "fixed": 1, "change": "", "size": 3} | changes
    (tmp_path / f"{name}.py").write_text(MODULE.format(**filled))
    (tmp_path / "mine_helper.py").write_text(f"def scaled(rows):\n    return rows * {factor}\n")
    (tmp_path / "mine_late.py").write_text(f"import mine_latest\ndef shifted(rows):\n    return rows + {shift}\n")
    (tmp_path / "mine_latest.py").write_text(f"DEEP = {deep}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # Compiled files are told apart by second and size: a change of one digit would not be seen.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for module in (name, "mine_helper", "mine_late", "mine_latest"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return __import__(name).Mine


def test_the_version_of_a_module_that_a_function_names_is_seen(monkeypatch: Any) -> None:
    import sklearn

    def make() -> Any:
        return sklearn.clone

    before = describe(make)
    # What counts is what was installed: a module may not be imported yet, and its own version have a suffix.
    monkeypatch.setattr(sklearn, "__version__", "99.0")
    assert describe(make) == before
    monkeypatch.setattr(code_origin, "version", {"scikit-learn": "99.0"}.get)
    assert describe(make) != before


@pytest.mark.parametrize(
    "change",
    [{"offset": 5}, {"fixed": 2}, {"change": " * 0"}, {"size": 4}, {"factor": 3}, {"shift": 2}, {"deep": 2}],
    ids=str,
)
def test_a_change_of_the_user_s_code_is_seen(tmp_path: Path, monkeypatch: Any, change: dict[str, Any]) -> None:
    first = describe(defined(tmp_path, monkeypatch))
    assert describe(defined(tmp_path, monkeypatch)) == first
    assert describe(defined(tmp_path, monkeypatch, **change)) != first


@pytest.mark.parametrize(
    ("code", "other"),
    [
        (
            "def f():\n    try: a(); b()\n    except OSError: c()",
            "def f():\n    a()\n    try: b()\n    except OSError: c()",
        ),
        ("def f(a, b): return (a, b)", "def f(a, **b): return (a, b)"),
        ("def f(a, b): return (a, b)", "def f(a, *, b): return (a, b)"),
        ("def f(a, b): return (a, b)", "def f(a, b, /): return (a, b)"),
    ],
)
def test_code_that_differs_in_its_form_alone_is_told_apart(code: str, other: str) -> None:
    def defined_by(text: str) -> Any:
        names: dict[str, Any] = {"__name__": __name__}
        exec(text, names)
        return names["f"]

    assert describe(defined_by(code)) == describe(defined_by(code)) != describe(defined_by(other))


def test_a_global_that_is_called_as_an_attribute_is_does_not_count() -> None:
    names: dict[str, Any] = {"__name__": "mine"}
    exec("def train(model): return model.score(1)", names)
    before = describe(names["train"])
    names["score"] = threading.Lock()
    assert describe(names["train"]) == before
    exec("def train(model): return score(1)", names)
    with pytest.raises(Undescribed, match="lock"):
        describe(names["train"])


def test_what_has_no_module_or_lies_beyond_one_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    names: dict[str, Any] = {}
    exec("def lambdified(x): return x + 1", names)
    first = names["lambdified"]
    exec("def lambdified(x): return x + 2", names)
    assert describe(first) != describe(names["lambdified"])
    first.__module__ = names["lambdified"].__module__ = None
    assert describe(first) != describe(names["lambdified"])
    package = tmp_path / "mine_top"
    package.mkdir()
    for name, text in (
        ("__init__", ""),
        ("code", "try:\n    from ..common import x\nexcept ImportError:\n    x = 1\ndef train(c):\n    return x\n"),
        ("models", "WIDTH = 1\n"),
    ):
        (package / f"{name}.py").write_text(text)
    (tmp_path / "mine_user.py").write_text(
        "import mine_top.models\nimport mine_top.code\nfrom torch.backends import cudnn\n"
        "def train(c):\n    cudnn.benchmark = False\n    return mine_top.models.WIDTH, mine_top.code\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    train = __import__("mine_user").train
    before = describe(train)
    (package / "models.py").write_text("WIDTH = 2\n")
    assert describe(train) != before


def test_nothing_is_imported_to_describe(tmp_path: Path, monkeypatch: Any) -> None:
    package = tmp_path / "mine_package"
    (package / "inner" / "leaf").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "inner" / "leaf" / "code.py").write_text("LEAF = 1\n")
    (tmp_path / "mine_broken.py").write_text("print 'of Python 2'\n")
    (tmp_path / "mine_lazy.py").write_text(
        """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from mine_package import Settings

def make():
    from mine_package.inner.leaf import code
    import mine_broken
    from mine_package.absent import nothing
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    make = __import__("mine_lazy").make
    before = describe(make)
    assert describe(make) == before and not {"mine_package", "mine_broken"} & set(sys.modules)
    (package / "inner" / "leaf" / "code.py").write_text("LEAF = 2\n")
    leaf = describe(make)
    (package / "__init__.py").write_text("raise RuntimeError('imported again')\n")
    assert len({before, leaf, describe(make)}) == 3


def test_packages_count_by_their_version_wherever_they_are_installed(tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "dist-packages"
    folder.mkdir()
    for path in (folder, tmp_path):
        (path / f"mine_{path is folder}.py").write_text("def make():\n    return 1\n")
        monkeypatch.syspath_prepend(str(path))
        assert code_origin.is_installed(__import__(f"mine_{path is folder}").__name__) == (path is folder)


def test_another_process_says_the_same(tmp_path: Path, monkeypatch: Any) -> None:
    mine = describe([defined(tmp_path, monkeypatch), {"b", "a"}, preset_objective("rf", "sklearn:iris")])
    code = """
        import mine
        from hpo_gym.live import preset_objective
        from hpo_gym.live.description import describe
        print(describe([mine.Mine, {"a", "b"}, preset_objective("rf", "sklearn:iris")]).hex())
    """
    environment = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "PYTHONHASHSEED": "77", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == mine.hex()
