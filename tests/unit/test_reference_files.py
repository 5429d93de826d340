"""Tables as people have them: rows in any order, empty cells, repeated rows, any encoding; one line where they fail."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from closures.compare.boxes import BoxJudge
from closures.compare.references import Target
from solver.analysis.channel import ChannelProfiles, errors
from solver.analysis.moments import INDEX, NAMES
from solver.analysis.reference import ChannelReference, check_reference
from solver.case.case import load_case
from solver.errors import CaseError
from solver.figures.results import Results
from solver.files.reference_files import read_complete, read_reference
from solver.grid.axis import FiniteVolumeAxis, NoSlip, stretched_faces
from solver.run.build import Source, build
from tests.physics.shipped import CASES

MKM = CASES / "channel180" / "reference" / "channel_mkm180.csv"
SPECTRA = CASES / "channel180" / "reference" / "channel_mkm180_spectra_x.csv"
DECAY = CASES / "taylor_green" / "reference" / "tgv_re1600_spectral512.csv"
CELLS = st.one_of(st.none(), st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.6g}")))


@st.composite
def tables(draw):
    """Rows (y, a, b) of distinct y with empty cells, and the same rows shuffled, some of them twice."""
    heights = draw(st.lists(st.integers(0, 1000), min_size=1, max_size=12, unique=True))
    rows = [(y / 1000, draw(CELLS), draw(CELLS)) for y in heights]
    repeated = rows + draw(st.lists(st.sampled_from(rows), max_size=3))
    return rows, draw(st.permutations(repeated))


def written(path, header, rows, comment="# by somebody (1999)\n", newline="\n", encoding="utf-8"):
    lines = [",".join("" if cell is None else f"{cell:.10g}" for cell in row) for row in rows]
    path.write_bytes((comment + "\n".join([header, *lines, ""])).replace("\n", newline).encode(encoding))
    return path


@settings(max_examples=60, deadline=None)
@given(
    table=tables(),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    comment=st.sampled_from(["", "# Höyas & Jiménez (2008)\n\n", "  # indented\n"]),
    blank=st.sampled_from([[], [(None, None, None)]]),  # a row of empty cells, as spreadsheets leave them
)
def test_any_order_of_rows_and_any_encoding_is_one_table(tmp_path_factory, table, newline, encoding, comment, blank):
    rows, shuffled = table
    path = tmp_path_factory.mktemp("table") / "t.csv"
    found = read_reference(written(path, "y, a ,b", [*blank, *shuffled], comment, newline, encoding))
    expected = np.array(sorted(rows), dtype=float)
    assert list(found) == ["y", "a", "b"]
    np.testing.assert_array_equal(np.stack(list(found.values()), axis=1), expected)


def shuffled_copy(source, target, seed):
    """The table with its data rows in another order, and one of them twice."""
    lines = source.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("#")) + 1
    rows = lines[first:]
    order = np.random.default_rng(seed).permutation(len(rows))
    target.write_text("\n".join([*lines[:first], *(rows[i] for i in order), rows[3], ""]))
    return target


def dns_means(channel):
    """Moments of a run that had half the fluctuation of the table and a third of its shear stress."""
    table = ChannelReference.read(MKM)
    means = np.zeros((len(NAMES), channel.y.n, 1))
    y = np.minimum(channel.y.centres, 2 - channel.y.centres)
    means[INDEX["u"], :, 0] = table.profile("u_mean", y)
    for c in "uvw":
        means[INDEX[c + c], :, 0] = 0.25 * table.profile(f"{c}_rms", y) ** 2
    means[INDEX["uu"], :, 0] += means[INDEX["u"], :, 0] ** 2
    means[INDEX["uv"], :, 0] = table.profile("uv", y) / 3 * np.where(channel.y.centres < 1, 1, -1)
    return means


CHANNEL = ChannelProfiles(FiniteVolumeAxis(stretched_faces(32, 0.0, 2.0, 1.7), NoSlip(), NoSlip()), 1 / 178.12)


@pytest.mark.parametrize("seed", [5, 81])
def test_every_consumer_gives_one_answer_for_any_order_of_rows(tmp_path, seed):
    profiles = shuffled_copy(MKM, tmp_path / "p.csv", seed)
    spectra = shuffled_copy(SPECTRA, tmp_path / "s.csv", seed)
    decay = shuffled_copy(DECAY, tmp_path / "d.csv", seed)
    means = dns_means(CHANNEL)
    for units in ("bulk", "wall"):
        one, other = (errors(CHANNEL, ChannelReference.read(p), means, units) for p in (MKM, profiles))
        assert one == pytest.approx(other, rel=1e-12)
    assert ChannelReference.read(profiles).re_tau == ChannelReference.read(MKM).re_tau
    one, other = (Target("t", "", {"spectra_x": p}).spectra("x") for p in (SPECTRA, spectra))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    one, other = (BoxJudge(None, Target("t", "", {"dissipation": p})).truth for p in (DECAY, decay))
    assert np.array_equal(one.times, other.times)
    assert np.array_equal(one.rate, other.rate)
    drawn = Results(tmp_path, {"profiles": profiles}).reference_table("profiles")
    assert np.array_equal(drawn["U_plus"], read_reference(MKM)["U_plus"])


def test_an_empty_cell_is_left_out_of_its_column_alone(tmp_path):
    """Linear interpolation over one missing row of sixty-five changes errors by per milles, in that column."""
    lines = MKM.read_text().splitlines()
    header = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    names, cells = lines[header].split(","), lines[header + 30].split(",")
    cells[names.index("U_plus")] = ""
    lines[header + 30] = ",".join(cells)
    (tmp_path / "p.csv").write_text("\n".join(lines))
    means = dns_means(CHANNEL)
    whole, gap = (errors(CHANNEL, ChannelReference.read(p), means, "wall") for p in (MKM, tmp_path / "p.csv"))
    assert 0 < gap[0] < 5e-3
    assert gap[1:5] == pytest.approx(whole[1:5], abs=1e-12)


def test_a_table_without_its_ends_means_the_same_flow(tmp_path):
    """Without the wall and the middle the bulk velocity is that of the whole profile: 15.69 by the header of the file.

    Lee & Moser say U_b / u_tau = 1 / 0.0637309 and leave the middle out.
    """
    lee = CASES.parent / "closures" / "compare" / "databases" / "channel_leemoser180.csv"
    assert ChannelReference.read(lee).bulk == pytest.approx(1 / 0.0637309, rel=2e-4)
    table = {name: column[1:] for name, column in read_reference(MKM).items()}
    assert ChannelReference(table).bulk == pytest.approx(ChannelReference.read(MKM).bulk, rel=1e-4)
    assert ChannelReference(table).profile("u_rms", np.zeros(1)) == 0


BAD = {
    "rows that differ at one height": ("y,a\n0,1\n0.5,2\n0.5,3\n", "y = 0.5"),
    "a row without its height": ("y,a\n0,1\n,2\n", "no y"),
    "a word": ("y,a\n0,1\n0.5,two\n", "line 3, column 'a': 'two'"),
    "an infinite number": ("y,a\n0,1\n0.5,inf\n", "line 3, column 'a'"),
    "a short row": ("y,a\n0,1\n0.5\n", "line 3 has 1 cells for 2 columns"),
    "no header": ("0,1\n0.5,2\n", "should name the columns"),
    "one name twice": ("y,a,a\n0,1,2\n", "two columns are called 'a'"),
    "semicolons and decimal commas": ("y;a\n0;1,5\n0,5;2\n", "separated otherwise"),
    "blanks": ("y a\n0 1\n0.5 2\n", "separated otherwise"),
    "nothing but comments": ("# y,a\n# 0,1\n", "no rows"),
    "an empty file": ("", "no rows"),
    "a column without name": ("y,a,\n0,1,2\n", "a column without name"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_table_that_cannot_be_used_costs_one_line(tmp_path, name):
    text, said = BAD[name]
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(CaseError) as caught:
        read_reference(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_needed_columns_are_named(tmp_path):
    path = written(tmp_path / "t.csv", "k,E", [(1, 2), (2, None), (3, 4)])
    assert read_complete(path, ("k", "E"))["k"] == pytest.approx([1, 3])
    with pytest.raises(CaseError, match="lacks the column 'F'"):
        read_complete(path, ("k", "F"))


def test_an_initial_spectrum_may_have_holes_and_a_zero(tmp_path):
    """Rows in any order, one without E, and the mode k = 0, which has no logarithm."""
    grid = [f"grid.{name}={{kind='fourier',n=8,length='2 pi'}}" for name in "xyz"]
    (tmp_path / "case.toml").write_text((CASES / "hit_decay" / "case.toml").read_text())
    (tmp_path / "E.csv").touch()
    case, _ = load_case(tmp_path, (*grid, "initial={kind='isotropic',spectrum='E.csv'}"))
    fields = []
    for text in ("k,E\n1,1\n3,0.25\n", "k,E\n3,0.25\n0,0\n2,\n1,1\n1,1\n"):
        (tmp_path / "E.csv").write_text(text)
        fields.append(build(Source(case, tmp_path, "box")).velocity.coefficients)
    for one, other in zip(*(map(np.asarray, field) for field in fields), strict=True):
        assert np.abs(other).max() > 0.01
        np.testing.assert_allclose(one, other, atol=1e-14)


def test_every_table_is_read_before_the_run(tmp_path):
    """A spectrum that only the figures need is no surprise at the end either."""
    case, _ = load_case(CASES / "channel180", ())
    shutil.copytree(CASES / "channel180" / "reference", tmp_path / "reference")
    check_reference(case, tmp_path, case.build_grid())
    (tmp_path / "reference" / "channel_mkm180_spectra_z.csv").write_text("y_over_h,k_z_h\n0.1,one\n")
    with pytest.raises(CaseError, match=r"spectra_z\.csv: line 2"):
        check_reference(case, tmp_path, case.build_grid())


def test_profiles_that_nothing_is_compared_with_are_named_before_the_run(caplog):
    """A sliding lid: what is known over the wall distance of a channel says nothing of it."""
    lid = "grid.y.upper={kind='no_slip',velocity=[1.0,0.0,0.0]}"
    for overrides, said in (((), False), ((lid,), True)):
        case, folder = load_case(CASES / "channel180", overrides)
        caplog.clear()
        check_reference(case, folder, case.build_grid())
        lines = [record.getMessage() for record in caplog.records]
        assert any(MKM.name in line and "nothing is compared" in line for line in lines) == said


def test_no_function_that_the_oldest_numpy_lacks(monkeypatch):
    """Pyproject allows NumPy 1.26, where the trapezoidal rule has another name."""
    monkeypatch.delattr(np, "trapezoid", raising=False)
    assert ChannelReference.read(MKM).bulk == pytest.approx(15.68, abs=0.01)
