"""What `test_farm.py` launches: makes the data set of a recipe, slowly if asked, so that it can be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from closures.linear_families import generate
from solver.run.machine import prepare_process


def main(recipe: str, out: str, pause: str) -> None:
    prepare_process()
    solve = generate.solve_in_turn

    def slowly(*arguments):
        for found in solve(*arguments):
            time.sleep(float(pause))
            yield found

    generate.solve_in_turn = slowly
    generate.generate(Path(recipe), Path(out), quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
