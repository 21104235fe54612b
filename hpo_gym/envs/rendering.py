"""The incumbent curve of running episodes, as an RGB array or as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from torch import Tensor

from hpo_gym.errors import unknown_name
from hpo_gym.mdp import EpisodeState

if TYPE_CHECKING:
    from hpo_gym.envs.engine import EpisodeEngine

__all__ = ["CurveRecorder"]

_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#666666"
_SPARKS = "▁▂▃▄▅▆▇█"


class CurveRecorder:
    """Keeps scores and incumbents of the current episodes while rendering is on.

    Args:
        engine: The environment's engine.
        batch: ``B``.
        mode: ``rgb_array``, ``ansi`` or ``None``: nothing is recorded.
        modes: What the environment can do.

    Raises:
        UnknownNameError: For an unknown mode.
    """

    def __init__(self, engine: EpisodeEngine, batch: int, mode: str | None, modes: Sequence[str]) -> None:
        if mode is not None and mode not in modes:
            window = "Only gym.make(..., render_mode='human') of a scalar environment shows the pictures in a window."
            raise unknown_name("render_mode", mode, modes, window if mode == "human" else "")
        self._engine = engine
        self._mode = mode
        self._batch = batch
        self._scores = torch.empty(0)
        self._incumbents = torch.empty(0)
        self._full = torch.empty(0)
        self._task = torch.empty(0)
        # Of the first row: trials, and what they cost.
        self._trial, self._spent = 0, 0.0

    def begin(self, state: EpisodeState, rows: Tensor | None = None) -> None:
        """Forget the episodes of ``rows`` (default: all) and take the first trial of new ones."""
        if self._mode is None:
            return
        trials = self._engine.dynamics.max_trials
        if rows is None:
            self._scores = torch.full((self._batch, trials), torch.nan)
            self._incumbents = self._scores.clone()
            self._full = torch.ones_like(self._scores, dtype=torch.bool)
            self._task = state.task.cpu().clone()
            rows = torch.arange(self._batch)
        rows = rows.cpu()
        self._scores[rows] = torch.nan
        self._incumbents[rows] = torch.nan
        self._task[rows] = state.task.cpu()
        self._write(state, rows)

    def add(self, state: EpisodeState) -> None:
        """Take the last trial of every row."""
        if self._mode is not None:
            self._write(state, torch.arange(self._batch))

    def _write(self, state: EpisodeState, rows: Tensor) -> None:
        column = state.trial.cpu() - 1
        begun = column >= 0
        rows, column = rows[begun], column[begun]
        self._scores[rows, column] = state.score.cpu()[begun]
        self._incumbents[rows, column] = state.incumbent.cpu()[begun]
        self._full[rows, column] = state.fidelity.cpu()[begun] > 0.999
        first = (rows == 0).nonzero()
        if len(first) > 0:
            self._trial = int(column[int(first[0])]) + 1
            self._spent = float(state.spent.cpu()[begun][int(first[0])])

    def render(self) -> Any:
        """Return the picture, or ``None`` with a warning-free no-op when rendering is off.

        Raises:
            gymnasium.error.ResetNeeded: If it is on, and no episode has begun.
        """
        if self._mode is None:
            return None
        if len(self._task) == 0:
            raise ResetNeeded("Call env.reset() before env.render(): there is no episode to draw.")
        return self._text() if self._mode == "ansi" else self._picture()

    def _values(self, scores: Tensor) -> np.ndarray[Any, Any]:
        return self._engine.suite.to_metric(scores).numpy()

    def _text(self) -> str:
        suite, first = self._engine.suite, self._incumbents[0]
        shown = first[~first.isnan()]
        if len(shown) == 0:
            return f"{suite.name} {suite.tasks[int(self._task[0])]}: no trial yet"
        span = float(shown.max() - shown.min()) or 1.0
        level = ((shown - shown.min()) / span * (len(_SPARKS) - 1)).round().long()
        sparks = "".join(_SPARKS[int(index)] for index in level)
        budget = self._engine.settings.budget
        done = f"trial {self._trial}/{budget}"
        if self._engine.settings.multi_fidelity:
            done = f"trial {self._trial}, {self._spent:.1f} of {budget} evaluations"
        task = suite.tasks[int(self._task[0])]
        return f"{suite.name} {task}  {done}  best {suite.describe(float(shown[-1]))}  {sparks}"

    def _picture(self) -> np.ndarray[Any, Any]:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        suite = self._engine.suite
        figure = Figure(figsize=(6.4, 4.0), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        trials = np.arange(1, self._incumbents.shape[1] + 1)
        incumbents = self._values(self._incumbents)
        if self._batch == 1:
            scores, full = self._values(self._scores)[0], self._full[0].numpy()
            axes.plot(trials[full], scores[full], "o", color=_ORANGE, markersize=4, label="trial")
            if not full.all():
                hollow: dict[str, Any] = {"color": _ORANGE, "markersize": 4, "markerfacecolor": "none"}
                axes.plot(trials[~full], scores[~full], "o", label="cheap trial (lower fidelity)", **hollow)
        else:
            seen = ~np.isnan(incumbents).all(0)
            if seen.any():
                low, middle, high = np.nanquantile(incumbents[:, seen], [0.25, 0.5, 0.75], axis=0)
                axes.fill_between(trials[seen], low, high, color=_ORANGE, alpha=0.3, label="quartiles")
                axes.plot(trials[seen], middle, color=_ORANGE, label="median of environments")
        label = "incumbent" if self._batch == 1 else "environment 0"
        axes.step(trials, incumbents[0], where="post", color=_BLUE, linewidth=2, label=label)
        task = int(self._task[0])
        if suite.known_range is not None and self._batch == 1:
            best = float(suite.to_metric(suite.known_range.best[task].cpu()))
            axes.axhline(best, color=_GREY, linestyle="--", linewidth=1, label="best known")
        unit = f" [{suite.metric.unit}]" if suite.metric.unit else ""
        # Cheap fidelities buy more trials than the budget counts.
        made = int((~np.isnan(incumbents)).any(0).sum())
        axes.set_xlim(0.5, max(2, self._engine.settings.budget, made) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("trial")
        axes.set_ylabel(suite.metric.name + unit)
        axes.set_title(f"{suite.name}: {suite.tasks[task]}")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
