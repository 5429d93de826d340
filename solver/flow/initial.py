"""Initial fields. Each recipe returns velocity coefficients of this rank; the simulation projects them on entry.

Random recipes draw numbers that depend on the seed alone, never on ranks or resolution: the large scales of a coarse
and a fine grid are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from solver.discretisation.calculus import Components, Operators
from solver.discretisation.shells import shell_energies, shell_numbers, shell_width
from solver.discretisation.staggered import y_slowest
from solver.errors import CaseError
from solver.grid.axis import FiniteVolumeAxis
from solver.grid.grid import Grid

MOST_UNEQUAL = 1000  # sides of a box of isotropic turbulence, by which its shells are counted
Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def from_functions(operators: Operators, functions: tuple[Function, Function, Function]) -> Components:
    """Coefficients of u, v, w given as functions of x, y, z, sampled where each component lives; zero on walls."""
    fields = []
    nx, ny, nz = operators.local_shape
    for component, function in enumerate(functions):
        values = function(*operators.coordinates(component)).transpose(-3, -2).expand(ny, nx, nz).contiguous()
        line = operators.grid.axes[component]
        if isinstance(line, FiniteVolumeAxis) and not (line.periodic or line.is_open):
            free = np.ones(line.points)
            free[-1] = 0.0
            values = values * operators.along(operators.local(free, component), component).transpose(-3, -2)
        fields.append(operators.to_coefficients(values.transpose(0, 1)))
    return fields[0], fields[1], fields[2]


def rest(operators: Operators) -> Components:
    """Fluid at rest."""
    zero: Function = lambda x, y, z: 0.0 * (x + y + z)  # noqa: E731
    return from_functions(operators, (zero, zero, zero))


def taylor_green(operators: Operators, amplitude: float) -> Components:
    """Taylor-Green vortex, ``u = A sin x cos y cos z, v = -A cos x sin y cos z``, in units of the x period / 2 pi.

    Along y and z the vortex is as nearly of the same size as whole periods (or half ones between two ends) allow, and
    `A` of v follows from continuity.
    """
    axes = operators.grid.axes
    basic = [axis.length if axis.periodic else 2.0 * axis.length for axis in axes]
    counts = [1 if axes[0].periodic else 2]
    counts += [max(1, round(length * counts[0] / basic[0])) for length in basic[1:]]
    kx, ky, kz = (2.0 * np.pi * n / length for n, length in zip(counts, basic, strict=True))
    x0, y0, z0 = (float(axis.faces[0]) if isinstance(axis, FiniteVolumeAxis) else 0.0 for axis in axes)

    def phases(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return kx * (x - x0), ky * (y - y0), kz * (z - z0)

    def u(*place: Tensor) -> Tensor:
        a, b, c = phases(*place)
        return amplitude * a.sin() * b.cos() * c.cos()

    def v(*place: Tensor) -> Tensor:
        a, b, c = phases(*place)
        return -amplitude * (kx / ky) * a.cos() * b.sin() * c.cos()

    return from_functions(operators, (u, v, lambda x, y, z: 0.0 * (x + y + z)))


def stream(operators: Operators, speed: float, amplitude: float, seed: int) -> Components:
    """A uniform stream along x, disturbed by the 4 longest waves of each direction so that it does not stay symmetric.

    `amplitude` scales disturbances of rms 0.05 speeds a component, drawn from `seed`.
    """
    axes = operators.grid.axes
    counts = [range(1, 5) if axis.points > 1 else range(1) for axis in axes]
    rng = np.random.default_rng(seed)

    def disturbance() -> Function:
        modes = [(m, *rng.uniform(0.0, 2.0 * np.pi, 3)) for m in product(*counts)]
        scale = 0.05 * amplitude * speed * math.sqrt(2.0 ** sum(len(c) > 1 for c in counts) / len(modes))

        def evaluate(*places: Tensor) -> Tensor:
            total: Tensor = 0.0 * (places[0] + places[1] + places[2])
            for numbers, *phases in modes:
                waves = [
                    (2.0 * np.pi * m / axis.length * x + phase).sin() if m else 1.0 + 0.0 * x
                    for m, axis, x, phase in zip(numbers, axes, places, phases, strict=True)
                ]
                total = total + waves[0] * waves[1] * waves[2]
            return scale * total

        return evaluate

    u, v, w = disturbance(), disturbance(), disturbance()
    plane: Function = lambda x, y, z: 0.0 * (x + y + z)  # noqa: E731
    return from_functions(operators, (lambda x, y, z: speed + u(x, y, z), v, w if axes[2].points > 1 else plane))


def friction_velocity(bulk: float, half_height: float, nu: float) -> float:
    """Dean (1978), J. Fluids Eng. 100, 215: ``C_f = 0.073 (2 h U_b / nu)^-1/4``."""
    return bulk * float(np.sqrt(0.5 * 0.073 * (2 * half_height * bulk / nu) ** -0.25))


def law_of_the_wall(y_plus: Tensor) -> Tensor:
    """Reichardt (1951): ``u+`` from the wall to the log layer."""
    return torch.log1p(0.4 * y_plus) / 0.4 + 7.8 * (1 - torch.exp(-y_plus / 11) - y_plus / 11 * torch.exp(-y_plus / 3))


def wall_turbulence(operators: Operators, bulk: float, nu: float, amplitude: float, seed: int) -> Components:
    """Mean turbulent profile of a channel, half channel or duct plus random vortices and streaks that turn turbulent.

    `bulk` may be negative: the flow is towards -x. `amplitude` scales perturbations of rms 0.12 bulk velocities: waves
    of the lowest 6 x 8 streamwise-spanwise modes times sines between the ends, drawn from `seed`.

    Raises
    ------
    CaseError : no wall in y, or x is no Fourier axis.
    """
    grid = operators.grid
    walls = [axis for axis in (1, 2) if axis in grid.walls]
    bounded = [axis for axis in (1, 2) if not grid.axes[axis].periodic]
    if 1 not in walls or not grid.x.is_fourier:
        raise CaseError(
            "[initial] kind = 'wall_turbulence' needs a no-slip wall in y and a Fourier x: use 'isotropic', "
            "'taylor_green' or 'rest'"
        )
    half = grid.reach_of_walls(1)
    u_tau = friction_velocity(abs(bulk), half, nu)
    in_the_middle = float(law_of_the_wall(torch.tensor(half * u_tau / nu, dtype=torch.float64)))

    def mean_profile(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        shape = 1.0 + 0.0 * x
        for axis, value in ((1, y), (2, z)):
            if axis in walls:
                shape = shape * law_of_the_wall(_distance(grid, value, axis) * (u_tau / nu)) / in_the_middle
        return 1.15 * bulk * shape

    rng = np.random.default_rng(seed)

    def perturbation() -> Function:
        modes = [(mx, mz, *rng.standard_normal(2), rng.integers(1, 5)) for mx in range(6) for mz in range(1, 9)]
        scale = 0.12 * bulk * amplitude * math.sqrt(2.0 * 2.0 ** len(bounded) / len(modes)) / math.sqrt(2)

        def evaluate(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            total: Tensor = 0.0 * (x + y + z)
            for mx, mz, a, b, my in modes:
                phase_x = 2 * np.pi * mx / grid.x.length * x
                if 2 in bounded:
                    spanwise = torch.sin(np.pi * (mz // 2 + 1) * _between(grid, z, 2))
                    wave = (a * phase_x.cos() + b * phase_x.sin()) * spanwise
                else:
                    phase = phase_x + 2 * np.pi * mz / grid.z.length * z
                    wave = a * phase.cos() + b * phase.sin()
                total = total + wave * torch.sin(np.pi * float(my) * _between(grid, y, 1))
            return scale * total

        return evaluate

    noise_u, noise_v, noise_w = perturbation(), perturbation(), perturbation()
    return from_functions(operators, (lambda x, y, z: mean_profile(x, y, z) + noise_u(x, y, z), noise_v, noise_w))


def _between(grid: Grid, values: Tensor, axis: int) -> Tensor:
    """Places along an axis of cells as shares of the way from its lower end to its upper one."""
    line = grid.volume_axes[axis]
    return (values - float(line.faces[0])) / line.length


def _distance(grid: Grid, values: Tensor, axis: int) -> Tensor:
    """To the nearest wall."""
    xi = _between(grid, values, axis)
    lower, upper = grid.walls[axis]
    ways = [way for way, wall in ((xi, lower), (1 - xi, upper)) if wall]
    return torch.minimum(ways[0], ways[-1]) * grid.axes[axis].length


def shear_layers(operators: Operators, thickness: float, amplitude: float, seed: int) -> Components:
    """Two opposite layers ``U = tanh((y - L/4) / 2 theta) - tanh((y - 3L/4) / 2 theta) - 1`` with noise inside them.

    `thickness` is the initial momentum thickness theta; the velocity difference is 2. The spectrum of the noise peaks
    at ``k theta = 1``, which the grid should resolve: then a seed gives the same large scales on every grid.
    """
    length = operators.grid.y.length

    def layer(y: Tensor, centre: float) -> Tensor:
        return (y - centre * length) / (2 * thickness)

    noise = isotropic(operators, amplitude, 1.0 / thickness, None, seed)
    _, y, _ = operators.coordinates()
    window = torch.exp(-(layer(y, 0.25) ** 2)) + torch.exp(-(layer(y, 0.75) ** 2))
    mean = from_functions(
        operators,
        (
            lambda x, y, z: torch.tanh(layer(y, 0.25)) - torch.tanh(layer(y, 0.75)) - 1 + 0.0 * (x + z),
            lambda x, y, z: 0.0 * (x + y + z),
            lambda x, y, z: 0.0 * (x + y + z),
        ),
    )
    perturbed = [
        m + operators.to_coefficients(operators.to_physical(c) * window) for m, c in zip(mean, noise, strict=True)
    ]
    return perturbed[0], perturbed[1], perturbed[2]


def isotropic(
    operators: Operators,
    energy: float,
    peak_wavenumber: float,
    table: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
) -> Components:
    """Random solenoidal field in a periodic box whose shell spectrum is exact.

    ``E(k) ~ k^4 exp(-2 (k / k_p)^2)`` scaled to the kinetic energy `energy`, or a table (k, E) as it stands.

    Raises
    ------
    CaseError : the grid is no box, or a box whose sides differ too much.
    """
    if not operators.grid.is_box:
        raise CaseError(
            "[initial] kind = 'isotropic' needs Fourier axes in x, y and z: set kind = 'fourier' in [grid.y]"
        )
    noise = _noise(operators, seed)
    fields = [operators.to_coefficients(operators.to_physical(c)) for c in noise]  # makes them conjugate-symmetric
    k_squared = operators.squared_wavenumber
    longitudinal = sum(
        (k * f for k, f in zip(operators.wavenumber.values(), fields, strict=True)), start=operators.tensor(0.0)
    )
    safe = torch.where(k_squared > 0, k_squared, 1.0)
    fields = [f - k * longitudinal / safe for k, f in zip(operators.wavenumber.values(), fields, strict=True)]
    sides = [axis.length for axis in operators.grid.axes]
    if max(sides) > MOST_UNEQUAL * min(sides):
        raise CaseError(
            f"[initial] kind = 'isotropic': the sides of the box differ by a factor of {max(sides) / min(sides):.3g}: "
            f"use at most {MOST_UNEQUAL}"
        )
    base, shell = shell_width(operators.grid), shell_numbers(operators)
    held = shell_energies(operators, (fields[0], fields[1], fields[2]))
    k = base * np.arange(len(held))
    if table is None:
        target = k**4 * np.exp(-2 * (k / peak_wavenumber) ** 2)
        target *= energy / target.sum()
    else:
        target = (
            np.exp(
                np.interp(
                    np.log(np.maximum(k, 1e-30)),
                    np.log(table[0]),
                    np.log(table[1]),
                    left=-np.inf,
                    right=-np.inf,
                )
            )
            * base
        )
    scale = operators.tensor(np.sqrt(np.divide(target, held, out=np.zeros_like(target), where=held > 0)))
    return fields[0] * scale[shell], fields[1] * scale[shell], fields[2] * scale[shell]


def _noise(operators: Operators, seed: int) -> Components:
    """White noise on this rank's modes, which depends on the mode and the seed and on nothing else.

    Each (kx, ky) has a stream of numbers of its own along kz, of a generator that begins anywhere (Philox: Salmon,
    Moraes, Dror & Shaw 2011, Parallel random numbers: as easy as 1, 2, 3, SC11).
    """
    axes, slabs = operators.grid.fourier_axes, operators.decomposition
    kx, ky, kz = (np.rint(k * axes[d].length / (2 * np.pi)).astype(int) for d, k in operators.grid.wavenumbers.items())
    key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    columns = np.array(list(product(kx[slabs.modes], ky))).astype(np.uint64)
    noise = np.empty((len(columns), len(kz), 3, 2))
    for column, (i, j) in zip(noise, columns, strict=True):
        stream = np.random.Philox(key=key, counter=np.array([0, i, j, 0], np.uint64))
        np.random.Generator(stream).standard_normal(out=column)
    noise = noise.reshape(-1, len(ky), len(kz), 3, 2)
    u, v, w = (y_slowest(operators.tensor(noise[..., c, :].transpose(3, 0, 1, 2))) for c in range(3))
    return u, v, w
