"""What a GPU makes of the solver, in under ten minutes and one command.

    python bench/gpu.py                   the table below is filled; the numbers go to bench/gpu.json
    python bench/gpu.py --short           tiny sizes, on a CPU where there is no GPU: whether the script works

Ceilings of the device; flows and closures the same as on the CPU; where a step waits for the device; transforms of x
and z in lines against those in planes; steps as CUDA graphs; times of a step, eager and fused, with
kernels and memory; milliseconds a step of every shipped closure. A section that fails says so and leaves the others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from closures.registry.registry import create, names
from solver.case.case import load_case
from solver.discretisation import fft, fusion
from solver.discretisation.timers import closure_fraction
from solver.errors import SolverError
from solver.files.folder import write_json
from solver.flow.graph import choose_recorder
from solver.flow.simulation import Simulation
from solver.parallel import ranks
from solver.parallel.late import wait_for
from solver.run import speed
from solver.run.build import Source, build

ROOT = Path(__file__).parents[1]
NUMBERS = ROOT / "bench" / "gpu.json"
SECONDS = 540.0  # in all
SAME = 1e-11  # relative difference of two devices after ten steps

Shape = tuple[int, int, int]


@dataclass
class Bench:
    """The device, how large, and what is found."""

    device: torch.device
    short: bool
    began: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds."""
        return SECONDS - (time.perf_counter() - self.began)

    @property
    def is_cuda(self) -> bool:
        """Whether there are graphs, profiles and counts of memory."""
        return self.device.type == "cuda"

    def clock(self, function: Callable[[], object], repeats: int = 5, warm: int = 2) -> float:
        """Median seconds of a call."""
        for _ in range(warm):
            function()
        times = []
        for _ in range(1 if self.short else repeats):
            wait_for(self.device)
            start = time.perf_counter()
            function()
            wait_for(self.device)
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def flow(self, shape: Shape, kind: str, closure: str, device: str = "auto") -> Simulation:
        """The flow that `solver bench` times."""

        def make(grid: Any, nu: float) -> Any:
            return create(closure, grid=grid, nu=nu, options={})

        return speed.flow_simulation(shape, kind, device, torch.float64, make)


def ceilings(b: Bench) -> dict[str, float]:
    """TB/s of a copy, read and written; TFLOP/s of the float64 products of the pressure solve."""
    n = 2**16 if b.short else 2**29
    ny, m = (32, 200) if b.short else (512, 116_622)
    a = torch.randn(n, dtype=torch.float64, device=b.device)
    copy = 16 * n / b.clock(a.clone) / 1e12
    q = torch.randn(ny, ny, dtype=torch.float64, device=b.device)
    f = torch.randn(2, ny, m, dtype=torch.float64, device=b.device)
    return {"copy TB/s": copy, "products TFLOP/s": 4 * ny * ny * m / b.clock(lambda: q @ f) / 1e12}


def same_as_cpu(b: Bench) -> dict[str, Any]:
    """Largest relative difference of the velocity's coefficients after ten steps on both devices."""
    found: dict[str, Any] = {}
    for kind, closure in (("channel", "dynamic_smagorinsky"), ("channel", "wale"), ("box", "dynamic_smagorinsky")):
        states = []
        for device in ("cpu", "auto"):
            flow = b.flow((12, 8, 8), kind, closure, device)
            for _ in range(2 if b.short else 10):
                flow.step()
            states.append([c.cpu() for c in flow.velocity.coefficients])
        scale = max(float(c.abs().max()) for c in states[0])
        difference = max(float((x - y).abs().max()) for x, y in zip(*states, strict=True)) / scale
        found[f"{kind} {closure}"] = difference
    return found | {"same": max(found.values()) < SAME}


def waits(b: Bench) -> dict[str, Any]:
    """Where a step synchronises with the device, by torch's own account."""
    if not b.is_cuda:
        return {"not measured": "only CUDA tells"}
    found: dict[str, Any] = {}
    for closure in ("none", "dynamic_smagorinsky", "wale", "tbnn"):
        flow = b.flow((32, 48, 32), "channel", closure)
        for _ in range(9):
            flow.step()
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(3):
                flow.step()
        torch.cuda.set_sync_debug_mode("default")
        places = [f"{os.path.relpath(w.filename, ROOT)}:{w.lineno}" for w in seen]
        found[closure] = {"a step": len(seen) / 3, "places": {place: places.count(place) / 3 for place in set(places)}}
    return found


def layouts(b: Bench) -> dict[str, float]:
    """Ns a point of a field out and a flux back, and of all those of a stage: x and z in lines, and in planes."""
    planes, nx, nz = (4, 24, 24) if b.short else (256, 768, 768)
    hx, cz = (nx - 1) // 3, (nz - 1) // 3 + 1
    c = torch.randn(2, planes, 2 * hx + 1, cz, dtype=torch.float64, device=b.device)
    f = torch.randn(planes, nx, nz, dtype=torch.float64, device=b.device)
    ns = {}
    for way, engine in fft.BY_TORCH.items():
        out = b.clock(lambda engine=engine: engine.plane_fields(c, nx, nz))
        back = b.clock(lambda engine=engine: engine.plane_modes(f, (hx, cz - 1), c))
        ns |= {f"out, {way}": out, f"back, {way}": back, f"stage, {way}": 3 * out + 7 * back}
    return {name: 1e9 * seconds / (planes * nx * nz) for name, seconds in ns.items()}


def by_graphs(flow: Simulation) -> Simulation | None:
    """The same flow, whose steps are graphs; None where they cannot be."""
    recorder = choose_recorder("auto", flow.flow)
    return None if recorder is None else Simulation(flow.flow, flow.state, flow.control, recorder)


def graph(b: Bench) -> dict[str, Any]:
    """Milliseconds of a step, kernel by kernel and as CUDA graphs, with transforms in lines and in planes."""
    found: dict[str, Any] = {}
    for shape in ((8, 8, 8),) if b.short else ((32, 48, 32), (64, 96, 64), (128, 128, 128)):
        for closure, engine in itertools.product(("none", "wale", "dynamic_smagorinsky"), fft.BY_TORCH):
            flow = b.flow(shape, "channel", closure)
            flow.operators.transform.engine = engine
            row = found[f"{'x'.join(map(str, shape))} {closure} {engine}"] = {"ms": 1e3 * b.clock(flow.step, 9, 3)}
            if recorded := by_graphs(flow):
                row["graph ms"] = 1e3 * b.clock(recorded.step, 9, 3)  # the first steps record
                row["finite"] = bool(torch.isfinite(recorded.velocity.coefficients[0]).all())
    return found


def times(b: Bench) -> list[dict[str, Any]]:
    """Milliseconds a step, ns a point and stage, kernels a step and the time they take, GPU memory."""
    sizes = ((8, 8, 8),) if b.short else ((32, 48, 32), (64, 96, 64), (128,) * 3, (256,) * 3, (512,) * 3)
    rows = []
    for shape in sizes:
        for closure in ("none", "dynamic_smagorinsky"):
            for fused in (False, True) if fusion.compiler_available(b.device.type) and not b.short else (False,):
                if b.left > 120:
                    rows.append(row(b, shape, closure, fused))
                    print("   ", rows[-1], flush=True)
    return rows


def row(b: Bench, shape: Shape, closure: str, fused: bool) -> dict[str, Any]:
    """One line of `times`; a flow that does not fit says so."""
    found: dict[str, Any] = {"grid": list(shape), "closure": closure, "fused": fused}
    fusion.enable(fused)
    try:
        if b.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        flow, block = b.flow(shape, "channel", closure), 3
        seconds = b.clock(lambda: [flow.step() for _ in range(block)], 3) / block
        found |= {"ms": 1e3 * seconds, "ns/pt/stage": seconds / 3 / float(np.prod(shape)) * 1e9}
        if b.is_cuda:
            found["GiB"] = torch.cuda.max_memory_allocated() / 2**30
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
                flow.step()
                wait_for(b.device)
            kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
            found |= {"kernels": len(kernels), "busy ms": sum(e.device_time for e in kernels) / 1e3}
    except torch.OutOfMemoryError:
        found["ms"] = "does not fit"
    finally:
        fusion.enable(False)
    return found


def closures(b: Bench) -> dict[str, Any]:
    """Milliseconds a step of every closure on the case of its training, and the share of them that is its own."""
    found: dict[str, Any] = {}
    small = tuple(f"grid.{axis}.n=8" for axis in "xyz") if b.short else ()
    for name in ("none", "tbnn") if b.short else names():
        homes = {"hit": "hit_decay", "mixing": "mixing_layer"}
        case = homes.get(name.split("_")[0], "channel180_coarse")
        try:
            table, folder = load_case(ROOT / "cases" / case, ("run.fuse=off", "run.graph=off", *small), name)
            flow = build(Source(table, folder, name))
        except SolverError as problem:
            found[name] = str(problem)
            continue
        flow.step()
        flow.timers.reset()
        seconds = b.clock(flow.step, 9, 3)
        found[name] = {"ms": 1e3 * seconds, "share": closure_fraction(flow.timers.seconds)}
        if recorded := by_graphs(flow):
            found[name]["graph ms"] = 1e3 * b.clock(recorded.step, 9, 3)
    return found


SECTIONS = (ceilings, same_as_cpu, waits, layouts, graph, times, closures)


def measure(device: torch.device, short: bool) -> dict[str, Any]:
    """Every section by its name; one that fails has its error there."""
    b, found = Bench(device, short), {}
    for section in SECTIONS:
        start = time.perf_counter()
        try:
            found[section.__name__] = section(b) if b.left > 20 else {"not measured": "no time was left"}
        except Exception as error:  # whatever it is, the next section may work
            found[section.__name__] = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"}
        said = json.dumps(found[section.__name__], default=str)[:1500]
        print(f"-- {section.__name__} ({time.perf_counter() - start:.0f} s): {said}", flush=True)
        if b.is_cuda:
            torch.cuda.empty_cache()
    return found


def main() -> None:
    """Measure, print, keep."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--short", action="store_true", help="tiny sizes, also without a GPU")
    options.add_argument("--out", type=Path, default=NUMBERS, help="where the numbers go")
    given = options.parse_args()
    torch.set_grad_enabled(False)
    device = ranks.choose_device("auto" if given.short else "cuda")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"torch {torch.__version__}, {name}", flush=True)
    write_json(given.out, {"device": name, "torch": torch.__version__} | measure(device, given.short))


if __name__ == "__main__":
    main()
