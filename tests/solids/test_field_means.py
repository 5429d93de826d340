"""Means in time around solids: what they are, in one leg or two, on one rank or two; and for boxes without bodies."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from solver.flow.forcing import PressureGradient
from solver.observers.field_means import NAMES, FieldMeans
from tests import runs
from tests.solids.flows import CLOSED, around, random_flow, simulation
from tests.solids.test_cases import CASE

AVERAGED = CASE + "[statistics]\nstart = 0.15\nevery_steps = 2\n"
BALL_IN_SPACE = (
    AVERAGED.replace('kind = "fourier"\nn = 1\nlength = 1.0', 'kind = "finite_volume"\nn = 6\nend = 1.5')
    .replace("n = 20", "n = 10")
    .replace('kind = "cylinder", centre = [1.2, 0.95, 0.0]', 'kind = "sphere", centre = [1.2, 0.95, 0.75]')
)


def test_means_are_those_of_the_steps(tmp_path):
    momentum, projection = around(*CLOSED["channel"], 0.02)
    op = momentum.operators
    flow = simulation(momentum, projection, random_flow(projection), 4e-3, PressureGradient(op, 1.0))
    hook, samples, shape = FieldMeans(op, projection.walls.solids, 0.006, 1), [], op.grid.shape
    for _ in range(4):
        flow.step()
        hook(flow)
        u, v, w, p = (f.numpy().reshape(shape) for f in (*flow.velocity.centred, flow.pressure()))
        samples.append([u, v, w, p, u * u, v * v, w * w, u * v, u * w, v * w])
    expected = dict(zip(NAMES, np.mean(samples[1:], axis=0), strict=True))  # the first one is before the start
    assert hook.means.duration == pytest.approx(3 * 4e-3)
    hook.write(tmp_path, 0.02)
    found = runs.arrays(tmp_path / "statistics.h5")
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found["v_rms"] ** 2, found["vv"] - found["v"] ** 2, rtol=0, atol=1e-13)
    assert found["u_rms"].max() > 1e-3
    np.testing.assert_array_equal(found["solid"], projection.walls.solids.solid)
    with h5py.File(tmp_path / "statistics.h5") as file:
        assert [dimension.label or dimension[0].name for dimension in file["uv"].dims] == ["/x", "/y", "/z"]


def run(case: Path, folder: Path, *words: object, ranks: int = 1) -> None:
    """A leg of a run."""
    command = ["run", case, *(() if "--restart" in words else ("--out", folder)), *words, "--quiet"]
    done = runs.solver(*command) if ranks == 1 else runs.ended(runs.mpirun(ranks, "-m", "solver", *command))
    assert done.code == 0, done.err


@runs.needs_mpirun
def test_legs_on_one_and_two_ranks_average_as_one_run(tmp_path):
    (tmp_path / "case.toml").write_text(BALL_IN_SPACE)
    whole, legs = tmp_path / "whole", tmp_path / "legs"
    run(tmp_path, whole, "--steps", 9)
    run(tmp_path, legs, "--steps", 5)
    run(tmp_path, legs, "--restart", legs, "--steps", 4, ranks=2)
    found = runs.arrays(whole / "statistics.h5")
    assert found["u"].shape == (10, 12, 6)
    assert found["u"][found["solid"] == 0].mean() > 0.5
    runs.assert_same([whole / "statistics.h5"], [legs / "statistics.h5"], 1e-7)
    assert runs.summary(legs)["averaging_time"] == pytest.approx(runs.summary(whole)["averaging_time"], rel=1e-9)


def test_a_box_without_bodies_has_means_at_every_cell(tmp_path):
    (tmp_path / "case.toml").write_text(
        AVERAGED.replace(AVERAGED[AVERAGED.index("[solids]") : AVERAGED.index("[flow]")], "")
    )
    run(tmp_path, tmp_path / "run", "--steps", 8)
    found = runs.arrays(tmp_path / "run" / "statistics.h5")
    assert found["uu"].shape == (20, 12, 1)
    assert not found["solid"].any()
