"""What `test_farm.py` launches: makes the data set of a recipe, slowly if asked, so that it can be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from closures.data import farm
from solver.machine import prepare_process


def main(recipe: str, out: str, pause: str) -> None:
    prepare_process()
    solve = farm.solve_in_turn

    def slowly(*arguments):
        for found in solve(*arguments):
            time.sleep(float(pause))
            yield found

    farm.solve_in_turn = slowly
    farm.generate(Path(recipe), Path(out), quiet=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
