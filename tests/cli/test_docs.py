"""The documentation, executed: its closure runs, its cases validate, its commands exist, its tables are its data."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from closures.compare.metrics import METRICS
from closures.losses.registry import LOSSES
from closures.operators.registry import OPERATORS
from closures.registry import registry, wall_models
from closures.registry.listing import describe
from closures.registry.registry import CLOSURES
from closures.registry.sets import DATA_SETS
from closures.registry.wall_models import WALL_MODELS
from closures.training.recipe import Recipe
from solver import __version__
from solver.case.case import load_case, parse_case
from solver.cli.runs import RUNS
from solver.flow.closure import EddyViscosity
from solver.run.build import Source, build
from tests.cli.guides import ROOT, blocks, commands, install, module
from tests.runs import Ended

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GUIDE = (ROOT / "docs/add_a_closure.md").read_text(encoding="utf-8")
SCRIPT = importlib.util.spec_from_file_location("results", ROOT / "scripts/results.py")
assert SCRIPT is not None
results = importlib.util.module_from_spec(SCRIPT)
assert SCRIPT.loader is not None
SCRIPT.loader.exec_module(results)
TINY = ("grid.x.n=8", "grid.y.n=12", "grid.z.n=8")


TOML = [
    pytest.param(note, body, id=f"{page.stem}-{i}")
    for page in PAGES
    for i, (note, body) in enumerate(blocks(page, "toml"))
]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def guide(monkeypatch, tmp_path):
    """The package of the guides, installed as far as the registries can tell."""
    install(monkeypatch, tmp_path)
    yield module(ROOT / "docs/add_a_closure.md")
    for name in [name for name in sys.modules if name.split(".")[0] == "my_closures"]:
        del sys.modules[name]


def channel(closure: str, steps: int):
    """A tiny channel, some steps on; every closure after the same time."""
    case, folder = load_case(ROOT / "cases/channel180", (*TINY, f"closure={closure}", "time.dt=0.02"))
    simulation = build(Source(case, folder, "channel180"))
    for _ in range(steps):
        simulation.step()
    return simulation


def test_the_closure_of_the_guide_acts(guide):
    """Five steps in a channel: nu_t is positive, scales with its option, and changes the flow by draining it."""
    assert len([line for line in guide.splitlines() if line.strip()]) <= 30
    assert describe()["invariant_network"].summary.startswith("nu_t = C delta^2 |S|")
    plain, modelled = channel("{name='none'}", 5), channel("{name='invariant_network'}", 5)
    term = modelled.present_term()
    assert isinstance(term, EddyViscosity)
    assert term.nu_t.shape == modelled.operators.local_shape
    assert 0 < float(term.nu_t.min()) < float(term.nu_t.max()) < 0.02 * 0.3**2 * 100
    halved = channel("{name='invariant_network', c_max=0.01}", 0).present_term()
    assert torch.allclose(2 * halved.nu_t, channel("{name='invariant_network'}", 0).present_term().nu_t)
    cross = [sum(float((c**2).sum()) for c in flow.velocity.coefficients[1:]) for flow in (plain, modelled)]
    assert cross[1] < 0.999 * cross[0]


def test_the_weights_of_the_guide_are_read(guide, tmp_path):
    from my_closures.neural import InvariantNetwork
    from safetensors.torch import save_file

    network = InvariantNetwork(grid=None, nu=1.0).net
    save_file({name: torch.zeros_like(w) for name, w in network.state_dict().items()}, tmp_path / "w.safetensors")
    closure = f"{{name='invariant_network', weights='{tmp_path / 'w.safetensors'}'}}"
    flow = channel(closure, 0)
    s = torch.stack([flow.velocity.gradient[i][j] for i in range(3) for j in range(3)])
    assert s.isfinite().all()
    assert float(flow.present_term().nu_t.max()) > 0


@pytest.mark.parametrize(("note", "body"), TOML)
def test_every_toml_block_is_valid(note, body, guide):
    """Whole cases as they stand; parts of one inside channel180; the closure they name exists."""
    data = tomllib.loads(body)
    if note == "not a case":
        (group,) = data["project"]["entry-points"]
        assert group in {r.group for r in (CLOSURES, OPERATORS, LOSSES, DATA_SETS, METRICS, WALL_MODELS)}
        return
    if note == "a training recipe":
        Recipe.model_validate(data)
        return
    if note == "part of a case":
        data = tomllib.loads((ROOT / "cases/channel180/case.toml").read_text()) | data
    case = parse_case(data, "documentation")
    registry.create(case.closure.name, grid=case.build_grid(), nu=case.flow.nu, options=case.closure.options)
    if (walls := case.wall_model).acts:
        wall_models.create(walls.name, grid=case.build_grid(), nu=case.flow.nu, options=walls.options)


def test_there_is_something_to_check():
    assert len(TOML) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_named_exists(page):
    text, known = page.read_text(encoding="utf-8"), commands()

    def command(words: str) -> str:
        longest_first = sorted(known, key=len, reverse=True)
        return next((name for name in longest_first if f"{words} ".startswith(f"{name} ")), words)

    named = re.findall(r"(?:`|^|srun |mpirun )solver ([a-z]+(?: [a-z]+)?)", text, flags=re.MULTILINE)
    assert {command(words) for words in named} <= set(known)
    for row in re.findall(r"^\| (`solver .*) \|$", text, flags=re.MULTILINE):
        names = {command(words) for words in re.findall(r"`solver ([a-z]+(?: [a-z]+)?)", row)}
        assert set(re.findall(r"`(--[a-z]+)", row)) <= set().union(*(known[name] for name in names))


def test_everything_linked_exists():
    """Links of every page; pictures are drawn from recorded runs and may be missing until then."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert target.endswith(".png") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_pages_of_the_site_exist():
    """Those that mkdocs.yml names; `make docs` adds the others, and fails where a link or an anchor is wrong."""
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert "index.md" in named
    assert [name for name in named if not (ROOT / "docs" / name).is_file()] == []


def test_every_test_named_in_the_theory_exists():
    named = re.findall(r"`(\w+/test_\w+\.py)`", (ROOT / "docs/theory.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_every_page_is_in_the_navigation():
    """Decisions are added by the hook; what is named nowhere would lie under "More"."""
    text = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(page for page in pages if page not in text and not page.startswith("decisions/")) == []


def test_where_commands_write_by_default_is_ignored():
    """Or every result that follows would be called one of changed sources."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {f"/{RUNS}/", "/data/"} <= set(ignored)


def test_make_targets_named_exist():
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for page in PAGES[:2]:
        named = re.findall(r"(?:`|^)make ([a-z0-9]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert named
        assert set(named) <= set(targets)


def test_the_citation_is_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    citation = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (__version__, project["license"])


def test_recipes_of_packages_ask_for_what_the_project_asks_for():
    """The conda recipe has the version and every bound; both containers have those of torch, and install the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "packaging/conda/meta.yaml").read_text()
    assert f'version = "{__version__}"' in recipe
    assert f"- python {project['requires-python']}" in recipe
    run = re.findall(r"^    - ([\w-]+) (\S+)$", recipe.partition("  run:")[2].partition("test:")[0], flags=re.MULTILINE)
    theirs = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    asked = {theirs.get(name, name): bound for name, bound in run if name != "python"}
    ours = dict(re.match(r"([\w-]+)(.*)", line).groups() for line in project["dependencies"])
    assert asked == ours
    (entry,) = project["scripts"].items()
    assert f"- {' = '.join(entry)}" in recipe
    for name in ("Dockerfile", "les-solver.def"):
        text = (ROOT / "packaging" / name).read_text()
        assert f'"torch{ours["torch"]}"' in text
        assert '"/source[view]"' in text


# -- results.py: the tables are the data ---------------------------------------------------------------------------


def script(*arguments: object) -> Ended:
    """``python scripts/results.py`` in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code = results.main([*map(str, arguments)])
        except SystemExit as end:  # with a line, which Python prints
            code = 1
            print(end.code, file=sys.stderr)
    return Ended(code, out.getvalue(), err.getvalue())


def test_tables_are_the_recorded_results():
    done = script("render", "--check")
    assert done.code == 0, done.err


def run_folder(path: Path, closure: str, error: float) -> Path:
    """A finished run as far as its two JSON files tell."""
    path.mkdir()
    errors = {
        "reference": "MKM180",
        "u_mean": error,
        "u_rms": 0.1,
        "v_rms": 0.1,
        "w_rms": 0.1,
        "uv": 0.05,
        "c_f": 0.02,
    }
    summary = {
        "status": "finished",
        "case": "channel180",
        "closure": closure,
        "grid": [72, 48, 72],
        "ranks": 2,
    }
    summary |= {"errors": errors, "ci95": {"re_tau": 1.5, "u_mean": None, "u_rms": 0.01}, "re_tau": 178.3}
    summary |= {
        "seconds_per_step": 0.04,
        "closure_fraction": 0.2,
        "averaging_time": 220.0,
        "total_stress_residual": 0.004,
    }
    origin = {
        "commit": "0123456789abcdef",
        "dirty": False,
        "machine": {"processor": "A processor", "cores": 2},
    }
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "provenance.json").write_text(json.dumps(origin))
    return path


def test_results_from_run_folder_to_table(tmp_path):
    folder, readme = tmp_path / "results", tmp_path / "README.md"
    readme.write_text("".join(f"<!-- {n}:begin -->\n<!-- {n}:end -->\n" for n in ("closures", "validation", "speed")))
    runs = [run_folder(tmp_path / name, name, error) for name, error in (("wale", 0.031), ("none", 0.052))]
    again = run_folder(tmp_path / "again", "wale", 0.017)
    for chosen in ([runs[0], runs[1]], [again]):
        assert script("collect", *chosen, "--into", folder / "closures.json").code == 0
    claim = {"claim": "c", "required": "< 1", "measured": "0.5", "command": "pytest", "commit": "abc"}
    (folder / "validation.json").write_text(json.dumps([claim]))
    options = ("render", "--pages", readme, "--results", folder)
    assert script(*options, "--check").code == 1
    assert script(*options).code == 0
    assert script(*options, "--check").code == 0
    text = readme.read_text()
    rows = re.findall(r"^\| (none|wale) \| (.*)$", text, flags=re.MULTILINE)
    assert [name for name, _ in rows] == ["none", "wale"]
    assert rows[1][1].startswith("178.3 ± 1.5 | 2.0 | 1.7 | 10.0 ± 1.0 |")
    assert "commit 0123456789" in text
    assert "| c | < 1 | 0.5 | `pytest` | abc |" in text


def test_one_table_of_several_grids(tmp_path):
    """By Reynolds number, then from coarse to fine; what was lost says so; what is judged by less has its own table."""
    record = json.loads((ROOT / "docs/results/comparisons/channel180_coarse-half.json").read_text())
    folder, page = tmp_path / "results", tmp_path / "page.md"
    (folder / "grids").mkdir(parents=True)
    less = record | {"quantities": [q | {"floor": 0.002} for q in record["quantities"] if q["key"] == "c_f"]}
    for name, kept in (("395_36x64x26", less), ("180_32x32x16", record), ("180_16x16x8", record)):
        (folder / f"grids/{name}.json").write_text(json.dumps(kept))
    page.write_text("<!-- grids:begin -->\n<!-- grids:end -->\n")
    assert script("render", "--pages", page, "--results", folder).code == 0
    rows = re.findall(r"^\| (180|395) \| (\S+) \| (\S+) \| (.*) \|$", page.read_text(), flags=re.MULTILINE)
    assert list(dict.fromkeys(row[:2] for row in rows)) == [
        ("180", "16x16x8"),
        ("180", "32x32x16"),
        ("395", "36x64x26"),
    ]
    assert page.read_text().count("| Re_tau |") == 2
    assert rows[-1] == ("395", "36x64x26", "*floor*", "0.2")
    of = {name: errors.split(" | ") for _, grid, name, errors in rows if grid == "16x16x8"}
    assert set(of) == {row["label"] for row in record["rows"]}
    assert set(of["smagorinsky"]) == {"laminar at t = 139.7 (3 of 3)"}
    expected = {row["label"]: row["errors"] for row in record["rows"]}["wale"]["c_f"]["value"]
    assert of["wale"][-1].startswith(f"{100 * expected:.1f} ± ")


def test_an_unfinished_run_is_no_result(tmp_path):
    run = run_folder(tmp_path / "run", "wale", 0.1)
    (run / "summary.json").write_text((run / "summary.json").read_text().replace("finished", "diverged"))
    for folder, message in ((run, "'diverged'"), (tmp_path, "not a finished run folder")):
        done = script("collect", folder, "--into", tmp_path / "closures.json")
        assert done.code == 1
        assert message in done.err
        assert not (tmp_path / "closures.json").exists()


def test_a_judged_comparison_says_how_to_repeat_it(tmp_path):
    """With the options of its closures, which are in the labels too, and nothing of where its runs lay."""
    row = {
        "status": "finished",
        "averaging_time": 1.0,
        "words": {},
        "verdict": "",
        "cost": {},
        "errors": {},
        "seeds": [1],
    }
    record = {
        "case": "hit_decay",
        "title": "t",
        "grid": [8, 8, 8],
        "reference": {"name": "filtered-dns"},
        "baseline": "none",
        "unit": "time unit",
        "command": "solver compare somewhere/hit_decay ...",
        "arguments": {
            "paths": ["somewhere/hit_decay"],
            "closures": ["none", "smagorinsky:c_s=0.1"],
            "seeds": 2,
            "quick": False,
            "reference": "filtered-dns:/far/run",
            "tune": False,
            "set": ["time.end=5", "title='two words'"],
            "different_cases": True,
        },
        "created": "now",
        "quantities": [],
        "rows": [row | {"label": name, "folders": [name]} for name in ("none", "smagorinsky")],
        "provenance": [
            {"folder": folder, "commit": commit, "machine": "m", "ranks": 1}
            for folder, commit in (("none", "abc"), ("smagorinsky", "def"))
        ],
    }
    (tmp_path / "report.json").write_text(json.dumps(record))
    assert script("judge", tmp_path, "--into", tmp_path, "--name", "stem").code == 0
    found = json.loads((tmp_path / "stem.json").read_text())
    assert [r["label"] for r in found["rows"]] == ["none", "smagorinsky (c_s = 0.1)"]
    assert [r["commits"] for r in found["rows"]] == [["abc"], ["def"]]
    assert found["command"] == (
        "solver compare cases/hit_decay --closures none,smagorinsky:c_s=0.1 --seeds 2 --reference filtered-dns "
        """--set time.end=5 --set 'title='"'"'two words'"'"'' --different-cases"""
    )


def test_the_notebook_runs(monkeypatch, tmp_path):
    """Every cell of it in turn; what it asserts holds."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", pyplot.close)
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs/from_python.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    with torch.enable_grad():
        for cell in cells:
            assert not cell.get("outputs")
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    assert names["channel"].step_count == 20
    shown = "<Simulation 16 x 32 x 16 (products on 24 x 32 x 24 points), closure wale, step 20, t = "
    assert repr(names["channel"]).startswith(shown)
    assert names["channel"].max_divergence < 1e-6
