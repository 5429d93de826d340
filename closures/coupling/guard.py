"""What stands between a network and the flow: it may refuse an answer, counts that, and names what acts instead."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from pydantic import Field

from solver.case.table import Table
from solver.discretisation.calculus import Operators
from solver.errors import CaseError, Diverged, SolverError
from solver.flow.closure import Closure, State
from solver.parallel.late import wait_for
from solver.terminal import record

T = TypeVar("T")
log = logging.getLogger("solver")
COUNTS = "guard"  # this entry of a state: interventions, those in a row, whether the network is switched off
SAID = "guard_said"  # and this one: which kinds of `KINDS` the log has, bit by bit
KINDS = (
    "it failed",
    "its answer is not finite",
    "its answer is too large",
    "its answer has the wrong shape",
    "its answer came late",
    "it feeds energy to the flow",
    "it departs from the equations",
    "it does not know this flow",
)
UNKNOWN = KINDS[-1]
SAID_AT_MOST = 100  # lines in a run's log; the summary has the number
MARGIN = 3.0  # over the largest answer of the training data


def parted(state: State, own: tuple[str, ...] = (COUNTS, SAID)) -> tuple[State, State]:
    """What of a state is one's own, and what belongs to the closure inside."""
    return {k: v for k, v in state.items() if k in own}, {k: v for k, v in state.items() if k not in own}


def joined(own: State, inner: Closure | None, operators: Operators) -> State:
    """One's own first state and that of the closure inside.

    Raises
    ------
    CaseError : they have names in common.
    """
    theirs = inner.init(operators) if inner else {}
    if inner and (common := own.keys() & theirs.keys()):
        taken = ", ".join(sorted(common))
        raise CaseError(f"[closure] '{inner.name}' names its state {taken}, as the guard does: rename that")
    return own | theirs


class NetworkRefused(Diverged):
    """A network was overruled so often in a row that the run should not go on with it."""


class Overruled(SolverError):
    """One answer cannot be used; the message says why."""


def attempted(action: Callable[[], T]) -> tuple[T | None, str | None]:
    """What a network is asked for, or why that may not be used: it fails as it likes, and the flow goes on.

    Raises
    ------
    SolverError : a mistake in the case, which is no answer.
    """
    try:
        return action(), None
    except Overruled as problem:
        return None, str(problem)
    except SolverError:
        raise
    except Exception as error:
        return None, f"it failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"


class GuardTable(Table):
    """``[closure.guard]``: what is refused, and what follows.

    Parameters
    ----------
    size : greatest norm of an answer; by default three times the largest of the training data, as the card has it.
        For stresses rms of tau over rms of ``delta^2 |g|^2``, not less than 0.1 (a network on another flow than it was
        trained on may well answer as Smagorinsky's model does, 0.03); for changes of the velocity rms in units of the
        card.
    injection : greatest net transfer of energy from a stress to the flow, mean of ``tau_ij s_ij`` over the mean of
        ``delta^2 |g|^3``; 0 asks the model to drain energy on the whole, though not everywhere.
    growth : greatest factor by which one answer may multiply the energy of the fluctuations.
    residual : greatest residual of the solver's equations along a macro step of a surrogate, relative to du/dt at its
        start: 1 is that of an answer that does not move. By default it is only reported (`Flow.midpoint_residual`).
    familiar : greatest distance of the flow from those that the network knows, as `closures.coupling.familiarity`
        measures it: 1 is as far as these reach. A network whose folder does not say what it knows is not asked. In
        foreign flows what stands in for it acts for good, so these refusals do not count for `patience`.
    timeout : seconds after which an answer comes too late and is dropped.
    patience : so many refusals in a row are the end; `then` says of what: the run, or the network's part in it.
    """

    size: float | None = Field(default=None, gt=0)
    injection: float = Field(default=0.0, ge=0)
    growth: float = Field(default=1.5, gt=1)
    residual: float | None = Field(default=None, gt=0)
    familiar: float = Field(default=1.0, gt=0)
    timeout: float | None = Field(default=None, gt=0)
    patience: int = Field(default=10, ge=1)
    then: Literal["stop", "disable"] = "stop"


class Guard:
    """Counts refusals in the state of a closure, says each kind once, and ends what goes on too long.

    Parameters
    ----------
    settings : the table of the case.
    name : of the closure, for messages.
    instead : what acts where the network may not, in words.
    """

    def __init__(self, settings: GuardTable, name: str, instead: str) -> None:
        self.settings, self.name, self.instead = settings, name, instead

    @staticmethod
    def start() -> State:
        """Nothing has happened yet."""
        return {COUNTS: torch.zeros(3, dtype=torch.int64), SAID: torch.zeros((), dtype=torch.int64)}

    @staticmethod
    def is_off(state: State) -> bool:
        """Whether the network has been switched off."""
        return bool(state[COUNTS][2])

    def passed(self, state: State) -> State:
        """The state after an answer that was used."""
        total, _, off = state[COUNTS].tolist()
        return state | {COUNTS: torch.tensor([total, 0, off])}

    def overruled(self, state: State, reason: str, t: float) -> State:
        """The state after a refusal.

        Raises
        ------
        NetworkRefused : it was one too many, and the case says to stop.
        """
        total, row, _ = (int(n) for n in state[COUNTS])
        word, said = reason.split(":")[0], int(state[SAID])
        total, row = total + 1, row if word == UNKNOWN else row + 1
        kind = 1 << (KINDS.index(word) if word in KINDS else len(KINDS))
        if not said & kind:
            log.warning("t = %.6g: '%s' was overruled, %s; %s acts instead", t, self.name, reason, self.instead)
        elif total <= SAID_AT_MOST:
            record.info("t = %.6g: '%s' was overruled again (%d), %s", t, self.name, total, reason)
        off = row >= self.settings.patience
        if off and self.settings.then == "stop":
            raise NetworkRefused(
                f"[closure] '{self.name}' was overruled {row} times in a row, the last time because {reason}; use "
                "another network, or [closure.guard] then = 'disable' to go on without it"
            )
        if off:
            log.warning("t = %.6g: '%s' is switched off after %d refusals in a row", t, self.name, row)
        return state | {COUNTS: torch.tensor([total, row, int(off)]), SAID: torch.tensor(said | kind)}

    def check_residual(self, value: float) -> None:
        """Raise Overruled for an answer too far from the solver's equations."""
        limit = self.settings.residual
        if limit is not None and not value <= limit:
            raise Overruled(f"it departs from the equations: residual {value:.3g} of du/dt, at most {limit:g}")

    def check_time(self, started: float, device: torch.device) -> None:
        """Raise Overruled for an answer of the device, asked for at `started` (``time.perf_counter``), that is late."""
        limit = self.settings.timeout
        if limit is None:
            return
        wait_for(device)
        if (seconds := time.perf_counter() - started) > limit:
            raise Overruled(f"its answer came late: {seconds:.3g} s, at most {limit:g}")
