"""Figures: the right numbers in the right axes, whatever is missing, and nothing half written."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from solver.errors import FeatureUnavailable, RunFolderError
from solver.figures import channel, draw, plane_spectra, profiles, results, series, shell_spectra, view, vortices
from solver.figures.qcriterion import derivative, q_criterion
from solver.files.folder import write_atomically

RE_TAU = 178.12
SEED = 20261121


def write_csv(path: Path, comment: str = "", **columns: np.ndarray) -> Path:
    rows = zip(*columns.values(), strict=True)
    lines = [f"# {comment}"] * bool(comment) + [",".join(columns)]
    path.write_text("\n".join(lines + [",".join(str(cell) for cell in row) for row in rows]) + "\n")
    return path


def write_snapshot(path: Path, velocity: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray, time: float) -> None:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["velocity"] = velocity.astype(np.float32)
        file["x"], file["y"], file["z"] = x, y, z
        file.attrs["time"], file.attrs["nu"] = time, 1 / 1600


def stretched(n: int) -> np.ndarray:
    """Return n points of 0..2 pi, clustered at both ends like a channel's."""
    return np.pi * (1 + np.tanh(1.7 * np.linspace(-1, 1, n)) / np.tanh(1.7))


def box(nx: int, ny: int, nz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return 2 * np.pi * np.arange(nx) / nx, stretched(ny), 2 * np.pi * np.arange(nz) / nz


def abc_flow(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return velocity and Q of the Arnold-Beltrami-Childress flow; its gradient has no diagonal."""
    a, b, c = 1.0, 0.7, 0.43
    x, y, z = np.meshgrid(x, y, z, indexing="ij")
    velocity = np.stack([a * np.sin(z) + c * np.cos(y), b * np.sin(x) + a * np.cos(z), c * np.sin(y) + b * np.cos(x)])
    dudy, dudz, dvdx = -c * np.sin(y), a * np.cos(z), b * np.cos(x)
    dvdz, dwdx, dwdy = -a * np.sin(z), -b * np.sin(x), c * np.cos(y)
    return velocity, -(dudy * dvdx + dudz * dwdx + dvdz * dwdy)


def taylor_green(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return velocity and Q of the Taylor-Green vortex, whose gradient has a diagonal."""
    x, y, z = np.meshgrid(x, y, z, indexing="ij")
    velocity = np.stack([np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z), 0 * x])
    return velocity, -(np.cos(z) ** 2) * (np.cos(x) ** 2 * np.cos(y) ** 2 - np.sin(x) ** 2 * np.sin(y) ** 2)


@pytest.fixture
def channel_run(tmp_path: Path) -> SimpleNamespace:
    """Return a synthetic channel: a smooth "DNS" table, and a run that is the table plus known offsets."""
    y = 1 - np.cos(np.pi / 2 * np.linspace(0, 1, 60))
    y_plus, u_plus = RE_TAU * y, 11.5 * np.arctan(RE_TAU * y / 11.5)
    uv = -(1 - y) * (1 - np.exp(-y_plus / 12)) ** 2
    rms = {name: top * np.tanh(y_plus / 15) for name, top in (("u", 2.6), ("v", 0.8), ("w", 1.1))}
    dns = write_csv(
        tmp_path / "dns.csv",
        "Moser, Kim & Mansour (1999) Phys. Fluids 11(4)",
        y_over_h=y,
        y_plus=y_plus,
        U_plus=u_plus,
        uv_plus=uv,
        **{f"{n}{n}_plus": value**2 for n, value in rms.items()},
    )
    k = 0.5 * np.arange(24.0)
    energy = 1 / (1 + k**2)
    dns_x = write_csv(
        tmp_path / "dns_x.csv",
        y_over_h=np.repeat([0.1, 1.0], k.size),
        k_x_h=np.tile(k, 2),
        **{f"E_{n}{n}": np.tile(energy, 2) for n in "uvw"},
    )
    run = tmp_path / "run"
    run.mkdir()
    band = np.full(y.size, 0.2)
    write_csv(
        run / "profiles.csv",
        y=y[1:],
        y_plus=y_plus[1:],
        u_plus=u_plus[1:] + 0.1,
        u_plus_ci95=band[1:],
        uv_plus=uv[1:],
        tau_sgs=-0.03 * (1 - y[1:]),
        **{f"{n}_rms_plus": v[1:] for n, v in rms.items()},
    )
    write_csv(
        run / "spectra.csv",
        direction=["x"] * 32,
        y=np.repeat([0.11, 0.95], 16),
        k=np.tile(k[:16], 2),
        **{f"E_{n}{n}": 7.0 * np.tile(energy[:16], 2) for n in "uvw"},
    )
    write_csv(run / "budget.csv", y_plus=y_plus[1:], production=-uv[1:], dissipation=uv[1:])
    time = np.linspace(0, 50, 101)
    write_csv(
        run / "timeseries.csv",
        step=np.arange(101),
        time=time,
        bulk_velocity=1 + 1e-15 * np.sin(time),
        re_tau=180 + np.sin(time),
        max_divergence=1e-14 * (2 + np.cos(time)),
        scalar_flux=time**2,
    )
    (run / "summary.json").write_text(json.dumps({"case": "channel180", "re_tau": RE_TAU, "averaging_time": 20.0}))
    return SimpleNamespace(
        run=run,
        y=y,
        y_plus=y_plus,
        u_plus=u_plus,
        k=k,
        energy=energy,
        reference={"profiles": dns, "spectra_x": dns_x},
    )


def lines(axes: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.lines}


@pytest.mark.parametrize("flow", [abc_flow, taylor_green])
def test_q_criterion_is_second_order_on_a_stretched_grid(flow):
    errors = []
    for n in (24, 48, 96):
        points = box(n, n + 1, n)
        velocity, exact = flow(*points)
        errors.append(np.abs(q_criterion(velocity, *points) - exact).max())
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.15), errors


def test_derivative_is_exact_for_a_parabola_up_to_the_walls_and_wraps_where_periodic():
    y = stretched(17)
    assert derivative(y**2, y, axis=0, periodic=False) == pytest.approx(2 * y, abs=1e-12)
    x = 2 * np.pi * np.arange(16) / 16
    wave = np.sin(x)
    assert np.roll(derivative(wave, x, 0, True), 3) == pytest.approx(
        derivative(np.roll(wave, 3), x, 0, True), abs=1e-14
    )


def test_q_of_solid_rotation_is_the_squared_rate_and_of_plane_shear_zero():
    x, y, z = stretched(9), stretched(12), stretched(7)
    xx, yy, _ = np.meshgrid(x, y, z, indexing="ij")
    assert q_criterion(np.stack([-3 * yy, 3 * xx, 0 * xx]), x, y, z) == pytest.approx(9.0)
    assert q_criterion(np.stack([3 * yy, 0 * xx, 0 * xx]), x, y, z) == pytest.approx(0.0, abs=1e-10)


def test_profiles_carry_the_run_the_band_and_the_reference(channel_run):
    figure = channel.plot_profiles(results.Results(channel_run.run, channel_run.reference))
    mean, rms, shear, balance = figure.axes
    drawn = lines(mean)
    assert drawn["this run"][1] == pytest.approx(channel_run.u_plus[1:] + 0.1)
    assert drawn["Moser, Kim & Mansour (1999)"][1] == pytest.approx(channel_run.u_plus)
    edges = mean.collections[0].get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(channel_run.u_plus[-1] + 0.3)
    v_reference = [line.get_ydata() for line in rms.lines if line.get_marker() == "s"]
    assert v_reference[0][-1] == pytest.approx(0.8)
    assert shear.lines[0].get_ydata().max() > 0
    total = lines(balance)["total"]
    stresses = sum(channel.shear_stresses(results.read_table(channel_run.run / "profiles.csv")))
    assert total[1] == pytest.approx(stresses)


def test_a_run_with_a_closure_shows_what_its_stress_carries_and_drains(channel_run):
    path = channel_run.run / "profiles.csv"
    table = dict(results.read_table(path))
    y_plus = table["y_plus"]
    table |= {"sgs_share": 0.6 - y_plus / 400, "sgs_work_mean": 0.1 / y_plus, "sgs_work_fluctuation": -0.2 / y_plus}
    table |= {"sgs_share_ci95": 0.05 + 0 * y_plus, "nu_t_plus": y_plus / 50}
    write_csv(path, **table)
    figure = channel.plot_profiles(results.Results(channel_run.run, channel_run.reference))
    *_, share, work, viscosity = figure.axes
    (drawn,) = lines(share).values()
    assert drawn[1] == pytest.approx((0.6 - y_plus / 400)[: len(drawn[1])])
    assert share.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(0.65, abs=0.01)
    assert lines(viscosity)[r"$\nu_t/\nu$"][1] == pytest.approx(y_plus / 50)
    first, second = (line.get_ydata() for line in work.lines[1:])
    assert first == pytest.approx(0.1 / y_plus)
    assert second == pytest.approx(-2 * first)


def test_viscous_stress_is_second_order_and_uses_the_wall():
    errors = []
    for n in (20, 40, 80):
        y_plus = 180 * (1 - np.cos(np.pi / 2 * np.arange(1, n + 1) / n))
        table = {"y_plus": y_plus, "u_plus": 10 * np.arctan(y_plus / 10), "uv_plus": 0 * y_plus}
        errors.append(np.abs(channel.shear_stresses(table)[0] - 1 / (1 + (y_plus / 10) ** 2))[: n // 2].max())
    assert np.log2(errors[1] / errors[2]) == pytest.approx(2.0, abs=0.3), errors


def test_spectra_are_compared_on_the_nearest_plane_and_independent_of_scale(channel_run):
    figure = plane_spectra.plot_spectra(results.Results(channel_run.run, channel_run.reference))
    assert [axes.get_title() for axes in figure.axes] == ["$y^+=20$", "$y^+=169$"]
    axes = figure.axes[0]
    (k, density), scale = lines(axes)["$E_{uu}$"], channel_run.energy[:16].sum() * 0.5
    assert k == pytest.approx(channel_run.k[1:16])
    assert density == pytest.approx(channel_run.energy[1:16] / scale)
    assert sum(line.get_linestyle() == "None" and len(line.get_xdata()) > 0 for line in axes.lines) == 3


def test_box_spectra_show_the_table_of_the_same_time(tmp_path):
    k = np.arange(1.0, 17)
    write_csv(tmp_path / "spectra.csv", time=np.repeat([1.0, 2.0], 16), k=np.tile(k, 2), E=np.tile(k**-2.0, 2))
    reference = write_csv(
        tmp_path / "dns.csv",
        "A. A. Wray (1997), unpublished",
        k=k,
        **{"E_t2.00450": 3 * k**-2.0, "E_t9.0": k},
    )
    (axes,) = shell_spectra.plot_spectra(results.Results(tmp_path, {"spectra": reference})).axes
    drawn = lines(axes)
    assert drawn["A. A. Wray (1997)"][1] == pytest.approx(3 * k**-2.0)
    assert drawn["$t=2$"][1] == pytest.approx(k**-2.0)
    assert not any(np.array_equal(energy, k) for _, energy in drawn.values())


def test_history_draws_unknown_columns_shades_the_average_and_keeps_round_off_flat(channel_run):
    panels = {axes.get_ylabel(): axes for axes in series.plot_history(results.Results(channel_run.run, {})).axes}
    assert panels["scalar flux"].lines[0].get_ydata()[-1] == pytest.approx(2500.0)
    assert panels["scalar flux"].patches[0].get_x() == pytest.approx(30.0)
    assert panels["scalar flux"].patches[0].get_width() == pytest.approx(20.0)
    assert np.ptp(panels["bulk velocity"].get_ylim()) >= 9e-4
    assert panels[r"$\max|\nabla\cdot\mathbf{u}|$"].get_yscale() == "log"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("times", [(0.0, 2.0, 0.0), (0.0,), (3.0, 3.0)], ids=str)
def test_history_without_a_span_of_time_is_drawn_without_a_word(tmp_path, times):
    """Rows in a wrong order end where they began; a run of one step has one row."""
    write_csv(tmp_path / "timeseries.csv", time=np.array(times), kinetic_energy=1.0 + np.array(times))
    figure = series.plot_history(results.Results(tmp_path, {}))
    low, high = figure.axes[0].get_xlim()
    assert low < high
    assert low <= min(times)
    assert high >= max(times)


def test_history_of_a_diverged_run_is_drawn(tmp_path):
    blow_up = np.array([1e-14, 1e-3, 5.0, np.inf, np.nan])
    write_csv(tmp_path / "timeseries.csv", time=np.arange(5.0), kinetic_energy=blow_up, max_divergence=blow_up)
    assert [path.name for path in draw(tmp_path)] == ["timeseries.png"]
    _, divergence = series.plot_history(results.Results(tmp_path, {})).axes
    assert divergence.get_ylim() == pytest.approx((1e-15, 10.0))


def test_dissipation_is_the_loss_of_energy_on_unequal_steps(tmp_path):
    time = np.cumsum(np.linspace(0.01, 0.05, 200))
    write_csv(tmp_path / "timeseries.csv", time=time, kinetic_energy=0.125 * np.exp(-0.1 * time))
    (tmp_path / "summary.json").write_text('{"case": "taylor_green"}')
    _, loss = series.plot_dissipation(results.Results(tmp_path, {})).axes
    assert lines(loss)[r"$-\mathrm{d}E/\mathrm{d}t$"][1] == pytest.approx(0.0125 * np.exp(-0.1 * time), rel=1e-5)


def test_cavity_takes_the_reynolds_number_of_the_case(tmp_path):
    side = np.linspace(0, 1, 5)
    write_csv(tmp_path / "profiles.csv", x=side, y=side, u_centreline=side**2, v_centreline=-side)
    (tmp_path / "case.toml").write_text("[flow]\nnu = 1e-3\n")
    ghia = write_csv(
        tmp_path / "u.csv",
        "Ghia, Ghia & Shin (1982) J. Comput. Phys.",
        y=side,
        u_Re100=side,
        u_Re1000=side**3,
    )
    vertical, _ = profiles.plot_cavity(results.Results(tmp_path, {"cavity_u": ghia})).axes
    assert lines(vertical)["Ghia, Ghia & Shin (1982), Re = 1000"][0] == pytest.approx(side**3)
    assert lines(vertical)["this run"] == (pytest.approx(side**2), pytest.approx(side))


def test_other_profiles_are_drawn_with_words(tmp_path):
    y = np.linspace(-1, 1, 9)
    write_csv(
        tmp_path / "profiles.csv",
        y=y,
        u_mean=np.tanh(y),
        u_rms=0.1 + 0 * y,
        u_rms_ci95=0.01 + 0 * y,
        eddy_size=y**2,
    )
    figure = profiles.plot_profiles(results.Results(tmp_path, {}))
    assert [axes.get_ylabel() for axes in figure.axes] == [
        r"$\langle u\rangle$",
        r"$u_{\mathrm{rms}}$",
        "eddy size",
    ]
    assert len(figure.axes[1].collections) == 1


def test_draw_writes_what_there_is_and_skips_the_rest(channel_run, monkeypatch, tmp_path):
    monkeypatch.setattr(vortices, "require_rendering", lambda off_screen: pytest.fail("there is no snapshot"))
    written = draw(channel_run.run, channel_run.reference | {"k_budget": tmp_path / "absent.csv"})
    assert [path.name for path in written] == ["profiles.png", "spectra.png", "timeseries.png", "budget.png"]
    assert sorted(path.name for path in (channel_run.run / "figures").iterdir()) == sorted(p.name for p in written)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
    for name in ("profiles.csv", "summary.json", "spectra.csv"):
        (channel_run.run / name).unlink()
    assert [path.name for path in draw(channel_run.run)] == ["timeseries.png", "budget.png"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert draw(empty) == []
    assert not list(empty.iterdir())


def test_a_column_of_words_may_have_empty_cells(tmp_path):
    (tmp_path / "table.csv").write_text("value,word\n1.5,\n,worse\n")
    found = results.read_table(tmp_path / "table.csv")
    assert found["word"].tolist() == ["", "worse"]
    np.testing.assert_array_equal(found["value"], [1.5, np.nan])


def test_a_table_cut_short_by_a_kill_loses_only_its_last_line(tmp_path):
    (tmp_path / "timeseries.csv").write_text("step,time,cfl\n0,0.0,0.5\n1,0.1,\n2,0.")
    table = results.read_table(tmp_path / "timeseries.csv")
    assert list(table["time"]) == [0.0, 0.1]
    assert np.isnan(table["cfl"][1])


def test_a_cell_that_is_no_number_is_named(tmp_path):
    (tmp_path / "spectra.csv").write_text("direction,k\nx,1.0\nz,oops\n", encoding="utf-16")
    with pytest.raises(RunFolderError, match=r"spectra\.csv: damaged \(column 'k' has 'oops' among numbers\)"):
        results.read_table(tmp_path / "spectra.csv")
    (tmp_path / "spectra.csv").write_text("direction,k\nx,1.0\nz,2.0\n")
    assert list(results.read_table(tmp_path / "spectra.csv")["direction"]) == ["x", "z"]


@pytest.mark.parametrize("value", ["inf", "1e308"])
def test_a_value_without_bounds_costs_the_figure_and_one_line(channel_run, caplog, value):
    table = channel_run.run / "budget.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], f"{value}," + lines[-1].partition(",")[2]]) + "\n")
    said: list[Path] = []
    assert draw(channel_run.run, say=said.append) == said
    assert [path.name for path in said] == ["profiles.png", "spectra.png", "timeseries.png"]
    (line,) = [message for message in caplog.messages if "budget.png" in message]
    assert "infinite" in line


def test_profiles_of_one_row_have_no_slopes_and_no_figure(channel_run):
    table = channel_run.run / "profiles.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:2]) + "\n")
    assert "profiles.png" not in [path.name for path in draw(channel_run.run)]


@pytest.mark.parametrize("kept", ["x", ""])
def test_a_direction_of_which_the_mean_alone_is_left_has_no_spectrum(channel_run, kept):
    """As after a table that was cut short."""
    table = channel_run.run / "spectra.csv"
    head, *rows = table.read_text().splitlines()
    rows = [row for row in rows if row.partition(",")[0] == kept or float(row.split(",")[2]) == 0.0]
    table.write_text("\n".join([head, *rows, "z,0.1,0,1,1,1"]) + "\n")
    assert ("spectra.png" in [path.name for path in draw(channel_run.run)]) == bool(kept)


def test_rows_that_stand_twice_leave_a_spectrum(channel_run):
    """As after a hand that copied a line: the spacing of the wavenumbers is that between different ones."""
    table = channel_run.run / "spectra.csv"
    head, first, *others = table.read_text().splitlines()
    table.write_text("\n".join([head, first, first, *others]) + "\n")
    assert "spectra.png" in {path.name for path in draw(channel_run.run)}
    k = np.array([0.0, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(plane_spectra.normalised(k, np.ones(4)), 0.5)
    assert np.isnan(plane_spectra.normalised(np.zeros(2), np.ones(2))).all()


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path):
    target = tmp_path / "profiles.png"
    target.write_bytes(b"old")

    def fail(partial: Path) -> None:
        partial.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(RunFolderError, match=r"profiles.png: cannot be written \(disk full\)"):
        write_atomically(target, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["profiles.png"]
    assert target.read_bytes() == b"old"


def test_drawing_leaves_matplotlib_as_the_user_had_it(channel_run):
    code = (
        "import sys, pathlib, matplotlib\n"
        "from matplotlib import rcParams\n"
        "rcParams['font.size'] = 17\n"
        "before = {key: rcParams[key] for key in rcParams if key != 'backend'}  # reading it loads pyplot\n"
        "from solver.figures import draw; assert draw(pathlib.Path(sys.argv[1]))\n"
        "assert all(rcParams[key] == value for key, value in before.items())\n"
        "assert not {'matplotlib.pyplot', 'pyvista'} & sys.modules.keys()"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, channel_run.run],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr


def test_without_pyvista_draw_warns_and_view_names_the_remedy(tmp_path, monkeypatch, caplog):
    points = box(8, 9, 8)
    write_snapshot(tmp_path / "snapshots" / "a.h5", taylor_green(*points)[0], *points, time=0.0)
    monkeypatch.setitem(sys.modules, "pyvista", None)
    with pytest.raises(FeatureUnavailable, match="pip install pyvista"):
        view(tmp_path)
    with caplog.at_level(logging.WARNING, logger="solver"):
        assert draw(tmp_path) == []
    assert "vortices.png" in caplog.text


def test_a_machine_without_opengl_is_recognised_before_vtk_ends_the_process(monkeypatch):
    pytest.importorskip("pyvista")
    monkeypatch.setattr(vortices, "PROBE", "import os; os.abort()")
    vortices._renders_off_screen.cache_clear()
    try:
        with pytest.raises(FeatureUnavailable, match="libegl1"):
            vortices.require_rendering(off_screen=True)
    finally:
        vortices._renders_off_screen.cache_clear()


def test_view_draws_the_latest_snapshot(tmp_path, monkeypatch):
    points = box(24, 25, 24)
    velocity, _ = taylor_green(*points)
    for name, time in (("9.h5", 9.0), ("10.h5", 10.0)):
        write_snapshot(tmp_path / "snapshots" / name, time * velocity, *points, time=time)
    assert vortices.latest_snapshot(tmp_path).time == 10.0
    try:
        vortices.require_rendering(off_screen=True)
    except FeatureUnavailable as reason:
        pytest.skip(str(reason))
    picture = view(tmp_path)
    assert picture == tmp_path / "figures" / "vortices.png"
    from matplotlib.image import imread

    pixels = imread(picture)[..., :3]
    coloured = np.ptp(pixels, axis=-1) > 0.2
    assert 0.005 < coloured.mean() < 0.9
