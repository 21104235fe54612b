"""The Gaussian process whose prior comes from training tasks: its posterior, what it learns, and how it searches."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.base import Interface
from agents.contenders import as_contender
from agents.greedy_portfolio import greedy_cover
from agents.populations import Trials
from agents.problem import Problem, TrainingTasks
from agents.random_search import RandomSearch, RandomSearchConfig
from agents.surface_features import SurfaceFeatures, fit_surfaces
from agents.transfer_gp import TransferGP, TransferGPConfig
from agents.transfer_model import TransferConfig, TransferModel
from agents.transfer_process import Posterior, TransferProcess
from agents.transfer_search import TransferSearch
from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, SplitLeakError
from hpo_gym.evaluation import evaluate
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.testing.tiny import conditional_suite, quadratic_suite

SUITES = {"quadratic": quadratic_suite, "conditional": conditional_suite}
TASKS = 12
#: Twelve bowls: the last four are held out.
TRAINING, HELD_OUT = torch.arange(8), torch.arange(8, 12)
CHEAP = TransferConfig(samples=300, hidden=32, surface_steps=500, kernel_steps=30)


def a_process(tiny: str = "quadratic", surfaces: int = 5, seed: int = 0) -> TransferProcess:
    """Return a process whose features and parameters are random."""
    spec = SUITES[tiny]().space.spec
    with seeded(seed):
        features = SurfaceFeatures(spec, surfaces, 16)
        process = TransferProcess(features)
        with torch.no_grad():
            features.layers[-1].weight.mul_(6.0)
            process.log_lengths.normal_().mul_(0.3).sub_(0.7)
            process.log_amplitude.fill_(-1.0)
            process.log_weight.fill_(0.4)
            process.log_scale.copy_(torch.tensor([-2.0, 0.8]))
    process.requires_grad_(False)
    return process


def some_trials(process: TransferProcess, batch: int = 3, count: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return random configurations and scores of them that are smooth."""
    draws, space = generator(seed, "test"), process.features.space
    u = space.sample(batch * count, draws).view(batch, count, -1)
    centre = torch.rand(batch, 1, u.shape[2], generator=draws)
    return u, 1.0 - 0.4 * (u - centre).square().mean(2)


def conditioned(process: TransferProcess, u: Tensor, score: Tensor) -> Posterior:
    return process.condition(u, score, torch.ones(score.shape, dtype=torch.bool))


@pytest.mark.parametrize("tiny", ["quadratic", "conditional"])
def test_a_posterior_is_that_of_the_prior_written_out(tiny):
    """In numpy, with the offset's variance of 25 and the noise of 1e-6."""
    process = a_process(tiny)
    u, score = some_trials(process)
    posterior = conditioned(process, u, score)
    points = process.features.space.sample(3 * 7, generator(9, "test")).view(3, 7, -1)
    found = [part.numpy() for part in posterior.predict(points)]
    for row in range(3):
        both = process.features.encode(torch.cat([u[row], points[row]]))
        feature = process.features(both).double().numpy()
        mean = feature.mean(1) * float(posterior.trust[row])
        covariance = math.exp(0.4) * float(posterior.trust[row]) ** 2 * np.cov(feature, ddof=0)
        lengths = posterior.lengths[row].numpy()
        scaled = both.double().numpy() / lengths
        distance = np.sqrt(5.0) * np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
        matern = (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)
        covariance += float(posterior.amplitude[row]) ** 2 * matern
        covariance += 25.0 + np.diag([1e-6] * 9 + [0.0] * 7)
        gap = (score[row] - score[row].max()).double().numpy() / float(posterior.scale[row])
        known, cross, new = covariance[:9, :9], covariance[9:, :9], covariance[9:, 9:]
        expected = mean[9:] + cross @ np.linalg.solve(known, np.clip(gap, -3.0, None) - mean[:9])
        variance = np.diag(new - cross @ np.linalg.solve(known, cross.T))
        np.testing.assert_allclose(found[0][row], expected, atol=1e-4)
        np.testing.assert_allclose(found[1][row], np.sqrt(variance), atol=1e-4)


def test_a_posterior_knows_its_trials_and_little_of_what_is_far():
    process = a_process()
    u, score = some_trials(process, count=6)
    posterior = conditioned(process, u, score)
    mean, deviation = posterior.predict(u)
    gap = (score - score.amax(1, keepdim=True)) / posterior.scale[:, None]
    assert torch.allclose(mean, gap.double().clamp(min=-3.0), atol=2e-2)
    elsewhere = process.features.space.sample(600, generator(9, "test")).view(3, 200, -1)
    assert bool((posterior.predict(elsewhere)[1].mean(1) > 5.0 * deviation.mean(1)).all())


def test_padding_is_no_trial():
    process = a_process()
    u, score = some_trials(process)
    points = process.features.space.sample(30, generator(9, "test")).view(3, 10, -1)
    plain = conditioned(process, u, score)
    draws = generator(4, "test")
    padded = torch.cat([u, torch.rand(3, 4, 2, generator=draws)], 1)
    # Padding that would be the best trial of all.
    scores = torch.cat([score, torch.full((3, 4), 5.0)], 1)
    done = (torch.arange(13) < 9).expand(3, -1)
    with_padding = process.condition(padded, scores, done)
    assert torch.equal(with_padding.scale, plain.scale) and torch.equal(with_padding.amplitude, plain.amplitude)
    for mine, theirs in zip(with_padding.predict(points), plain.predict(points), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert torch.allclose(with_padding.weights, plain.weights, atol=1e-6)
    improvements = [one.improvement_on_training_tasks(points) for one in (with_padding, plain)]
    assert torch.allclose(*improvements, atol=1e-6)


def test_episodes_of_different_length_are_conditioned_on_as_each_alone():
    process = a_process()
    u, score = some_trials(process)
    points = process.features.space.sample(30, generator(9, "test")).view(3, 10, -1)
    counts = torch.tensor([1, 9, 4])
    together = process.condition(u, score, torch.arange(9) < counts[:, None])
    value = together.log_improvement(points)
    for row, count in enumerate(counts.tolist()):
        alone = conditioned(process, u[row : row + 1, :count], score[row : row + 1, :count])
        assert torch.equal(alone.trust[0], together.trust[row]) and alone.scale[0] == together.scale[row]
        assert torch.allclose(alone.log_improvement(points[row : row + 1])[0], value[row], atol=1e-5)


def test_the_offset_and_the_scale_of_scores_do_not_matter_beyond_what_is_believed_of_them():
    process = a_process()
    u, score = some_trials(process)
    points = process.features.space.sample(30, generator(9, "test")).view(3, 10, -1)
    plain, shifted = conditioned(process, u, score), conditioned(process, u, score - 0.25)
    for mine, theirs in zip(plain.predict(points), shifted.predict(points), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


def swept(posterior: Posterior, points: Tensor, factors: Tensor) -> list[Posterior]:
    """Return posteriors whose means differ and whose deviations are the same."""
    return [dataclasses.replace(posterior, half=posterior.half * float(factor)) for factor in factors]


def test_log_expected_improvement_is_the_integral():
    process = a_process()
    u, score = some_trials(process, batch=1)
    points = process.features.space.sample(40, generator(9, "test")).view(1, 40, -1)
    posterior = conditioned(process, u, score)
    mean, deviation = (part[0] for part in posterior.predict(points))
    value = posterior.log_improvement(points)[0]
    compared = 0
    for m, s, log_ei in zip(mean.tolist(), deviation.tolist(), value.tolist(), strict=True):
        if m / s < -5.0:
            continue
        above = np.linspace(0.0, max(m, 0.0) + 12.0 * s, 20_001)
        density = np.exp(-0.5 * ((above - m) / s) ** 2) / (s * math.sqrt(2.0 * math.pi))
        integral = float(np.trapezoid(above * density, above))
        assert log_ei == pytest.approx(math.log(integral), abs=1e-4)
        compared += 1
    assert compared >= 10


def test_log_expected_improvement_rises_with_the_mean_however_far_below():
    process = a_process()
    u, score = some_trials(process, batch=1)
    points = process.features.space.sample(60, generator(9, "test")).view(1, 60, -1)
    posterior = conditioned(process, u, score)
    mean, deviation = (part[0] for part in posterior.predict(points))
    # The point whose mean the trials lower the most, for its deviation.
    other = swept(posterior, points, torch.tensor([2.0]))[0].predict(points)[0][0]
    point = int(((other - mean) / deviation).argmin())
    slope, begin = float((other - mean)[point] / deviation[point]), float(mean[point] / deviation[point])
    assert slope < 0.0
    wanted = torch.cat([torch.linspace(-3.0, -9.0, 601), -torch.logspace(1.0, 4.0, 100)]).double()
    values = torch.stack(
        [
            one.log_improvement(points[:, point : point + 1])[0, 0]
            for one in swept(posterior, points, 1.0 + (wanted - begin) / slope)
        ]
    )
    assert bool(values.isfinite().all())
    # From the asymptotic series log h(z) = -z^2 / 2 - log(sqrt(2 pi)) - 2 log(-z) + log(1 - 3 / z^2 + ...).
    far = wanted < -30.0
    series = -0.5 * wanted.square() - 0.5 * math.log(2.0 * math.pi) - 2.0 * (-wanted).log()
    assert torch.allclose((values - deviation[point].log())[far], series[far], atol=5e-3, rtol=1e-6)
    assert bool((values.diff() < 0.0).all()), "a lower mean is worth more"


def test_equally_weighted_training_tasks_are_worth_what_a_greedy_portfolio_adds():
    process = a_process(surfaces=6)
    space = process.features.space
    u, score = some_trials(process, batch=1, count=3)
    points = space.sample(50, generator(9, "test"))
    posterior = conditioned(process, u, score)
    even = dataclasses.replace(posterior, weights=torch.full_like(posterior.weights, 1.0 / 6.0))
    gain = even.improvement_on_training_tasks(points[None])[0]
    # What a training task says is good is a small regret there.
    regret = -process.features(process.features.encode(points)).double()
    reached = -process.features(process.features.encode(u[0])).double().amax(0)
    expected = reached.mean() - torch.minimum(regret, reached).mean(1)
    assert torch.allclose(gain, expected, atol=1e-5)
    assert int(gain.argmax()) == int(greedy_cover(regret, 1, reached)[0])
    # An episode that is like one training task asks that one alone.
    one = dataclasses.replace(posterior, weights=torch.eye(6, dtype=torch.float64)[:1])
    alone = (reached[0] - regret[:, 0]).clamp(min=0.0)
    assert torch.allclose(one.improvement_on_training_tasks(points[None])[0], alone, atol=1e-5)


# --- features ---------------------------------------------------------------------------------------------------------


def test_configurations_of_a_conditional_space_are_encoded():
    """Three numbers, one-hot kernel and shrinking, and whether gamma and degree are active."""
    features = SurfaceFeatures(conditional_suite().space.spec, 2, 8)
    # kernel, C, gamma, degree (2, 3, 4 or 5), shrinking
    u = torch.tensor([[0.1, 0.3, 0.7, 0.6, 0.1], [0.5, 0.3, 0.7, 0.6, 0.9], [0.9, 0.3, 0.7, 0.6, 0.1]])
    encoded = features.encode(u)
    assert features.width == encoded.shape[1] == 3 + 3 + 2 + 2
    linear, rbf, poly = encoded.tolist()
    degree = 2.0 / 3.0
    assert linear == pytest.approx([0.3, 0.0, 0.0, 0.7, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0])
    assert rbf == pytest.approx([0.3, 0.7, 0.0, 0.0, 0.7, 0.0, 0.0, 0.7, 0.5, 0.0])
    assert poly == pytest.approx([0.3, 0.7, degree, 0.0, 0.0, 0.7, 0.7, 0.0, 0.5, 0.5])
    other = u.clone()
    other[0, 2:4] = torch.tensor([0.2, 0.05])
    assert torch.equal(features.encode(other)[0], encoded[0]), "an inactive value matters"
    assert torch.equal(features.encode(u.view(3, 1, 5)), encoded[:, None])


def test_features_learn_the_surfaces():
    suite = quadratic_suite(num_tasks=4)
    draws = generator(0, "test")
    u = suite.space.sample(600, draws)
    task = torch.arange(4).repeat_interleave(600)
    score = suite.evaluate(task, u.repeat(4, 1), torch.ones(2400, 2, dtype=torch.bool)).score.view(4, 600).T
    with seeded(0):
        features = SurfaceFeatures(suite.space.spec, 4, 32)
    error = fit_surfaces(features, u[:500], score[:500], 600, draws)
    new = features(features.encode(u[500:]))
    assert error < 0.6 * float(score.std())
    assert float((new - score[500:]).square().mean().sqrt()) < 1.2 * error, "it knows no more than what it was shown"
    assert not any(parameter.requires_grad for parameter in features.parameters())


# --- learning and playing ---------------------------------------------------------------------------------------------


def bowls(num_envs: int = 32, budget: int = 12) -> HPOVectorEnv:
    return HPOVectorEnv(
        num_envs,
        source=quadratic_suite(num_tasks=TASKS),
        split="all",
        action="continuous",
        observation="history",
        budget=budget,
    )


@pytest.fixture(scope="module")
def learned() -> tuple[TransferModel, TrainingTasks]:
    env = bowls()
    training = TrainingTasks(env.suite, TRAINING)
    return TransferModel.learn(Problem.of(env), training, CHEAP, 0, torch.device("cpu")), training


def test_what_was_learned_predicts_tasks_that_were_not(learned):
    model, training = learned
    assert 0 < training.evaluations <= (CHEAP.samples + 1) * len(TRAINING)
    suite = quadratic_suite(num_tasks=TASKS)
    u = suite.space.sample(4 * 108, generator(5, "test")).view(4, 108, 2)
    active = torch.ones(432, 2, dtype=torch.bool)
    score = suite.evaluate(HELD_OUT.repeat_interleave(108), u.flatten(0, 1), active).score.view(4, 108)
    posterior = conditioned(model.process, u[:, :8], score[:, :8])
    mean, _ = posterior.predict(u[:, 8:])
    ranks = torch.stack([mean, score[:, 8:].double()], 1).argsort(2).argsort(2)
    agreement = [float(np.corrcoef(pair.numpy())[0, 1]) for pair in ranks]
    assert min(agreement) > 0.9, agreement


def test_trials_say_whether_training_tasks_are_to_be_trusted(learned):
    """Scores that a training task gives, and the same turned upside down."""
    model, _ = learned
    suite = quadratic_suite(num_tasks=TASKS)
    u = suite.space.sample(8 * 20, generator(7, "test")).view(8, 20, 2)
    active = torch.ones(160, 2, dtype=torch.bool)
    score = suite.evaluate(TRAINING.repeat_interleave(20), u.flatten(0, 1), active).score.view(8, 20)
    like, unlike = conditioned(model.process, u, score), conditioned(model.process, u, 1.0 - score)
    assert like.trust.flatten().tolist() == [1.0] * 8 and unlike.trust.flatten().tolist() == [0.0] * 8
    assert torch.allclose(like.weights.sum(1), torch.ones(8, dtype=torch.float64))
    # Two bowls may lie side by side.
    assert int((like.weights.argmax(1) == TRAINING).sum()) >= 6


def test_a_model_is_restored_bit_by_bit(learned):
    model, _ = learned
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    restored = TransferModel.from_state_dict(torch.load(buffer, weights_only=True), torch.device("cpu"))
    u, score = some_trials(model.process)
    points = torch.rand(3, 20, 2, generator=generator(1, "test"))
    values = [conditioned(one.process, u, score).log_improvement(points) for one in (model, restored)]
    assert torch.equal(*values)
    assert torch.equal(*(one.candidates(3, 5, generator(0, "test")) for one in (model, restored)))
    assert not any(parameter.requires_grad for parameter in restored.process.parameters())


def test_candidates_are_what_was_good_on_training_tasks_and_others(learned):
    model, _ = learned
    found = model.candidates(4, 30, generator(0, "test"))
    assert found.shape == (4, model.good + 30, 2)
    assert torch.equal(found[:, : model.good], model.points[: model.good].expand(4, -1, -1))
    assert not torch.equal(found[0, model.good :], found[1, model.good :])
    centres: Any = quadratic_suite(num_tasks=TASKS).surrogate
    nearest = torch.cdist(centres.centres[TRAINING], model.points[: model.good]).amin(1)
    assert float(nearest.max()) < 0.1, "a training task whose optimum is no candidate"


def test_a_search_returns_the_best_legal_candidate():
    """Without neighbours of any use (no rounds): what is most promising of all that it may choose."""
    process = a_process("conditional")
    space: SearchSpace = process.features.space
    u, score = some_trials(process, batch=4)
    trials = Trials(u, space.active(u.flatten(0, 1)).view(4, 9, 5), score, torch.ones(4, 9, dtype=torch.bool))
    candidates = torch.rand(4, 200, 5, generator=generator(3, "test"))
    candidates = space.snap(candidates.flatten(0, 1)).view(4, 200, 5)
    legal = space.legal(candidates.flatten(0, 1)).view(4, 200)
    assert not bool(legal.all())
    posterior = conditioned(process, u, score)
    for head, rule in ((0, posterior.log_improvement), (9, posterior.improvement_on_training_tasks)):
        found = TransferSearch(process, 8, 0, head)(trials, candidates, generator(0, "test"))
        best = rule(candidates).masked_fill(~legal, -torch.inf).amax(1)
        assert bool(space.legal(found).all())
        assert bool((rule(found[:, None])[:, 0] >= best - 1e-9).all())
        searched = TransferSearch(process, 64, 3, head)(trials, candidates, generator(0, "test"))
        assert bool((rule(searched[:, None])[:, 0] >= best - 1e-9).all())
        assert float((rule(searched[:, None])[:, 0] - best).mean()) > 0.0, "neighbours bring nothing"


def held_out_regret(agent: TransferGP | RandomSearch, env: HPOVectorEnv) -> Tensor:
    """Return the final regret on every held-out task, ``[4]``."""
    rows = HELD_OUT.repeat_interleave(env.num_envs // 4)
    observation, _ = env.reset(seed=1, options={"task_index": rows})
    draws = generator(0, "test")
    while True:
        observation, _, terminated, _, info = env.step(agent.act(observation, None, draws))
        if bool(terminated.all()):
            return info["final_info"]["regret"].view(4, -1).mean(1)


def a_transfer_gp(env: HPOVectorEnv, **settings: Any) -> TransferGP:
    quick = {"samples": 200, "hidden": 32, "surface_steps": 300, "kernel_steps": 20, "candidates": 64, "neighbours": 32}
    agent = TransferGP(TransferGPConfig(**quick | settings), Interface.of(env))
    agent.prepare(Problem.of(env, TrainingTasks(env.suite, TRAINING)))
    return agent


def test_it_finds_the_optimum_of_held_out_tasks():
    env = bowls()
    agent = a_transfer_gp(env, head=2, rounds=1)
    assert 0 < agent.training_evaluations <= 201 * len(TRAINING)
    mine = held_out_regret(agent, env)
    random = held_out_regret(RandomSearch(RandomSearchConfig(), Interface.of(env)), env)
    assert bool((mine < 0.1 * random).all()), (mine, random)


def test_its_first_trial_is_the_best_on_average_where_nothing_was_evaluated():
    env = HPOVectorEnv(
        8,
        source=quadratic_suite(num_tasks=TASKS),
        split="all",
        action="continuous",
        observation="history",
        budget=4,
        start="none",
    )
    agent = a_transfer_gp(env, samples=400, surface_steps=1000)
    observation, _ = env.reset(seed=0)
    draws = generator(0, "test")
    first = agent.act(observation, None, draws)
    training = TrainingTasks(env.suite, TRAINING)
    others = training.regret(torch.rand(200, 2, generator=draws)).mean(1)
    assert bool((training.regret(first).mean(1) <= others.quantile(0.05)).all())
    shown: Any = env.step(first)[0]
    mixed = Trials.of(shown, 2)
    mixed = dataclasses.replace(mixed, done=mixed.done & (torch.arange(8) < 4)[:, None])
    proposed = agent.propose(mixed, generator(0, "test"))
    assert bool(proposed.isfinite().all())
    # Those without a trial begin like any other; those with one go on.
    assert bool((training.regret(proposed[4:]).mean(1) <= others.quantile(0.05)).all())
    assert not bool((proposed[:4] == first[:4]).all(1).any())


def test_it_is_evaluated_like_any_other_agent_and_not_on_what_it_learned_from():
    from agents.comparison import ComparisonConfig, prepare
    from agents.environments import EnvironmentConfig

    env = bowls(num_envs=1, budget=5)
    agent = a_transfer_gp(env, samples=50, surface_steps=20)
    records = evaluate(as_contender(agent), env.suite, split="val", seeds=2, budget=5)
    assert set(records.frame["trial"]) == {1, 2, 3, 4, 5}
    tree = EnvironmentConfig(id="HPO-Synthetic-v0", space="bbob-2d", budget=5)
    with pytest.raises(SplitLeakError, match=r"'transfer_gp'.*allow_leak=true"):
        prepare(ComparisonConfig(agents=("random", "transfer_gp"), env=tree, split="train", seeds=1))


def test_without_training_tasks_it_says_what_it_needs():
    env = bowls(num_envs=1)
    agent = TransferGP(TransferGPConfig(), Interface.of(env))
    with pytest.raises(InvalidSettingError, match=r"'transfer_gp' learns from training tasks"):
        agent.prepare(Problem.of(env))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(name, 0) for name in ("samples", "hidden", "surface_steps", "kernel_steps", "candidates", "neighbours")],
        ("rounds", -1),
        ("head", -1),
        ("head", 2.5),
    ],
)
def test_impossible_settings_are_refused_by_name(field, value):
    with pytest.raises(InvalidSettingError, match=field):
        TransferGPConfig(**{field: value})
