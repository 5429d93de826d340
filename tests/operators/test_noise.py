"""White noise of one density on every grid, a function of its seed; and the network that makes answers of it."""

from __future__ import annotations

import pytest
import torch

from closures.coupling.resample import network_grid
from closures.operators import Domain, build
from closures.operators.noise import draws, seeds_of, white_noise
from closures.operators.slab_line import slab_of
from tests.coupling.flows import box, channel
from tests.operators.fields import randomise

LENGTHS = (0.4, 0.04, 0.26)
SEEDS = tuple(range(704_101, 704_101 + 300))


def domain_of(*points):
    return Domain.of(network_grid(channel(*points)))


@pytest.mark.parametrize("points", [(8, 7, 6), (16, 12, 6)])
def test_waves_have_the_same_energy_on_every_grid(points):
    """Amplitudes of long waves, integrals over the volume, are N(0, density x volume / 2), whatever the cells are."""
    domain = domain_of(*points)
    noise = white_noise(SEEDS, 2, domain, LENGTHS, torch.zeros((), dtype=torch.float64))
    x, y, z = (line.unit for line in domain.lines)
    volume = domain.x.length * domain.y.length * domain.z.length
    shape = torch.cos(2 * torch.pi * x)[:, None, None] * torch.cos(torch.pi * y)[None, :, None] + 0 * z
    amplitudes = (noise * shape * domain.volumes * volume).sum(dim=(2, 3, 4))
    cells = (shape**2 * domain.volumes * volume).sum()  # tends to a quarter of the volume
    expected = LENGTHS[0] * LENGTHS[1] * LENGTHS[2] * float(cells)
    assert float(cells) == pytest.approx(0.25 * volume, rel=0.05)
    assert float(amplitudes.var()) == pytest.approx(expected, rel=4.0 * (2.0 / amplitudes.numel()) ** 0.5)


def test_a_cell_of_the_lengths_has_unit_variance():
    domain = domain_of(8, 7, 6)
    noise = white_noise(SEEDS, 2, domain, LENGTHS, torch.zeros(()))
    cells = domain.volumes.float() * domain.x.length * domain.y.length * domain.z.length
    size = noise.pow(2).mean(dim=(0, 1, 2, 4)) * cells[0, :, 0] / (LENGTHS[0] * LENGTHS[1] * LENGTHS[2])
    assert size.tolist() == pytest.approx([1.0] * 7, rel=0.05)


@pytest.mark.parametrize("make", [channel, box])
@pytest.mark.parametrize("reach", [0, 2])
def test_a_rank_has_its_planes_of_the_whole(make, reach):
    domain = Domain.of(network_grid(make()))
    whole = white_noise(SEEDS[:2], 3, domain, LENGTHS, torch.zeros(()))
    counts = [3, domain.y.n - 3]
    for rank, own in enumerate((range(3), range(3, domain.y.n))):
        part = slab_of(domain, counts, rank, reach, None)
        planes = torch.arange(own.start - reach, own.stop + reach)
        planes = planes % domain.y.n if domain.y.periodic else planes[(planes >= 0) & (planes < domain.y.n)]
        torch.testing.assert_close(white_noise(SEEDS[:2], 3, part, LENGTHS, torch.zeros(())), whole[..., planes, :])


def test_each_turn_has_seeds_of_its_own():
    found = [n for turn in range(20) for n in seeds_of(704_103, turn, 3)]
    assert len(set(found)) == 60
    assert seeds_of(704_103, 7, 2) == seeds_of(704_103, 7, 3)[:2] != seeds_of(704_104, 7, 2)


@pytest.mark.parametrize("no_slip", [False, True])
def test_an_answer_is_a_function_of_the_field_and_its_seed(no_slip):
    """Beside others as alone; without a seed it is that of the network without noise."""
    domain, options = domain_of(8, 7, 6), {"width": 5, "layers": 2, "gate": "tanh", "no_slip": no_slip}
    network = randomise(build("differential", noise=2, **options), SEEDS[0], scale=0.3)
    assert draws(network)
    u = torch.randn(2, 3, *domain.shape, generator=torch.Generator().manual_seed(SEEDS[1]))
    network.requires_grad_(False)
    both, other = network(u, domain, SEEDS[:2]), network(u[1:], domain, SEEDS[1:2])
    torch.testing.assert_close(both[1:], other, rtol=1e-5, atol=1e-6)
    assert float((both - network(u, domain, SEEDS[2:4])).abs().max()) > 1e-2
    plain = build("differential", **options)
    assert not draws(plain)
    plain.load_state_dict({k: w for k, w in network.state_dict().items() if k != "amplitudes"})
    torch.testing.assert_close(network(u, domain), plain(u, domain))


def test_other_weights_begin_as_they_do_without_noise():
    found = []
    for noise in (0, 4):
        torch.manual_seed(SEEDS[0])
        found.append(build("differential", noise=noise).state_dict())
    assert set(found[1]) - set(found[0]) == {"amplitudes"}
    assert all(torch.equal(found[1][name], weight) for name, weight in found[0].items())
