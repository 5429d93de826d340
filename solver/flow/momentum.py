"""The right-hand side without the pressure: which fluxes are formed, slab by slab, and what becomes of them.

What each flux is stands in `equation`. This is the pass that saves work: a flux that is a part of another is not
formed, one diagonal flux is subtracted from all three and left to the pressure, which saves a transform, and slabs of y
planes stay in cache from the velocity to the transform.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, VelocityGradient
from solver.discretisation.staggered import DIM, above, edge
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import STRESS_INDEX, EddyViscosity, SubgridForce, SubgridStress, SubgridTerm
from solver.flow.equation import Equation, Pair, Subgrid
from solver.flow.wall_stress import Stress, WallStress
from solver.solids.outlet import Outlet

FIELDS_AT_ONCE = 9  # three velocities, six fluxes


def padded_term(operators: Operators, term: SubgridTerm | None) -> Subgrid:
    """nu_t or six stresses with ghosts, None for other terms.

    They vanish on no-slip walls; a stress along a free-slip end vanishes there too, being odd across it.
    """
    if isinstance(term, EddyViscosity):
        return operators.pad_scalar(term.nu_t, at_wall=-1.0)
    if isinstance(term, SubgridStress):
        shear = {index: pair if pair[0] != pair[1] else () for pair, index in STRESS_INDEX.items()}
        return [operators.pad_scalar(tau, at_wall=-1.0, odd=shear[i]) for i, tau in enumerate(term.tau)]
    return None


class Momentum:
    """``du/dt`` on one grid, from the distinct fluxes.

    Parameters
    ----------
    strain : gradients and operators of the grid.
    nu : kinematic viscosity; 0 where diffusion is integrated exactly, or the flow is inviscid.
    inner_slope : see `Equation`; the components that solids block collect what flows into them.
    outlet : the end of x, if fluid leaves there.
    wall_stress : gives the momentum flux through walls whose friction is modelled; None where there are none.

    Attributes
    ----------
    equation : the terms.
    trace : the axis whose diagonal flux is left to the pressure; None where each stays.
    keys : the pairs (i, j) of the fluxes that are formed.
    parts : the other pairs, each with that of the flux it is a part of.
    """

    def __init__(
        self,
        strain: VelocityGradient,
        nu: float,
        inner_slope: dict[Pair, Tensor] | None = None,
        outlet: Outlet | None = None,
        wall_stress: WallStress | None = None,
    ) -> None:
        self.wall_stress = wall_stress
        self.equation, self.strain, self.operators = Equation(strain, nu, inner_slope), strain, strain.operators
        self.nu, self.outlet, self.volume_axes = nu, outlet, self.operators.volume_axes
        self.trace = 2 if 2 not in self.volume_axes and self.operators.grid.x.is_fourier else None
        pairs = [(i, j) for i in range(3) for j in range(3)]
        self.keys = [(i, j) for i, j in pairs if i == j != self.trace]
        wholes = {(i, j): self._whole(i, j) for i, j in pairs if i != j}
        self.keys += [pair for pair, whole in wholes.items() if whole is None]
        self.parts = {pair: whole for pair, whole in wholes.items() if whole is not None}
        faces = 1 if 1 in self.volume_axes else 0
        self.planes = [self.operators.local_shape[1] + (faces if j == 1 else 0) for _, j in self.keys]
        self.interior = tuple(self.operators.free_faces(axis) for axis in range(3))

    def tendency(self, velocity: Velocity, term: SubgridTerm | None, stress: Stress | None = None) -> Components:
        """``du/dt`` without pressure, as coefficients; zero on walls. `stress` is that on modelled walls.

        Raises
        ------
        CaseError : there are such walls and no stress is given.
        """
        if stress is None and self.operators.grid.has_modelled_walls:
            raise CaseError("[wall_model] the grid has modelled walls: give the stress on them")
        fluxes = self.operators.slabs_to_coefficients(self.fluxes(velocity, term, stress), self.planes)
        u, v, w = self._rates(fluxes, velocity.padded_coefficients)
        if isinstance(term, SubgridForce):
            u, v, w = (rate + force for rate, force in zip((u, v, w), self._force(term.force), strict=True))
        if self.outlet is not None:
            self.outlet.convect(velocity.coefficients[0], u)
        return u, v, w

    def fluxes(
        self, velocity: Velocity, term: SubgridTerm | None, stress: Stress | None = None
    ) -> Iterator[list[Tensor]]:
        """The fluxes `keys` in physical space, resolved and subgrid: a slab of y planes at a time.

        Those along a finite-volume y live on one face more than there are planes: the first slab has the lower face of
        the rank.
        """
        subgrid, ny = padded_term(self.operators, term), self.operators.local_shape[1]
        walls = list(self.wall_stress.fluxes(velocity, stress)) if self.wall_stress and stress else []
        spectral = velocity.spectral_derivatives if isinstance(subgrid, Tensor) else {}
        for first, size in self.operators.slabs(FIELDS_AT_ONCE):

            def cut(f: Tensor, first: int = first, size: int = size) -> Tensor:
                return f.narrow(DIM[1], first, size + f.shape[DIM[1]] - ny)

            u, v, w = map(cut, velocity.staggered)
            part = [cut(tau) for tau in subgrid] if isinstance(subgrid, list) else subgrid
            if isinstance(part, Tensor):
                part = cut(part)
            derivatives = {key: cut(f) for key, f in spectral.items()}
            strain = self.strain if size == ny else self.strain.planes(first, size)
            fluxes = self._distinct((u, v, w), derivatives, part, strain)
            for key, end, plane in walls:
                self._add_at_wall(fluxes[self.keys.index(key)], key[1], end, plane, first, size)
            yield [above(f, 1) if first and f.shape[DIM[1]] > size else f for f in fluxes]

    def _add_at_wall(self, flux: Tensor, axis: int, end: int, plane: Tensor, first: int, size: int) -> None:
        """Add to the flux through the wall at one end of an axis, in the slab of `size` y planes from `first` on."""
        ny = self.operators.local_shape[1]
        if axis != 1:
            plane = plane.narrow(DIM[1], first, size)
        elif (first + size < ny) if end else first > 0:
            return
        edge(flux, axis, -end).add_(plane)

    @fused
    def _distinct(
        self, u: Components, spectral: Derivatives, subgrid: Subgrid, strain: VelocityGradient
    ) -> list[Tensor]:
        found = []
        for i, j in self.keys:
            flux = self.equation.flux(u, spectral, subgrid, i, j, strain)
            if i == j and self.trace is not None:
                flux = flux - self.equation.flux(u, spectral, subgrid, self.trace, self.trace, strain, along=i)
            found.append(flux)
        return found

    @fused
    def _rates(self, fluxes: list[Tensor], velocity: Components) -> Components:
        formed = dict(zip(self.keys, fluxes, strict=True))
        every = {pair: formed[pair] for pair in self.keys}
        for (i, j), whole in self.parts.items():
            every[i, j] = above(formed[whole], i) if i in self.volume_axes else formed[whole]
        u, v, w = [self._inside(self.equation.rate(f, every, i), i) for i, f in enumerate(velocity)]
        return u, v, w

    def _whole(self, i: int, j: int) -> Pair | None:
        """The flux of which F_ij is a part, None if it must be formed itself."""
        staggered = [axis for axis in (i, j) if axis in self.volume_axes]
        if not staggered:
            return (j, i) if i > j else None
        uniform = self.operators.grid.axes[staggered[0]].uniform
        return (j, i) if staggered == [i] and uniform else None

    def _inside(self, rate: Tensor, i: int) -> Tensor:
        """Zero on walls."""
        mask = self.interior[i]
        return rate if mask is None else rate * mask

    def _force(self, force: Components) -> list[Tensor]:
        """Coefficients of an acceleration given at centres, where the components live, zero on walls."""
        op = self.operators
        at_faces = [op.to_faces(op.pad_scalar(f), i) for i, f in enumerate(force)]
        return [self._inside(op.to_coefficients(f), i) for i, f in enumerate(at_faces)]
