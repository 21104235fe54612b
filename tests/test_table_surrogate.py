"""Look-up in a table of evaluations: exact on the table, the nearest row elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator
from hpo_gym.spaces import Column, SearchSpace, SpaceSpec
from hpo_gym.surrogates import table as module
from hpo_gym.surrogates.base import Metric
from hpo_gym.surrogates.table import TableSurrogate
from hpo_gym.testing import SurrogateCase

SPEC = SpaceSpec(
    (
        Column("rate", "float", 0.0, 1.0),
        Column("depth", "integer", 1, 9, default=5),
        Column("kind", "categorical", choices=("a", "b", "c"), default="a", upper=2),
    ),
    {},
)
METRICS = (Metric("accuracy", False, 0.0, 1.0), Metric("seconds", True, 0.0, 100.0, "s"))
SIZES = (40, 25, 33)


def table() -> tuple[Tensor, Tensor, Tensor]:
    """Return task [R], u [R, D] and values [R, K]; tasks have different numbers of rows."""
    draws = generator(0, "test", "table")
    task = torch.cat([torch.full((size,), index) for index, size in enumerate(SIZES)])
    task = task[torch.randperm(len(task), generator=draws)]
    u = SearchSpace(SPEC).sample(len(task), draws)
    values = torch.stack([torch.rand(len(task), generator=draws), 100.0 * torch.rand(len(task), generator=draws)], 1)
    return task, u, values


def surrogate() -> TableSurrogate:
    return TableSurrogate(SPEC, METRICS, *table(), num_tasks=len(SIZES))


def ask(objective: TableSurrogate, task: Tensor, u: Tensor) -> Tensor:
    return objective(task, u)


class TestContract(SurrogateCase):
    @pytest.fixture
    def surrogate(self) -> Any:
        return surrogate()

    def snap(self, u: Tensor) -> Tensor:
        return SearchSpace(SPEC).snap(u)


def test_every_row_of_the_table_gets_its_own_result() -> None:
    task, u, values = table()
    assert torch.equal(ask(surrogate(), task, u), values)


def test_the_nearest_row_is_the_one_that_a_plain_loop_finds() -> None:
    task, u, values = table()
    draws = generator(1, "test", "table")
    asked = SearchSpace(SPEC).sample(200, draws)
    which = torch.arange(200) % len(SIZES)
    found = ask(surrogate(), which, asked)
    for index in range(200):
        mine = (task == which[index]).nonzero().squeeze(1)
        numeric = (asked[index, :2] - u[mine, :2]).square().sum(1)
        other = (asked[index, 2] != u[mine, 2]).float()
        assert torch.equal(found[index], values[mine[(numeric + other).argmin()]])


def test_another_choice_is_farther_than_any_change_of_one_number() -> None:
    u = torch.tensor([[0.0, 0.5, 1 / 6], [0.9, 0.5, 0.5]])
    values = torch.tensor([[0.1, 1.0], [0.9, 2.0]])
    objective = TableSurrogate(SPEC, METRICS, torch.zeros(2, dtype=torch.int64), u, values, 1)
    asked = torch.tensor([[0.9, 0.5, 1 / 6], [0.0, 0.5, 0.5], [0.46, 0.5, 5 / 6], [0.44, 0.5, 5 / 6]])
    found = ask(objective, torch.zeros(4, dtype=torch.int64), asked)[:, 0]
    torch.testing.assert_close(found, torch.tensor([0.1, 0.9, 0.9, 0.1]))


def test_ties_go_to_the_first_row() -> None:
    u = torch.tensor([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5], [0.75, 0.5, 0.5]])
    values = torch.tensor([[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]])
    objective = TableSurrogate(SPEC, METRICS, torch.zeros(3, dtype=torch.int64), u, values, 1)
    asked = torch.tensor([[0.5, 0.5, 0.5], [0.75, 0.5, 0.5]])
    assert objective.nearest(torch.zeros(2, dtype=torch.int64), asked).tolist() == [0, 1]


def test_padding_of_short_tasks_is_never_an_answer() -> None:
    # The padding rows lie at the origin with results of 0: asked there, they would be nearest.
    task, _, values = table()
    origin = torch.zeros(len(SIZES), 3)
    found = ask(surrogate(), torch.arange(len(SIZES)), origin)
    assert values.min() > 0.0
    for index in range(len(SIZES)):
        assert any(torch.equal(found[index], row) for row in values[task == index])
    positions = surrogate().nearest(torch.arange(len(SIZES)), origin)
    assert bool((positions < torch.tensor(SIZES)).all())


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SearchSpace(SPEC).sample(101, generator(2, "test", "table"))
    which = torch.arange(101) % len(SIZES)
    whole = ask(surrogate(), which, asked)
    for elements in (1, 7 * max(SIZES) * 3):
        monkeypatch.setattr(module, "_CHUNK_ELEMENTS", elements)
        assert torch.equal(ask(surrogate(), which, asked), whole)


def test_a_task_without_a_row_is_refused() -> None:
    task, u, values = table()
    kept = task != 1
    with pytest.raises(InvalidSettingError, match=r"Task 1 of the table has no row"):
        TableSurrogate(SPEC, METRICS, task[kept], u[kept], values[kept], len(SIZES))


def test_the_table_moves_and_is_stored_with_the_module() -> None:
    objective = surrogate()
    again = TableSurrogate(SPEC, METRICS, *(part * 1 for part in table()), num_tasks=len(SIZES))
    again.rows.zero_()
    again.load_state_dict(objective.state_dict())
    task, u, values = table()
    assert torch.equal(ask(again, task, u), values)
