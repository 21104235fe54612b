"""Build one embedded space from its original: sample, screen, fit, measure, write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hpo_gym.fitting.quality import measure_quality
from hpo_gym.fitting.recipes import SurrogateRecipe
from hpo_gym.fitting.samples import Samples, sample_original
from hpo_gym.fitting.screen import Exclusion, screen_tasks
from hpo_gym.fitting.train import fit_compact
from hpo_gym.sources import load_suite
from hpo_gym.sources.bundle_files import write_bundle
from hpo_gym.surrogates.compact import CompactSurrogate
from hpo_gym.surrogates.yahpo import YahpoSurrogate
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.suite import KnownRange, SuiteSpec, TaskSuite

__all__ = ["SEARCH", "build_from_surrogate", "pack"]

#: Effort of the optimum search behind every range in the bundle.
SEARCH = OptimumSearch(sobol=16_384, starts=8, rounds=3)

Report = Callable[[str, float], None]


def build_from_surrogate(
    recipe: SurrogateRecipe,
    output: Path,
    data_dir: str | None,
    genuine_best: Mapping[str, float],
    report: Report,
    search: OptimumSearch = SEARCH,
) -> dict[str, Any]:
    """Fit, measure and write one space; return its quality summary and exclusions.

    Args:
        recipe: What is fitted to what, and how.
        output: Folder of the bundle.
        data_dir: Folder of the originals; ``None`` means the usual search order.
        genuine_best: Best accuracy of genuine runs by dataset key, for the screening.
        report: Called with a stage's name and the share done.
        search: Effort of the optimum searches.

    Returns:
        ``summary`` (figures of :meth:`BundleQuality.summary`), ``excluded`` and ``bytes``.

    Raises:
        DataError: If the original is missing or corrupt.
    """
    settings = recipe.settings
    full = load_suite("yahpo", recipe.scenario, data_dir=data_dir)
    report("optimum of the original", 0.0)
    known = find_known_range(full, search, lambda _, share: report("optimum of the original", share))
    samples = sample_original(
        full,
        settings.samples_per_task,
        settings.elite_rounds,
        settings.seed,
        lambda share: report("samples", share),
    )
    excluded = screen_tasks(full, known, samples, genuine_best)
    original, known, samples = _keep(full, known, samples, excluded)
    network = fit_compact(
        original,
        samples,
        settings,
        lambda step, loss: report(f"fit (loss {loss:.4f})", step / settings.steps),
    )
    network = CompactSurrogate.from_state(original.space.spec, network.header(), _half(network.state_dict()))
    spec = dataclasses.replace(original.spec, name=recipe.space, source="bundled")
    fitted = TaskSuite(spec, original.space, network, original.meta_features)
    fitted.known_range = find_known_range(fitted, search, lambda _, share: report("optimum of the fit", share))
    quality = measure_quality(original, fitted, known)
    provenance = {
        **dict(original.spec.provenance),
        "fitted_to": f"yahpo:{recipe.scenario}",
        "settings": dataclasses.asdict(settings),
        "torch": torch.__version__.split("+")[0],
    }
    stored = network.state_dict()
    size = pack(fitted, "compact", stored, network.header(), provenance, excluded, quality.to_json(), output)
    return {"summary": quality.summary(), "excluded": excluded, "bytes": size}


def _keep(
    suite: TaskSuite, known: KnownRange, samples: Samples, excluded: list[Exclusion]
) -> tuple[TaskSuite, KnownRange, Samples]:
    """Return everything without the excluded tasks, renumbered."""
    out = {exclusion.task for exclusion in excluded}
    kept = [index for index, ref in enumerate(suite.tasks) if str(ref) not in out]
    position = torch.full((suite.num_tasks,), -1)
    position[kept] = torch.arange(len(kept))
    rows = position[samples.task] >= 0
    samples = Samples(
        position[samples.task[rows]],
        samples.u[rows],
        samples.active[rows],
        None if samples.fidelity is None else samples.fidelity[rows],
        samples.metrics[rows],
        samples.random[rows],
    )
    known = KnownRange(known.worst[kept], known.median[kept], known.best[kept], known.best_u[kept], known.method)
    original = suite.surrogate
    assert isinstance(original, YahpoSurrogate)  # what load_suite("yahpo") returns
    surrogate = original.subset(kept)
    spec: SuiteSpec = dataclasses.replace(suite.spec, tasks=tuple(suite.tasks[index] for index in kept))
    kept_suite = TaskSuite(spec, suite.space, surrogate, suite.meta_features[kept], known)
    return kept_suite, known, samples


def _half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store weights in half precision; quantile maps keep single precision: they hold values."""
    return {key: value if key.startswith("quantiles") else value.half() for key, value in state.items()}


def pack(
    suite: TaskSuite,
    kind: str,
    stored: Mapping[str, Tensor],
    network: Mapping[str, Any],
    provenance: Mapping[str, Any],
    excluded: list[Exclusion],
    quality: Mapping[str, Any],
    output: Path,
) -> int:
    """Write a space of the bundle and return its size in bytes."""
    known = suite.require_range()
    header = {
        "kind": kind,
        "space": suite.space.spec.to_json(),
        "network": dict(network),
        "tasks": [str(ref) for ref in suite.tasks],
        "metric": suite.spec.metric,
        "cost_metric": suite.spec.cost_metric,
        "notes": list(suite.spec.notes),
        "range_method": known.method,
        "provenance": dict(provenance),
        "excluded": [dataclasses.asdict(exclusion) for exclusion in excluded],
        "quality": dict(quality),
    }
    tensors = {f"network.{key}": value for key, value in _half(stored).items()}
    for part in ("worst", "median", "best", "best_u"):
        tensors[f"range.{part}"] = getattr(known, part)
    return write_bundle(suite.name, header, tensors, output)
