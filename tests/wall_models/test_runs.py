"""Wall models in runs: the same on any number of ranks and in legs, and what summary and comparison say of them."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest
import torch

from closures.compare.references import resolve
from closures.compare.runs import group, read, require_one_difference
from closures.compare.verdicts import compare_members
from solver import simulation
from solver.analysis.moments import INDEX
from solver.errors import CaseError
from tests import runs
from tests.compare.ensembles import write_run

WALLS = ("wall_model.name=log_law", "wall_model.height=0.4", "wall_model.filter=1.0")
SETS = tuple(word for key in (*WALLS, "grid.y.stretching=0.0") for word in ("--set", key))


@runs.needs_mpirun
def test_ranks_do_not_matter(tmp_path):
    """Channel and duct, each with a height on another rank than the wall, and the memory of the filter."""
    found = runs.on_ranks((1, 3), "tests.wall_models.run_walls", tmp_path)
    assert {"channel/y/filtered_first", "duct/z/filtered_second", "duct/y/friction"} <= found[1].keys()
    for key, expected in found[1].items():
        if key != "ranks":
            np.testing.assert_allclose(found[3][key], expected, rtol=0, atol=1e-11 * abs(expected).max(), err_msg=key)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A case with one run of it."""
    case = runs.write_case(tmp_path_factory.mktemp("walls"))
    assert runs.solver("run", case, "--out", case / "run", *SETS, "--quiet").code == 0
    return case


@pytest.mark.parametrize("name", ["log_law", "corner_law"])
def test_two_legs_are_one_run(name, whole, tmp_path):
    """A learned model as well as a law; each remembers its filtered velocity."""
    sets, legs = (*SETS, "--set", f"wall_model.name={name}"), tmp_path / "legs"
    through = whole / "run" if name == "log_law" else tmp_path / "whole"
    if not through.exists():
        assert runs.solver("run", whole, "--out", through, *sets, "--quiet").code == 0
    assert runs.solver("run", whole, "--out", legs, *sets, "--steps", 7, "--quiet").code == 0
    assert runs.solver("run", whole, "--restart", legs, *sets, "--quiet").code == 0
    one, other = runs.checkpoints(through)[-1], runs.checkpoints(legs)[-1]
    assert {"wall_model/y/filtered_first", "wall_model/y/filtered_at"} <= runs.arrays(one).keys()
    runs.assert_same([one], [other], 1e-11)


def test_another_wall_model_is_another_flow(whole, tmp_path):
    shutil.copytree(whole / "run", tmp_path / "run")
    words = ("run", whole, "--restart", tmp_path / "run", *SETS, "--set", "wall_model.name=spalding", "--quiet")
    done = runs.solver(*words)
    assert done.code == 2
    assert "[wall_model] name was 'log_law' and is 'spalding'" in done.err


def test_friction_in_tables_is_that_of_the_model(whole):
    """Constant mass flux: the mean drive balances the stress; the total stress is straight where the flow is steady."""
    found = runs.summary(whole / "run")
    rows = np.genfromtxt(whole / "run" / "timeseries.csv", delimiter=",", names=True)
    assert found["wall_model"] == "log_law"
    late = rows[rows["time"] > 1.0]
    assert found["u_tau"] == pytest.approx(np.sqrt(np.mean(late["u_tau"] ** 2)), rel=0.02)
    assert late["u_tau"] ** 2 == pytest.approx(late["forcing"], rel=0.1)


COARSE = ("grid.x.n=10", "grid.y.stretching=0.0", "grid.y.n=10", "wall_model.name=log_law", "closure={name='amd'}")
OPEN = ("grid.z.n=10", "wall_model.height=0.15")
DUCT = ("grid.z.n=10", "grid.z.stretching=0.0", "wall_model.height=0.3", "flow.nu=1e-4")


@pytest.mark.parametrize(("name", "more"), [("half_channel", OPEN), ("duct", DUCT)])
def test_half_channel_and_duct_flow_along_modelled_walls(name, more):
    """The drive is what the stress of the model takes through the walls, of the size of a smooth wall's friction."""
    flow = simulation(name, *COARSE, *more, "run.device=cpu")
    for _ in range(4):
        flow.step()
    grid, stress = flow.operators.grid, flow.present_stress()
    taken = sum(
        float((tau[0] * _shares(grid, axis)).sum()) / tau[0].shape[0] / grid.axes[axis].length
        for axis, planes in stress.planes.items()
        for tau in planes.values()
    )
    assert set(stress.planes) == ({1} if name == "half_channel" else {1, 2})
    assert float(flow.state.drive) == pytest.approx(taken, rel=0.03)
    assert 0.001 < taken < 0.02
    assert flow.max_divergence < 1e-12


def _shares(grid, axis):
    """Of the cells along a wall across `axis` in its length."""
    along = grid.axes[3 - axis]
    width = torch.as_tensor(along.width / along.length)
    return width[None, None, :] if axis == 1 else width[None, :, None]


def planted(folder, closure, model, below=1.0, at_half=0.0):
    """A run under a wall model with another velocity in the first cell, of the same friction, or at half of h."""
    overrides = () if model == "none" else (f"wall_model.name={model}", "wall_model.height=0.1")
    run = write_run(folder, closure, 5, noise=0.0, overrides=overrides)
    case = read(run).case
    y, nu = case.build_grid().y, case.flow.nu
    with h5py.File(run / "statistics.h5", "r+") as file:
        sums, weights = file["batches/sums"][()], file["batches/weights"][()]
        u, flux = sums[:, INDEX["u"], :, 0], sums[:, INDEX["wall_flux_xy"], :, 0]
        before = u.copy()
        for end, sign in ((0, 1.0), (-1, -1.0)):
            flux[:, end] += sign * nu * (below - 1.0) * u[:, end] / (0.5 * y.width[end])
            u[:, end] *= below
        middle = np.abs(np.abs(y.centres - 1.0) - 0.5).argmin()
        for i in (middle, -1 - middle):
            u[:, i] += at_half * weights
        sums[:, INDEX["uu"], :, 0] += (u**2 - before**2) / weights[:, None]  # of the mean; fluctuations stay
        file["batches/sums"][...] = sums
    return run


def judged(*folders):
    found = [read(folder) for folder in folders]
    require_one_difference(found)
    return compare_members(group(found), resolve("MKM180", found))


def test_the_outer_layer_is_judged(tmp_path):
    """Half the velocity in the first cell costs nothing, of the friction neither; 0.02 more at half of h is found."""
    one = planted(tmp_path / "a", "wale", "log_law")
    other = planted(tmp_path / "b", "wale", "spalding", below=0.5, at_half=0.02)
    comparison = judged(one, other)
    keys = [q.name for q in comparison.metrics]
    assert {"u_plus", "c_f", "u_rms", "uv"} <= set(keys)
    values = [dict(zip(keys, m.errors.value, strict=True)) for m in comparison.members]
    assert [m.member.label for m in comparison.members] == ["wale, wall: log_law", "wale, wall: spalding"]
    assert values[1]["c_f"] == pytest.approx(values[0]["c_f"], abs=0.005)  # the bulk velocity is another
    u_tau = 178.12 * read(one).case.flow.nu
    assert values[1]["u_plus"] == pytest.approx(0.02 / u_tau, abs=0.06)  # beside the departure of the friction
    assert values[0]["u_plus"] < 0.06
    assert values[1]["u_rms"] == pytest.approx(values[0]["u_rms"], abs=0.01)


def test_closure_and_wall_model_do_not_differ_at_once(tmp_path):
    one, other = planted(tmp_path / "a", "wale", "log_law"), planted(tmp_path / "b", "none", "spalding")
    with pytest.raises(CaseError, match=r"\[closure\] and in \[wall_model\]"):
        judged(one, other)
