"""Snapshots: one HDF5 file each with an XDMF beside it, for xarray, ParaView and the figures.

::

    velocity   (component, x, y, z)       [length/time]     pressure  (x, y, z)  kinematic [velocity^2]
    nu_t       (x, y, z)  [length^2/time], of an eddy viscosity; and every scalar by its name
    x, y, z    cell centres [length]      component  "u", "v", "w"      time   a scalar coordinate
    paraview/  the same fields, z slowest and components fastest

ParaView's grids have x fastest, the arrays of this project z; read as they are they would be mirrored, hence the copy.
All but the coordinates is in single precision, not compressed: every rank writes its own planes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from solver.files.folder import name_dimensions, write_text
from solver.files.hdf5 import open_hdf5
from solver.files.shares import Share, write_shared
from solver.flow.closure import EddyViscosity
from solver.flow.simulation import Simulation
from solver.grid.grid import Grid
from solver.observers.schedule import TimeSchedule
from solver.parallel.ranks import from_root

Array = NDArray[Any]
UNITS = {"velocity": "length/time", "pressure": "length^2/time^2", "nu_t": "length^2/time"}
SERIES, PARAVIEW = "series.xdmf", "paraview"
_XDMF = '<?xml version="1.0"?>\n<Xdmf Version="3.0"><Domain>\n{grids}\n</Domain></Xdmf>\n'
_GRID = """<Grid Name="flow" GridType="Uniform"><Time Value="{time:.12g}"/>
<Topology TopologyType="3DRectMesh" Dimensions="{nz} {ny} {nx}"/>
<Geometry GeometryType="VXVYVZ">
<DataItem Dimensions="{nx}" Format="HDF" NumberType="Float" Precision="8">{file}:/x</DataItem>
<DataItem Dimensions="{ny}" Format="HDF" NumberType="Float" Precision="8">{file}:/y</DataItem>
<DataItem Dimensions="{nz}" Format="HDF" NumberType="Float" Precision="8">{file}:/z</DataItem>
</Geometry>
{attributes}
</Grid>"""
_ATTRIBUTE = """<Attribute Name="{name}" AttributeType="{kind}" Center="Node">
<DataItem Dimensions="{shape}" Format="HDF" NumberType="Float" Precision="4">{file}:/paraview/{name}</DataItem>
</Attribute>"""
_COLLECTION = '<Grid Name="series" GridType="Collection" CollectionType="Temporal">\n{grids}\n</Grid>'


class Snapshots:
    """Writes the flow at cell centres: the initial field, at multiples of `interval`, and the last field; 0 is never.

    ``snapshots/series.xdmf`` is the sequence of all. A restart from an earlier time replaces what it comes past.
    """

    name = "snapshots"

    def __init__(self, folder: Path, interval: float) -> None:
        self.folder, self.schedule = folder / "snapshots", TimeSchedule(interval)
        self.own: set[Path] = set()
        self.since: float | None = None

    def __call__(self, simulation: Simulation) -> None:
        """Write, if it is time."""
        if self.since is None:
            self.since = simulation.t - simulation.dt
        if self.schedule.due(simulation):
            with simulation.timers("output"):
                self.write(simulation)

    def finish(self, simulation: Simulation) -> None:
        """Write the field a run ends with, unless it is written or snapshots are never wanted."""
        if self.schedule.interval > 0 and self._path(simulation) not in self.own:
            self.write(simulation)

    def _path(self, simulation: Simulation) -> Path:
        return self.folder / f"step_{simulation.step_count:08d}.h5"

    def write(self, simulation: Simulation) -> None:
        """Write the present flow (collective)."""
        fields, path = present(simulation), self._path(simulation)
        grid, comm = simulation.operators.grid, simulation.operators.decomposition.comm
        centres = {name: axis.centres for name, axis in zip("xyz", grid.axes, strict=True)}
        facts = {"time": simulation.t, "step": simulation.step_count, "nu": simulation.nu}
        shares = {name: Share(f, f.ndim - 2) for name, f in fields.items()}
        shares |= {f"{PARAVIEW}/{name}": Share(f.T, 1) for name, f in fields.items()}
        write_shared(path, comm, shares, partial(fill, fields=list(fields), centres=centres, facts=facts))
        self.own.add(path)
        from_root(comm, partial(self._tell, path, described(path.name, list(fields), grid, simulation.t), simulation.t))

    def _tell(self, path: Path, grid: str, t: float) -> None:
        """Write what says where the fields are in the file of a snapshot, alone and in the sequence (root only)."""
        write_text(path.with_suffix(".xdmf"), _XDMF.format(grids=grid))
        self._replace(t)
        self._join()

    def _replace(self, t: float) -> None:
        """Remove the snapshots up to `t` of a course of events that this run has left."""
        since = t if self.since is None else self.since
        for path in set(self.folder.glob("step_*.h5")) - self.own:
            try:
                with open_hdf5(path) as file:
                    left = since * (1 + 1e-12) < float(file.attrs["time"]) <= t
            except (OSError, LookupError, TypeError, ValueError):  # damaged: not ours to remove
                continue
            if left:
                path.with_suffix(".xdmf").unlink(missing_ok=True)
                path.unlink()

    def _join(self) -> None:
        """Write the sequence of all snapshots in the folder."""
        texts = [path.read_text(encoding="utf-8") for path in self.folder.glob("step_*.xdmf")]
        grids = [found[0] for text in texts if (found := re.findall(r"<Grid .*</Grid>", text, re.DOTALL))]
        grids.sort(key=lambda grid: float(re.findall(r'<Time Value="([^"]*)"', grid)[0]))
        write_text(self.folder / SERIES, _XDMF.format(grids=_COLLECTION.format(grids="\n".join(grids))))


def present(simulation: Simulation) -> dict[str, Array]:
    """Fields at cell centres, (3, nx, local ny, nz) and (nx, local ny, nz), in single precision (collective)."""
    term, u = simulation.present_term(), [_single(f) for f in simulation.velocity.centred]
    found = {"velocity": np.stack(u), "pressure": _single(simulation.pressure())}
    if isinstance(term, EddyViscosity):
        found["nu_t"] = _single(term.nu_t)
    return found | {n: _single(simulation.operators.to_physical(f)) for n, f in simulation.state.scalars.items()}


def _single(f: Tensor) -> Array:
    return f.detach().cpu().float().numpy()


def fill(file: h5py.File, fields: list[str], centres: Mapping[str, Array], facts: Mapping[str, float]) -> None:
    """Add all but the fields themselves: coordinates, names of dimensions, units."""
    file.attrs.update(facts)
    file["time"] = facts["time"]
    for name, values in {**centres, "component": np.array(["u", "v", "w"], h5py.string_dtype())}.items():
        file[name] = values
        file[name].make_scale(name)
    for name in fields:
        dimensions = ("component", "x", "y", "z")[-file[name].ndim :]
        for path, names in ((name, dimensions), (f"{PARAVIEW}/{name}", dimensions[::-1])):
            name_dimensions(file, file[path], names).attrs["units"] = UNITS.get(name, "as given")
        file[name].attrs["coordinates"] = "time"


def described(file: str, fields: list[str], grid: Grid, time: float) -> str:
    """The grid of XDMF that points to the fields in `file`."""
    nx, ny, nz = grid.shape
    attributes = []
    for name in fields:
        vector = name == "velocity"
        kind, shape = "Vector" if vector else "Scalar", f"{nz} {ny} {nx} 3" if vector else f"{nz} {ny} {nx}"
        attributes.append(_ATTRIBUTE.format(name=name, kind=kind, shape=shape, file=file))
    return _GRID.format(time=time, nx=nx, ny=ny, nz=nz, file=file, attributes="\n".join(attributes))
