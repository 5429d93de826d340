"""Networks as plain modules: `build` makes one by name.

Operators on the velocity field map ``(batch, channels, nx, ny, nz)`` on a `Domain` to a field on the same points;
stress models map ``(batch, 3, 3, nx, ny, nz)`` velocity gradients to six stresses. None knows the solver's loop.
"""

from closures.operators.domain import Domain, Line
from closures.operators.registry import build, kind, names, package, validated

__all__ = ["Domain", "Line", "build", "kind", "names", "package", "validated"]
