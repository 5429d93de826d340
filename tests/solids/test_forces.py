"""Coefficients and shedding frequency from series of forces made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from solver.case.solid_tables import CoefficientsTable
from solver.observers.forces import Forces

F, DRAG, LIFT = 0.41, 3.0, 0.8
UNITS = CoefficientsTable(velocity=2.0, area=0.5, length=0.25)
SCALE = 0.5 * 2.0**2 * 0.5


def street(end: float = 60.0, jitter: float = 0.0, noise: float = 0.0, start: float = 10.0, units=UNITS) -> Forces:
    """Drag at twice the frequency of the lift, on uneven steps, after a transient."""
    rng = np.random.default_rng(271_828)
    t = np.cumsum(rng.uniform(0.01, 0.05, int(end / 0.03)))
    phase = 2 * np.pi * F * t + jitter * np.cumsum(rng.standard_normal(len(t)))
    decay = 20.0 * np.exp(-t)
    drag = DRAG + 0.3 * np.cos(2 * phase) + decay
    lift = 0.1 + LIFT * np.sin(phase) + decay + noise * rng.standard_normal(len(t))
    hook = Forces(start, units)
    hook.rows = [(float(a), float(b), float(c), 0.0) for a, b, c in zip(t, drag, lift, strict=True)]
    return hook


def test_a_regular_street():
    found = street().summary()
    assert found["strouhal"] == pytest.approx(F * 0.25 / 2.0, rel=1e-4)
    assert found["strouhal_ci95"] < 1e-3 * found["strouhal"]
    assert found["c_d"] == pytest.approx(DRAG / SCALE, rel=1e-3)
    assert found["c_l_rms"] == pytest.approx(LIFT / SCALE / np.sqrt(2), rel=1e-3)
    assert found["c_l_max"] == pytest.approx((LIFT + 0.1) / SCALE, rel=1e-3)
    assert found["periods"] == int((60.0 - 10.0) * F) - 1 or found["periods"] == int((60.0 - 10.0) * F)
    assert found["averaging_time"] == pytest.approx(found["periods"] / F, rel=1e-3)


def test_intervals_cover_what_scatters():
    """The half widths are those of 20 periods; the true values lie within twice of them."""
    found = street(jitter=0.03, noise=0.1).summary()
    assert found["strouhal_ci95"] > 1e-3 * found["strouhal"]
    assert abs(found["strouhal"] - F * 0.125) < 2 * found["strouhal_ci95"]
    assert abs(found["c_d"] - DRAG / SCALE) < 2 * found["c_d_ci95"]
    assert abs(found["periods"] - 50.0 * F) <= 2  # noise at the crossings counts none twice


def test_short_steps_do_not_weigh_more():
    hook = Forces(0.0, None)
    t = np.concatenate([np.arange(1.0, 11.0), 10.0 + np.arange(1, 101) * 0.1])
    hook.rows = [(float(s), 1.0 if s <= 10.0 else 5.0, 0.0, 0.0) for s in t]
    found = hook.summary()
    assert found["force_x"] == pytest.approx(3.0, rel=1e-12)
    assert "c_d" not in found
    assert "frequency" not in found
    assert found["averaging_time"] == pytest.approx(20.0)


def test_too_little_to_say():
    assert street(start=1e9).summary() == {}
    short = street(end=13.0).summary()  # one crossing or two
    assert "strouhal" not in short
    assert short["c_d"] == pytest.approx(DRAG / SCALE, rel=0.1)


def test_rows_survive_a_checkpoint():
    first = street()
    second = Forces(10.0, UNITS)
    second.restore(first.state())
    assert second.rows == first.rows
    assert second.summary() == first.summary()
