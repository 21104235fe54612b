"""hpo_gym: hyperparameter optimisation as Gymnasium environments.

Importing the package registers its environments::

    import gymnasium as gym
    import hpo_gym

    env = gym.make("HPO-OpenML-v0", space="lcbench", split="test")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_gym.lazy_names import lazy_names
from hpo_gym.registration import register_card, register_packaged_cards, registered_ids

if TYPE_CHECKING:
    from hpo_gym.envs import HPOEnv, HPOVectorEnv
    from hpo_gym.sources import load_suite
    from hpo_gym.tasks.ref import TaskRef

__version__ = "0.1.0"

__all__ = [
    "HPOEnv",
    "HPOVectorEnv",
    "TaskRef",
    "__version__",
    "load_suite",
    "register_card",
    "registered_ids",
]

#: Where the names that are imported on first use live.
_LAZY = {
    "HPOEnv": "envs",
    "HPOVectorEnv": "envs",
    "TaskRef": "tasks.ref",
    "load_suite": "sources",
}

register_packaged_cards()


def __dir__() -> list[str]:
    return __all__


__getattr__ = lazy_names(__name__, _LAZY)
