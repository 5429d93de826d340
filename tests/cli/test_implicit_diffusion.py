"""``[time] implicit_diffusion`` in runs: where "auto" turns it on, how legs go on, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from solver.discretisation.calculus import Operators
from solver.parallel.slabs import Slabs
from solver.run.build import initial_field, source_of
from solver.run.stiffness import is_implicit
from tests import runs

QUARTER = {  # of the box, with the spacings of the case
    "channel180_dns": ("grid.x.n=16", 'grid.x.length="pi / 2"', "grid.z.n=18", 'grid.z.length="pi / 4"'),
    "channel395": ("grid.x.n=12", 'grid.x.length="pi / 2"', "grid.z.n=18", 'grid.z.length="pi / 4"'),
    "channel590": ("grid.x.n=20", 'grid.x.length="pi / 2"', "grid.z.n=20", 'grid.z.length="pi / 4"'),
}
FINE = ("grid.y.n=128", "grid.y.stretching=2.0", "grid.x.n=12", "grid.z.n=12")  # first cell at y+ 0.42


def chosen(name: str, *overrides: str) -> bool:
    source = source_of(Path(name), overrides)
    grid = source.case.build_grid()
    slabs = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic)
    operators = Operators(grid, slabs, torch.device("cpu"), torch.float64)
    return is_implicit(source.case, operators, initial_field(source, operators), None)


@pytest.mark.parametrize("name", QUARTER)
def test_shipped_channels_stay_explicit(name):
    assert not chosen(name, *QUARTER[name])


def test_fine_cells_at_the_wall_are_implicit_where_the_step_is_free():
    box = QUARTER["channel180_dns"]
    assert chosen("channel180_dns", *box, *FINE)
    assert not chosen("channel180_dns", *box, *FINE, "time.dt=0.001")
    assert not chosen("channel180_dns", *box, *FINE, "initial={kind='rest'}")
    assert not chosen("channel180_dns", *box, *FINE, "time.implicit_diffusion=off")


def test_two_legs_are_one_run_and_the_second_does_as_the_first(tmp_path):
    case, on = runs.write_case(tmp_path / "case"), ("--set", "time.implicit_diffusion=on", "--quiet")
    assert runs.solver("run", case, "--out", tmp_path / "whole", *on).code == 0
    assert runs.solver("run", case, "--out", tmp_path / "legs", "--steps", 7, *on).code == 0
    assert runs.solver("run", case, "--restart", tmp_path / "legs", "--quiet").code == 0  # "auto"
    whole, legs = (runs.summary(tmp_path / name) for name in ("whole", "legs"))
    assert whole["implicit_diffusion"]
    assert legs["implicit_diffusion"]
    assert "diffusion" in whole["milliseconds_per_step"]
    runs.assert_same([runs.checkpoints(tmp_path / "whole")[-1]], [runs.checkpoints(tmp_path / "legs")[-1]], 1e-11)


@pytest.mark.parametrize(("case", "reason"), [("cavity", "[grid.x]"), ("taylor_green", "cells along y")])
def test_flows_without_it_are_refused_in_a_line(case, reason, tmp_path):
    done = runs.solver("check", case, "--set", "time.implicit_diffusion=on")
    assert done.code == 2
    assert "[time] implicit_diffusion = 'on'" in done.err
    assert reason in done.err
    assert len(done.err.strip().splitlines()) == 1
