"""Things by name, one registry a kind: those of this package, and those that other packages declare as entry points.

Closures, operators, losses, data sets and metrics have one each. Another package adds a thing with::

    [project.entry-points."solver.losses"]
    mine = "my_package.losses:mine"
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError

from solver.case.explain import explain
from solver.errors import CaseError, SolverError

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


class Registry:
    """The things of one kind.

    Parameters
    ----------
    group : of the entry points, ``solver.closures`` for example.
    table : of the case or recipe in which they are named, for messages.
    own : ``module:attribute`` of those of this package, by name.
    reserved : other names that are taken.
    """

    def __init__(
        self, group: str, table: str, own: Mapping[str, str], reserved: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self.group, self.table, self.own, self.reserved = group, table, own, reserved

    def names(self) -> list[str]:
        """Names that may be used: this package's, then other packages', in order."""
        return [*self.own, *self.foreign()]

    def foreign(self) -> list[str]:
        """Names that other packages add, in order."""
        return sorted(set(self._found()) - set(self.clashes()))

    def clashes(self) -> dict[str, str]:
        """What is wrong with names that stand for more than one thing: nobody could tell which one acted."""
        taken, wrong = {*self.own, *self.reserved()}, {}
        for name, points in self._found().items():
            others = [OURS] * (name in taken) + [f"{o.distribution} ({o.value})" for o in map(Origin.of, points)]
            if len(others) > 1:
                wrong[name] = f"'{name}' is a name of {' and of '.join(others)}: rename the entry point"
        return wrong

    def refuse_clash(self, name: str) -> None:
        """Raise CaseError where `name` stands for more than one thing."""
        if problem := self.clashes().get(name):
            raise CaseError(f"{self.table} {problem}")

    def require(self, name: str, known: Iterable[str] | None = None) -> None:
        """Raise CaseError, with the remedy, where `name` is none of `known` (by default of `names`), or two things."""
        self.refuse_clash(name)
        names = list(self.names() if known is None else known)
        if name not in names:
            raise CaseError(f"{self.table} unknown name '{name}'{suggestion(name, names) or _one_of(names)}")

    def origin(self, name: str) -> Origin:
        """Where `name`, one of `foreign`, comes from."""
        return Origin.of(self._found()[name][0])

    def package(self, name: str) -> str | None:
        """Name and version of the package that `name` comes from; None for what is of this one."""
        return self.origin(name).distribution if name in self.foreign() else None

    def load(self, name: str) -> Any:
        """What `name`, one of `names`, stands for; raises CaseError where it cannot be imported."""
        if name in self.own:
            module, attribute = self.own[name].split(":")
            return getattr(import_module(module), attribute)
        with self.blaming(name, "cannot be imported"):
            return self._found()[name][0].load()

    @contextmanager
    def blaming(self, name: str, what: str = "failed") -> Iterator[None]:
        """In its context, whatever goes wrong with `name` of another package is a CaseError in its name."""
        try:
            yield
        except SolverError:
            raise
        except Exception as error:  # another package fails as it likes
            if name in self.own:
                raise
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise CaseError(f"{self.table} {self.origin(name)} {what}: {reason}") from error

    def arguments(self, name: str, given: Mapping[str, Any], skip: int = 0) -> dict[str, Any]:
        """All arguments of what `name` stands for, checked against their annotations, the defaults filled in.

        Those before number `skip` are not the user's to give.

        Raises
        ------
        CaseError : unknown argument, or a value of the wrong type or size; an argument without an annotation.
        """
        model = self._model(name, self.load(name), skip)
        try:
            return dict(model.model_validate(dict(given)))
        except ValidationError as error:
            raise CaseError(f"{self.table} '{name}': {explain(error, model, dict(given))}") from None

    def make(self, name: str, given: Mapping[str, Any]) -> Any:
        """Call what `name` stands for with arguments that are checked first; raises as `require` and `arguments` do."""
        self.require(name)
        checked, made = self.arguments(name, given), self.load(name)
        with self.blaming(name, "cannot be made"):
            return made(**checked)

    @cache  # noqa: B019  (registries live as long as the process)
    def _model(self, name: str, made: Callable[..., Any], skip: int) -> type[BaseModel]:
        """The keyword arguments of a class or function as a strict model."""
        hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made, include_extras=True)
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = [p for p in inspect.signature(made).parameters.values() if p.kind in named][skip:]
        if missing := [p.name for p in parameters if p.name not in hints]:
            raise CaseError(f"{self.table} '{name}': its argument '{missing[0]}' needs an annotation")
        defaults = {p.name: ... if p.default is p.empty else p.default for p in parameters}
        fields: dict[str, Any] = {key: (hints[key], default) for key, default in defaults.items()}
        config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
        try:
            return create_model(name, __config__=config, **fields)
        except PydanticUserError as error:
            reason = str(error).partition(chr(10))[0]
            raise CaseError(f"{self.table} '{name}': an argument cannot be checked: {reason}") from None

    def _found(self) -> dict[str, list[EntryPoint]]:
        """Entry points by name, each value once."""
        found: dict[str, dict[str, EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, {}).setdefault(point.value, point)
        return {name: list(points.values()) for name, points in found.items()}


def suggestion(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of a message on an unknown word: which one may have been meant, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean '{close[0]}'?" if close else ""


def _one_of(names: Iterable[str]) -> str:
    return "; one of " + ", ".join(names)
