"""One direct simulation filtered to several grids in one pass: each is what a recipe of that grid alone makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from closures.compare.filtered import filtered_spectra
from closures.data import store as flow_store
from closures.data.commutator import PAIRS, Commutator
from closures.data.convert import convert
from closures.data.exchange import EXCHANGE, ODD_IN_HEIGHT, SPECTRA, split_work
from closures.data.filtered_dns import FilteredView
from closures.data.filters import GridFilter, Kernel
from closures.data.folder import files_of, manifest, set_digest
from closures.data.generate import generate_flow
from closures.data.grids import load_flow_recipes
from closures.data.inspect import describe, verify
from closures.data.layout import MOMENTS
from closures.data.opened import opened
from closures.data.profiles import filtered_channel
from closures.data.recipe import StoreTable
from closures.data.rows import FLOWS, STATISTICS
from closures.data.statistics import write_statistics
from closures.data.trajectory import Trajectory
from solver.discretisation.gradient import VelocityGradient
from solver.discretisation.velocity import Velocity
from solver.errors import CaseError, RunFolderError
from solver.files.folder import to_toml, write_json
from solver.flow.closure import SubgridStress
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests import runs
from tests.data.flows import BOX, CHANNEL, GRIDS, forked, kill_when, listing, write_recipe
from tests.data.stored import as_one_file, begun, from_points, load_flow_recipe
from tests.data.test_commutator import LX, LZ, MANUFACTURED
from tests.grids import minus, norm, operators, orders, product, project, sample, tendency, walls

NAMES = ["6x6x8", "4x5x6", "cut"]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def grids(tmp_path_factory) -> Path:
    """The channel filtered to three grids, made once."""
    folder = tmp_path_factory.mktemp("grids")
    return Path(generate_flow(write_recipe(folder, listing(CHANNEL)), folder / "set", quiet=True)["path"])


def rows_of(path: Path, name: str) -> np.ndarray:
    with opened(path, (FLOWS, STATISTICS)) as file:
        return file[name][()]


def named(labels: tuple[str, ...], rows: np.ndarray, axis: int) -> dict[str, np.ndarray]:
    return dict(zip(labels, np.moveaxis(rows, axis, 0), strict=True))


def test_each_grid_is_what_its_own_recipe_makes(grids, tmp_path):
    found = manifest(grids)
    assert list(found["files"]) == NAMES
    assert sorted(p.name for p in grids.iterdir()) == sorted(["manifest.json", *NAMES])
    for name, recipe in load_flow_recipes(write_recipe(tmp_path, listing(CHANNEL))).items():
        if name == "6x6x8":  # as in test_filtered_dns
            continue
        alone = write_recipe(tmp_path, to_toml(recipe.model_dump(mode="json", exclude_none=True)), "alone")
        assert load_flow_recipe(alone) == recipe
        made = generate_flow(alone, tmp_path / name, quiet=True)
        assert made["sha256"] == found["files"][name] == describe(grids / name)["sha256"]
    filters = [json.loads(str(describe(grids / name)["filter"]))["horizontal"] for name in NAMES]
    assert filters == ["box", "box", "sharp"]
    with opened(grids / "cut") as file:
        assert "velocity" not in file["t1_fields"]
    assert list(manifest(grids / "cut")["files"]) == ["train/00000.h5", "train/00001.h5", "test/00002.h5"]


def test_a_killed_set_goes_on_and_one_that_was_being_named_too(grids, tmp_path, monkeypatch):
    recipe, out = write_recipe(tmp_path, listing(CHANNEL)), tmp_path / "set"
    rng = np.random.default_rng()  # other moments each time: none matters
    kill_when(forked(recipe, out), tmp_path / ".set.states" / "00000.h5", int(rng.integers(1, 6)), rng.uniform(0, 0.11))
    monkeypatch.setattr(flow_store, "shut", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        generate_flow(recipe, out, quiet=True)
    assert all(len(files_of(out / name)["train"]) == 2 for name in NAMES)
    with pytest.raises(RunFolderError, match="no files"):
        verify(out)
    monkeypatch.undo()
    done = generate_flow(recipe, out, quiet=True)
    assert (done["made"], done["sha256"]) == (0, verify(grids)["sha256"])
    assert verify(out) == verify(grids)
    assert not [p.name for folder in (tmp_path, out) for p in folder.iterdir() if p.name.startswith(".")]
    again = generate_flow(recipe, out, quiet=True)
    assert (again["made"], again["sha256"]) == (0, done["sha256"])


def test_a_larger_set_takes_over_a_smaller_one(grids, tmp_path):
    recipe, out = write_recipe(tmp_path, listing(CHANNEL)), tmp_path / "set"
    assert generate_flow(recipe, out, 2, quiet=True)["made"] == 2
    assert manifest(out)["trajectories"] == 2
    grown = generate_flow(recipe, out, quiet=True)
    assert (grown["made"], grown["sha256"]) == (1, manifest(grids)["sha256"])
    with pytest.raises(RunFolderError, match=r"holds 00002\.h5, which this recipe does not make"):
        generate_flow(recipe, out, 2, quiet=True)


def test_the_momentum_of_every_grid_closes(tmp_path):
    """The change of each filtered field between snapshots is what its grid makes of the field and of its tau, to second
    order in the interval, and never without tau.
    """
    several = """coarse = [
      { n = [8, 8, 8], store = { stress = true } },
      { n = [6, 7, 8], store = { stress = true }, filter = { horizontal = "box" } },
      { n = [5, 5, 6], store = { stress = true } },
    ]
    """
    text = listing(BOX, several).replace("amplitude = 1.5", "amplitude = 1.5\npeak_wavenumber = 2.0")
    closed, open_ = {}, {}
    for interval in (0.08, 0.04, 0.02):
        at = text.replace("interval = 0.1", f"interval = {interval}").replace(
            "spin_up = 0.0", f"spin_up = {0.3 - interval}"
        )
        recipe = write_recipe(tmp_path, at)
        made = Path(generate_flow(recipe, tmp_path / f"{interval}", 1, True, ["sampling.snapshots=3"])["path"])
        for name, member in load_flow_recipes(recipe).items():
            op = operators(member.coarse_grid)
            velocity = torch.from_numpy(rows_of(made / name, "t1_fields/velocity")[0].astype(float))
            stress = torch.from_numpy(rows_of(made / name, "t2_fields/subgrid_stress")[0, 1].astype(float))
            before, now, after = ([from_points(op, u[..., i].clone()) for i in range(3)] for u in velocity)
            tau = SubgridStress(tuple(op.to_physical(from_points(op, stress[..., i, j].clone())) for i, j in PAIRS))
            change = [(b - a) / (2 * interval) for a, b in zip(before, after, strict=True)]
            for found, term in ((closed, tau), (open_, None)):
                rate = project(op, tendency(op, tuple(now), 0.02, term))
                found.setdefault(name, []).append(norm(op, minus(rate, change)) / norm(op, change))
    assert list(closed) == ["8x8x8", "6x7x8", "5x5x6"]
    for name in closed:
        assert min(orders(closed[name])) > 1.8, name
        assert closed[name][-1] < 0.01, name
        assert open_[name][-1] > 5 * closed[name][-1], name


def with_triads(f: Callable) -> Callable:
    """A function of so many waves that those a filter keeps and those it takes out exchange energy."""
    a, b = 2 * np.pi / LX, 2 * np.pi / LZ
    return lambda x, y, z: f(x, y, z) * torch.exp(torch.sin(2 * a * x + b * z) + 0.5 * torch.cos(a * x - b * z + 0.2))


TRIADS = [with_triads(f) for f in MANUFACTURED]


def test_the_stored_work_is_what_the_stress_takes_from_the_energy():
    """On grids filtered in one pass: ``<u, tendency with tau - tendency without>`` over the volume, to second order."""
    errors: dict[str, list[float]] = {"fine": [], "coarse": []}
    for n in (12, 24, 48):
        fine = operators(Grid(FourierAxis(14, LX), walls(3 * n, stretching=1.2), FourierAxis(12, LZ)))
        velocity = Velocity(VelocityGradient(fine), project(fine, sample(fine, TRIADS)))
        for name, cells, kernel in (("fine", 2 * n, Kernel("sharp")), ("coarse", n, Kernel("box", 0.5))):
            coarse = Grid(FourierAxis(8, LX), walls(cells, stretching=1.2), FourierAxis(6, LZ))
            c = Commutator(GridFilter(fine, coarse, kernel))
            rows = FilteredView(c, StoreTable(planes=True)).rows(velocity)
            moments = named(MOMENTS, rows["statistics/moments"], 0) | named(EXCHANGE, rows["statistics/exchange"], 0)
            stored = float((sum(split_work(moments)) * coarse.y.width).sum()) / coarse.y.length
            op, ubar = c.filter.coarse, c.velocity(velocity)
            tau = SubgridStress(tuple(op.to_physical(f) for f in c.stress(velocity, ubar)))
            force = minus(tendency(op, ubar.coefficients, term=tau), tendency(op, ubar.coefficients))
            lost = -product(op, ubar.coefficients, force)
            errors[name].append(abs(stored / lost - 1))
    for name, found in errors.items():
        assert min(orders(found)) > 1.6, name
        assert found[-1] < 0.01, name


def test_spectra_add_up_to_the_moments(grids):
    for name in ("6x6x8", "cut"):
        file = grids / name
        m = named(MOMENTS, rows_of(file, "statistics/moments"), 2)
        e = named(EXCHANGE, rows_of(file, "statistics/exchange"), 2)
        for direction in "xz":
            sums = named(SPECTRA, rows_of(file, f"statistics/spectra_{direction}"), 2)
            sums = {key: rows.sum(axis=2) for key, rows in sums.items()}
            for key, (a, b) in {"E_uu": "uu", "E_vv": "vv", "E_ww": "ww", "E_uv": "uv"}.items():
                variance = m[a + b] - m[a] * m[b]
                np.testing.assert_allclose(sums[key], variance, rtol=1e-5, atol=1e-6, err_msg=key)
                assert abs(variance).max() > 1e-4
            _, drain = split_work(m | e)  # of each snapshot: about the means over its planes
            np.testing.assert_allclose(sums["work"], drain, rtol=1e-5, atol=1e-5 * abs(drain).max())
        u, y = m["u"], rows_of(file, "dimensions/y")
        slope = 0.5 * np.gradient(u, y, axis=-1)[..., 1:-1]
        np.testing.assert_allclose(e["s_xy"][..., 1:-1], slope, atol=0.15 * abs(slope).max())
        assert np.all(e["s_xx_s_xx"] > 0)


def test_statistics_of_a_set_are_means_over_batches(grids, tmp_path):
    files = write_statistics(grids, tmp_path / "kept", batches=2)
    assert [file.name for file in files] == [f"{name}.h5" for name in NAMES]
    for name, file in zip(NAMES, files, strict=True):
        whole, kept = (filtered_channel(path, batches=2)[1] for path in (grids / name, file))
        np.testing.assert_allclose(kept, whole, rtol=1e-13, atol=1e-16)
        assert file.stat().st_size < 100_000
    raw, kept = (rows_of(path, "statistics/spectra_z") for path in (grids / "cut", tmp_path / "kept/cut.h5"))
    planes = [
        int(np.abs(rows_of(grids / "cut", "dimensions/y") - y).argmin())
        for y in rows_of(tmp_path / "kept" / "cut.h5", "dimensions/plane")
    ]
    for place, j in enumerate(planes):
        both = 0.5 * (raw[..., j] + ODD_IN_HEIGHT[:, None] * raw[..., -1 - j])
        np.testing.assert_allclose(kept[:, 1, ..., place], both[:, 2:4].mean(1), rtol=1e-6, atol=1e-9)
    exchange = rows_of(grids / "cut", "statistics/exchange")[:, :2].mean(1)
    np.testing.assert_allclose(rows_of(tmp_path / "kept" / "cut.h5", "statistics/exchange")[:, 0], exchange, rtol=1e-12)


def test_filtered_spectra_add_up_to_the_variance(grids, tmp_path):
    """Of the set and of what is kept of it, in wall units, plane by plane."""
    kept = write_statistics(grids, tmp_path / "kept", batches=2)[2]
    variance = named(MOMENTS, rows_of(grids / "cut", "statistics/moments")[:, :4], 2)
    for direction in "xz":
        whole, few = (filtered_spectra(path, direction, 0.05) for path in (grids / "cut", kept))
        assert set(few["y_over_h"]) <= set(whole["y_over_h"])
        for j, height in enumerate(np.unique(few["y_over_h"])):
            here = few["y_over_h"] == height
            k = few["k"][here]
            for name in ("uu", "vv", "ww"):
                exact = (variance[name] - variance[name[0]] ** 2).mean((0, 1))
                plane = np.abs(rows_of(kept, "dimensions/plane")[j] - rows_of(kept, "dimensions/y")).argmin()
                both = 0.5 * (exact[plane] + exact[-1 - plane])
                assert few[f"E_{name}"][here].sum() * (k[1] - k[0]) * 0.05**2 == pytest.approx(both, rel=1e-4, abs=1e-7)


def test_the_first_trajectory_goes_on_from_the_stored_flow_as_it_is(tmp_path):
    settled = generate_settled(tmp_path)
    text = listing(CHANNEL).replace("[run]", f'[start]\nrun = "{settled}"\nperturbation = [0.0, 0.1]\n[run]')
    recipes = load_flow_recipes(write_recipe(tmp_path, text, "branched"))
    store = flow_store.FlowStore(tmp_path / "set", recipes, flow_store.origin_of(next(iter(recipes.values()))))
    comm = operators("box").decomposition.comm
    flows = [Trajectory(i, store, comm) for i in range(3)]
    starts = [flow._start() for flow in flows]
    stored = flow_store.states.read(settled).group("velocity")
    for name, f in zip("uvw", starts[0], strict=True):
        np.testing.assert_array_equal(flows[0].operators.gather(f), stored[name])
    apart = [norm(flows[0].operators, minus(starts[0], other)) for other in starts[1:]]
    assert min(apart) > 1e-3
    assert norm(flows[0].operators, minus(starts[1], starts[2])) > 1e-3


def generate_settled(folder: Path) -> Path:
    """A checkpoint of the tiny channel."""
    store = flow_store.FlowStore(folder / "a", {"": load_flow_recipe(write_recipe(folder))})
    begun(store)
    first = Trajectory(0, store, operators("box").decomposition.comm)
    first._keep(first._simulation())
    return store._state(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("n = [4, 5, 6]", "n = [14, 5, 6]"), r"number 2 \('14x5x6'\): \[coarse.x\] n = 14 keeps more modes"),
        (("n = [4, 5, 6]", "n = [4, 14, 6]"), r"number 2 \('4x14x6'\): \[coarse.y\] is finer than \[grid.y\]"),
        (('name = "cut", ', ""), "number 3: another grid has the name '6x6x8' too"),
        (('"cut"', '"../cut"'), r"number 3: name = '\.\./cut'"),
        (("n = [4, 5, 6]", "n = [4, 5, 6], x = 3"), "number 2"),
        (("{ n = [4, 5, 6] }", "{ }"), "number 2: give either n = "),
        (("{ n = [4, 5, 6] }", "{ m = [4, 5, 6] }"), "number 2: unknown key 'm'"),
        (('"sharp"', '"sharpp"'), r"number 3: \[filter\] horizontal = 'sharpp'"),
        ((GRIDS, "coarse = []\n"), "give at least one grid"),
        (("[run]", '[start]\nrun = "x"\nperturbation = [0.0]\n[run]'), "trajectories 0 and 1 would be the same flow"),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_the_grid(tmp_path, change, message):
    text = listing(CHANNEL)
    assert change[0] in text
    with pytest.raises(CaseError, match=message) as caught:
        load_flow_recipes(write_recipe(tmp_path, text.replace(*change, 1)))
    assert "tiny.toml" in str(caught.value)
    assert "\n" not in str(caught.value).rstrip()


def test_a_folder_of_sets_is_no_set_and_a_set_is_none(grids, tmp_path):
    several, one = write_recipe(tmp_path, listing(CHANNEL), "several"), write_recipe(tmp_path)
    with pytest.raises(RunFolderError, match="holds 4x5x6, which this recipe does not make"):
        generate_flow(one, grids, quiet=True)
    with pytest.raises(RunFolderError, match="holds test, which this recipe does not make"):
        generate_flow(several, grids / "cut", quiet=True)
    with pytest.raises(RunFolderError, match="holds sets of several grids: name one of them, 6x6x8, 4x5x6, cut"):
        filtered_channel(grids)
    with pytest.raises(CaseError, match=r"\[store\] planes: only a flow between walls"):
        load_flow_recipes(write_recipe(tmp_path, BOX.replace("[run]", "[store]\nplanes = true\n[run]"), "box"))
    copy = shutil.copytree(grids, tmp_path / "set")
    assert describe(copy)["trajectories"] == 3
    told = runs.solver("data", "info", copy)
    assert "files 4x5x6" in told.out
    with h5py.File(copy / "4x5x6/train/00001.h5", "r+") as file:
        file["statistics/moments"][0, 0, 0, 0] += 1.0
    with pytest.raises(RunFolderError, match=r"4x5x6/train/00001\.h5: damaged \(trajectory 0 "):
        verify(copy)


def test_files_of_grids_from_before_are_read_and_made_sets(grids, tmp_path):
    """A file for each grid, named in a manifest of format 1."""
    old = tmp_path / "old"
    old.mkdir()
    sums = {name: verify(as_one_file(grids / name, old / f"{name}.h5"))["sha256"] for name in NAMES}
    files = {f"{name}.h5": sha for name, sha in sums.items()}
    write_json(old / "manifest.json", {"format": 1, "sha256": set_digest(sums), "trajectories": 3, "files": files})
    assert verify(old)["rows"] == describe(old)["trajectories"] == 3
    assert [path.name for path in write_statistics(old, tmp_path / "kept", batches=2)] == list(files)
    convert(old, tmp_path / "new")
    assert {name: manifest(tmp_path / "new" / name)["files"] for name in NAMES} == {
        name: manifest(grids / name)["files"] for name in NAMES
    }
    recipe = write_recipe(tmp_path, listing(CHANNEL))
    assert generate_flow(recipe, tmp_path / "new", quiet=True)["made"] == 0
