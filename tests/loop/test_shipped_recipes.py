"""Every shipped closure is what its recipe makes: same network, same times, same data in words."""

from __future__ import annotations

import pytest

from closures import registry
from closures.artefact import CARD, read_card
from closures.operators import validated
from closures.training.ensemble_recipe import EnsembleRecipe
from closures.training.recipe import SHIPPED, Recipe, read

RECIPES = {
    "channel180_coarse_lesnets": "lesnets/channel180_coarse_noise",
    "ifactformer_m": "lesnets/ifactformer_m_more_noise",
    "ifactformer_m_corrector": "correctors/ifactformer_m_channel180_coarse_turns",
    "hit_decay_hybrid": "lesnets/hit_decay_hybrid",
    "hit_decay_labels": "lesnets/hit_decay_labels",
    "hit_decay_learned": "lesnets/hit_decay_learned",
    "hit_decay_lesnets": "lesnets/hit_decay_label_free",
    "mixing_layer_lesnets": "lesnets/mixing_layer_noise",
    "tbnn": "subgrid/tbnn",
}


def test_each_has_one():
    assert set(RECIPES) == set(registry.shipped())


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_card_and_recipe_agree(name, recipe):
    card = read_card(registry.shipped()[name] / CARD)
    made_by = read(EnsembleRecipe if card.role == "subgrid_model" else Recipe, SHIPPED / f"{recipe}.toml")
    assert card.architecture == made_by.operator.name
    recipes = validated(card.architecture, made_by.operator.arguments)  # what a card leaves out is the default
    assert validated(card.architecture, card.arguments) == recipes
    assert card.trained_on == made_by.card.trained_on
    if card.role == "surrogate":
        assert (card.step, card.start) == (made_by.equations.interval, made_by.spin_up)
