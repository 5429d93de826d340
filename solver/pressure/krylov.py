"""Krylov solvers of PETSc for the pressure equation; options with the prefix ``pressure_`` (in PETSC_OPTIONS) have the
last word.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from solver.errors import CaseError, FeatureUnavailable
from solver.pressure.direct import DirectPressure
from solver.pressure.multigrid import Multigrid
from solver.pressure.petsc_library import petsc
from solver.pressure.poisson import Poisson
from solver.pressure.report import DRIFT, DRIFTED, SolveReport, checked

Method = Literal["cg", "fcg", "gmres"]
Preconditioner = Literal["none", "jacobi", "icc", "gamg", "hypre", "direct", "multigrid", "learned"]
PREFIX = "pressure_"
VARYING = ("multigrid", "learned")  # from one application to the next, be it by rounding
REMEMBERED = 10  # directions that stay conjugate although the preconditioner is not linear


def reason_name(petsc: Any, reason: int) -> str:
    """The name PETSc gives to the end of an iteration."""
    names = {value: name for name, value in vars(petsc.KSP.ConvergedReason).items() if isinstance(value, int)}
    return str(names.get(reason, f"reason {reason}"))


def check_indices(count: int, kind: Any) -> None:
    """Raises CaseError if PETSc, whose indices are of this type, cannot count so far."""
    if count > np.iinfo(kind).max:
        raise CaseError(
            f"[pressure] solver = 'krylov': {count} unknowns, or matrix entries on a rank, are more than this PETSc "
            f"numbers ({np.iinfo(kind).max}): use solver = 'multigrid', or PETSc built with 64-bit indices"
        )


class _Approximate:
    """A PETSc preconditioner of type python: `function` maps a flat residual to a flat error."""

    def __init__(self, poisson: Poisson, function: Callable[[Tensor], Tensor]) -> None:
        self.index, self.function = poisson.unknowns, function
        self.flat = poisson.layout.zeros(poisson.dtype)

    def apply(self, _pc: Any, x: Any, y: Any) -> None:
        """What PETSc calls: ``y = M^-1 x``."""
        self.flat[self.index] = torch.tensor(x.getArray(readonly=True)).to(self.flat)
        y.setArray(self.function(self.flat)[self.index].to(torch.float64).cpu().numpy())


def box_solver(poisson: Poisson) -> Callable[[Tensor], Tensor]:
    """The direct solver of the box without solids, as an approximate inverse: what it returns vanishes in solids.

    Spectrally equivalent to the true inverse, because a potential in the fluid has an extension into a solid whose
    energy is bounded by a multiple of its own (O. Widlund 1987, capacitance matrix methods).
    """
    direct, layout, fluid = DirectPressure(poisson.operators), poisson.layout, poisson.volume > 0
    inverse = torch.where(fluid, -1.0 / torch.where(fluid, poisson.volume, 1.0), 0.0)
    nx, ny, nz = layout.shape
    dtype = poisson.operators.dtype
    rhs = torch.zeros((1, ny, nx, nz), dtype=dtype, device=layout.device).transpose(1, 2)

    def apply(residual: Tensor) -> Tensor:
        layout.unpack(residual * inverse, rhs)
        return torch.where(fluid, layout.pack(direct.solve(rhs), poisson.dtype), 0.0)  # vectors vanish in solids

    return apply


class KrylovPressure:
    """PETSc's KSP on the assembled matrix; a `PressureSolver`.

    Parameters
    ----------
    poisson : the problem.
    preconditioner : by name; ``icc`` factorises each rank's block, ``direct`` ignores the solids, ``multigrid`` is
        the V-cycle of `multigrid`, ``learned`` is the function `learned`.
    method : ``cg``, ``fcg`` (flexible; the default for ``multigrid``, whose cycle is in single precision) or ``gmres``
        (flexible for ``multigrid`` and ``learned``; the default for ``learned``, which need not be symmetric).
    tolerance : of the true residual relative to the source.
    max_iterations : give up after so many.
    learned : maps this rank's part of a flat residual to its part of a flat error; collective, perhaps not linear. A
        network gathers the residual and evaluates the whole box on every rank (`closures.pressure_nets`).

    Raises
    ------
    FeatureUnavailable : petsc4py is missing, or PETSc was built without hypre.
    CaseError : an unknown name, ``cg`` with ``learned``, which may be nonlinear.
    """

    def __init__(
        self,
        poisson: Poisson,
        preconditioner: Preconditioner = "gamg",
        method: Method | None = None,
        tolerance: float = 1e-8,
        max_iterations: int = 5000,
        learned: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.petsc = petsc("[pressure] solver = 'multigrid' works without")
        self.poisson, self.tolerance, self.learned = poisson, tolerance, learned
        varies = preconditioner in VARYING
        method = method or ("gmres" if preconditioner == "learned" else "fcg" if varies else "cg")
        self.name = f"{method}+{preconditioner}"
        self.defaults: list[str] = []
        self.matrix = self._assemble()
        self.ksp = self.petsc.KSP().create(comm=poisson.slabs.comm)
        self.ksp.setOptionsPrefix(PREFIX)
        self.ksp.setOperators(self.matrix)
        if (method, preconditioner) == ("cg", "learned"):
            raise CaseError("[pressure] method = 'cg' needs a linear preconditioner: use 'fcg' or 'gmres'")
        self._choose_method("fgmres" if method == "gmres" and varies else method, preconditioner)
        self._choose_preconditioner(preconditioner)
        self.ksp.setTolerances(rtol=tolerance, atol=0.0, divtol=1e8, max_it=max_iterations)
        self.ksp.setInitialGuessNonzero(True)
        self.ksp.setFromOptions()
        self.x, self.b = self.matrix.createVecs()
        self.ksp.setUp()
        for option in self.defaults:  # PETSc's options are global: the next solver has defaults of its own
            self.petsc.Options().delValue(option)

    def _assemble(self) -> Any:
        petsc, comm = self.petsc, self.poisson.slabs.comm
        pointers, columns, values = self.poisson.rows()
        n = len(self.poisson.unknowns)
        slabs = self.poisson.slabs
        counts = (
            slabs.sum(torch.tensor(float(n), dtype=torch.float64)),
            slabs.max(torch.tensor(float(pointers[-1]), dtype=torch.float64)),
        )
        check_indices(max(map(int, counts)), petsc.IntType)
        csr = (pointers.astype(petsc.IntType), columns.astype(petsc.IntType), values)
        matrix = petsc.Mat().create(comm=comm)
        matrix.setSizes(((n, None), (n, None)))
        matrix.setType("aij")
        matrix.setPreallocationCSR(csr)
        matrix.assemble()
        matrix.setOption(petsc.Mat.Option.SYMMETRIC, True)
        vectors = self._null_vectors(matrix)
        if vectors:
            space = petsc.NullSpace().create(vectors=vectors, comm=comm)
            matrix.setNullSpace(space)
            matrix.setTransposeNullSpace(space)
        return matrix

    def _null_vectors(self, matrix: Any) -> list[Any]:
        """One unit vector for each part of the fluid of more than one cell."""
        part, vectors = self.poisson.part_of[self.poisson.unknowns], []
        for number in range(1, self.poisson.null_count + 1):
            vector = matrix.createVecLeft()
            vector.setArray((part == number).double().cpu().numpy())
            if vector.norm() > 0.0:
                vector.normalize()
                vectors.append(vector)
        return vectors

    def _choose_method(self, method: str, preconditioner: str) -> None:
        if method not in ("cg", "fcg", "gmres", "fgmres"):
            raise CaseError(f"[pressure] method = {method!r}: should be 'cg', 'fcg' or 'gmres'")
        self.ksp.setType(method)
        if method == "gmres":
            self.ksp.setPCSide(self.petsc.PC.Side.RIGHT)
        if method == "fcg":  # one remembered direction, as in Notay (2000); more where the operator is not linear
            remembered = REMEMBERED if preconditioner == "learned" else 1
            self._default("ksp_fcg_mmax", remembered)
            self._default("ksp_fcg_nprealloc", remembered + 1)
        self.ksp.setNormType(self.petsc.KSP.NormType.UNPRECONDITIONED)

    def _choose_preconditioner(self, name: str) -> None:
        petsc, pc, poisson = self.petsc, self.ksp.getPC(), self.poisson
        if name in ("none", "jacobi"):
            pc.setType(name)
        elif name == "icc":
            pc.setType("bjacobi")
            self._default("sub_pc_type", "icc")
        elif name == "gamg":
            pc.setType("gamg")
            self._default("mg_coarse_pc_type", "svd")  # the coarsest matrix is singular as well
        elif name == "hypre":
            if not petsc.Sys.hasExternalPackage("hypre"):
                raise FeatureUnavailable(
                    "[pressure] preconditioner = 'hypre': this PETSc was built without; use 'gamg'"
                )
            pc.setType("hypre")
            pc.setHYPREType("boomeramg")
        elif name in ("direct", "multigrid", "learned"):
            pc.setType("python")
            pc.setPythonContext(_Approximate(poisson, self._function(name)))
        else:
            known = ", ".join(get_args(Preconditioner))
            raise CaseError(f"[pressure] preconditioner = {name!r}: should be one of {known}")

    def _function(self, name: str) -> Callable[[Tensor], Tensor]:
        """The approximate inverse that is not PETSc's own."""
        if name == "direct":
            return box_solver(self.poisson)
        if name == "multigrid":
            return Multigrid(self.poisson)
        if self.learned is None:
            raise CaseError("[pressure] preconditioner = 'learned' needs an artefact")
        return self.learned

    def _default(self, option: str, value: object) -> None:
        """Set an option that the user has not set."""
        options = self.petsc.Options()
        if not options.hasName(PREFIX + option):
            options.setValue(PREFIX + option, value)
            self.defaults.append(PREFIX + option)

    def solve(self, rhs: Tensor, out: Tensor) -> SolveReport:
        """Overwrite the guess `out` (zeros for none) by phi, of zero mean over each part without outlet.

        Raises
        ------
        PressureSolveFailure : PETSc gave up, for the reason it names.
        """
        start = time.perf_counter()
        poisson, layout, index = self.poisson, self.poisson.layout, self.poisson.unknowns
        b = poisson.source(rhs)
        norm = self.poisson.layout.norm(b)
        flat = layout.zeros(poisson.dtype)
        if norm == 0.0:
            layout.unpack(flat, out)
            return SolveReport(True, "CONVERGED_RTOL", 0, 0.0, time.perf_counter() - start)
        self.b.setArray(b[index].double().cpu().numpy())
        self.x.setArray(poisson.in_fluid(out)[index].double().cpu().numpy())
        self.ksp.solve(self.b, self.x)
        flat[index] = torch.tensor(self.x.getArray(readonly=True)).to(flat)
        layout.unpack(poisson.centred(flat), out)
        product = layout.zeros(poisson.dtype)
        poisson.stencil.apply(layout.exchange(flat), product)
        residual = self.poisson.layout.norm(b - product) / norm
        seconds = time.perf_counter() - start
        reason, converged = reason_name(self.petsc, self.ksp.reason), self.ksp.reason > 0
        if converged and not residual < DRIFT * self.tolerance:
            reason, converged = f"{reason}{DRIFTED}", False
        report = SolveReport(converged, reason, self.ksp.getIterationNumber(), residual, seconds)
        return checked(self.name, report)
