"""What rollouts are judged by: operators that do nothing, or too much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from closures.coupling.frames import Trajectory
from closures.coupling.guard import Guard, GuardTable
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.resample import network_grid
from closures.coupling.surrogate import StateSurrogate
from closures.data.windows import TrajectoryFiles
from closures.losses.relative_l2 import fluctuation_error
from closures.operators.predictor import Predictor, Scaling
from closures.training.long_run import LongRun
from solver.case.case import load_case
from solver.run import build
from tests.bench_pages import load
from tests.training.trajectories import add_statistics, les_file

rollout = load("rollout")

FRAMES, STEP = 16, 0.1

UNITS = Scaling(target="increment", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), change=(1.0, 1.0, 1.0))


class Growing(nn.Module):
    """The change that multiplies a field by ``1 + rate``."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate), requires_grad=False)

    def forward(self, u, domain):
        return self.rate * u


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A channel of ours, a file of its flows with their statistics, and the simulation."""
    case, file = les_file(tmp_path_factory.mktemp("rollout"), (1, 2), FRAMES, STEP, substeps=2)
    add_statistics(file)
    described, folder = load_case(case)
    return case, TrajectoryFiles(file), build.build(build.Source(described, folder, "case"))


def judged(made, rate, steps, settled):
    """A network that multiplies the flow by ``1 + rate``, judged from the first frame of the second trajectory."""
    case, source, simulation = made
    predictor = Predictor(Growing(rate), UNITS)

    def closure(grid, nu):
        guard = Guard(GuardTable(patience=1), "growing", "the solver")
        return StateSurrogate("growing", GuardedUpdate(predictor, network_grid(grid), guard), None, span=source.step)

    flow = LongRun(closure, source, range(2), str(case), (), every_steps=1)
    few = rollout.few_steps(Trajectory(predictor, simulation), source, 1)
    return few | rollout.many_steps(flow, 1, steps, settled)


def test_a_frozen_flow_stays_and_scores_as_frozen(made):
    found, source = judged(made, 0.0, 8, 2), made[1]
    frames = torch.from_numpy(np.moveaxis(source.read(1, slice(None)), -1, 1))
    frozen = [float(fluctuation_error(frames[n : n + 1], frames[n + 1 : n + 2], source.domain)) for n in (0, 10)]
    assert found["stays"] == 8
    assert found["errors"]["one step"] == pytest.approx(100 * np.mean(frozen), rel=1e-3)
    assert found["frozen"]["one step"] == pytest.approx(100 * np.mean(frozen), rel=1e-6)
    assert found["frozen"]["five steps"] > found["frozen"]["one step"]
    u = frames[0].double().mean((1, 3))
    truth = np.concatenate([source.read(n, slice(None)) for n in range(2)])[..., 0].mean((0, 1, 3))
    folded, wanted = (0.5 * (f + f[::-1]) for f in (u[0].numpy(), truth))
    weights = source.domain.y.weights.numpy()
    error = np.sqrt((weights * (folded - wanted) ** 2).sum() / (weights * wanted**2).sum())
    assert found["profiles"]["u_mean"] == pytest.approx(100 * error, rel=0.05)  # there in bulk units


def test_a_long_run_starts_in_the_trajectories_it_is_given_and_is_held_against_them(made):
    case, source, _ = made
    flows = [LongRun(lambda grid, nu: None, source, chosen, str(case), ()) for chosen in ((1,), (0, 1), (0,))]
    second, both, first = (flow.first(0)[0] for flow in flows)
    assert np.array_equal(first, both)
    assert not np.array_equal(first, second)
    references = [flow.reference.profile("u_rms", np.array([0.3, 0.6])) for flow in flows]
    assert np.abs(references[0] - references[2]).min() > 0
    assert np.abs(references[1] - references[2]).min() > 0


def test_a_flow_that_grows_is_given_up(made):
    """The guard lets the energy of the fluctuations grow by a half in one step, not more: 1.05 squared, not 1.3."""
    slow, fast = judged(made, 0.05, 4, 1), judged(made, 0.3, 4, 1)
    assert slow["stays"] == 4
    assert slow["profiles"]["u_rms"] > 5
    assert fast["stays"] == 0
    assert fast["profiles"]["u_mean"] is None
    assert fast["errors"]["five steps"] > slow["errors"]["five steps"] > 20
