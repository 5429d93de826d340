"""The bandit against its definition and on known losses; the self-tuning solver with clocks that tests hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from solver.parallel.slabs import Slabs
from solver.pressure import tuning
from solver.pressure.bandit import TsallisInf
from solver.pressure.guess import ProjectedGuess
from solver.pressure.multigrid import MultigridPressure
from solver.pressure.report import PressureSolveFailure, SolveReport
from solver.pressure.tuning import SelfTuning
from tests.pressure.problems import PROBLEMS, exact_solution, noise


def test_probabilities_are_those_of_the_definition():
    bandit = TsallisInf(4)
    assert bandit.probabilities() == pytest.approx(np.full(4, 0.25))
    bandit.losses, bandit.pulls = np.array([3.0, 0.5, 1.0, 40.0]), np.array([9, 30, 20, 2])
    p = bandit.probabilities()
    assert p.sum() == pytest.approx(1.0, abs=1e-14)
    roots = 2.0 / np.sqrt(p) / bandit.rate - bandit.losses  # 4 / (eta (L - x))^2 = p with one x for all
    assert roots == pytest.approx(np.full(4, roots[0]), rel=1e-9)
    assert list(np.argsort(-p)) == [1, 2, 0, 3]


def test_estimated_losses_are_unbiased():
    """Summed over the draws with their probabilities, what is added is the loss of every arm."""
    true, total = np.array([0.2, 0.9, 0.5]), np.zeros(3)
    for arm in range(3):
        bandit = TsallisInf(3)
        bandit.losses, bandit.pulls = np.array([30.0, 10.0, 20.0]), np.array([50, 200, 100])
        before, p = bandit.losses.copy(), bandit.probabilities()
        bandit.learn(arm, true[arm])
        total += p[arm] * (bandit.losses - before)
    assert total == pytest.approx(true, abs=1e-12)


def pull(bandit: TsallisInf, means: np.ndarray, times: int, random: np.random.Generator) -> float:
    """Losses of 0 or 1 with the given means; the expected regret."""
    regret = 0.0
    for _ in range(times):
        arm = bandit.draw()
        bandit.learn(arm, float(random.random() < means[arm]))
        regret += means[arm] - means.min()
    return regret


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_regret_grows_like_the_logarithm_on_independent_losses(seed):
    bandit, means = TsallisInf(4, seed), np.array([0.6, 0.35, 0.6, 0.6])
    random = np.random.default_rng(seed + 10)
    first = pull(bandit, means, 4000, random)
    second = pull(bandit, means, 4000, random)
    assert first < 4000 * 0.25 * 0.2  # uniform draws would lose 0.1875 each: 750
    assert second < 0.6 * first


def test_it_follows_when_another_arm_becomes_the_best():
    bandit, random = TsallisInf(3, 5), np.random.default_rng(6)
    pull(bandit, np.array([0.2, 0.6, 0.6]), 1500, random)
    pull(bandit, np.array([0.9, 0.6, 0.1]), 3000, random)
    assert bandit.probabilities().argmax() == 2


def test_a_restored_bandit_draws_the_same():
    random = np.random.default_rng(4)
    bandit, other = TsallisInf(3, 9), TsallisInf(3, 77)
    pull(bandit, np.array([0.2, 0.3, 0.6]), 40, random)
    other.restore(bandit.state())
    assert [bandit.draw() for _ in range(50)] == [other.draw() for _ in range(50)]
    assert other.probabilities() == pytest.approx(bandit.probabilities(), abs=0)


class Fake:
    """Takes its time, on a clock of its own, and may fail."""

    def __init__(self, clock: SimpleNamespace, milliseconds: float, fails: bool = False) -> None:
        self.clock, self.milliseconds, self.fails = clock, milliseconds, fails

    def solve(self, rhs, out):
        noise = 1.0 + 0.2 * float(self.clock.random.standard_normal())
        self.clock.now += 1e-3 * self.milliseconds * max(noise, 0.1)
        report = SolveReport(not self.fails, "FAILED" if self.fails else "CONVERGED_RTOL", 1, 0.0, 0.0)
        if self.fails:
            out.fill_(torch.nan)
            raise PressureSolveFailure("fake", report)
        out.fill_(self.milliseconds)
        return report


@pytest.fixture
def clock(monkeypatch):
    found = SimpleNamespace(now=0.0, random=np.random.default_rng(12))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: found.now))
    return found


def race(clock, arms: dict[str, Fake], solves: int, seed: int) -> SelfTuning:
    solver, rhs = SelfTuning(arms, Slabs(4, 4, False), seed), torch.ones(1, 2, 2, 2)
    for _ in range(solves):
        out = torch.zeros_like(rhs)
        assert solver.solve(rhs, out).converged
        assert bool(torch.isfinite(out).all())
    return solver


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_total_time_is_within_a_tenth_of_the_best_arm(clock, seed):
    """Also with an arm a hundred times as slow, and one that fails."""
    arms = {
        "good": Fake(clock, 1.3),
        "best": Fake(clock, 1.0),
        "fair": Fake(clock, 2.0),
        "terrible": Fake(clock, 100.0),
        "broken": Fake(clock, 5.0, fails=True),
    }
    solver = race(clock, arms, 3000, seed)
    assert clock.now < 1.1 * 3.0
    assert solver.names[solver.best] == "best"
    told = solver.summary()
    assert told["broken"]["failures"] == told["broken"]["solves"] >= 1
    assert sum(arm["solves"] for arm in told.values()) >= 3000


def test_it_continues_from_a_checkpoint(clock):
    def arms():
        return {"a": Fake(clock, 1.0), "b": Fake(clock, 1.4)}

    solver = race(clock, arms(), 200, 3)
    other = SelfTuning(arms(), Slabs(4, 4, False), 8)
    other.restore(solver.state())
    assert other.summary() == solver.summary()
    clock.random = np.random.default_rng(1)
    rhs = torch.ones(1, 2, 2, 2)
    outs = []
    for tuned in (solver, other):
        clock.random = np.random.default_rng(1)
        outs.append([float(_solved(tuned, rhs)) for _ in range(50)])
    assert outs[0] == outs[1]


def _solved(solver: SelfTuning, rhs: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(rhs)
    solver.solve(rhs, out)
    return out.flatten()[0]


@pytest.mark.parametrize("name", ["ball", "parts", "rods", "stretched"])
def test_a_projected_guess_is_exact_on_the_space_of_previous_solutions(name):
    problem = PROBLEMS[name]
    poisson = problem.poisson()
    sources = [noise(poisson, seed) for seed in (1, 2, 3)]
    solver = ProjectedGuess(MultigridPressure(poisson, 1e-11), poisson, size=4)
    counts = []
    for rhs in [*sources, 0.3 * sources[0] - 2.0 * sources[1] + sources[2]]:
        phi = torch.full_like(rhs, 7.0)
        counts.append(solver.solve(rhs, phi).iterations)
        exact = exact_solution(problem, rhs.numpy())
        assert abs(phi.numpy() - exact).max() < 1e-9 * abs(exact).max()
    assert min(counts[:3]) > 5
    assert counts[3] <= 2
    products = torch.tensor([[poisson.layout.dot(a, solver._product(b)) for b in solver.basis] for a in solver.basis])
    assert torch.allclose(products, torch.eye(len(solver.basis)), atol=1e-8)


def test_a_full_basis_starts_again_with_the_last_solution():
    poisson = PROBLEMS["cube"].poisson()
    solver = ProjectedGuess(MultigridPressure(poisson, 1e-11), poisson, size=2)
    sources = [noise(poisson, seed) for seed in (1, 2, 3)]
    for rhs in sources:
        solver.solve(rhs, torch.zeros_like(rhs))
    assert len(solver.basis) == 1
    assert solver.solve(sources[2], torch.zeros_like(rhs)).iterations <= 1
