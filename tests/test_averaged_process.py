"""The Gaussian process that is averaged over its hyperparameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agents.averaged_process import AveragedProcess
from agents.normal_improvement import log_expected_improvement
from agents.outcome_search import OutcomeSearch
from agents.populations import Trials
from hpo_gym.seeding import generator
from hpo_gym.spaces import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.testing.tiny import TINY_SUITES

LINE = SpaceSpec((Column("x", "float", 0.0, 1.0, default=0.5), Column("y", "float", 0.0, 1.0, default=0.5)), {})


def on_a_hill(batch: int, trials: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points of the square, and scores that only their first coordinate decides, best at 0.3."""
    u = torch.rand(batch, trials, 2, generator=generator(seed, "test"))
    return u, 1.0 - (u[:, :, 0] - 0.3).square()


def test_expected_improvement_is_that_of_a_normal_variable():
    mean = torch.tensor([-2.0, -0.5, 0.0, 1.5], dtype=torch.float64)
    deviation = torch.tensor([1.0, 0.3, 2.0, 0.1], dtype=torch.float64)
    draws = torch.randn(2_000_000, 1, generator=generator(0, "test"), dtype=torch.float64)
    sampled = (mean + deviation * draws).clamp(min=0.0).mean(0)
    assert torch.allclose(log_expected_improvement(mean, deviation).exp(), sampled, rtol=0.02, atol=1e-4)
    # Forty deviations below, where the ordinary formula is nothing but rounding: Mills' ratio says z^-2 phi(z).
    far = log_expected_improvement(torch.tensor([-40.0]).double(), torch.ones(1).double())
    assert float(far) == pytest.approx(-0.5 * 1600 - 0.5 * math.log(2 * math.pi) - 2 * math.log(40.0), abs=0.01)


def test_the_posterior_is_that_of_scikit_learn_for_each_draw_of_length_scales():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    u, score = on_a_hill(2, 9)
    asked = torch.rand(2, 5, 2, generator=generator(1, "test"))
    process = AveragedProcess(LINE, 0)
    posterior = process.condition(u, score, torch.ones(2, 9, dtype=torch.bool))
    mean, deviation = posterior.predict(asked)
    for row in range(2):
        worth = (score[row] - score[row].max()).double()
        worth = (worth / worth.std()).numpy()
        for draw in (0, 7):
            kernel = ConstantKernel(10.0, "fixed") + Matern(posterior.lengths[row, draw].numpy(), "fixed", 2.5)
            reference = GaussianProcessRegressor(kernel, alpha=1e-4, optimizer=None)
            reference.fit(process.encoder.encode(u[row]).double().numpy(), worth)
            at = process.encoder.encode(asked[row]).double().numpy()
            expected, spread = reference.predict(at, return_std=True)
            assert np.allclose(mean[row, draw], expected, atol=1e-6)
            scale = float(posterior.variance[row, draw].sqrt())
            assert np.allclose(deviation[row, draw], spread * scale, atol=1e-5)


def test_length_scales_learn_which_hyperparameter_matters():
    u, score = on_a_hill(16, 20)
    posterior = AveragedProcess(LINE, 0).condition(u, score, torch.ones(16, 20, dtype=torch.bool))
    weight = posterior.log_weight.exp()[:, :, None]
    x, y = (posterior.lengths.log() * weight).sum(1).mean(0)
    assert float(y - x) > math.log(2.0)


def test_padding_changes_nothing_and_neither_do_offset_and_scale_of_scores():
    u, score = on_a_hill(3, 6)
    done = torch.ones(3, 6, dtype=torch.bool)
    process, asked = AveragedProcess(LINE, 0), torch.rand(3, 20, 2, generator=generator(1, "test"))
    plain = process.condition(u, score, done).log_improvement(asked)
    more = torch.cat([u, torch.rand(3, 4, 2, generator=generator(2, "test"))], 1)
    padded = torch.cat([score, torch.full((3, 4), 0.99)], 1)
    padding = torch.cat([done, torch.zeros(3, 4, dtype=torch.bool)], 1)
    assert torch.allclose(process.condition(more, padded, padding).log_improvement(asked), plain, atol=1e-8)
    scaled = process.condition(u, 0.25 * score + 0.5, done).log_improvement(asked)
    assert torch.allclose(scaled, plain, atol=1e-3)


def test_an_episode_does_not_depend_on_those_beside_it():
    u, score = on_a_hill(40, 30)
    done, asked = torch.ones(40, 30, dtype=torch.bool), torch.rand(40, 8, 2, generator=generator(1, "test"))
    process = AveragedProcess(LINE, 0)
    together = process.condition(u, score, done).log_improvement(asked)
    alone = torch.cat(
        [process.condition(u[i, None], score[i, None], done[:1]).log_improvement(asked[i, None]) for i in range(40)]
    )
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(("tiny", "searched"), [("quadratic", 8), ("conditional", 20)])
def test_searching_with_it_finds_what_random_trials_do_not(tiny, searched):
    suite = TINY_SUITES[tiny]()
    space, draws = suite.space, generator(0, "test")
    task = torch.arange(suite.num_tasks).repeat(4)

    def score(u: torch.Tensor) -> torch.Tensor:
        return suite.evaluate(task, u, space.active(u)).score * space.legal(u)

    search = OutcomeSearch(AveragedProcess(space.spec, 0), 64, 2)
    shown = torch.stack([space.sample(len(task), draws) for _ in range(4)], 1)
    scores = torch.stack([score(shown[:, trial]) for trial in range(4)], 1)
    for _ in range(searched):
        candidates = space.sample(len(task) * 64, draws).view(len(task), 64, -1)
        active = space.active(shown.flatten(0, 1)).view_as(shown)
        trials = Trials(shown * active, active, scores, torch.ones_like(scores, dtype=torch.bool))
        proposed = search(trials, candidates, draws)
        shown, scores = torch.cat([shown, proposed[:, None]], 1), torch.cat([scores, score(proposed)[:, None]], 1)
    others = torch.stack([score(space.sample(len(task), draws)) for _ in range(4 + searched)], 1)
    regret = [suite.regret(task, best).mean() for best in (scores.amax(1), others.amax(1))]
    assert float(regret[0]) < 0.5 * float(regret[1])
