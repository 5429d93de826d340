"""The table of state operators: same trajectories, same search for a rate, same processor time, one step and long runs.

    solver run channel180_coarse --closure none --set grid.x.n=64 --set grid.y.n=64 --set grid.z.n=48 --set time.end=60
      --set time.frame=0.39 --set run.dtype=float32 --out start
    solver generate channel180_coarse_dense --samples 4 --set valid=1 --set 'start.perturbation=[0.0, 0.3]'
      --set grid.x.n=64 --set grid.y.n=64 --set grid.z.n=48 --set sampling.spin_up=24 --set sampling.snapshots=151
      --set sampling.cfl=1.6 --set sampling.frame=0.39
    python bench/operators.py --data data/channel180_coarse_dense          what is missing
    python bench/operators.py --data data/channel180_coarse_dense --only fno --seeds 1
    python bench/operators.py --render                                        the page from the numbers

Trainings are kept in runs/operators; bench/operators.json has the numbers, bench/operators.md is written from them.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from rollout import few_steps, many_steps

from closures.coupling.frames import Trajectory
from closures.data.profiles import filtered_channel
from closures.data.windows import TrajectoryFiles, split
from closures.operators import artefact
from closures.training import offline
from closures.training.candidate import StateOperator
from closures.training.experiment import load_experiment, train
from closures.training.long_run import LongRun
from closures.training.own_les import teacher
from closures.training.processes import process_group
from closures.training.recipe import Recipe
from closures.training.study import Trained
from solver.analysis.channel import ERRORS, errors, table_of
from solver.analysis.metrics import WALL_FLOW
from solver.errors import CaseError, Diverged
from solver.files.folder import write_text

HERE = Path(__file__).parent
PAGE, NUMBERS, TRAININGS = HERE / "operators.md", HERE / "operators.json", Path("runs/operators")
CHANNEL = {"periodic": [True, False, True]}
FACTFORMER = {"width": 24, "heads": 2, "multiplier": 2, "iterations": 3, "walls": 1}
OPERATORS: dict[str, dict[str, Any]] = {
    "fno": {"width": 20, "modes": [8, 12, 6], "layers": 4, "hidden": 64} | CHANNEL,
    "ifno": {"width": 24, "modes": [8, 12, 6], "iterations": 4, "hidden": 64} | CHANNEL,
    "mgno": {"width": 8, "layers": 3, "levels": 4} | CHANNEL,
    "unet": {"width": 12, "levels": 3} | CHANNEL,
    "differential": {"width": 20, "layers": 3, "lengths": [0.4, 0.04, 0.26], "gate": "tanh"} | CHANNEL,
    "ifactformer_o": FACTFORMER,
    "ifactformer_m": FACTFORMER,
}
RATES = 5e-4, 2e-3, 8e-3  # that are tried with every operator
SEARCH, SEEDS = 640_517, (310_911, 472_063, 885_206)
CASE, OVERRIDES = "cases/channel180_coarse", ("closure.name = none", "run.dtype = float32")
BATCH, APART, SEARCH_APART = 4, 4, 12  # windows; frames from one to the next, and in a search
MACRO, SETTLED = 1000, 250  # steps of a long run, and those before its statistics
STEPS = "one step", "five steps"
COLUMNS = {name: name for name in STEPS} | {m.name: m.label for m in WALL_FLOW}
WORDS = """\
# State operators side by side

Made by `bench/operators.py` on a channel at Re_tau = 180 filtered to 32 x 32 x 16 points (`solver generate
channel180_coarse_dense` with a direct simulation of 64 x 64 x 48 points, coarser than the recipe's): {train}
trajectories of {frames} frames, {interval:g} h/U_c apart, to train on; another chooses rate and epoch; the last is the
test, marked as such in the set, and was looked at once, by what had been chosen before. With each operator the rates
{rates} are tried, {search:.0f} processor seconds each, from first weights of their own, and the least
validation loss decides; then it is trained anew, from other first weights, for {budget:.0f} processor seconds of one
core, the validation after each epoch not counted. Where that ends with a greater validation loss than the search had,
the rate is lost over more steps, and the next best is taken. Windows, loss (relative L2 of one step behind the
projection, of increments), batch and schedule (AdamW, one cycle) are the same for all. `mgno` is a multigrid neural
operator, `unet` a U-Net, both in three dimensions (`closures/operators`).

Errors of one and of five steps are of the fluctuation, relative. Profiles are those of {macro} macro steps from a test
frame, the first {settled} left out, against those of the test trajectory as `solver compare` has them. "Stays" is the
number of steps before the guard refuses an answer, or the flow is lost; that it stays does not say that the flow is a
right one. Median and range where there are several seeds. The row of a frozen field says what is learned at all; that
of the validation trajectory how far two flows of the set are apart, below which no difference of profiles means much.
"""
LIMITS = """
Limits: one grid and one Reynolds number; minutes of one core that others share, where the published networks are larger
and were trained on graphics cards for hours; three rates, {seeds}; sizes were not searched. Processor seconds depend on
what else the machine does by up to a half. A rate at an end of the three (marked *) might be beaten by one beyond.
"""


def recipe(name: str, data: Path, interval: float, rate: float, epochs: int, seed: int, apart: int) -> Recipe:
    """How one operator is trained."""
    return Recipe.model_validate(
        {
            "title": f"{name}, rate {rate:g}, seed {seed}",
            "data": {"file": str(data), "apart": apart},
            "operator": {"name": name} | OPERATORS[name],
            "loss": {"kind": "projected_l2"},
            "equations": {
                "case": CASE,
                "overrides": OVERRIDES,
                "interval": interval,
                "scheme": "midpoint",
            },
            "optimiser": {"rate": rate, "schedule": "one_cycle", "clip": 0.1},
            "loop": {"epochs": epochs, "batch": BATCH, "seed": seed, "device": "cpu"},
            "card": {"trained_on": "channel180_coarse: filtered DNS"},
        }
    )


class Race:
    """Trainings of one operator on one set.

    Parameters
    ----------
    name : of the operator.
    data : the set, whose trajectories are for training, validation and tests.

    Raises
    ------
    CaseError : the set has no trajectory for validation, or none for a test.
    """

    def __init__(self, name: str, data: Path) -> None:
        self.name, self.data, self.source = name, data, TrajectoryFiles(data)
        if not (self.source.test and self.source.valid):
            raise CaseError(f"{data}: marks no trajectory for validation and for a test: see `solver generate`")

    def seconds(self) -> float:
        """Processor time of one batch, with the projection behind the network: the least of several."""
        tried = recipe(self.name, self.data, self.source.step, RATES[0], 1, SEARCH, APART)
        with process_group("cpu") as processes:
            made = offline.prepare(tried, TRAININGS, None, processes)
        batch, costs = torch.stack([made.training[i] for i in range(BATCH)]), []  # type: ignore[index]  # windows
        for _ in range(3):
            started = time.process_time()
            made.objective(batch, list(range(BATCH))).backward()
            costs.append(time.process_time() - started)
        return min(costs)

    def folder(self, rate: float, seed: int) -> Path:
        """Of a training."""
        return TRAININGS / f"{self.name}-{rate:g}-{seed}"

    def train(self, rate: float, seed: int, apart: int, batches: float) -> Trained | None:
        """So many batches of training, at least one epoch; one that was interrupted goes on. None: it diverged."""
        folder = self.folder(rate, seed)
        windows = len(split(self.source, 0.5)[0]) * -(-(self.source.shape[1] - 1) // apart)
        count = max(1, round(batches / (windows // BATCH)))
        if (begun := folder / "recipe.toml").exists():
            count = load_experiment(begun).loop.epochs
        try:
            return train(recipe(self.name, self.data, self.source.step, rate, count, seed, apart), folder)
        except Diverged:
            return None

    def search(self, budget: float) -> dict[str, Any]:
        """The validation loss of each rate, None where a training diverged; and the cost of a batch."""
        cost, losses = self.seconds(), []
        for rate in RATES:
            made = self.train(rate, SEARCH, SEARCH_APART, budget / cost)
            losses.append(None if made is None or made.progress is None else made.progress.best)
        return {"losses": losses, "batch_seconds": cost, "search": budget}

    def measure(self, found: dict[str, Any], seed: int, budget: float) -> dict[str, Any]:
        """Train with the best rate that does not lose over more steps what it had gained over few; test; a record."""
        least = min(loss for loss in found["losses"] if loss is not None)
        order = sorted((loss, rate) for loss, rate in zip(found["losses"], RATES, strict=True) if loss is not None)
        lost: list[float] = []
        record = {"operator": self.name, "seed": seed, "budget": budget, "lost": lost} | found
        for _, rate in order:
            started = time.process_time()
            training = self.train(rate, seed, APART, budget / found["batch_seconds"])
            if training is not None and training.progress is not None and training.progress.best < least:
                break
            lost.append(rate)
        else:
            return record | {"failure": "no rate keeps over more steps what it gains over few"}
        record |= {"rate": rate, "seconds": time.process_time() - started}  # with the validation
        record |= {"epochs": training.progress.epochs, "best_epoch": training.progress.best_epoch + 1}
        record |= {"validation_loss": training.progress.best, "parameters": training.card.parameters}
        predictor = artefact.load(training.folder, self.source.domain).predictor()
        kept = load_experiment(training.folder / "recipe.toml")
        head = Trajectory(predictor, teacher(kept.equations, kept.loop.device))
        return record | few_steps(head, self.source, self.source.test[0])

    def run_on(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with what many steps of its network come to."""
        folder = self.folder(record["rate"], record["seed"])
        surrogate = StateOperator(load_experiment(folder / "recipe.toml").operator, str(folder), {"base": "none"})
        flow = LongRun(surrogate.closure, self.source, self.source.test, CASE, OVERRIDES, every_steps=1)
        return record | many_steps(flow, self.source.test[0], MACRO, SETTLED)


def facts(data: Path) -> dict[str, Any]:
    """Of the set: its division, and how far the validation trajectory's profiles are from those of the test."""
    source = TrajectoryFiles(data)
    training, validation = split(source, 0.5)
    found, means = filtered_channel(data)
    reference = table_of(found, means[list(source.test)].mean(axis=(0, 1)))
    apart = errors(found, reference, means[validation].mean(axis=(0, 1)), "bulk")
    told = {"frames": source.shape[1], "interval": source.step, "sha256": source.sha256}
    told |= {"training": training, "validation": validation, "test": list(source.test)}
    return told | {"apart": {name: 100 * float(v) for name, v in zip(ERRORS, apart, strict=True)}}


def page(found: dict[str, Any]) -> str:
    """The Markdown page of the numbers."""
    about, records = found["set"], found["records"]
    whole = [r for r in records if "failure" not in r]
    rates = ", ".join(f"{rate:g}" for rate in RATES[:-1]) + f" and {RATES[-1]:g}"
    count = max(len([r for r in whole if r["operator"] == name]) for name in OPERATORS)
    words = WORDS.format(
        train={2: "two"}.get(len(about["training"]), len(about["training"])),
        frames=about["frames"],
        interval=about["interval"],
        rates=rates,
        search=whole[0]["search"],
        budget=whole[0]["budget"],
        macro=MACRO,
        settled=SETTLED,
    )
    head = (
        f"| operator | weights | rate | epochs | {' [%] | '.join(COLUMNS.values())} [%] | stays | ms a step | seeds |"
    )
    lines = [words, head, "| :-- |" + " --: |" * (len(COLUMNS) + 6)]
    for name in OPERATORS:
        own = [r for r in whole if r["operator"] == name]
        if own:
            rate = f"{own[0]['rate']:g}" + ("*" if own[0]["rate"] in (RATES[0], RATES[-1]) else "")
            cells = [_spread([(r["errors"] | r.get("profiles", {})).get(c) for r in own]) for c in COLUMNS]
            cells += [_spread([r.get(key) for r in own]) for key in ("stays", "milliseconds")]
            cells += [str(len(own))]
            lines.append(f"| {name} | {own[0]['parameters']} | {rate} | {own[0]['epochs']} | {' | '.join(cells)} |")
    beside = {"a frozen field": whole[0]["frozen"], "the validation trajectory": about["apart"]}
    for name, values in beside.items():
        lines.append(f"| {name} | | | | {' | '.join(_spread([values.get(c)]) for c in COLUMNS)} | | | |")
    lines.append(supported(whole))
    lost = [f"{r['operator']} with {rate:g}" for r in whole for rate in r.get("lost", ())]
    lines += [f"\nRates that were best in the search and lost in the training: {', '.join(lost)}."] if lost else []
    lines += [f"\n{r['operator']}, seed {r['seed']}: {r['failure']}" for r in records if "failure" in r]
    if waiting := sorted({r["operator"] for r in whole if "stays" not in r}):
        lines.append(f"\nNot run over many steps yet: {', '.join(waiting)}.")
    return "\n".join(lines) + "\n" + LIMITS.format(seeds="one seed" if count == 1 else f"{count} seeds at most")


def supported(records: list[dict[str, Any]]) -> str:
    """What the rows say, in two sentences."""
    names = [name for name in OPERATORS if any(r["operator"] == name for r in records)]
    one = {n: statistics.median(r["errors"][STEPS[0]] for r in records if r["operator"] == n) for n in names}
    order = ", ".join(f"{n} {one[n]:.3g} %" for n in sorted(names, key=one.__getitem__))
    run = [r for r in records if "stays" in r]
    stay = sum(r["stays"] >= MACRO for r in run)
    right = sum((r["profiles"]["u_mean"] or math.inf) < 5 for r in run)
    told = f"{stay} of {len(run)} long runs reach {MACRO} steps, {right} with a mean profile to within 5 %"
    return f"\nThe error of one step is, in order: {order}. {told}."


def _spread(values: list[float | None]) -> str:
    """Median and range; a dash where a long run left no statistics."""
    found = [v for v in values if v is not None]
    if not found:
        return "-"
    shown = (statistics.median(found), min(found), max(found))
    middle, least, most = (f"{v:.3g}" if v < 1000 else f"{v:.0f}" for v in shown)
    return middle if len(found) == 1 else f"{middle} ({least} .. {most})"


def keep(found: dict[str, Any], k: int) -> None:
    """Write the numbers, and show one record."""
    write_text(NUMBERS, json.dumps(found, indent=1) + "\n")
    print(found["records"][k], flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(OPERATORS), choices=list(OPERATORS))
    parser.add_argument("--seeds", type=int, default=1, choices=range(1, len(SEEDS) + 1))
    parser.add_argument("--search", type=float, default=20.0, help="processor seconds of a training in the search")
    parser.add_argument("--budget", type=float, default=120.0, help="processor seconds of a training")
    parser.add_argument("--render", action="store_true")
    options = parser.parse_args()
    if not (options.data or options.render):
        parser.error("--data: give the set that `solver generate channel180_coarse_dense` makes")
    torch.set_num_threads(1)
    found = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {"records": []}
    records = found["records"]
    for seed in () if options.render else SEEDS[: options.seeds]:
        found["set"] = facts(options.data)
        for name in options.only:
            own = [r for r in records if r["operator"] == name]
            if any(r["seed"] == seed for r in own):
                continue
            race, known = Race(name, options.data), ("losses", "batch_seconds", "search")
            searched = {key: own[0][key] for key in known} if own else race.search(options.search)
            records.append(race.measure(searched, seed, options.budget))
            keep(found, -1)
        for k, record in enumerate(records):
            if "failure" not in record and "stays" not in record:
                records[k] = Race(record["operator"], options.data).run_on(record)
                keep(found, k)
    write_text(PAGE, page(found))


if __name__ == "__main__":
    main()
