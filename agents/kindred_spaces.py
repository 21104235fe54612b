"""Search spaces that go by several names: an embedded one is fitted to a published scenario, or to runs of a flow."""

from __future__ import annotations

from hpo_gym.fitting.recipes import RUN_RECIPES, SURROGATE_RECIPES

__all__ = ["names_of_space"]

_FORMS = (
    *({recipe.space, recipe.scenario, recipe.scenario.partition("@")[0]} for recipe in SURROGATE_RECIPES),
    *({recipe.space, f"flow-{recipe.flow}"} for recipe in RUN_RECIPES),
)


def names_of_space(name: str) -> set[str]:
    """Return all names of the space that a suite is called by, its own among them."""
    return {name}.union(*(forms for forms in _FORMS if name in forms))
