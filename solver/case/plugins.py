"""What other packages add by entry points, beside names of our own: found, loaded, and refused where names clash."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from solver.errors import CaseError

OURS = "les-solver"


@dataclass(frozen=True)
class Origin:
    """Where something of another package comes from.

    Parameters
    ----------
    name : by which cases and recipes know it.
    value : ``module:attribute``.
    package, version : of the distribution that declares it; empty where it is not known.
    """

    name: str
    value: str
    package: str = ""
    version: str = ""

    @classmethod
    def of(cls, point: EntryPoint) -> Origin:
        """Of an entry point."""
        return cls(point.name, point.value, *((point.dist.name, point.dist.version) if point.dist else ()))

    @property
    def distribution(self) -> str:
        """Package and version, or the module where they are not known."""
        return f"{self.package} {self.version}".strip() or self.value.partition(":")[0]

    def __str__(self) -> str:
        return f"'{self.name}' ({self.value}{f' of {self.distribution}' if self.package else ''})"


class Plugins:
    """The entry points of one group.

    Parameters
    ----------
    group : name of the group, ``solver.closures`` for example.
    table : of the case or recipe in which they are named, for messages.
    own : the names that are taken by this package.
    """

    def __init__(self, group: str, table: str, own: Callable[[], Iterable[str]]) -> None:
        self.group, self.table, self.own = group, table, own

    def names(self) -> list[str]:
        """Names that may be used, in order."""
        return sorted(set(self._found()) - set(self.clashes()))

    def clashes(self) -> dict[str, str]:
        """What is wrong with names that stand for more than one thing: nobody could tell which one acted."""
        own, wrong = set(self.own()), {}
        for name, points in self._found().items():
            others = [OURS] * (name in own) + [f"{o.distribution} ({o.value})" for o in map(Origin.of, points)]
            if len(others) > 1:
                wrong[name] = f"'{name}' is a name of {' and of '.join(others)}: rename the entry point"
        return wrong

    def refuse_clash(self, name: str) -> None:
        """Raise CaseError where `name` stands for more than one thing."""
        if problem := self.clashes().get(name):
            raise CaseError(f"{self.table} {problem}")

    def origin(self, name: str) -> Origin:
        """Where `name`, one of `names`, comes from."""
        return Origin.of(self._found()[name][0])

    def load(self, name: str) -> Any:
        """What the entry point `name` names; raises CaseError where it cannot be imported."""
        point = self._found()[name][0]
        try:
            return point.load()
        except Exception as error:  # whatever a foreign module does when imported, the message names it
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise CaseError(f"{self.table} {Origin.of(point)} cannot be imported: {reason}") from error

    def _found(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name, each value once."""
        found: dict[str, dict[str, EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, {}).setdefault(point.value, point)
        return {name: list(points.values()) for name, points in found.items()}
