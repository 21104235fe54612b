"""What a person is told of an evaluation that goes on."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from agents import progress
from agents.progress import EvaluationDisplay


def test_a_contender_that_plays_again_is_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    written = io.StringIO()
    with EvaluationDisplay(Console(file=written, width=200)) as display:
        # With a budget of 500, then with one of 4,008.
        for share in (0.0, 0.5, 1.0, 0.0, 0.25, 0.5):
            clock[0] += 100.0
            display.update("random", share)
    said = [(int(share), int(left)) for share, left in re.findall(r"random: (\d+)% · (\d+) s left", written.getvalue())]
    assert said[-2:] == [(25, 300), (50, 200)]
