"""The vector environment: torch in, torch out, on any device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import gymnasium as gym
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from hpo_gym.envs.engine import EpisodeEngine
from hpo_gym.envs.rendering import CurveRecorder
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.mdp import EpisodeState, Outcome
from hpo_gym.mdp.observations import Observation
from hpo_gym.mdp.state import History
from hpo_gym.seeding import fresh_seed, generator
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["HPOVectorEnv"]

# Entries of an info that are tensors of the episodes themselves.
_HELD = ("task", "trial", "score", "incumbent", "fidelity", "legal")
# What is known of the evaluation at reset, too, where evaluations are really made.
_OF_RESET = ("seconds", "status", "cost")

_STATE = {"rules", "episodes", "draws"}
_OTHER_DATA = (
    "The saved state belongs to other tasks or other data than this environment has, though their names agree. Make it "
    "with the source_options and the files of the saved one."
)


class HPOVectorEnv(VectorEnv[Any, Any, Any]):
    """Many episodes of :class:`~hpo_gym.envs.HPOEnv` at once, over the same dynamics.

    Observations, rewards, flags and everything in ``info`` are torch tensors on ``device``. Autoreset
    is ``SAME_STEP``: a row whose episode ends returns the first observation of its next episode. At
    every step, for every row, ``info["final_obs"]`` and ``info["final_info"]`` hold what the step
    itself led to, before any reset (so ``final_obs`` is always the right next observation to learn
    from), and ``info["_final_obs"]`` (bool ``[B]``) tells where that differs. When episodes end,
    ``info["episode"]`` holds their return ``r`` and length ``l`` in steps, as Gymnasium's own statistics
    do (rows marked by ``info["_episode"]``).

    Gymnasium's own vector wrappers expect NumPy; statistics and autoreset are therefore built in, and
    :class:`hpo_gym.envs.TorchToNumpy` gives NumPy arrays where they are needed. There is no outer time limit: the
    budget ends every episode, and ``truncated`` is always false.

    Args:
        num_envs: ``B``, at least 1.
        source, space, split, protocol, metric, device, data_dir, source_options, max_tasks, tasks_seed, settings: As
            for :class:`~hpo_gym.envs.HPOEnv`.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        source: str | TaskSuite = "bundled",
        space: str | None = None,
        split: str = "train",
        protocol: str = "dataset-disjoint",
        metric: str | None = None,
        device: str | torch.device = "cpu",
        data_dir: str | None = None,
        source_options: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        max_tasks: int | None = None,
        tasks_seed: int = 0,
        **settings: Any,
    ) -> None:
        require_integer("num_envs", num_envs, 1)
        self.engine = EpisodeEngine(
            source=source,
            space=space,
            split=split,
            protocol=protocol,
            metric=metric,
            device=device,
            data_dir=data_dir,
            source_options=source_options,
            max_tasks=max_tasks,
            tasks_seed=tasks_seed,
            settings=settings,
        )
        self.num_envs = num_envs
        self.single_observation_space = self.engine.observation_space
        self.single_action_space = self.engine.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        modes = self.metadata["render_modes"]
        self._recorder = CurveRecorder(self.engine, num_envs, render_mode, modes)
        self._draws: torch.Generator | None = None
        self._state: EpisodeState | None = None

    @property
    def suite(self) -> TaskSuite:
        """The task suite."""
        return self.engine.suite

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.engine.device

    @property
    def state(self) -> EpisodeState:
        """The current state of all episodes.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        if self._state is None:
            raise gym.error.ResetNeeded("Call env.reset() before anything else.")
        return self._state

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every row.

        Args:
            seed: Root of the environment's stream; 0 is a seed like any other.
            options: ``task`` / ``task_index`` (one, or one per row) and ``start`` (one configuration, or one per row:
                a dictionary of hyperparameters, a list of them, or an array in the unit cube). They hold for these
                episodes, not for later ones.
        """
        if seed is not None or self._draws is None:
            root = fresh_seed() if seed is None else seed
            self._draws = generator(root, "environment", device=self.engine.device)
        self._state, outcome = self.engine.begin_with_outcome(self.num_envs, self._draws, options)
        self._recorder.begin(self._state)
        info = _own(self.engine.info_at_reset(self._state, outcome))
        return self.engine.dynamics.observe(self._state), info

    @torch.no_grad()
    def step(self, actions: Any) -> tuple[Observation, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every row by one trial; rows whose budget is spent begin again."""
        dynamics = self.engine.dynamics
        action = self.engine.check_action(actions, self.num_envs)
        state, outcome = dynamics.step(self.state, action)
        self._recorder.add(state)
        observation = dynamics.observe(state)
        final_info = self._info(state, outcome)
        done = outcome.terminated
        info: dict[str, Any] = dict(final_info)
        final_obs = observation
        rows = done.nonzero().squeeze(1)
        if len(rows) > 0:
            assert self._draws is not None  # set by the reset that self.state asked for
            free = 0 if self.engine.settings.start == "none" else 1
            info["episode"] = {"r": state.returns, "l": state.trial - free}
            info["_episode"] = done
            fresh, begun = self.engine.begin_with_outcome(len(rows), self._draws)
            observation = _replace_rows(observation, rows, dynamics.observe(fresh))
            state = state.replace_rows(rows, fresh)
            self._recorder.begin(fresh, rows)
            info.update(self._info(state, None))
            if begun is not None and self.suite.measured:
                first = self.engine.info_at_reset(fresh, begun)
                info |= {name: info[name].index_copy(0, rows, first[name]) for name in _OF_RESET}
        info["final_obs"], info["_final_obs"] = final_obs, done
        info["final_info"], info["_final_info"] = final_info, done
        self._state = state
        truncated = torch.zeros_like(done)
        return observation, outcome.reward, done, truncated, info

    def observe(self) -> tuple[Observation, dict[str, Any]]:
        """Return the current observation and info of every row, as the last ``reset`` or ``step`` left them."""
        return self.engine.dynamics.observe(self.state), self._info(self.state, None)

    def _info(self, state: EpisodeState, outcome: Outcome | None) -> dict[str, Tensor]:
        """Return the info of a batch; what the episodes hold is copied, since callers may write into it."""
        return _own(self.engine.info(state, outcome))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides what happens next, as tensors, and the rules that it belongs to, as text.

        Restored with :meth:`load_state_dict`, the environment continues bitwise as it would have.
        """
        assert self._draws is not None or self._state is None  # reset sets both
        state = self.state.clone()
        parts: dict[str, Any] = {f.name: getattr(state, f.name) for f in fields(state) if f.name != "history"}
        if state.history is not None:
            parts |= {f"history.{f.name}": getattr(state.history, f.name) for f in fields(state.history)}
        assert self._draws is not None
        return {"rules": self.engine.rules(), "episodes": parts, "draws": self._draws.get_state()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict` of an environment with the same arguments.

        The rules and the data are compared, not the rendering: pictures show the trials from here on.

        Raises:
            InvalidSettingError: If ``saved`` is no such state, or the tasks, their data, the rules or the number of
                environments differ.
        """
        if not isinstance(saved, Mapping) or not saved.keys() >= _STATE:
            raise InvalidSettingError(
                f"This is no state of an environment ({type(saved).__name__}): env.state_dict() returns a dictionary "
                f"of {', '.join(sorted(_STATE))}."
            )
        mine, others = self.engine.rules(), saved["rules"]
        for name in {**mine, **others}:
            value, theirs = mine.get(name), others.get(name)
            if theirs != value:
                if name == "data":
                    raise InvalidSettingError(_OTHER_DATA)
                raise InvalidSettingError(
                    f"The saved state belongs to an environment with {name}={theirs}, this one has "
                    f"{name}={value}. Make it with the arguments of the saved one."
                )
        parts = {name: value.to(self.device, copy=True) for name, value in saved["episodes"].items()}
        shape = (self.num_envs, self.suite.space.dimension)
        if tuple(parts["u"].shape) != shape:
            raise InvalidSettingError(
                f"The saved state has {list(parts['u'].shape)} environments x hyperparameters, this environment "
                f"{list(shape)}. Make it with the arguments of the saved one."
            )
        kept = {name.removeprefix("history."): parts.pop(name) for name in list(parts) if name.startswith("history.")}
        self._state = EpisodeState(**parts, history=History(**kept) if kept else None)
        self._draws = torch.Generator(device=self.device)
        self._draws.set_state(saved["draws"].cpu())
        self._recorder.begin(self._state)

    def render(self) -> Any:
        """Draw the incumbent curves: median and quartiles over rows, and row 0."""
        return self._recorder.render()

    def close_extras(self, **kwargs: Any) -> None:
        """Nothing to release."""


def _own(info: dict[str, Tensor]) -> dict[str, Tensor]:
    return info | {name: info[name].clone() for name in _HELD if name in info}


def _replace_rows(old: Observation, rows: Tensor, new: Observation) -> Observation:
    if isinstance(old, dict) and isinstance(new, dict):
        return {key: value.index_copy(0, rows, new[key]) for key, value in old.items()}
    assert isinstance(old, Tensor) and isinstance(new, Tensor)
    return new if len(rows) == len(old) else old.index_copy(0, rows, new)
