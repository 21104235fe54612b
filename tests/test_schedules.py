"""The schedule of learning rates; the others are tested with what explores by them (``test_exploration.py``)."""

from __future__ import annotations

import math

import pytest

from agents.schedules import CosineSchedule


def test_a_cosine_falls_from_its_peak_to_what_is_left_and_stays():
    schedule = CosineSchedule(2.0, 100, last=0.1)
    assert schedule(0) == 2.0
    assert schedule(50) == pytest.approx(1.1)
    assert schedule(25) == pytest.approx(0.2 + 0.9 * (1.0 + math.sqrt(0.5)))
    assert schedule(100) == schedule(250) == pytest.approx(0.2)
    assert CosineSchedule(2.0, 100)(100) == 0.0


def test_a_warm_up_scales_the_cosine_from_zero():
    plain, warm = CosineSchedule(3.0, 1000, 0.05), CosineSchedule(3.0, 1000, 0.05, warm_up=0.01)
    assert [warm(step) for step in (0, 5)] == [0.0, pytest.approx(0.5 * plain(5))]
    assert [warm(step) for step in (10, 11, 700)] == [plain(step) for step in (10, 11, 700)]
