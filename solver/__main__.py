"""``python -m solver`` is the command ``solver``."""

import sys
from pathlib import Path

# Python looks into the working directory first, where a file of the user's may be called closures.py.
if sys.path[0] == str(Path.cwd()) != str(Path(__file__).resolve().parents[1]):
    del sys.path[0]

from solver.cli.main import main

main()
