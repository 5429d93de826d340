"""Processor seconds of a shipped corrector by ranks: ``python bench/learned.py [--points 96 72 96] [--ranks 1 2 4]``.

A channel of so many points; each row is summed over the ranks. `answer` is what the network alone takes for a change of
the velocity, `correction` that with the way to its points and back, guard and projection, `asked` what it takes to find
that a flow is foreign (nan where the closure knows no flows), `step` a step of the solver with the model beside it.
Waits count as far as a rank spins. ``--closure`` names another corrector. With ``--whole`` rank 0 is asked about the
whole field, as about networks that do not say how far they read.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from closures.coupling.companion import Companion
from closures.coupling.guard import Overruled
from closures.coupling.update import Update
from solver.errors import SolverError
from solver.parallel import ranks
from solver.run.build import build, source_of

PARTS = ("answer", "correction", "asked", "step")


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Of all processors, for one of several, after one more."""
    action()
    ranks.barrier()
    started = time.process_time()
    for _ in range(repeats):
        action()
    used = time.process_time() - started
    return sum(ranks.world().allgather(used)) / repeats


def measure(points: tuple[int, int, int], repeats: int, whole: bool, name: str) -> dict[str, float]:
    """The parts on the ranks of this launch."""
    sizes = [f"grid.{axis}.n={n}" for axis, n in zip("xyz", points, strict=True)]
    periods = ("grid.x.length=12.5", "grid.z.length=6.2")  # not those of its training, whose points it would see
    source = source_of(Path("channel180_coarse"), ("run.device=cpu", *sizes, *periods), name)
    simulation = build(source)
    closure, velocity = simulation.closure, simulation.velocity
    assert isinstance(closure, Companion)
    guarded = closure.update
    if whole:
        predictor, grid = guarded.update.predictor, guarded.update.grid
        assert predictor is not None
        predictor.network.reach = "global"
        guarded.update = Update(predictor, grid)
    settings = guarded.guard.settings
    operators, project = simulation.operators, simulation.flow.solenoidal
    known = settings.model_copy(update={"familiar": 1e30, "size": 1e30, "growth": 1e30})
    foreign = settings.model_copy(update={"familiar": 1e-30})

    def answer() -> None:
        sharing = guarded.update.sharing(operators)
        sharing.verdict(lambda: guarded.update.evaluated(operators, seen))

    def corrected() -> None:
        guarded.guard.settings = known
        guarded(velocity, project)

    def asked() -> None:
        guarded.guard.settings = foreign
        try:
            guarded(velocity, project)
        except Overruled:
            return
        raise SolverError("a flow at a distance of zero")

    guarded.size = 1e30
    seen = guarded.update.seen(velocity)
    found = {"answer": seconds(answer, repeats), "correction": seconds(corrected, repeats)}
    found["asked"] = seconds(asked, repeats) if guarded.known else math.nan
    closure.start = 1e30
    return found | {"step": seconds(simulation.step, repeats)}


def main() -> None:
    """Measure on the ranks of this launch, or launch with each number of ranks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs=3, default=(96, 72, 96))
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--closure", default="differential_corrector")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        torch.set_grad_enabled(False)
        torch.set_num_threads(1)
        try:
            found = measure(tuple(given.points), given.repeats, given.whole, given.closure)
        except SolverError as problem:
            sys.exit(str(problem))
        if ranks.is_root():
            print(json.dumps(found))
        return
    print("| ranks | " + " | ".join(PARTS) + " |")
    print("| --: |" + " --: |" * len(PARTS))
    words = ["--measure", "--repeats", str(given.repeats), "--points", *map(str, given.points)]
    words += ["--closure", given.closure]
    words += ["--whole"] if given.whole else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    for count in given.ranks:
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(count), sys.executable, __file__, *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(done.stderr.strip() or f"mpirun ended with {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {count} | " + " | ".join(f"{found[part]:.3g}" for part in PARTS) + " |", flush=True)


if __name__ == "__main__":
    main()
