"""A leg of a run: the folder it writes, the checkpoint it goes on from, and what may have changed since."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from solver.case.case import Case
from solver.errors import CaseError, RunFolderError
from solver.files import folder as rundir
from solver.files.checkpoint_file import Saved, checkpoints, latest
from solver.parallel import ranks

log = logging.getLogger("solver")
AUTO = Path("auto")  # --restart auto
BROKEN = ("diverged", "laminar")
FAILED = "failed"  # by an error; the tables are those of the steps before it
Changes = dict[str, tuple[Any, Any]]

# What a change of a key at a restart does: the longest entry that a key begins with counts.
FREE, PHYSICS, AVERAGES, FIXED = "free", "physics", "averages", "fixed"
RULES = {
    "title": FREE,
    "grid": FIXED,
    **{f"grid.{axis}.{end}": PHYSICS for axis in "xyz" for end in ("lower", "upper")},
    "flow": PHYSICS,
    "closure": PHYSICS,
    "wall_model": PHYSICS,
    "scalars": PHYSICS,
    "initial": FIXED,
    "time": FREE,
    "output": FREE,
    "statistics": FIXED,
    "statistics.start": AVERAGES,
    "statistics.batches": AVERAGES,
    "statistics.every_steps": FREE,
    "reference": FREE,
    "solids": FIXED,
    "solids.coefficients": FREE,
    "pressure": FREE,
    "run": FREE,
}
OPEN = ("periodic", "inflow", "outflow")  # kinds of ends


@dataclass(frozen=True)
class Leg:
    """What `plan` found.

    `fresh`: the folder is made anew. `done`: the status of the run that is already there, which leaves nothing to do.
    `physics`: keys that make this another flow than the checkpoint's, so that averages and histories begin anew;
    `averages`: keys after which the averages alone do.
    """

    folder: Path
    fresh: bool
    saved: Saved | None = None
    done: str | None = None
    physics: Changes = field(default_factory=dict)
    averages: Changes = field(default_factory=dict)

    @property
    def every_steps(self) -> int:
        """``[output] every_steps`` of the leg before, 1 without one."""
        return int(self.saved.case["output"]["every_steps"]) if self.saved else 1

    @property
    def same_closure(self) -> bool:
        """Whether what the closure remembers is still its own."""
        return not self._changed("closure")

    @property
    def same_walls(self) -> bool:
        """The same of the wall model."""
        return not self._changed("wall_model")

    def _changed(self, table: str) -> bool:
        return any(key.split(".")[0] == table for key in self.physics)


def folder_of(case: Case, source: Path, name: str, out: Path | None, restart: Path | None) -> Path:
    """The folder a leg writes; a restart without `out` goes on where it comes from.

    Raises
    ------
    CaseError : it is the folder of the case itself, which a run would replace.
    RunFolderError : there is nothing to restart from.
    """
    if restart not in (None, AUTO) and not restart.exists():
        raise RunFolderError(f"{restart}: no such run folder or checkpoint: give one that `solver run` has made")
    origin = _origin(restart)
    if restart == AUTO and out is None and (source / "provenance.json").is_file():
        origin = source
    if origin is not None and (out is None or out.resolve() == origin.resolve()):
        return origin
    folder = rundir.run_folder(case, name, out)
    if folder.resolve() == source.resolve() and restart != AUTO:
        raise CaseError(f"--out {folder}: is the folder of the case itself, which a run would replace: choose another")
    return folder


def _origin(restart: Path | None) -> Path | None:
    """The run folder a checkpoint belongs to, if it lies in one."""
    if restart is None or restart == AUTO:
        return None
    if not restart.is_file():
        return restart
    folder = restart.parent.parent
    return folder if (folder / "provenance.json").is_file() else None


def plan(case: Case, folder: Path, restart: Path | None, overwrite: bool) -> Leg:
    """What to do with `folder`, which this process has locked; no file is changed.

    Raises
    ------
    RunFolderError : it holds a run that nobody has asked to replace; there is no usable checkpoint.
    CaseError : the case changes what may not change at a restart.
    """
    state = _state(folder)
    if restart == AUTO:
        if has_ended({"status": state.status, "time": state.time}, case):
            return Leg(folder, False, done=state.status)
        restart = folder if state.checkpoints else None
    origin = _origin(restart)
    fresh = origin is None or origin.resolve() != folder.resolve()
    holds = state.checkpoints or state.status not in ("", FAILED)  # from a failure alone one cannot go on
    if fresh and not overwrite and holds:
        told = reached(folder) if state.status else "not ended"
        raise RunFolderError(
            f"{folder}: holds a run ({told}): go on with it (--restart {folder}), replace it (--overwrite), "
            "or choose another folder (--out)"
        )
    if restart is None:
        return Leg(folder, True)
    saved = latest(restart, ranks.world())
    if not fresh and restart.is_file() and not overwrite:
        later = [path.name for path in checkpoints(folder) if path.name > restart.name]
        if later:
            raise RunFolderError(
                f"{restart}: the run went on to {later[-1]} from here: choose another folder (--out), "
                "or drop what came later (--overwrite)"
            )
    return _continued(case, folder, fresh, saved, state)


@dataclass(frozen=True)
class _State:
    """What a folder holds: the status of its run ("" without a summary), the time it reached, its checkpoints."""

    status: str
    time: float
    checkpoints: bool


def _state(folder: Path) -> _State:
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        status, time = str(summary["status"]), float(summary["time"])
    except FileNotFoundError:
        status, time = "", 0.0
    except (OSError, ValueError, KeyError, TypeError):
        status, time = "unreadable summary", float("nan")
    return _State(status, time, bool(checkpoints(folder)))


def has_ended(summary: Mapping[str, Any], case: Case) -> bool:
    """Whether the run of a summary has come to the end that its case sets, or to one beyond which there is nothing."""
    return summary["status"] in BROKEN or (summary["status"] == "finished" and _reached(summary["time"], case))


def _reached(t: float, case: Case) -> bool:
    return t >= case.time.end * (1 - 1e-9)


def _continued(case: Case, folder: Path, fresh: bool, saved: Saved, state: _State) -> Leg:
    t = float(saved.attributes["t"])
    if t > case.time.end * (1 + 1e-9):
        raise CaseError(
            f"--restart: the checkpoint is at t = {t:.6g}, beyond [time] end = {case.time.end:g}: nothing to do; "
            "raise [time] end, or start from an earlier checkpoint"
        )
    changes = _changes(saved, case)
    physics, averages, fixed = (
        {key: pair for key, pair in changes.items() if rule_of(key, pair) == rule}
        for rule in (PHYSICS, AVERAGES, FIXED)
    )
    if fixed:
        raise CaseError(f"--restart: {_told(fixed)}: {_remedy(next(iter(fixed)))}")
    _refuse_other_flow(physics, folder, fresh)
    begun = any(key.endswith("/weights") and array.size for key, array in saved.arrays.items())
    if averages and not physics and begun and not (case.statistics and case.statistics.start > t):
        raise CaseError(
            f"--restart: {_told(averages)}: averages have begun before the checkpoint's t = {t:.6g}: keep it, "
            f"or set [statistics] start later than that to begin them anew"
        )
    done = "finished" if not (fresh or changes) and _reached(t, case) and state.status == "finished" else None
    return Leg(folder, fresh, saved, done, physics, averages if begun else {})


def with_weights(leg: Leg, facts: Mapping[str, Any]) -> Leg:
    """The leg, knowing the closure's `facts`: other weights under the same name make another flow.

    Raises
    ------
    CaseError : they have changed and the leg goes on in the same folder.
    """
    before = json.loads(leg.saved.attributes.get("closure_facts", "{}")) if leg.saved else {}
    weights = tuple(str(found.get("weights_sha256", ""))[:8] for found in (before, facts))
    if not all(weights) or weights[0] == weights[1] or not leg.same_closure:
        return leg
    changed: Changes = {"closure.weights": (weights[0], weights[1])}
    _refuse_other_flow(changed, leg.folder, leg.fresh)
    return replace(leg, physics=leg.physics | changed)


def _refuse_other_flow(physics: Changes, folder: Path, fresh: bool) -> None:
    if physics and not fresh:
        raise CaseError(
            f"--restart: {_told(physics)}: another flow needs a folder of its own: add --out DIR, "
            f"or go on as before with `solver run {folder} --restart {folder}`"
        )


def rule_of(key: str, values: tuple[Any, Any] = (None, None)) -> str:
    """What a change of ``table.key`` from one value to the other does at a restart, see `RULES`."""
    parts = key.split(".")
    rule = next(RULES[k] for n in range(len(parts), 0, -1) if (k := ".".join(parts[:n])) in RULES)
    through = any(word in OPEN for word in values)  # other points then carry the velocity
    removed = parts[0] == "statistics" and values[0] is not None and values[1] is None
    return FIXED if removed or (parts[0] == "grid" and through) else rule


def _changes(saved: Saved, case: Case) -> Changes:
    """Keys whose values differ: (in the checkpoint, now)."""
    try:
        before = Case.model_validate_json(saved.attributes["case"])
    except (ValidationError, KeyError):
        log.warning("the checkpoint is of another version: whether its case is the same cannot be told")
        return {}
    return differences(before, case)


def differences(one: Case, other: Case) -> Changes:
    """Keys whose values differ, ``table.key -> (one, other)``; a key that is missing counts as None."""
    a, b = (_flat(case.model_dump(exclude_none=True)) for case in (one, other))
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _told(changes: Changes) -> str:
    """The change that says most, and how many more."""
    (key, (before, now)), *more = sorted(changes.items(), key=lambda item: not item[0].endswith((".name", ".kind")))
    table, _, name = key.rpartition(".")
    rest = f" (and {len(more)} more)" if more else ""
    where = f"[{table}] {name}" if table else f"[[{name}]]"
    return f"{where} was {_word(before)} and is {_word(now)}{rest}"


def _word(value: Any) -> str:
    return "not given" if value is None else repr(value)


def _remedy(key: str) -> str:
    if key.startswith("statistics"):
        return "keep the table: the averages taken so far would be lost"
    return "keep it, or start a new run from these fields with [initial] kind = 'run' and run = 'RUN'"


def reached(folder: Path) -> str:
    """How far the run in a folder has come, in words."""
    state = _state(folder)
    return f"{state.status} at t = {state.time:.6g}"


def forget(folder: Path) -> None:
    """Remove the summary of a run that goes on now, unless it is that of a finished one: its tables are there too."""
    if _state(folder).status != "finished":
        (folder / "summary.json").unlink(missing_ok=True)
