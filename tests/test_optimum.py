"""The search for the optimum and range of every task."""

from __future__ import annotations

import pytest
import torch

from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.testing.tiny import TINY_SUITES

SEARCH = OptimumSearch(sobol=512, starts=4, rounds=2, gradient_steps=60)


@pytest.mark.parametrize("name", TINY_SUITES)
def test_finds_the_known_optimum(name: str) -> None:
    suite = TINY_SUITES[name]()
    truth = suite.require_range()
    found = find_known_range(suite, SEARCH)
    torch.testing.assert_close(found.best, truth.best, atol=1e-4, rtol=0)
    assert (found.worst >= truth.worst - 1e-6).all()
    assert (found.worst < found.median).all() and (found.median < found.best).all()


@pytest.mark.parametrize("name", TINY_SUITES)
def test_the_best_configuration_scores_what_is_claimed_and_is_legal(name: str) -> None:
    suite = TINY_SUITES[name]()
    found = find_known_range(suite, SEARCH)
    task = torch.arange(suite.num_tasks)
    score = suite.evaluate(task, found.best_u, suite.space.active(found.best_u)).score
    torch.testing.assert_close(score, found.best)
    assert suite.space.legal(found.best_u).all()
    torch.testing.assert_close(suite.space.snap(found.best_u), found.best_u)


def test_refinement_never_loses_a_point() -> None:
    suite = TINY_SUITES["conditional"]()
    sampled = find_known_range(suite, OptimumSearch(sobol=512, starts=4, rounds=0))
    refined = find_known_range(suite, SEARCH)
    assert (refined.best >= sampled.best).all()


def test_is_deterministic_and_depends_on_the_seed() -> None:
    suite = TINY_SUITES["conditional"]()
    search = OptimumSearch(sobol=64, starts=2, rounds=1, seed=0)
    first, second = find_known_range(suite, search), find_known_range(suite, search)
    assert torch.equal(first.best_u, second.best_u)
    other = find_known_range(suite, OptimumSearch(sobol=64, starts=2, rounds=1, seed=1))
    assert not torch.equal(first.worst, other.worst)
