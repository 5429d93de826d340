"""Teaching a network that draws: of noise that the data have it learns how large that is; and what is refused."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from closures.coupling.frames import Frames
from closures.coupling.resample import network_grid
from closures.operators import Domain, artefact
from closures.training.calibration import COVERED, FILE, calibrated, interval
from closures.training.corrections import leg_of
from closures.training.experiment import train
from closures.training.tables import LossTable
from solver.errors import CaseError
from tests.coupling.flows import channel
from tests.training.test_corrections import STEP, recipe, table
from tests.training.trajectories import les_file

SEED = 577_215
DRAWN = {"kind": "projected_l2", "members": 2, "waves": 0.5}
OPERATOR = {"name": "differential", "width": 6, "layers": 2, "lengths": (0.4, 0.1, 0.3), "gate": "tanh"}
NOISY = OPERATOR | {"noise": 2}
LOOP = {"epochs": 12, "batch": 3, "device": "cpu"}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """The case and the file, in which each frame has noise of its own, free of divergence, half of its fluctuation."""
    case, path = les_file(tmp_path_factory.mktemp("drawn"), range(1, 9), frames=7, step=STEP, substeps=2)
    frames = Frames(leg_of(table(case, 0.3), STEP))
    random = torch.Generator().manual_seed(SEED)
    with h5py.File(path, "r+") as file, torch.no_grad():
        u = torch.from_numpy(file["t1_fields/velocity"][()]).movedim(-1, 2).double()
        size = 0.5 * (u - u.mean(dim=(3, 5), keepdim=True)).pow(2).mean(dim=(0, 1, 3, 5), keepdim=True).sqrt()[0, 0]
        for one in u.flatten(0, 1):
            noise = size * torch.randn(one.shape, generator=random, dtype=one.dtype)
            one.copy_(frames.centred(frames.start(one + noise)))
        file["t1_fields/velocity"][...] = u.movedim(2, -1).float().numpy()
    return case, path


def drawn(noisy, **changes):
    case, path = noisy
    made = {"operator": NOISY, "loss": DRAWN, "loop": LOOP, "optimiser": {"rate": 2e-2, "warm_up": 0.0}}
    return recipe(noisy, **({"data": {"file": str(path)}, "correct": table(case, 0.3).model_dump()} | made | changes))


def test_it_learns_how_far_off_it_is(noisy, tmp_path):
    """Of Gaussian errors that an ensemble knows, its score is 0.71 times the mean absolute error of its mean."""
    card = train(drawn(noisy), tmp_path / "out").card
    errors = card.metrics
    assert errors["spread_over_error"] == pytest.approx(1.0, abs=0.15)
    assert errors["covered_95"] == pytest.approx(COVERED, abs=0.05)
    assert errors["crps"] / errors["mean_absolute_error"] == pytest.approx(2**-0.5, abs=0.05)
    with (tmp_path / "out" / FILE).open() as file:
        rows = list(csv.DictReader(file))
    ny = len(card.grid["y"]["points"])
    assert [row["number"] for row in rows if row["along"] == "planes"] == [str(j) for _ in range(3) for j in range(ny)]
    again = train(drawn(noisy), tmp_path / "out").card
    assert again.metrics == errors  # nothing is drawn anew


def test_a_network_that_draws_may_begin_with_one_that_does_not(noisy, tmp_path):
    short = {"epochs": 1, "batch": 3, "device": "cpu"}
    plain = {"operator": OPERATOR, "loss": {"kind": "projected_l2", "norm": "plane"}}
    first = train(drawn(noisy, **plain, loop=short), tmp_path / "first").card
    begun = drawn(noisy, loop=short | {"begin": str(tmp_path / "first")}, optimiser={"rate": 1e-12, "warm_up": 0.0})
    assert train(begun, tmp_path / "second").card.scaling == first.scaling
    one, two = (artefact.load(tmp_path / name).network.state_dict() for name in ("first", "second"))
    assert two.keys() - one.keys() == {"amplitudes"}
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-8)


def test_a_gaussian_ensemble_is_calibrated_and_a_narrow_one_is_not():
    domain, random = Domain.of(network_grid(channel(16, 6, 16))), torch.Generator().manual_seed(SEED)

    def pairs(spread):
        for _ in range(4):
            mean = 3.0 * torch.randn((3, *domain.shape), generator=random)
            yield mean + spread * torch.randn((50, *mean.shape), generator=random), mean + torch.randn_like(mean)

    right, narrow = (calibrated(pairs(spread), domain) for spread in (1.0, 0.5))
    assert right.ratio == pytest.approx(np.ones((3, 6)), abs=0.15)
    assert right.covered.mean() == pytest.approx(COVERED, abs=0.01)
    assert right.crps / right.error == pytest.approx(2**-0.5, abs=0.02)
    assert np.concatenate(right.energies, axis=1) == pytest.approx(np.ones((3, 22)), abs=0.1)
    assert narrow.ratio == pytest.approx(np.full((3, 6), 0.5), abs=0.1)
    assert narrow.covered.mean() < 0.75
    assert narrow.summary()["energy_error"] > 0.05


@pytest.mark.parametrize(("m", "share"), [(50, 0.95), (50, 0.5), (19, 0.9), (5, 0.95)])
def test_an_interval_holds_one_more_member_as_often_as_it_says(m, share):
    """Whatever the distribution; of few members the widest there is."""
    random = torch.Generator().manual_seed(SEED)
    members = torch.empty(m + 1, 40_000).exponential_(generator=random)
    lower, upper = interval(members[1:], share)
    held = float(((lower <= members[0]) & (members[0] <= upper)).double().mean())
    assert held == pytest.approx(min(share, (m - 1) / (m + 1)), abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": 1}, "members = 1: a spread is that of two or more: set 2, or leave it out"),
        ({"alpha": 0.95}, r"alpha: does nothing with one answer \(members\): remove it"),
        ({"waves": 1.0}, r"waves: does nothing with one answer \(members\): remove it"),
        ({"members": 2, "energy": 0.3}, "energy: does nothing with members = 2: remove it"),
        ({"members": 2, "norm": "plane"}, "norm: does nothing with members = 2: remove it"),
    ],
)
def test_mistakes_in_the_loss_are_named(changes, message):
    with pytest.raises(ValidationError, match=message):
        LossTable.model_validate({"kind": "projected_l2"} | changes)


def test_an_error_of_pairs_has_no_members():
    with pytest.raises(ValidationError, match="members = 2: does nothing with kind = 'relative_l2': use"):
        LossTable(members=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operator": OPERATOR}, r"\[loss\] members = 2: 'differential' draws nothing: set \[operator\] noise = 4"),
        ({"loss": {"kind": "projected_l2"}}, r"\[operator\] noise: learns nothing from one answer: set \[loss\] mem"),
    ],
)
def test_noise_goes_with_members(noisy, tmp_path, changes, message):
    with pytest.raises(CaseError, match=message):
        train(drawn(noisy, **changes), tmp_path)
