"""Sequences of linear systems: Krylov methods that recycle, and the direct and multigrid solvers they must beat."""
