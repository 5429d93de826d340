"""Training while the solver runs: flows on some ranks, a buffer and the optimiser on another, nothing on disk."""
