"""The identity of a task: an OpenML *task* id is not an OpenML *dataset* id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hpo_gym.errors import unknown_name

__all__ = ["TaskKind", "TaskRef"]

TaskKind = Literal["openml-dataset", "openml-task", "synthetic", "custom"]


@dataclass(frozen=True, order=True)
class TaskRef:
    """A task, named by the kind of its id and the id.

    Args:
        kind: ``"openml-dataset"`` (YAHPO ``rbv2_*`` and ``iaml_*``), ``"openml-task"`` (lcbench and
            genuine OpenML runs), ``"synthetic"`` or ``"custom"`` (a user's own table).
        id: The id, as a string.

    Raises:
        UnknownNameError: If ``kind`` is none of the above.
    """

    kind: TaskKind
    id: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise unknown_name("task kind", self.kind, get_args(TaskKind))

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> TaskRef:
        """Read ``"openml-dataset:31"`` back into a ``TaskRef``."""
        kind, _, identity = text.partition(":")
        return cls(kind, identity)  # type: ignore[arg-type]
