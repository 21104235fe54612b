"""Contenders with a memory that worker processes can load: classes of a module."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hpo_gym.evaluation import EpisodicContender
from hpo_gym.evaluation.contender import Act
from hpo_gym.mdp.observations import Observation


@dataclass
class Climber:
    """Steps from the best configuration so far, which it remembers; it fails or dies where it is told to."""

    width: int
    raises_at: int | None = None
    dies_at: int | None = None
    pause: float = 0.0
    log: str | None = None
    seen: list[float] = field(default_factory=list)
    best: Tensor | None = None

    def __call__(self, observation: Observation, mask: Tensor | None, draws: torch.Generator) -> Tensor:
        assert isinstance(observation, dict)
        trials = int(observation["mask"].sum())
        if self.log is not None:
            with Path(self.log).open("a") as lines:
                lines.write(f"{os.getpid()} {trials}\n")
        if trials == self.raises_at:
            raise ArithmeticError(f"it was told to fail at trial {trials}")
        if trials == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.pause)
        score = float(observation["score"][0, trials - 1])
        if not self.seen or score > max(self.seen):
            self.best = observation["u"].view(-1, self.width)[trials - 1]
        self.seen.append(score)
        assert self.best is not None
        return (self.best + 0.2 * torch.randn(1, self.width, generator=draws)).clamp(0.0, 1.0)


@dataclass(frozen=True)
class BeginsClimbing:
    """Begins episodes of a :class:`Climber`."""

    width: int = 2
    raises_at: int | None = None
    dies_at: int | None = None
    pause: float = 0.0
    log: str | None = None

    def __call__(self) -> Act:
        return Climber(self.width, self.raises_at, self.dies_at, self.pause, self.log)


def climber(name: str = "climber", **settings: object) -> EpisodicContender:
    """Return a contender that climbs."""
    begins = BeginsClimbing(**settings)  # type: ignore[arg-type]
    plain = {key: value for key, value in settings.items() if key not in ("pause", "log")}
    return EpisodicContender(name, "", "continuous", "history", begins, {"settings": plain})
