"""Search spaces as tensors. Importing this package does not import ConfigSpace."""

from hpo_gym.spaces.clauses import Atom, Relation
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.descriptors import DESCRIPTOR_NAMES
from hpo_gym.spaces.grid import Grid
from hpo_gym.spaces.search_space import SearchSpace
from hpo_gym.spaces.spec import SpaceSpec

__all__ = [
    "DESCRIPTOR_NAMES",
    "Atom",
    "Column",
    "Grid",
    "Relation",
    "SearchSpace",
    "SpaceSpec",
]
