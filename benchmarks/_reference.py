"""What the environments are compared with: onnxruntime on the published graph, and the published package's way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ConfigSpace
import numpy as np
import onnxruntime
import torch

from hpo_gym.sources.cards import ScenarioCard, load_card
from hpo_gym.sources.store import find_file
from hpo_gym.spaces import SearchSpace
from hpo_gym.spaces.legacy_json import read_space_json

__all__ = ["Reference", "published_way"]

Array = np.ndarray[Any, Any]
Configuration = Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """A scenario as it was published: graph, space, encoding.

    Args:
        card: Order of inputs and outputs.
        session: The graph in onnxruntime, on as many threads as torch uses.
        space: The whole published space: fidelity, task and constants are hyperparameters of it.
        encoding: Code of every category.
    """

    card: ScenarioCard
    session: onnxruntime.InferenceSession
    space: ConfigSpace.ConfigurationSpace
    encoding: Mapping[str, Mapping[str, int]]

    @classmethod
    def load(cls, scenario: str) -> Reference:
        """Read a scenario.

        Raises:
            DataMissingError: If its files are in no data folder.
        """
        card = load_card(scenario)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(find_file(f"{card.folder}/model.onnx", None)), options, providers=["CPUExecutionProvider"]
        )
        spec = read_space_json(find_file(f"{card.folder}/config_space.json", None))
        encoding = json.loads(find_file(f"{card.folder}/encoding.json", None).read_text(encoding="utf-8"))
        return cls(card, session, SearchSpace(spec).to_configspace(), encoding)

    def configurations(self, count: int) -> list[dict[str, Any]]:
        """Return random legal configurations as dictionaries."""
        self.space.seed(0)
        return [dict(self.space.sample_configuration()) for _ in range(count)]

    def batched(self, batch: int) -> Callable[[], object]:
        """Return a function that evaluates ``batch`` prepared rows in one call."""
        rows = self.configurations(min(batch, 512))
        inputs = [_inputs(self, row) for row in rows]
        codes, continuous = (np.concatenate(part) for part in zip(*inputs, strict=True))
        repeats = -(-batch // len(rows))
        names = [item.name for item in self.session.get_inputs()]
        every = {"x_cat": np.tile(codes, (repeats, 1))[:batch], "x_cont": np.tile(continuous, (repeats, 1))[:batch]}
        feed = {name: np.ascontiguousarray(every[name]) for name in names}
        run = self.session.run
        return lambda: run(None, feed)

    def published(self, count: int) -> Callable[[], object]:
        """Return a function that evaluates the next of ``count`` prepared dictionaries the published way."""
        rows = self.configurations(count)
        turn = 0

        def evaluate() -> object:
            nonlocal turn
            turn += 1
            return published_way(self, rows[turn % len(rows)])

        return evaluate


def published_way(reference: Reference, configuration: Configuration) -> list[dict[str, float]]:
    """Evaluate one dictionary as ``yahpo_gym.BenchmarkSet.objective_function`` does, check included.

    The published package is not imported because it does not run on present versions of ConfigSpace; this does the
    same steps in the same order, without the repeated sorting that those versions have dropped.
    """
    names = [item.name for item in reference.session.get_inputs()]
    output = reference.session.get_outputs()[0].name
    given = {key: configuration.get(key) for key in reference.space if configuration.get(key) is not None}
    checked = ConfigSpace.Configuration(reference.space, values=given, allow_inactive_with_values=False)
    reference.space.check_configuration(checked)
    codes, continuous = _inputs(reference, given)
    every = {"x_cat": codes, "x_cont": continuous}
    results = reference.session.run([output], {name: every[name] for name in names})[0]
    targets: Sequence[str] = [target.name for target in reference.card.targets]
    return [dict(zip(targets, row, strict=True)) for row in results]


def _inputs(reference: Reference, configuration: Configuration) -> tuple[Array, Array]:
    """Return ``x_cat`` int32 ``[1, C]`` and ``x_cont`` float32 ``[1, R]``; what is inactive is ``#na#`` or 0."""
    filled = dict(configuration)
    for name in set(reference.space) - set(filled):
        filled[name] = "#na#" if name in reference.card.categorical else 0.0
    codes = np.array([_code(reference, name, filled[name]) for name in reference.card.categorical])
    continuous = np.array([filled[name] for name in reference.card.continuous])
    return codes.reshape(1, -1).astype(np.int32), continuous.reshape(1, -1).astype(np.float32)


def _code(reference: Reference, name: str, value: Any) -> int:
    codes = reference.encoding[name]
    return codes[value] if value in codes else codes[str(value)]
