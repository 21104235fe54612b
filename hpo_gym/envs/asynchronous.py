"""Episodes that advance each at its own pace: where evaluations take time, nobody waits for the slowest."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from operator import index
from types import TracebackType
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from hpo_gym.envs.vector import HPOVectorEnv
from hpo_gym.errors import InvalidActionError, InvalidSettingError, require_integer
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import fresh_seed, stream_seed

__all__ = ["Arrivals", "AsynchronousEnv"]


@dataclass(frozen=True)
class Arrivals:
    """What came back from some rows, ``R`` of them; everything is in the order of ``rows``.

    Args:
        rows: Which rows, int64 ``[R]``, rising.
        observation, reward, terminated, truncated, info: What :meth:`hpo_gym.envs.HPOVectorEnv.step` returns, of a
            batch of ``R``: rows whose episode ended have begun again.
    """

    rows: Tensor
    observation: Observation
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    info: dict[str, Any]


class AsynchronousEnv:
    """The rows of a vector environment without a common step: send actions to some, receive from whichever is done.

    The interface is that of EnvPool (Weng et al. 2022, arXiv 2206.10558)::

        with AsynchronousEnv(gym.make_vec("HPO-Live-v0", num_envs=8)) as env:
            observation, info = env.reset(seed=0)
            env.send(act(observation), range(8))
            for _ in range(100):
                arrived = env.recv(least=1)
                env.send(act(arrived.observation), arrived.rows)

    Every row draws from a stream of its own, so that its episodes do not depend on the order of arrival. A thread per
    row waits for its evaluation; the evaluations themselves are made where the suite makes them.

    Args:
        env: Says how many rows there are, on which tasks, by which rules; it is not used itself.

    Raises:
        InvalidSettingError: If it is no vector environment of this package.
    """

    def __init__(self, env: Any) -> None:
        template = getattr(env, "unwrapped", env)
        if not isinstance(template, HPOVectorEnv):
            raise InvalidSettingError(
                f"AsynchronousEnv needs an HPOVectorEnv, got {type(template).__name__}. Make one with gym.make_vec."
            )
        engine = template.engine
        arguments: dict[str, Any] = {"split": engine.split, "protocol": engine.protocol, "device": engine.device}
        arguments |= {"max_tasks": engine.max_tasks, "tasks_seed": engine.tasks_seed}
        # No copies: a start_configuration may be any mapping.
        arguments |= {each.name: getattr(engine.settings, each.name) for each in fields(engine.settings)}
        self.num_envs = template.num_envs
        self.suite, self.device = template.suite, template.device
        self.single_observation_space = template.single_observation_space
        self.single_action_space = template.single_action_space
        self._engine = engine
        self._rows = [HPOVectorEnv(1, source=self.suite, **arguments) for _ in range(self.num_envs)]
        self._threads = ThreadPoolExecutor(self.num_envs, thread_name_prefix="hpo_gym row")
        self._arrived: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._under_way: set[int] = set()
        self._begun = False
        self._closed = False

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every row; what is under way is waited for, and forgotten.

        Args:
            seed: Root of all rows' streams; ``None``: a fresh one at the first reset, later the streams go on.
            options: Which task or start, for every row alike (see :meth:`HPOVectorEnv.reset`).
        """
        self._require_open()
        while self._under_way:
            self._next()
        root = fresh_seed() if seed is None and not self._begun else seed

        def begin(row: int) -> Any:
            own = None if root is None else stream_seed(root, "asynchronous", row)
            return self._rows[row].reset(seed=own, options=None if options is None else dict(options))

        results = list(self._threads.map(begin, range(self.num_envs)))
        self._begun = True
        return _joined([result[0] for result in results]), _joined([result[1] for result in results])

    def send(self, actions: Any, rows: Sequence[int] | Tensor | None = None) -> None:
        """Let some rows take a step.

        Args:
            actions: One per row: int64 ``[R]`` or float32 ``[R, action_dimension]``.
            rows: Which, in the same order; ``None``: all.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
            gymnasium.error.ClosedEnvironmentError: After :meth:`close`, as by :meth:`reset`.
            InvalidActionError: For a wrong shape, dtype or range, or a row that does not exist, is named twice or is
                still under way; then no row takes a step.
        """
        self._require_open()
        if not self._begun:
            raise gym.error.ResetNeeded("Call env.reset() before anything else.")
        chosen = list(range(self.num_envs)) if rows is None else _row_numbers(rows)
        for row in chosen:
            if not 0 <= row < self.num_envs or chosen.count(row) > 1 or row in self._under_way:
                raise InvalidActionError(
                    f"rows={chosen}: row {row} must lie in 0 .. {self.num_envs - 1}, be named once, and not be under "
                    f"way (as {sorted(self._under_way)} are now). Receive it first."
                )
        checked = self._engine.check_action(actions, len(chosen))
        for row, action in zip(chosen, checked, strict=True):
            self._under_way.add(row)
            self._threads.submit(self._step, row, action[None])

    def recv(self, least: int = 1) -> Arrivals:
        """Wait until ``least`` rows are done, and return them and all others that are.

        Raises:
            InvalidSettingError: If fewer rows than that are under way.
            BaseException: What the step of a row raised; the others are returned by the next call.
        """
        require_integer("least", least, 1)
        if least > len(self._under_way):
            raise InvalidSettingError(
                f"least={least}, but {len(self._under_way)} row(s) are under way. Send actions to more rows first, or "
                "ask for fewer."
            )
        results: dict[int, Any] = {}
        while len(results) < least or not self._arrived.empty():
            row, result = self._next()
            if isinstance(result, BaseException):
                # What other rows have done is not lost: the next call returns it.
                for finished in results.items():
                    self._under_way.add(finished[0])
                    self._arrived.put(finished)
                raise result
            results[row] = result
        ordered = [results[row] for row in sorted(results)]
        observation, reward, terminated, truncated, info = (_joined(parts) for parts in zip(*ordered, strict=True))
        rows = torch.tensor(sorted(results), device=self.device)
        return Arrivals(rows, observation, reward, terminated, truncated, info)

    def close(self) -> None:
        """Wait for what is under way, and give back the threads."""
        self._closed = True
        self._threads.shutdown()

    def __enter__(self) -> AsynchronousEnv:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise gym.error.ClosedEnvironmentError("This environment is closed. Make another AsynchronousEnv.")

    def _step(self, row: int, action: Tensor) -> None:
        try:
            self._arrived.put((row, self._rows[row].step(action)))
        except BaseException as error:  # it is raised by recv, in the thread that asked
            self._arrived.put((row, error))

    def _next(self) -> tuple[int, Any]:
        row, result = self._arrived.get()
        self._under_way.discard(row)
        return row, result


def _joined(parts: Sequence[Any]) -> Any:
    """Join batches of one; what only some rows have is 0 in the others, as in Gymnasium's vector infos."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _joined(_filled([part.get(name) for part in parts])) for name in names}


def _filled(values: list[Any]) -> list[Any]:
    example = next(value for value in values if value is not None)
    return [_nothing(example) if value is None else value for value in values]


def _nothing(example: Any) -> Any:
    if isinstance(example, Tensor):
        return torch.zeros_like(example)
    return {name: _nothing(value) for name, value in example.items()}


def _row_numbers(rows: Any) -> list[int]:
    try:
        return [index(row) for row in rows]
    except TypeError as error:
        raise InvalidActionError(f"rows={rows!r} must be numbers of rows, e.g. [0, 2], or None for all.") from error
