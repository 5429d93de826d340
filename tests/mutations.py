"""Damage to files as people and disks do it: texts, bytes, HDF5; every choice comes from a generator that is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

EXTREME = (
    *("0", "-1", "1", "3", "0.5", "1e308", "-1e308", "1e-320", "nan", "inf", "-inf", "2147483648", "100000"),
    *("99999999999999999999999", "true", '""', "[]", "{}", '"\\u0000"', '"' + "a" * 300 + '"', "[1, 2]", "[[]]"),
    *("[1.0, nan]", "1979-05-27", "'../x'", '"4 pi"', '"0 pi"', '"1.2.3 pi"', '"pi / 0"', '"nothing.h5"', "'/'"),
    *('"."', '"none"', '"é"', "[0, 0, 0]", "{kind = 'no_slip'}", "'''\n\n'''", "[" * 200, "0x10", "1_000", "-0.0"),
)
ENCODINGS = ("utf-16", "latin-1", "utf-8-sig", "cp1252", "utf-32")
VALUE = re.compile(r"(?<==)[^\n#]*")
NUMBER = re.compile(r"-?\d+\.?\d*(?:[eE][-+]?\d+)?")


def text_of(text: str, rng: np.random.Generator) -> bytes:
    """A text with one to three mistakes in it, as bytes."""
    for _ in range(int(rng.integers(1, 4))):
        text = _mistake(text, rng)
    if rng.random() < 0.05:
        return text.encode(str(rng.choice(ENCODINGS)), errors="replace")
    return bytes_of(text.encode(), rng) if rng.random() < 0.1 else text.encode(errors="replace")


def _mistake(text: str, rng: np.random.Generator) -> str:
    lines = text.split("\n")
    line = int(rng.integers(len(lines)))
    extreme = str(rng.choice(EXTREME))
    kind = int(rng.integers(12))
    if kind <= 4:  # most of what people get wrong are values
        return _replaced(text, VALUE if kind <= 3 else NUMBER, extreme, rng)
    if kind == 5:
        return "\n".join(lines[:line] + lines[line + 1 :])
    if kind == 6:
        return "\n".join([*lines[: line + 1], *lines[line:]])
    if kind == 7:
        other = int(rng.integers(len(lines)))
        lines[line], lines[other] = lines[other], lines[line]
        return "\n".join(lines)
    if kind == 8:
        key, sign, value = lines[line].partition("=")
        place = int(rng.integers(len(key) + 1))
        lines[line] = key[:place] + key[place + 1 :] + sign + value
        return "\n".join(lines)
    if kind == 9:
        return "\n".join([*lines[:line], f"unheard_of = {extreme}", *lines[line:]])
    if kind == 10:
        return text[: int(rng.integers(len(text) + 1))]
    return text.replace("\n", str(rng.choice(["\r\n", "\r", "\n\n", "\t"])))


def _replaced(text: str, pattern: re.Pattern[str], value: str, rng: np.random.Generator) -> str:
    """One of the places that match, with another value."""
    found = list(pattern.finditer(text))
    if not found:
        return text + value
    place = found[int(rng.integers(len(found)))]
    return f"{text[: place.start()]} {value}{text[place.end() :]}"


def bytes_of(data: bytes, rng: np.random.Generator) -> bytes:
    """Flipped, lost, zeroed, doubled or foreign bytes, more often near the beginning."""
    found = bytearray(data)
    size = max(len(found), 1)
    near = int(min(size, 4096) if rng.random() < 0.6 else size)
    place, length = int(rng.integers(near)), int(rng.integers(1, 1 + min(64, size)))
    match int(rng.integers(6)):
        case 0:
            for at in rng.integers(near, size=int(rng.integers(1, 9))):
                found[min(int(at), len(found) - 1) : int(at) + 1] = bytes([int(rng.integers(256))])
        case 1:
            del found[int(rng.integers(size)) :]
        case 2:
            found[place : place + length] = bytes(length)
        case 3:
            found[place:place] = found[place : place + length]
        case 4:
            found[place : place + length] = rng.bytes(length)
        case _:
            del found[place : place + length]
    return bytes(found)


def table_of(text: str, rng: np.random.Generator) -> bytes:
    """A table with cells, columns or rows that are wrong."""
    if rng.random() < 0.5:
        return text_of(text, rng)
    rows = [line.split(",") for line in text.split("\n")]
    row = int(rng.integers(len(rows)))
    cell = int(rng.integers(len(rows[row])))
    match int(rng.integers(6)):
        case 0:
            rows[row][cell] = str(rng.choice(EXTREME))
        case 1:
            del rows[row][cell]
        case 2:
            rows[row].append("1")
        case 3:
            rows = [r[:cell] + r[cell + 1 :] for r in rows]
        case 4:
            rows.insert(row, [])
        case _:
            return "\n".join(str(rng.choice([";", "\t", " "])).join(r) for r in rows).encode()
    return "\n".join(",".join(r) for r in rows).encode()


def hdf5(path: Path, rng: np.random.Generator) -> None:
    """Damage a file in place: its bytes, or what it holds, as a program with a mistake would have written it."""
    if rng.random() < 0.4:
        path.write_bytes(bytes_of(path.read_bytes(), rng))
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(int(rng.integers(1, 3))):
            owner = file if rng.random() < 0.3 or not names else file.get(str(rng.choice(names)))
            if owner is None:
                continue
            if len(owner.attrs) and rng.random() < 0.6:
                _attribute(owner, str(rng.choice(list(owner.attrs))), rng)
            elif owner.name != "/":
                _item(file, owner.name, rng)


STRANGE: tuple[Callable[[], object], ...] = (
    *(lambda: float("nan"), lambda: -1, lambda: 2**62, lambda: "text", lambda: "{}", lambda: "[1"),
    *(lambda: np.zeros(0), lambda: np.zeros((2, 3)), lambda: b"\xff\xfe", lambda: np.array([b"a", b"b"])),
    *(lambda: np.float32(np.inf), lambda: np.arange(7), lambda: True, lambda: h5py.Empty("f8"), lambda: ""),
)


def _attribute(owner: h5py.HLObject, name: str, rng: np.random.Generator) -> None:
    del owner.attrs[name]
    if rng.random() < 0.7:
        owner.attrs[name] = STRANGE[int(rng.integers(len(STRANGE)))]()


def _item(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    values = file[name][()] if isinstance(file[name], h5py.Dataset) else None
    del file[name]
    choice = int(rng.integers(5))
    if choice == 0 or (values is None and choice < 3):
        return
    if choice in (1, 2) and isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.size:
        values = values.copy()
        values.flat[int(rng.integers(values.size))] = rng.choice([np.nan, np.inf, 1e300, -1.0, 0.0])
        file[name] = values if choice == 1 else values[..., :-1]
    else:
        file[name] = STRANGE[int(rng.integers(len(STRANGE)))]()
