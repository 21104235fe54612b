"""A Gaussian process whose prior was learned on the training tasks of a search space.

Wang et al. (2024), "Pre-trained Gaussian Processes for Bayesian Optimization", JMLR 25 (HyperBO): mean and covariance
of the prior are estimated from tasks that were seen, so that nothing but the posterior depends on the new task. With
features ``f`` of a configuration (:mod:`agents.surface_features`, one for each of ``N`` training tasks) the prior mean
is their mean, the prior covariance of two configurations ``w cov(f, f') + a^2 k(u, u')`` with the covariance over
training tasks and a Matern 5/2 kernel for what no combination of training tasks explains.

What a new task is worth in scores is unknown: ``y = offset + scale g(u)``. The offset has a flat prior; scale, ``a``
and length scales are chosen by their posterior density on a small grid, for every episode by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.normal_improvement import log_expected_improvement, matern
from agents.surface_features import SurfaceFeatures
from hpo_gym.spaces import SearchSpace

__all__ = ["Posterior", "TransferProcess", "fit_kernel"]

# Worth is counted in medians of the regret; what is worse than this many is not told apart.
WORST = 3.0
_OFFSET_VARIANCE = 25.0
_NOISE = 1e-6
# Logarithm of how much likelier it is beforehand that training tasks say everything than that they say nothing.
_TRUST = 6.0
# Priors times episodes that are computed with at a time.
_ROWS_AT_ONCE = 64
# How far the worth of a trial may be from what a training task says, for an episode to be like that task.
_ALIKE = 0.5
_SCALES = torch.linspace(-3.0, 2.0, 9, dtype=torch.float64)

#: Priors that an episode chooses from: how much of the training tasks' mean and covariance it trusts, and factors of
#: the length scales and of the amplitude of the Matern kernel. The last ones know nothing of the training tasks.
_VARIANTS = (
    *((1.0, length, factor) for length in (0.5, 1.0) for factor in (0.3, 1.0, 3.0)),
    *((0.3, length, factor) for length in (0.5, 1.0) for factor in (1.0, 3.0)),
    *((0.0, length, factor) for length in (0.5, 1.0, 2.0) for factor in (1.0, 3.0, 10.0)),
)


class TransferProcess(nn.Module):
    """The prior.

    Args:
        features: What the ``N`` training tasks say of configurations.
    """

    log_scale: Tensor

    def __init__(self, features: SurfaceFeatures) -> None:
        super().__init__()
        self.features = features
        self.log_lengths = nn.Parameter(torch.full((features.width,), math.log(0.4)))
        self.log_amplitude = nn.Parameter(torch.tensor(math.log(0.3)))
        self.log_weight = nn.Parameter(torch.zeros(()))
        # Mean and standard deviation over training tasks of the logarithm of a median regret in scores.
        self.register_buffer("log_scale", torch.tensor([0.0, 1.0]))

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.features.space

    def condition(self, u: Tensor, score: Tensor, done: Tensor) -> Posterior:
        """Return what is known of new tasks after some trials.

        Args:
            u: Configurations, float32 ``[B, T, D]``, ``T`` at least 1.
            score: float32 ``[B, T]``.
            done: Which are trials and no padding, bool ``[B, T]``, at least one in each row.
        """
        encoded = self.features.encode(u).double()
        feature = self.features(encoded.float()).double()
        mean = feature.mean(2)
        centred = (feature - mean[:, :, None]) / math.sqrt(feature.shape[2])
        weight, amplitude = self.log_weight.exp().double(), self.log_amplitude.exp().double()
        pair = done[:, :, None] & done[:, None]
        learned = weight * centred @ centred.transpose(1, 2)
        noise = torch.where(done, _NOISE, 1.0).diag_embed()
        best = score.masked_fill(~done, -torch.inf).amax(1, keepdim=True)
        gap = (score - best).double()
        middle, width = self.log_scale.double()
        scales = torch.exp(middle + width * _SCALES.to(u.device))
        worth = (gap[:, None] / scales[:, None]).clamp(min=-WORST)
        count = done.sum(1, keepdim=True).double()
        prior = -0.5 * _SCALES.to(u.device).square() - (count - 1.0) * scales.log()
        variants = torch.tensor(_VARIANTS, dtype=torch.float64, device=u.device)
        lengths = self.log_lengths.exp().double()
        kernels = {
            length: matern(encoded / (lengths * length), encoded / (lengths * length))
            for length in dict.fromkeys(length for _, length, _ in _VARIANTS)
        }
        densities, roots, halves = [], [], []
        # For a few episodes the calls cost more than the arithmetic: several priors at a time.
        for group in variants.split(max(1, _ROWS_AT_ONCE // len(u))):
            trust, _, factor = (column[:, None, None, None] for column in group.T)
            kernel = torch.stack([kernels[float(length)] for length in group[:, 1]])
            covariance = trust.square() * learned + (factor * amplitude).square() * kernel + _OFFSET_VARIANCE
            root = torch.linalg.cholesky(torch.where(pair, covariance, 0.0) + noise)
            residual = ((worth - trust * mean[:, None]) * done[:, None]).transpose(2, 3)
            half = torch.linalg.solve_triangular(root, residual, upper=False)
            determinant = root.diagonal(dim1=2, dim2=3).log().sum(2)[:, :, None]
            believed = (-0.5 * factor.log().square() + _TRUST * trust)[:, :, 0]
            densities.append(prior - 0.5 * half.square().sum(2) - determinant + believed)
            roots.append(root)
            halves.append(half)
        # By variant, episode and scale.
        density = torch.cat(densities).transpose(0, 1)
        best_of_all = density.flatten(1).argmax(1)
        which, scale = best_of_all // len(_SCALES), best_of_all % len(_SCALES)
        rows = torch.arange(len(u), device=u.device)
        half = torch.cat(halves)[which, rows]
        # Of every training task, what it says of the trials, relative to the best of them.
        best_there = feature.masked_fill(~done[:, :, None], -torch.inf).amax(1)
        observed = worth[rows, scale]
        incumbent = score.masked_fill(~done, -1.0).argmax(1)
        reference = feature.gather(1, incumbent[:, None, None].expand(-1, 1, feature.shape[2]))
        unlike = ((observed[:, :, None] - (feature - reference)) * done[:, :, None]).clamp(-WORST, WORST)
        weights = torch.softmax(-0.5 * unlike.square().sum(1) / _ALIKE**2 / count.sqrt(), 1)
        chosen = variants[which]
        return Posterior(
            process=self,
            encoded=encoded,
            centred=centred,
            done=done,
            trust=chosen[:, :1],
            lengths=lengths * chosen[:, 1:2],
            amplitude=amplitude * chosen[:, 2],
            root=torch.cat(roots)[which, rows],
            half=half.gather(2, scale[:, None, None].expand(-1, half.shape[1], 1)),
            scale=scales[scale],
            weights=weights,
            best_there=best_there,
        )


@dataclass(frozen=True)
class Posterior:
    """What is known of the tasks of ``B`` episodes after ``T`` trials each.

    Args:
        process: The prior.
        encoded: The trials, ``[B, T, W]``.
        centred: Their centred features, ``[B, T, N]``.
        done: Which are trials, bool ``[B, T]``.
        trust: How much of the training tasks' mean and, squared, of their covariance the prior holds, ``[B, 1]``.
        lengths: Length scales, ``[B, W]``.
        amplitude: Of the Matern kernel, ``[B]``.
        root: Cholesky factor of the trials' covariance, ``[B, T, T]``.
        half: It divided into what the trials are worth beyond the prior mean, ``[B, T, 1]``.
        scale: What a worth of 1 is in scores, ``[B]``.
        weights: How much a task is like each training task, ``[B, N]``.
        best_there: Worth of the best trial on each training task, ``[B, N]``.
    """

    process: TransferProcess
    encoded: Tensor
    centred: Tensor
    done: Tensor
    trust: Tensor
    lengths: Tensor
    amplitude: Tensor
    root: Tensor
    half: Tensor
    scale: Tensor
    weights: Tensor
    best_there: Tensor

    def predict(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the worth of configurations, above that of the incumbent.

        Args:
            u: float32 ``[B, C, D]``.

        Returns:
            float64 ``[B, C]`` each, in units of ``scale``.
        """
        process = self.process
        encoded = process.features.encode(u)
        feature = process.features(encoded)
        mean = feature.mean(2)
        centred = ((feature - mean[:, :, None]) / math.sqrt(feature.shape[2])).double()
        weight, square = process.log_weight.exp().double() * self.trust.square(), self.amplitude.square()[:, None]
        lengths = self.lengths[:, None]
        kernel = matern(self.encoded / lengths, encoded.double() / lengths)
        learned = weight[:, :, None] * (self.centred @ centred.transpose(1, 2))
        covariance = learned + _OFFSET_VARIANCE + square[:, :, None] * kernel
        covariance = covariance * self.done[:, :, None]
        half = torch.linalg.solve_triangular(self.root, covariance, upper=False)
        variance = weight * centred.square().sum(2) + _OFFSET_VARIANCE + square - half.square().sum(1)
        return self.trust * mean.double() + (half * self.half).sum(1), variance.clamp(min=1e-12).sqrt()

    def improvement_on_training_tasks(self, u: Tensor) -> Tensor:
        """Return by how much configurations would improve on the trials, on training tasks that are alike.

        With equal weights it is what a greedy portfolio adds next (Feurer et al., 2022, section 3.1).

        Args:
            u: float32 ``[B, C, D]``.

        Returns:
            float64 ``[B, C]``, at least 0, in medians of the regret.
        """
        features = self.process.features
        gain = (features(features.encode(u)) - self.best_there[:, None]).clamp(min=0.0)
        found: Tensor = (gain * self.weights[:, None]).sum(2)
        return found

    def log_improvement(self, u: Tensor) -> Tensor:
        """Return the logarithm of expected improvement of configurations ``[B, C, D]``, float64 ``[B, C]``."""
        return log_expected_improvement(*self.predict(u))


def fit_kernel(process: TransferProcess, u: Tensor, value: Tensor, steps: int, draws: torch.Generator) -> float:
    """Choose length scales, amplitude and weight by the likelihood of training tasks, each left out of its own prior.

    Args:
        process: The prior, its features fitted; changed in place.
        u: Configurations, float32 ``[P, D]``.
        value: What they are worth, float32 ``[P, N]``.
        steps: Gradient steps.
        draws: Where random numbers come from.

    Returns:
        Mean negative log-likelihood of a trial in the last step.
    """
    tasks, trials = 16, 40
    count, device = value.shape[1], u.device
    encoded = process.features.encode(u)
    feature = process.features(encoded)
    # What the network cannot say of a surface is noise here; a new surface is known to answer alike.
    log_noise = nn.Parameter(torch.tensor(math.log(0.03), device=device))
    parameters = [process.log_lengths, process.log_amplitude, process.log_weight, log_noise]
    optimizer = torch.optim.Adam(parameters, 0.05)
    for _ in range(steps):
        task = torch.randint(count, (tasks,), generator=draws, device=device)
        rows = torch.randint(len(u), (tasks, trials), generator=draws, device=device)
        share = torch.full((tasks, count), 1.0 / max(1, count - 1), device=device)
        share[torch.arange(tasks, device=device), task] = 0.0 if count > 1 else 1.0
        y = value[rows].gather(2, task[:, None, None].expand(-1, trials, 1)).squeeze(2)
        known = feature[rows]
        with torch.enable_grad():
            mean = (known * share[:, None]).sum(2)
            centred = (known - mean[:, :, None]) * share[:, None].sqrt()
            scaled = encoded[rows] / process.log_lengths.exp()
            covariance = process.log_weight.exp() * centred @ centred.transpose(1, 2)
            covariance = covariance + (2.0 * process.log_amplitude).exp() * matern(scaled, scaled)
            covariance = covariance.double() + ((2.0 * log_noise).exp() + 1e-4) * torch.eye(trials, device=device)
            root = torch.linalg.cholesky(covariance)
            solved = torch.linalg.solve_triangular(root, (y - mean).double()[:, :, None], upper=False)
            density = 0.5 * solved.square().sum((1, 2)) + root.diagonal(dim1=1, dim2=2).log().sum(1)
            loss = density.mean() / trials
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    process.requires_grad_(False)
    return float(loss.detach())
