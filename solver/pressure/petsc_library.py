"""PETSc, initialised the same way whoever comes first."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from solver.errors import FeatureUnavailable
from solver.parallel import ranks


def petsc(remedy: str) -> Any:
    """The module ``petsc4py.PETSc``; its objects take the communicator that they are given.

    Raises
    ------
    FeatureUnavailable : it is not installed; the line ends with the `remedy`.
    """
    try:
        return _initialised()
    except ImportError:
        raise FeatureUnavailable(f"petsc4py is not installed (make petsc builds it): {remedy}") from None


@cache
def _initialised() -> Any:
    # signals belong to the run; a rank may be the only one of its farm that needs PETSc, so none waits for others
    importlib.import_module("petsc4py").init(["-no_signal_handler"], comm=ranks.alone())
    return importlib.import_module("petsc4py.PETSc")
