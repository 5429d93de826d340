"""What a channel is judged by, fed with moments made from the tables of Moser, Kim & Mansour (1999) at Re_tau = 180."""

from __future__ import annotations

import numpy as np
import pytest

from solver.analysis.channel import BUDGET, ERRORS, PROFILE, errors
from solver.analysis.moments import INDEX
from tests.physics.dns import CHANNEL, DNS, NU, REFERENCE, TERMS, curve

COLUMNS = {
    "production": "production",
    "dissipation": "dissipation",
    "turbulent_transport": "turbulent_diffusion",
    "viscous_diffusion": "viscous_diffusion",
    "pressure": "pressure_diffusion",
}


def test_scalars(means):
    u_tau, bulk, re_tau, re_bulk, c_f, residual = CHANNEL.scalars(means)
    assert u_tau == pytest.approx(1.0, abs=2e-3)
    assert re_tau == pytest.approx(REFERENCE.re_tau, rel=2e-3)
    assert bulk == pytest.approx(REFERENCE.bulk, rel=1e-3)
    assert re_bulk == pytest.approx(2 * bulk / NU)
    assert c_f == pytest.approx(2 / 15.68**2, rel=5e-3)  # U_b+ of the DNS
    assert c_f == pytest.approx(REFERENCE.c_f, rel=5e-3)
    assert residual < 5e-3  # the table's own total stress is straight to 0.3 %


def test_errors_vanish_but_for_interpolation(means):
    for units in ("bulk", "wall"):
        found = dict(zip(ERRORS, errors(CHANNEL, REFERENCE, means, units), strict=True))
        assert max(found.values()) < 5e-3, (units, found)


def test_errors_see_a_difference(means):
    """Ten per cent more fluctuation is ten per cent of error, in that column alone."""
    louder = means.copy()
    louder[INDEX["vv"]] *= 1.21
    found = dict(zip(ERRORS, errors(CHANNEL, REFERENCE, louder, "wall"), strict=True))
    assert found["v_rms"] == pytest.approx(0.1, abs=5e-3)
    assert max(found[name] for name in ERRORS if name != "v_rms") < 5e-3


def test_profiles(means):
    found = dict(zip(PROFILE, CHANNEL.profiles(means), strict=True))
    y = CHANNEL.distance
    for name, column in (("u_plus", "U_plus"), ("uv_plus", "uv_plus")):
        assert found[name] == pytest.approx(np.interp(y, DNS["y_over_h"], DNS[column]), rel=5e-3, abs=5e-3)
    assert found["uv_plus"].min() == pytest.approx(DNS["uv_plus"].min(), abs=5e-3)
    assert found["u_rms_plus"].max() == pytest.approx(np.sqrt(DNS["uu_plus"].max()), rel=5e-3)
    assert not found["tau_sgs"].any()
    assert not found["nu_t_plus"].any()


def test_budget(means):
    """Term by term against the tabulated budget, from the second cell on; pressure strain drops out of k."""
    found = dict(zip(BUDGET, CHANNEL.budget(means)[:, 1:], strict=True))
    largest = TERMS["production"].max()
    for name, column in COLUMNS.items():
        tabulated = curve(TERMS, TERMS[column])(CHANNEL.distance[1:])
        assert found[name] == pytest.approx(tabulated, abs=0.015 * largest), name
    assert found["production"].max() == pytest.approx(largest, rel=0.01)
    assert found["production"].min() > -1e-3 * largest
    assert found["dissipation"].max() < 0
    assert not found["sgs"].any()
    assert np.abs(found["residual"]).max() < 0.02 * largest
    assert found["residual"] == pytest.approx(sum(found[name] for name in BUDGET[:-1]))


def test_dissipation_at_the_wall_is_fed_by_viscous_diffusion(means):
    found = dict(zip(BUDGET, CHANNEL.budget(means)[:, 0], strict=True))
    tabulated = curve(TERMS, TERMS["dissipation"])(CHANNEL.distance[0])
    assert found["dissipation"] == pytest.approx(tabulated, rel=0.01)
    assert found["viscous_diffusion"] == pytest.approx(-tabulated, rel=0.05)


def test_a_mirrored_run_reads_the_same(means):
    """Folding knows the parity of every moment."""
    mirrored = means[:, ::-1].copy()
    for name in ("uv", "uuv", "vvv", "pv"):
        mirrored[INDEX[name]] *= -1
    mirrored[INDEX["flux_xy"], :-1] = -means[INDEX["flux_xy"], -2::-1]
    assert CHANNEL.scalars(mirrored) == pytest.approx(CHANNEL.scalars(means), rel=1e-12)
    assert CHANNEL.budget(mirrored) == pytest.approx(CHANNEL.budget(means), abs=1e-12)
