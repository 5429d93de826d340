"""The outflow at the upper end of x: what reaches it is convected out, and what enters leaves, to round-off.

The normal velocity at the end face obeys ``du/dt + U du/dx = 0`` with U the mean velocity of the outflow (Orlanski
1976, J. Comput. Phys. 21, 251, with a constant speed). After each stage it is shifted by a constant, so that the
fluxes in and out are equal and the pressure equation with zero normal gradient everywhere has a solution.
"""

from __future__ import annotations

from torch import Tensor

from solver.discretisation.calculus import Operators
from solver.discretisation.staggered import below, edge, join
from solver.errors import CaseError


class Outlet:
    """The end faces of x, shared among the ranks as all planes are.

    Parameters
    ----------
    operators : of a grid that is open in x.
    fluid : 1 in fluid cells, (nx, local ny, nz).

    Raises
    ------
    CaseError : nothing enters, or no fluid cell is left at the end.
    """

    def __init__(self, operators: Operators, fluid: Tensor) -> None:
        assert operators.inflow is not None
        grid = operators.grid
        u, v, w = operators.inflow
        entrance, self.open = edge(fluid, 0, 0)[None], edge(fluid, 0, -1)[None]
        operators.inflow = (u * entrance, v * entrance, w * entrance)
        areas = [operators.along(operators.local(grid.axes[d].width, d), d) for d in (1, 2)]
        self.area = self.open * areas[0] * areas[1]
        self.sum = operators.decomposition.sum
        self.width = float(grid.axes[0].width[-1])
        self.entering = self.sum((operators.inflow[0] * areas[0] * areas[1]).sum())
        self.open_area = self.sum(self.area.sum())
        if not (float(self.entering) > 0 and float(self.open_area) > 0):
            raise CaseError("[solids] block the inflow or the outflow: leave fluid at both ends of x")
        self.speed = self.entering / self.open_area

    def convect(self, u: Tensor, rate: Tensor) -> None:
        """Write the rate of the outflow velocity into the tendency of u."""
        slope = (edge(u, 0, -1) - edge(u, 0, -2)) / self.width
        edge(rate, 0, -1).copy_(-self.speed * slope * self.open)

    def balance(self, u: Tensor) -> Tensor:
        """U with as much leaving as enters (collective)."""
        last = edge(u, 0, -1)
        surplus = (self.entering - self.sum((last * self.area).sum())) / self.open_area
        return join([below(u, 0), last + surplus * self.open], 0)
