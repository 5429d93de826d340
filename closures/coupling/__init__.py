"""How a trained network acts in the time loop: as a subgrid model or corrector, in place of steps, or at walls.

Everything here is a closure (`solver.flow.closure`) or a wall model (`solver.flow.wall_stress`): features, device,
precision and the guard are in this package, the network itself is a plain module of `closures.operators`.
"""

from typing import Any

from closures.coupling.corrector import StateCorrector
from closures.coupling.guard import Guard, GuardTable, NetworkRefused
from closures.coupling.guarded_model import GuardedModel
from closures.coupling.guarded_update import GuardedUpdate
from closures.coupling.subgrid_model import SubgridModel
from closures.coupling.surrogate import StateSurrogate
from closures.coupling.update import Update

__all__ = [
    "Guard",
    "GuardTable",
    "GuardedModel",
    "GuardedUpdate",
    "NetworkRefused",
    "StateCorrector",
    "StateSurrogate",
    "SubgridModel",
    "Update",
]


def __getattr__(name: str) -> Any:
    if name == "WholeField":
        raise ImportError("closures.coupling.WholeField is GuardedUpdate now (Update without its guard)")
    raise AttributeError(f"module 'closures.coupling' has no attribute '{name}'")
