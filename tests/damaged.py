"""What `tests/fuzz.py` damages, and the commands that are given it: one function a kind of input."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from closures.data.convert import convert
from closures.data.folder import files_of
from closures.data.grids import is_flow_recipe, load_flow_recipes
from closures.data.layout import layout_of
from closures.data.profiles import filtered_channel
from closures.data.scaling import scaling
from closures.data.windows import TrajectoryFiles, Windows, split
from closures.linear_families.generate import resolve
from closures.linear_families.recipe import load_recipe as load_family
from closures.operators import artefact, build, shipped
from closures.training.experiment import load_experiment
from solver.errors import SolverError
from solver.files.folder import to_toml
from tests import mutations, runs
from tests.runs import ROOT, Ended, solver

CASES = sorted(p.parent for p in ROOT.glob("cases/*/case.toml"))
RECIPES = sorted([*ROOT.glob("closures/**/recipes/**/*.toml")])
SAMPLE = ROOT / "closures/data/samples/channel180_sample.h5"
STL = """solid box
{}
endsolid box
"""


def small(text: str) -> str:
    """A case with so few points that it can be tried: eight along an axis, sixteen around solids."""
    data = tomllib.loads(text)
    most = 16 if "solids" in data else 8
    for axis in data["grid"].values():
        axis["n"] = min(axis["n"], most)
    return to_toml(data)


def case(folder: Path, rng: np.random.Generator) -> Ended:
    """A shipped case on few points, with mistakes in the file: checked, or begun."""
    source = CASES[int(rng.integers(len(CASES)))]
    shutil.copytree(source, folder / "case")
    text = small((source / "case.toml").read_text())
    if rng.random() < 0.3:
        name = str(rng.choice(["smagorinsky", "wale", "sigma", "vreman", "dynamic_smagorinsky", "tbnn", "corrector"]))
        option = str(rng.choice(["c_s", "every", "c_w", "damping", "base", "artefact", "guard", "interval"]))
        text += f'\n[closure]\nname = "{name}"\n{option} = {rng.choice(mutations.EXTREME)}\n'
    (folder / "case" / "case.toml").write_bytes(mutations.text_of(text, rng))
    if rng.random() < 0.5:
        return solver("check", folder / "case")
    return solver("run", folder / "case", "--steps", 2, "--out", folder / "run", "--quiet")


def table(folder: Path, rng: np.random.Generator) -> Ended:
    """A case whose tables, or the run folder whose tables and records, are damaged."""
    if rng.random() < 0.6:
        with_tables = [path for path in CASES if (path / "reference").is_dir()]
        source = with_tables[int(rng.integers(len(with_tables)))]
        shutil.copytree(source, folder / "case")
        (folder / "case" / "case.toml").write_text(small((source / "case.toml").read_text()))
        files = sorted((folder / "case" / "reference").glob("*.csv"))
        words: tuple[object, ...] = ("run", folder / "case", "--steps", 2, "--out", folder / "run")
    else:
        shutil.copytree(made("run"), folder / "run")
        files = sorted([*(folder / "run").glob("*.csv"), *(folder / "run").glob("*.json")])
        words = ("plot", folder / "run")
        if rng.random() < 0.7:
            words = ("compare", folder / "run", made("run"), "--out", folder / "report")
    file = files[int(rng.integers(len(files)))]
    file.write_bytes(mutations.table_of(file.read_text(), rng))
    return solver(*words, *([] if words[0] in ("plot", "compare") else ["--quiet"]))


def recipe(folder: Path, rng: np.random.Generator) -> Ended:
    """A recipe of a training or of data: read, and what it describes built as far as that costs nothing."""
    source = RECIPES[int(rng.integers(len(RECIPES)))]
    file = folder / "recipe.toml"
    file.write_bytes(mutations.text_of(source.read_text(), rng))
    if "data" in source.parts:
        return ended(lambda: _of_data(file))
    return ended(lambda: _of_training(file))


def _of_data(file: Path) -> None:
    if is_flow_recipe(file):
        for found in load_flow_recipes(file).values():
            layout_of(found)
    else:
        resolve(load_family(file))


def _of_training(file: Path) -> None:
    """As ``solver train`` reads it."""
    found = load_experiment(file)
    if hasattr(found, "operator"):
        with torch.device("meta"):
            build(found.operator.name, **found.operator.arguments)


def ended(action: Callable[[], object]) -> Ended:
    """How a command would end that did this."""
    try:
        action()
    except SolverError as error:
        return Ended(error.exit_code, "", f"solver: {' '.join(str(error).splitlines())}\n")
    return Ended(0, "", "")


def card(folder: Path, rng: np.random.Generator) -> Ended:
    """A shipped network with a damaged card or weights: loaded, and put into a flow."""
    names = sorted(p.parent.name for p in shipped.PRETRAINED.glob("*/card.json"))
    name = names[int(rng.integers(len(names)))]
    shutil.copytree(shipped.PRETRAINED / name, folder / "network")
    file = folder / "network" / str(rng.choice([artefact.CARD, artefact.WEIGHTS]))
    if file.suffix == ".json":
        file.write_bytes(_json(file.read_text(), rng))
    else:
        file.write_bytes(mutations.bytes_of(file.read_bytes(), rng))
    role = json.loads((shipped.PRETRAINED / name / artefact.CARD).read_text())["inputs"]
    if role == "residual":
        return ended(lambda: artefact.load(folder / "network"))
    runs.write_case(folder / "case")
    kind = str(rng.choice(["subgrid_model", "corrector", "surrogate"]))
    closure = f"closure={{name='{kind}', artefact='{folder / 'network'}'}}"
    return solver("check", folder / "case", "--set", closure)


def _json(text: str, rng: np.random.Generator) -> bytes:
    """A card with a value that is wrong, or as a damaged text."""
    if rng.random() < 0.5:
        return mutations.text_of(text, rng)
    data = json.loads(text)
    key = str(rng.choice(sorted(data)))
    strange = [None, -1, 1e308, float("nan"), "", [], {}, "x" * 500, 2**70, True, [None], {"x": {}}, "fno"]
    if isinstance(data[key], dict) and data[key] and rng.random() < 0.7:
        data[key][str(rng.choice(sorted(data[key])))] = strange[int(rng.integers(len(strange)))]
    else:
        data[key] = strange[int(rng.integers(len(strange)))]
    return json.dumps(data).encode()


def familiar(folder: Path, rng: np.random.Generator) -> Ended:
    """A corrector whose knowledge of flows is damaged, or is another one of which its card knows."""
    shutil.copytree(shipped.PRETRAINED / "differential_corrector", folder / "network")
    file, card = folder / "network" / artefact.FAMILIAR, folder / "network" / artefact.CARD
    if rng.random() < 0.5:
        file.write_bytes(mutations.bytes_of(file.read_bytes(), rng))
    else:
        shapes = [(), (0,), (1, 3), (2, 85), (1, 85, 85), (1, 85)]
        names = [("means", "factors"), ("means",), ("factors", "means", "more")][int(rng.integers(3))]
        values = rng.choice([0.0, 1.0, np.nan, 1e38], len(names))
        chosen = zip(names, rng.integers(len(shapes), size=len(names)), values, strict=True)
        save_file({name: torch.full(shapes[shape], value) for name, shape, value in chosen}, file)
    if rng.random() < 0.7:
        data = json.loads(card.read_text()) | {"familiar_sha256": artefact.digest(file)}
        card.write_text(json.dumps(data))
    runs.write_case(folder / "case")
    return solver("check", folder / "case", "--set", f"closure={{name='corrector', artefact='{folder / 'network'}'}}")


def hdf5(folder: Path, rng: np.random.Generator) -> Ended:
    """A damaged checkpoint, data set, or file of statistics, given to the commands that read it."""
    file = folder / "file.h5"
    match int(rng.integers(4)):
        case 0:
            checkpoint = runs.checkpoints(made("run"))[-1]
            shutil.copy(checkpoint, file)
            words: tuple[object, ...] = ("run", made("case"), "--restart", file, "--steps", 1, "--out", folder / "run")
        case 1:
            shutil.copytree(made("run"), folder / "run")
            shutil.copy(folder / "run" / "statistics.h5", file)
            words = ("compare", folder / "run", made("run"), "--out", folder / "report")
        case _:
            shutil.copy(made("data.h5"), file)
            words = ("data", str(rng.choice(["info", "verify", "statistics"])), file)
            words += ("--out", folder / "statistics.h5") if words[1] == "statistics" else ()
    mutations.hdf5(file, rng)
    if words[0] == "compare":
        shutil.copy(file, folder / "run" / "statistics.h5")
    if words[0] == "data" and rng.random() < 0.4:
        return ended(lambda: _trajectories(file))
    return solver(*words)


def _trajectories(file: Path) -> None:
    source = TrajectoryFiles(file)
    parts = split(source, 0.5)
    scaling(source, parts[0], 1, "increment")
    Windows(source, parts[0])[0]
    filtered_channel(file)


def stl(folder: Path, rng: np.random.Generator) -> Ended:
    """A damaged surface, as a body in a flow."""
    text = small((ROOT / "cases/cube_array/case.toml").read_text())
    data = tomllib.loads(text)
    data["solids"] = {"shapes": [{"kind": "surface", "path": "box.stl", "scale": 0.7, "shift": [1.0, 0.2, 1.0]}]}
    (folder / "case").mkdir()
    (folder / "case" / "case.toml").write_text(to_toml(data))
    binary = rng.random() < 0.5
    facets = _binary(_box()) if binary else STL.format("\n".join(map(_facet, _box()))).encode()
    damaged = mutations.bytes_of(facets, rng) if binary else mutations.text_of(facets.decode(), rng)
    (folder / "case" / "box.stl").write_bytes(damaged)
    return solver("check", folder / "case")


def _box() -> list[np.ndarray]:
    """Twelve triangles around the unit cube."""
    found = []
    for axis in range(3):
        one, other = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        for level in (0.0, 1.0):
            corner = level * np.eye(3)[axis]
            corners = [corner, corner + one, corner + one + other, corner + other]
            corners = corners if level else corners[::-1]
            found += [np.array([corners[0], corners[i], corners[i + 1]]) for i in (1, 2)]
    return found


def _facet(corners: np.ndarray) -> str:
    lines = "\n".join(f"   vertex {x:g} {y:g} {z:g}" for x, y, z in corners)
    return f" facet normal 0 0 0\n  outer loop\n{lines}\n  endloop\n endfacet"


def _binary(triangles: list[np.ndarray]) -> bytes:
    facets = b"".join(np.vstack([np.zeros((1, 3)), t]).astype("<f4").tobytes() + b"\0\0" for t in triangles)
    return b"\0" * 80 + np.array([len(triangles)], "<u4").tobytes() + facets


KINDS: dict[str, Callable[[Path, np.random.Generator], Ended]] = {
    "case": case,
    "recipe": recipe,
    "card": card,
    "table": table,
    "hdf5": hdf5,
    "stl": stl,
    "familiar": familiar,
}
_made: dict[str, Path] = {}
_workspace = tempfile.TemporaryDirectory(prefix="fuzz-")


def made(name: str) -> Path:
    """A finished run of the tiny channel, its case, or a small data set; made once in a process."""
    if not _made:
        root = Path(_workspace.name)
        runs.write_case(root / "case")
        assert solver("run", root / "case", "--set", "time.end=2.5", "--out", root / "run", "--quiet").code == 0
        convert(SAMPLE, root / "set")
        data = files_of(root / "set")["train"][0]
        _made.update({"case": root / "case", "run": root / "run", "data.h5": data})
    return _made[name]
