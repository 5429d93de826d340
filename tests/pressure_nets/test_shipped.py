"""The networks that come with the package solve boxes and bodies they never saw, without help from multigrid."""

from __future__ import annotations

import pytest
import torch

from closures.operators import artefact
from closures.operators.shipped import PRETRAINED
from closures.pressure_nets.directions import ConjugateDirections, NetworkDirection
from solver.cli.benchmarks.pressure import true_residual
from solver.pressure.multigrid import MultigridPressure
from solver.solids.shapes import Box, Sphere
from tests.pressure.problems import Problem, cube, noise

BODIES = [
    Sphere((0.3, 0.35, 0.6), 0.16),
    Box((0.55, 0.1, 0.2), (0.85, 0.45, 0.5)),
    Box((0.15, 0.7, 0.1), (0.4, 0.9, 0.4)),
]


@pytest.fixture(autouse=True)
def production_mode(gradient_mode: None):
    with torch.no_grad():
        yield


@pytest.mark.parametrize(("name", "n", "most"), [("dcdm_32", 32, 20), ("npsdo_32", 32, 20), ("npsdo_32", 64, 24)])
def test_a_shipped_network_needs_few_directions_and_no_help(name, n, most):
    network = artefact.load(PRETRAINED / name).network
    poisson = Problem(cube(n), BODIES).poisson()
    rhs = noise(poisson)
    phi, expected = torch.zeros_like(rhs), torch.zeros_like(rhs)
    solver = ConjugateDirections(poisson, NetworkDirection(poisson, network), 1e-8)
    report = solver.solve(rhs, phi)
    assert (report.converged, solver.interventions) == (True, 0)
    assert report.iterations <= most
    assert true_residual(poisson, rhs, phi) < 1.1e-8
    MultigridPressure(poisson, 1e-10).solve(rhs, expected)
    assert float((phi - expected).abs().max()) < 1e-5 * float(expected.abs().max())
