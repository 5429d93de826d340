"""The section of a square duct: its symmetries, the stress along its walls, and how far a run is from a table."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from solver.analysis.batch_means import BatchMeans
from solver.analysis.duct import Duct
from solver.analysis.duct_reference import DuctReference, errors
from solver.analysis.moments import INDEX, NAMES
from solver.case.case import load_case
from solver.errors import CaseError
from solver.figures.duct import plot_section
from solver.figures.results import Results
from solver.files.folder import write_json
from solver.observers import averages
from solver.run.summary import section_in_words
from tests.grids import walls
from tests.physics.shipped import CASES

TABLE = CASES / "duct360/reference/duct_vinuesa360.csv"
AXIS = walls(20, stretching=0.0)
STATIONS = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])


def random_means():
    return np.random.default_rng(518_206).standard_normal((len(NAMES), AXIS.n, AXIS.n)) + 1.0


def upside_down(means):
    """The flow mirrored in y."""
    found = means[:, ::-1].copy()
    for name in ("v", "wall_flux_xy"):
        found[INDEX[name]] *= -1
    return found


def turned(means):
    """The flow mirrored about the bisector of the corner."""
    found = means.transpose(0, 2, 1).copy()
    for one, other in (("v", "w"), ("wall_flux_xy", "wall_flux_xz")):
        found[[INDEX[one], INDEX[other]]] = found[[INDEX[other], INDEX[one]]]
    return found


def planted(nu):
    """The means of the table on a coarse uniform grid, with the stress of the table through modelled walls."""
    reference = DuctReference.read(TABLE)
    duct = Duct(AXIS, AXIS, nu)
    n = len(duct.places)
    means = np.zeros((len(NAMES), AXIS.n, AXIS.n))
    u, v, w = reference.at(duct.places)
    for rows, y in ((slice(0, n), 1.0), (slice(n, None), -1.0)):
        for columns, z in ((slice(0, n), 1.0), (slice(n, None), -1.0)):
            for name, f, sign in (("u", u, 1.0), ("v", v, y), ("w", w, z)):
                means[INDEX[name], rows, columns] = sign * f[:: int(y), :: int(z)]
    tau = reference.wall_stress(duct.places) * reference.mean_stress
    beyond = np.r_[tau, tau[::-1]] - nu * means[INDEX["u"], 0] / (0.5 * AXIS.width[0])
    means[INDEX["wall_flux_xy"], 0], means[INDEX["wall_flux_xy"], -1] = -beyond, beyond
    means[INDEX["wall_flux_xz"], :, 0], means[INDEX["wall_flux_xz"], :, -1] = -beyond, beyond
    return reference, duct, means


@pytest.mark.parametrize("change", [upside_down, turned])
def test_symmetries_of_the_square_change_nothing(change):
    duct, means = Duct(AXIS, AXIS, 0.01), random_means()
    for evaluate in (duct.scalars, duct.wall_stress, duct.quarter, duct.secondary_flow):
        np.testing.assert_allclose(evaluate(change(means)), evaluate(means), rtol=1e-12, err_msg=evaluate.__name__)


def test_the_mean_of_the_stress_along_the_walls_is_one():
    duct = Duct(AXIS, AXIS, 0.01)
    assert float((duct.wall_stress(random_means()) * AXIS.width[:10]).sum()) == pytest.approx(1.0)


def test_the_tables_are_those_of_their_publication():
    """C_f, stress along the wall and secondary flow at Re_tau = 180 and 360, as the sources' checks have them."""
    for name, c_f, secondary, stress in (
        ("duct", 8.87e-3, 0.0194, (0.38, 0.66, 1.02, 1.12, 1.08, 1.07, 1.15)),
        ("duct360", 7.32e-3, 0.0205, (0.59, 0.91, 1.00, 0.99, 1.07, 1.09, 1.08)),
    ):
        case, folder = load_case(CASES / name)
        reference = DuctReference.read(folder / case.reference.section)
        assert reference.re_bulk == pytest.approx(2 / case.flow.nu)
        assert reference.c_f == pytest.approx(c_f, rel=2e-3)
        assert reference.secondary_flow == pytest.approx(secondary, abs=4e-4)  # less by its asymmetry
        np.testing.assert_allclose(reference.wall_stress(STATIONS), stress, atol=0.015)


def test_a_run_like_the_table_has_no_errors_and_its_stress_is_that_of_the_model():
    """On cells that resolve no wall the gradient there is far from the stress; a fifth less of it near the corner is
    found, and of the secondary flow.
    """
    reference, duct, means = planted(2 / 11388)
    c_f, wall, u, secondary = errors(duct, reference, means)
    assert abs(c_f) < 0.04  # velocities at centres are less flat than means of cells, which is U_b's
    assert wall < 0.01  # the mean of centres
    assert u < 0.02  # likewise
    assert abs(secondary) < 0.004  # of the coarse cells
    resolved = means.copy()
    resolved[[INDEX["wall_flux_xy"], INDEX["wall_flux_xz"]]] = 0.0
    assert errors(duct, reference, resolved)[0] < -0.3
    planted_errors = means.copy()
    planted_errors[[INDEX["v"], INDEX["w"]]] *= 0.5
    for name in ("wall_flux_xy", "wall_flux_xz"):
        planted_errors[INDEX[name], ::19, ::19] *= 0.8
    assert errors(duct, reference, planted_errors)[3] == pytest.approx(-0.5 * reference.secondary_flow, abs=0.004)
    assert 0.03 < errors(duct, reference, planted_errors)[1] < 0.2  # the viscous part is as it was


def test_what_a_run_writes(tmp_path):
    """Tables, summary, one line of words and a figure."""
    sizes = ("grid.x.n=4", "grid.y.n=20", "grid.z.n=20")
    case, folder = load_case(CASES / "duct360", sizes)
    _, duct, means = planted(case.flow.nu)
    statistics = BatchMeans(0.0, 1.0)
    for batch in range(5):
        statistics.add(batch + 0.5, 1.0, means)
    found = averages.write_statistics(tmp_path, case, folder, case.build_grid(), statistics)
    told = found["section"]
    assert told["errors"]["wall_stress"] < 0.01
    assert told["ci95"]["secondary_flow"] == pytest.approx(0.0, abs=1e-9)
    rows = list(csv.DictReader((tmp_path / "wall_stress.csv").open()))
    assert [float(r["z_over_h"]) for r in rows] == pytest.approx(duct.places)
    assert "secondary flow: " in section_in_words(found)
    assert "7.3" in section_in_words(found)
    write_json(tmp_path / "summary.json", found)
    for reference in ({}, {"section": TABLE}):
        figure = plot_section(Results(tmp_path, reference))
        assert len(figure.axes) == (3 if reference else 2)
        (line,) = figure.axes[0].lines[:1]
        np.testing.assert_allclose(line.get_ydata(), [float(r["tau_over_mean"]) for r in rows])
    without = case.model_copy(update={"reference": None})
    plain = averages.write_statistics(tmp_path, without, folder, case.build_grid(), statistics)
    assert "errors" not in plain["section"]
    assert "secondary flow" in section_in_words(plain)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("Re_b = 2 h U_b/nu = 11388", "", "its comments name no 'Re_b"),
        ("y_over_h,z_over_h,U,", "y_over_h,z_over_h,speed,", "no column 'U'"),
        ("\n0.000265874,0.000265874,", "\n0.000265874,0.000275874,", "a row for every pair"),
    ],
)
def test_tables_that_are_no_section(tmp_path, old, new, line):
    path = tmp_path / "table.csv"
    shutil.copy(TABLE, path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CaseError, match=line) as problem:
        DuctReference.read(path)
    assert "\n" not in str(problem.value)
