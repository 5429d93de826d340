"""How a trained network acts in the time loop: as a subgrid model, as a corrector, or in place of the solver's steps.

Everything here is a closure (`solver.flow.closure`): features, device, precision and the guard are in this package, the
network itself is a plain module of `closures.operators`.
"""

from closures.coupling.corrector import StateCorrector
from closures.coupling.guard import Guard, GuardTable, NetworkRefused
from closures.coupling.guarded_model import GuardedModel
from closures.coupling.subgrid_model import SubgridModel
from closures.coupling.surrogate import StateSurrogate
from closures.coupling.whole_field import WholeField

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
