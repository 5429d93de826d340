"""``solver doctor``."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from solver import __version__
from solver.cli.columns import fitting
from solver.terminal import console

STYLES = {"ok": "green", "note": "yellow", "wrong": "bold red"}


def doctor() -> None:
    """What a run would use here, what is wrong with it, and what helps; also under mpirun."""
    from solver.parallel import ranks
    from solver.run import doctor, facts

    everybody = facts.of_all()
    if not ranks.is_root():
        return
    table = Table("", "", "verdict", "what helps", title=f"les-solver {__version__}")
    for line in doctor.examine(everybody, facts.installed(Path.cwd())):
        table.add_row(line.what, line.value, Text(line.verdict, STYLES[line.verdict]), line.remedy)
    console().print(table)
    if each := doctor.differences(everybody):
        console().print(fitting(each, ["rank", "cores", "threads", "GPU", "node"], console().width))
