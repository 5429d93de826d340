"""PETSc as a peer: its Krylov methods and preconditioners on one rank, and its preconditioners as plain callables.

Everything lives on one rank: a farm gives each rank systems of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from closures.linear_families.sequences.system import Apply, Solution, System, solution
from solver.pressure import petsc_library

RESTART = 40


def petsc() -> Any:
    """The module ``petsc4py.PETSc``.

    Raises
    ------
    FeatureUnavailable : it is not installed.
    """
    return petsc_library.petsc("choose a method that does without, such as 'direct', 'cg+fft' or 'skr'")


def has_package(name: str) -> bool:
    """Whether this PETSc was built with an external package such as "mumps"."""
    return bool(petsc().Sys.hasExternalPackage(name))


class PetscMatrix:
    """A symmetric PETSc matrix that takes the values of one system after the other, with one symbolic factorisation."""

    def __init__(self, matrix: csr_array) -> None:
        p = petsc()
        self.source = matrix
        csr = (matrix.indptr, matrix.indices, matrix.data)
        self.mat = p.Mat().createAIJ(matrix.shape, csr=csr, comm=p.COMM_SELF)
        self.mat.setOption(p.Mat.Option.SYMMETRIC, True)
        self.mat.setOption(p.Mat.Option.SYMMETRY_ETERNAL, True)
        self.x, self.y = self.mat.createVecs()

    def fits(self, matrix: csr_array) -> bool:
        """Whether a matrix has this sparsity."""
        mine, same = self.source, matrix.shape == self.source.shape
        if not same or matrix.nnz != mine.nnz:
            return False
        shared = matrix.indices is mine.indices and matrix.indptr is mine.indptr
        return shared or (np.array_equal(matrix.indptr, mine.indptr) and np.array_equal(matrix.indices, mine.indices))

    def update(self, matrix: csr_array) -> None:
        """Take the values of a matrix that fits."""
        if matrix is not self.source:
            self.mat.setValuesCSR(matrix.indptr, matrix.indices, matrix.data)
            self.mat.assemble()
            self.source = matrix


class PetscSolver:
    """A KSP with its preconditioner, reused from system to system; build one by `for_system`.

    Parameters
    ----------
    krylov : "cg", "gmres" (restarted every 40 steps, preconditioned from the right) or "preonly".
    preconditioner : PETSc's name: "none", "jacobi", "sor", "icc", "ilu", "gamg", "cholesky", "lu"; or "nearby".
    package : that factorises, for "lu" and "cholesky"; PETSc's own if None.
    """

    def __init__(self, krylov: str, preconditioner: str, system: System, package: str | None = None) -> None:
        p = petsc()
        self.matrix = PetscMatrix(system.matrix)
        self.nearby = _Nearby() if preconditioner == "nearby" else None
        self.ksp = p.KSP().create(p.COMM_SELF)
        self.ksp.setType(krylov)
        if krylov != "preonly":
            self.ksp.setNormType(p.KSP.NormType.UNPRECONDITIONED)
        if krylov == "gmres":
            self.ksp.setPCSide(p.PC.Side.RIGHT)
            self.ksp.setGMRESRestart(RESTART)
        _set_preconditioner(self.ksp.getPC(), preconditioner, self.nearby, package)

    def solve(self, system: System, tolerance: float, max_iterations: int) -> Solution:
        """Solve one system from a zero guess; the residual is PETSc's in the history, ours in the verdict."""
        self.matrix.update(system.matrix)
        if self.nearby is not None:
            self.nearby.inverse = system.nearby
        self.ksp.setTolerances(rtol=tolerance, atol=0.0, divtol=1e300, max_it=max_iterations)
        self.ksp.setConvergenceHistory(length=max_iterations + 1, reset=True)
        self.ksp.setOperators(self.matrix.mat)
        self.matrix.x.array[:] = system.rhs
        failure = ""
        try:
            self.ksp.solve(self.matrix.x, self.matrix.y)
        except petsc().Error as error:  # a factorisation broke down
            failure = str(error)
        x = np.zeros_like(system.rhs) if failure else self.matrix.y.array.copy()
        iterations = 0 if self.ksp.getType() == "preonly" else int(self.ksp.getIterationNumber())
        size = float(np.linalg.norm(system.rhs)) or 1.0
        history = [float(r) / size for r in self.ksp.getConvergenceHistory()[1:]]
        return solution(system.matrix, system.rhs, x, tolerance, iterations, iterations, history)


class PetscPreconditioner:
    """A PETSc preconditioner as a callable, for the methods written here."""

    def __init__(self, kind: str, system: System) -> None:
        p = petsc()
        self.matrix = PetscMatrix(system.matrix)
        self.pc = p.PC().create(p.COMM_SELF)
        _set_preconditioner(self.pc, kind, None, None)

    def prepare(self, system: System) -> Apply:
        """Set it up for a system and return what applies it."""
        self.matrix.update(system.matrix)
        self.pc.setOperators(self.matrix.mat)
        self.pc.setUp()
        x, y = self.matrix.x, self.matrix.y

        def apply(r: np.ndarray) -> np.ndarray:
            x.array[:] = r
            self.pc.apply(x, y)
            z: np.ndarray = y.array.copy()
            return z

        return apply


class _Nearby:
    """PETSc calls this for the system's own fast inverse."""

    inverse: Apply | None = None

    def apply(self, _: Any, x: Any, y: Any) -> None:
        assert self.inverse is not None
        y.array[:] = self.inverse(x.array_r)


def _set_preconditioner(pc: Any, kind: str, nearby: _Nearby | None, package: str | None) -> None:
    if nearby is not None:
        pc.setType("python")
        pc.setPythonContext(nearby)
        return
    pc.setType(kind)
    if kind in ("lu", "cholesky"):
        pc.setFactorOrdering("nd")
        if package is not None:
            pc.setFactorSolverType(package)
