"""Run under mpirun: how far answers are from the equations; the root writes it, with what the guard made of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from closures.coupling.guard import COUNTS
from solver.observers.series import momentum_imbalance
from tests.coupling.flows import in_turns
from tests.grids import random_velocity
from tests.losses.flows import flow, plus

torch.set_num_threads(1)
torch.set_grad_enabled(False)
SPAN, found = 0.02, {}
for kind, driven, closure in (
    ("box", "held_shells", "dynamic_smagorinsky"),
    ("channel", "mass_flux", "dynamic_smagorinsky"),
    ("duct", "pressure_gradient", "smagorinsky"),
):
    plain = flow(kind, SPAN, driven=driven, closure=closure)
    other = random_velocity(plain.operators, 31_337)
    answers = iter([plus(plain.velocity.coefficients, size, other) for size in (0.0, 0.02, 0.5)])
    acted, values, mean = in_turns(plain, SPAN, lambda u, answers=answers: next(answers), residual=5.0), [], []
    for _ in range(3):
        acted.step()
        values.append(acted.residual_trust)
        mean += [momentum_imbalance(acted)] if kind == "channel" else []
    found[kind] = np.array([*values, *acted.closure_state[COUNTS].tolist()])
    found[f"{kind}/momentum"] = np.array(mean)
if plain.operators.decomposition.is_root:
    np.savez(Path(sys.argv[1]), **found)
