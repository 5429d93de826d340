"""Linear maps under a bound: plain weights in the end, that answer the same and magnify no more than they may."""

from __future__ import annotations

import signal

import pytest
import torch
from torch import nn

from closures.operators import artefact, build
from closures.operators.spectral import SpectralConvolution
from closures.training.experiment import train
from closures.training.spectral_bound import bound_all, fold, follow, plain_weights
from solver.errors import CaseError
from tests.operators.fields import SMALL, channel_domain, randomise, smooth
from tests.training.test_offline import file, largest_difference, start, weights  # noqa: F401  a fixture
from tests.training.trajectories import small_recipe

BOUND = 0.4
DOMAIN = channel_domain(8, 8, 8)


@torch.no_grad()
def magnifications(network):
    """The largest singular value of every linear map, by decomposition."""
    found = []
    for layer in network.modules():
        if isinstance(layer, SpectralConvolution):
            matrices = torch.view_as_complex(layer.weight).flatten(2).movedim(-1, 0)
            found += torch.linalg.svdvals(matrices).amax(-1).tolist()
        elif isinstance(layer, nn.Linear | nn.Conv3d):
            found.append(float(torch.linalg.svdvals(layer.weight.flatten(1))[0]))
    return found


def network_of(name):
    return randomise(build(name, **SMALL[name]).double(), 711_206)


@pytest.mark.parametrize("name", SMALL)
def test_folded_it_keeps_the_bound_and_its_answer(name):
    network, names = network_of(name), set(build(name, **SMALL[name]).state_dict())
    assert max(magnifications(network)) > 1.5 * BOUND  # so that the bound has something to do
    bound_all(network, BOUND)
    network.eval()
    answer, plain = network(smooth(DOMAIN), DOMAIN), plain_weights(network)
    fold(network)
    assert set(network.state_dict()) == names
    assert max(magnifications(network)) <= BOUND * (1 + 1e-14)
    torch.testing.assert_close(network(smooth(DOMAIN), DOMAIN), answer, rtol=1e-12, atol=1e-13)
    assert all(torch.equal(plain[name], weight) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("name", ["differential", "fno"])
def test_within_the_bound_it_is_the_network_to_the_bit(name):
    network = network_of(name)
    expected, before = network(smooth(DOMAIN), DOMAIN), {k: w.clone() for k, w in network.state_dict().items()}
    bound_all(network, 1e3)
    assert torch.equal(network.train()(smooth(DOMAIN), DOMAIN), expected)
    assert all(torch.equal(before[name], weight) for name, weight in fold(network).state_dict().items())


@pytest.mark.parametrize("name", ["differential", "fno"])
def test_power_iteration_follows_weights_that_move(name):
    """While it is trained the bound holds to the error of the iteration, as weights change a little at every step."""
    network = network_of(name)
    bound_all(network, BOUND)
    network.train()
    generator = torch.Generator().manual_seed(402_955)
    for _ in range(20):
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.002 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
        follow(network)
    training = network(smooth(DOMAIN), DOMAIN)
    torch.testing.assert_close(network.eval()(smooth(DOMAIN), DOMAIN), training, rtol=0.02, atol=0.02)


def test_a_map_that_begins_at_zero_is_followed_once_it_has_a_direction():
    layer = nn.Linear(6, 5, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    network = nn.Sequential(layer)
    bound_all(network, BOUND)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.eye(5, 6))
    for _ in range(5):
        follow(network)
    assert torch.linalg.matrix_norm(network.train()[0].weight.detach(), 2).item() == pytest.approx(BOUND, rel=1e-12)


def test_a_convolution_is_bounded_with_all_its_points():
    """No field is magnified by more than that: the norm of the convolution as a matrix, on a small period."""
    torch.manual_seed(55_310)
    layer = nn.Conv3d(2, 3, 3, padding=1, padding_mode="circular", bias=False, dtype=torch.float64)
    network = nn.Sequential(layer)
    bound_all(network, BOUND)
    fold(network)
    unit = torch.eye(2 * 4**3, dtype=torch.float64).reshape(-1, 2, 4, 4, 4)
    assert 0.3 * BOUND < float(torch.linalg.matrix_norm(network(unit).detach().flatten(1), 2)) <= BOUND


@pytest.mark.slow
def test_a_training_under_a_bound_resumes_to_the_bit(tmp_path, file):  # noqa: F811
    """Killed in its second epoch; the artefact has plain weights within the bound, and says their error."""
    changes = {"optimiser": {"spectral_norm": BOUND, "average": 0.9}, "loop": {"checkpoint_seconds": 0.0}}
    recipe = small_recipe(file, **changes)
    whole = train(recipe, tmp_path / "whole")
    killed = start(recipe, tmp_path / "resumed", kill_at=4)
    assert killed.wait(timeout=120) == -signal.SIGKILL, killed.stdout.read()
    train(recipe, tmp_path / "resumed")
    assert largest_difference(weights(tmp_path / "resumed"), weights(tmp_path / "whole")) == 0.0
    network = artefact.load(tmp_path / "whole").network
    assert max(magnifications(network)) == pytest.approx(BOUND, rel=1e-5)
    best = min(row["validation_loss"] for row in whole.progress.history)
    assert whole.card.metrics["validation_loss"] == pytest.approx(best, rel=1e-5)


def test_a_network_without_linear_maps_is_refused():
    with pytest.raises(CaseError, match=r"\[optimiser\] spectral_norm: this network has no linear maps"):
        bound_all(nn.Tanh(), 1.0)
