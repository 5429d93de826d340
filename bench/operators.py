"""The table of state operators: same trajectories, same processor time to train in, one step and long rollouts.

    solver generate channel180_coarse_dense --samples 4
    python bench/operators.py --data data/channel180_coarse_dense          what is missing: an hour on one core
    python bench/operators.py --data data/channel180_coarse_dense --only fno --seeds 1
    python bench/operators.py --render                                        the page from the numbers

Trainings are kept in runs/operators; bench/operators.json has the numbers, bench/operators.md is written from them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rollout import judge

from closures.coupling.frames import Trajectory
from closures.data.windows import TrajectoryFiles, Windows, split
from closures.operators import artefact, build
from closures.training.candidate import StateOperator
from closures.training.experiment import load_experiment, train
from closures.training.long_run import LongRun
from closures.training.own_les import teacher
from closures.training.recipe import Recipe
from solver.analysis.metrics import WALL_FLOW
from solver.errors import CaseError, Diverged
from solver.files.folder import write_text

HERE = Path(__file__).parent
PAGE, NUMBERS, TRAININGS = HERE / "operators.md", HERE / "operators.json", Path("runs/operators")
CHANNEL = {"periodic": [True, False, True]}
FACTFORMER = {"width": 32, "heads": 2, "multiplier": 2, "iterations": 5, "walls": 1}
OPERATORS: dict[str, dict[str, Any]] = {
    "fno": {"width": 20, "modes": [8, 12, 6], "layers": 4, "hidden": 64} | CHANNEL,
    "ifno": {"width": 24, "modes": [8, 12, 6], "iterations": 8, "hidden": 64} | CHANNEL,
    "ifactformer_o": FACTFORMER,
    "ifactformer_m": FACTFORMER,
    "differential": {"width": 20, "layers": 3, "lengths": [0.4, 0.04, 0.26], "gate": "tanh"} | CHANNEL,
}
RATES = {"fno": 1e-3, "ifno": 1e-3, "ifactformer_o": 1e-3, "ifactformer_m": 1e-3, "differential": 5e-3}
CASE, OVERRIDES = "cases/channel180_coarse", ("closure.name = none", "run.dtype = float32")
BATCH, APART, HELD = 4, 6, 0.3  # windows; every sixth frame begins one; the last trajectory that is no test chooses
MACRO, SETTLED = 1000, 250  # steps of a rollout, and those before its statistics
COLUMNS = {"one step": "one step", "five steps": "five steps"} | {m.name: m.label for m in WALL_FLOW}
WORDS = """\
# State operators side by side

Made by `bench/operators.py` on the filtered channel of `solver generate channel180_coarse_dense` (32 x 32 x 16 points,
frames 0.2 h/U_c apart): two trajectories of 301 frames to train on, a third chooses the epoch, the fourth is the test,
marked as such in the file: nothing was chosen on it. Each operator has the same windows, the same loss (relative L2 of
one step behind the projection, of increments), the same batch, AdamW with one cycle, and {budget:.0f} processor seconds
of one core, the validation after each epoch not counted; sizes are such that this is several epochs for all of them.
The published networks are larger and were trained on graphics cards for longer.

Errors of one and of five steps are of the fluctuation, relative, on the test trajectory (a frozen field has
{frozen:.0f} % after one step). Profiles are those of {macro} macro steps from a test frame, the first {settled} left
out, against those of the test trajectory as `solver compare` has them; "stays" is the number of steps before the guard
refuses an answer, which does not say that the flow is a right one. Median and range over seeds.
"""

OLD = """
**These numbers are older than that division.** They were made with three trajectories to train on, and the fourth both
chose the epoch and was judged; profiles were judged against all four. So errors are too small, by an unknown amount,
and the table does not rank the operators. `python bench/operators.py --data ...` makes it anew in an hour of one core.
"""


def recipe(name: str, data: Path, interval: float, epochs: int, seed: int) -> Recipe:
    """How one operator is trained."""
    return Recipe.model_validate(
        {
            "title": f"{name}, seed {seed}",
            "data": {"file": str(data), "validation": HELD, "apart": APART},
            "operator": {"name": name} | OPERATORS[name],
            "loss": {"kind": "projected_l2"},
            "equations": {
                "case": CASE,
                "overrides": OVERRIDES,
                "interval": interval,
                "scheme": "midpoint",
            },
            "optimiser": {"rate": RATES[name], "schedule": "one_cycle", "clip": 0.1},
            "loop": {"epochs": epochs, "batch": BATCH, "seed": seed, "device": "cpu"},
            "card": {"trained_on": "channel180_coarse: filtered DNS"},
        }
    )


def epochs(name: str, source: TrajectoryFiles, budget: float) -> int:
    """How many fit into `budget` processor seconds, by the cost of one batch; at least one."""
    network, domain = build(name, **OPERATORS[name]), source.domain
    windows = Windows(source, split(source, HELD)[0], apart=APART)
    batch = torch.stack([windows[i][0] for i in range(BATCH)])
    costs = []
    for _ in range(4):
        started = time.process_time()
        network(batch, domain).square().mean().backward()
        costs.append(time.process_time() - started)
    return max(1, round(budget / (min(costs) * len(windows) / BATCH)))


def measure(name: str, data: Path, seed: int, budget: float, count: int | None) -> dict[str, Any]:
    """Train and test one operator; a record. `count`: epochs that its first seed had."""
    source = TrajectoryFiles(data)
    if not source.test:
        raise CaseError(f"{data}: marks no trajectory as a test: make it with `solver generate`")
    folder = TRAININGS / f"{name}-{seed}"
    begun = folder / "recipe.toml"  # one that was interrupted goes on, whatever the machine is doing now
    count = load_experiment(begun).loop.epochs if begun.exists() else count or epochs(name, source, budget)
    made = recipe(name, data, source.step, count, seed)
    started = time.process_time()
    try:
        training = train(made, folder)
    except Diverged as error:
        return {"operator": name, "seed": seed, "failure": str(error)}
    seconds = time.process_time() - started
    found = artefact.load(folder, source.domain)
    head = Trajectory(found.predictor(), teacher(made.equations, made.loop.device))
    surrogate = StateOperator(made.operator, str(folder), {"base": "none"})
    flow = LongRun(surrogate.closure, source, source.test, CASE, OVERRIDES, every_steps=1)
    record = {"operator": name, "seed": seed, "epochs": made.loop.epochs, "seconds": seconds, "budget": budget}
    record |= {"parameters": training.card.parameters, "frozen": training.card.metrics["frozen_fluctuation_error"]}
    record |= {"training": split(source, HELD)[0], "validation": split(source, HELD)[1], "test": list(source.test)}
    return record | judge(head, flow, source.test[0], MACRO, SETTLED)


def page(records: list[dict[str, Any]]) -> str:
    """The Markdown page of the numbers."""
    whole = [r for r in records if "failure" not in r]
    words = WORDS.format(budget=whole[0]["budget"], frozen=100 * whole[0]["frozen"], macro=MACRO, settled=SETTLED)
    lines = [
        words if all("test" in r for r in whole) else words + OLD,
        f"| operator | weights | epochs | {' [%] | '.join(COLUMNS.values())} [%] | stays | ms a step | seeds |",
    ]
    lines.append("| :-- |" + " --: |" * (len(COLUMNS) + 5))
    for name in OPERATORS:
        own = [r for r in whole if r["operator"] == name]
        if own:
            cells = [_spread([r["errors"][column] for r in own]) for column in COLUMNS]
            cells += [_spread([r["stays"] for r in own]), _spread([r["milliseconds"] for r in own]), str(len(own))]
            lines.append(f"| {name} | {own[0]['parameters']} | {own[0]['epochs']} | " + " | ".join(cells) + " |")
    lines += [f"\n{r['operator']}, seed {r['seed']}: {r['failure']}" for r in records if "failure" in r]
    return "\n".join(lines) + "\n"


def _spread(values: list[float | None]) -> str:
    """Median and range; a dash where a rollout left no statistics."""
    found = [v for v in values if v is not None]
    if not found:
        return "-"
    shown = (statistics.median(found), min(found), max(found))
    middle, least, most = (f"{v:.3g}" if v < 1000 else f"{v:.0f}" for v in shown)
    return middle if len(found) == 1 else f"{middle} ({least} .. {most})"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(OPERATORS), choices=list(OPERATORS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=float, default=240.0, help="processor seconds of a training")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if not (options.data or options.render):
        parser.error("--data: give the file that `solver generate channel180_coarse_dense` makes")
    torch.set_num_threads(1)
    records = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else []
    if not options.render:
        records = [r for r in records if "test" in r or "failure" in r]  # older ones were judged by what chose them
    known = {(r["operator"], r["seed"]) for r in records}
    for seed in range(0 if options.render else options.seeds):
        for name in options.only:
            if (name, seed) not in known:
                count = next((r["epochs"] for r in records if r["operator"] == name and "epochs" in r), None)
                records.append(measure(name, options.data, seed, options.budget, count))
                write_text(NUMBERS, json.dumps(records, indent=1) + "\n")
                print(records[-1], flush=True)
    write_text(PAGE, page(records))


if __name__ == "__main__":
    main()
