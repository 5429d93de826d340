"""Bodies in a case file: a run and its legs, what the folder says, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import runs
from tests.cli.test_bad_input import refused

CASE = """\
title = "A post in a stream"
[grid.x]
kind = "finite_volume"
n = 20
end = 4.0
focus = [0.8, 2.0]
lower = { kind = "inflow", velocity = [1.0, 0.0, 0.0] }
upper = "outflow"
[grid.y]
kind = "finite_volume"
n = 12
end = 2.0
lower = "free_slip"
upper = "free_slip"
[grid.z]
kind = "fourier"
n = 1
length = 1.0
[solids]
shapes = [{ kind = "cylinder", centre = [1.2, 0.95, 0.0], radius = 0.3 }]
[solids.coefficients]
velocity = 1.0
area = 0.6
length = 0.6
[flow]
nu = 0.01
[initial]
kind = "stream"
[pressure]
tolerance = 1e-12
[time]
end = 10.0
[output]
every_steps = 2
[run]
device = "cpu"
fuse = "off"
"""
FACE = "facet normal 0 0 1\nouter loop\nvertex 0.5 0.5 0\nvertex 1.5 0.5 0\nvertex 1.5 1.5 0\nendloop\nendfacet"
TRIANGLE = f"solid open\n{FACE}\nendsolid open\n"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A case folder."""
    (tmp_path / "case.toml").write_text(CASE)
    return tmp_path


def test_legs_make_one_run(case):
    whole, legs = case / "whole", case / "legs"
    assert runs.solver("run", case, "--out", whole, "--steps", 12, "--quiet").code == 0
    assert runs.solver("run", case, "--out", legs, "--steps", 5, "--quiet").code == 0
    assert runs.solver("run", case, "--restart", legs, "--steps", 7, "--quiet").code == 0
    assert "forces/rows" in runs.arrays(runs.checkpoints(whole)[-1])
    runs.assert_same([runs.checkpoints(whole)[-1]], [runs.checkpoints(legs)[-1]], 1e-9)
    one, two = (np.genfromtxt(f / "timeseries.csv", delimiter=",", names=True) for f in (whole, legs))
    assert one.dtype.names == two.dtype.names
    assert {"force_x", "force_y", "force_z", "c_d", "c_l"} <= set(one.dtype.names)
    for name in set(one.dtype.names) - {"max_divergence"}:  # of the size of the tolerance
        np.testing.assert_allclose(two[name], one[name], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(one["c_d"], one["force_x"] / 0.3, rtol=1e-9)
    assert max(one["max_divergence"].max(), two["max_divergence"].max()) < 1e-9


def test_a_solver_that_tunes_itself_goes_on_from_its_checkpoint(case):
    """What two legs know is what they tried; the flow is that of the default solver."""
    run, usual, words = case / "run", case / "usual", ("--quiet", "--set", "pressure.solver=auto")
    assert runs.solver("run", case, "--out", run, "--steps", 6, *words).code == 0
    first = runs.summary(run)["pressure"]["arms"]
    assert min(arm["solves"] for arm in first.values()) >= 1
    assert sum(arm["solves"] - arm["failures"] for arm in first.values()) >= 18
    assert runs.solver("run", case, "--restart", run, "--steps", 4, *words).code == 0
    second = runs.summary(run)["pressure"]["arms"]
    assert sum(arm["solves"] for arm in second.values()) >= sum(arm["solves"] for arm in first.values()) + 12
    assert all(second[name]["solves"] >= arm["solves"] for name, arm in first.items())
    assert runs.solver("run", case, "--out", usual, "--steps", 10, "--quiet").code == 0
    fields = [runs.arrays(runs.checkpoints(folder)[-1]) for folder in (usual, run)]
    for name in ("velocity/u", "velocity/v"):
        np.testing.assert_allclose(fields[1][name], fields[0][name], rtol=0, atol=1e-9)


def test_the_summary_tells_forces_and_solves(case):
    done = runs.solver("run", case, "--out", case / "run", "--set", "time.end=1.0", "--quiet")
    assert done.code == 0, done.err
    found = runs.summary(case / "run")
    assert found["status"] == "finished"
    assert found["pressure"]["solver"] == "box"
    assert found["pressure"]["iterations_per_solve"] > 1
    series = np.genfromtxt(case / "run" / "timeseries.csv", delimiter=",", names=True)
    assert found["forces"]["averaging_time"] == pytest.approx(0.5, abs=0.2)
    late = series["c_d"][series["time"] > 0.5]
    assert late.min() <= found["forces"]["c_d"] <= late.max()
    assert found["forces"]["c_d"] > 0.5


WALL = "{kind='box', lower=[1.0, -1.0, -1.0], upper=[1.5, 3.0, 2.0]}"
DOOR = "{kind='box', lower=[-1.0, -1.0, -1.0], upper=[0.5, 3.0, 2.0]}"
ALL = "{kind='box', lower=[-1.0, -1.0, -1.0], upper=[5.0, 3.0, 2.0]}"
REFUSED = {
    "no fluid": (f"solids.shapes=[{ALL}]", "[solids] no fluid is left", "smaller"),
    "cut in two": (f"solids.shapes=[{WALL}]", "[solids] cut the inflow off", "open a way"),
    "closed entrance": (f"solids.shapes=[{DOOR}]", "[solids] block the inflow or the outflow", "leave fluid"),
    "outside": (
        "solids.shapes=[{kind='sphere', centre=[9, 1, 0.5], radius=0.3}]",
        "[solids] sphere of radius 0.3 about (9, 1, 0.5) contains no cell centre",
        "move it into the box",
    ),
    "no shapes": ("solids.shapes=[]", "[solids] shapes = []", "at least 1 item"),
    "unknown kind": (
        "solids.shapes=[{kind='cone', radius=1.0}]",
        "[solids.shapes.0] kind = 'cone'",
        "'box', 'sphere', 'cylinder', 'surface'",
    ),
    "unknown key": (
        "solids.shapes=[{kind='sphere', center=[1, 1, 0], radius=1.0}]",
        "[solids.shapes.0] unknown key 'center'",
        "did you mean 'centre'",
    ),
    "inside out": (
        "solids.shapes=[{kind='box', lower=[1, 1, 1], upper=[2, 0, 2]}]",
        "[solids.shapes.0] 'lower' = (1.0, 1.0, 1.0)",
        "below 'upper'",
    ),
    "missing surface": (
        "solids.shapes=[{kind='surface', path='ship.stl'}]",
        "[solids] shapes.0.path = 'ship.stl'",
        "add the file",
    ),
    "surface elsewhere": (
        "solids.shapes=[{kind='surface', path='../ship.stl'}]",
        "[solids.shapes.0] 'path' = '../ship.stl'",
        "copy the file",
    ),
    "open surface": (
        "solids.shapes=[{kind='surface', path='open.stl'}]",
        "open.stl: 1 triangles with 3 open edges",
        "close the surface",
    ),
    "no surface": ("solids.shapes=[{kind='surface', path='no.stl'}]", "no.stl", "triangles"),
    "direct": ("pressure.solver=direct", "[pressure] solver = 'direct' knows no solids", "use 'multigrid'"),
    "unknown solver": ("pressure.solver=amg", "[pressure] solver = 'amg'", "'multigrid'"),
    "not of PETSc": ("pressure.method=cg", "[pressure] 'method' belongs to solver = 'krylov'", "remove the key"),
    "Fourier": ("grid.y={kind='fourier', n=8, length=1}", "needs cells along y", "[grid.y] kind = 'finite_volume'"),
    "Fourier in z": ("grid.z.n=8", "needs cells along z", "n = 1 for a plane flow"),
    "outflow alone": ("grid.x.lower=no_slip", "[grid.x]", "belong together"),
    "swapped": ("grid.x={kind='finite_volume', n=8, end=1.0, lower='outflow'}", "[grid.x]", "swap"),
    "inflow backwards": ("grid.x.lower.velocity=[-1, 0, 0]", "[grid.x.lower] velocity = [-1", "larger than zero"),
    "profile of one": ("grid.x.lower.profile=[[0, 1]]", "[grid.x.lower] profile", "two pairs"),
    "inflow across": (
        "grid.y={kind='finite_volume', n=8, end=1.0, lower={kind='inflow', velocity=[1,0,0]}, upper='outflow'}",
        "[grid.y] 'inflow' and 'outflow' belong at the ends of x",
        "turn the flow",
    ),
    "focus outside": ("grid.x.focus=[3.0, 9.0]", "[grid.x] 'focus' = [3.0, 9.0]", "within the axis"),
    "driven and open": (
        "flow.forcing={kind='mass_flux', bulk_velocity=1.0}",
        "[flow.forcing] kind = 'mass_flux'",
        "must be periodic",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(case, name):
    (case / "open.stl").write_text(TRIANGLE)
    (case / "no.stl").write_text("this is no surface")
    setting, *words = REFUSED[name]
    refused(runs.solver("run", case, "--out", case / "run", "--set", setting, "--steps", 2, "--quiet"), *words)
    assert not (case / "run").exists()
    if words[0].startswith("[solids]") or name == "open surface":
        refused(runs.solver("run", case, "--out", case / "run", "--set", setting, "--quiet"), str(case))


def test_check_says_how_many_cells_are_solid(case):
    ended = runs.solver("check", case)
    assert ended.code == 0
    assert "of 240 cells" in ended.out
