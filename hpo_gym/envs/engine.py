"""What the scalar and the vector environment share: arguments, spaces, task choice and info."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from hpo_gym.errors import InvalidActionError, InvalidSettingError, SplitLeakError, require_names, unknown_name
from hpo_gym.fingerprint import content_digest
from hpo_gym.mdp import Dynamics, EpisodeSettings, EpisodeState, Outcome
from hpo_gym.mdp.observations import ObservationPart
from hpo_gym.sources import check_source_options, load_suite
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.subsets import check_subset, subset_of
from hpo_gym.tasks.suite import Evaluation, TaskSuite

__all__ = ["RESET_OPTIONS", "EpisodeEngine"]

#: What ``reset(options={...})`` understands.
RESET_OPTIONS = ("task", "task_index", "start")

_POSITIONS = (
    "options['task_index']={!r} must be an integer, or one integer per environment: positions in suite.tasks. To name "
    "a task by its OpenML id use options['task']."
)
_BARE = (
    "options['task']={!r}: a bare number may be an index, a task id or a dataset id. Use a string or TaskRef such as "
    "'openml-dataset:31' (or '31'), or options['task_index'] for a position."
)


class EpisodeEngine:
    """A task suite, the tasks of one split, the dynamics and the Gymnasium spaces.

    Args:
        source: Where tasks come from: ``bundled``, ``yahpo``, ``synthetic`` ... or a ``TaskSuite``.
        space: Name of the search space within the source; a ``TaskSuite`` has one already.
        split: ``train``, ``val``, ``test`` or ``all``.
        protocol: ``dataset-disjoint`` (a held-out dataset is held out in every space) or
            ``per-space``.
        metric: The optimised metric; ``None`` means the source's main metric.
        device: Where everything is computed.
        data_dir: Where the source's files are; ``None`` means the usual search order.
        source_options: Further arguments of the source's loader.
        max_tasks: Only so many tasks of the split, at least 1; ``None`` means all.
        tasks_seed: Which ones: the first of one shuffle per seed, so that fewer are part of more.
        settings: Fields of :class:`~hpo_gym.mdp.EpisodeSettings`.

    Raises:
        UnknownNameError: For an unknown source, space, split, metric or setting.
        InvalidSettingError: For an impossible value or combination, an empty split, or one of fewer than
            ``max_tasks`` tasks.
        DataError: If a data file is missing or corrupt.
    """

    def __init__(
        self,
        *,
        source: str | TaskSuite,
        space: str | None,
        split: str,
        protocol: str,
        metric: str | None,
        device: str | torch.device,
        data_dir: str | None,
        source_options: Mapping[str, Any] | None,
        max_tasks: int | None = None,
        tasks_seed: int = 0,
        settings: Mapping[str, Any],
    ) -> None:
        self.settings = _episode_settings(settings)
        check_subset(max_tasks, tasks_seed)
        chosen_device = _device(device)
        if isinstance(source, TaskSuite):
            suite = _given(source, protocol, metric, data_dir, source_options)
            if str(chosen_device) == suite.device.type:
                # "cuda" means whichever the suite is on.
                chosen_device = suite.device
            if chosen_device != suite.device:
                # The suite is the caller's, and may serve another environment where it is.
                suite = copy.deepcopy(suite)
        else:
            suite = load_suite(
                source,
                space,
                metric=metric,
                protocol=protocol,
                data_dir=data_dir,
                **check_source_options(source, source_options),
            )
        self.suite = suite.to(chosen_device)
        self.split, self.protocol = split, protocol
        self.max_tasks, self.tasks_seed = max_tasks, tasks_seed
        indices = suite.split(protocol, split)
        if len(indices) == 0:
            raise InvalidSettingError(
                f"Split {split!r} of {suite.spec.source}:{suite.name} under protocol "
                f"{protocol!r} holds no task. Use split='all', or another protocol."
            )
        indices = subset_of(indices, suite.tasks, max_tasks, tasks_seed, split)
        self.device = self.suite.device
        self.tasks = torch.as_tensor(indices, dtype=torch.int64, device=self.device)
        self.dynamics = Dynamics(self.suite, self.settings)
        self.observation_space = self._observation_space()
        self.action_space = self._action_space()
        self._known = self.suite.known_range is not None
        self._cost_column = self.suite.cost_column
        self._tells_cost = self.suite.measured or self.settings.reward == "cost_aware"

    def _observation_space(self) -> gym.Space[Any]:
        parts = self.dynamics.observations.parts
        if self.settings.observation == "flat":
            return _box(parts)
        return gym.spaces.Dict({part.name: _box((part,)) for part in parts})

    def _action_space(self) -> gym.Space[Any]:
        actions = self.dynamics.actions
        if actions.num_actions:
            return gym.spaces.Discrete(actions.num_actions)
        return gym.spaces.Box(0.0, 1.0, (actions.action_dimension,), np.float32)

    def begin(self, batch: int, draws: torch.Generator, options: Mapping[str, Any] | None = None) -> EpisodeState:
        """Return fresh episodes on the tasks and from the starts that ``options`` ask for."""
        return self.begin_with_outcome(batch, draws, options)[0]

    def begin_with_outcome(
        self, batch: int, draws: torch.Generator, options: Mapping[str, Any] | None = None
    ) -> tuple[EpisodeState, Outcome | None]:
        """Return the same, and what the evaluation at reset returned (``None`` if there is none)."""
        if options is not None and not isinstance(options, Mapping):
            raise InvalidSettingError(
                f"options={options!r} must be a dictionary with keys of {', '.join(RESET_OPTIONS)}, or None."
            )
        options = options or {}
        require_names("reset option", options, RESET_OPTIONS)
        task = self._choose_tasks(batch, draws, options)
        start = options.get("start")
        return self.dynamics.begin(task, draws, None if start is None else self._start(start, batch))

    def _choose_tasks(self, batch: int, draws: torch.Generator, options: Mapping[str, Any]) -> Tensor:
        if "task" in options and "task_index" in options:
            raise InvalidSettingError("Give options 'task' or 'task_index', not both.")
        if "task_index" in options:
            task = self._positions(options["task_index"])
            if not bool(((task >= 0) & (task < self.suite.num_tasks)).all()):
                raise InvalidSettingError(
                    f"options['task_index']={options['task_index']!r} must lie in 0 .. {self.suite.num_tasks - 1} "
                    "(positions in suite.tasks); to name a task by its OpenML id use options['task']."
                )
        elif "task" in options:
            named = options["task"]
            refs = [named] if isinstance(named, str | TaskRef) else _task_list(named)
            task = torch.tensor([self.suite.position(ref) for ref in refs], device=self.device)
        else:
            pick = torch.randint(len(self.tasks), (batch,), generator=draws, device=self.device)
            return self.tasks[pick]
        if task.ndim == 0 or len(task) == 1:
            return task.reshape(1).expand(batch).clone()
        if task.shape != (batch,):
            raise InvalidSettingError(
                f"options name {list(task.shape)} tasks for {batch} environment(s): give one, or one per environment."
            )
        return task

    def _positions(self, given: Any) -> Tensor:
        """Return ``options["task_index"]`` as int64; a float or a flag is no position."""
        try:
            task = torch.as_tensor(given, device=self.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidSettingError(_POSITIONS.format(given)) from error
        if task.is_floating_point() or task.is_complex() or task.dtype == torch.bool or task.ndim > 1:
            raise InvalidSettingError(_POSITIONS.format(given))
        return task.long().clone()

    def _start(self, start: Any, batch: int) -> Tensor:
        space, dimension = self.suite.space, self.suite.space.dimension
        named = [start] if isinstance(start, Mapping) else start
        if isinstance(named, Sequence) and named and all(isinstance(each, Mapping) for each in named):
            value = torch.stack([space.changed_default(each) for each in named])
        else:
            try:
                value = torch.as_tensor(start)
            except (TypeError, ValueError, RuntimeError) as error:
                raise InvalidSettingError(
                    f"options['start']={start!r} must be a dictionary of hyperparameters, a list of {batch} of them, "
                    f"or an array of shape [{dimension}] or [{batch}, {dimension}] in [0, 1]."
                ) from error
        value = value.to(self.device, torch.float32)
        if value.shape not in ((dimension,), (1, dimension), (batch, dimension)):
            raise InvalidSettingError(
                f"options['start'] must be a dictionary of hyperparameters, a list of {batch} of them, or have shape "
                f"[{dimension}] or [{batch}, {dimension}], got {list(value.shape)}."
            )
        if not bool(((value >= 0.0) & (value <= 1.0)).all()):
            raise InvalidSettingError("options['start'] must lie in [0, 1] and hold no NaN.")
        value = value.reshape(-1, dimension)
        if not bool(space.legal(space.snap(value)).all()):
            raise InvalidSettingError(
                f"options['start']={start!r} is forbidden by the search space. Leave 'start' out for a legal start."
            )
        return value

    def rules(self) -> dict[str, str]:
        """Return what decides how episodes go, as text: the suite, its data and tasks, and every setting."""
        suite = self.suite
        chosen = {"suite": f"{suite.spec.source}:{suite.name}", "metric": suite.spec.metric, "data": self._data()}
        chosen |= {"split": self.split, "protocol": self.protocol}
        if self.max_tasks is not None:
            chosen |= {"max_tasks": str(self.max_tasks), "tasks_seed": str(self.tasks_seed)}
        return chosen | {field.name: repr(getattr(self.settings, field.name)) for field in fields(self.settings)}

    def _data(self) -> str:
        """Return a fingerprint of tasks, search space, scale of the score, and files or what stands for them."""
        suite, provenance = self.suite, self.suite.spec.provenance
        parts = {
            "tasks": [str(task) for task in suite.tasks],
            "space": repr(suite.space.spec),
            "measured": suite.measured_facts,
            # A table of runs may be looked up, or fitted.
            "mode": provenance.get("mode"),
            "lower": suite.lower,
            "upper": suite.upper,
            # Not the tensors: what is computed from the same files may differ in the last bit elsewhere.
            "files": provenance.get("sha256") or dict(provenance),
        }
        return content_digest(sorted(parts.items()))[:16]

    def check_action(self, action: Any, batch: int) -> Tensor:
        """Return actions as a checked tensor.

        Raises:
            InvalidActionError: For a wrong shape, dtype or range, or NaN.
        """
        if not isinstance(action, Tensor):
            try:
                action = torch.as_tensor(np.asarray(action))
            except (TypeError, ValueError) as error:
                raise InvalidActionError(
                    f"An action must be a number, an array or a tensor, got {action!r}. Sample one "
                    "with env.action_space.sample() to see its form."
                ) from error
        return self.dynamics.actions.check(action, batch)

    def info(self, state: EpisodeState, outcome: Outcome | None) -> dict[str, Tensor]:
        """Return the info of a batch; every value is ``[B]`` unless noted.

        ``task`` (index), ``trial`` (trials done), ``score``, ``incumbent`` (of full evaluations), ``regret``
        (normalised; where the range is known), ``fidelity`` (share of a full evaluation), ``action_mask``
        (``[B, A]``, discrete actions only) and, after a step, ``metrics`` (``[B, K]``), ``seconds``
        (what the trial took or would have taken; where the source knows), ``clipped`` and ``legal``. Where evaluations
        are really made, ``status`` (how the trial ended, a position in :data:`hpo_gym.live.STATUSES`, 0: well) and
        ``cost`` (see :meth:`hpo_gym.tasks.suite.TaskSuite.cost`), at reset too; ``cost`` also with a cost-aware reward.
        """
        info = {
            "task": state.task,
            "trial": state.trial,
            "score": state.score,
            "incumbent": state.incumbent,
            "fidelity": state.fidelity,
        }
        if self._known:
            info["regret"] = self.suite.regret(state.task, state.incumbent)
        mask = self.dynamics.action_mask(state)
        if mask is not None:
            info["action_mask"] = mask
        if outcome is not None:
            metrics = outcome.evaluation.metrics
            info["metrics"] = metrics
            info["clipped"] = outcome.evaluation.clipped
            info["legal"] = outcome.legal
            if self._cost_column is not None:
                info["seconds"] = metrics[:, self._cost_column]
            if self._tells_cost:
                info |= self._measured(outcome.evaluation)
        return info

    def info_at_reset(self, state: EpisodeState, outcome: Outcome | None) -> dict[str, Tensor]:
        """Return the info of episodes that have just begun; ``outcome`` is that of the evaluation at reset."""
        info = self.info(state, None)
        if outcome is not None and self.suite.measured:
            info |= self._measured(outcome.evaluation)
        return info

    def _measured(self, evaluation: Evaluation) -> dict[str, Tensor]:
        """Return what evaluations cost and, where they were really made, how they ended."""
        found = {"seconds": self.suite.seconds(evaluation), "status": evaluation.status}
        known = {name: value for name, value in found.items() if value is not None}
        return known | {"cost": self.suite.cost(evaluation)}


def _episode_settings(settings: Mapping[str, Any]) -> EpisodeSettings:
    known = [field.name for field in fields(EpisodeSettings)]
    if "num_envs" in settings:
        raise InvalidSettingError(
            f"num_envs={settings['num_envs']!r}: this is one environment. Use gym.make_vec(id, num_envs=...) for many."
        )
    if "max_episode_steps" in settings:
        raise InvalidSettingError(
            f"max_episode_steps={settings['max_episode_steps']!r}: episodes of a vector environment end when the "
            "budget is spent. Use budget=..., or gym.make(id, max_episode_steps=...) for one environment."
        )
    arguments = list(inspect.signature(EpisodeEngine.__init__).parameters)[1:-1]
    for key in settings:
        if key not in known:
            raise unknown_name("environment argument", key, [*known, *arguments, "render_mode"])
    return EpisodeSettings(**settings)


def _task_list(named: Any) -> Sequence[str | TaskRef]:
    refs = list(named) if hasattr(named, "__iter__") else [named]
    for each in refs:
        if not isinstance(each, str | TaskRef):
            raise InvalidSettingError(_BARE.format(each))
    return refs


def _given(
    suite: TaskSuite,
    protocol: str,
    metric: str | None,
    data_dir: str | None,
    source_options: Mapping[str, Any] | None,
) -> TaskSuite:
    """Refuse arguments that would have to be given where the suite was loaded."""
    loaded = f"source is a loaded suite ({suite.spec.source}:{suite.name})"
    if metric is not None and metric != suite.spec.metric:
        raise InvalidSettingError(
            f"metric={metric!r}, but {loaded} whose metric is {suite.spec.metric!r}. Load it with "
            f"hpo_gym.load_suite(..., metric={metric!r})."
        )
    for name, value in (("data_dir", data_dir), ("source_options", source_options or None)):
        if value is not None:
            raise InvalidSettingError(f"{name}={value!r}, but {loaded}. Give it to hpo_gym.load_suite.")
    if suite.protocol not in (None, protocol):
        raise SplitLeakError(
            f"protocol={protocol!r}, but {loaded} whose meta-features are standardised on the training tasks of "
            f"protocol {suite.protocol!r}. Load it with hpo_gym.load_suite(..., protocol={protocol!r})."
        )
    return suite


def _device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise unknown_name("device", device, ["cpu", "cuda", "cuda:0"]) from error
    if chosen.type not in ("cpu", "cuda"):
        raise unknown_name("device", str(device), ["cpu", "cuda", "cuda:0"])
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InvalidSettingError(f"device={str(device)!r}, but torch sees no CUDA device here. Use device='cpu'.")
    return chosen


def _box(parts: Sequence[ObservationPart]) -> gym.spaces.Box:
    low = np.concatenate([np.full(part.width, part.low, np.float32) for part in parts])
    high = np.concatenate([np.full(part.width, part.high, np.float32) for part in parts])
    return gym.spaces.Box(low, high, dtype=np.float32)
