"""The one evaluation loop: every contender, the same tasks, seeds, starts and budget, every evaluation charged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hpo_gym.envs.engine import EpisodeEngine
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.evaluation.configurations import require_own_names
from hpo_gym.evaluation.contender import Act, AnyContender, EpisodicContender
from hpo_gym.mdp import EpisodeSettings, EpisodeState
from hpo_gym.mdp.actions import GridStep
from hpo_gym.seeding import generator
from hpo_gym.tasks.suite import Evaluation, TaskSuite

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LARGEST_BATCH", "Played", "Rules", "Stage", "Unit"]

#: Most episodes that advance together; more are evaluated one batch after the other.
LARGEST_BATCH = 8192


@dataclass(frozen=True)
class Rules:
    """What holds for every contender of a comparison.

    Args:
        split: ``train``, ``val``, ``test`` or ``all``.
        protocol: ``dataset-disjoint`` or ``per-space``.
        seeds: Repetitions per task, at least 1.
        seed: Root of all streams, 0 or more.
        budget: Full evaluations per episode.
        initial_points: Random configurations, the same for every method on a (task, seed), that come before its own:
            they follow the evaluation at reset, and are charged like any other. Methods that walk on a grid cannot
            be moved there.
        published_points: Whether the initial points are those that the source publishes, repetition ``s`` beginning
            with the ``s``-th set, instead of random ones.
        settings: Further fields of :class:`~hpo_gym.mdp.EpisodeSettings`.
        first_seed: Number of the first repetition. To add to what was played: ``seeds=7, first_seed=3`` after
            ``seeds=3``.

    Raises:
        InvalidSettingError: For an impossible value, or a setting that would make budgets unequal.
    """

    split: str = "test"
    protocol: str = "dataset-disjoint"
    seeds: int = 5
    seed: int = 0
    budget: int = 50
    initial_points: int = 0
    published_points: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    first_seed: int = 0

    def __post_init__(self) -> None:
        require_integer("seeds", self.seeds, 1)
        require_integer("first_seed", self.first_seed, 0)
        require_integer("seed", self.seed, 0)
        require_integer("initial_points", self.initial_points, 0)
        for name in ("action", "observation", "budget"):
            if name in self.settings:
                owner = "evaluate(budget=...)" if name == "budget" else f"Contender.{name}"
                raise InvalidSettingError(
                    f"settings={{{name!r}: {self.settings[name]!r}}} contradicts {owner}, which decides it. Leave "
                    "it out."
                )
        if self.settings.get("terminate_on_repeat"):
            raise InvalidSettingError(
                "terminate_on_repeat=True would give contenders unequal budgets: an evaluation compares methods "
                "after the same number of trials. Use terminate_on_repeat=False (training may use True)."
            )
        shared = self.initial_points + (0 if self.settings.get("start") == "none" else 1)
        if self.initial_points and shared >= self.budget:
            raise InvalidSettingError(
                f"initial_points={self.initial_points!r} and the start leave no evaluation of budget={self.budget!r} "
                "to the methods. Use fewer initial points, or a larger budget."
            )
        if self.published_points and not self.initial_points:
            raise InvalidSettingError("published_points=True has no effect with initial_points=0. Set initial_points.")

    @property
    def repetitions(self) -> range:
        """Numbers of the repetitions."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class Unit:
    """Episodes of one contender that are played together, by their numbers.

    Episode ``i`` is repetition ``i // N`` of the split's task ``i % N``.
    """

    first: int
    count: int


@dataclass(frozen=True)
class Played:
    """Trials as columns, ordered by episode and trial; ``R`` rows.

    Args:
        episode: Number of the episode (see :class:`Unit`), int64 ``[R]``.
        trial: From 1, int64 ``[R]``.
        score, incumbent, spent, fidelity, seconds, agent_seconds, status: As in a record table, float64 ``[R]``.
        numbers: The configuration in natural units, choices by position, NaN where inactive, float64 ``[R, D]``.
    """

    episode: np.ndarray[Any, Any]
    trial: np.ndarray[Any, Any]
    score: np.ndarray[Any, Any]
    incumbent: np.ndarray[Any, Any]
    spent: np.ndarray[Any, Any]
    fidelity: np.ndarray[Any, Any]
    seconds: np.ndarray[Any, Any]
    agent_seconds: np.ndarray[Any, Any]
    status: np.ndarray[Any, Any]
    numbers: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.trial)


class Stage:
    """Where one contender plays: its tasks, starts and rules, all checked.

    Args:
        contender: Who plays.
        suite: The tasks; everything is computed on its device.
        rules: What holds for all.

    Raises:
        UnknownNameError: For an unknown split, protocol, kind of action or observation, or setting.
        InvalidSettingError: For an impossible value or an empty split.
    """

    def __init__(self, contender: AnyContender, suite: TaskSuite, rules: Rules) -> None:
        own = {"action": contender.action, "observation": contender.observation, "budget": rules.budget}
        if rules.initial_points and contender.action != "continuous":
            raise InvalidSettingError(
                f"{contender.name!r} takes action={contender.action!r} and cannot be put on initial_points="
                f"{rules.initial_points} shared configurations. Use initial_points=0, or an agent with continuous "
                "actions."
            )
        require_own_names(suite.space.names)
        self.contender, self.rules = contender, rules
        self.engine = EpisodeEngine(
            source=suite,
            space=None,
            split=rules.split,
            protocol=rules.protocol,
            metric=None,
            device=suite.device,
            data_dir=None,
            source_options=None,
            settings={**rules.settings, **own},
        )
        most = self.engine.suite.surrogate.configurations
        if most is not None and rules.budget > most:
            raise InvalidSettingError(
                f"budget={rules.budget} is larger than the table of {suite.spec.source}:{suite.name}: its smallest "
                f"task holds {most} configurations. Use budget={most} or less."
            )
        self._starts = self._start() if self.engine.settings.start != "none" else None
        self._initial = (
            self._published()
            if rules.published_points
            else [self._random("initial", index) for index in range(rules.initial_points)]
        )

    @property
    def episodes(self) -> int:
        """How many episodes there are to play."""
        return self.rules.seeds * len(self.engine.tasks)

    def units(self) -> list[Unit]:
        """Return all episodes in the portions in which they are played."""
        size = 1 if isinstance(self.contender, EpisodicContender) else LARGEST_BATCH
        begin, end = (
            number * len(self.engine.tasks) for number in (self.rules.first_seed, self.rules.repetitions.stop)
        )
        return [Unit(first, min(size, end - first)) for first in range(begin, end, size)]

    def _random(self, *purpose: str | int) -> Tensor:
        """Return a random configuration for every (repetition, task of the suite): ``[seeds, N, D]``."""
        suite, root, device = self.engine.suite, self.rules.seed, self.engine.device
        # One stream per repetition over all tasks of the suite: neither the split nor the number of repetitions
        # changes where a (task, seed) begins.
        streams = [generator(root, "evaluate", *purpose, seed, device=device) for seed in self.rules.repetitions]
        return torch.stack([suite.space.sample(suite.num_tasks, stream) for stream in streams])

    def _published(self) -> list[Tensor]:
        """Return the initial points that the source publishes for every (repetition, task): ``[seeds, N, D]`` each."""
        suite, rules = self.engine.suite, self.rules
        name = f"{suite.spec.source}:{suite.name}"
        if suite.initial_points is None:
            raise InvalidSettingError(
                f"{name} publishes no initial points, which spaces of source='hpob' with test datasets do. Use "
                "published_points=False."
            )
        sets, points = suite.initial_points.shape[0], suite.initial_points.shape[2]
        if rules.repetitions.stop > sets or rules.initial_points > points:
            raise InvalidSettingError(
                f"{name} publishes {points} initial points of repetitions 0 to {sets - 1}; asked for were "
                f"{rules.initial_points} of repetitions {rules.first_seed} to {rules.repetitions.stop - 1}. Use fewer "
                "(initial_points, seeds, first_seed)."
            )
        chosen = suite.initial_points.to(self.engine.device)[list(rules.repetitions), :, : rules.initial_points]
        unknown = [suite.tasks[index] for index in self.engine.tasks.tolist() if bool(chosen[:, index].isnan().any())]
        if unknown:
            raise InvalidSettingError(
                f"{name} publishes no initial points of {len(unknown)} task(s) of split={rules.split!r}, such as "
                f"{unknown[0]}. It does of split='test' under protocol='per-space'."
            )
        return list(chosen.unbind(2))

    def _start(self) -> Tensor:
        """Return where every (repetition, task of the suite) starts, a point of the grid: ``[seeds, N, D]``."""
        suite, settings = self.engine.suite, self.engine.settings
        if settings.start == "random":
            u = self._random("start")
        else:
            start = self.engine.dynamics.start
            assert start is not None  # only a random start has none
            u = start.expand(1, suite.num_tasks, -1)
        grid = GridStep(suite.space, EpisodeSettings(action="grid_step", levels=settings.levels), None)
        on_grid = torch.stack([grid.start_level(suite.space.snap(points))[0] for points in u])
        return on_grid.expand(self.rules.seeds, -1, -1)

    @torch.no_grad()
    def play(self, unit: Unit, report: Callable[[float], None] | None = None) -> Played:
        """Play some episodes to their ends.

        The vector environment would begin an ended row anew, and evaluate the new start. Here ended rows leave
        the batch, so that the objective is asked for the recorded trials and for nothing else.

        Args:
            unit: Which.
            report: Called with the share done, in ``(0, 1]``, after every trial.

        Raises:
            InvalidActionError: If the contender returns something that is no action.
        """
        engine, contender = self.engine, self.contender
        dynamics, device = engine.dynamics, engine.device
        episode = torch.arange(unit.first, unit.first + unit.count, device=device)
        task, repetition = engine.tasks[episode % len(engine.tasks)], episode // len(engine.tasks)
        options: dict[str, Any] = {"task_index": task}
        row = repetition - self.rules.first_seed
        if self._starts is not None:
            options["start"] = self._starts[row, task]
        # No name is part of it: a policy in a renamed folder plays the same episodes.
        draws = generator(self.rules.seed, "evaluate", "act", unit.first, device=device)
        act: Act = contender.begin() if isinstance(contender, EpisodicContender) else contender.act
        state, outcome = engine.begin_with_outcome(unit.count, draws, options)
        trials = _Trials(engine)
        if outcome is not None:
            trials.add(episode, state, outcome.evaluation, 0.0)
        initial = [points[row, task] for points in self._initial]
        least = 0 if outcome is None else 1
        trial, most = least, dynamics.max_trials
        while len(episode) > 0:
            if trial - least < len(initial):
                action, seconds = self._full(initial[trial - least]), 0.0
            else:
                begun = time.perf_counter()
                action = act(dynamics.observe(state), dynamics.action_mask(state), draws)
                seconds = (time.perf_counter() - begun) / len(episode)
            state, outcome = dynamics.step(state, engine.check_action(action, len(episode)))
            trials.add(episode, state, outcome.evaluation, seconds)
            trial += 1
            if bool(outcome.terminated.any()):
                live = (~outcome.terminated).nonzero().squeeze(1)
                state, episode = state.select(live), episode[live]
                initial = [points[live] for points in initial]
            if report is not None:
                report(1.0 if len(episode) == 0 else trial / most)
        return trials.played()

    def _full(self, u: Tensor) -> Tensor:
        """Return the actions that evaluate configurations fully."""
        return u if self.engine.dynamics.shares is None else torch.cat([u, torch.ones_like(u[:, :1])], 1)


class _Trials:
    """Collects what every step of a batch returned."""

    def __init__(self, engine: EpisodeEngine) -> None:
        self._engine = engine
        self._steps: list[tuple[Tensor, ...]] = []

    def add(self, episode: Tensor, state: EpisodeState, evaluation: Evaluation, agent_seconds: float) -> None:
        seconds = self._engine.suite.seconds(evaluation)
        unknown = torch.full_like(state.score, torch.nan)
        seconds = unknown if seconds is None else seconds
        taken = torch.full_like(unknown, agent_seconds)
        status = unknown if evaluation.status is None else evaluation.status.to(unknown.dtype)
        row = (state.trial, state.score, state.incumbent, state.spent, state.fidelity, seconds, taken, status)
        self._steps.append((episode, *row, state.u.masked_fill(~state.active, torch.nan)))

    def played(self) -> Played:
        names = [part.name for part in fields(Played)]
        joined = dict(zip(names, map(torch.cat, zip(*self._steps, strict=True)), strict=True))
        most = self._engine.dynamics.max_trials + 1
        order = torch.argsort(joined["episode"] * most + joined["trial"])
        columns = {name: value[order].cpu() for name, value in joined.items()}
        u = columns["numbers"].double()
        # NaN marks what is inactive; decoding needs numbers, and activity is known.
        space = self._engine.suite.space
        numbers = space.numbers(u.nan_to_num(0.5).to(space.device)).cpu().masked_fill(u.isnan(), torch.nan)
        counts = {name: columns[name].long().numpy() for name in ("episode", "trial")}
        floats = {name: value.double().numpy() for name, value in columns.items() if name not in counts}
        return Played(**counts, **{**floats, "numbers": numbers.numpy()})
