"""Training in several processes that ``torchrun`` starts: one policy, gradients averaged, as in data parallelism.

Every process plays environments of its own and holds a copy of the policy; copies stay equal because all begin alike
and take the same steps. The first process alone measures, writes and prints. Without ``torchrun`` there is one process,
and nothing here does anything.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import stream_seed

__all__ = ["OTHERS", "Processes", "is_first_process", "join_processes"]

#: Where a checkpoint holds the parts of all processes but the first.
OTHERS = "others"


def is_first_process() -> bool:
    """Return whether this process is the one that measures, writes and prints."""
    return int(os.environ.get("RANK", "0")) == 0


class Processes:
    """The processes that train one policy.

    Args:
        rank: Which one this is, from 0 on.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def device(self, name: str) -> str:
        """Return the device of this process: of several GPUs, each process has its own."""
        own = name == "cuda" and self.size > 1
        return f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}" if own else name

    def seed(self, seed: int) -> int:
        """Return the seed of this process's environments: the run's own in the first."""
        return seed if self.rank == 0 else stream_seed(seed, "process", self.rank)

    def own(self, checkpoint: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
        """Return the part of a checkpoint that this process saved of itself.

        Args:
            checkpoint: What :meth:`gather` gave lies under :data:`OTHERS`.
            path: Its file, for the message.

        Raises:
            InvalidSettingError: If there were more or fewer processes.
        """
        parts = [checkpoint, *checkpoint.get(OTHERS, [])]
        if len(parts) != self.size:
            raise InvalidSettingError(
                f"{path} is of {len(parts)} process(es), and there are {self.size}. Resume with "
                + (f"`torchrun --nproc-per-node {len(parts)} train.py" if len(parts) > 1 else "`python train.py")
                + " resume=...`."
            )
        own: Mapping[str, Any] = parts[self.rank]
        return own

    def any(self, flag: bool) -> bool:
        """Return whether it is true in any process; all must ask."""
        if self.size == 1:
            return flag
        asked = torch.tensor(float(flag))
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
        return bool(asked)

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.any(False)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients of parameters by their mean over processes; one without is 0."""
        if self.size == 1:
            return
        chosen = list(parameters)
        for parameter in chosen:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in chosen if parameter.grad is not None]
        # One message: a small network has many small tensors.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def gather(self, state: Any) -> list[Any]:
        """Return what the other processes hold, in the first process; nothing in the others. All must call."""
        if self.size == 1:
            return []
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        torch.distributed.gather_object(state, found)
        return [] if found is None else found[1:]


def join_processes() -> Processes:
    """Return the processes that ``torchrun`` started, or this one alone.

    Raises:
        InvalidSettingError: If this torch cannot talk to other processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Processes()
    if not torch.distributed.is_available():
        raise InvalidSettingError(
            "This torch was built without torch.distributed, and torchrun started several processes. Start train.py "
            "with python instead."
        )
    if not torch.distributed.is_initialized():
        # Flags and states travel from CPU to CPU, gradients from where they are.
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(torch.distributed.destroy_process_group)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return Processes(torch.distributed.get_rank(), size)
