"""Conformance suites that anyone's environment, surrogate or agent can be held to.

Subclass a case in a test module, give its fixture, and pytest runs every check of the contract::

    from hpo_gym.testing import SurrogateCase

    class TestMySurrogate(SurrogateCase):
        @pytest.fixture
        def surrogate(self):
            return MySurrogate()

The cases need pytest (the extra ``test``). :mod:`hpo_gym.testing.tiny` and
:func:`hpo_gym.testing.check_vector_env` do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_gym.lazy_names import lazy_names

if TYPE_CHECKING:
    from hpo_gym.testing.agent_case import AgentCase, TrainableAgentCase
    from hpo_gym.testing.env_case import EnvCase
    from hpo_gym.testing.rollouts import rollout_digest
    from hpo_gym.testing.surrogate_case import SurrogateCase
    from hpo_gym.testing.vector_checker import check_vector_env
    from hpo_gym.testing.vector_env_case import VectorEnvCase

__all__ = [
    "AgentCase",
    "EnvCase",
    "SurrogateCase",
    "TrainableAgentCase",
    "VectorEnvCase",
    "check_vector_env",
    "rollout_digest",
]

# Imported on first use: only the cases need pytest.
_LAZY = {
    "AgentCase": "agent_case",
    "EnvCase": "env_case",
    "SurrogateCase": "surrogate_case",
    "TrainableAgentCase": "agent_case",
    "VectorEnvCase": "vector_env_case",
    "check_vector_env": "vector_checker",
    "rollout_digest": "rollouts",
}

__getattr__ = lazy_names(__name__, _LAZY)
