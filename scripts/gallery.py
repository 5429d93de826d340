"""The pictures of docs/reference/cases.md: every shipped case, most of them run for seconds of one core, and drawn.

    python scripts/gallery.py                       # all of them, or those named
    python scripts/gallery.py channel1000 --run RUN  # of a run of that command which is there
    python scripts/reference.py                     # then the page

How each run is cut short stands in `scripts/gallery.toml`, and under its picture. They show what a case is, not what
it is worth: for that see docs/results.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from PIL import Image

from solver.cli import commands

TABLE = Path(__file__).with_suffix(".toml")
INTO = Path(__file__).parents[1] / "docs" / "images" / "cases"
LARGEST = 60_000  # bytes of a picture
WIDTHS = (900, 760, 640, 520)  # pixels, the first that is not too large
COLOURS = 128


def solver(*words: str) -> None:
    """A command in this process."""
    if code := commands.build()(list(words), prog_name="solver", standalone_mode=False):
        raise RuntimeError(f"solver {' '.join(words)}: ended with {code}")


def small(picture: Path, out: Path) -> int:
    """Write `picture` in few colours and narrow; its size in bytes."""
    with Image.open(picture) as opened:
        full = opened.convert("RGB")
    for width in WIDTHS:
        size = width, round(full.height * width / full.width)
        narrow = full.resize(size, Image.Resampling.LANCZOS).quantize(COLOURS, kmeans=3, dither=Image.Dither.NONE)
        narrow.save(out, optimize=True)
        if out.stat().st_size <= LARGEST:
            break
    return out.stat().st_size


def make(name: str, figure: str, sets: list[str], folder: Path) -> int:
    """Run one case into `folder` unless its run is there, draw it, keep one picture."""
    own = ["run.fuse=off"] if figure in ("vortices", "solids") else ["run.fuse=off", "output.snapshot=0"]
    changes = [word for change in (*sets, *own) for word in ("--set", change)]
    if not folder.exists():
        solver("run", name, *changes, "--out", str(folder), "--quiet")
    solver("view" if figure == "vortices" else "plot", str(folder))
    return small(folder / "figures" / f"{figure}.png", INTO / f"{name}.png")


def main() -> int:
    """Make the pictures that are asked for."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="CASE", help=f"of {', '.join(table)}")
    parser.add_argument("--run", type=Path, help="a run of the one case that is named")
    asked = parser.parse_args()
    INTO.mkdir(parents=True, exist_ok=True)
    for name in asked.names or table:
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            size = make(name, table[name]["figure"], table[name]["set"], asked.run or Path(folder) / "run")
        print(f"{name}: {size} bytes, {time.process_time() - begun:.0f} s of one core", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
