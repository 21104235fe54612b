"""What an objective is, for kept results: code and settings change it, another process does not."""

from __future__ import annotations

import copy
import enum
import functools
import os
import pickle
import random
import re
import subprocess
import sys
import textwrap
import threading
from collections import defaultdict
from dataclasses import dataclass, field, make_dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytest
import torch

from hpo_gym.live import preset_objective
from hpo_gym.live.description import Undescribed, describe
from hpo_gym.live.user_model import UserModel
from hpo_gym.spaces import Column, SpaceSpec

pytest.importorskip("sklearn")

from scipy.sparse import csr_matrix
from scipy.stats import loguniform
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch.optim.swa_utils import get_ema_multi_avg_fn

SPACE = SpaceSpec((Column("max_depth", "integer", 1, 5, default=3),), {})


def test_code_behind_a_cache_is_seen() -> None:
    def cached(power: int) -> Any:
        return functools.lru_cache(lambda value: value**power)

    assert describe(cached(2)) == describe(cached(2)) != describe(cached(3))


def test_closures_that_hold_nothing_keep_their_places() -> None:
    def factory(lower: Any = None, upper: Any = None) -> Any:
        return lambda value: (lower, value, upper)

    assert len({describe(factory(*given)) for given in ((5,), (None, 5), (), (5, 5))}) == 4


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
    with pytest.raises(Undescribed, match="lock, which cannot be pickled"):
        describe([threading.Lock()])


def math_of(value: float) -> float:
    return value + 1.0


def fitted(scale: float) -> Any:
    return StandardScaler().fit(np.arange(12.0).reshape(4, 3) * scale)


def held_by_a_function(scale: float) -> Any:
    scaler = fitted(scale)

    def make(C: float) -> Any:
        return make_pipeline(FunctionTransformer(scaler.transform), LogisticRegression(C=C))

    return make


class Widths(NamedTuple):
    width: float

    def __call__(self) -> float:
        return self.width


class OtherWidths(NamedTuple):
    width: float

    def __call__(self) -> float:
        return 1.0 - self.width


@dataclass(frozen=True)
class Base:
    width: float = 1.0


class Held(Base):
    def __init__(self, k: int) -> None:
        super().__init__()
        object.__setattr__(self, "k", k)


class Wrapped:
    def __init__(self, k: int) -> None:
        self.k = k
        functools.update_wrapper(self, math_of)

    def __call__(self, value: float) -> float:
        return value**self.k


class Positive:
    """A descriptor that sets."""

    def __init__(self, least: float) -> None:
        self.least = least

    def __set__(self, instance: Any, value: float) -> None:
        instance.__dict__["value"] = max(self.least, value)


def with_descriptor(least: float) -> Any:
    return type("Mine", (), {"value": Positive(least), "__module__": __name__})


class Times(int):
    def __call__(self, value: float) -> float:
        return value * self


def one(value: float) -> float:
    return value


def two(value: float) -> float:
    return -value


def masked(*hidden: int) -> Any:
    return np.ma.masked_array(np.arange(3.0), mask=[each in hidden for each in range(3)])


def times(k: float) -> Any:
    @functools.wraps(accuracy_score)
    def wrapper(*given: Any) -> float:
        return float(k * accuracy_score(*given))

    return wrapper


def with_field(scale: float) -> Any:
    @dataclass
    class Scaled:
        width: float = field(default=1.0, metadata={"scale": scale})

    return Scaled


class Lenient(enum.Enum):
    A = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return cls.A


class Strict(enum.Enum):
    A = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return None


Lenient.__qualname__ = Strict.__qualname__ = "Either"
OUT_OF_ORDER = np.dtype({"names": ["a", "b"], "formats": ["<f8", "<f8"], "offsets": [8, 0]})


SAME_BUT: dict[str, tuple[Any, Any]] = {
    "the state of what a method belongs to": (held_by_a_function(1.0), held_by_a_function(100.0)),
    "the state of a frozen estimator": (FrozenEstimator(fitted(1.0)), FrozenEstimator(fitted(9.0))),
    "code of a named tuple": (Widths(0.5), OtherWidths(0.5)),
    "what a subclass of a dataclass holds": (Held(2), Held(3)),
    "what a callable holds that says what it wraps": (Wrapped(2), Wrapped(3)),
    "the mask": (masked(1), masked(2)),
    "what is made of a missing key": (defaultdict(int), defaultdict(list)),
    "the order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "a class of a number": (3, Times(3)),
    "which function is repeated": ([one, two, one], [one, two, two]),
    "a descriptor": (with_descriptor(0.0), with_descriptor(1.0)),
    "a pattern": (re.compile("a"), re.compile("b")),
    "an array of another generator": (np.random.default_rng(1), np.random.default_rng(2)),
    "weights": (torch.ones(3), torch.zeros(3)),
    "a network": (torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)),
    "the size of a cache": (functools.lru_cache(3)(one), functools.lru_cache(4)(one)),
    "what a decorator encloses that names an installed function": (times(1.0), times(-1.0)),
    "what an installed factory encloses": (get_ema_multi_avg_fn(0.9), get_ema_multi_avg_fn(0.1)),
    "code of a class that says it is of another module": (
        make_dataclass("Made", ["x"], namespace={"score": lambda self: self.x}),
        make_dataclass("Made", ["x"], namespace={"score": lambda self: -self.x}),
    ),
    "what a field says of itself": (with_field(1.0), with_field(10.0)),
    "what an enumeration does": (Lenient, Strict),
    "an enumeration": (enum.Enum("Own", {"A": 1}), enum.Enum("Own", {"A": 2})),
    "the order of fields in memory": (np.zeros(2, OUT_OF_ORDER), np.zeros(2, [("a", "<f8"), ("b", "<f8")])),
    "an attribute of a class of sets": (frozenset({1}), type("Own", (frozenset,), {"__module__": __name__})({1})),
}


@pytest.mark.parametrize("what", SAME_BUT)
def test_what_differs_in_one_thing_is_told_apart(what: str) -> None:
    first, second = SAME_BUT[what]
    assert describe(first) != describe(second)
    assert describe(first) == describe(first) == describe(copy.deepcopy(first))


def test_what_follows_from_the_rest_does_not_count() -> None:
    class Lazy:
        @functools.cached_property
        def table(self) -> list[int]:
            return [1]

    lazy = Lazy()
    before = describe(lazy)
    assert lazy.table == [1] and describe(lazy) == before


class Net:
    def __init__(self, width: int) -> None:
        self.width = width


class Flags(enum.Flag):
    A = 1
    B = 2


class Model(Protocol):
    def score(self) -> float: ...


class OfProtocol(Model):
    def score(self) -> float:
        return 1.0


@functools.singledispatch
def shown(value: object) -> str:
    return str(value)


def use(what: str) -> None:
    if what == "a copy":
        copy.deepcopy(Net(1))
    elif what == "a combination of flags":
        assert Flags.A | Flags.B
    elif what == "an instance of a protocol":
        OfProtocol()
    elif what == "a call of a function for several types":
        shown(1)
    else:
        random.random()
        np.random.rand()  # what is told must not depend on it


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("a copy", lambda: Net),
        ("a combination of flags", lambda: Flags),
        ("an instance of a protocol", lambda: OfProtocol),
        ("a call of a function for several types", lambda: shown),
        ("a draw", lambda: [random.choice, np.random.randint, loguniform(1e-3, 1.0), os.environ]),
    ],
)
def test_what_was_used_is_told_as_before(what: str, told: Any) -> None:
    before = describe(told())
    use(what)
    assert describe(told()) == before


def test_a_sparse_matrix_is_told_as_before_it_was_looked_at() -> None:
    matrix, other = (csr_matrix(np.eye(3) * scale) for scale in (1.0, 2.0))
    before = describe(matrix)
    assert matrix.has_canonical_format and describe(matrix) == before != describe(other)


def test_random_search_of_scikit_learn_is_told_alike_by_all_processes() -> None:
    code = """
        from scipy.stats import loguniform
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import RandomizedSearchCV
        from hpo_gym.live.description import describe
        print(describe(RandomizedSearchCV(LogisticRegression(), {"C": loguniform(1e-3, 1.0)})).hex())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert len({subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}) == 1


def test_shared_tuples_and_sets_of_choices_are_told() -> None:
    shared: tuple[Any, ...] = ()
    for _ in range(100):
        shared = (shared, shared)
    told = describe(pickle.loads(pickle.dumps(shared)))  # our own
    assert (describe(shared) == told) and (describe((shared, shared)) != told)
    assert describe({Flags.A, Flags.B}) == describe({Flags.B, Flags.A}) != describe({Flags.A})


def test_sets_are_told_in_one_order_or_not_at_all() -> None:
    assert describe({one, two, 3, (4, "a")}) == describe({(4, "a"), 3, two, one})
    assert describe({one}) != describe({two})
    with pytest.raises(Undescribed, match="set of"):
        describe({lambda: 1, lambda: 2})


def test_what_lies_too_deep_is_told() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Undescribed, match="too deeply"):
        describe(deep)
