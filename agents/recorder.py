"""The curves of a training run: means over ended episodes, for the display, the result and TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["Recorder"]


class Recorder:
    """Collects what ended episodes report and writes it to TensorBoard.

    Args:
        path: Folder of the event files.
        done: Transitions made by earlier parts of the run; points beyond them belong to a part that was lost.
        every: Transitions between points.
        tensorboard: Whether to write events.
    """

    def __init__(self, path: Path, done: int, every: int, tensorboard: bool = True) -> None:
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            _wait_for_the_next_second(path)
            # TensorBoard drops points of earlier files from this step on.
            self._writer = SummaryWriter(str(path), purge_step=done + 1 if done else 0)
        self._every = every
        self._next = (done // every + 1) * every
        self._sums: dict[str, Tensor] = {}
        self._episodes = 0
        self.figures: dict[str, float] = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def validated(self, steps: int, regret: float) -> None:
        """Take in a measurement on the validation split."""
        self.figures["validation"] = regret
        if self._writer is not None:
            self._writer.add_scalar("validation/regret", regret, steps)

    def add(self, steps: int, logs: Mapping[str, float | Tensor], info: Mapping[str, Any], speed: float) -> bool:
        """Take in a step; return whether the figures are new."""
        if "_episode" in info:
            ended = info["_episode"]
            parts = {"return": info["episode"]["r"], "incumbent": info["final_info"]["incumbent"]}
            if "regret" in info["final_info"]:
                parts["regret"] = info["final_info"]["regret"]
            for name, values in parts.items():
                before = self._sums.get(name, torch.zeros(())).to(ended.device)
                self._sums[name] = before + values[ended].sum()
            self._episodes += int(ended.sum())
        if steps < self._next:
            return False
        self._next = (steps // self._every + 1) * self._every
        if self._episodes:
            self.figures |= {name: float(total) / self._episodes for name, total in self._sums.items()}
            self._sums, self._episodes = {}, 0
        self.figures |= {name: float(logs[name]) for name in ("epsilon", "loss") if name in logs}
        if self._writer is not None:
            for name in ("return", "incumbent", "regret"):
                if math.isfinite(self.figures.get(name, math.nan)):
                    self._writer.add_scalar(f"episode/{name}", self.figures[name], steps)
            for name, value in logs.items():
                self._writer.add_scalar(f"agent/{name}", float(value), steps)
            self._writer.add_scalar("time/steps_per_second", speed, steps)
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to report what an unbroken one would; every point so far is on disk then."""
        if self._writer is not None:
            self._writer.flush()
        return {"sums": dict(self._sums), "episodes": self._episodes, "figures": dict(self.figures)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`."""
        self._sums, self._episodes = dict(saved["sums"]), int(saved["episodes"])
        self.figures = {name: float(value) for name, value in saved["figures"].items()}


def _wait_for_the_next_second(path: Path) -> None:
    """Wait until a new event file comes after those that are there.

    TensorBoard reads files in the order of their names, which begin with the second they were made in: of two of one
    second, the one of the higher process number would come last, whichever is newer.
    """
    made = [name.split(".")[3] for name in (file.name for file in path.glob("events.out.tfevents.*"))]
    latest = max((int(second) for second in made if second.isdigit()), default=0)
    # Not "<=": a clock that was set back is not waited for.
    while int(time.time()) == latest:
        time.sleep(0.02)
