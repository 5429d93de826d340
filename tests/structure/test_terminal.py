"""One console for all: what a launcher of MPI takes for a terminal gets plain lines, whichever command prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from solver import terminal

ROOT = Path(__file__).parents[2]
OTHERS = {"solver/run/log.py"}  # writes log.txt


def test_nobody_makes_a_console_of_their_own():
    files = [path for room in ("solver", "closures") for path in sorted((ROOT / room).rglob("*.py"))]
    own = {str(path.relative_to(ROOT)) for path in files if "Console(" in path.read_text(encoding="utf-8")}
    assert own == {"solver/terminal.py", *OTHERS}


@pytest.mark.parametrize("launcher", terminal.LAUNCHERS)
def test_under_mpi_lines_are_plain(launcher, monkeypatch, capsys):
    """Also where colours are asked for, as they are of a real terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv(launcher, "1")
    shown = terminal.console()
    with terminal.Bar(10.0, console=shown) as bar:
        for done in range(11):
            bar.reach(done, f"{done} of 10")
    shown.print("[grid.x] n = 16", style="bold red")
    said = capsys.readouterr().out
    assert "[grid.x] n = 16" in said
    assert "100 %" in said
    assert "\x1b" not in said
