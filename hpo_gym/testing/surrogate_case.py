"""What every surrogate must do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.seeding import generator
from hpo_gym.surrogates.base import Surrogate

__all__ = ["ROW_TOLERANCE", "SurrogateCase"]

#: Largest difference, relative to a metric's legal range, between a row alone and in a batch.
ROW_TOLERANCE = 1e-5


class SurrogateCase:
    """Subclass, and give the fixture ``surrogate``.

    A surrogate over a space with conditions also gives ``activity`` (``space.active``); ``snap``
    (``space.snap``) moves the random points to legal values where the surrogate expects that.
    """

    @pytest.fixture
    def surrogate(self) -> Surrogate:
        """Return the surrogate under test."""
        raise NotImplementedError("Give your test class a fixture surrogate.")

    def activity(self, u: Tensor) -> Tensor:
        """Return which hyperparameters are active, bool ``[B, D]``; default: all."""
        return torch.ones_like(u, dtype=torch.bool)

    def snap(self, u: Tensor) -> Tensor:
        """Return the legal points nearest to ``u``; default: ``u``."""
        return u

    def points(self, surrogate: Surrogate, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return random tasks ``[B]``, configurations ``[B, D]`` and their activity ``[B, D]``."""
        draws = generator(0, "testing", "points")
        task = torch.randint(surrogate.num_tasks, (batch,), generator=draws)
        u = self.snap(torch.rand(batch, surrogate.num_hyperparameters, generator=draws))
        return task, u, self.activity(u)

    @pytest.mark.parametrize("batch", [1, 2, 257])
    def test_shape_dtype_and_finite(self, surrogate: Surrogate, batch: int) -> None:
        task, u, active = self.points(surrogate, batch)
        metrics = surrogate(task, u, active=active)
        assert metrics.shape == (batch, len(surrogate.metrics))
        assert metrics.dtype == torch.float32 and bool(metrics.isfinite().all())

    def test_ends_of_the_cube_are_finite(self, surrogate: Surrogate) -> None:
        dimension = surrogate.num_hyperparameters
        for corner in (torch.zeros(dimension), torch.ones(dimension)):
            u = self.snap(corner.expand(surrogate.num_tasks, -1).contiguous())
            metrics = surrogate(torch.arange(surrogate.num_tasks), u, active=self.activity(u))
            assert bool(metrics.isfinite().all())

    def test_deterministic_and_arguments_unchanged(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 64)
        copies = task.clone(), u.clone(), active.clone()
        first = surrogate(task, u, active=active)
        assert torch.equal(first, surrogate(task, u, active=active))
        for before, after in zip(copies, (task, u, active), strict=True):
            assert torch.equal(before, after)

    def test_row_alone_equals_row_in_batch(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 33)
        whole = surrogate(task, u, active=active)
        width = torch.tensor([metric.upper - metric.lower for metric in surrogate.metrics])
        width = torch.where(width.isfinite(), width, whole.abs().amax(0).clamp(min=1.0))
        for row in range(33):
            part = slice(row, row + 1)
            alone = surrogate(task[part], u[part], active=active[part])
            assert bool(((alone - whole[part]).abs() / width <= ROW_TOLERANCE).all())

    def test_rows_and_tasks_are_independent(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 64)
        whole = surrogate(task, u, active=active)
        order = torch.randperm(64, generator=generator(0, "testing", "order"))
        shuffled = surrogate(task[order], u[order], active=active[order])
        assert torch.allclose(whole[order], shuffled, rtol=1e-5, atol=1e-5)
        if surrogate.num_tasks > 1:
            other = surrogate((task + 1) % surrogate.num_tasks, u, active=active)
            assert not torch.allclose(whole, other)

    def test_inactive_values_do_not_matter(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 257)
        if bool(active.all()):
            pytest.skip("this space has no conditions")
        noise = self.snap(torch.rand(u.shape, generator=generator(1, "testing", "noise")))
        changed = torch.where(active, u, noise)
        first = surrogate(task, u, active=active)
        assert torch.equal(first, surrogate(task, changed, active=active))

    def test_out_of_bounds_is_refused(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 4)
        for value in (-0.01, 1.01, float("nan")):
            wrong = u.clone()
            wrong[2, 0] = value
            with pytest.raises(InvalidSettingError):
                surrogate(task, wrong, active=active)
        for index in (-1, surrogate.num_tasks):
            with pytest.raises(InvalidSettingError):
                surrogate(torch.full_like(task, index), u, active=active)
        for shape in (u[:3], u[:, :-1], u[0]):
            with pytest.raises(InvalidSettingError):
                surrogate(task, shape, active=active[: len(shape)])

    def test_metrics_have_names(self, surrogate: Surrogate) -> None:
        names = [metric.name for metric in surrogate.metrics]
        assert len(set(names)) == len(names) > 0
        assert [surrogate.metric_index(name) for name in names] == list(range(len(names)))
        with pytest.raises(UnknownNameError):
            surrogate.metric_index("no such metric")

    def test_fidelity(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 8)
        fidelity = surrogate.fidelity
        if fidelity is None:
            with pytest.raises(InvalidSettingError):
                surrogate(task, u, torch.ones(8), active)
            return
        full = surrogate(task, u, active=active)
        highest = surrogate(task, u, torch.full((8,), fidelity.upper), active)
        lowest = surrogate(task, u, torch.full((8,), fidelity.lower), active)
        assert torch.equal(full, highest)
        assert not torch.allclose(full, lowest)
        for value in (fidelity.lower - 1.0, fidelity.upper + 1.0, float("nan")):
            with pytest.raises(InvalidSettingError):
                surrogate(task, u, torch.full((8,), value), active)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_cuda_agrees_with_cpu(self, surrogate: Surrogate) -> None:
        task, u, active = self.points(surrogate, 257)
        expected = surrogate(task, u, active=active)
        moved = surrogate.to("cuda")
        found = moved(task.cuda(), u.cuda(), active=active.cuda())
        assert found.device.type == "cuda"
        assert torch.allclose(expected, found.cpu(), rtol=1e-3, atol=1e-4)
