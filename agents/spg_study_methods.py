"""What the study of Sequential Policy Gradient compares, and one cell of it: every method on one task with one seed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agents.spg import SequentialPolicyGradient
from agents.spg_controls import DeepSupervision, HeadDropout, Unattached
from agents.spg_models import Classifier
from agents.spg_settings import SPGSettings, TrainingSettings
from agents.spg_tasks import SplitTask, load_task, split_task
from agents.spg_training import Attach, ModelTraining, with_replicas
from agents.task_replica import cumulative_dropout
from hpo_gym.seeding import generator

__all__ = ["CONTROLS", "REGIMES", "SPG_FORMS", "Regime", "run_cell", "search_epochs", "study_training"]

_SETTINGS = SPGSettings()
#: Plain dropout at the rate of each replica, and none.
RATES = (0.0, *(round(cumulative_dropout(_SETTINGS.rate, replica), 3) for replica in range(1, 4)))
_HIGHEST_RATE = 0.6
#: Candidates of the random search.
CANDIDATES = 3

#: SPG's forms by the name they have in the study.
SPG_FORMS: dict[str, SPGSettings] = {
    "spg_paper": _SETTINGS,
    "spg_released": replace(_SETTINGS, form="released"),
    "spg_gradient": replace(_SETTINGS, loss="policy_gradient"),
    "spg_layers": replace(_SETTINGS, search="layers"),
}
# What is left of SPG without one of its parts.
_PARTS: dict[str, SPGSettings] = {
    "heads_without_masks": replace(_SETTINGS, form="released", loss="unmasked"),
    "masks_without_dropout": replace(_SETTINGS, form="released", dropout=0.0),
}


def _dropout_name(rate: float) -> str:
    return f"dropout_{rate:.2f}" if rate else "none"


#: What SPG is compared with.
CONTROLS = (
    *(_dropout_name(rate) for rate in RATES),
    "dropout_grid",
    "dropout_search",
    "deep_supervision",
    *_PARTS,
)

#: CPU seconds of SPG's epochs over those of the network alone, measured beforehand with one thread: what a random
#: search of equal compute may spend.
COST = {
    "digits-mlp": 2.6,
    "digits-cnn": 1.6,
    "scipy-docs-transformer": 1.7,
    "breast-cancer-mlp": 2.8,
    "wine-mlp": 2.2,
}

# As large a step as these small networks take without harm, and batches that keep the study short.
_BATCH_SIZE, _LEARNING_RATE = 64, 2e-3


@dataclass(frozen=True)
class Regime:
    """When SPG begins: after a training without it, as in the paper, or at once.

    Args:
        pretrain_epochs: Epochs before, the same for all methods.
        epochs: Epochs of each method.
    """

    pretrain_epochs: int
    epochs: int


REGIMES = {"retrained": Regime(30, 20), "from scratch": Regime(0, 30)}


def search_epochs(task: str, epochs: int) -> int:
    """Return the epochs that each candidate of the random search has."""
    return max(1, round(COST[task] * epochs / CANDIDATES))


def study_training(task: str, regime: Regime, device: str = "cpu") -> TrainingSettings:
    """Return the training that all methods share."""
    return TrainingSettings(
        task=task,
        pretrain_epochs=regime.pretrain_epochs,
        epochs=regime.epochs,
        batch_size=_BATCH_SIZE,
        learning_rate=_LEARNING_RATE,
        device=device,
    )


def run_cell(task: str, seed: int, regime: Regime, device: str = "cpu") -> dict[str, dict[str, float]]:
    """Train with every method and return what each reaches.

    All begin with the same weights, and see the same batches in the same order.

    Returns:
        By method (``start``: before any of them; not from scratch) and by figure: ``error`` and ``cross_entropy`` on
        the test part, ``validation_error``, ``seconds`` (of the CPU; of the clock on a GPU), and for SPG
        ``replicas_moved``, the largest change of a weight of its replicas.
    """
    data = split_task(load_task(task), seed)
    settings = study_training(task, regime, device)
    cell = _Cell(settings, data, seed)
    found: dict[str, dict[str, float]] = {}
    if cell.start is not None:
        found["start"] = cell.at_start
    for rate in RATES:
        found[_dropout_name(rate)] = cell.train(_dropout(rate))
    grid = [found[_dropout_name(rate)] for rate in RATES]
    found["dropout_grid"] = _best(grid)
    draws = generator(seed, "spg", "search")
    rates = (_HIGHEST_RATE * torch.rand(CANDIDATES, generator=draws, dtype=torch.float64)).tolist()
    epochs = search_epochs(task, regime.epochs)
    found["dropout_search"] = _best([cell.train(_dropout(rate), epochs) for rate in rates])
    found["deep_supervision"] = cell.train(_deep_supervision)
    for name, spg in {**_PARTS, **SPG_FORMS}.items():
        found[name] = cell.train(with_replicas(spg))
    return found


def _dropout(rate: float) -> Attach:
    if rate == 0.0:
        return lambda model, seed: Unattached()
    return lambda model, seed: HeadDropout(model, model.head, rate, seed)


def _deep_supervision(model: Classifier, seed: int) -> DeepSupervision:
    return DeepSupervision(list(model.stages), model.widths, model.head.out_features, _SETTINGS.weights, seed)


def _best(tried: list[dict[str, float]]) -> dict[str, float]:
    """Return what has the lowest validation error, then cross-entropy; it has cost as much as all of them together."""
    best = min(tried, key=lambda one: (one["validation_error"], one["validation_cross_entropy"]))
    return {**best, "seconds": sum(one["seconds"] for one in tried)}


class _Cell:
    """Trainings with one seed on one task, which all begin with the same weights."""

    def __init__(self, settings: TrainingSettings, data: SplitTask, seed: int) -> None:
        self._settings, self._data, self._seed = settings, data, seed
        self.start: Mapping[str, Tensor] | None = None
        self.at_start: dict[str, float] = {}
        if settings.pretrain_epochs:
            before = ModelTraining(settings, data, _dropout(0.0), seed)
            seconds = _seconds(before, settings.pretrain_epochs)
            self.start = {name: value.clone() for name, value in before.model.state_dict().items()}
            self.at_start = {**_measured(before), "seconds": seconds}

    def train(self, attach: Attach, epochs: int | None = None) -> dict[str, float]:
        """Train with something attached and return what is reached."""
        settings = self._settings if epochs is None else replace(self._settings, epochs=epochs)
        training = ModelTraining(settings, self._data, attach, self._seed, self.start)
        attached = training.attachment
        replicas = attached.replicas if isinstance(attached, SequentialPolicyGradient) else None
        before = [] if replicas is None else [weight.detach().clone() for weight in replicas.parameters()]
        found = {"seconds": _seconds(training, training.total), **_measured(training)}
        if replicas is not None:
            after = replicas.parameters()
            moved = [float((now - then).detach().abs().max()) for now, then in zip(after, before, strict=True)]
            found["replicas_moved"] = max(moved)
        return found


def _seconds(training: ModelTraining, until: int) -> float:
    """Train up to an epoch and return the seconds that took."""
    # Of the CPU, because other processes may share it; the clock's include them, but a GPU's work is only in those.
    clock = time.process_time if training.device.type == "cpu" else time.perf_counter
    begun = clock()
    while training.epoch < until:
        training.run_epoch()
    return clock() - begun


def _measured(training: ModelTraining) -> dict[str, float]:
    test, validation = training.measure("test"), training.measure("validation")
    return {
        "error": test.error,
        "cross_entropy": test.cross_entropy,
        "validation_error": validation.error,
        "validation_cross_entropy": validation.cross_entropy,
    }
