"""One trajectory of a data set: a direct simulation from its start, or from where it was left, to its last snapshot."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from closures.data.commutator import Commutator
from closures.data.filtered_dns import FilteredFlow, FilteredView
from closures.data.filters import GridFilter
from closures.data.recipe import FlowRecipe
from closures.data.rows import Rows
from closures.data.store import FlowStore, digests_of
from solver.case.case import Case
from solver.discretisation.calculus import Components, Operators
from solver.errors import Diverged
from solver.files.checkpoint_file import Saved, latest
from solver.files.regrid import velocity_of
from solver.files.shares import Share, coefficients
from solver.flow.flow import Flow
from solver.flow.simulation import Simulation
from solver.flow.time_step import StepControl
from solver.observers.health import Health
from solver.parallel import ranks
from solver.parallel.slabs import Slabs
from solver.run import build

SAVE_SECONDS = 120.0  # at most so much work is lost by a kill


class Trajectory:
    """One direct simulation of a recipe, from its start or from where it was left, on the ranks of `comm`.

    Equal communicators give equal bits: a state holds the coefficients as they were, and nothing else is remembered
    from step to step. On another number of ranks sums differ in their last bits, and a turbulent flow soon after.
    """

    def __init__(self, number: int, store: FlowStore, comm: Any) -> None:
        self.recipe, self.number, self.store = store.recipe, number, store
        self.case = self.recipe.case(number)
        grid = self.case.build_grid()
        slabs = Slabs(grid.shape[1], grid.coefficient_shape[0], grid.y.periodic, comm)
        device = ranks.choose_device(self.case.run.device)
        self.operators = Operators(grid, slabs, device, getattr(torch, self.case.run.dtype))
        saved = store.state(number) if slabs.broadcast(slabs.is_root and store.kept(number) is not None) else None
        self.digests = digests_of(saved) if saved else store.nothing
        self.saved_at = time.monotonic()
        views = {name: self._view(recipe) for name, recipe in store.recipes.items()}
        count = int(saved.attributes["count"]) if saved else 0
        self.flow = FilteredFlow(views, self.recipe.sampling, self._take, count)
        self.saved: Saved | None = saved

    def _view(self, recipe: FlowRecipe) -> FilteredView:
        grid_filter = GridFilter(self.operators, recipe.coarse_grid, recipe.filter.kernel())
        return FilteredView(Commutator(grid_filter), recipe.store)

    def run(self, progress: Callable[[int, float], object]) -> None:
        """Go on to the last snapshot, and give the files their names.

        Raises
        ------
        Diverged : the flow blew up or became laminar.
        """
        if not self.flow.complete:
            self._simulate(progress)
        if self.operators.decomposition.is_root:
            self.store.close(self.number, self.digests)

    def _simulate(self, progress: Callable[[int, float], object]) -> None:
        simulation = self._simulation()
        health = Health(simulation, 10, self.case.initial.kind == "wall_turbulence")
        status = self.flow(simulation)
        while status is None:
            try:
                simulation.step(wait=self.flow.due - simulation.t)
            except Diverged as problem:
                raise Diverged(f"trajectory {self.number}, t = {simulation.t:.4g}: {problem}") from None
            if trouble := health(simulation):
                raise Diverged(f"trajectory {self.number}, t = {simulation.t:.4g}: the flow is {trouble}")
            status = self.flow(simulation)
            progress(self.number, simulation.t)
            late = time.monotonic() - self.saved_at > SAVE_SECONDS
            if status is None and self.operators.decomposition.agree(late):
                self._keep(simulation)
        self._keep(None)

    def _take(self, frame: int, rows: Mapping[str, Rows]) -> None:
        self.store.write(self.number, frame, rows)
        self.digests = self.store.chained(self.digests, rows)

    def _keep(self, simulation: Simulation | None) -> None:
        """Note where the flow is; without one, that it is complete (collective)."""
        op = self.operators
        arrays: dict[str, np.ndarray | Share] = {}
        attributes: dict[str, float] = {}
        if simulation is not None:
            velocity = zip("uvw", simulation.velocity.coefficients, strict=True)
            arrays |= {f"velocity/{name}": coefficients(op, c) for name, c in velocity}
            arrays |= {f"grid/{name}": axis.centres for name, axis in zip("xyz", op.grid.axes, strict=True)}
            attributes = {"t": simulation.t, "step": simulation.step_count, "dt": simulation.dt}
        self.store.keep(self.number, op.decomposition.comm, arrays, attributes, self.digests, self.flow.count)
        self.saved_at = time.monotonic()

    def _simulation(self) -> Simulation:
        op, case = self.operators, self.case
        velocity = self._start() if self.saved is None else velocity_of(self.saved, op)
        control = StepControl(op, case.time.cfl, frame=case.time.frame)
        flow = Flow(op, case.flow.nu, None, build.make_forcing(case, op), frame=case.time.frame)
        state = flow.start(velocity, settled=self.saved is not None)
        if self.saved is not None:
            t, dt = (float(self.saved.attributes[key]) for key in ("t", "dt"))
            state = replace(state, t=t, dt=dt, step=int(self.saved.attributes["step"]))
        return Simulation(flow, state, control)

    def _start(self) -> Components:
        """The initial field of this trajectory: of its recipe, or a stored flow with noise of its own."""
        if self.recipe.start is None:
            return self._drawn(self.case)
        saved = latest(Path(self.recipe.start.run), self.operators.decomposition.comm)
        for file in self.store.files(self.number).values():
            file.check_origin(saved.sha256)
        scale, stored = self._bulk_ratio(saved), velocity_of(saved, self.operators)
        a = self.recipe.start.noise(self.number)
        one, other = (self._drawn(self.recipe.case(self.number, draw)) for draw in (0, 1))
        # what two draws have in common is the mean flow: only noise is left
        u, v, w = (scale * f + a * (g - h) for f, g, h in zip(stored, one, other, strict=True))
        return u, v, w

    def _bulk_ratio(self, saved: Saved) -> float:
        """What a stored flow is multiplied by: it may have been computed in units of another bulk velocity."""
        here = getattr(self.case.flow.forcing, "bulk_velocity", 1.0)
        forcing = json.loads(saved.attributes["case"])["flow"].get("forcing", {})
        return float(here / forcing.get("bulk_velocity", here))

    def _drawn(self, case: Case) -> Components:
        return build.initial_field(build.Source(case, Path(), "trajectory"), self.operators)
