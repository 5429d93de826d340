"""Pressure solvers: exact fast diagonalisation; multigrid and PETSc around solids."""
