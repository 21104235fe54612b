"""What decides how Sequential Policy Gradient trains, and what ``python train.py agent=spg`` trains."""

from __future__ import annotations

from dataclasses import dataclass

from agents.spg_tasks import TASKS
from agents.task_replica import FORMS, SEARCHES
from hpo_gym.errors import InvalidSettingError, require_booleans, require_integer, unknown_name

__all__ = ["LOSSES", "SPGConfig", "SPGSettings", "TrainingSettings"]

#: How the stages' losses become one.
LOSSES = ("masked", "unmasked", "policy_gradient")

_DROPOUT = 0.2


@dataclass(frozen=True)
class SPGSettings:
    """What decides how SPG trains.

    Args:
        search: What replicas differ in: ``dropout`` (each loses more features) or ``layers`` (each adds some).
        form: ``paper`` (replicas learn) or ``released`` (they never get a gradient; see the documentation).
        loss: ``masked``: a stage's mean loss over the examples that reached it, times its weight. ``unmasked``: over
            all examples, which is no trajectory any more but a control. ``policy_gradient``: each example's summed
            losses times its return.
        weights: ``lambda_1 .. lambda_T``; their number is that of the replicas.
        dropout: Rate of each replica on what the one before it left, in ``[0, 1)``; ``None``: 0.2 for ``dropout``, and
            0 for ``layers``.
        depth: Layers of a replica.
        top_k: A prediction is right if the target is among so many of its classes.
        normalise: Whether to multiply the loss by ``exp(L_0 - L)``, without a gradient, which keeps the size of a step
            near that of the network alone. The released form for dropout has it without effect.
    """

    search: str = "dropout"
    form: str = "paper"
    loss: str = "masked"
    weights: tuple[float, ...] = (0.4, 0.2, 0.1)
    dropout: float | None = None
    depth: int = 1
    top_k: int = 1
    normalise: bool = False

    def __post_init__(self) -> None:
        require_booleans(self)
        for kind, name, allowed in (
            ("search", self.search, SEARCHES),
            ("form", self.form, FORMS),
            ("loss", self.loss, LOSSES),
        ):
            if name not in allowed:
                raise unknown_name(kind, name, allowed)
        numbers = isinstance(self.weights, tuple | list) and all(0.0 <= each < float("inf") for each in self.weights)
        if not self.weights or not numbers:
            raise InvalidSettingError(
                f"weights={self.weights!r} must be one finite number >= 0 per replica, and at least one. The released "
                "settings are weights=[0.4,0.2,0.1]."
            )
        if self.dropout is not None and not 0.0 <= self.dropout < 1.0:
            raise InvalidSettingError(f"dropout={self.dropout!r} must lie in [0, 1); the released settings have 0.2.")
        require_integer("depth", self.depth, 1)
        require_integer("top_k", self.top_k, 1)

    @property
    def rate(self) -> float:
        """Dropout of each replica."""
        if self.dropout is not None:
            return self.dropout
        return _DROPOUT if self.search == "dropout" else 0.0


@dataclass(frozen=True)
class TrainingSettings:
    """A training of a network on a dataset, in two phases: alone, then with SPG or what it is compared with.

    The second phase begins with a new optimiser and learning rate, as the paper's retraining of published weights does.

    Args:
        task: Dataset and network: one of :data:`agents.spg_tasks.TASKS`.
        pretrain_epochs: Passes over the training examples without SPG; 0: SPG trains from the first one.
        epochs: Passes with it.
        batch_size: Examples per gradient step.
        learning_rate: Of Adam, at the beginning of each phase.
        weight_decay: Of AdamW.
        decay_every: Epochs between decays of the learning rate.
        decay_factor: What it is multiplied with then.
        device: Where the network is trained: ``cpu`` or ``cuda``.
    """

    task: str = "digits-mlp"
    pretrain_epochs: int = 20
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 4e-5
    decay_every: int = 10
    decay_factor: float = 0.5
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown_name("task", self.task, TASKS)
        for name, least in (("pretrain_epochs", 0), ("epochs", 1), ("batch_size", 1), ("decay_every", 1)):
            require_integer(name, getattr(self, name), least)
        if not 0.0 < self.learning_rate < float("inf") or not 0.0 <= self.weight_decay < float("inf"):
            raise InvalidSettingError(
                f"learning_rate={self.learning_rate!r} must be above 0 and weight_decay={self.weight_decay!r} not "
                "below it; 0.001 and 0.00004 are usual."
            )
        if not 0.0 < self.decay_factor <= 1.0:
            raise InvalidSettingError(f"decay_factor={self.decay_factor!r} must lie in (0, 1]; 1 keeps the rate.")


@dataclass(frozen=True)
class SPGConfig(SPGSettings, TrainingSettings):
    """``agent.<name>=`` of ``python train.py agent=spg``: how SPG trains, and what it trains.

    Args:
        checkpoint_every: Epochs between checkpoints.
    """

    checkpoint_every: int = 5

    def __post_init__(self) -> None:
        SPGSettings.__post_init__(self)
        TrainingSettings.__post_init__(self)
        require_integer("checkpoint_every", self.checkpoint_every, 1)
