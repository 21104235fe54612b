"""What an objective is, for kept results: code and settings change it, another process does not."""

from __future__ import annotations

import functools
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_runs import REPOSITORY

from hpo_gym.live import preset_objective
from hpo_gym.live.description import Undescribed, describe
from hpo_gym.live.user_model import UserModel
from hpo_gym.spaces import Column, SpaceSpec

pytest.importorskip("sklearn")

SPACE = SpaceSpec((Column("max_depth", "integer", 1, 5, default=3),), {})
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


def test_code_behind_a_cache_is_seen() -> None:
    def cached(power: int) -> Any:
        return functools.lru_cache(lambda value: value**power)

    assert describe(cached(2)) == describe(cached(2)) != describe(cached(3))


def test_closures_that_hold_nothing_keep_their_places() -> None:
    def factory(lower: Any = None, upper: Any = None) -> Any:
        return lambda value: (lower, value, upper)

    assert len({describe(factory(*given)) for given in ((5,), (None, 5), (), (5, 5))}) == 4


def test_the_version_of_a_module_that_a_function_names_is_seen(monkeypatch: Any) -> None:
    import sklearn

    def make() -> Any:
        return sklearn.clone

    before = describe(make)
    monkeypatch.setattr(sklearn, "__version__", "99.0")
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


def test_settings_of_estimators_are_seen_however_long_their_text_is() -> None:
    from sklearn.ensemble import ExtraTreesClassifier, VotingClassifier
    from sklearn.neural_network import MLPClassifier

    def model(alpha: float) -> UserModel:
        tree = functools.partial(ExtraTreesClassifier, class_weight={0: 1.0, 1: 9.0}, min_samples_leaf=3)
        parts: list[Any] = [(f"t{depth}", tree(max_depth=depth, criterion="entropy")) for depth in range(2, 12)]
        parts.insert(6, ("m", MLPClassifier((10, 20, 30), "tanh", alpha=alpha, momentum=0.8, early_stopping=True)))
        space = SpaceSpec((Column("t2__max_depth", "integer", 1, 5, default=3),), {})
        return UserModel(VotingClassifier(parts), space)

    assert describe(model(0.1)) == describe(model(0.1)) != describe(model(100.0))
    assert repr(model(0.1)) == repr(model(100.0)), "then this is no test"


def test_dataclasses_of_the_user_are_seen_with_their_defaults() -> None:
    def made(default: Any, factory: Any) -> Any:
        @dataclass(frozen=True)
        class Settings:
            width: float
            depth: int = default
            names: tuple[str, ...] = field(default_factory=factory)

            def __call__(self) -> float:
                return self.width

        return Settings(0.5)

    def other() -> tuple[str, ...]:
        return ("b",)

    same, again, deeper, elsewhere = made(1, tuple), made(1, tuple), made(2, tuple), made(1, other)
    assert describe(same) == describe(again) and describe(type(same)) == describe(type(again))
    assert len({describe(type(each)) for each in (same, deeper, elsewhere)}) == 3


def test_objects_of_all_kinds_are_told_apart() -> None:
    def closure(power: int) -> Any:
        return lambda value: value**power

    def partly(power: int) -> Any:
        return functools.partial(closure(1), power)

    circle: list[Any] = [1]
    circle.append(circle)
    different = [1, 1.0, True, "1", b"1", None, [1], (1,), {1}, {1: 2}, {1: 3}, np.arange(2), np.arange(2.0), circle]
    different += [np.array(["a", None], dtype=object), closure(1), closure(2), partly(1), partly(2), int, len, math_of]
    different += [preset_objective("svm", f"sklearn:{name}") for name in ("iris", "wine")]
    assert len({describe(each) for each in different}) == len(different)
    assert all(describe(each) == describe(each) for each in different)
    assert describe(closure(2)) == describe(closure(2)) and describe({1, "a"}) == describe({"a", 1})
    with pytest.raises(Undescribed, match="object"):
        describe([object()])


def math_of(value: float) -> float:
    return value + 1.0


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
