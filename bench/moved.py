"""Which lines of the speed table have moved since it was stored: what a nightly job runs after `bench/speed.sh NEW`.

    bench/speed.sh runs/speed.json && python bench/moved.py docs/results/speed.json runs/speed.json

On the machine of the stored table times are compared; on another one, of the whole step, its ratio to ten transforms
in cache, which was measured in the same minutes (`solver bench`). Exits with 1 where a line is slower by more than
`--within`, so that the job is red.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Record = dict[str, Any]
SAME = ("flow", "grid", "closure", "dtype", "device", "ranks")  # what makes a line
LEAST = 0.02  # of a step: parts that take less are not named


def lines(records: Sequence[Record]) -> dict[str, Record]:
    """The records by what they time; the last one of each counts."""
    return {" ".join(_word(record[key]) for key in SAME): record for record in records}


def _word(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def changes(stored: Sequence[Record], found: Sequence[Record]) -> Iterator[tuple[str, str, float]]:
    """Line, quantity, and how many times as much of it there is now; only lines that both have.

    The quantities are the step and, on the machine of the stored record, each part of it that takes `LEAST`.
    """
    before = lines(stored)
    for name, now in lines(found).items():
        if name not in before:
            continue
        old = before[name]
        if old["machine"] != now["machine"]:
            yield name, "step / ten transforms", now["ten_transforms_ratio"] / old["ten_transforms_ratio"]
            continue
        yield name, "step", now["seconds_per_step"] / old["seconds_per_step"]
        for part, ms in now["milliseconds"].items():
            if part in old["milliseconds"] and ms > 1e3 * LEAST * now["seconds_per_step"]:
                yield name, part, ms / old["milliseconds"][part]


def main(
    stored: Annotated[Path, typer.Argument(help="JSON of `solver bench`")],
    found: Annotated[Path, typer.Argument(help="JSON of `solver bench`, today")],
    within: Annotated[float, typer.Option(min=0, help="share of its time that a line may move")] = 0.05,
) -> None:
    """Print what has moved, the whole step first in each line; fail if a step is slower."""
    old, new = (json.loads(path.read_text(encoding="utf-8")) for path in (stored, found))
    slower = compared = 0
    for name, what, ratio in changes(old, new):
        whole = what.startswith("step")
        compared += whole
        slower += whole and ratio > 1 + within
        if abs(ratio - 1) > within:
            print(f"{name}: {what} x {ratio:.2f}")
    print(f"{compared} lines compared, {slower} slower by more than {within:.0%}")
    raise typer.Exit(1 if slower or not compared else 0)


if __name__ == "__main__":
    typer.run(main)
