"""What `pip install` brings: everything that the repository has, and it runs where the repository is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from solver import __version__
from tests.runs import ROOT

pytestmark = pytest.mark.slow
BUILD = "from setuptools import build_meta; build_meta.build_{kind}({into!r})"
USE = """
import closures, os, sys
from closures.training.experiment import load_experiment
from pathlib import Path
from solver.case.case import load_case
from solver.cli.main import main
from closures.operators.shipped import shipped
from solver.files.folder import commit
site = os.environ["PYTHONPATH"]
assert closures.__file__.startswith(site), closures.__file__
assert len(shipped()) > 5
assert load_case(Path(load_experiment(Path("lesnets/hit_decay")).equations.case))[1].name == "hit_decay"
assert commit() == (None, None)
for words in (["cases"], ["run", "channel180_coarse", "--steps", "1", "--out", "run", "--set", "grid.x.n=16"]):
    sys.argv = ["solver", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
"""


def tracked(*folders: str) -> set[str]:
    """Files that git has in folders of the repository."""
    done = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a repository")
    return {name for name in done.stdout.splitlines() if os.path.lexists(ROOT / name)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel that is built from the sdist, as pip does it, not from the checkout."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name, follow_symlinks=False)
    for kind, into in (("sdist", source), ("wheel", folder / f"les_solver-{__version__}")):
        if kind == "wheel":
            subprocess.run(["tar", "-xzf", next(folder.glob("*.tar.gz")), "-C", folder], check=True)
        code = BUILD.format(kind=kind, into=str(folder))
        done = subprocess.run([sys.executable, "-c", code], cwd=into, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_everything(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = HeaderParser().parsestr(archive.read(f"les_solver-{__version__}.dist-info/METADATA").decode())
    wanted = {name for name in tracked("solver", "closures") if name != "solver/cases"}
    wanted |= {f"solver/{name}" for name in tracked("cases")}
    assert wanted - names == set()
    assert {name.split("/")[0] for name in names} == {"solver", "closures", f"les_solver-{__version__}.dist-info"}
    assert about["Version"] == __version__
    assert {"petsc", "train", "view", "docs"} <= set(about.get_all("Provides-Extra"))


def test_it_runs_from_an_empty_folder(wheel, tmp_path):
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # an environment in a repository of something else
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "channel180_coarse" in done.stdout
    assert sorted(path.name for path in here.iterdir()) == ["run"]
    assert (here / "run/reference/channel_mkm180.csv").read_bytes() == (
        ROOT / "cases/channel180_coarse/reference/channel_mkm180.csv"
    ).read_bytes()
