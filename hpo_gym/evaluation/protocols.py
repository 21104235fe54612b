"""Evaluation protocols by name: which tasks are played, and what a method may have learned before.

Results of different protocols say different things; a report refuses to mix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpo_gym.errors import unknown_name
from hpo_gym.evaluation.published.grpoformer import GRPOFORMER_36
from hpo_gym.evaluation.published.hpob_v3 import HPOB_V3

__all__ = ["PROTOCOLS", "Knowledge", "Protocol", "find_protocol"]

#: What a method may have learned from: training tasks of the space itself, of other spaces only, or nothing.
Knowledge = Literal["same-space", "other-spaces", "none"]


@dataclass(frozen=True)
class Protocol:
    """What an evaluation is.

    Args:
        name: Its name.
        description: What it measures, in a sentence.
        knowledge: What a method may have learned from before.
        environment: The registered id whose objective and episodes it takes, if nothing else is asked for.
        splits: Split protocol: ``dataset-disjoint`` or ``per-space``.
        split: The tasks that are played; ``val`` may stand in for it while a method is developed.
        source: Where its tasks come from; empty: from where the environment takes them.
        spaces: The search spaces that it consists of; empty: the one of the environment.
        sources: Where its tasks may come from; empty: anywhere.
        budget: Full evaluations per episode, if nothing else is asked for.
        seeds: Repetitions per task, if nothing else is asked for.
        settings: Fields of :class:`~hpo_gym.mdp.EpisodeSettings` that belong to it.
        initial_points, published_points: See :class:`~hpo_gym.evaluation.Rules`.
    """

    name: str
    description: str
    knowledge: Knowledge
    environment: str = "HPO-OpenML-v0"
    splits: str = "dataset-disjoint"
    split: str = "test"
    source: str = ""
    spaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    budget: int = 50
    seeds: int = 5
    settings: Mapping[str, Any] = field(default_factory=dict)
    initial_points: int = 0
    published_points: bool = False


_OPENML = ("bundled", "yahpo", "hpob", "openml", "runs")

_ALL = (
    Protocol(
        "openml-transfer",
        "Learn on the training datasets of a search space, be tested on datasets that are training data of no space.",
        knowledge="same-space",
        sources=_OPENML,
    ),
    Protocol(
        "openml-zero-shot",
        "Neither the search space nor the datasets were seen: what is learned has to come from other spaces.",
        knowledge="other-spaces",
        sources=_OPENML,
    ),
    Protocol(
        "single-task",
        "No data from before: every task is solved from scratch.",
        knowledge="none",
    ),
    Protocol(
        "multi-fidelity",
        "As openml-transfer, and every trial chooses its share of a full evaluation, and pays it.",
        knowledge="same-space",
        environment="HPO-OpenMLMultiFidelity-v0",
        settings={"multi_fidelity": True},
    ),
    Protocol(
        "live",
        "Every evaluation trains a model on a real dataset; what is learned may come from other datasets, or from "
        "surrogates of them.",
        knowledge="same-space",
        environment="HPO-Live-v0",
        sources=("live",),
        budget=30,
    ),
    Protocol(
        "grpoformer-36",
        "Six model families on six datasets, trained live, as in the paper of GRPOformer (arXiv 2509.17105): everybody "
        "spends the same number of evaluations, and has learned nothing before.",
        knowledge="none",
        environment="HPO-Live-v0",
        split="all",
        source="grpoformer",
        spaces=tuple(family.name for family in GRPOFORMER_36.families),
        sources=("live",),
        budget=GRPOFORMER_36.fair_budget,
    ),
    Protocol(
        "hpob-v3",
        "The official meta-test tasks of HPO-B v3 (arXiv 2106.06257) with continuous configurations: 16 spaces, 86 "
        "datasets, its 5 initial points and 100 trials; its training tasks overlap with test tasks of other spaces.",
        knowledge="same-space",
        environment="HPO-HPOBContinuous-v0",
        splits="per-space",
        sources=("hpob",),
        budget=HPOB_V3.initial_points + HPOB_V3.trials,
        settings={"start": "none"},
        initial_points=HPOB_V3.initial_points,
        published_points=True,
    ),
)

#: Every protocol by name.
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """Return the protocol called ``name``.

    Raises:
        UnknownNameError: If there is none, with the closest name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
