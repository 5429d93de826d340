"""The tutorials, followed from an empty folder to their figures and tables: every command and every file on them.

A comment above a block of commands gives them a smaller grid and a shorter time. What installs or submits is left out,
and commands that a page starts on two ranks run on one: that ranks do not matter is tested elsewhere.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import runs
from tests.cli.guides import ROOT, install

TUTORIALS = sorted(page for page in (ROOT / "docs/tutorials").glob("*.md") if page.name != "README.md")
MADE = {  # what is there at the end
    "channel": ["runs/wale/figures/profiles.png", "runs/wale/figures/profiles.pdf", "mine.png"],
    "closure": ["runs/lengths/report.html"],
    "operator": ["nets/local/card.json", "runs/local/figures/profiles.png", "runs/two/summary.json"],
    "data": ["data/small/manifest.json", "data/small_statistics.h5"],
    "comparison": ["runs/ab/report.html", "runs/ab/table.csv"],
}
NOT_HERE = ("pip", "srun", "export")
BLOCK = re.compile(r"(?:<!-- in the test: ([^\n]*) -->\n)?```(sh|python)\n(.*?)```", re.DOTALL)


def files(page: Path, folder: Path) -> None:
    """The TOML files that a page names in the line before them."""
    text = page.read_text(encoding="utf-8")
    for name, body in re.findall(r"`([\w/]+\.toml)`:\n\n(?:<!-- .*? -->\n)?```toml\n(.*?)```", text, flags=re.DOTALL):
        tomllib.loads(body)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(body)


def follow(line: str, short: str) -> None:
    """One line of a block of commands, with the words that make it short."""
    words = shlex.split(line, comments=True)
    if not words or words[0] in NOT_HERE:
        return
    if words[0] == "cp":
        subprocess.run(["bash", "-c", line.replace("python ", f"{sys.executable} ")], check=True)
        return
    if words[:2] == ["mpirun", "-n"]:
        words = words[3:]
    assert words[0] == "solver"
    done = runs.solver(*words[1:], *shlex.split(short))
    assert done.code == 0, f"{line}: {done.err or done.out}"


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_it_is_followed_to_the_end(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    install(monkeypatch, tmp_path, [page])
    files(page, tmp_path)
    names: dict[str, object] = {}
    text = page.read_text(encoding="utf-8")
    for note, language, body in BLOCK.findall(text):
        if language == "sh":
            for line in body.splitlines():
                follow(line, note)
        elif not body.startswith('"""my_'):
            exec(body, names)
    assert [path for path in MADE[page.stem] if not (tmp_path / path).is_file()] == []


def test_every_tutorial_is_followed():
    assert [page.stem for page in TUTORIALS] == sorted(MADE)
    index = (ROOT / "docs/tutorials/README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+)\.md\)", index)) == sorted(MADE)
