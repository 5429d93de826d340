"""A file of trajectories with a known law, and a small recipe; not a test itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import torch

from closures.coupling.resample import Resampler, network_grid
from closures.data.layout import MOMENTS
from closures.data.rows import FLOWS, FORMAT
from closures.training.recipe import Recipe
from solver.case.case import load_case
from solver.grid.axis import stretched_faces
from solver.run import build
from tests.runs import write_case

NX, NY, NZ, STEP = 8, 6, 6, 0.1
START = 0.3  # of the first frame
LX, LZ = 2 * np.pi, np.pi
FACES = stretched_faces(NY, 0.0, 2.0, 1.6)


def travelling(n_traj=3, n_steps=6, seed=5):
    """Waves that travel along x and decay: ``u(t + step)`` is a convolution of ``u(t)`` along x, the same everywhere.

    Returns velocity (n_traj, n_steps, nx, ny, nz, 3).
    """
    rng = np.random.default_rng(seed)
    y = 0.5 * (FACES[1:] + FACES[:-1])
    x, z = np.arange(NX) * LX / NX, np.arange(NZ) * LZ / NZ
    t = STEP * np.arange(n_steps)
    grid = np.meshgrid(t, x, y, z, indexing="ij")
    tt, xx, yy, zz = grid
    wall = yy * (2 - yy)
    found = []
    for _ in range(n_traj):
        a, b, c = rng.uniform(0, 2 * np.pi, 3)
        wave = np.exp(-0.5 * tt) * wall
        u = wall + 0.3 * wave * np.cos(xx - 2 * tt + a)
        v = 0.2 * wave * np.sin(xx - 2 * tt + b) * np.cos(2 * zz)
        w = 0.2 * wave * np.cos(xx - 2 * tt + c)
        found.append(np.stack([u, v, w], axis=-1))
    return np.stack(found).astype(np.float32)


def write_file(path, velocity=None, **changes):
    """The layout of `closures.data.windows`; `changes` replace or (None) leave out data sets and attributes."""
    velocity = travelling() if velocity is None else velocity
    y = 0.5 * (FACES[1:] + FACES[:-1])
    data = {
        "dimensions/time": START + STEP * np.arange(velocity.shape[1]),
        "dimensions/x": np.arange(NX) * LX / NX,
        "dimensions/y": y,
        "dimensions/z": np.arange(NZ) * LZ / NZ,
        "dimensions/y_faces": FACES,
        "t1_fields/velocity": velocity,
    }
    with h5py.File(path, "w") as file:
        for name, values in (data | {k.replace("__", "/"): v for k, v in changes.items()}).items():
            if values is not None:
                file[name] = values
        for name, kind, lines in (("xz_periodic", "PERIODIC", ["x", "z"]), ("y_wall", "WALL", ["y"])):
            group = file.create_group(f"boundary_conditions/{name}")
            group.attrs["bc_type"], group.attrs["associated_dims"] = kind, lines
        file.attrs.update(nu=0.01, filter="none", case="travelling waves")
    return path


def small_recipe(file, **changes):
    """An FNO on that file; `changes` are updates of tables by name."""
    recipe = {
        "title": "travelling waves",
        "data": {"file": str(file), "validation": 0.3},
        "operator": {"name": "fno", "width": 4, "modes": [2, 3, 2], "layers": 2, "hidden": 6},
        "loss": {"noise": 0.01},
        "optimiser": {"rate": 1e-2, "schedule": "one_cycle"},
        "loop": {"epochs": 3, "batch": 4, "device": "cpu"},
        "card": {"trained_on": "travelling waves"},
    }
    return Recipe.model_validate(
        {k: {**v, **changes.get(k, {})} if isinstance(v, dict) else v for k, v in recipe.items()}
    )


def les_file(
    root: Path, seeds: Iterable[int], frames: int, step: float, substeps: int = 1, overrides: tuple[str, ...] = ()
) -> tuple[Path, Path]:
    """A case, and a file of what it does with a Smagorinsky model of c_s = 0.3, frames `step` apart."""
    case_folder, trajectories = write_case(root / "case"), []
    closure, fixed = "closure={name='smagorinsky', c_s=0.3, damping='none'}", f"time.dt={step / substeps}"
    with torch.no_grad():
        for seed in seeds:
            case, folder = load_case(case_folder, (closure, fixed, f"initial.seed={seed}", *overrides))
            simulation = build.build(build.Source(case, folder, "case"))
            resampler, found = Resampler(simulation.operators, network_grid(simulation.operators.grid)), []
            for _ in range(frames):
                found.append(resampler.centred(simulation.velocity).movedim(0, -1).numpy())
                for _ in range(substeps):
                    simulation.step()
            trajectories.append(found)
    grid = network_grid(simulation.operators.grid)
    lines = {f"dimensions__{name}": axis.centres for name, axis in zip("xyz", grid.axes, strict=True)}
    about = {"dimensions__time": step * np.arange(frames), "dimensions__y_faces": grid.y.faces}
    return case_folder, write_file(root / "les.h5", np.array(trajectories, dtype=np.float32), **lines, **about)


def add_statistics(file):
    """The moments of every frame, as `solver generate` writes them, so that the file can be a reference."""
    with h5py.File(file, "a") as data:
        u = data["t1_fields/velocity"][()].astype(float)
        pairs = {"uu": (0, 0), "vv": (1, 1), "ww": (2, 2), "uv": (0, 1), "uw": (0, 2), "vw": (1, 2)}
        rows = {"u": u[..., 0], "v": u[..., 1], "w": u[..., 2]}
        rows |= {name: u[..., i] * u[..., j] for name, (i, j) in pairs.items()}
        moments = np.zeros((*u.shape[:2], len(MOMENTS), u.shape[3]))
        for name, values in rows.items():
            moments[:, :, MOMENTS.index(name)] = values.mean((2, 4))
        data["statistics/moments"] = moments
        y = data["dimensions/y"][()]
        data["statistics/wall_stress"] = 0.002 * moments[:, :, 0, 0] / y[0]
        data.attrs.update(kind=FLOWS, format=FORMAT, nu=0.002)
