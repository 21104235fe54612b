"""What every agent is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from agents.problem import Problem
from agents.processes import Processes
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.actions import GridChoice, GridStep
from hpo_gym.mdp.observations import Observation

__all__ = ["Agent", "Callback", "Interface", "TrainableAgent", "restore_generator"]

_Stored = TypeVar("_Stored")

#: Called after every vector step with the transitions so far, what there is to log (numbers or tensors of one
#: element) and the environment's info; training ends when it returns ``True``.
Callback = Callable[[int, Mapping[str, float | Tensor], Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Interface:
    """The shapes and meanings an agent is built for; a checkpoint fits no other.

    Args:
        space: Name of the search space.
        hyperparameters: Names of the ``D`` hyperparameters in order.
        action: Kind of action (``grid_step``, ``grid_choice`` or ``continuous``).
        observation: Kind of observation (``flat`` or ``history``).
        observation_width: Width ``W`` of a flat observation; 0 for ``history``.
        num_actions: ``A`` for discrete actions; 0 for continuous ones.
        action_dimension: Width of a continuous action; 0 for discrete ones.
        meta_features: ``M``.
        metric: The optimised metric, which the observed scores are made of.
        levels: Grid levels of each hyperparameter, which say how far a step goes; empty for continuous actions.
    """

    space: str
    hyperparameters: tuple[str, ...]
    action: str
    observation: str
    observation_width: int
    num_actions: int
    action_dimension: int
    meta_features: int
    metric: str
    levels: tuple[int, ...]

    @classmethod
    def of(cls, env: HPOVectorEnv) -> Interface:
        """Return the interface of an environment."""
        settings, dynamics, suite = env.engine.settings, env.engine.dynamics, env.suite
        flat, actions = settings.observation == "flat", dynamics.actions
        grid = actions.grid if isinstance(actions, GridStep | GridChoice) else None
        return cls(
            space=suite.name,
            hyperparameters=suite.space.names,
            action=settings.action,
            observation=settings.observation,
            observation_width=sum(part.width for part in dynamics.observations.parts) if flat else 0,
            num_actions=actions.num_actions,
            action_dimension=actions.action_dimension,
            meta_features=suite.meta_features.shape[1],
            metric=suite.spec.metric,
            levels=() if grid is None else tuple(int(count) for count in grid.counts),
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Interface:
        """Read an interface from its fields, tuples as lists.

        Raises:
            TypeError: If a field is missing or unknown.
        """
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)

    def require_same(self, other: Interface, any_space: bool = False) -> None:
        """Refuse another interface.

        Its search space may have another name: the same hyperparameters come from more than one source.

        Args:
            other: What an environment offers.
            any_space: Whether only the kinds of actions and observations must agree.

        Raises:
            InvalidSettingError: Naming what differs.
        """
        mine, theirs = asdict(self), asdict(other)
        different = [
            f"{key}: {mine[key]!r} against {theirs[key]!r}"
            for key in mine
            if key in (("action", "observation") if any_space else mine) and key != "space" and mine[key] != theirs[key]
        ]
        if different:
            raise InvalidSettingError(
                f"This agent was trained on another kind of environment (trained on {self.space}, given {other.space}: "
                + "; ".join(different)
                + "). Use it with the environment settings in its run folder's config.yaml."
            )
        if any_space and self.chooses_fidelity != other.chooses_fidelity:
            own, given = ("with" if each.chooses_fidelity else "without" for each in (self, other))
            raise InvalidSettingError(
                f"This agent was trained {own} a choice of fidelity, and is given an environment {given} one. Set "
                f"env.multi_fidelity={str(self.chooses_fidelity).lower()}."
            )

    @property
    def chooses_fidelity(self) -> bool:
        """Whether an action asks for a share of a full evaluation, too."""
        if self.action == "continuous":
            return self.action_dimension > len(self.hyperparameters)
        return self.action == "grid_step" and self.num_actions > 2 * len(self.hyperparameters)


class Agent(ABC):
    """A method that chooses configurations.

    Subclasses live in one file each, beside the frozen dataclass that is their whole configuration. What an agent
    knows of an episode is its observations; what it may know before, :meth:`prepare` tells it.

    Args:
        config: The subclass's configuration.
        interface: What it is built for.
        seed: Root of the agent's streams.
        device: Where it computes.

    Raises:
        InvalidSettingError: If the agent cannot use such actions or observations.
    """

    #: Name on the command line.
    name: ClassVar[str]
    #: Whether training changes what :meth:`act` does.
    learns: ClassVar[bool] = False
    #: Whether what was learned on one search space can act on another.
    any_space: ClassVar[bool] = False
    #: Whether :meth:`prepare` learns from training tasks of the same space.
    uses_training_tasks: ClassVar[bool] = False
    #: Hyperparameters that a search space must have for :meth:`prepare` to accept it.
    required_hyperparameters: ClassVar[tuple[str, ...]] = ()
    #: Raised whenever the same settings and seed would choose otherwise: what an older one played is not reused.
    version: ClassVar[int] = 1
    #: Distributions whose version decides what it does, as pip names them.
    libraries: ClassVar[tuple[str, ...]] = ()
    #: Kinds of actions it can take, the preferred one first.
    action_kinds: ClassVar[tuple[str, ...]]
    #: Kinds of observations it can read, the preferred one first.
    observation_kinds: ClassVar[tuple[str, ...]]

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        for kind, allowed in (("action", self.action_kinds), ("observation", self.observation_kinds)):
            if getattr(interface, kind) not in allowed:
                raise InvalidSettingError(
                    f"Agent {self.name!r} cannot use {kind}={getattr(interface, kind)!r}; it takes "
                    f"{', '.join(map(repr, allowed))}. Set env.{kind}={allowed[0]}."
                )
        self.config = config
        self.interface = interface
        self.seed = seed
        self.device = torch.device(device)
        self._problem: Problem | None = None

    def prepare(self, problem: Problem) -> None:
        """Learn what may be known before the first evaluation; called once, before the first :meth:`act`.

        Args:
            problem: The search space, the budget and, where the protocol allows them, the training tasks.

        Raises:
            InvalidSettingError: If the agent cannot work on such a problem.
        """
        spec = problem.space.spec
        missing = [name for name in self.required_hyperparameters if name not in spec.names]
        if missing:
            raise InvalidSettingError(
                f"Agent {self.name!r} decides about {missing[0]!r}, which is no hyperparameter of this search space "
                f"({', '.join(spec.names)}). docs/agents/{self.name}.md says where it plays."
            )
        self._problem = problem

    @property
    def problem(self) -> Problem:
        """What :meth:`prepare` was given.

        Raises:
            InvalidSettingError: Before it.
        """
        return self._prepared(self._problem)

    def _prepared(self, stored: _Stored | None) -> _Stored:
        """Return what :meth:`prepare` stored; refuse where it was not called."""
        if stored is None:
            raise InvalidSettingError(
                f"Agent {self.name!r} needs to know the search space: call agent.prepare(Problem.of(env)) first."
            )
        return stored

    @abstractmethod
    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        """Choose one action per row.

        Args:
            observation: As the vector environment gives it, ``[B, ...]``.
            mask: ``info["action_mask"]``, bool ``[B, A]``; ``None`` for continuous actions.
            draws: Where random numbers come from.
            explore: Whether it acts as in training; else as in evaluation. A method that is random by nature
                stays so.

        Returns:
            int64 ``[B]`` for discrete actions, float32 ``[B, action_dimension]`` in ``[0, 1]`` else.
        """


class TrainableAgent(Agent):
    """An agent that ``train.py`` trains.

    Args:
        config, interface, seed, device: As for :class:`Agent`.
    """

    #: Whether several processes can train one policy (:mod:`agents.processes`).
    many_processes: ClassVar[bool] = False
    #: Settings of the environment that it is trained with where the configuration names no reward.
    training_rules: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, config: Any, interface: Interface, seed: int = 0, device: torch.device | str = "cpu") -> None:
        super().__init__(config, interface, seed, device)
        #: Transitions made by :meth:`train` so far, in all processes.
        self.steps = 0
        #: Who trains.
        self.processes = Processes()

    @property
    def training_spaces(self) -> tuple[str, ...]:
        """Names of the search spaces that it is trained on."""
        return (self.interface.space,)

    def environments(self, env: HPOVectorEnv) -> Sequence[HPOVectorEnv]:
        """Return the environments that training plays, that of the run first; the same ones for the same ``env``."""
        return [env]

    def join(self, processes: Processes) -> None:
        """Train with other processes from now on; called before training, or the restoring of a state, begins.

        Raises:
            InvalidSettingError: If the agent trains in one process.
        """
        if processes.size > 1 and not self.many_processes:
            raise InvalidSettingError(
                f"Agent {self.name!r} trains in one process, and torchrun started {processes.size}. Start train.py "
                "with python instead."
            )
        self.processes = processes

    def require_trainable(self, env: HPOVectorEnv) -> None:
        """Refuse an environment, or settings, that training cannot use: before it begins or anything is written.

        Raises:
            InvalidSettingError: If :meth:`train` would be refused.
        """
        self.interface.require_same(Interface.of(env))

    @abstractmethod
    def train(self, env: HPOVectorEnv, callback: Callback) -> None:
        """Interact with ``env`` until the configured number of transitions, or until ``callback`` says so.

        Begins with :meth:`require_trainable`.
        Continues from where a :meth:`load_state_dict` left the agent; ``env`` must have been reset or restored.
        """

    @abstractmethod
    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        """Return everything to act like this agent and, if ``resumable``, to go on training bitwise."""

    @abstractmethod
    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        """Restore a :meth:`state_dict` of an agent with the same configuration and interface.

        Args:
            saved: The state.
            resumable: Whether training goes on from here, so that what only training needs is restored where
                ``saved`` holds it. That fits the kind of device it was made on; acting like it does on any.

        Raises:
            InvalidSettingError: If ``resumable`` and ``saved`` was made on another kind of device.
        """


def restore_generator(draws: torch.Generator, saved: Tensor) -> None:
    """Continue a stream of random numbers where :meth:`torch.Generator.get_state` found it.

    Raises:
        InvalidSettingError: If it was a stream of another kind of device, which none here can continue.
    """
    expected = draws.get_state().numel()
    if saved.numel() != expected:
        raise InvalidSettingError(
            f"The saved random numbers are of another kind of device than {str(draws.device)!r} ({saved.numel()} "
            f"bytes, not {expected}). Resume with the env.device that the run began with, or train again; evaluating "
            "works on any device."
        )
    draws.set_state(saved.cpu())
