"""The fast inverse is the inverse of the assembled operator, for every pair of ends and in two and three dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from closures.linear_families.sequences.fast_box import KINDS, FastBox
from closures.linear_families.volumes import Volumes

PAIRS = list(KINDS)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("shift", [0.7, -55.0])
def test_inverse_of_the_assembled_operator(pair, shift):
    volumes = Volumes((7, 10), (1.0, 1.3), (pair, ("value", "flux")))
    box = FastBox(volumes.shape, volumes.spacing, volumes.sides)
    a = volumes.matrix(np.ones(volumes.shape), shift)
    r = np.random.default_rng(99_991).standard_normal(volumes.size)
    assert a @ box.inverse(shift)(r) == pytest.approx(r, abs=1e-10)


def test_three_dimensions_and_weight():
    volumes = Volumes((5, 6, 8), (1.0, 1.0, 1.0), (PAIRS[0], PAIRS[2], PAIRS[3]))
    box = FastBox(volumes.shape, volumes.spacing, volumes.sides)
    rng = np.random.default_rng(1_009)
    weight, r = rng.uniform(0.5, 2, volumes.shape), rng.standard_normal(volumes.size)
    root = np.sqrt(weight).ravel()
    a = volumes.matrix(np.ones(volumes.shape))
    assert root * (a @ (root * box.inverse(weight=weight)(r))) == pytest.approx(r, abs=1e-10)


def test_a_singular_operator_is_bounded():
    volumes = Volumes((8, 8), (1.0, 1.0), (("flux", "flux"),) * 2)
    z = FastBox(volumes.shape, volumes.spacing, volumes.sides).inverse()(np.ones(64))
    assert np.isfinite(z).all()
