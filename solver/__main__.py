"""``python -m solver`` is the command ``solver``."""

from solver.cli.main import main

main()
