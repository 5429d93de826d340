"""Which flows a network knows: what is looked at, how far is far, and what a run does in a foreign flow."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from closures.coupling.familiarity import HEIGHTS, Familiarity, features, fitted
from closures.coupling.guard import COUNTS
from closures.operators import Domain
from closures.operators.artefact import CARD, FAMILIAR, ArtefactError, digest, read_card
from closures.operators.shipped import shipped
from closures.training.experiment import load_experiment, train
from solver.errors import CaseError
from tests.coupling.flows import box, channel, closure, distance, flow, write

SEED = 730_141


def turbulence(domain, seed, u_rms=0.3, stretch=1.0):
    """Waves between walls with random phases: as many as a plane needs to have steady statistics."""
    generator = torch.Generator().manual_seed(seed)
    x, y, z = (line.points for line in domain.lines)
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    shape = torch.sin(math.pi * y / 2)
    fields = []
    for rms in (u_rms, 0.1, 0.15):
        f = torch.zeros(domain.shape, dtype=torch.float64)
        for k in range(1, 4):
            for m in range(1, 4):
                a, b = 2 * math.pi * torch.rand(2, generator=generator, dtype=torch.float64)
                wave = torch.cos(2 * math.pi * k * x / 6 + a) * torch.cos(2 * math.pi * m * z / 3 + b)
                f = f + wave * torch.cos(stretch * k * y + a) / k
        fields.append(rms * shape * f)
    fields[0] = fields[0] + 1.5 * y * (2 - y)
    return torch.stack(fields)


@pytest.fixture(scope="module")
def domain():
    return Domain.of(channel(12, 24, 12))


@pytest.fixture(scope="module")
def known(domain):
    runs = [
        torch.stack([features(turbulence(domain, SEED + 100 * r + i), domain) for i in range(60)]) for r in range(3)
    ]
    return fitted({"own": runs})


def test_features_do_not_depend_on_where_a_flow_is(domain):
    """Shifted along x and z, seen in a mirror across the channel or along z: the same flow."""
    u = turbulence(domain, SEED)
    found = features(u, domain)
    assert found.shape == (17 * len(HEIGHTS),)
    sign = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)[:, None, None, None]
    for same in (u.roll((3, 5), (1, 3)), sign * u.flip(2), sign.roll(1) * u.flip(3)):
        np.testing.assert_allclose(features(same, domain), found, atol=1e-9)


def test_features_are_what_they_are_called(domain):
    """Of one wave: the mean, the rms, the correlation, all energy in the lower modes, the derivatives along y."""
    x, y, z = (line.points.reshape([-1 if i == d else 1 for i in range(3)]) for d, line in enumerate(domain.lines))
    wave = torch.cos(2 * math.pi * x / 6) * torch.exp(0.5 * y) + 0 * z
    found = features(torch.stack([1.0 + 0.2 * wave, -0.1 * wave, 0.3 * wave]), domain).reshape(17, len(HEIGHTS))
    middle = len(HEIGHTS) - 1
    rms = math.cosh(0.5 * 0.05) * math.e**0.5 / math.sqrt(2)  # 0.95 from both walls, averaged
    assert found[0] == pytest.approx(1.0)
    assert found[1:4, middle].exp() == pytest.approx([0.2 * rms, 0.1 * rms, 0.3 * rms], rel=2e-3)
    assert found[4] == pytest.approx(0.0, abs=1e-12)  # -1 seen from below, 1 from above
    assert (found[5:8] < math.log(1e-5)).all()
    assert found[8:11].exp() == pytest.approx(0.5, rel=1e-3)
    assert found[11:14].exp() == pytest.approx(0.25, rel=2e-2)


def test_own_fields_are_near_and_others_far(domain, known):
    """What had no part in the distribution is within 1; larger, finer, laminar or of another shape is not."""
    own = [float(known.distance(turbulence(domain, 9 * SEED + i), domain)) for i in range(200)]
    assert np.mean(np.array(own) > 1.0) < 0.05
    assert 0.2 < np.median(own) < 0.8
    laminar = turbulence(domain, SEED)
    laminar[1:] = 0.0
    laminar[0] = laminar[0].mean((0, 2), keepdim=True)
    foreign = {
        "weaker": turbulence(domain, SEED, u_rms=0.2),
        "finer": turbulence(domain, SEED, stretch=2.0),
        "laminar": laminar,
        "not finite": turbulence(domain, SEED) * math.nan,
    }
    far = {name: float(known.distance(u, domain)) for name, u in foreign.items()}
    assert min(far.values()) > 1.2, far
    assert far["not finite"] == math.inf
    closed = Domain.of(box())
    assert float(known.distance(torch.rand(3, *closed.shape), closed)) == math.inf  # it has no planes


def loaded(folder):
    return Familiarity.load(folder, read_card(folder / CARD).familiar_sha256)


def test_what_is_known_lies_beside_the_weights(tmp_path, known):
    write(tmp_path, "fno", channel(), arguments={"modes": (2, 2, 2)})
    assert loaded(tmp_path) is None
    known.save(tmp_path)
    torch.testing.assert_close(loaded(tmp_path).factors, known.factors, rtol=1e-6, atol=1e-5)
    whole, card = (tmp_path / FAMILIAR).read_bytes(), (tmp_path / CARD).read_text()
    (tmp_path / FAMILIAR).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ArtefactError, match=r"familiar\.safetensors: not the file that card\.json describes"):
        loaded(tmp_path)
    (tmp_path / FAMILIAR).unlink()
    with pytest.raises(ArtefactError, match=r"familiar\.safetensors: cannot be read .*, and card\.json names it"):
        loaded(tmp_path)
    (tmp_path / FAMILIAR).write_bytes(whole)
    (tmp_path / CARD).write_text(
        card.replace(digest(tmp_path / FAMILIAR), "").replace('"familiar_sha256": ""', '"familiar_sha256": null')
    )
    with pytest.raises(ArtefactError, match=r"familiar\.safetensors: card\.json has no checksum of it"):
        loaded(tmp_path)
    write(tmp_path, "fno", channel(), arguments={"modes": (2, 2, 2)})  # trained again: knows nothing yet
    assert loaded(tmp_path) is None


@pytest.mark.parametrize(
    ("means", "factors"),
    [(torch.zeros(1, 3), torch.zeros(1, 3, 2)), (torch.full((1, 2), math.nan), torch.eye(2)[None])],
)
def test_what_is_known_has_a_form(tmp_path, means, factors):
    file = tmp_path / FAMILIAR
    save_file({"means": means, "factors": factors.contiguous()}, file)
    with pytest.raises(ArtefactError, match=r"familiar\.safetensors: not the means and factors"):
        Familiarity.load(tmp_path, digest(file))
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ArtefactError, match=r"familiar\.safetensors: damaged, or another file"):
        Familiarity.load(tmp_path, digest(file))


def test_in_a_foreign_flow_the_solver_goes_on_alone(tmp_path, known, caplog):
    """Every answer is refused, the log says so once, and the run is neither ended nor switched over."""
    grid = channel()
    folder = write(tmp_path, "fno", grid, arguments={"modes": (2, 2, 2)})
    known.save(folder)
    alone = flow(grid, None)
    with caplog.at_level(logging.WARNING, "solver"):
        refused = flow(grid, closure("corrector", folder, grid, base="none", every=1))
        for _ in range(15):
            alone.step()
            refused.step()
    assert refused.closure_state[COUNTS].tolist() == [15, 0, 0]
    assert distance(refused, alone) == 0
    said = [line for line in caplog.messages if "does not know this flow" in line]
    assert len(said) == 1
    acted = flow(grid, closure("corrector", folder, grid, base="none", every=1, guard={"familiar": 1e30}))
    acted.step()
    assert acted.closure_state[COUNTS].tolist() == [0, 0, 0]
    assert distance(acted, alone) > 1e-6


FLOW = (
    "{case='channel180_coarse', overrides=['grid.x.n=8','grid.y.n=10','grid.z.n=8'], seeds=[1,2], "
    "start=0.5, end=1.5, every=0.5}"
)


def test_a_network_learns_what_it_knows(tmp_path):
    """From runs of its own and of the solver alone; the weights stay, and these fields are within its reach."""
    begin = shipped()["differential_corrector"]
    recipe = load_experiment(Path("familiarity/differential_channel180_coarse"), (f"familiarity.flows=[{FLOW}]",))
    recipe = recipe.model_copy(update={"familiarity": recipe.familiarity.model_copy(update={"begin": str(begin)})})
    found = train(recipe, tmp_path / "out")
    assert (found.folder / "weights.safetensors").read_bytes() == (begin / "weights.safetensors").read_bytes()
    known = loaded(found.folder)
    assert known.means.shape == (1, 17 * len(HEIGHTS))
    assert float(known.of(known.means[0])) == 0.0
    wrong = recipe.model_copy(
        update={"familiarity": recipe.familiarity.model_copy(update={"begin": str(shipped()["tbnn"])})}
    )
    with pytest.raises(CaseError, match="a subgrid model sees no whole field"):
        train(wrong, tmp_path / "wrong")
