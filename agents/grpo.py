"""A Transformer over trials that learns to propose configurations by group-relative policy optimisation.

After Guo, Pan and Zhai (2025), "GRPOformer: Advancing Hyperparameter Optimization via Group Relative Policy
Optimization", arXiv 2509.17105, with a group in the sense of Shao et al. (2024), arXiv 2402.03300: rollouts of one task
from one start. It is trained over many tasks at once, so that what it learned holds for tasks it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.base import Interface
from agents.group_relative_agent import GroupRelativeAgent
from agents.grpo_config import GRPOConfig
from agents.problem import Problem, TrainingTasks
from agents.proposal_network import ProposalNetwork
from agents.transfer_model import TransferModel
from agents.transfer_search import TransferSearch
from agents.trial_tokens import TrialHistory, TrialTokens
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import stream_seed

__all__ = ["GRPO", "GRPOConfig"]


class GRPO(GroupRelativeAgent):
    """The GRPO-Transformer of one search space.

    Args:
        config, interface, seed, device: As for :class:`~agents.base.Agent`.

    Raises:
        InvalidSettingError: With multi-fidelity.
    """

    name: ClassVar[str] = "grpo"
    config: GRPOConfig

    def __init__(
        self, config: GRPOConfig, interface: Interface, seed: int = 0, device: torch.device | str = "cpu"
    ) -> None:
        dimension = len(interface.hyperparameters)
        layout = TrialTokens(dimension, interface.meta_features * config.meta_features, config.scores)
        sizes = (config.bins, config.width, config.layers, config.heads)
        with seeded(stream_seed(seed, "agent", "weights")):
            network = ProposalNetwork(layout.width, dimension, *sizes, config.autoregressive)
        super().__init__(config, interface, seed, device, layout, network)
        #: What chooses among proposals in evaluation, with its search; ``None``: the policy alone.
        self._chooser: tuple[TransferModel, TransferSearch] | None = None

    @property
    def chooses(self) -> bool:
        return self._chooser is not None

    def choose(self, history: TrialHistory, proposals: Tensor, draws: torch.Generator) -> Tensor:
        assert self._chooser is not None  # chooses
        outcome, search = self._chooser
        candidates = search.space.snap(proposals.flatten(0, 1)).view_as(proposals)
        if self.config.candidates > 0:
            others = outcome.candidates(len(proposals), self.config.candidates, draws)
            candidates = torch.cat([candidates, others], 1)
        return search(history.trials, candidates, draws)

    def _choose_with(self, outcome: TransferModel | None) -> None:
        """Let an outcome model choose among proposals in evaluation from now on; ``None``: the policy alone."""
        config = self.config
        self._chooser = None
        if outcome is not None:
            search = TransferSearch(outcome.process, config.neighbours, config.rounds, config.head)
            self._chooser = outcome, search

    def get_ready(self, env: HPOVectorEnv) -> None:
        if self.config.proposals > 1 and self._chooser is None and env.suite.known_range is not None:
            training = TrainingTasks(env.suite, env.engine.tasks)
            self._choose_with(TransferModel.learn(Problem.of(env), training, self.config, self.seed, self.device))

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        saved = super().state_dict(resumable)
        if self._chooser is not None:
            saved["outcome"] = self._chooser[0].state_dict()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        super().load_state_dict(saved, resumable)
        kept = saved.get("outcome") if self.config.proposals > 1 else None
        self._choose_with(None if kept is None else TransferModel.from_state_dict(kept, self.device))
