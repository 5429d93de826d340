"""What a network beside the solver learns from: where the solver arrives from a stored frame, and a later frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from closures.coupling.frames import Frames
from closures.coupling.unrolled import Unrolled
from closures.data.sets import Source
from closures.data.windows import InMemory
from closures.operators.domain import Domain, same
from closures.operators.predictor import Predictor
from closures.operators.role import Rhythm
from closures.training.fields_table import LabelsTable
from solver.case.case import load_case
from solver.case.table import Table
from solver.errors import CaseError
from solver.flow.simulation import Simulation
from solver.parallel import ranks
from solver.run import build


class CorrectTable(Table):
    """``[correct]``: the network corrects what the solver makes of a frame, over the interval to the next one.

    Parameters
    ----------
    case : folder or file, as `solver.case.paths` finds it; its closure is that of the solver's steps.
    overrides : of its keys: ``"closure.name = none"`` and the like.
    steps : of the solver between two frames, best as many as the run will take: corrections make up for the error of
        the time step as well, and with a shorter one fluctuations grow too strong.
    ahead : time that is left of the interval when the solver stops. The network goes on over it: it is a surrogate
        then, in turns with the solver, and corrects that as well.
    fields : labels of runs of the case, in place of a file.
    """

    case: str
    overrides: tuple[str, ...] = Field(default=(), strict=False)
    steps: int = Field(default=1, ge=1, le=1000)
    ahead: float = Field(default=0.0, ge=0)
    fields: LabelsTable | None = None

    def rhythm(self, interval: float) -> Rhythm:
        """Of solver and network over the time `interval` from a frame to its label."""
        return Rhythm.in_turns(interval, self.steps, self.ahead)


@dataclass(frozen=True)
class StoredFrames:
    """Where corrections begin: frames `apart` from each other, of `trajectories`; labels are `stride` further on."""

    source: Source
    stride: int
    apart: int
    trajectories: Sequence[int]

    @property
    def interval(self) -> float:
        """Time from a first frame to its label."""
        return self.source.step * self.stride

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """First frames and labels, (nx, ny, nz, 3)."""
        for trajectory in self.trajectories:
            frames = self.source.read(trajectory, slice(None))
            yield from zip(frames[: -self.stride : self.apart], frames[self.stride :: self.apart], strict=True)


def corrections(frames: StoredFrames, reached: np.ndarray) -> InMemory:
    """Pairs (pairs, 2, nx, ny, nz, 3): what the network is given, see `arrivals`, and what it should answer."""
    labels = np.stack([after for _, after in frames.pairs()])
    return InMemory(np.stack([reached, labels], axis=1), frames.source.domain, frames.interval)


@torch.no_grad()
def arrivals(table: CorrectTable, frames: StoredFrames) -> np.ndarray:
    """Where the solver arrives from each first frame `table.ahead` before its label, (pairs, nx, ny, nz, 3), float32.

    Raises
    ------
    CaseError : the case has other points than the data, or cannot be unrolled; nothing is left for the solver.
    Diverged : the solver's velocity is not finite: more steps are needed.
    """
    simulation = leg_of(table, frames.interval)
    flow = Frames(simulation)
    if not same(frames.source.domain.describe(), flow.domain.describe()):
        points = " x ".join(map(str, flow.domain.shape))
        raise CaseError(f"[correct] case = '{table.case}': its points are {points}, the data have others")
    unrolled, found = Unrolled(simulation), []
    for before, _ in frames.pairs():
        u = unrolled(flow.start(torch.from_numpy(before).movedim(-1, 0)), table.steps)
        found.append(flow.centred(u).movedim(0, -1).float().numpy())
    return np.stack(found)


def leg_of(table: CorrectTable, interval: float, device: str = "cpu") -> Simulation:
    """The simulation whose `table.steps` steps go on over an interval, but for the time `table.ahead` at its end.

    Raises
    ------
    CaseError : `table.ahead` leaves the solver no time.
    """
    rhythm = table.rhythm(interval)
    if rhythm.between < 1e-6 * interval:
        raise CaseError(
            f"[correct] ahead = {table.ahead:g}: frames are {interval:g} apart, the solver has no part in it"
        )
    fixed = (f"time.dt={rhythm.solver_step!r}", f"run.device='{device}'")
    case, folder = load_case(Path(table.case), (*table.overrides, *fixed))
    return build.build(build.Source(case, folder, folder.name), comm=ranks.alone())


def largest_change(pairs: Iterable[Sequence[np.ndarray]], domain: Domain, predictor: Predictor) -> float:
    """The greatest change in the data, rms over the volume in units of the scaling, as the guard measures it."""
    units, volumes = np.array(predictor.scaling.change), domain.volumes.numpy()[..., None]
    changes = ((after - before) / units for before, after in pairs)
    return max(float(((change**2).mean(-1, keepdims=True) * volumes).sum() ** 0.5) for change in changes)
