"""Every shipped closure is what its recipe makes: same network, same times, same data in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from closures.operators import validated
from closures.operators.artefact import CARD, read_card
from closures.operators.shipped import shipped
from closures.training.experiment import load_experiment
from tests.data.stored import load_flow_recipe

RECIPES = {
    "channel180_coarse_lesnets": "lesnets/channel180_coarse_noise",
    "differential_corrector": "correctors/differential_channel180_coarse",
    "differential_surrogate": "surrogates/differential_channel180_coarse",
    "ifactformer_m": "lesnets/ifactformer_m_more_noise",
    "ifactformer_m_corrector": "correctors/ifactformer_m_channel180_coarse_turns",
    "hit_decay_hybrid": "lesnets/hit_decay_hybrid",
    "hit_decay_labels": "lesnets/hit_decay_labels",
    "hit_decay_learned": "lesnets/hit_decay_learned",
    "hit_decay_lesnets": "lesnets/hit_decay_label_free",
    "mixing_layer_lesnets": "lesnets/mixing_layer_noise",
    "split_closure": "subgrid/split_wide",
    "tbnn": "subgrid/tbnn",
}


def test_each_has_one():
    assert set(RECIPES) == set(shipped())


def begins(recipe):
    """When the flows of the data begin: those drawn from the LES, or those of the recipe that made the file."""
    if recipe.drawn is not None:
        return recipe.drawn.fields.spin_up
    return load_flow_recipe(Path(Path(recipe.data.file).stem)).sampling.spin_up


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_card_and_recipe_agree(name, recipe):
    card = read_card(shipped()[name] / CARD)
    made_by = load_experiment(Path(recipe))
    assert card.architecture == made_by.operator.name
    recipes = validated(card.architecture, made_by.operator.arguments)  # what a card leaves out is the default
    assert validated(card.architecture, card.arguments) == recipes
    assert card.trained_on == made_by.card.trained_on
    if card.role != "subgrid_model" and made_by.correct:
        assert card.solver_step == pytest.approx((card.interval - card.step) / made_by.correct.steps)
    if card.role == "surrogate":
        turns = (
            (made_by.correct.ahead, made_by.drawn.interval) if made_by.correct else (made_by.equations.interval, 0.0)
        )
        assert (card.step, card.interval, card.start) == (*turns, begins(made_by))
