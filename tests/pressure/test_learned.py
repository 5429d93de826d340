"""Learned methods behind `[pressure]`: found by name, refused by name, counted, and right whatever the network says."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from closures.operators import artefact
from closures.operators.artefact import CARD, ArtefactError
from closures.pressure_nets.assemble import Homogeneous, assemble, folders
from closures.pressure_nets.directions import NetworkDirection
from closures.pressure_nets.learned_multigrid_file import SMOOTHING
from solver.case.solid_tables import PressureTable
from solver.errors import CaseError
from solver.flow.around_solids import pressure_solver
from solver.grid.grid import Grid
from solver.pressure.krylov import KrylovPressure
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.report import PressureSolveFailure
from solver.solids.mask import Solids
from tests import runs
from tests.grids import operators, walls
from tests.pressure.artefacts import ABOUT, network, write_network, write_subgrid_model, write_table
from tests.pressure.problems import BALL, PROBLEMS, Problem, cells, cube, exact_solution, noise

CASE = """\
title = "A block in a periodic box"
[grid.x]
kind = "finite_volume"
n = 12
end = 1.5
lower = "periodic"
upper = "periodic"
[grid.y]
kind = "finite_volume"
n = 8
end = 1.0
[grid.z]
kind = "finite_volume"
n = 8
end = 1.0
lower = "periodic"
upper = "periodic"
[solids]
shapes = [{ kind = "box", lower = [0.5, 0.0, 0.3], upper = [0.9, 0.4, 0.7] }]
[flow]
nu = 0.01
[flow.forcing]
kind = "pressure_gradient"
gradient = 1.0
[initial]
kind = "stream"
seed = 4417
amplitude = 3.0
[time]
end = 1.0
dt = 0.01
[pressure]
solver = "learned"
artefact = "net"
tolerance = 1e-5
[output]
every_steps = 1
[run]
device = "cpu"
fuse = "off"
"""


@pytest.fixture
def folder(tmp_path):
    """A case folder with an artefact of every kind."""
    write_network(tmp_path / "net")
    write_table(tmp_path / "table")
    write_subgrid_model(tmp_path / "subgrid")
    (tmp_path / "case.toml").write_text(CASE)
    return tmp_path


@pytest.fixture
def petsc():
    return pytest.importorskip("petsc4py.PETSc")


@pytest.fixture(scope="module")
def exact():
    """Sparse LU of the ball, once."""
    return exact_solution(ball(), noise(ball().poisson()).numpy())


def ball() -> Problem:
    return Problem(cube(16), [BALL])


@pytest.mark.parametrize("name", ["net", "table"])
@pytest.mark.parametrize("keys", [{"solver": "learned"}, {"solver": "learned", "guesses": 3},
                                  {"solver": "krylov", "preconditioner": "learned"},
                                  {"solver": "krylov", "preconditioner": "learned", "method": "fcg"}])  # fmt: skip
def test_same_solution_as_sparse_lu_without_a_warning(folder, name, keys, exact, caplog, recwarn):
    if keys["solver"] == "krylov":
        pytest.importorskip("petsc4py")
    problem = ball()
    op, solids = operators(problem.grid), Solids.from_shapes(problem.grid, problem.shapes)
    table = PressureTable(tolerance=1e-11, artefact=name, **keys)
    solver, reported = pressure_solver(table, op, solids, lambda name, poisson: assemble(name, folder, poisson))
    assert re.fullmatch(rf"(learned|gmres\+learned|fcg\+learned) \({name}\)", reported)
    rhs = noise(problem.poisson())
    phi, other = torch.zeros_like(rhs), torch.zeros_like(rhs)
    assert solver.solve(rhs, phi).residual < 1e-10
    MultigridPressure(problem.poisson(), 1e-11).solve(rhs, other)
    for found in (phi, other):
        assert abs(found.numpy() - exact).max() < 1e-9 * abs(exact).max()
    assert not caplog.records
    assert not recwarn.list


def test_a_shipped_artefact_goes_before_a_folder_and_is_listed(folder, monkeypatch):
    shipped = folder / "pretrained"
    for name in ("net", "table", "subgrid"):
        shutil.copytree(folder / name, shipped / name)
    monkeypatch.setattr("closures.operators.shipped.PRETRAINED", shipped)
    assert folders() == {"net": shipped / "net", "table": shipped / "table"}
    shutil.rmtree(folder / "net")
    assert assemble("net", folder, ball().poisson()).name == "net"
    with pytest.raises(CaseError, match="did you mean 'table'"):
        assemble("tabel", folder, ball().poisson())


@pytest.mark.parametrize(
    ("name", "problem", "error", "words"),
    [
        ("nothing", ball(), CaseError, r"artefact = 'nothing': no such folder with card.json beside the case"),
        ("subgrid", ball(), CaseError, r"holds a subgrid model \('tensor_basis'\), not a preconditioner"),
        ("net", Problem(cube(18)), CaseError, r"multiples of 4 cells, not \(18, 18, 18\)"),
        ("net", Problem(Grid(cells(16), cells(16, 1.1), cells(16))), CaseError, "knows cubes only.*from 0.0625 to"),
        ("net", Problem(Grid(walls(16, 1.0), cells(16), cells(16))), CaseError, "knows cubes only"),
        ("net", PROBLEMS["plane"], CaseError, "cubes|multiples"),
        ("table", Problem(Grid(walls(16, 1.0), cells(16), cells(16))), CaseError, "learned on cubes"),
        ("broken", ball(), ArtefactError, "card.json: cannot be read"),
        ("growing", ball(), ArtefactError, r"smoothing.toml: cannot be used .*enlarges"),
        ("short", ball(), ArtefactError, r"smoothing.toml: .*momenta"),
    ],
)
def test_refused_in_one_line(folder, name, problem, error, words):
    for other, old, new in (("growing", "0.73", "2.73"), ("short", "momenta", "moments")):
        write_table(folder / other)
        file = folder / other / SMOOTHING
        file.write_text(file.read_text().replace(old, new))
    shutil.copytree(folder / "net", folder / "broken")
    (folder / "broken" / CARD).write_text("{")
    with pytest.raises(error, match=words) as caught:
        assemble(name, folder, problem.poisson())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"solver": "learned"}, "solver = 'learned' needs artefact"),
        ({"solver": "krylov", "preconditioner": "learned"}, "preconditioner = 'learned' needs artefact"),
        ({"solver": "multigrid", "artefact": "net"}, "'artefact' belongs to solver = 'learned'"),
        ({"solver": "learned", "artefact": "net", "preconditioner": "learned"}, "'preconditioner' belongs to"),
        ({"solver": "krylov", "preconditioner": "learned", "artefact": "n", "method": "cg"}, "'cg' needs a linear"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        PressureTable(**keys)


def test_as_a_preconditioner_a_network_is_homogeneous():
    poisson = ball().poisson()
    function = Homogeneous(poisson, NetworkDirection(poisson, network()))
    r = poisson.source(noise(poisson))
    once = function(r).clone()
    assert torch.allclose(function(-3e-7 * r), -3e-7 * once, rtol=1e-4, atol=1e-4 * 3e-7 * float(once.abs().max()))
    assert not function(torch.zeros_like(r)).any()
    assert function(r * torch.nan).isnan().any()


@pytest.mark.parametrize("method", ["gmres", "fcg"])
def test_a_network_that_is_not_finite_ends_petsc_by_name(petsc, method):
    poisson = ball().poisson()
    solver = KrylovPressure(poisson, "learned", method, learned=lambda r: r * torch.nan)
    rhs = noise(poisson)
    with pytest.raises(PressureSolveFailure, match=rf"'{method}\+learned': DIVERGED_(NANORINF|PC_FAILED)"):
        solver.solve(rhs, torch.zeros_like(rhs))


def test_one_solver_leaves_no_options_to_the_next(petsc):
    """PETSc's options are global."""
    poisson, before = ball().poisson(), petsc.Options().getAll()
    for name in ("multigrid", "gamg", "icc"):
        KrylovPressure(poisson, name)
        assert petsc.Options().getAll() == before


def test_a_run_counts_what_multigrid_had_to_finish(folder):
    """A good network none; one that answers nothing every solve, and those before a restart too."""
    bad = network()
    with torch.no_grad():
        for weight in bad.parameters():
            weight.zero_()
    artefact.save(folder / "bad", bad, "npsdo", {"levels": 2}, **ABOUT)
    found = {}
    for name in ("net", "table", "bad"):
        out = folder / f"run-{name}"
        done = runs.solver("run", folder, "--steps", 2, "--out", out, "--quiet", "--set", f"pressure.artefact='{name}'")
        assert done.code == 0, done.err
        found[name] = runs.summary(out)["pressure"]
        assert found[name]["solver"] == f"learned ({name})"
    assert found["net"]["guard_interventions"] == found["table"]["guard_interventions"] == 0
    first = found["bad"]["guard_interventions"]
    assert first == found["bad"]["solves"] > 6
    more = ("run", folder, "--steps", 2, "--restart", folder / "run-bad", "--quiet", "--set", "pressure.artefact='bad'")
    assert runs.solver(*more).code == 0
    again = runs.summary(folder / "run-bad")["pressure"]
    assert again["guard_interventions"] == first + again["solves"]


def test_a_missing_artefact_ends_a_run_before_it_begins(folder):
    done = runs.solver("run", folder, "--out", folder / "run", "--set", "pressure.artefact='met'")
    assert done.code == 2
    assert "[pressure] artefact = 'met': no such folder" in done.err
    assert not (folder / "run").exists()
