"""``python -m tests.kill_online FIRST LAST``: kill ranks of online trainings at random, and see that nothing is lost.

A seed chooses the number of producers, which rank dies and when: before it makes its n-th sample, before its n-th step,
or by the clock. The command given again, on as many ranks as the seed says then, ends with the weights of a training
that nobody killed, to the bit. Samples are known by the flow they come from and their number in it: none is missing,
none that came again is another, and no more came again than between two checkpoints.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file

from closures.operators import artefact
from closures.training.experiment import train
from tests import runs
from tests.training.test_online import recipe_of, rows, same

LANES, BATCH = 3, 2  # flows of the recipe, and samples that a step may take up: a checkpoint follows each
FILL = 3  # samples that come before the first step, and the first checkpoint: one more than the watermark
SECONDS = 25.0  # within which a kill by the clock comes
STEPS = 8  # within the first so many samples or steps comes any other


def launch(root: Path, out: Path, count: int, rank: int, step: int, seconds: float | None) -> int:
    """The training on `count` ranks; after so many seconds rank `rank` is killed, if no step did it; the exit code."""
    words = (out, recipe_of(root).model_dump_json(), f"{out}.log", rank, step)
    process = runs.mpirun(count, "-m", "tests.training.online_once", *words)
    if seconds is not None:
        time.sleep(seconds)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        found = children.read_text().split() if children.exists() else []
        if found:
            os.kill(int(found[rank % len(found)]), signal.SIGKILL)
    done = runs.ended(process)
    assert done.code == 0 or rank >= 0, done.err
    return done.code


def attempt(seed: int, root: Path, whole: Path, samples: int) -> str:
    """Kill one rank, let the training end, and compare; tells what was done.

    Raises
    ------
    AssertionError : the weights differ, or a sample was lost or doubled.
    """
    draw, out = random.Random(seed), root / str(seed)
    count, again = draw.randint(2, 3), draw.randint(2, 3)
    rank, step = draw.randrange(count), draw.randint(1, STEPS)
    seconds = draw.uniform(1.0, SECONDS) if draw.random() < 0.4 else None
    code = launch(root, out, count, rank, 0 if seconds else step, seconds)
    launch(root, out, again, -1, 0, None)
    assert same(load_file(out / artefact.WEIGHTS), load_file(whole / artefact.WEIGHTS)), f"seed {seed}: weights differ"
    came = rows(Path(f"{out}.log"))
    numbers = {(lane, number) for lane, number, _ in came}
    assert len(set(came)) == len(numbers) == samples, f"seed {seed}: a sample is missing, or came again as another"
    twice = [int(line.split()[0]) for line, n in Counter(Path(f"{out}.log").read_text().splitlines()).items() if n > 1]
    first = twice.count(0)
    assert len(twice) == len(came) - samples, f"seed {seed}: a sample came thrice, or before another step"
    assert first <= FILL, f"seed {seed}: samples came twice, before steps {twice}"
    assert len(twice) - first <= BATCH, f"seed {seed}: samples came twice, before steps {twice}"
    for lane in range(LANES):
        own = sorted(number for of, number in numbers if of == lane)
        assert own == list(range(1, len(own) + 1)), f"seed {seed}: flow {lane} lost one"
    when = f"after {seconds:.1f} s" if seconds else f"at {'step' if rank == 0 else 'sample'} {step}"
    return f"rank {rank} of {count} {when}, exit code {code}; {again} ranks went on"


def campaign(first: int, last: int) -> int:
    """All seeds from `first` to before `last`; the number that failed."""
    torch.set_num_threads(1)
    failed = 0
    with tempfile.TemporaryDirectory() as base:
        root = Path(base)
        runs.write_case(root / "case")
        samples = train(recipe_of(root), root / "alone").card.stream["samples"]
        for seed in range(first, last):
            try:
                print(seed, attempt(seed, root, root / "alone", samples), flush=True)
            except AssertionError as problem:
                failed += 1
                print(f"FAILED {problem}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(campaign(int(sys.argv[1]), int(sys.argv[2])), 1))
