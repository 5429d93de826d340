"""Networks that draw, in a run: the same noise for the same seed, the mean of several answers, an ensemble."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from closures.coupling.companion import TURN
from closures.coupling.exported import on_grid
from closures.coupling.guard import COUNTS
from closures.coupling.resample import network_grid
from closures.coupling.update import Update
from closures.operators.artefact import ArtefactError, load
from closures.operators.noise import seeds_of
from closures.registry import contract
from solver.errors import CaseError
from tests.coupling.flows import DT, SCALING, channel, closure, distance, flow, small, write

SEED = 271_801
NOISY = {"noise": 2}


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


def corrected(folder, steps=6, **options):
    """A run that is corrected every other step."""
    model = closure("corrector", folder, channel(), base="none", every=2, guard={"growth": 100.0}, **options)
    simulation = flow(channel(), model)
    for _ in range(steps):
        simulation.step()
    assert simulation.closure_state[COUNTS].tolist() == [0, 0, 0]
    return simulation


def test_equal_seeds_make_equal_runs_and_others_an_ensemble(tmp_path):
    folder = write(tmp_path, "differential", channel(), scale=0.3, arguments=NOISY)
    one = corrected(folder, seed=SEED)
    assert distance(one, corrected(folder, seed=SEED)) == 0.0
    assert distance(one, corrected(folder, seed=SEED + 1)) > 1e-5
    assert int(one.closure_state[TURN]) == 3
    assert corrected(folder).flow.closure.facts["draws"] == 1


@pytest.mark.parametrize("role", ["corrector", "surrogate"])
def test_a_restart_goes_on_with_the_noise_it_had(tmp_path, role):
    step = {"surrogate": {"step": 3 * DT, "interval": 5 * DT}, "corrector": {}}[role]
    folder = write(tmp_path, "differential", channel(), scale=0.3, arguments=NOISY, **step)
    options, guard = {"every": 2} if role == "corrector" else {}, {"growth": 100.0}

    def start():
        return flow(channel(), closure(role, folder, channel(), base="none", seed=SEED, guard=guard, **options))

    straight, second = start(), start()
    for _ in range(4):
        straight.step()
    memory = {name: value.clone() for name, value in straight.closure_state.items()}
    second.state = replace(
        straight.state, velocity=second.flow.velocity(straight.velocity.coefficients), closure=memory
    )
    for _ in range(4):
        straight.step()
        second.step()
    assert int(straight.closure_state[TURN]) > int(memory[TURN]) > 0
    assert distance(straight, second) == 0.0


def test_of_several_answers_the_mean_is_taken(tmp_path):
    folder, grid = write(tmp_path, "differential", channel(), scale=0.3, arguments=NOISY), channel()
    simulation = flow(grid, None)
    update, op = Update(load(folder).predictor(), network_grid(grid), precision="float64"), simulation.operators
    seen, seeds = update.seen(simulation.velocity), seeds_of(SEED, 0, 3)
    answers = torch.stack([update.evaluated(op, seen, (seed,)) for seed in seeds])
    size = torch.tensor(SCALING.change, dtype=torch.float64)[:, None, None, None]
    assert float((answers.std(0) / size).mean()) > 1e-2
    torch.testing.assert_close(update.evaluated(op, seen, seeds), answers.mean(0), rtol=0, atol=1e-14)
    one, mean = corrected(folder, seed=SEED), corrected(folder, seed=SEED, draws=8)
    none = corrected(write(tmp_path / "none", "differential", network=without_noise(folder)))
    assert distance(mean, none) < distance(one, none)


def without_noise(folder):
    network = small("differential")
    weights = load(folder).network.state_dict()
    network.load_state_dict({name: w for name, w in weights.items() if name != "amplitudes"})
    return network


def test_a_corrector_keeps_its_contract(tmp_path):
    """What its state does not know yet, NaN, is no change of it."""
    folder = write(tmp_path, "differential", channel(), scale=0.3, arguments=NOISY)
    subject = contract.Subject(lambda grid: closure("corrector", folder, grid, base="wale"), channel())
    assert set(contract.examine(subject).values()) == {"kept"}


@pytest.mark.parametrize("options", [{"draws": 4}, {"seed": SEED}])
def test_a_network_that_draws_nothing_takes_no_seed(tmp_path, options):
    folder = write(tmp_path, "differential", channel())
    with pytest.raises(CaseError, match=rf"\[closure\] {next(iter(options))}: .* draws nothing at random: remove it"):
        closure("corrector", folder, channel(), **options)


def test_it_is_not_exported(tmp_path):
    folder = write(tmp_path, "differential", channel(), arguments=NOISY)
    with pytest.raises(ArtefactError, match="draws its answers"):
        on_grid(load(folder), channel(), 1e-3, folder)
