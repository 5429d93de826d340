"""Closures in closed form: eddy viscosity and stress from the velocity gradient, wall stress from a law of the wall."""
