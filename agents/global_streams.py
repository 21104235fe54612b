"""The global generators of torch and NumPy, lent to a library that draws from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from agents.base import restore_generator
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator, stream_seed

__all__ = ["GlobalStreams"]


class GlobalStreams:
    """A context in which the global generators of torch and NumPy continue streams of this object.

    Afterwards they are where they were: who uses them outside notices nothing, and does not disturb what is inside.

    Args:
        seed: Root of the seed tree.
        device: Where the library computes; its generator is lent, too.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._torch = {"cpu": generator(seed, "agent", "torch")}
        if device.type == "cuda":
            self._torch["cuda"] = generator(seed, "agent", "cuda", device=device)
        self._device = device
        self._numpy = np.random.RandomState(stream_seed(seed, "agent", "numpy") % 2**32)
        self._outside: tuple[dict[str, torch.Tensor], Any] | None = None

    def __enter__(self) -> None:
        self._outside = self._global_states(), np.random.get_state()
        self._set_global({name: draws.get_state() for name, draws in self._torch.items()})
        np.random.set_state(self._numpy.get_state())

    def __exit__(self, *raised: object) -> None:
        assert self._outside is not None  # __enter__
        for name, state in self._global_states().items():
            self._torch[name].set_state(state)
        self._numpy.set_state(np.random.get_state())
        states, numpy_state = self._outside
        self._set_global(states)
        np.random.set_state(numpy_state)
        self._outside = None

    def _global_states(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if "cuda" in self._torch:
            states["cuda"] = torch.cuda.get_rng_state(self._device)
        return states

    def _set_global(self, states: Mapping[str, torch.Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self._device)

    def state_dict(self) -> dict[str, Any]:
        """Return where the streams are, as tensors and plain values."""
        state: dict[str, Any] = self._numpy.get_state(legacy=False)
        key = torch.from_numpy(state["state"]["key"].astype(np.int64))
        plain = {"position": int(state["state"]["pos"]), "has_gauss": int(state["has_gauss"])}
        return {
            "torch": {name: draws.get_state() for name, draws in self._torch.items()},
            "numpy": {"key": key, **plain, "gauss": float(state["gauss"])},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a :meth:`state_dict`.

        Raises:
            InvalidSettingError: If it was made on another kind of device.
        """
        if set(saved["torch"]) != set(self._torch):
            raise InvalidSettingError(
                f"The saved random numbers are of devices {sorted(saved['torch'])}, this agent uses "
                f"{sorted(self._torch)}. Resume with the env.device that the run began with, or train again."
            )
        for name, draws in self._torch.items():
            restore_generator(draws, saved["torch"][name])
        numbers = saved["numpy"]
        key = numbers["key"].numpy().astype(np.uint32)
        place = ("MT19937", key, int(numbers["position"]), int(numbers["has_gauss"]), float(numbers["gauss"]))
        self._numpy.set_state(place)
