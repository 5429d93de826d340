"""How a trained network acts in the time loop: as a subgrid model, as a corrector, or in place of the solver's steps.

Everything here is a closure (`solver.closure`): features, device, precision and the guard are in this package, the
network itself is a plain module of `closures.operators`.
"""

from closures.loop.corrector import StateCorrector
from closures.loop.guard import Guard, GuardTable, NetworkRefused
from closures.loop.guarded_model import GuardedModel
from closures.loop.subgrid_model import SubgridModel
from closures.loop.surrogate import StateSurrogate
from closures.loop.whole_field import WholeField

__all__ = [
    "Guard",
    "GuardTable",
    "GuardedModel",
    "NetworkRefused",
    "StateCorrector",
    "StateSurrogate",
    "SubgridModel",
    "WholeField",
]
