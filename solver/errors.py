"""Everything the product raises on purpose; each carries one clear line and an exit code."""

from __future__ import annotations


class SolverError(Exception):
    """Base of all deliberate failures; ``exit_code`` is what the command line returns."""

    exit_code = 2


class CaseError(SolverError):
    """A case, option or recipe is wrong: the message names key, file and remedy."""


class RunFolderError(SolverError):
    """A run folder or checkpoint cannot be written or read."""


class FeatureUnavailable(SolverError):
    """An optional dependency or device is missing on this machine."""


class PressureSolveError(SolverError):
    """A pressure solve failed; the message carries step, reason and residual."""

    exit_code = 3


class Diverged(SolverError):
    """The flow left the finite world (NaN or blow-up)."""

    exit_code = 3
