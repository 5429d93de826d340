"""Training residuals, the scale-free loss, and conjugate directions: against the solver's matrix, LU and plain CG."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from closures.pressure_nets.conjugate_net import ConjugateDirectionNet
from closures.pressure_nets.cosines import polynomial
from closures.pressure_nets.directions import ConjugateDirections, NetworkDirection
from closures.pressure_nets.ends import Ends
from closures.pressure_nets.objective import LineSearch, laplacian
from closures.pressure_nets.ritz import SMOOTH, RitzBasis, RitzResiduals, lanczos
from closures.pressure_nets.starts import embed
from solver.errors import CaseError
from solver.pressure.multigrid import Multigrid, MultigridPressure
from solver.pressure.report import PressureSolveFailure
from tests.pressure.problems import BALL, PROBLEMS, Problem, cube, exact_solution, noise

N = 12


@pytest.fixture(autouse=True)
def production_mode(gradient_mode: None):
    with torch.no_grad():
        yield


def matrix(size: int, seed: int = 3) -> torch.Tensor:
    """Symmetric, semi-definite, with a spread spectrum."""
    torch.manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    return (q * torch.linspace(0.0, 4.0, size, dtype=torch.float64) ** 2) @ q.T


class Constant(nn.Module):
    """A network that answers with what it was given."""

    kind, coarsest = "direction", 1

    def __init__(self, answer: torch.Tensor | float) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, residual: torch.Tensor, fluid: torch.Tensor, periodic: Ends) -> torch.Tensor:
        return self.answer * torch.ones_like(residual)


def test_the_matrix_of_training_is_the_matrix_of_the_solver():
    poisson = Problem(cube(N), [BALL]).poisson()
    q = torch.randn(1, N, N, N, dtype=torch.float64)
    fluid = torch.from_numpy(poisson.solids.fluid).double()[None, None]
    h = 1.0 / N
    expected = -poisson.apply(q) * h**3
    found = laplacian(q[None] * fluid, fluid)[0] * h
    assert torch.allclose(found, expected, rtol=0, atol=1e-13 * float(expected.abs().max()))


def test_complete_lanczos_finds_every_eigenpair():
    a = matrix(40)
    values, vectors = lanczos(lambda v: a @ v, torch.randn(40, dtype=torch.float64), 40)
    assert torch.allclose(values, torch.linalg.eigvalsh(a), rtol=0, atol=1e-12 * 16)
    assert torch.allclose(vectors.T @ vectors, torch.eye(40, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.allclose(a @ vectors, vectors * values, rtol=0, atol=1e-11)


def test_lanczos_stops_in_an_invariant_subspace_and_refuses_zero():
    a = matrix(30)
    _, eigenvectors = torch.linalg.eigh(a)
    values, vectors = lanczos(lambda v: a @ v, eigenvectors[:, [4, 9, 21]].sum(1), 20)
    assert vectors.shape == (30, 3)
    assert torch.allclose(values, torch.linalg.eigvalsh(a)[[4, 9, 21]], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="zero"):
        lanczos(lambda v: a @ v, torch.zeros(30, dtype=torch.float64), 4)


def test_training_residuals_are_of_unit_norm_repeatable_and_smooth():
    values, vectors = torch.linalg.eigh(matrix(4**3).float())
    basis = RitzBasis(vectors, torch.ones(4, 4, 4))
    data = RitzResiduals([basis], samples=3, group=400, amplified=0.5, seed=5)
    sample = data[2]
    assert torch.equal(sample, data[2])
    assert not torch.equal(sample, data[1])
    assert torch.equal(sample[-1], torch.ones(4, 4, 4))
    b = sample[:-1].reshape(400, -1)
    assert torch.allclose(b.square().sum(1), torch.ones(400))
    energy = (b @ vectors).square().sum(0)
    ratio = float(energy[:32].sum() / energy[32:].sum())
    assert ratio == pytest.approx(SMOOTH**2, rel=0.1)
    assert len(values) == 64


@pytest.mark.parametrize("directions", [1, 4])
def test_loss_is_what_line_searches_leave_whatever_the_length_of_the_directions(directions):
    poisson = Problem(cube(N), [BALL]).poisson()
    torch.manual_seed(2)
    network = ConjugateDirectionNet(walls="mirror")
    embed(network, polynomial(2, 3))
    fluid = torch.from_numpy(poisson.solids.fluid).float()
    b = poisson.layout.unpack(poisson.source(noise(poisson)), torch.empty(1, N, N, N, dtype=torch.float64))
    b = (b / b.norm()).float()
    loss = LineSearch(network, directions)
    left = float(loss.measure(torch.cat([b, fluid[None]])[None], [0])["residual_left"])
    solver = ConjugateDirections(poisson, NetworkDirection(poisson, network), max_iterations=directions)
    solver.make_fallback = lambda p, tolerance: MultigridPressure(p, tolerance, max_iterations=0)
    with pytest.raises(PressureSolveFailure) as failure:  # what is left after so many directions
        solver.solve(noise(poisson), torch.zeros(1, N, N, N, dtype=torch.float64))
    assert left**directions == pytest.approx(failure.value.report.residual, rel=1e-3)
    samples = torch.cat([b, fluid[None]])[None]
    expected = left**2 if directions == 1 else 2.0 * np.log(left)
    assert float(loss(samples, [0])) == pytest.approx(expected, rel=1e-4)
    network.project.weight *= 7.0
    network.project.bias *= 7.0
    assert float(loss.measure(torch.cat([b, fluid[None]])[None], [0])["residual_left"]) == pytest.approx(left, rel=1e-4)


@pytest.mark.parametrize("name", ["cube", "ball", "parts", "rods", "one_periodic"])
def test_with_a_good_direction_it_solves_as_sparse_lu_does(name):
    problem = PROBLEMS[name]
    poisson = problem.poisson()
    rhs, phi = noise(poisson), torch.zeros(1, *problem.grid.shape, dtype=torch.float64)
    phi = torch.zeros_like(rhs)
    report = ConjugateDirections(poisson, Multigrid(poisson), 1e-12).solve(rhs, phi)
    exact = exact_solution(problem, rhs.numpy())
    assert report.converged
    assert abs(phi.numpy() - exact).max() < 1e-10 * abs(exact).max()


def test_with_the_residual_as_direction_it_is_the_conjugate_gradient_method():
    """For a linear symmetric direction one remembered vector is enough, and a second one harmless."""
    poisson = Problem(cube(N), [BALL]).poisson()
    rhs = noise(poisson)
    found, counts = [], []
    for solver in (
        ConjugateDirections(poisson, torch.clone, 1e-10),
        MultigridPressure(poisson, 1e-10, max_iterations=200, preconditioner=torch.clone),
    ):
        phi = torch.zeros_like(rhs)
        counts.append(solver.solve(rhs, phi).iterations)
        found.append(phi)
    assert abs(counts[0] - counts[1]) <= 1
    assert counts[0] > 15
    assert float((found[0] - found[1]).abs().max()) < 1e-8 * float(found[0].abs().max())


@pytest.mark.parametrize("answer", [float("nan"), 0.0, float("inf")], ids=["nan", "nothing", "infinite"])
def test_a_bad_network_is_replaced_by_multigrid_and_counted(answer):
    problem = PROBLEMS["ball"]
    poisson = problem.poisson()
    rhs = noise(poisson)
    solver = ConjugateDirections(poisson, NetworkDirection(poisson, Constant(answer)), 1e-10)
    for count in (1, 2):
        phi = torch.zeros_like(rhs)
        assert solver.solve(rhs, phi).converged
        assert solver.interventions == count
        exact = exact_solution(problem, rhs.numpy())
        assert abs(phi.numpy() - exact).max() < 1e-8 * abs(exact).max()


def test_a_network_that_stalls_is_replaced():
    poisson = PROBLEMS["ball"].poisson()
    rhs = noise(poisson)
    phi = torch.zeros_like(rhs)
    aimless = torch.Generator().manual_seed(1)

    def direction(residual: torch.Tensor) -> torch.Tensor:
        return torch.randn(residual.shape, generator=aimless, dtype=torch.float64) * (poisson.volume > 0)

    solver = ConjugateDirections(poisson, direction, 1e-8)
    report = solver.solve(rhs, phi)
    assert report.converged
    assert solver.interventions == 1
    assert 30 < report.iterations < 200


def test_sizes_that_the_network_cannot_halve_and_bad_sources_are_refused():
    with pytest.raises(CaseError, match="multiples of 2"):
        NetworkDirection(PROBLEMS["prime"].poisson(), ConjugateDirectionNet())
    poisson = PROBLEMS["cube"].poisson()
    rhs = noise(poisson)
    rhs[..., 3, 3, 3] = np.nan
    with pytest.raises(PressureSolveFailure, match="NANORINF"):
        ConjugateDirections(poisson, torch.clone).solve(rhs, torch.zeros_like(rhs))
