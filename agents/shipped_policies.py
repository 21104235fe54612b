"""Trained policies that travel with the repository, one file for each agent and the search space it is for.

A file is in the safetensors format, which holds tensors and text and can run nothing. Weights are kept in half
precision; what was measured of a shipped policy was measured with those.

``python -m agents.shipped_policies runs/<name> ...`` makes files of run folders, and a card of every file
(``agents/policies/README.md``).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agents.base import Interface
from agents.configuration import ExperimentConfig
from agents.experiment import TrainedAgent, load_trained
from agents.kindred_spaces import names_of_space
from agents.registry import find_agent, find_trainable
from agents.run_folder import RunFolder
from agents.study_command import with_exit_status
from hpo_gym import load_suite
from hpo_gym.errors import DataIntegrityError, HPOGymError
from hpo_gym.sources.bundle_files import bundled_spaces, sha256, write_atomic
from hpo_gym.tasks.datasets import dataset_key
from hpo_gym.tasks.suite import TaskSuite

__all__ = ["FOLDER", "cards", "is_shipped", "load_fitting", "load_shipped", "ship", "shipped_names"]

#: Where they lie.
FOLDER = Path(__file__).resolve().parent / "policies"

_FORMAT = "1"
# Files of a run folder that say how a policy came about.
_FACTS = ("result", "versions")
_DISJOINT = "dataset-disjoint"

_INTRODUCTION = """# Trained policies

Written by `python -m agents.shipped_policies`; the commands that train them are in the studies of
[`grpo`](../../docs/studies/grpo.md#what-was-done) and of
[`grpo_universal`](../../docs/studies/universal.md#what-was-done), with what they reach on held-out datasets. Weights
are kept in half precision, and nothing in a file can run. `python evaluate.py agents=[grpo] env.space=<space>` finds
them.

They propose configurations of the search space that they are named after (`grpo_universal`: of any), for response
surfaces of OpenML datasets: for other data of the same model family they are a head start and no guarantee.
"""

# Smaller tensors are scales and offsets, whose digits matter more than their size.
_LEAST_HALVED = 512


def shipped_names() -> list[str]:
    """Return what is there, as ``<agent>-<space>``, or ``<agent>`` where it plays any space."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def ship(run: str | Path, folder: Path = FOLDER) -> Path:
    """Write the policy of a finished run as a file that is shipped.

    Raises:
        DataMissingError: If there is no run, or no trained policy in it.
    """
    from safetensors.torch import save

    trained = load_trained(run)
    content = dict(RunFolder.open(Path(run)).policy().content)
    tensors: dict[str, Tensor] = {}
    plain = _without_tensors(content, "", tensors)
    facts = {name: json.loads((Path(run) / f"{name}.json").read_text(encoding="utf-8")) for name in _FACTS}
    described = {
        "format": _FORMAT,
        **{name: json.dumps(value, sort_keys=True) for name, value in facts.items()},
        "config": json.dumps(trained.config.to_mapping(), sort_keys=True),
        "content": json.dumps(plain, sort_keys=True),
    }
    path = _path(trained.config.agent_name, trained.agent.interface.space, folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save(tensors, metadata=described))
    return path


def load_shipped(
    agent: str, space: str, device: torch.device | str = "cpu", folder: Path = FOLDER
) -> TrainedAgent | None:
    """Return the policy of an agent for a search space, or ``None`` if there is none.

    Raises:
        DataIntegrityError: If its file is corrupt.
    """
    from safetensors import SafetensorError, safe_open

    path = _path(agent, space, folder)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as opened:
            described = opened.metadata() or {}
            tensors = {name: _widened(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
        if described.get("format") != _FORMAT:
            raise ValueError(f"format {described.get('format')!r}, not {_FORMAT!r}")
        content = _with_tensors(json.loads(described["content"]), tensors)
        config = ExperimentConfig.from_mapping(json.loads(described["config"]))
        trained = find_trainable(config.agent_name)(
            config.agent, Interface.from_mapping(content["interface"]), config.seed, device
        )
        trained.load_state_dict(content["state"], resumable=False)
        datasets = tuple(content["training_datasets"]), tuple(content["validation_datasets"])
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, HPOGymError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataIntegrityError(
            f"{path} cannot be read ({reason}). Restore it from the repository: git checkout -- {path}."
        ) from error
    return TrainedAgent(trained, config, *datasets, folder=path.with_suffix(""))


def load_fitting(agent: str, suite: TaskSuite, folder: Path = FOLDER) -> TrainedAgent | None:
    """Return the policy of an agent for a suite, or ``None`` if there is none.

    Where none is for a space of that name, it may be one for an embedded space that was fitted to it: with the same
    hyperparameters on the same ranges, and the same metric.

    Raises:
        DataIntegrityError: If its file is corrupt.
    """
    mine = load_shipped(agent, suite.name, suite.device, folder)
    for name in sorted(names_of_space(suite.name) & set(bundled_spaces()) - {suite.name}) if mine is None else ():
        embedded = load_suite("bundled", name)
        if (embedded.space.spec, embedded.spec.metric) == (suite.space.spec, suite.spec.metric):
            return load_shipped(agent, name, suite.device, folder)
    return mine


def is_shipped(trained: TrainedAgent) -> bool:
    """Whether a policy is one that :func:`load_shipped` returned, and no run of the user's."""
    return trained.folder.with_suffix(".safetensors").is_file() and not (trained.folder / "config.yaml").exists()


def _path(agent: str, space: str, folder: Path) -> Path:
    """Return the file of an agent's policy for a space; one that plays any space has one file."""
    stem = agent if find_agent(agent).agent.any_space else f"{agent}-{space}"
    return folder / f"{stem}.safetensors"


def _without_tensors(value: Any, name: str, found: dict[str, Tensor]) -> Any:
    """Return nested values with names for tensors, which go to ``found``."""
    if isinstance(value, Tensor):
        halved = value.dtype == torch.float32 and value.numel() >= _LEAST_HALVED
        found[name] = (value.half() if halved else value).contiguous().cpu()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {key: _without_tensors(item, f"{name}/{key}", found) for key, item in value.items()}
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _with_tensors(item, tensors) for key, item in value.items()}
    return value


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value


def cards(folder: Path = FOLDER) -> str:
    """Return what is to be known of every shipped policy, as Markdown, out of the files themselves."""
    from safetensors import safe_open

    parts = [_INTRODUCTION]
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as opened:
            described = {name: json.loads(text) for name, text in (opened.metadata() or {}).items()}
            numbers = sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
        config, content, result = (described[name] for name in ("config", "content", "result"))
        packages = described["versions"]["packages"]
        spaces = [content["interface"]["space"], *config["agent"].get("spaces", ())]
        parts.append(
            f"## {path.stem}\n\n"
            f"* **File**: {path.stat().st_size / 1e6:.2f} MB, {numbers:,} numbers, SHA-256 "
            f"`{sha256(path.read_bytes())}`\n"
            f"* **Trained on**: {len(content['training_datasets'])} training datasets of "
            f"{', '.join(f'`{space}`' for space in spaces)} (`{config['env']['id']}`), episodes of "
            f"{config['env']['budget']} evaluations, seed {config['seed']}, "
            f"{result['steps']:,} transitions\n"
            f"* **Chosen**: {_chosen(result, len(content['validation_datasets']))}\n"
            f"* **Never seen**: {_unseen(content)}\n"
            f"* **Made with**: torch {packages['torch']}, Python {described['versions']['python']}, "
            f"{described['versions']['machine']}, {described['versions']['threads']} thread(s)\n"
        )
    return "\n".join(parts)


@cache
def _test_datasets() -> frozenset[str]:
    suites = [load_suite("bundled", space) for space in bundled_spaces()]
    return frozenset(dataset_key(suite.tasks[index]) for suite in suites for index in suite.split(_DISJOINT, "test"))


def _unseen(content: Mapping[str, Any]) -> str:
    """Say which test datasets a policy has not seen, of those that are test datasets of some embedded space now."""
    seen = {*content["training_datasets"], *content["validation_datasets"]} & _test_datasets()
    if seen:
        return (
            f"most test datasets of `{_DISJOINT}`, but **it has seen {len(seen)} of them**: {', '.join(sorted(seen))}"
        )
    return f"the {len(_test_datasets())} test datasets of any space (`{_DISJOINT}`)"


def _chosen(result: Mapping[str, Any], datasets: int) -> str:
    if "validation" not in result:
        return "not: the last one of its training"
    return (
        f"after {result['chosen_after_steps']:,} transitions, by {datasets} validation datasets, on which its regret "
        f"was {result['validation']:.4f}"
    )


@with_exit_status
def main() -> None:
    """Make files of run folders; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agents.shipped_policies", description=__doc__)
    parser.add_argument("runs", nargs="+", help="finished run folders")
    for run in parser.parse_args().runs:
        path = ship(run)
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
    write_atomic(FOLDER / "README.md", cards().encode())


if __name__ == "__main__":
    sys.exit(main())
