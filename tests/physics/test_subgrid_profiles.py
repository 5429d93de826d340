"""Shares and works of the subgrid stress, from moments whose values are known."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from solver.analysis.batch_means import BatchMeans
from solver.analysis.channel import BUDGET, PROFILE, SUBGRID, report
from solver.analysis.moments import INDEX, NAMES
from solver.case.case import load_case
from solver.observers import averages
from solver.run.summary import stresses_in_words
from tests.physics.dns import AXIS, CHANNEL, NU
from tests.physics.shipped import CASES

FACES = AXIS.faces[1:]


def with_stress(means: np.ndarray, share: float) -> np.ndarray:
    """The DNS with `share` of its turbulent shear stress in the subgrid, which works 0.2 beyond that of the mean."""
    found = means.copy()
    found[INDEX["tau_xy"]], found[INDEX["sgs_flux_xy"]] = (share * means[INDEX[f]] for f in ("uv", "flux_xy"))
    found[INDEX["uv"]] *= 1 - share
    found[INDEX["eps_sgs"]] = 0.2 / NU
    return found


def test_share_and_work(means):
    """In wall units the work on the mean is ``share * production``; the rest of `eps_sgs` is the fluctuations'."""
    found = dict(zip(PROFILE, CHANNEL.profiles(with_stress(means, 0.3)), strict=True))
    production = dict(zip(BUDGET, CHANNEL.budget(means), strict=True))["production"]
    inside = slice(1, -1)  # no shear at the centre
    assert found["sgs_share"][inside] == pytest.approx(0.3)
    assert found["sgs_work_mean"] == pytest.approx(0.3 * production, abs=2e-3 * production.max())
    unit = CHANNEL.friction_velocity(CHANNEL.fold(means)) ** 4
    assert found["sgs_work_mean"] + found["sgs_work_fluctuation"] == pytest.approx(0.2 / unit)
    share, mean, fluctuation = CHANNEL.subgrid(with_stress(means, 0.3))
    assert share == pytest.approx(0.3)
    assert 0.02 < mean < 0.3
    dissipated = (NU * sum(means[INDEX[f"d{c}dx_d{c}dx"], :, 0] for c in "uvw") * AXIS.width).sum()
    assert mean + fluctuation == pytest.approx(0.4 / NU / (0.4 / NU + dissipated), rel=1e-3)


def test_without_a_closure_there_is_no_share_and_no_work(means):
    found = dict(zip(PROFILE, CHANNEL.profiles(means), strict=True))
    assert not any(np.nan_to_num(found[name]).any() for name in PROFILE if name.startswith(("sgs", "tau")))
    assert not CHANNEL.subgrid(means).any()


def test_a_force_counts_as_the_stress_that_would_act_like_it(means):
    """``f_x = -d tau_xy/dy`` carries the momentum, and closes the balance, of the stress; its net part drives."""
    stress = with_stress(means, 0.3)
    force = stress.copy()
    for name in ("tau_xy", "sgs_flux_xy", "eps_sgs"):
        force[INDEX[name]] = 0.0
    force[INDEX["flux_xy"]] -= stress[INDEX["sgs_flux_xy"]]
    through = np.concatenate([[0.0], stress[INDEX["sgs_flux_xy"], :, 0]])
    drive = 0.17
    force[INDEX["force_x"], :, 0] = drive - np.diff(through) / AXIS.width
    force[INDEX["eps_sgs"]] = -force[INDEX["force_x"]] * force[INDEX["u"]] + 0.2 / NU
    one, other = (dict(zip(PROFILE, CHANNEL.profiles(m), strict=True)) for m in (stress, force))
    assert other["tau_sgs"] == pytest.approx(one["tau_sgs"], abs=2e-3)
    assert other["sgs_work_fluctuation"] * CHANNEL.friction_velocity(CHANNEL.fold(means)) ** 4 == pytest.approx(0.2)
    assert CHANNEL.scalars(force)[-1] == pytest.approx(CHANNEL.scalars(stress)[-1], abs=1e-9)
    left_out = force.copy()
    left_out[INDEX["force_x"]] = 0.0
    assert CHANNEL.scalars(left_out)[-1] > 0.1  # the balance does not close without it


def test_intervals_are_those_of_the_batches(means):
    """Of a share and of works that scatter from batch to batch; the jackknife is that of a mean."""
    statistics, shares = BatchMeans(0.0, 1.0), (0.2, 0.4, 0.25, 0.35, 0.3, 0.3)
    for batch, share in enumerate(shares):
        statistics.add(batch + 0.5, 1.0, with_stress(means, share))
    value, width = report(CHANNEL, statistics)["subgrid"]  # batches that are not correlated
    assert value[0] == pytest.approx(0.3)
    assert width[0] == pytest.approx(2.571 * np.std(shares, ddof=1) / np.sqrt(6), rel=1e-3)  # t of 5 degrees
    assert np.isfinite(width).all()


def test_columns_and_words_of_a_run(tmp_path, means):
    """All columns are written with their intervals, and the guide names every one."""
    case, _ = load_case(CASES / "channel180", ("grid.y.n=128", f"flow.nu={NU}"))
    grid = case.model_copy(update={"reference": None}).build_grid()
    grid = type(grid)(grid.x, AXIS, grid.z)
    statistics = BatchMeans(0.0, 1.0)
    for batch in range(5):
        statistics.add(batch + 0.5, 1.0, with_stress(means, 0.3))
    found = averages.write_statistics(tmp_path, case.model_copy(update={"reference": None}), tmp_path, grid, statistics)
    rows = list(csv.DictReader((tmp_path / "profiles.csv").open()))
    assert set(rows[0]) == {"y", "y_plus", *PROFILE, *(f"{name}_ci95" for name in PROFILE)}
    assert float(rows[20]["sgs_share"]) == pytest.approx(0.3)
    assert set(found["subgrid"]) == {*SUBGRID, "ci95"}
    assert "subgrid part of turbulent shear at y+ 15: 30.0 ± 0.0 %" in stresses_in_words(found)
    guide = (CASES.parent / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert not [name for name in (*PROFILE, *BUDGET, *SUBGRID) if f"`{name}`" not in guide]
    assert not [name for name in NAMES if f"`{name}`" not in guide]
