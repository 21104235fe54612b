"""Gymnasium environments: two thin shells over the dynamics in :mod:`hpo_gym.mdp`."""

from hpo_gym.envs.asynchronous import AsynchronousEnv
from hpo_gym.envs.numpy_bridge import TorchToNumpy
from hpo_gym.envs.scalar import HPOEnv
from hpo_gym.envs.vector import HPOVectorEnv

__all__ = ["AsynchronousEnv", "HPOEnv", "HPOVectorEnv", "TorchToNumpy"]
