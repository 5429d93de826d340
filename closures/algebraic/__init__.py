"""Eddy viscosities given by a formula of the velocity gradient."""
