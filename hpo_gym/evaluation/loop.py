"""The one evaluation loop: every contender, the same tasks, seeds, starts and budget, every evaluation charged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpo_gym.envs.engine import EpisodeEngine
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.evaluation.records import RecordTable
from hpo_gym.mdp import EpisodeSettings
from hpo_gym.mdp.actions import GridStep
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.suite import TaskSuite

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LARGEST_BATCH", "Contender", "evaluate"]

#: Most episodes that advance together; more are evaluated one batch after the other.
LARGEST_BATCH = 8192

_RECORDED = ("score", "incumbent", "spent", "seconds")


@dataclass(frozen=True)
class Contender:
    """Something to evaluate: a method, or one trained policy of it.

    Args:
        name: Name of the method. Several trained policies of one method share it.
        run: Name of the training run; ``""`` for a method that does not learn.
        action: Kind of action it takes (``grid_step``, ``grid_choice`` or ``continuous``).
        observation: Kind of observation it reads (``flat`` or ``history``).
        act: Observation ``[B, ...]``, ``action_mask`` (bool ``[B, A]``, or ``None`` for continuous actions) and
            a stream to draw from -> one action per row. Rows are independent episodes; ``B`` shrinks when
            some end before others, so a row's past is only what the observation shows of it.
    """

    name: str
    run: str
    action: str
    observation: str
    act: Callable[[Observation, Tensor | None, torch.Generator], Tensor]


@torch.no_grad()
def evaluate(
    contender: Contender,
    suite: TaskSuite,
    *,
    split: str = "test",
    protocol: str = "dataset-disjoint",
    seeds: int = 5,
    seed: int = 0,
    budget: int = 50,
    settings: Mapping[str, Any] = MappingProxyType({}),
    progress: Callable[[float], None] | None = None,
) -> RecordTable:
    """Let a contender play every task of a split ``seeds`` times.

    Every episode spends exactly ``budget`` full evaluations, the one at reset included (trial 1); with
    ``multi_fidelity``, cheaper ones until the budget is spent. Nothing else is evaluated: an episode that has
    ended is not begun again.

    All contenders start a (task, seed) from the same configuration, whatever kind of action they take. It
    is the one that ``settings`` ask for, moved to the nearest point of the ``grid_step`` grid, because such a
    contender can begin nowhere else. A random start depends on ``seed``, the task's position in the suite and
    the number of the repetition alone. What a contender draws while it acts depends on ``seed`` and the repetitions,
    and on no name (common random numbers): equal policies play equal episodes.

    Args:
        contender: What to evaluate.
        suite: The tasks; everything is computed on its device.
        split: ``train``, ``val``, ``test`` or ``all``.
        protocol: ``dataset-disjoint`` or ``per-space``.
        seeds: Repetitions per task, at least 1.
        seed: Root of all streams, 0 or more.
        budget: Full evaluations per episode.
        settings: Further fields of :class:`~hpo_gym.mdp.EpisodeSettings`, the same for all contenders.
        progress: Called with the share done, in ``(0, 1]``, after every trial.

    Returns:
        One row per trial; ``seconds`` is NaN for the evaluation at reset.

    Raises:
        UnknownNameError: For an unknown split, protocol, kind of action or observation, or setting.
        InvalidSettingError: For an impossible value, an empty split, or a setting that would make budgets unequal.
        InvalidActionError: If the contender returns something that is no action.
    """
    engine = _engine(contender, suite, split, protocol, seeds, seed, budget, settings)
    tasks = engine.tasks
    rows = seeds * len(tasks)
    starts = _shared_starts(engine, seeds, seed)
    parts: list[dict[str, np.ndarray[Any, Any]]] = []
    for first in range(0, rows, LARGEST_BATCH):
        row = torch.arange(first, min(first + LARGEST_BATCH, rows), device=engine.device)
        task, repetition = tasks[row % len(tasks)], row // len(tasks)
        options: dict[str, Any] = {"task_index": task}
        if starts is not None:
            options["start"] = starts[repetition, task]
        # No name is part of it: a policy in a renamed folder plays the same episodes.
        draws = generator(seed, "evaluate", "act", first, device=engine.device)

        def report(share: float, done: int = first, batch: int = len(row)) -> None:
            if progress is not None:
                progress((done + share * batch) / rows)

        part = _play(engine, contender, options, draws, report)
        played = part.pop("row")
        parts.append({name: value.cpu().numpy() for name, value in part.items()})
        parts[-1]["seed"] = repetition[played].cpu().numpy()
    return _table(contender, engine.suite, parts)


def _engine(
    contender: Contender,
    suite: TaskSuite,
    split: str,
    protocol: str,
    seeds: int,
    seed: int,
    budget: int,
    settings: Mapping[str, Any],
) -> EpisodeEngine:
    """Check every argument before the first evaluation, and return the rules of the episodes."""
    require_integer("seeds", seeds, 1)
    require_integer("seed", seed, 0)
    for name in ("action", "observation", "budget"):
        if name in settings:
            owner = "evaluate(budget=...)" if name == "budget" else f"Contender.{name}"
            raise InvalidSettingError(
                f"settings={{{name!r}: {settings[name]!r}}} contradicts {owner}, which decides it. Leave it out."
            )
    if settings.get("terminate_on_repeat"):
        raise InvalidSettingError(
            "terminate_on_repeat=True would give contenders unequal budgets: an evaluation compares methods "
            "after the same number of trials. Use terminate_on_repeat=False (training may use True)."
        )
    return EpisodeEngine(
        source=suite,
        space=None,
        split=split,
        protocol=protocol,
        metric=None,
        device=suite.device,
        data_dir=None,
        source_options=None,
        settings={**settings, "action": contender.action, "observation": contender.observation, "budget": budget},
    )


def _shared_starts(engine: EpisodeEngine, seeds: int, seed: int) -> Tensor | None:
    """Return where every episode begins, ``[seeds, N, D]``, or ``None`` if nothing is evaluated at reset."""
    settings, space, count = engine.settings, engine.suite.space, engine.suite.num_tasks
    if settings.start == "none":
        return None
    if settings.start == "random":
        # One stream per repetition over all tasks of the suite: neither the split nor the number of
        # repetitions changes where a (task, seed) begins.
        streams = [generator(seed, "evaluate", "start", index, device=engine.device) for index in range(seeds)]
        u = torch.cat([space.sample(count, stream) for stream in streams])
    else:
        start = engine.dynamics.start
        assert start is not None  # only a random start has none
        u = start.expand(seeds * count, -1)
    grid = GridStep(space, EpisodeSettings(action="grid_step", levels=settings.levels), None)
    u, _ = grid.start_level(space.snap(u))
    return u.view(seeds, count, -1)


def _play(
    engine: EpisodeEngine,
    contender: Contender,
    options: Mapping[str, Any],
    draws: torch.Generator,
    report: Callable[[float], None],
) -> dict[str, Tensor]:
    """Play one batch of episodes to their ends and return its trials, ordered by row and trial.

    The vector environment would begin an ended row anew, and evaluate the new start. Here ended rows leave
    the batch, so that the objective is asked for the recorded trials and for nothing else.
    """
    dynamics = engine.dynamics
    task = options["task_index"]
    row = torch.arange(len(task), device=task.device)
    state = engine.begin(len(task), draws, options)
    columns: dict[str, list[Tensor]] = {name: [] for name in ("row", "task", "trial", *_RECORDED)}

    def record(seconds: Tensor) -> None:
        values = (row, state.task, state.trial, state.score, state.incumbent, state.spent, seconds)
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)

    unknown = torch.full_like(state.score, torch.nan)
    trial, most = 0, dynamics.max_trials
    if engine.settings.start != "none":
        record(unknown)
        trial = 1
        report(trial / most)
    while len(row) > 0:
        mask = dynamics.action_mask(state)
        action = contender.act(dynamics.observe(state), mask, draws)
        state, outcome = dynamics.step(state, engine.check_action(action, len(row)))
        cost = engine.suite.cost_column
        record(unknown[: len(row)] if cost is None else outcome.evaluation.metrics[:, cost])
        trial += 1
        if bool(outcome.terminated.any()):
            live = (~outcome.terminated).nonzero().squeeze(1)
            state, row = state.select(live), row[live]
        report(1.0 if len(row) == 0 else trial / most)
    joined = {name: torch.cat(parts) for name, parts in columns.items()}
    order = torch.argsort(joined["row"] * (most + 1) + joined["trial"])
    joined = {name: value[order] for name, value in joined.items()}
    suite = engine.suite
    joined["metric"] = suite.to_metric(joined["score"].double())
    joined["regret"] = torch.full_like(joined["metric"], torch.nan)
    if suite.known_range is not None:
        joined["regret"] = suite.regret(joined["task"], joined["incumbent"])
    return joined


def _table(contender: Contender, suite: TaskSuite, parts: list[dict[str, np.ndarray[Any, Any]]]) -> RecordTable:
    import numpy as np
    import pandas as pd

    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    task = joined.pop("task")
    keys = [dataset_key(ref) for ref in suite.tasks]
    datasets = sorted(set(keys))
    dataset = np.array([datasets.index(key) for key in keys])[task]
    constants = {
        "agent": contender.name,
        "run": contender.run,
        "source": suite.spec.source,
        "space": suite.name,
    }
    zeros = np.zeros(len(task), dtype=np.int8)
    text = {name: pd.Categorical.from_codes(zeros, [value]) for name, value in constants.items()}
    text["task"] = pd.Categorical.from_codes(task, [str(ref) for ref in suite.tasks])
    text["dataset"] = pd.Categorical.from_codes(dataset, datasets)
    return RecordTable(pd.DataFrame(text | joined))
