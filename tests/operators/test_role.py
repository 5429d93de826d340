"""One table of roles: recipes, cards and cases agree on what a network is and when it acts."""

from __future__ import annotations

import pytest

from closures.coupling.tables import TABLES
from closures.operators.artefact import CARD, read_card
from closures.operators.role import ROLES, Rhythm, role_of
from closures.operators.shipped import shipped


def test_cases_take_every_role_that_is_a_closure():
    assert list(TABLES) == [name for name, role in ROLES.items() if role.is_closure]


@pytest.mark.parametrize("ahead", [0.0, 0.05, 0.2])
def test_the_parts_of_an_interval_make_it_up(ahead):
    rhythm = Rhythm.in_turns(0.2, 7, ahead)
    assert rhythm.step + rhythm.between == pytest.approx(rhythm.interval)
    assert 7 * rhythm.solver_step == pytest.approx(rhythm.between)
    assert role_of("velocity", rhythm.step) == ("surrogate" if ahead else "corrector")


def test_shipped_networks_have_the_roles_in_their_names():
    for name, folder in shipped().items():
        card = read_card(folder / CARD)
        if name.endswith(("corrector", "surrogate")):
            assert name.endswith(card.role)
        assert ROLES[card.role].inputs == card.inputs
        assert card.rhythm == Rhythm(card.step, card.interval, card.solver_step)
