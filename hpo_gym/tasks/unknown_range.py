"""What to do where the best and worst of a suite's tasks are not known."""

from __future__ import annotations

__all__ = ["MEASURED_SOURCES", "RANGE_SOURCES", "range_remedy"]

#: Sources that train models.
MEASURED_SOURCES = ("live", "grpoformer")

#: Sources whose ranges are found once and kept.
RANGE_SOURCES = ("bundled", "yahpo")


def range_remedy(source: str, arguments: str) -> str:
    """Return what to do where the range of a suite's tasks is not known.

    Args:
        source: Of the suite.
        arguments: What ``find_optima`` takes after the source.
    """
    if source in MEASURED_SOURCES:
        return (
            "Models are really trained there, and nobody knows the best score: use a reward that needs no range, such "
            "as reward=improvement with reward_scale=none (env.reward=..., env.reward_scale=... on the command line)."
        )
    if source not in RANGE_SOURCES:
        return (
            f"`python -m hpo_gym.find_optima` keeps ranges of {' and '.join(RANGE_SOURCES)} suites only: set "
            "suite.known_range = hpo_gym.tasks.optimum.find_known_range(suite) and give the environment source=suite."
        )
    return (
        f"Find and cache them once with `python -m hpo_gym.find_optima {source} {arguments}`; add --data-dir if you "
        "gave data_dir."
    )
