"""Gradient-boosted regression trees of many tasks as one batched objective."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.surrogates.base import Metric, Surrogate
from hpo_gym.surrogates.xgboost_json import BoostedTrees

__all__ = ["TREE_TENSORS", "TreeSurrogate", "stack_trees"]

# So many (row, tree) pairs are walked at a time.
_CHUNK_PAIRS = 250_000

#: Names of the tensors that a :class:`TreeSurrogate` consists of.
TREE_TENSORS = ("feature", "threshold", "leaf", "base", "logistic")


def stack_trees(tasks: Sequence[BoostedTrees]) -> dict[str, Tensor]:
    """Return the trees of ``N`` tasks as tensors by name, filled up to the most trees and the deepest one.

    Returns:
        ``feature`` int16 and ``threshold`` float32 ``[N, R, 2**depth - 1]``, ``leaf`` float32 ``[N, R, 2**depth]``,
        ``base`` float32 ``[N]`` and ``logistic`` bool ``[N]``, as in :class:`BoostedTrees`.
    """
    trees, depth = max(len(task.leaf) for task in tasks), max(1, *(task.depth for task in tasks))
    filled = [task.deepened(trees, depth) for task in tasks]
    arrays = ("feature", "threshold", "leaf")
    stacked = {name: torch.stack([torch.from_numpy(getattr(task, name)) for task in filled]) for name in arrays}
    stacked["base"] = torch.tensor([task.base for task in tasks], dtype=torch.float32)
    stacked["logistic"] = torch.tensor([task.logistic for task in tasks])
    return stacked


class TreeSurrogate(Surrogate):
    """Answers with the prediction of a task's trees; agrees with XGBoost's own up to the order of its sums (1e-6).

    The answer is piecewise constant, so that it has no gradient.

    Args:
        tensors: What :func:`stack_trees` returns.
        num_hyperparameters: ``D``: all features are hyperparameters.
        metric: What the trees predict.

    Raises:
        InvalidSettingError: If a tree asks for a feature that there is not.
    """

    feature: Tensor
    threshold: Tensor
    leaf: Tensor
    base: Tensor
    logistic: Tensor

    def __init__(self, tensors: dict[str, Tensor], num_hyperparameters: int, metric: Metric) -> None:
        super().__init__()
        self.metrics = (metric,)
        self.num_tasks, self.num_hyperparameters = len(tensors["base"]), num_hyperparameters
        if int(tensors["feature"].max()) >= num_hyperparameters:
            raise InvalidSettingError(
                f"The trees ask for feature {int(tensors['feature'].max())}, the space has {num_hyperparameters}."
            )
        for name in TREE_TENSORS:
            self.register_buffer(name, tensors[name])
        self.feature = self.feature.int()
        self._depth = int(self.leaf.shape[2]).bit_length() - 1
        # Half as wide numbers are walked twice as fast; on the way they grow to twice the largest.
        self._number = torch.int32 if self.leaf.numel() < 2**30 else torch.int64
        self._any_logistic = bool(self.logistic.any())

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        chunk = max(1, _CHUNK_PAIRS // self.leaf.shape[1])
        parts = [self._walk(*part) for part in zip(task.split(chunk), u.split(chunk), strict=True)]
        return torch.cat(parts)[:, None]

    def _walk(self, task: Tensor, u: Tensor) -> Tensor:
        batch, dimension = u.shape
        trees, leaves = self.leaf.shape[1:]
        # Everything is flat, and numbers point into the tensors of all tasks: [B * R].
        count = torch.arange(max(batch, trees), dtype=self._number, device=u.device)
        tree = ((task * trees).to(self._number)[:, None] + count[:trees]).view(-1)
        row = (count[:batch] * dimension).repeat_interleave(trees)
        first = tree * (leaves - 1)
        features, thresholds, values = self.feature.view(-1), self.threshold.view(-1), u.reshape(-1)
        node, turn = first.clone(), 1 - first
        for _ in range(self._depth):
            asked = values.index_select(0, features.index_select(0, node).add_(row))
            second = asked >= thresholds.index_select(0, node)
            # From first + i to first + 2 i + 1, or to the node after it.
            node = node.mul_(2).add_(turn).add_(second)
        # Leaves are counted on behind the nodes of their tree, which has one node less.
        leaf = self.leaf.view(-1).index_select(0, node.sub_(leaves - 1).add_(tree))
        value = self.base[task] + leaf.view(batch, trees).sum(1)
        return torch.where(self.logistic[task], value.sigmoid(), value) if self._any_logistic else value
