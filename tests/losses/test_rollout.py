"""What rollouts are judged by: profiles of known fields, and operators that do nothing or too much."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from closures.data.windows import TrajectoryFile
from closures.losses.relative_l2 import fluctuation_error
from closures.operators.predictor import Predictor, Scaling
from closures.training.head import Head
from closures.training.own_les import teacher
from closures.training.rollout import PROFILES, Profiles, judge, of_data
from tests.losses.recipes import recipe
from tests.losses.test_taught import own_fields, write_labels
from tests.operators.fields import channel_domain

UNITS = Scaling(target="increment", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), change=(1.0, 1.0, 1.0))


class Growing(nn.Module):
    """The change that multiplies a field by ``1 + rate``."""

    def __init__(self, rate):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(rate), requires_grad=False)

    def forward(self, u, domain):
        return self.rate * u


def waves(domain, size, phase=0.0):
    """U of a parabola; waves of deviation ``size y (2 - y)`` in u and v, half correlated, none in w."""
    x, y, _ = torch.meshgrid(*(line.points for line in domain.lines), indexing="ij")
    wall = y * (2 - y)
    u = wall + size * wall * 2**0.5 * torch.cos(x + phase)
    v = size * wall * (1 - y).sign() * 2**0.5 * torch.cos(x + phase + np.pi / 3)
    return torch.stack([u, v, 0 * u])


def test_profiles_are_those_of_the_formula():
    domain = channel_domain(8, 20, 4)
    profiles = Profiles(domain)
    for phase in (0.0, 0.4, 1.1):
        profiles.add(waves(domain, 0.3, phase))
    found, y = profiles(), domain.y.points
    wall = y * (2 - y)
    torch.testing.assert_close(found["U"], wall)
    for name in ("u'", "v'"):
        torch.testing.assert_close(found[name], 0.3 * wall)
    half = y < 1
    torch.testing.assert_close(found["-uv"][half].abs(), (0.5 * (0.3 * wall) ** 2)[half])


def test_errors_are_relative_to_the_data():
    domain = channel_domain(8, 20, 4)
    own, truth = Profiles(domain), Profiles(domain)
    own.add(waves(domain, 0.33) + torch.tensor([0.0, 0.0, 1.0])[:, None, None, None] * waves(domain, 0.1)[:1])
    truth.add(waves(domain, 0.30) + torch.tensor([0.0, 0.0, 1.0])[:, None, None, None] * waves(domain, 0.1)[:1])
    found = own.errors(truth)
    assert list(found) == list(PROFILES)
    assert found == pytest.approx({"U": 0.0, "u'": 10.0, "v'": 10.0, "w'": 0.0, "-uv": 21.0}, abs=1e-9)


def test_a_frozen_flow_stays_and_scores_as_frozen(tmp_path):
    source = TrajectoryFile(write_labels(tmp_path / "own.h5", own_fields(tmp_path, "channel", frames=12)))
    head = Head(Predictor(Growing(0.0), UNITS), teacher(recipe(tmp_path, "channel")))
    found = judge(head, source, 1, 8, 2)
    frames = torch.from_numpy(np.moveaxis(source.read(1, slice(None)), -1, 1))
    frozen = float(fluctuation_error(frames[:1], frames[1:2], source.domain))
    assert found["stays"] == 8
    assert found["errors"]["one step"] == pytest.approx(100 * frozen, rel=1e-3)
    own, truth = Profiles(source.domain), of_data(source)
    own.add(frames[0])
    assert found["errors"]["u'"] == pytest.approx(own.errors(truth)["u'"], rel=1e-3)


def test_a_flow_that_grows_is_given_up(tmp_path):
    """Energy of fluctuations beyond a factor of four: about five steps of 20 %, before any statistics."""
    source = TrajectoryFile(write_labels(tmp_path / "own.h5", own_fields(tmp_path, "channel", frames=12)))
    head = Head(Predictor(Growing(0.2), UNITS), teacher(recipe(tmp_path, "channel")))
    found = judge(head, source, 0, 50, 30)
    assert 1 < found["stays"] < 8
    assert found["errors"]["U"] is None
    assert found["errors"]["five steps"] > 50
