"""Snapshots: one HDF5 file each with an XDMF beside it, for ParaView, xarray and the figures."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from solver.hooks.schedule import TimeSchedule
from solver.rundir import write_hdf5, write_text
from solver.simulation import Simulation

_XDMF = """<?xml version="1.0"?>
<Xdmf Version="3.0"><Domain><Grid Name="flow" GridType="Uniform"><Time Value="{time:.10g}"/>
<Topology TopologyType="3DRectMesh" Dimensions="{nx} {ny} {nz}"/>
<Geometry GeometryType="VXVYVZ">
<DataItem Dimensions="{nz}" Format="HDF" Precision="8">{file}:/z</DataItem>
<DataItem Dimensions="{ny}" Format="HDF" Precision="8">{file}:/y</DataItem>
<DataItem Dimensions="{nx}" Format="HDF" Precision="8">{file}:/x</DataItem>
</Geometry>
{attributes}
</Grid></Domain></Xdmf>
"""
_ATTRIBUTE = """<Attribute Name="{name}" AttributeType="Scalar" Center="Node">
<DataItem ItemType="HyperSlab" Dimensions="{nx} {ny} {nz}"><DataItem Dimensions="3 4" Format="XML">
{i} 0 0 0  1 1 1 1  1 {nx} {ny} {nz}</DataItem>
<DataItem Dimensions="3 {nx} {ny} {nz}" Format="HDF" Precision="4">{file}:/velocity</DataItem></DataItem></Attribute>"""


class Snapshots:
    """Writes velocity at cell centres (float32): the initial field, at multiples of `interval`, and the last field."""

    name = "snapshots"

    def __init__(self, folder: Path, interval: float) -> None:
        self.folder, self.schedule = folder / "snapshots", TimeSchedule(interval)
        self.latest: int | None = None

    def __call__(self, simulation: Simulation) -> None:
        """Write, if it is time."""
        if self.schedule.due(simulation):
            with simulation.timers("output"):
                self.write(simulation)

    def finish(self, simulation: Simulation) -> None:
        """Write the field a run ends with, unless it is written or snapshots are never wanted."""
        if self.schedule.interval > 0 and self.latest != simulation.step_count:
            self.write(simulation)

    def write(self, simulation: Simulation) -> None:
        """Write the present velocity (collective)."""
        self.latest = simulation.step_count
        slabs, grid = simulation.operators.decomposition, simulation.operators.grid
        fields = [slabs.gather_planes(f) for f in simulation.velocity.centred]
        if not slabs.is_root:
            return
        velocity = np.stack([f.numpy().astype(np.float32) for f in fields if f is not None])
        path = self.folder / f"step_{simulation.step_count:08d}.h5"

        def fill(file: h5py.File) -> None:
            file.create_dataset("velocity", data=velocity, compression="gzip", compression_opts=1, shuffle=True)
            for name, axis in zip("xyz", grid.axes, strict=True):
                file[name] = axis.centres
                file[name].make_scale(name)
            for dimension, name in enumerate("xyz", start=1):
                file["velocity"].dims[dimension].attach_scale(file[name])
            file.attrs.update(time=simulation.t, step=simulation.step_count, nu=simulation.nu)

        write_hdf5(path, fill)
        shape = dict(zip(("nx", "ny", "nz"), velocity.shape[1:], strict=True))
        attributes = "\n".join(_ATTRIBUTE.format(name=n, i=i, file=path.name, **shape) for i, n in enumerate("uvw"))
        text = _XDMF.format(time=simulation.t, file=path.name, attributes=attributes, **shape)
        write_text(path.with_suffix(".xdmf"), text)
