"""Molecular diffusion along y within a stage, implicit and still divergence-free, without a splitting error.

A stage solves ``(1 - b d2/dy2) du = g - grad phi``, ``div du = 0``, for the increment du of the velocity, which is
zero at walls; ``b = nu beta dt``, and g is what the explicit terms give, with the diffusion of the velocity before
over the whole stage. Between two ends that slip, diffusion along y and the projection commute, and the eigenvectors of
the pressure (Lynch, Rice & Thomas 1964) diagonalise both. A wall differs from such an end by its friction, an entry in
the cell beside it: two unknowns for each mode of x and z, which the influence of each on the other gives (as in
Kleiser & Schumann 1980, where they are pressures). Diffusion between no-slip walls, projected, is symmetric and
negative, so that no energy can come from it whatever dt is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from solver.discretisation.calculus import Components
from solver.discretisation.fusion import fused
from solver.discretisation.staggered import above, difference, edge, join, y_slowest
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError
from solver.flow.momentum import Momentum
from solver.flow.projection import Projection
from solver.flow.wall_normal_modes import Damping, WallNormalModes
from solver.grid.axis import NoSlip
from solver.grid.grid import Grid
from solver.pressure.direct import apply_matrix


def refusal(grid: Grid) -> str:
    """Why diffusion along y cannot be implicit on a grid; "" if it can."""
    if grid.y.is_fourier:
        return "needs cells along y: in a box all diffusion is integrated exactly"
    return "" if grid.x.is_fourier else "needs kind = 'fourier' in [grid.x]: channels and ducts have it, not cavities"


class ImplicitDiffusion:
    """``nu d2/dy2`` of a channel or a duct, whose walls across z stay explicit, as all eddy viscosity does.

    At walls whose friction is modelled the stress stays in the tendency, and the implicit operator has none.

    Parameters
    ----------
    momentum, projection : of the flow.

    Raises
    ------
    CaseError : x is no Fourier axis, y is one, or there are solids or an iterative pressure solver.
    """

    def __init__(self, momentum: Momentum, projection: Projection) -> None:
        self.operators, self.equation, self.interior = momentum.operators, momentum.equation, momentum.interior[1]
        op, grid = self.operators, self.operators.grid
        reason = refusal(grid)
        if projection.direct is None:
            reason = "acts where the pressure solver is 'direct', not around solids"
        if reason or projection.direct is None:
            raise CaseError(f"[time] implicit_diffusion = 'on' {reason}; set 'off'")
        line = grid.volume_axes[1]
        ends = [isinstance(end, NoSlip) and not end.modelled for end in (line.lower, line.upper)]
        self.modes = WallNormalModes(op, (ends[0], ends[1]))
        self.free = self._free_faces()
        self.across = projection.direct.eigenvectors.get(2)  # of a duct
        self.rotation = op.rotation[0][:, op.decomposition.modes]
        self.k2 = self._squared_wavenumber()
        symbol = self.modes.values - self.k2
        self.inverse = y_slowest(torch.where(symbol == 0, 0.0, 1.0 / torch.where(symbol == 0, 1.0, symbol)))
        self.shrink = torch.where(self.k2 > 0, -1.0 / torch.where(self.k2 > 0, self.k2, 1.0), 0.0)

    def _free_faces(self) -> Tensor:
        """0 at faces across y whose friction a model gives, 1 at others, of this rank."""
        line = self.operators.grid.volume_axes[1]
        free = torch.ones(line.n + 1)
        for end, boundary in ((0, line.lower), (-1, line.upper)):
            if isinstance(boundary, NoSlip) and boundary.modelled:
                free[end] = 0.0
        return self.operators.along(self.operators.local(free.numpy(), 1, 1), 1)

    def _squared_wavenumber(self) -> Tensor:
        """``kx^2 + kz^2`` of this rank's modes; the eigenvalues of a z of cells in place of the latter."""
        op = self.operators
        k2 = op.wavenumber[0][op.decomposition.modes] ** 2
        if self.across is None:
            return k2 + op.wavenumber[2] ** 2
        values = op.grid.volume_axes[2].laplacian[0]
        return k2 + op.along(-values * (values < -1e-12 * abs(values).max()), 2)

    # -- the explicit part --------------------------------------------------------------------------------------------

    def predicted(
        self, velocity: Velocity, rate: Components, before: Components | None, weights: tuple[Tensor, ...]
    ) -> tuple[Components, Components]:
        """``u + gamma dt N + rho dt N_before + span dt nu d2u/dy2`` and N, the `rate` without that diffusion."""
        nu = self.operators.tensor(self.equation.nu)
        return self._predicted(velocity.coefficients, velocity.padded_coefficients, rate, before, nu, *weights)

    @fused
    def _predicted(
        self,
        u: Components,
        padded: Components,
        rate: Components,
        before: Components | None,
        nu: Tensor,
        gamma: Tensor,
        rho: Tensor,
        span: Tensor,
    ) -> tuple[Components, Components]:
        curvature = [self.equation.curvature(f, i, 1, self.free) for i, f in enumerate(padded)]
        if self.interior is not None:
            curvature[1] = curvature[1] * self.interior
        a, b, c = (r - nu * d for r, d in zip(rate, curvature, strict=True))
        e, f, g = (
            v + (gamma * n + rho * p) + span * d
            for v, n, p, d in zip(u, (a, b, c), before or (a, b, c), curvature, strict=True)
        )
        return (e, f, g), (a, b, c)

    # -- the implicit part --------------------------------------------------------------------------------------------

    def __call__(self, before: Components, predicted: Components, b: Tensor) -> tuple[Components, Tensor]:
        """The velocity at the end of the stage, from the divergence-free prediction (collective); and the column.

        The latter is what is left of a unit acceleration along x, (1, local ny, 1).
        """
        damping, modes = self.modes.damping(b), self.modes
        u, w = (modes.modes(predicted[i] - before[i]) for i in (0, 2))
        slip = [modes.at_ends(damping, modes.beside(damping.decay * f)) for f in (u, w)]
        potential, beside = self._friction(damping, self._divergence(slip[0], slip[1]))
        friction = modes.fed(slip[0]), modes.fed(slip[1])
        change = self._changes(u, w, *friction, potential, modes.fed(beside), b, damping.decay)
        u, psi, w = (modes.planes(f) for f in change)
        return (predicted[0] + u, self._lifted(predicted[1], psi), predicted[2] + w), modes.column(damping)

    def _friction(self, damping: Damping, divergence: Tensor) -> tuple[Tensor, Tensor]:
        """The potential phi of what the friction at walls would gather there, and what it changes in the friction.

        From the horizontal divergence of the slip that the walls would see without phi. Both are potentials along x and
        z: the former by modes, of the latter two entries along y.
        """
        modes = self.modes
        alone = self._to_across(divergence) * self.shrink  # the potential of the slip
        left = apply_matrix(damping.slip, alone, 1)
        pairs = modes.read[:, None, :] * modes.feed.T * damping.decay.flatten() * modes.values.flatten()
        m = damping.b * apply_matrix(pairs.flatten(0, 1), self.inverse, 1)  # of the ends on each other, with phi
        a, b, c, d = (m.narrow(-2, k, 1) for k in range(4))
        lower, upper = left.narrow(-2, 0, 1), left.narrow(-2, 1, 1)
        determinant = (1.0 + a) * (1.0 + d) - b * c
        held = join([((1.0 + d) * lower - b * upper) / determinant, ((1.0 + a) * upper - c * lower) / determinant], 1)
        potential = damping.b * self.k2 * self.inverse * modes.fed(held)
        return self._from_across(potential), self._from_across(held - alone)

    @fused
    def _changes(
        self, u: Tensor, w: Tensor, fed_u: Tensor, fed_w: Tensor, phi: Tensor, beside: Tensor, b: Tensor, decay: Tensor
    ) -> Components:
        """By modes of y: what is to be added to u and w, and the potential whose gradient along y to v."""
        first, third = self._gradient(-decay * (phi + b * beside))
        stiff = b * self.modes.values
        change_u = decay * (stiff * u - b * fed_u) + first
        change_w = decay * (stiff * w - b * fed_w) + third
        return change_u, -decay * (b * self._divergence(u, w) + phi), change_w

    def _lifted(self, v: Tensor, psi: Tensor) -> Tensor:
        """``v + d psi / dy``."""
        op = self.operators
        after = op.decomposition.from_above(edge(psi, 1, 0))
        raised = join([psi, edge(psi, 1, -1) if after is None else after], 1)
        return v + difference(raised, 1) / above(op.metric[1].spacing, 1)

    # -- along x and z, in the layout of the solve --------------------------------------------------------------------

    def _divergence(self, u: Tensor, w: Tensor) -> Tensor:
        along_x = self.rotation * u.flip(-4)
        if self.across is None:
            return along_x + self.operators.rotation[2] * w.flip(-4)
        last = edge(w, 2, -1)
        below = last if self.operators.grid.z.periodic else torch.zeros_like(last)
        return along_x + difference(join([below, w], 2), 2) / self.operators.metric[2].width

    def _gradient(self, f: Tensor) -> tuple[Tensor, Tensor]:
        along_x = self.rotation * f.flip(-4)
        if self.across is None:
            return along_x, self.operators.rotation[2] * f.flip(-4)
        after = edge(f, 2, 0) if self.operators.grid.z.periodic else edge(f, 2, -1)
        return along_x, difference(join([f, after], 2), 2) / above(self.operators.metric[2].spacing, 2)

    def _to_across(self, f: Tensor) -> Tensor:
        return f if self.across is None else apply_matrix(self.across[0], f, 2)

    def _from_across(self, f: Tensor) -> Tensor:
        return f if self.across is None else apply_matrix(self.across[1], f, 2)
