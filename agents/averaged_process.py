"""A Gaussian process averaged over its hyperparameters, which needs to know nothing of a search space but its kinds.

Snoek, Larochelle and Adams (2012), "Practical Bayesian Optimization of Machine Learning Algorithms", NeurIPS, section
3.2: expected improvement is averaged over draws from the posterior of the kernel's length scales. Here those are draws
from the prior, the likeliest of which are improved by random steps, for many episodes at a time; what is left is
weighted by its posterior density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.configuration_encoder import ConfigurationEncoder
from agents.normal_improvement import log_expected_improvement, matern
from hpo_gym.seeding import generator
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.spec import SpaceSpec

__all__ = ["AveragedPosterior", "AveragedProcess"]

# Prior of the length scales: log-normal around 1 for four hyperparameters and growing with the root of their number
# (Hvarfner, Hellsten and Nardi, 2024, "Vanilla Bayesian Optimization Performs Great in High Dimensions", ICML), with a
# part that all hyperparameters share and one of each alone, by which some matter and some hardly do.
_MEDIAN, _SHARED, _EACH = 1.0, 0.5, 0.9
_OFFSET_VARIANCE = 10.0
_NOISE = 1e-4
# Inverse-gamma prior of the variance, in variances of the scores.
_SHAPE, _RATE = 2.0, 2.0
# Draws from the prior, of which the likeliest given the first trials are improved in rounds of steps around them.
_DRAWS, _PARENTS, _KEPT = 256, 16, 8
_FIRST = 24
_ROUNDS, _CHILDREN, _STEP = 6, 64, 0.5
# Numbers in matrices of covariances that are held at a time: on the CPU few enough to stay in a core's cache.
_AT_ONCE, _AT_ONCE_CPU = 2_000_000, 200_000


class AveragedProcess(nn.Module):
    """The prior.

    Args:
        spec: The search space.
        seed: Root of the draws.
    """

    source: Tensor
    prior: Tensor
    steps: Tensor

    def __init__(self, spec: SpaceSpec, seed: int) -> None:
        super().__init__()
        self.encoder = ConfigurationEncoder(spec)
        draws = generator(seed, "agent", "prior")
        known = sorted(set(self.encoder.sources))
        source = torch.tensor([known.index(name) for name in self.encoder.sources])
        self._middle = math.log(_MEDIAN) + 0.5 * math.log(len(spec.columns) / 4.0)

        def normal(count: int, width: int) -> Tensor:
            return torch.randn(count, width, generator=draws, dtype=torch.float64)

        # Of each hyperparameter one length scale, whatever number of coordinates tell it.
        prior = self._middle + _SHARED * normal(_DRAWS, 1) + _EACH * normal(_DRAWS, len(known))
        steps = _STEP * (_SHARED * normal(_ROUNDS * _CHILDREN, 1) + _EACH * normal(_ROUNDS * _CHILDREN, len(known)))
        self.register_buffer("source", source, persistent=False)
        self.register_buffer("prior", prior, persistent=False)
        self.register_buffer("steps", steps.view(_ROUNDS, _CHILDREN, -1), persistent=False)

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.encoder.space

    def condition(self, u: Tensor, score: Tensor, done: Tensor) -> AveragedPosterior:
        """Return what is known of new tasks after some trials.

        Args:
            u: Configurations, float32 ``[B, T, D]``, ``T`` at least 1.
            score: float32 ``[B, T]``.
            done: Which are trials and no padding, bool ``[B, T]``, at least one in each row.
        """
        encoded = self.encoder.encode(u).double()
        best = score.masked_fill(~done, -torch.inf).amax(1, keepdim=True)
        count = done.sum(1, keepdim=True)
        gap = ((score - best) * done).double()
        centred = (gap - gap.sum(1, keepdim=True) / count) * done
        unit = (centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt().clamp(min=1e-9)
        worth = gap / unit
        first = min(_FIRST, u.shape[1])
        logs = self.prior.expand(len(u), -1, -1)
        density = self._densities(encoded[:, :first], worth[:, :first], done[:, :first], logs)
        logs, density = _best_of(logs, density, _PARENTS)
        if u.shape[1] > first:
            density = self._densities(encoded, worth, done, logs)
        for steps in self.steps:
            parents = logs.repeat_interleave(_CHILDREN // _PARENTS, 1)
            children = parents + steps
            found = self._densities(encoded, worth, done, children)
            logs, density = _best_of(torch.cat([logs, children], 1), torch.cat([density, found], 1), _PARENTS)
        logs, density = _best_of(logs, density, _KEPT)
        lengths = logs.exp()[:, :, self.source]
        root, half = self._solved(encoded, worth, done, lengths)
        variance = (_RATE + 0.5 * half.square().sum(2)) / (_SHAPE + 0.5 * count)
        return AveragedPosterior(
            process=self,
            encoded=encoded,
            done=done,
            lengths=lengths,
            root=root,
            half=half,
            variance=variance,
            log_weight=torch.log_softmax(density, 1),
        )

    def _densities(self, encoded: Tensor, worth: Tensor, done: Tensor, logs: Tensor) -> Tensor:
        """Return the log posterior density of logarithms of length scales ``[B, H, S]`` given trials, ``[B, H]``.

        Offset and variance are integrated out.
        """
        most = _AT_ONCE_CPU if encoded.device.type == "cpu" else _AT_ONCE
        matrices = max(1, most // encoded.shape[1] ** 2)
        found = []
        for each in torch.arange(len(encoded), device=encoded.device).split(matrices):
            some = logs[each].split(max(1, matrices // len(each)), 1)
            found.append(torch.cat([self._fit(encoded[each], worth[each], done[each], part) for part in some], 1))
        # Independent parts of equal variance and a shared one: by the formula of Sherman and Morrison.
        apart = (logs - self._middle) / _EACH
        ratio = _SHARED**2 / (_EACH**2 + logs.shape[2] * _SHARED**2)
        prior = -0.5 * (apart.square().sum(2) - ratio * apart.sum(2).square())
        return torch.cat(found) + prior

    def _fit(self, encoded: Tensor, worth: Tensor, done: Tensor, logs: Tensor) -> Tensor:
        """Return the log marginal likelihood of what trials are worth, up to a constant, ``[B, H]``."""
        root, half = self._solved(encoded, worth, done, logs.exp()[:, :, self.source])
        determinant = root.diagonal(dim1=2, dim2=3).log().sum(2)
        degrees = _SHAPE + 0.5 * done.sum(1, keepdim=True)
        return -determinant - degrees * (_RATE + 0.5 * half.square().sum(2)).log()

    def _solved(self, encoded: Tensor, worth: Tensor, done: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return Cholesky factors ``[B, H, T, T]`` and them divided into what the trials are worth, ``[B, H, T]``."""
        scaled = encoded[:, None] / lengths[:, :, None]
        pair = (done[:, :, None] & done[:, None])[:, None]
        noise = torch.where(done, _NOISE, 1.0).diag_embed()[:, None]
        covariance = torch.where(pair, matern(scaled, scaled) + _OFFSET_VARIANCE, 0.0) + noise
        root = torch.linalg.cholesky(covariance)
        known = worth[:, None, :, None].expand(-1, lengths.shape[1], -1, -1)
        return root, torch.linalg.solve_triangular(root, known, upper=False).squeeze(3)


def _best_of(logs: Tensor, density: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` rows ``[B, count, S]`` of the largest density, and that."""
    best = density.topk(count, 1)
    return logs.gather(1, best.indices[:, :, None].expand(-1, -1, logs.shape[2])), best.values


@dataclass(frozen=True)
class AveragedPosterior:
    """What is known of the tasks of ``B`` episodes after ``T`` trials each, by ``H`` draws of length scales.

    Args:
        process: The prior.
        encoded: The trials, ``[B, T, W]``.
        done: Which are trials, bool ``[B, T]``.
        lengths: The likeliest length scales, ``[B, H, W]``.
        root: Cholesky factors of the trials' covariance, ``[B, H, T, T]``.
        half: They divided into what the trials are worth, ``[B, H, T]``.
        variance: Of the process, ``[B, H]``.
        log_weight: How likely each draw is, ``[B, H]``.
    """

    process: AveragedProcess
    encoded: Tensor
    done: Tensor
    lengths: Tensor
    root: Tensor
    half: Tensor
    variance: Tensor
    log_weight: Tensor

    def predict(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of what configurations are worth above the incumbent.

        Args:
            u: float32 ``[B, C, D]``.

        Returns:
            float64 ``[B, H, C]`` each, in standard deviations of the scores so far.
        """
        encoded = self.process.encoder.encode(u).double()[:, None]
        lengths = self.lengths[:, :, None]
        covariance = matern(self.encoded[:, None] / lengths, encoded / lengths) + _OFFSET_VARIANCE
        covariance = covariance * self.done[:, None, :, None]
        half = torch.linalg.solve_triangular(self.root, covariance, upper=False)
        variance = (1.0 + _OFFSET_VARIANCE - half.square().sum(2)).clamp(min=1e-10) * self.variance[:, :, None]
        return (half * self.half[..., None]).sum(2), variance.sqrt()

    def log_improvement(self, u: Tensor) -> Tensor:
        """Return the logarithm of expected improvement of configurations ``[B, C, D]``, float64 ``[B, C]``."""
        improvement = log_expected_improvement(*self.predict(u))
        return torch.logsumexp(improvement + self.log_weight[:, :, None], 1)
