"""Pressure solvers: exact fast diagonalisation."""
