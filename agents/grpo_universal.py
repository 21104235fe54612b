"""One Transformer for any search space, trained by group-relative policy optimisation on many at once.

As :class:`~agents.grpo.GRPO`, with hyperparameters as a set that is described and not named, so that a policy plays
spaces that it never saw, and an outcome model that needs no training tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from agents.averaged_process import AveragedPosterior, AveragedProcess
from agents.base import Interface
from agents.group_relative_agent import GroupRelativeAgent
from agents.grpo_config import GroupRelativeConfig
from agents.hyperparameter_tokens import HyperparameterTokens
from agents.outcome_search import OutcomeSearch
from agents.problem import Problem
from agents.trial_tokens import TrialHistory
from agents.universal_network import UniversalNetwork
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, require_integer
from hpo_gym.initial_weights import seeded
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import stream_seed
from hpo_gym.sources.synthetic import is_synthetic
from hpo_gym.spaces import DESCRIPTOR_NAMES

__all__ = ["UniversalGRPO", "UniversalGRPOConfig"]

# Kind and cardinality are told in any case.
_TOLD = DESCRIPTOR_NAMES.index("log")


@dataclass(frozen=True)
class UniversalGRPOConfig(GroupRelativeConfig):
    """Configuration of :class:`UniversalGRPO`.

    Args:
        spaces: Search spaces that are played in training beside that of the environment, each as often: embedded ones
            (``rpart``) and synthetic ones (``bbob-4d``, ``mixed-6d``).
        hidden_descriptors: Share of the groups that do not see in training more of the hyperparameters than
            kinds, in ``[0, 1]``: what they learn holds for any space.
        candidates: Random configurations beside the proposals that the outcome model chooses from.
        neighbours, rounds: As for :class:`~agents.outcome_search.OutcomeSearch`.

    The others are those of :class:`~agents.grpo_config.GroupRelativeConfig`.
    """

    outcome_model: ClassVar[tuple[str, ...]] = ("candidates", "neighbours", "rounds")

    width: int = 48
    layers: int = 2
    spaces: tuple[str, ...] = ()
    hidden_descriptors: float = 0.25
    candidates: int = 256
    neighbours: int = 128
    rounds: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("neighbours", 1), ("candidates", 0), ("rounds", 0)):
            require_integer(name, getattr(self, name), least)
        if not 0.0 <= self.hidden_descriptors <= 1.0:
            raise InvalidSettingError(f"hidden_descriptors={self.hidden_descriptors!r} must lie in [0, 1].")
        if len(set(self.spaces)) < len(self.spaces):
            raise InvalidSettingError(f"spaces={list(self.spaces)!r} names a space twice; name each once.")


class UniversalGRPO(GroupRelativeAgent):
    """The GRPO-Transformer of any search space.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.

    Raises:
        InvalidSettingError: With multi-fidelity.
    """

    name: ClassVar[str] = "grpo_universal"
    any_space: ClassVar[bool] = True
    config: UniversalGRPOConfig

    def __init__(
        self, config: UniversalGRPOConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        layout = HyperparameterTokens()
        with seeded(stream_seed(seed, "agent", "weights")):
            network = UniversalNetwork(layout.width, config.bins, config.width, config.layers, config.heads)
        super().__init__(config, interface, seed, device, layout, network)
        self._search: OutcomeSearch[AveragedPosterior] | None = None

    def prepare(self, problem: Problem) -> None:
        super().prepare(problem)
        config = self.config
        if config.proposals > 1:
            process = AveragedProcess(problem.space.spec, self.seed).to(self.device)
            self._search = OutcomeSearch(process, config.neighbours, config.rounds)

    @property
    def chooses(self) -> bool:
        return self.config.proposals > 1

    def choose(self, history: TrialHistory, proposals: Tensor, draws: torch.Generator) -> Tensor:
        search = self._prepared(self._search)
        space = search.space
        candidates = space.snap(proposals.flatten(0, 1)).view_as(proposals)
        if self.config.candidates > 0:
            others = space.sample(len(proposals) * self.config.candidates, draws)
            candidates = torch.cat([candidates, others.view(len(proposals), -1, proposals.shape[2])], 1)
        return search(history.trials, candidates, draws)

    @property
    def training_spaces(self) -> tuple[str, ...]:
        return (self.interface.space, *self.config.spaces)

    def environments(self, env: HPOVectorEnv) -> Sequence[HPOVectorEnv]:
        if not self._environments or self._environments[0] is not env:
            self._environments = [env, *(self._other(env, name) for name in self.config.spaces)]
        return self._environments

    def _other(self, env: HPOVectorEnv, name: str) -> HPOVectorEnv:
        """Return an environment with the rules of another one in the space of a name."""
        settings = env.engine.settings
        if settings.start == "fixed":
            raise InvalidSettingError(
                "env.start=fixed names values of one search space, and agent.spaces are others. Set env.start to "
                "default, random or none."
            )
        if name == env.suite.name:
            raise InvalidSettingError(f"agent.spaces holds {name!r}, which is the environment's own. Leave it out.")
        source = "synthetic" if is_synthetic(name) else "bundled"
        engine = env.engine
        tasks = {rule: getattr(engine, rule) for rule in ("split", "protocol", "max_tasks", "tasks_seed")}
        other = HPOVectorEnv(env.num_envs, source, name, device=env.device, **tasks, **asdict(settings))
        other.reset(seed=self.seed)
        return other

    def shown(self, observation: Observation, env: HPOVectorEnv) -> TrialHistory:
        history = super().shown(observation, env)
        groups = env.num_envs // self.config.group_size
        # Tasks are dealt to groups at random, so that the first ones will do.
        blind = round(self.config.hidden_descriptors * groups) * self.config.group_size
        descriptors = history.descriptors.clone()
        descriptors[:blind, :, _TOLD:] = 0.0
        return replace(history, descriptors=descriptors)

    def require_trainable(self, env: HPOVectorEnv) -> None:
        super().require_trainable(env)
        share, groups = self.config.hidden_descriptors, env.num_envs // self.config.group_size
        if 0.0 < share < 1.0 and round(share * groups) in (0, groups):
            raise InvalidSettingError(
                f"hidden_descriptors={share!r} of {groups} group(s) is none or all of them. Set env.num_envs to "
                f"{self.config.group_size * math.ceil(1.0 / min(share, 1.0 - share))} or more, or "
                "agent.hidden_descriptors to 0 or 1."
            )

    def get_ready(self, env: HPOVectorEnv) -> None:
        # What validation asks for on the way.
        self.prepare(Problem.of(env))
