"""The scalar environment: the batch of one, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from hpo_gym.envs.engine import EpisodeEngine
from hpo_gym.envs.rendering import CurveRecorder
from hpo_gym.mdp import EpisodeState
from hpo_gym.seeding import fresh_seed, generator
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["HPOEnv"]


class HPOEnv(gym.Env[Any, Any]):
    """Tune the hyperparameters of a machine-learning model on one dataset per episode.

    ## Description
    Each episode is one dataset and one budget of evaluations. An action chooses the next
    hyperparameter configuration; the environment answers with its score on that dataset. The first
    configuration is evaluated at reset and costs one evaluation.

    ## Action Space
    | ``action``        | space                  | meaning                                          |
    |-------------------|------------------------|--------------------------------------------------|
    | ``"grid_step"``   | ``Discrete(2D)``       | ``2j``: hyperparameter j one notch down, ``2j+1``: up |
    | ``"grid_choice"`` | ``Discrete(grid)``     | evaluate that grid configuration                 |
    | ``"continuous"``  | ``Box(0, 1, (D,))``    | evaluate that point of the unit cube             |

    ``info["action_mask"]`` tells which discrete actions do something; a masked grid step evaluates
    the unchanged configuration again. With ``multi_fidelity=True`` the action also chooses the
    fidelity and pays its share of an evaluation (two more grid steps, a factor of the grid, one more
    coordinate); only full evaluations become the incumbent.

    ## Observation Space
    ``observation="flat"``: ``Box``, float32, in this order
    | block           | width | range   |
    |-----------------|-------|---------|
    | meta-features   | M     | [-5, 5] |
    | current u       | D     | [0, 1]  |
    | active          | D     | {0, 1}  |
    | last score      | 1     | [0, 1]  |
    | incumbent score | 1     | [0, 1]  |
    | budget left     | 1     | [0, 1]  |
    | fidelity        | 1     | [0, 1], only with ``multi_fidelity`` |

    ``observation="history"``: ``Dict`` of flat boxes with all trials so far (see
    :class:`hpo_gym.mdp.observations.HistoryObservation`). Scores are the metric on its legal range,
    1 being best. No observation holds the optimum, the regret or a test label.

    ## Rewards
    ``improvement`` (default): gain over the incumbent, in [0, 1]; sums to the final gain. Also ``delta``,
    ``score``, ``log_regret`` and ``cost_aware``: see :func:`hpo_gym.mdp.rewards.make_reward_rule`.

    ## Starting State
    A task drawn from the split (``options={"task": "openml-dataset:31"}`` picks one) and the space's
    default configuration (``start="random"``, ``"fixed"`` or ``"none"``; ``options={"start": ...}``).

    ## Episode End
    Terminates when the budget is spent: it is observed, so this is termination, not truncation.
    Never truncates by itself.

    ## Arguments
    ``gym.make("HPO-OpenML-v0", space="lcbench", split="test", budget=30, action="continuous")``.
    ``source``, ``space``, ``split``, ``protocol``, ``metric``, ``device``, ``data_dir``, ``source_options``,
    ``max_tasks`` and ``tasks_seed`` choose the tasks (:class:`hpo_gym.envs.engine.EpisodeEngine`); every field of
    :class:`hpo_gym.mdp.EpisodeSettings` is an argument too.

    ## Version History
    * v0: first release
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 4}  # type: ignore[misc]

    def __init__(
        self,
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
        self.observation_space = self.engine.observation_space
        self.action_space = self.engine.action_space
        self.render_mode = render_mode
        self._recorder = CurveRecorder(self.engine, 1, render_mode, self.metadata["render_modes"])
        self._draws: torch.Generator | None = None
        self._state: EpisodeState | None = None
        self._over = False

    @property
    def suite(self) -> TaskSuite:
        """The task suite."""
        return self.engine.suite

    @property
    def task(self) -> TaskRef:
        """The identity of the current task.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        return self.suite.tasks[int(self._current().task[0])]

    @property
    def configuration(self) -> dict[str, Any]:
        """The current configuration: the values of its active hyperparameters."""
        return self.suite.space.to_dicts(self._current().u)[0]

    # Inference mode: at a batch of one, what torch does around an operation costs more than the
    # operation. Nothing that leaves this class is a tensor.
    @torch.inference_mode()
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; ``options`` may hold ``task``, ``task_index`` and ``start``."""
        super().reset(seed=seed)
        if seed is not None or self._draws is None:
            root = fresh_seed() if seed is None else seed
            self._draws = generator(root, "environment", device=self.engine.device)
        self._state, outcome = self.engine.begin_with_outcome(1, self._draws, options)
        self._over = False
        self._recorder.begin(self._state)
        observation = self.engine.dynamics.observe(self._state)
        return _first(observation), _plain(self.engine.info_at_reset(self._state, outcome))

    @torch.inference_mode()
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Evaluate what ``action`` chooses.

        Raises:
            InvalidActionError: For a wrong shape, dtype or range, or NaN; nothing is evaluated.
            gymnasium.error.ResetNeeded: Before the first reset, and after the end of an episode.
        """
        if self._over:
            raise gym.error.ResetNeeded("This episode has ended. Call env.reset() to begin another.")
        batch = [action] if not isinstance(action, Tensor) else action[None]
        checked = self.engine.check_action(batch, 1)
        state, outcome = self.engine.dynamics.step(self._current(), checked)
        self._state = state
        self._recorder.add(state)
        info = _plain(self.engine.info(state, outcome))
        observation = _first(self.engine.dynamics.observe(state))
        self._over = bool(outcome.terminated.item())
        return observation, float(outcome.reward.item()), self._over, False, info

    def render(self) -> Any:
        """Draw the incumbent curve of the episode: an RGB array, or text in mode ``ansi``."""
        return self._recorder.render()

    def _current(self) -> EpisodeState:
        if self._state is None:
            raise gym.error.ResetNeeded("Call env.reset() before anything else.")
        return self._state


def _first(observation: Tensor | dict[str, Tensor]) -> Any:
    if isinstance(observation, dict):
        return {key: value.cpu().numpy()[0] for key, value in observation.items()}
    return observation.cpu().numpy()[0]


def _plain(info: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the single row of a batched info as Python numbers and NumPy arrays."""
    return {
        # A copy: a mask that never changes is one tensor, and callers may write into what they get.
        key: value.item() if value.ndim == 1 else value.cpu().numpy()[0].copy()
        for key, value in info.items()
    }
