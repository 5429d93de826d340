"""What the reader of The Well insists on besides the fields (Ohana et al. 2024, arXiv 2412.00568)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import h5py
import numpy as np

DIGEST = 32  # bytes of SHA-256
HEADER_SPACE = 1 << 20  # bytes of an HDF5 file beside its data
Kind = Literal["WALL", "OPEN", "PERIODIC"]


def words(given: Iterable[str]) -> np.ndarray:
    """Words as every reader of labelled arrays knows them: of variable length."""
    return np.array(list(given), h5py.string_dtype())


def groups(file: h5py.File, datasets: Iterable[str], *names: str) -> None:
    """Groups that tell the names of those `datasets` that will be in them."""
    known = [name.partition("/") for name in datasets]
    for group in names:
        file.create_group(group).attrs["field_names"] = [name for place, _, name in known if place == group]


def boundary(file: h5py.File, name: str, kind: Kind, axes: list[str], mask: np.ndarray, fields: list[str]) -> None:
    """One entry of ``boundary_conditions``: a mask over `axes` of where it holds, in every sample and at all times."""
    group = file.create_group(f"boundary_conditions/{name}_{kind.lower()}")
    group.attrs.update(bc_type=kind, associated_dims=axes, associated_fields=fields)
    group.attrs.update(sample_varying=False, time_varying=False)
    group["mask"] = mask
    named(file, group["mask"], axes)


def at_ends(n: int, ends: Iterable[int]) -> np.ndarray:
    """A mask over n points that is true at the lower (0) or upper (1) of its ends, or at both."""
    mask = np.zeros(n, bool)
    mask[[-int(end) for end in ends]] = True
    return mask


def dimension(file: h5py.File, name: str, values: np.ndarray) -> None:
    """A dimension with its coordinates, the same for all samples and times."""
    data = file.create_dataset(f"dimensions/{name}", data=values)
    data.attrs.update(sample_varying=False, time_varying=False)
    data.make_scale(name)
    file[name] = data  # a second name: readers of labelled arrays look in the groups above a dataset


def named(file: h5py.File, data: h5py.Dataset, dimensions: Iterable[str]) -> None:
    """Tell the dimensions of a dataset."""
    for place, name in enumerate(dimensions):
        data.dims[place].attach_scale(file[f"dimensions/{name}"])
