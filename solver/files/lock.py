"""One process writes a folder, or a data file: a lock in or beside it says which, on which machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from solver.errors import RunFolderError
from solver.files.folder import LOCK
from solver.parallel import ranks

log = logging.getLogger("solver")
BEAT_SECONDS = 60.0  # between signs of life
STALE_SECONDS = 900.0  # without one an owner on another machine is taken for dead
_held: set[int] = set()  # descriptors; forks, such as those that load data, would keep the claim of a process that died


def _forget() -> None:
    for file in _held:
        os.close(file)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


class Lock:
    """The claim of this process on the folder `target`, or on the file if it `is_file`.

    On one machine the kernel knows whether the owner lives, and lets go of the claim with it. Of an owner on another
    machine the age of the lock tells, which a thread refreshes as long as the process lives; a batch job that was put
    back into the queue takes over from its earlier self at once.

    Raises
    ------
    RunFolderError : another process is at work there, or the folder cannot be written.
    """

    def __init__(self, target: Path, is_file: bool = False) -> None:
        self.target, self.path = target, target.with_name(f".{target.name}.lock") if is_file else target / LOCK
        self.made = [folder for folder in self.path.parents if not folder.exists()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self._open()
        except OSError as error:
            reason = error.strerror or error
            raise RunFolderError(f"{target}: cannot be written ({reason}): choose another place with --out") from None
        owner = _owner(self.path)
        if owner and self._lives(owner):
            os.close(self.file)
            raise RunFolderError(self._busy(owner))
        if owner:
            log.info("%s was left by process %s on %s, which is gone", self.path, owner["pid"], owner["host"])
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, json.dumps(_self()).encode(), 0)
        _held.add(self.file)
        self.released = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _open(self) -> int:
        """The file, locked where the file system can; again if its last owner removes it meanwhile."""
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.kernel_knows = True
            except BlockingIOError:
                os.close(file)
                raise RunFolderError(self._busy(_owner(self.path))) from None
            except OSError:  # a file system without locks
                self.kernel_knows = False
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), self.path.stat()):
                    return file
            os.close(file)

    def _lives(self, owner: dict[str, Any]) -> bool:
        """Whether the owner written in the file is at work, as far as one can tell from here."""
        me = _self()
        if owner["host"] == me["host"]:
            return not self.kernel_knows and _is_process(owner["pid"])
        queued_again = me["job"] == owner.get("job") and me["restarts"] != owner.get("restarts")
        return not queued_again and time.time() - self.path.stat().st_mtime < STALE_SECONDS

    def _busy(self, owner: dict[str, Any]) -> str:
        who = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
        return (
            f"{self.target}: {who} is writing here: wait for it, or choose another place with --out "
            f"(if it is dead, remove {self.path})"
        )

    def _beat(self) -> None:
        """Signs of life."""
        while not self.released.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Let go; folders that were made for this and that nothing was written into go too."""
        self.released.set()
        with contextlib.suppress(OSError):
            self.path.unlink()
        _held.discard(self.file)
        os.close(self.file)
        with contextlib.suppress(OSError):
            for folder in self.made:
                folder.rmdir()


def writer(target: Path) -> str:
    """Who is writing into a folder, for people; "" if nobody is, as far as one can tell without claiming it."""
    owner = _owner(path := target / LOCK)
    if not owner:
        return ""
    here = owner["host"] == socket.gethostname()
    try:
        at_work = _is_alive(owner["pid"]) if here else time.time() - path.stat().st_mtime < STALE_SECONDS
    except OSError:  # it has just ended
        return ""
    return f"process {owner['pid']} on {owner['host']}" if at_work else ""


def _self() -> dict[str, Any]:
    job, restarts = (os.environ.get(f"SLURM_{name}") for name in ("JOB_ID", "RESTART_COUNT"))
    return {"host": socket.gethostname(), "pid": os.getpid(), "job": job, "restarts": restarts}


def _owner(path: Path) -> dict[str, Any]:
    """What the file says; empty if that is nothing, as of one who has just made it."""
    try:
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) and {"host", "pid"} <= found.keys() else {}
    except (OSError, ValueError):
        return {}


def _is_process(number: int) -> bool:
    return number != os.getpid() and _is_alive(number)


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def held(target: Path, is_file: bool = False) -> Iterator[None]:
    """The claim of the root's process for the length of a context, see `Lock`; collective.

    Raises
    ------
    RunFolderError : on every rank.
    """
    lock, problem = None, None
    if ranks.is_root():
        try:
            lock = Lock(target, is_file)
        except RunFolderError as error:
            problem = str(error)
    problem = ranks.broadcast(problem)
    if problem:
        raise RunFolderError(problem)
    try:
        yield
    finally:
        if lock:
            lock.release()
