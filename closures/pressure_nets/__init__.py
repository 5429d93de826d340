"""Learned search directions for the pressure equation, and the solver that makes them conjugate."""
