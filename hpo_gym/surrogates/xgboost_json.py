"""Gradient-boosted trees in XGBoost's JSON format, read without XGBoost.

The format is documented ("Introduction to Model IO", XGBoost's manual); files of versions 1.0 to 3.2 agree in what is
read here, but for ``base_score``, which became a list.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BoostedTrees", "read_booster"]

# A complete tree of that depth has 4,096 leaves; deeper ones would fill the memory.
_DEEPEST = 12
# They are kept as 16-bit numbers.
_MOST_FEATURES = 2**15

_IDENTITY, _LOGISTIC = ("reg:squarederror", "reg:linear"), ("reg:logistic", "binary:logistic")


@dataclass(frozen=True)
class BoostedTrees:
    """A regressor ``f(x) = link(base + sum over trees of leaf(x))`` with its trees made complete.

    Node ``i`` of a tree has the children ``2i + 1`` and ``2i + 2``; ``x[feature] < threshold`` goes to the first one.

    Args:
        feature: int16 ``[R, 2**depth - 1]`` of ``R`` trees.
        threshold: float32 ``[R, 2**depth - 1]``.
        leaf: float32 ``[R, 2**depth]``.
        base: What is added to the sum.
        logistic: Whether the link is the logistic function; else it is the identity.
        num_features: Length of ``x``.
    """

    feature: np.ndarray[Any, Any]
    threshold: np.ndarray[Any, Any]
    leaf: np.ndarray[Any, Any]
    base: float
    logistic: bool
    num_features: int

    @property
    def depth(self) -> int:
        """Tests on the way to a leaf."""
        return int(self.leaf.shape[1]).bit_length() - 1

    def deepened(self, trees: int, depth: int) -> BoostedTrees:
        """Return the same function with ``trees >= R`` trees of ``depth`` levels, the new ones worth nothing."""
        import numpy as np

        have = len(self.leaf)
        feature = np.zeros((trees, 2**depth - 1), np.int16)
        threshold = np.full((trees, 2**depth - 1), np.inf, np.float32)
        leaf = np.zeros((trees, 2**depth), np.float32)
        feature[:have, : self.feature.shape[1]] = self.feature
        threshold[:have, : self.threshold.shape[1]] = self.threshold
        # Whatever a new test answers, it leads to the leaf that was there.
        leaf[:have] = np.repeat(self.leaf, 2 ** (depth - self.depth), axis=1)
        return BoostedTrees(feature, threshold, leaf, self.base, self.logistic, self.num_features)


def read_booster(model: Mapping[str, Any]) -> BoostedTrees:
    """Return the trees of a model that ``Booster.save_model("*.json")`` wrote.

    Args:
        model: The file's content.

    Raises:
        ValueError: If it is no such model, or one of another kind: several outputs, choices as features, an objective
            that is no regression, trees deeper than 12 levels. The message says which.
    """
    import numpy as np

    try:
        learner = model["learner"]
        booster, objective = learner["gradient_booster"], learner["objective"]["name"]
        kind, facts = booster["name"], learner["learner_model_param"]
        if kind != "gbtree":
            raise ValueError(f"its booster is {kind!r}, allowed is 'gbtree'")
        if objective not in (*_IDENTITY, *_LOGISTIC):
            raise ValueError(f"its objective is {objective!r}, allowed are {', '.join((*_IDENTITY, *_LOGISTIC))}")
        if int(facts.get("num_class", "0")) > 1 or int(facts.get("num_target", "1")) > 1:
            raise ValueError("it has several outputs")
        base, features = float(str(facts["base_score"]).strip("[]")), int(facts["num_feature"])
        trees = [_Tree.of(tree, features) for tree in booster["model"]["trees"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no model of XGBoost in JSON ({type(error).__name__}: {error})") from error
    if not trees:
        raise ValueError("it has no tree")
    depth = max(tree.depth for tree in trees)
    complete = [tree.complete(depth) for tree in trees]
    feature, threshold, leaf = (np.stack(parts) for parts in zip(*complete, strict=True))
    logistic = objective in _LOGISTIC
    if logistic:
        if not 0.0 < base < 1.0:
            raise ValueError(f"its base_score is {base}, and no probability")
        base = math.log(base / (1.0 - base))
    return BoostedTrees(feature, threshold, leaf, base, logistic, features)


@dataclass(frozen=True)
class _Tree:
    """Nodes as they are stored: a leaf has no children, and its value where others have their threshold."""

    left: np.ndarray[Any, Any]
    right: np.ndarray[Any, Any]
    feature: np.ndarray[Any, Any]
    value: np.ndarray[Any, Any]

    @classmethod
    def of(cls, tree: Mapping[str, Any], features: int) -> _Tree:
        import numpy as np

        if any(tree.get("split_type", ())) or tree.get("categories"):
            raise ValueError("a tree splits by categories")
        left, right, feature = (
            np.asarray(tree[name], np.int64) for name in ("left_children", "right_children", "split_indices")
        )
        value = np.asarray(tree["split_conditions"], np.float64).astype(np.float32)
        inner = left >= 0
        if not (len(left) == len(right) == len(feature) == len(value) > 0) or (inner != (right >= 0)).any():
            raise ValueError("the nodes of a tree do not belong together")
        asked = feature[inner]
        if asked.size and not 0 <= asked.min() <= asked.max() < min(features, _MOST_FEATURES):
            raise ValueError(f"a tree asks for features {asked.min()} to {asked.max()}, it has {features}")
        # Children come after their parents, so that every walk ends.
        number = np.arange(len(left))[inner]
        if any((child[inner] <= number).any() or (child >= len(left)).any() for child in (left, right)):
            raise ValueError("the nodes of a tree form no tree")
        return cls(left, right, feature, value)

    @property
    def depth(self) -> int:
        import numpy as np

        level, depth = np.zeros(1, np.int64), 0
        while (inner := level[self.left[level] >= 0]).size:
            level, depth = np.concatenate([self.left[inner], self.right[inner]]), depth + 1
            if depth > _DEEPEST:
                raise ValueError(f"a tree is deeper than {_DEEPEST} levels")
        return depth

    def complete(self, depth: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return features, thresholds and leaves of the complete tree; a leaf on the way is its own two children."""
        import numpy as np

        features, thresholds = [np.zeros(0, np.int16)], [np.zeros(0, np.float32)]
        level = np.zeros(1, np.int64)
        for _ in range(depth):
            inner = self.left[level] >= 0
            features.append(np.where(inner, self.feature[level], 0).astype(np.int16))
            thresholds.append(np.where(inner, self.value[level], np.inf).astype(np.float32))
            children = [np.where(inner, side[level], level) for side in (self.left, self.right)]
            level = np.stack(children, 1).reshape(-1)
        return np.concatenate(features), np.concatenate(thresholds), self.value[level]
