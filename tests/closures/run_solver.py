"""Run under mpirun: the command line where the guests are installed."""

from __future__ import annotations

from solver.cli.main import main
from tests.closures.guest_package import installed

with installed():
    main()
