"""Files as libhdf5 finds them: metadata with checksums, and heaps with an end."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from solver.files.folder import write_hdf5
from solver.files.hdf5 import HEAP, open_hdf5
from tests.runs import ROOT

OLD = ROOT / "closures/data/samples/channel180_sample.h5"  # of the oldest format
TEXTS = {f"text_{i}": "a" * i for i in range(1, 30)}
VALUES = np.arange(4000.0)


@pytest.fixture
def written(tmp_path):
    def fill(file):
        file.attrs.update(TEXTS)
        for i in range(3):
            file[f"group/{i}"] = VALUES + i
        file.create_dataset("packed", data=VALUES, compression="gzip", chunks=(100,))

    write_hdf5(tmp_path / "file.h5", fill)
    return tmp_path / "file.h5"


@pytest.mark.parametrize("old", [True, False])
def test_what_was_written_is_read(written, old):
    if old:
        with h5py.File(OLD) as wanted, open_hdf5(OLD) as file:
            assert dict(file.attrs) == dict(wanted.attrs)
        return
    with open_hdf5(written) as file:
        assert dict(file.attrs) == TEXTS
        np.testing.assert_array_equal(file["group/2"], VALUES + 2)
        np.testing.assert_array_equal(file["packed"], VALUES)


def test_a_changed_byte_of_the_metadata_is_an_error(written):
    whole = written.read_bytes()
    assert whole[8] == 2  # superblock; the oldest is 0
    header = whole.find(b"OHDR")
    for place in range(header + 4, header + 60):
        written.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(OSError, match=r"."), open_hdf5(written) as file:
            dict(file.attrs)


def test_free_space_of_no_size_is_damage(written):
    """libhdf5 2.0 never comes back from reading the texts of this file."""
    whole = bytearray(written.read_bytes())
    heap = whole.find(HEAP)
    place, end = heap + 16, heap + int.from_bytes(whole[heap + 8 : heap + 16], "little")
    while int.from_bytes(whole[place : place + 2], "little"):
        place += 16 + -(-int.from_bytes(whole[place + 8 : place + 16], "little") // 8) * 8
    assert place < end
    whole[place + 8 : place + 16] = bytes(8)
    written.write_bytes(whole)
    with pytest.raises(OSError, match="no end"):
        open_hdf5(written)


def test_rows_that_look_like_a_heap_are_data(tmp_path):
    path = tmp_path / "file.h5"
    write_hdf5(path, lambda file: file.create_dataset("rows", data=np.frombuffer(HEAP * 100, np.uint8)))
    with open_hdf5(path) as file:
        assert bytes(file["rows"][:8]) == HEAP
