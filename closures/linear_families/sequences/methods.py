"""One way to say "solve this system with that method": ``method("skr+icc").solve(system, carry)``.

A name is a Krylov method, and after a plus its preconditioner:

========  ==========================================================  =========
method    what it is                                                  recycles
========  ==========================================================  =========
direct    sparse LU (SuperLU), once for systems that share a matrix
cholesky  PETSc's sparse Cholesky, one symbolic factorisation
mumps     MUMPS through PETSc, where the build has it
cg        conjugate gradients (PETSc; with jacobi and fft those here)
gmres     GMRES(40), preconditioned from the right (PETSc)
fresh     GCRO-DR(40, 20) that forgets between systems
gcrodr    GCRO-DR(40, 20), systems in the order they were drawn       yes
skr       the same, systems sorted by similarity                      yes
rcg       recycling conjugate gradients, systems sorted               yes
gamg      algebraic multigrid (PETSc) around cg, or gmres where the matrix is indefinite
========  ==========================================================  =========

Preconditioners: ``jacobi``, ``sor``, ``icc``, ``ilu``, ``gamg`` (PETSc), and ``fft``: the family's own nearby operator
that fast transforms invert. SKR, with its GMRES(40) and GCRO-DR(40, 20), is Wang et al. (2024), arXiv 2401.09516.

``+guess`` after any of them starts every solve from the best combination of the last forty solutions.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.linalg

from closures.linear_families.sequences.deflation import recycling_cg
from closures.linear_families.sequences.gcrodr import gcrodr
from closures.linear_families.sequences.petsc import PetscPreconditioner, PetscSolver, has_package
from closures.linear_families.sequences.solutions import Solutions
from closures.linear_families.sequences.system import Apply, Solution, System, solution
from solver.errors import CaseError, FeatureUnavailable

DIRECT = ("direct", "cholesky", "mumps")
KRYLOV = ("cg", "gmres", "fresh", "gcrodr", "skr", "rcg")
PRECONDITIONERS = ("none", "jacobi", "sor", "icc", "ilu", "gamg", "fft")
RECYCLING = ("fresh", "gcrodr", "skr", "rcg")
FOR_DEFINITE = ("cholesky", "cg", "rcg")
GUESS = "+guess"


@dataclass(frozen=True)
class Method:
    """A Krylov or direct method and a preconditioner; holds no state.

    `subspace` and `recycle` are m and k of GCRO-DR(m, k); recycling conjugate gradients keeps `recycle` vectors, and a
    method with a `guess` the last `subspace` solutions.
    """

    krylov: str
    preconditioner: str = "none"
    subspace: int = 40
    recycle: int = 20
    max_iterations: int = 10_000
    guess: bool = False

    @property
    def name(self) -> str:
        """As it is written in a recipe."""
        plain = self.krylov if self.preconditioner == "none" else f"{self.krylov}+{self.preconditioner}"
        return plain + GUESS if self.guess else plain

    @property
    def sorts(self) -> bool:
        """Whether it wants similar systems one after the other."""
        return self.krylov in ("skr", "rcg")

    def solve(self, system: System, carry: Any = None, tolerance: float = 1e-8) -> tuple[Solution, Any]:
        """Solve one system of a sequence.

        Parameters
        ----------
        carry : what the call for the previous system returned, None for the first: a recycled space, a factorisation,
            solutions.

        Raises
        ------
        CaseError : the method needs a definite matrix, or a nearby operator, that the system does not have.
        FeatureUnavailable : it needs PETSc, or a package, that is missing.
        """
        if not system.definite and self.krylov in FOR_DEFINITE:
            raise CaseError(
                f"method '{self.name}' needs a definite matrix: use 'direct', 'gmres' or 'skr' for this family"
            )
        if self.preconditioner == "fft" and system.nearby is None:
            raise CaseError(f"method '{self.name}': this family has no operator for fast transforms: use icc or gamg")
        if self.guess:
            return self._guess(system, carry or (Solutions(self.subspace), None), tolerance)
        if self.krylov == "direct":
            return _direct(system, carry, tolerance)
        if self.krylov in RECYCLING or (self.krylov == "cg" and self.preconditioner in ("jacobi", "fft")):
            return self._recycle(system, carry or (None, None), tolerance)
        return self._petsc(system, carry, tolerance)

    def _guess(self, system: System, carry: tuple[Solutions, Any], tolerance: float) -> tuple[Solution, Any]:
        """The method itself, for the residual that the best combination of known solutions leaves."""
        a, b = system.matrix, system.rhs
        known, inner = carry
        x, products = known.guess(system)
        r = b - a @ x if known.x else b
        size = float(np.linalg.norm(b))
        left = float(np.linalg.norm(r)) / size if size > 0 else 0.0
        iterations, history = 0, [left]
        if left > tolerance:
            rest, inner = replace(self, guess=False).solve(replace(system, rhs=r), inner, tolerance / left)
            x = x + rest.x
            iterations, products = rest.iterations, products + rest.products
            history = [left * h for h in rest.history]
            known.keep(system, x)
        return solution(a, b, x, tolerance, iterations, products + 1, history), (known, inner)

    def _petsc(self, system: System, carry: PetscSolver | None, tolerance: float) -> tuple[Solution, PetscSolver]:
        if carry is None or not carry.matrix.fits(system.matrix):
            if self.krylov == "mumps":
                _need("mumps")
                kind = "cholesky" if system.definite else "lu"
                carry = PetscSolver("preonly", kind, system, "mumps")
            elif self.krylov == "cholesky":
                carry = PetscSolver("preonly", "cholesky", system)
            elif self.krylov == "gamg":
                carry = PetscSolver("cg" if system.definite else "gmres", "gamg", system)
            else:
                kind = "nearby" if self.preconditioner == "fft" else self.preconditioner
                carry = PetscSolver(self.krylov, kind, system)
        return carry.solve(system, tolerance, self.max_iterations), carry

    def _recycle(self, system: System, carry: tuple[Any, Any], tolerance: float) -> tuple[Solution, tuple[Any, Any]]:
        """The methods of this package; `carry` is the recycled space, and PETSc's preconditioner."""
        space, kept = carry
        apply: Apply | None = None
        if self.preconditioner == "fft":
            apply = system.nearby
        elif self.preconditioner == "jacobi":
            apply = _times(1 / system.matrix.diagonal())
        elif self.preconditioner != "none":
            if kept is None or not kept.matrix.fits(system.matrix):
                kept = PetscPreconditioner(self.preconditioner, system)
            apply = kept.prepare(system)
        a, b = system.matrix, system.rhs
        options: dict[str, Any] = {"tolerance": tolerance, "max_iterations": self.max_iterations}
        if self.krylov == "cg":
            found, _ = recycling_cg(a, b, precondition=apply, k=0, **options)
        elif self.krylov == "rcg":
            vectors, learning = space or (None, _Learning())
            if not learning.on:
                options["harvest"] = 0
            found, vectors = recycling_cg(a, b, vectors, precondition=apply, k=self.recycle, **options)
            space = vectors, learning.after(found.iterations)
        else:
            start = None if self.krylov == "fresh" else space
            found, space = gcrodr(a, b, start, precondition=apply, m=self.subspace, k=self.recycle, **options)
        return found, (space, kept)


class _Learning(NamedTuple):
    """Whether the next system is worth harvesting: as long as that saves a tenth of the steps, and when they grow."""

    on: bool = True
    best: float = np.inf

    def after(self, iterations: int) -> _Learning:
        """What a system says."""
        pays = iterations < 0.9 * self.best if self.on else iterations > 1.2 * self.best
        return _Learning(pays, min(self.best, iterations))


def _direct(system: System, carry: Any, tolerance: float) -> tuple[Solution, Any]:
    """SuperLU with minimum degree on the symmetric pattern; one factorisation for systems that share a matrix."""
    if carry is None or carry[0] is not system.matrix:
        options = {"SymmetricMode": True}
        factor = scipy.sparse.linalg.splu(
            system.matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.01, options=options
        )
        carry = system.matrix, factor
    x = carry[1].solve(system.rhs)
    return solution(system.matrix, system.rhs, np.asarray(x), tolerance, 0, 0, []), carry


def _times(diagonal: np.ndarray) -> Apply:
    return lambda r: diagonal * r


def _need(package: str) -> None:
    if not has_package(package):
        raise FeatureUnavailable(f"this PETSc was built without {package}: use 'direct' or 'cholesky'")


def method(name: str) -> Method:
    """The method called `name`.

    Raises
    ------
    CaseError : no such method or preconditioner; with the nearest name.
    """
    guess = name.endswith(GUESS)
    krylov, _, preconditioner = name.removesuffix(GUESS).partition("+")
    if preconditioner in PRECONDITIONERS and krylov in KRYLOV:
        return Method(krylov, preconditioner, guess=guess)
    if not preconditioner and krylov in (*DIRECT, *KRYLOV, "gamg"):
        return Method(krylov, guess=guess)
    near = difflib.get_close_matches(name, names(), 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; one of {', '.join(names())}"
    raise CaseError(f"method '{name}': no such method{hint}")


def names() -> list[str]:
    """Every method that `method` knows, without ``+guess``."""
    pairs = [f"{krylov}+{pc}" for krylov in KRYLOV for pc in PRECONDITIONERS[1:]]
    return [*DIRECT, "gamg", *KRYLOV, *pairs]
