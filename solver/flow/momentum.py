"""The right-hand side in flux form: ``du_i/dt = -d_j (u_i u_j + tau_ij) + nu lap u_i``, without the pressure.

Products are formed in physical space: along finite-volume axes the transported velocity is the arithmetic mean of
its neighbours and the advecting one the volume-weighted mean, so that kinetic energy is conserved on any stretching
(Verstappen & Veldman 2003, J. Comput. Phys. 187, 343); along Fourier axes de-aliasing does the same. One diagonal
flux is subtracted from all three and left to the pressure, which saves a transform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.fusion import fused
from solver.discretisation.gradient import Derivatives, Strain
from solver.discretisation.staggered import DIM, above, below, difference, edge, inner, mean
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.closure import EddyViscosity, SubgridForce, SubgridStress, SubgridTerm
from solver.flow.wall_stress import Stress, WallStress

Key = tuple[int, int]
FIELDS_AT_ONCE = 9  # three velocities, six fluxes
STRESS_INDEX = {(0, 0): 0, (1, 1): 1, (2, 2): 2, (0, 1): 3, (0, 2): 4, (1, 2): 5}


def padded_term(operators: Operators, term: SubgridTerm | None) -> list[Tensor]:
    """``[nu_t]`` or six stresses with ghosts, nothing for other terms.

    They vanish on no-slip walls; a stress along a free-slip end vanishes there too, being odd across it.
    """
    if isinstance(term, EddyViscosity):
        return [operators.pad_scalar(term.nu_t, at_wall=-1.0)]
    if isinstance(term, SubgridStress):
        shear = {index: pair if pair[0] != pair[1] else () for pair, index in STRESS_INDEX.items()}
        return [operators.pad_scalar(tau, at_wall=-1.0, odd=shear[i]) for i, tau in enumerate(term.tau)]
    return []


class Momentum:
    """Fluxes and their divergence on one grid.

    Parameters
    ----------
    strain : gradients and operators of the grid.
    nu : kinematic viscosity; 0 where diffusion is integrated exactly, or the flow is inviscid.
    wall_stress : gives the momentum flux through walls whose friction is modelled; None where there are none.
    """

    def __init__(self, strain: Strain, nu: float, wall_stress: WallStress | None = None) -> None:
        self.strain, self.operators, self.nu = strain, strain.operators, nu
        self.wall_stress = wall_stress
        self.volume_axes = self.operators.volume_axes
        self.trace = 2 if 2 not in self.volume_axes and self.operators.grid.x.is_fourier else None
        self.keys = [(i, i) for i in range(3) if i != self.trace]
        for i in range(3):
            self.keys += [(i, j) for j in range(3) if i != j and self._slice_of(i, j) is None]
        faces = 1 if 1 in self.volume_axes else 0
        self.planes = [self.operators.local_shape[1] + (faces if j == 1 else 0) for _, j in self.keys]
        self.interior = tuple(self.operators.free_faces(axis) for axis in range(3))

    def _slice_of(self, i: int, j: int) -> Key | None:
        """The flux of which F_ij is a part, None if it must be formed itself."""
        staggered = [axis for axis in (i, j) if axis in self.volume_axes]
        if not staggered:
            return (j, i) if i > j else None
        uniform = self.operators.grid.axes[staggered[0]].uniform
        return (j, i) if staggered == [i] and uniform else None

    # -- fluxes in physical space ---------------------------------------------------------------------------------

    def fluxes(
        self, velocity: Velocity, term: SubgridTerm | None, stress: Stress | None = None
    ) -> Iterator[list[Tensor]]:
        """The distinct momentum fluxes, resolved and subgrid, in the order of `keys`: a slab of y planes at a time.

        Slabs stay in cache until they are transformed. Fluxes along a finite-volume y live on one face more than there
        are planes: the first slab has the lower face of the rank.
        """
        padded = padded_term(self.operators, term)
        walls = list(self.wall_stress.fluxes(velocity, stress)) if self.wall_stress and stress else []
        spectral = velocity.spectral_derivatives if isinstance(term, EddyViscosity) else {}
        for first, size in self.operators.slabs(FIELDS_AT_ONCE):

            def cut(f: Tensor, first: int = first, size: int = size) -> Tensor:
                return f.narrow(DIM[1], first, size + f.shape[DIM[1]] - self.operators.local_shape[1])

            u, v, w = (cut(f) for f in velocity.staggered)
            strain, parts = self.strain.planes(first, size), [cut(f) for f in padded]
            if isinstance(term, EddyViscosity):
                derivatives = {key: cut(f) for key, f in spectral.items()}
                fluxes = self._eddy_viscosity_fluxes((u, v, w), derivatives, parts[0], strain)
            elif isinstance(term, SubgridStress):
                fluxes = self._stress_fluxes((u, v, w), parts, strain)
            else:
                fluxes = self._resolved_fluxes((u, v, w), strain)
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
    def _resolved_fluxes(self, velocity: Components, strain: Strain) -> list[Tensor]:
        return self._assemble(
            lambda i, along: self._square(velocity, i, along),
            lambda i, j: self.advected(velocity, i, j, strain),
        )

    @fused
    def _eddy_viscosity_fluxes(
        self, velocity: Components, spectral: Derivatives, nu_t: Tensor, strain: Strain
    ) -> list[Tensor]:
        def shear(i: int, j: int) -> Tensor:
            twice_s_ij = strain.edge(velocity, spectral, i, j) + strain.edge_transposed(velocity, spectral, i, j)
            return self.advected(velocity, i, j, strain) - strain.to_edge(nu_t, i, j) * twice_s_ij

        def normal(i: int, along: int) -> Tensor:
            twice_s_ii = 2.0 * strain.normal(velocity, spectral, i, along)
            return self._square(velocity, i, along) - self._at_centre(nu_t, along) * twice_s_ii

        return self._assemble(normal, shear)

    @fused
    def _stress_fluxes(self, velocity: Components, tau: list[Tensor], strain: Strain) -> list[Tensor]:
        def shear(i: int, j: int) -> Tensor:
            part = tau[STRESS_INDEX[min(i, j), max(i, j)]]
            return self.advected(velocity, i, j, strain) + strain.to_edge(part, i, j)

        return self._assemble(lambda i, along: self._square(velocity, i, along) + self._at_centre(tau[i], along), shear)

    def _assemble(self, normal: Callable[[int, int], Tensor], shear: Callable[[int, int], Tensor]) -> list[Tensor]:
        def flux(i: int, j: int) -> Tensor:
            if i != j:
                return shear(i, j)
            return normal(i, i) if self.trace is None else normal(i, i) - normal(self.trace, i)

        return [flux(i, j) for i, j in self.keys]

    def _square(self, velocity: Components, i: int, along: int) -> Tensor:
        """``u_i u_i`` at centres 1 .. n+1 along `along`, 1 .. n along other finite-volume axes."""
        f = velocity[i]
        for axis in self.volume_axes:
            if axis == i:
                f = mean(f, axis) if axis == along else below(mean(f, axis), axis)
            else:
                f = above(f, axis) if axis == along else inner(f, axis)
        return f * f

    def advected(self, velocity: Components, i: int, j: int, strain: Strain) -> Tensor:
        """u_i carried by u_j through n + 1 faces along j, at upper faces along i."""
        transported, advecting = velocity[i], velocity[j]
        for axis in self.volume_axes:
            if axis == j:
                transported, advecting = mean(transported, axis), below(advecting, axis)
            elif axis == i:
                share = strain.metric[axis].weight_below
                lower, upper = inner(advecting, axis), above(above(advecting, axis), axis)
                transported, advecting = inner(transported, axis), share * lower + (1.0 - share) * upper
            else:
                transported, advecting = inner(transported, axis), inner(advecting, axis)
        return transported * advecting

    def _at_centre(self, f: Tensor, along: int) -> Tensor:
        for axis in self.volume_axes:
            f = above(f, axis) if axis == along else inner(f, axis)
        return f

    # -- divergence in coefficient space --------------------------------------------------------------------------

    def tendency(self, velocity: Velocity, term: SubgridTerm | None, stress: Stress | None = None) -> Components:
        """``du/dt`` without pressure, as coefficients; zero on walls. `stress` is that on modelled walls.

        Raises
        ------
        CaseError : there are such walls and no stress is given.
        """
        if stress is None and self.operators.grid.has_modelled_walls:
            raise CaseError("[wall_model] the grid has modelled walls: give the stress on them")
        flux = self.operators.slabs_to_coefficients(self.fluxes(velocity, term, stress), self.planes)
        rate = self._divergence(flux, velocity.padded_coefficients)
        if not isinstance(term, SubgridForce):
            return rate
        force = self._force(term.force)
        return rate[0] + force[0], rate[1] + force[1], rate[2] + force[2]

    @fused
    def _divergence(self, flux: list[Tensor], velocity: Components) -> Components:
        stored = dict(zip(self.keys, flux, strict=True))
        u, v, w = (self._component(stored, velocity, i) for i in range(3))
        return u, v, w

    def _component(self, stored: dict[Key, Tensor], velocity: Components, i: int) -> Tensor:
        total = None
        for j in range(3):
            if i == j == self.trace:
                continue
            term = self._flux_derivative(self._lookup(stored, i, j), i, j)
            total = term if total is None else total + term
        assert total is not None
        rate = self.nu * self.laplacian(velocity[i], i) - total if self.nu else -total
        mask = self.interior[i] if i in self.volume_axes else None
        return rate if mask is None else rate * mask

    def _lookup(self, stored: dict[Key, Tensor], i: int, j: int) -> Tensor:
        whole = self._slice_of(i, j) if i != j else None
        if whole is None:
            return stored[i, j]
        return above(stored[whole], i) if i in self.volume_axes else stored[whole]

    def _flux_derivative(self, flux: Tensor, i: int, j: int) -> Tensor:
        if j not in self.volume_axes:
            return self.operators.derivative(flux, j)
        metric = self.operators.metric[j]
        return difference(flux, j) / (above(metric.spacing, j) if i == j else metric.width)

    def laplacian(self, f: Tensor, component: int) -> Tensor:
        """``lap u_i`` of padded coefficients, without ghosts."""
        core = f
        for axis in self.volume_axes:
            core = inner(core, axis)
        total = -self.operators.squared_wavenumber * core
        for axis in self.volume_axes:
            line = f
            for other in self.volume_axes:
                line = line if other == axis else inner(line, other)
            metric = self.operators.metric[axis]
            if component == axis:
                slope = difference(line, axis) / above(metric.padded_width, axis)
                total = total + difference(slope, axis) / above(metric.spacing, axis)
            else:
                total = total + difference(self._slope(line, component, axis), axis) / metric.width
        return total

    def squared_gradient(self, velocity: Components) -> Tensor:
        """Volume mean of ``grad u : grad u`` of padded coefficients, over all ranks.

        Times nu, and with the work of moving walls, it is what `laplacian` takes from the kinetic energy, to round-off:
        each face counts with its slope times its difference, half of it where it is an end (there the other half lies
        beyond).
        """
        op, one = self.operators, self.operators.tensor(1.0)
        total = self.operators.tensor(0.0)
        for i, f in enumerate(velocity):
            core = f
            for axis in self.volume_axes:
                core = inner(core, axis)
            total = total + op.inner_product(op.squared_wavenumber * core, core, i)
            for axis in self.volume_axes:
                line, metric = f, op.metric[axis]
                for other in self.volume_axes:
                    line = line if other == axis else inner(line, other)
                if axis == i:
                    slope = below(difference(line, axis), axis) / metric.width
                    total = total + op.inner_product(slope, slope)
                else:
                    work = self._slope(line, i, axis) * difference(line, axis)
                    total = total + op.inner_product(mean(work, axis) / metric.width, one, i)
        return total

    def _slope(self, line: Tensor, component: int, axis: int) -> Tensor:
        """``d u_i / d x_axis`` across the faces 0 .. n of a component padded along `axis` alone, axis != i."""
        return difference(line, axis) / self.operators.metric[axis].spacing

    def _force(self, force: Components) -> Components:
        """Coefficients of an acceleration given at centres, where the components live, zero on walls."""
        result = []
        for i, f in enumerate(force):
            padded = self.operators.pad_scalar(f)
            for axis in self.volume_axes:
                padded = above(mean(padded, axis), axis) if axis == i else inner(padded, axis)
            c = self.operators.to_coefficients(padded)
            mask = self.interior[i] if i in self.volume_axes else None
            result.append(c if mask is None else c * mask)
        return result[0], result[1], result[2]
