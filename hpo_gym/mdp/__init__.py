"""The Markov decision process: settings, state and dynamics on tensors, without Gymnasium."""

from hpo_gym.mdp.dynamics import Dynamics, Outcome
from hpo_gym.mdp.observations import history_view
from hpo_gym.mdp.settings import EpisodeSettings
from hpo_gym.mdp.state import EpisodeState, History

__all__ = ["Dynamics", "EpisodeSettings", "EpisodeState", "History", "Outcome", "history_view"]
