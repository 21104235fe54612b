"""Real datasets that need no download, each with a small network: what Sequential Policy Gradient trains.

Images, a table and text: handwritten digits, breast cancer and wine come with scikit-learn; the text is that of SciPy's
own documentation, where the task is to tell from the beginning of a function's description which package it is in.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from agents.spg_models import Classifier, convolutional, perceptron, transformer
from hpo_gym.errors import InvalidSettingError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import stream_seed

if TYPE_CHECKING:
    import numpy as np

__all__ = ["TASKS", "LearningTask", "SplitTask", "load_task", "split_task"]

#: Shares of the examples that are trained on, validated on and tested on.
SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}

# Words of the text task: as many as are read, and the buckets they are hashed to (0 is the padding). Hashing needs no
# vocabulary, so that none can be learned from test examples.
_WORDS, _BUCKETS = 24, 1024
_PACKAGES = ("fft", "integrate", "interpolate", "linalg", "ndimage", "optimize", "signal", "sparse", "special", "stats")


@dataclass(frozen=True)
class LearningTask:
    """A dataset and a network for it.

    Args:
        name: One of :data:`TASKS`.
        inputs: ``[N, ...]``, float32 or (text) int64.
        targets: Classes, int64 ``[N]``.
        classes: ``C``.
        scaled: Whether columns have scales of their own, so that they are to be standardised.
        make: Makes the network, with weights of the global generator.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    classes: int
    scaled: bool
    make: Callable[[], Classifier]

    @property
    def checksum(self) -> str:
        """SHA-256 of the examples: the text is another one with another SciPy."""
        content = hashlib.sha256()
        for part in (self.inputs, self.targets):
            content.update(part.contiguous().numpy().tobytes())
        return content.hexdigest()

    def model(self, seed: int) -> Classifier:
        """Return the network with initial weights of one stream."""
        with seeded(stream_seed(seed, "spg", "weights")):
            return self.make()


@dataclass(frozen=True)
class SplitTask:
    """A task whose examples are split into ``train``, ``validation`` and ``test``.

    Args:
        task: The whole.
        inputs: By part; standardised with the training part's means and deviations where columns have scales.
        targets: By part.
    """

    task: LearningTask
    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]


def split_task(task: LearningTask, seed: int) -> SplitTask:
    """Return the task with its examples split by :data:`SHARES`, classes in proportion.

    Raises:
        InvalidSettingError: If scikit-learn is not installed.
    """
    train_test_split = _sklearn("model_selection").train_test_split
    labels = task.targets.numpy()
    state = stream_seed(seed, "spg", "split") % 2**32
    rest, test = train_test_split(range(len(labels)), test_size=SHARES["test"], random_state=state, stratify=labels)
    share = SHARES["validation"] / (1.0 - SHARES["test"])
    train, validation = train_test_split(rest, test_size=share, random_state=state, stratify=labels[rest])
    rows = {"train": train, "validation": validation, "test": test}
    inputs = {part: task.inputs[index] for part, index in rows.items()}
    if task.scaled:
        mean, deviation = inputs["train"].mean(0), inputs["train"].std(0).clamp_min(1e-6)
        inputs = {part: (values - mean) / deviation for part, values in inputs.items()}
    return SplitTask(task, inputs, {part: task.targets[index] for part, index in rows.items()})


def load_task(name: str) -> LearningTask:
    """Return a task of :data:`TASKS`.

    Raises:
        InvalidSettingError: If scikit-learn is not installed.
    """
    return TASKS[name](name)


def _sklearn(module: str) -> Any:
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ModuleNotFoundError as error:
        raise InvalidSettingError(
            "SPG's tasks are scikit-learn's datasets, and scikit-learn is not installed. Install it: "
            "`pip install scikit-learn`; SequentialPolicyGradient itself trains any model on any data without it."
        ) from error


def _tensors(inputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
    return torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(targets, dtype=torch.int64)


def _digits_mlp(name: str) -> LearningTask:
    data = _sklearn("datasets").load_digits()
    inputs, targets = _tensors(data.data / 16.0, data.target)
    return LearningTask(name, inputs, targets, 10, False, lambda: perceptron(64, 10, (64, 64)))


def _digits_cnn(name: str) -> LearningTask:
    data = _sklearn("datasets").load_digits()
    inputs, targets = _tensors(data.images[:, None] / 16.0, data.target)
    return LearningTask(name, inputs, targets, 10, False, lambda: convolutional(8, 10, (8, 16), 64))


def _table(name: str) -> LearningTask:
    loaders = {"breast-cancer-mlp": "load_breast_cancer", "wine-mlp": "load_wine"}
    data = getattr(_sklearn("datasets"), loaders[name])()
    inputs, targets = _tensors(data.data, data.target)
    classes = len(data.target_names)
    return LearningTask(name, inputs, targets, classes, True, lambda: perceptron(inputs.shape[1], classes, (32, 32)))


def _text(name: str) -> LearningTask:
    found: dict[tuple[int, ...], int] = {}
    for label, package in enumerate(_PACKAGES):
        module = importlib.import_module(f"scipy.{package}")
        for member in sorted(module.__all__):
            tokens = _tokens(getattr(module, member).__doc__ or "")
            # What two packages describe in the same words belongs to the first alone.
            if len(tokens) > 1:
                found.setdefault(tuple(tokens), label)
    rows = [list(tokens) + [0] * (_WORDS - len(tokens)) for tokens in found]
    inputs, targets = torch.tensor(rows), torch.tensor(list(found.values()))
    classes = len(_PACKAGES)
    return LearningTask(name, inputs, targets, classes, False, lambda: transformer(_BUCKETS, _WORDS, classes, 32, 1))


def _tokens(documentation: str) -> list[int]:
    """Return the first words of a description as numbers; signatures are no description."""
    body = re.split(r"\n\s*(?:Parameters|Returns|Notes|Examples|Attributes|Methods)\s*\n\s*-{3,}", documentation)[0]
    paragraphs = [part for part in re.split(r"\n\s*\n", body) if not re.match(r"\s*\w+\(", part)]
    # An instance of a class says so in a sentence that only scipy.stats has.
    text = re.sub(r"As an instance of the .*", "", " ".join(" ".join(paragraphs).split()))
    words = re.findall(r"[a-z]+", text.lower())[:_WORDS]
    return [1 + int(hashlib.sha256(word.encode()).hexdigest(), 16) % (_BUCKETS - 1) for word in words]


#: Makers of the tasks by name.
TASKS: dict[str, Callable[[str], LearningTask]] = {
    "digits-mlp": _digits_mlp,
    "digits-cnn": _digits_cnn,
    "scipy-docs-transformer": _text,
    "breast-cancer-mlp": _table,
    "wine-mlp": _table,
}
