"""Task suites: scores, clipping, regret, and names of tasks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.surrogates.base import Metric
from hpo_gym.tasks.ref import TaskRef
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing.tiny import BowlSurrogate, conditional_suite, quadratic_suite


class Fixed(BowlSurrogate):
    """Returns a fixed raw value, whatever is asked."""

    def __init__(self, value: float) -> None:
        super().__init__(torch.zeros(1, 2))
        self.value = value

    def predict(self, task: Tensor, u: Tensor, active: Tensor, fidelity: Tensor | None = None) -> Tensor:
        return torch.full((len(task), 2), self.value)


def fixed_suite(value: float) -> TaskSuite:
    base = quadratic_suite(num_tasks=1)
    return TaskSuite(base.spec, base.space, Fixed(value), base.meta_features)


@pytest.mark.parametrize(
    ("value", "score", "clipped"),
    [
        (0.0, 1.0, False),
        (100.0, 0.0, False),
        (25.0, 0.75, False),
        (-3.0, 1.0, True),
        (250.0, 0.0, True),
        (float("nan"), 0.0, True),
        (float("inf"), 0.0, True),
    ],
)
def test_minimised_metric_becomes_a_score_and_illegal_values_are_clipped_and_counted(
    value: float, score: float, clipped: bool
) -> None:
    task = torch.zeros(1, dtype=torch.int64)
    u = torch.full((1, 2), 0.5)
    evaluation = fixed_suite(value).evaluate(task, u, torch.ones_like(u, dtype=torch.bool))
    assert evaluation.score.tolist() == [pytest.approx(score)]
    assert evaluation.clipped.tolist() == [clipped]


def test_scores_and_metric_values_are_inverse() -> None:
    for suite in (quadratic_suite(), conditional_suite()):
        score = torch.linspace(0, 1, 11)
        torch.testing.assert_close(suite.to_score(suite.to_metric(score)), score)


def test_regret_is_zero_at_the_optimum_and_one_at_the_worst() -> None:
    suite = conditional_suite()
    task = torch.arange(suite.num_tasks)
    known = suite.require_range()
    torch.testing.assert_close(suite.regret(task, known.best), torch.zeros(len(task)))
    torch.testing.assert_close(suite.regret(task, known.worst), torch.ones(len(task)))


def test_a_task_on_which_everything_scores_alike_has_no_regret_and_no_reward() -> None:
    suite = quadratic_suite(num_tasks=2)
    known = suite.require_range()
    suite.known_range = dataclasses.replace(known, worst=torch.stack([known.best[0], known.worst[1]]))
    scores = known.best - torch.tensor([1e-7, 0.0])
    assert suite.regret(torch.arange(2), scores).tolist() == [0.0, 0.0]
    envs = HPOVectorEnv(source=suite, num_envs=2, split="all", budget=5, reward_scale="range")
    envs.reset(seed=0, options={"task_index": [0, 1]})
    rewards = torch.stack([envs.step(torch.full((2,), step))[1] for step in range(4)])
    assert bool(rewards.isfinite().all()) and not bool(rewards[:, 0].any())


def test_regret_without_a_known_range_names_the_command_that_finds_it() -> None:
    suite = conditional_suite()
    suite.known_range = None
    with pytest.raises(InvalidSettingError, match="find_optima"):
        suite.require_range()


def test_tasks_are_found_by_ref_text_and_id() -> None:
    suite = conditional_suite()
    ref = suite.tasks[2]
    assert suite.position(ref) == suite.position(str(ref)) == suite.position(ref.id) == 2
    with pytest.raises(UnknownNameError, match="tiny-conditional-9"):
        suite.position("tiny-conditional-9")
    with pytest.raises(UnknownNameError):
        suite.position(TaskRef("openml-dataset", ref.id))


def test_task_refs_round_trip_and_refuse_unknown_kinds() -> None:
    ref = TaskRef("openml-task", "31")
    assert TaskRef.parse(str(ref)) == ref
    assert ref != TaskRef("openml-dataset", "31")
    with pytest.raises(UnknownNameError, match="openml-task"):
        TaskRef.parse("openml-tsk:31")


def test_parts_that_disagree_are_refused() -> None:
    suite = quadratic_suite(num_tasks=3)
    with pytest.raises(InvalidSettingError, match="3 tasks"):
        TaskSuite(suite.spec, suite.space, suite.surrogate, torch.zeros(2, 1))
    spec = dataclasses.replace(suite.spec, metric="eror")
    with pytest.raises(UnknownNameError, match="'error'"):
        TaskSuite(spec, suite.space, suite.surrogate, suite.meta_features)


def test_a_metric_needs_a_range() -> None:
    with pytest.raises(InvalidSettingError, match="lower < upper"):
        Metric("accuracy", False, 1.0, 1.0)


class TestSurrogateBoundary:
    """``forward`` checks what ``predict`` trusts."""

    def ask(self, task: Tensor, u: Tensor, fidelity: Tensor | None = None) -> Tensor:
        return quadratic_suite(num_tasks=2).surrogate(task, u, fidelity)

    def test_accepts_legal_arguments(self) -> None:
        assert self.ask(torch.tensor([0, 1]), torch.rand(2, 2)).shape == (2, 2)

    @pytest.mark.parametrize("value", [-0.001, 1.001, float("nan")])
    def test_coordinates_outside_the_cube(self, value: float) -> None:
        with pytest.raises(InvalidSettingError, match=r"\[0, 1\]"):
            self.ask(torch.tensor([0]), torch.tensor([[0.5, value]]))

    @pytest.mark.parametrize("task", [-1, 2])
    def test_task_outside_the_suite(self, task: int) -> None:
        with pytest.raises(InvalidSettingError, match=r"0 \.\. 1"):
            self.ask(torch.tensor([task]), torch.rand(1, 2))

    def test_wrong_shapes(self) -> None:
        with pytest.raises(InvalidSettingError, match=r"u \[B, 2\]"):
            self.ask(torch.tensor([0]), torch.rand(1, 3))

    def test_fidelity_where_there_is_none(self) -> None:
        with pytest.raises(InvalidSettingError, match="no fidelity"):
            self.ask(torch.tensor([0]), torch.rand(1, 2), torch.ones(1))


@pytest.mark.parametrize(
    ("source", "provenance", "parts"),
    [
        ("bundled", {"restriction": "default"}, ["find_optima bundled tiny-quadratic --metric error`", "--data-dir"]),
        ("yahpo", {"restriction": "original"}, ["yahpo tiny-quadratic --metric error --restriction original`"]),
        ("runs", {}, ["find_known_range(suite)", "source=suite"]),
        ("synthetic", {}, ["find_known_range(suite)", "source=suite"]),
    ],
)
def test_the_remedy_for_an_unknown_range_fits_the_source(
    source: str, provenance: dict[str, str], parts: list[str]
) -> None:
    suite = quadratic_suite(num_tasks=2)
    suite.spec = dataclasses.replace(suite.spec, source=source, provenance=provenance)
    suite.known_range = None
    with pytest.raises(InvalidSettingError) as caught:
        suite.require_range()
    for part in (f"{source}:tiny-quadratic", "metric 'error'", *parts):
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize("bounds", [(0.0, float("inf")), (float("-inf"), 1.0), (float("nan"), 1.0)])
def test_a_metric_needs_finite_bounds(bounds: tuple[float, float]) -> None:
    with pytest.raises(InvalidSettingError, match=r"'loss' needs finite bounds, got \[.*(inf|nan)"):
        Metric("loss", True, *bounds)
