"""Cases: every shipped one is valid and its references are there; a case survives being written and read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from closures.registry import registry
from closures.training.identity import content_of
from solver.case.case import load_case, parse_case
from solver.case.case_tables import RunTable
from solver.errors import CaseError
from solver.files.folder import run_folder, to_toml
from solver.files.reference_files import read_reference
from tests.data.stored import reference_profiles
from tests.runs import CASE

SHIPPED = Path(__file__).parents[2] / "cases"
FLOWS = {
    "cavity", "channel180", "channel180_coarse", "channel180_dns", "channel180_heat", "channel395", "channel590",
    "cube_array", "cylinder", "channel1000", "channel2000", "channel5200", "duct", "duct360", "duct_laminar",
    "half_channel", "hit_decay", "hit_decay_dns", "hit_forced", "mixing_layer", "mixing_layer_dns", "taylor_green",
    "taylor_green_les",
}  # fmt: skip
TABLES = tomllib.loads(CASE)


def test_no_case_is_missing():
    assert {path.parent.name for path in SHIPPED.glob("*/case.toml")} >= FLOWS
    assert all((folder / "case.toml").is_file() for folder in SHIPPED.iterdir() if folder.is_dir())


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/case.toml")))
def test_shipped_case(name):
    case, folder = load_case(SHIPPED / name)
    grid = case.build_grid()
    registry.create(case.closure.name, grid=grid, nu=case.flow.nu, options=case.closure.options)
    for key, path in case.files(folder).items():
        table = reference_profiles(path) if key == "[reference] filtered" else read_reference(path)
        assert len(table) > 1
        assert all(np.isfinite(column).any() for column in table.values())
    if case.reference is not None:
        assert case.reference.paths


def test_round_trip():
    case = parse_case(TABLES, "case")
    assert parse_case(tomllib.loads(to_toml(case.model_dump(exclude_none=True))), "again") == case
    assert run_folder(case, "tiny", None) == run_folder(parse_case(TABLES, "again"), "tiny", None)


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | plain | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(plain, values, max_size=5))
def test_any_mapping_survives_toml(mapping):
    assert tomllib.loads(to_toml(mapping)) == mapping


@example({"title": [], "grid": {"\n": False}})
@given(st.dictionaries(st.sampled_from(["title", "grid", "flow", "initial", "time", "closure", "run"]), values))
def test_whatever_a_file_holds_the_answer_is_one_line(mapping):
    with pytest.raises(CaseError) as error:
        parse_case(TABLES | mapping | {"grid": mapping.get("grid", 3)}, "case.toml")
    assert str(error.value).startswith("case.toml: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'4 pi'", 4 * np.pi),
        ("'pi'", np.pi),
        ("'2*pi/3'", 2 * np.pi / 3),
        ("'1.5 pi / 4'", 0.375 * np.pi),
        ("2.5", 2.5),
    ],
)
def test_lengths(tmp_path, text, value):
    (tmp_path / "case.toml").write_text(CASE)
    case, _ = load_case(tmp_path, (f"grid.x.length={text}",))
    assert case.grid.x.axis().length == pytest.approx(value)


def test_closure_by_name_and_its_options(tmp_path):
    """Another closure starts from its own defaults, the same one keeps the case's options; overrides come last."""
    (tmp_path / "case.toml").write_text(CASE)

    def chosen(name: str | None, *sets: str) -> tuple[str, dict]:
        table = load_case(tmp_path, sets, name)[0].closure
        return table.name, table.options

    assert chosen(None) == ("dynamic_smagorinsky", {"every": 2})
    assert chosen("dynamic_smagorinsky") == ("dynamic_smagorinsky", {"every": 2})
    assert chosen("wale") == ("wale", {})
    assert chosen("wale", "closure.c_w=0.3") == ("wale", {"c_w": 0.3})


def test_another_recipe_starts_from_its_own_defaults(tmp_path):
    """Keys that a recipe does not read are refused; those of the case's own recipe go with it, the seed stays."""
    case = CASE.replace('kind = "wall_turbulence"', 'kind = "isotropic"\namplitude = 1.5\npeak_wavenumber = 3.0')
    (tmp_path / "case.toml").write_text(case)

    def start(*sets: str) -> dict:
        return load_case(tmp_path, sets)[0].initial.model_dump(exclude_defaults=True)

    assert start("initial.kind=rest") == {"kind": "rest", "seed": 73311}
    assert start("initial.amplitude=2.0", "initial.kind=stream") == {"kind": "stream", "seed": 73311, "amplitude": 2.0}
    assert start("initial.kind=isotropic")["peak_wavenumber"] == 3.0
    with pytest.raises(CaseError, match=r"\[initial\] kind = 'rest' does not read 'thickness': remove it"):
        start("initial.kind=rest", "initial.thickness=0.5")
    with pytest.raises(CaseError, match="kind = 'isotropic' with a 'spectrum' does not read 'amplitude'"):
        start("initial.spectrum=E.csv")


def test_the_run_to_start_from_lies_beside_the_case_or_here(tmp_path, monkeypatch):
    """Beside the case first, as every other file; what the run folder keeps of it holds anywhere."""
    folder, here = tmp_path / "case", tmp_path / "here"
    for place in (folder / "both", here / "both", here / "only"):
        place.mkdir(parents=True)
    (folder / "case.toml").write_text(CASE)
    monkeypatch.chdir(here)
    for name, place in (("both", folder), ("only", here)):
        case, _ = load_case(folder, (f"initial={{kind='run', run='{name}'}}",))
        assert case.initial.run == str(place / name)
        (tmp_path / "case.toml").write_text(to_toml(case.model_dump(exclude_none=True)))
        monkeypatch.chdir(tmp_path)
        assert load_case(tmp_path)[0] == case
        monkeypatch.chdir(here)


def test_the_nearest_case_is_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(SHIPPED.parent)
    with pytest.raises(CaseError, match=r"did you mean 'channel180'\?"):
        load_case(Path("cases/chanel180"))


def test_keys_of_run_that_came_later_are_in_no_checksum_unless_they_are_set():
    """Data sets and trainings that were made before them can be gone on with."""
    assert set(RunTable().model_dump()) == {"device", "dtype", "fuse"}
    given = {"threads": 2, "transforms": "planes", "graph": "off", "exchange": "mpi"}
    assert given.items() <= RunTable(**given).model_dump().items()
    case, _ = load_case(SHIPPED / "channel180_coarse", ("run.exchange=mpi", "run.threads=2"))
    plain, _ = load_case(SHIPPED / "channel180_coarse")
    assert content_of(case) == content_of(plain)
