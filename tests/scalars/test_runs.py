"""Scalars in runs: ranks, legs, tables and figures, the laminar Nusselt number, references, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from solver.analysis.scalar_flow import PROFILE, SCALARS, ScalarReference, scalar_flows
from solver.case.case import load_case
from solver.flow.flow import Flow
from solver.flow.forcing import MassFlux
from solver.flow.scalars import End, Scalar
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from solver.observers.scalar_statistics import ScalarStatistics
from tests import runs
from tests.grids import operators, sample, walls

HEATED = """
[[scalars]]
name = "temperature"
prandtl = 0.71
source = { kind = "streamwise", rate = 1.0 }
lower = { value = 0.0 }
upper = { value = 0.0 }
initial_per_u = 10.0
[[scalars]]
name = "dye"
prandtl = 1.0
lower = { value = 1.0 }
initial = 0.25
"""


@runs.needs_mpirun
def test_ranks_do_not_matter(tmp_path):
    found = runs.on_ranks((1, 3), "tests.scalars.run_scalars", tmp_path)
    assert len(found[1]) == 12
    for key, expected in found[1].items():
        if key != "ranks":
            np.testing.assert_allclose(found[3][key], expected, rtol=0, atol=1e-11 * abs(expected).max(), err_msg=key)


@pytest.mark.parametrize("drive", [1.0, -1.0])
def test_laminar_flow_between_heated_walls_has_its_nusselt_number(drive):
    """Constant heat flux through both walls, developed: 140 / 17 on four half heights, half of that on two."""
    op = operators(Grid(FourierAxis(1, 1.0), walls(48, stretching=1.0), FourierAxis(1, 1.0)))
    nu, ends = 0.05, {(1, 0): End(0.3), (1, 1): End(0.3)}
    scalar = Scalar("heat", 0.7, ends=ends, source_per_u=2.0 / drive)
    flow = Flow(op, nu, None, MassFlux(op, drive), implicit=True, scalars=[scalar])
    state = flow.start(
        sample(op, [lambda x, y, z: drive * 1.5 * y * (2 - y) + 0 * (x + z)] + [lambda x, y, z: 0 * y] * 2)
    )
    state.scalars["heat"] = 0.3 + 3.0 * state.velocity.coefficients[0] / drive
    moved = Simulation(flow, state, StepControl(op, 1.0, dt=4.0, implicit=True))
    for _ in range(40):
        moved.step()
    means = ScalarStatistics(op, [scalar], 0.0, 1.0, 1).sample(moved).double().numpy()
    (view,) = scalar_flows(op.grid, nu, scalar, 0).values()
    values = dict(zip(SCALARS, view.scalars(means), strict=True))
    assert values["nusselt"] == pytest.approx(70 / 17, rel=2e-3)
    assert values["wall_flux"] == pytest.approx(2.0, rel=1e-9)
    assert values["balance_residual"] < 1e-8
    assert np.abs(view.profiles(means)[1:]).max() < 1e-5  # nothing fluctuates


def test_walls_that_differ_are_seen_one_by_one():
    """Conduction from 1 to 0: each wall sees its half of the difference at the middle, and the same flux out or in."""
    op = operators(Grid(FourierAxis(1, 1.0), walls(20), FourierAxis(1, 1.0)))
    nu, scalar = 0.1, Scalar("s", 1.0, ends={(1, 0): End(1.0), (1, 1): End(0.0)})
    y = op.grid.y.centres
    means = np.stack([1.5 * y * (2 - y), 1 - y / 2, (1 - y / 2) ** 2, 1.5 * y * (2 - y) * (1 - y / 2), 0 * y, 0 * y])
    views = scalar_flows(op.grid, nu, scalar, 0)
    assert set(views) == {"lower", "upper"}
    flux = [view.scalars(means[:, :, None])[SCALARS.index("wall_flux")] for view in views.values()]
    assert flux == pytest.approx([-0.05, 0.05])
    for view in views.values():
        s_plus = view.profiles(means[:, :, None])[0]
        s_tau = view.scalars(means[:, :, None])[SCALARS.index("s_tau")]
        assert s_plus * s_tau == pytest.approx(np.sign(s_tau) * view.flow.distance / 2)
        assert view.scalars(means[:, :, None])[-1] < 1e-12


def test_the_reference_of_the_heated_channel():
    """Nu = 18.5 by the tables, whose profiles have no distance from themselves."""
    case, folder = load_case(runs.ROOT / "cases/channel180_heat")
    reference = ScalarReference.of(folder, case.scalars[0])
    assert reference.re_tau == pytest.approx(180, abs=0.5)
    assert reference.nusselt(0.71) == pytest.approx(18.5, abs=0.1)
    y = np.linspace(0.0, 1.0, 50)
    assert reference.profile("s_plus", y)[-1] == pytest.approx(16.6, abs=2.0)
    total = -reference.profile("vs_plus", y)
    assert 0.5 < total.max() < 1.0
    assert [name for name in PROFILE if np.isnan(reference.profile(name, y)).any()] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A case with two scalars, and a run of it."""
    case = runs.write_case(tmp_path_factory.mktemp("heated"))
    (case / "case.toml").write_text(HEATED.join(runs.CASE.partition("\n")[::2]))
    done = runs.solver("run", case, "--out", case / "run", "--set", "output.snapshot=9.0", "--quiet")
    assert done.code == 0, done.err
    return case


def test_what_a_run_leaves(whole):
    found = runs.summary(whole / "run")["scalars"]
    assert found["temperature"]["nusselt"] > 4.0
    assert set(found["dye"]) == {"lower", "upper"}
    table = np.genfromtxt(whole / "run/scalar_temperature.csv", delimiter=",", names=True)
    assert {"y_plus", "s_plus", "s_rms_plus", "us_plus", "vs_plus", "s_plus_ci95"} <= set(table.dtype.names)
    series = np.genfromtxt(whole / "run/timeseries.csv", delimiter=",", names=True)
    assert series["temperature_mean"][0] == pytest.approx(10.0, rel=1e-3)
    assert series["dye_rms"][0] < 1e-6 < series["dye_rms"][-1]
    assert "scalars/dye" in runs.arrays(runs.checkpoints(whole / "run")[-1])
    snapshot = max((whole / "run/snapshots").glob("step_*.h5"))
    assert {"temperature", "paraview/dye"} <= runs.arrays(snapshot).keys()
    assert runs.solver("plot", whole / "run").code == 0
    assert (whole / "run/figures/scalars.png").is_file()


def test_two_legs_are_one_run(whole, tmp_path):
    legs = tmp_path / "legs"
    assert runs.solver("run", whole, "--out", legs, "--steps", 7, "--quiet").code == 0
    assert runs.solver("run", whole, "--restart", legs, "--set", "output.snapshot=9.0", "--quiet").code == 0
    one, other = (runs.checkpoints(run)[-1] for run in (whole / "run", legs))
    assert {"scalars/temperature", "scalar_statistics/sums"} <= runs.arrays(one).keys()
    runs.assert_same([one], [other], 1e-11)
    runs.assert_same([whole / "run/scalar_temperature.csv"], [legs / "scalar_temperature.csv"], 1e-8)


def test_another_grid_begins_with_the_scalars_of_a_run(whole, tmp_path):
    origin = f"initial={{kind='run', run='{whole / 'run'}'}}"
    words = ("--set", origin, "--set", "grid.y.n=12", "--set", "grid.x.n=10", "--steps", 1, "--quiet")
    assert runs.solver("run", whole, "--out", tmp_path / "run", *words).code == 0
    before, after = (
        np.genfromtxt(r / "timeseries.csv", delimiter=",", names=True) for r in (whole / "run", tmp_path / "run")
    )
    assert after["temperature_mean"][0] == pytest.approx(before["temperature_mean"][-1], rel=0.05)
    assert after["dye_rms"][0] == pytest.approx(before["dye_rms"][-1], rel=0.2)


def test_scalars_join_a_flow_that_had_none(tmp_path):
    """An old checkpoint has none: they begin as the case says, in a folder of their own."""
    case = runs.write_case(tmp_path / "case")
    assert runs.solver("run", case, "--out", tmp_path / "run", "--steps", 2, "--quiet").code == 0
    (case / "case.toml").write_text(HEATED.join(runs.CASE.partition("\n")[::2]))
    words = ("run", case, "--restart", tmp_path / "run", "--steps", 1, "--quiet")
    refused = runs.solver(*words)
    assert refused.code == 2
    assert "[[scalars]] was" in refused.err
    assert runs.solver(*words, "--out", tmp_path / "heated").code == 0
    last = np.genfromtxt(tmp_path / "heated/timeseries.csv", delimiter=",", names=True)
    assert float(last["dye_mean"]) == pytest.approx(0.25, abs=0.01)


REFUSED = {
    "two of a name": ('name = "dye"', 'name = "temperature"', "two are called 'temperature'"),
    "a taken name": ('name = "dye"', 'name = "pressure"', "name = 'pressure' is taken"),
    "value and flux": ("lower = { value = 1.0 }", "lower = { value = 1.0, flux = 0.0 }", "give 'value' or 'flux'"),
    "sides": ("lower = { value = 1.0 }", "sides = { flux = 1.0 }", "[grid.z] is periodic: remove sides"),
    "negative Prandtl number": ("prandtl = 1.0", "prandtl = -1.0", "prandtl = -1.0"),
    "unknown key": ("prandtl = 1.0", "prandtl = 1.0\npradtl_t = 0.9", "did you mean 'prandtl_t'?"),
    "no stream": (
        'kind = "mass_flux"\nbulk_velocity = 1.0',
        'kind = "pressure_gradient"\ngradient = 1.0',
        "'mass_flux'",
    ),
    "no diffusion": ("nu = 0.002", "nu = 0.0", "nothing diffuses through an end"),
    "missing reference": ("initial = 0.25", 'reference = "none.csv"', "[[scalars]] dye reference = 'none.csv'"),
    "modelled walls": (
        "[closure]",
        '[wall_model]\nname = "log_law"\nheight = 0.4\n[closure]',
        "gives no flux of a scalar",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_bad_input_is_refused_in_a_line(fault, tmp_path):
    before, after, told = REFUSED[fault]
    text = HEATED.join(runs.CASE.partition("\n")[::2])
    assert before in text
    (tmp_path / "case.toml").write_text(text.replace(before, after))
    done = runs.solver("check", tmp_path)
    assert done.code == 2
    assert told in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_cavities_carry_nothing():
    done = runs.solver("check", "cavity", "--set", "scalars=[{name = 's', prandtl = 1.0}]")
    assert done.code == 2
    assert "[[scalars]] are carried through channels, ducts and boxes" in done.err


def test_a_scalar_that_is_not_finite_ends_the_run(tmp_path):
    """The flow does not notice it."""
    text = HEATED.join(runs.CASE.partition("\n")[::2]).replace("initial = 0.25", "initial = 1e308")
    (tmp_path / "case.toml").write_text(text)
    done = runs.solver("run", tmp_path, "--out", tmp_path / "run", "--quiet")
    assert done.code == 3
    assert "[[scalars]] dye is not finite" in done.err
    assert not runs.checkpoints(tmp_path / "run")
