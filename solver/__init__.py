"""An MPI-parallel large-eddy-simulation driver that hosts learned closures."""

__version__ = "0.1.0"
