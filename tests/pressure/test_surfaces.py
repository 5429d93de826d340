"""Bodies from files: what triangles enclose, however they are put together; every format; and what is no body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from solver.errors import CaseError
from solver.grid.grid import Grid
from solver.solids.mask import Solids
from solver.solids.shapes import Box
from solver.solids.surface import Surface
from solver.solids.winding import Body, weld
from tests.pressure.problems import PERIODIC, cells, cube

pyvista = pytest.importorskip("pyvista")
EIGHTHS = Grid(cells(16, 2.0), cells(16, 2.0), cells(16, 2.0))
CORNERS = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, 8).T
BLOCK = (0.4, 1.0, 0.2, 0.8, 0.4, 1.0)


def block(bounds: Sequence[float] = BLOCK, inward: bool = False):
    """A box of twelve triangles that face outward."""
    mesh = pyvista.Box(bounds).triangulate().clean()
    return mesh.flip_faces() if inward else mesh


def box(bounds: Sequence[float]) -> Box:
    """The same as a shape."""
    a = bounds
    return Box((a[0], a[2], a[4]), (a[1], a[3], a[5]))


def moved(dx: float = 0.0, dy: float = 0.0, dz: float = 0.0, bounds=BLOCK) -> list[float]:
    """Bounds of a box elsewhere."""
    return list(np.array(bounds) + np.repeat([dx, dy, dz], 2))


def solid(path, grid: Grid = EIGHTHS, **options) -> np.ndarray:
    """The cells a file fills."""
    return Solids.from_shapes(grid, [Surface(path, **options)]).solid


TOGETHER = {
    "one": [BLOCK],
    "overlapping": [BLOCK, moved(0.2)],
    "three at once": [BLOCK, moved(0.2), moved(0.1, 0.3, 0.2)],
    "sharing an edge": [BLOCK, moved(0.6, 0.6)],
    "sharing a face": [BLOCK, moved(0.6)],
    "one within the other": [BLOCK, (0.5, 0.9, 0.3, 0.7, 0.5, 0.9)],
}


@pytest.mark.parametrize("inward", [False, True])
@pytest.mark.parametrize("name", TOGETHER)
def test_parts_of_a_surface_are_united(tmp_path, name, inward):
    parts = TOGETHER[name]
    pyvista.merge([block(p, inward) for p in parts], merge_points=False).save(tmp_path / "a.stl")
    found = solid(tmp_path / "a.stl")
    np.testing.assert_array_equal(found, Solids.from_shapes(EIGHTHS, [box(p) for p in parts]).solid)
    if name == "overlapping":
        assert found.sum() == 7 * 4 * 5
        two = [block(parts[0], inward), block(parts[1], not inward)]
        pyvista.merge(two, merge_points=False).save(tmp_path / "b.stl")
        np.testing.assert_array_equal(solid(tmp_path / "b.stl"), found)


@pytest.mark.parametrize("inward", [False, True])
def test_a_part_that_faces_inward_within_another_is_a_cavity(tmp_path, inward):
    outer, inner = (0.2, 1.2, 0.2, 1.2, 0.2, 1.2), (0.5, 0.9, 0.5, 0.9, 0.5, 0.9)
    pyvista.merge([block(outer, inward), block(inner, not inward)]).save(tmp_path / "a.stl")
    walls, core = (Solids.from_shapes(EIGHTHS, [box(b)]).solid for b in (outer, inner))
    np.testing.assert_array_equal(solid(tmp_path / "a.stl"), walls & ~core)
    assert Solids(EIGHTHS, solid(tmp_path / "a.stl")).part_count == 2
    assert Surface(tmp_path / "a.stl").volume == pytest.approx(1.0 - 0.4**3, rel=1e-6)


def soup(parts, rng: np.random.Generator) -> Body:
    """Boxes given by eight corners, their triangles shuffled, all facing inward or outward."""
    unit = block((0, 1, 0, 1, 0, 1))
    triangles = (unit.points @ [4, 2, 1]).round().astype(int)[unit.regular_faces[:, :: rng.choice([-1, 1])]]
    points = np.concatenate([corners[triangles].reshape(-1, 3) for corners in parts])
    faces = rng.permutation(np.arange(len(points)).reshape(-1, 3))
    return Body(*weld(points, faces, 1e-7))


@pytest.mark.parametrize("seed", range(20))
def test_turned_boxes_are_what_their_halfspaces_are(seed):
    rng = np.random.default_rng([7919, seed])
    count = int(rng.integers(1, 6))
    centres, sizes = rng.uniform(0.2, 0.8, (count, 3)), rng.uniform(0.05, 0.6, (count, 3))
    turns = Rotation.random(count, random_state=rng)
    body = soup([c + t.apply((CORNERS - 0.5) * s) for c, s, t in zip(centres, sizes, turns, strict=True)], rng)
    x, y, z = (np.sort(rng.uniform(0, 1, n)) for n in (14, 13, 12))
    points = np.stack(np.meshgrid(x, y, z, indexing="ij"), axis=-1).reshape(-1, 3)
    within = [abs(t.inv().apply(points - c)) < 0.5 * s for c, s, t in zip(centres, sizes, turns, strict=True)]
    times = sum(inside.all(axis=1).astype(int) for inside in within)
    np.testing.assert_array_equal(body.winding(x, y, z) > 0, times.reshape(14, 13, 12) > 0)


@pytest.mark.parametrize("seed", range(20))
def test_columns_through_corners_and_edges_count_each_once(seed):
    """Boxes on the lattice that the points lie on: of each pair of faces the lower one belongs to the body."""
    rng = np.random.default_rng([104_729, seed])
    corners = [np.sort(rng.choice(9, (2, 3)), axis=0) for _ in range(int(rng.integers(1, 5)))]
    corners = [c for c in corners if (c[0] < c[1]).all()] or [np.array([[1, 2, 3], [4, 4, 4]])]
    body = soup([c[0] + CORNERS * (c[1] - c[0]) * 1.0 for c in corners], rng)
    line = np.arange(9.0)
    expected = np.zeros((9, 9, 9), dtype=bool)
    for low, high in corners:
        expected[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    np.testing.assert_array_equal(body.winding(line, line, line) > 0, expected)


def test_a_surface_from_a_file_fills_what_its_primitive_fills(tmp_path):
    path, fine = tmp_path / "ball.stl", cube(48)
    pyvista.Sphere(radius=3.0, theta_resolution=90, phi_resolution=90).save(path)
    found = solid(path, fine, scale=0.1, shift=(0.5, 0.5, 0.5))
    assert found.mean() == pytest.approx(4 / 3 * np.pi * 0.3**3, rel=0.01)
    pyvista.Box((0.13, 0.51, 0.24, 0.77, 0.4, 0.9)).triangulate().save(tmp_path / "box.stl")
    expected = Solids.from_shapes(fine, [Box((0.13, 0.24, 0.4), (0.51, 0.77, 0.9))]).solid
    np.testing.assert_array_equal(solid(tmp_path / "box.stl", fine), expected)


def test_a_surface_across_a_seam_is_whole(tmp_path):
    grid = Grid(cells(16, 2.0, PERIODIC), cells(16, 2.0), cells(16, 2.0, PERIODIC))
    block().save(tmp_path / "a.stl")
    shifted = solid(tmp_path / "a.stl", grid, shift=(1.25, 0.0, -0.75))
    np.testing.assert_array_equal(np.roll(shifted, (-10, 6), (0, 2)), solid(tmp_path / "a.stl", grid))


def test_corners_that_rounding_parted_are_welded(tmp_path):
    mesh = block().separate_cells().extract_surface(algorithm="dataset_surface")
    mesh.points += np.random.default_rng(31_337).normal(0, 1e-6, mesh.points.shape).astype(np.float32)
    mesh.save(tmp_path / "a.stl")
    assert solid(tmp_path / "a.stl").sum() == 100


def test_the_ground_closes_what_stands_on_it(tmp_path):
    """A box without a bottom, held up a little; a slope; and the same with z as height."""
    faces = block().compute_normals(cell_normals=True, point_normals=False)
    faces.remove_cells(np.flatnonzero(faces["Normals"][:, 1] < -0.5)).save(tmp_path / "open.stl")
    with pytest.raises(CaseError, match=r"open\.stl: 10 triangles with 4 open edges do not .* close = 'ground'"):
        solid(tmp_path / "open.stl")
    column = Solids.from_shapes(EIGHTHS, [Box((0.4, 0.0, 0.4), (1.0, 0.8, 1.0))]).solid
    np.testing.assert_array_equal(solid(tmp_path / "open.stl", close="ground"), column)
    slope = pyvista.Plane(center=(1, 1, 0), i_size=2, j_size=2, i_resolution=5, j_resolution=3).triangulate()
    slope.points[:, 2] = 0.5 * slope.points[:, 0]  # height above x and y
    slope.points[:, 1] -= 2.0
    slope.save(tmp_path / "slope.ply")
    found = solid(tmp_path / "slope.ply", up="z", close="ground")
    x, y = EIGHTHS.x.centres[:, None, None], EIGHTHS.y.centres[None, :, None]
    np.testing.assert_array_equal(found, np.broadcast_to(y <= 0.5 * x, found.shape))


def test_knots_are_told_from_holes(tmp_path):
    """A fin on an edge of a box: three triangles meet there, and the fin has open edges."""
    fin = pyvista.PolyData([[0.4, 0.8, 0.4], [1.0, 0.8, 0.4], [0.7, 1.5, 0.1]], [3, 0, 1, 2])
    pyvista.merge([block(), fin]).save(tmp_path / "fin.ply")
    with pytest.raises(CaseError, match=r"fin\.ply: 13 triangles with 2 open edges and 1 non-manifold edges"):
        solid(tmp_path / "fin.ply")


FORMATS = ["stl", "obj", "ply", "vtk", "vtp", "vtu", "off", "msh", "mesh"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(tmp_path, suffix):
    meshio = pytest.importorskip("meshio")
    path, mesh = tmp_path / f"a.{suffix}", block()
    if suffix in ("stl", "ply", "vtp"):
        mesh.save(path)
    elif suffix in ("vtk", "vtu", "msh"):  # a volume mesh, with its surface
        tetra = mesh.delaunay_3d()
        solid_cells = ("tetra", tetra.cells.reshape(-1, 5)[:, 1:])
        outside = tetra.extract_surface(algorithm="dataset_surface", pass_pointid=True)
        skin = ("triangle", outside["vtkOriginalPointIds"][outside.regular_faces])
        meshio.write_points_cells(path, tetra.points.astype(float), [solid_cells, skin])
    else:
        meshio.write_points_cells(path, np.asarray(mesh.points), [("triangle", mesh.regular_faces)])
    assert solid(path).sum() == 100


RUBBISH = {
    "words.stl": b"not a surface",
    "empty.stl": b"",
    "words2.stl": b"solid but nothing else",
    "words.ply": b"ply\nformat ascii 1.0\n",
    "words.msh": b"$MeshFormat\nrubbish",
    "words.obj": b"v 1 2",
    "words.vtu": b"<VTKFile",
    "words.xyzzy": b"?",
    "words": b"?",
}


@pytest.mark.parametrize("name", [*RUBBISH, "short.stl", "nan.stl", "line.vtk", "image.vti", "points.vtp"])
def test_what_is_no_surface_is_refused_in_one_line(tmp_path, capfd, name):
    path = tmp_path / name
    if name in RUBBISH:
        path.write_bytes(RUBBISH[name])
    elif name == "line.vtk":
        pyvista.Line().save(path)
    elif name == "image.vti":
        pyvista.ImageData(dimensions=(4, 5, 6)).save(path)
    elif name == "points.vtp":
        pyvista.PolyData(np.eye(3)).save(path)
    else:
        block().save(path)
        raw = path.read_bytes()
        path.write_bytes(raw[:-60] if name == "short.stl" else raw.replace(raw[96:100], b"\xff\xff\xff\xff"))
    with pytest.raises(CaseError) as caught:
        solid(path)
    assert f"[solids] surface {path}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    if name == "image.vti":
        assert "an image or grid of 4 x 5 x 6 points" in str(caught.value)
    if name in ("words.stl", "short.stl"):
        assert "not a valid STL" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_units_are_hinted_at(tmp_path):
    block(np.array(BLOCK) * 1000).save(tmp_path / "mm.stl")
    with pytest.raises(CaseError, match=r"from \(400, 200, 400\) to .*, the box from \(0, 0, 0\) to \(2, 2, 2\)"):
        solid(tmp_path / "mm.stl")
    with pytest.raises(CaseError, match=r"scale = 0\.001"):
        solid(tmp_path / "mm.stl")
    with pytest.raises(CaseError, match=r"missing\.stl: there is no such file"):
        solid(tmp_path / "missing.stl")


def test_a_plate_thinner_than_a_cell_is_named(tmp_path, caplog):
    plate = block((-0.03, 0.03, -0.45, 0.45, -0.45, 0.45)).rotate_z(30).translate((0.9, 0.6, 0.9))
    plate.save(tmp_path / "plate.stl")
    count = solid(tmp_path / "plate.stl").sum()
    share = 100 * count * 0.125**3 / (0.06 * 0.81)
    assert (
        f"plate.stl: its {count} cells have {share:.0f} % of its volume, and it is thinner than a cell" in caplog.text
    )
