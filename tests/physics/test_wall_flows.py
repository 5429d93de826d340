"""Averages of flows along the walls they really have: channels either way, half channels, Couette flow, ducts."""

from __future__ import annotations

import csv
import json
import warnings

import numpy as np
import pytest
import torch

from solver.analysis.batch_means import BatchMeans
from solver.analysis.channel import BUDGET, PROFILE, ChannelProfiles, wall_flows
from solver.analysis.duct import Duct
from solver.analysis.moments import INDEX, NAMES
from solver.analysis.wall_view import FLUXES
from solver.case.case import Case, load_case
from solver.flow.simulation import Simulation
from solver.grid.axis import FiniteVolumeAxis, FourierAxis, FreeSlip, NoSlip, stretched_faces
from solver.grid.grid import Grid
from solver.observers import averages
from solver.observers.spectra import PlaneSpectra
from solver.observers.statistics import Moments
from tests.grids import GRIDS, WALL, operators, random_velocity, simulation
from tests.physics.dns import AXIS, CHANNEL, NU
from tests.physics.shipped import CASES

X, Z = FourierAxis(4, 3.0), FourierAxis(4, 2.0)


def everything(channel: ChannelProfiles, moments: np.ndarray) -> dict[str, np.ndarray]:
    """All that is evaluated; nothing may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluators = (channel.scalars, channel.profiles, channel.budget, channel.subgrid)
        return {f.__name__: f(moments) for f in evaluators}


def upside_down(moments: np.ndarray) -> np.ndarray:
    """The flow mirrored in y."""
    found = moments[:, ::-1].copy()
    for name in ("v", "uv", "vw", "tau_xy", "tau_yz", "uuv", "vvv", "wwv", "pv", "tau_u"):
        found[INDEX[name]] *= -1
    for name in FLUXES:
        found[INDEX[name], :-1] = -moments[INDEX[name], -2::-1]
        found[INDEX[name], -1] = 0.0
    return found


def backwards(moments: np.ndarray) -> np.ndarray:
    """The flow mirrored in x."""
    found = moments.copy()
    for name in ("u", "uv", "uw", "tau_xy", "tau_xz", "force_x", *FLUXES):
        found[INDEX[name]] *= -1
    return found


def carried(moments: np.ndarray, speed: float) -> np.ndarray:
    """The same flow seen from a frame that moves with -`speed`."""
    found, m = moments.copy(), {name: moments[i] for name, i in INDEX.items()}
    found[INDEX["u"]] += speed
    found[INDEX["uu"]] += 2 * speed * m["u"] + speed**2
    found[INDEX["uv"]] += speed * m["v"]
    found[INDEX["uuv"]] += 2 * speed * m["uv"] + speed**2 * m["v"]
    found[INDEX["tau_u"]] += speed * m["tau_xy"]
    found[INDEX["eps_sgs"]] -= speed * m["force_x"]
    return found


@pytest.fixture(scope="module")
def means(means) -> np.ndarray:
    """The DNS with a made-up subgrid stress and force, whose power is not the same in every frame."""
    y, faces = AXIS.centres - 1.0, AXIS.faces[1:] - 1.0
    found = means.copy()
    found[INDEX["tau_xy"], :, 0], found[INDEX["sgs_flux_xy"], :, 0] = (0.4 * f * (1 - f**2) for f in (y, faces))
    found[INDEX["flux_xy"]] += found[INDEX["sgs_flux_xy"]]
    found[INDEX["tau_u"]] = 1.1 * found[INDEX["u"]] * found[INDEX["tau_xy"]]
    found[INDEX["force_x"], :, 0] = 0.3 - y**2
    found[INDEX["eps_sgs"], :, 0] = (1 - y**2) / NU - found[INDEX["force_x"], :, 0] * found[INDEX["u"], :, 0]
    return found


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], **tolerance: float) -> None:
    for name, values in one.items():
        assert values == pytest.approx(other[name], **tolerance), name


def test_a_channel_towards_minus_x_is_the_one_towards_plus_x(means):
    forth, back = everything(CHANNEL, means), everything(CHANNEL, backwards(means))
    assert back["scalars"][1] == -forth["scalars"][1]  # the bulk velocity keeps its sign
    back["scalars"][1] *= -1
    same(forth, back, rel=1e-12, abs=1e-12)


def test_half_a_channel_is_a_channel(means):
    """One wall and free slip opposite: the lower half of the DNS, and the same upside down."""
    n = AXIS.n // 2
    whole = everything(CHANNEL, means)
    below = FiniteVolumeAxis(AXIS.faces[: n + 1], NoSlip(), FreeSlip())
    above = FiniteVolumeAxis(1.0 - AXIS.faces[n::-1], FreeSlip(), NoSlip())
    for y, moments in ((below, means[:, :n]), (above, upside_down(means[:, :n]))):
        channel = ChannelProfiles(y, NU)
        assert channel.half_height == pytest.approx(1.0)
        assert channel.distance == pytest.approx(CHANNEL.distance)
        same(whole, everything(channel, moments), rel=1e-9, abs=1e-9)


def test_walls_that_move_alike_are_a_channel(means):
    y = FiniteVolumeAxis(AXIS.faces, NoSlip((7.0, 0.0, 0.0)), NoSlip((7.0, 0.0, 0.0)))
    rest, moving = everything(CHANNEL, means), everything(ChannelProfiles(y, NU), carried(means, 7.0))
    assert moving["scalars"][1] == pytest.approx(rest["scalars"][1] + 7.0)
    moving["scalars"][1] -= 7.0
    same(rest, moving, rel=1e-7, abs=1e-7)


def laminar_couette(y: FiniteVolumeAxis) -> np.ndarray:
    moments = np.zeros((len(NAMES), y.n, 1))
    lower, upper = y.lower.velocity[0], y.upper.velocity[0]
    u = lower + (upper - lower) * (y.centres - y.faces[0]) / y.length
    moments[INDEX["u"], :, 0], moments[INDEX["uu"], :, 0] = u, u**2
    slope = (upper - lower) / y.length
    moments[INDEX["dudx_dudx"]] = slope**2
    return moments


@pytest.mark.parametrize("speeds", [(-1.0, 1.0), (3.0, 5.0), (1.0, -1.0)])
@pytest.mark.parametrize("n", [16, 15])
def test_couette_flow(speeds, n):
    """Laminar: the stress is nu everywhere, C_f = 2 nu / U_w^2 with half the difference of the walls as U_w."""
    y = FiniteVolumeAxis(stretched_faces(n, -1.0, 1.0, 1.5), *(NoSlip((s, 0.0, 0.0)) for s in speeds))
    (channel,) = wall_flows(Grid(X, y, Z), 0.25, driven=False).values()
    found = everything(channel, laminar_couette(y))
    u_tau, bulk, re_tau, re_bulk, c_f, residual = found["scalars"]
    assert (u_tau, re_tau, re_bulk, c_f) == pytest.approx((0.5, 2.0, 8.0, 0.5))
    assert bulk == pytest.approx(np.mean(speeds))
    assert residual < 1e-12
    assert found["profiles"][0] == pytest.approx(channel.distance / 0.5)
    assert not np.round(found["budget"], 9).any()


def test_two_walls_that_see_different_flows_have_tables_of_their_own(tmp_path):
    """Couette flow with a pressure gradient: nu dU/dy is 0.25 (1 + 2) at one wall and 0.25 (1 - 2) at the other."""
    y = FiniteVolumeAxis(stretched_faces(40, -1.0, 1.0, 1.0), NoSlip((-1.0, 0.0, 0.0)), NoSlip((1.0, 0.0, 0.0)))
    moments = laminar_couette(y)
    moments[INDEX["u"], :, 0] += 1 - y.centres**2
    found = wall_flows(Grid(X, y, Z), 0.25, driven=True)
    stresses = {side: channel.scalars(moments)[0] ** 2 for side, channel in found.items()}
    assert stresses == pytest.approx({"lower": 0.75, "upper": 0.25}, rel=0.03)
    assert all(len(channel.distance) == 20 for channel in found.values())
    uneven = FiniteVolumeAxis(np.array([0.0, 0.1, 0.3, 0.7, 1.2, 2.0]), WALL, WALL)
    assert set(wall_flows(Grid(X, uneven, Z), 0.25, driven=True)) == {"lower", "upper"}
    assert not wall_flows(GRIDS["free_slip"], 0.25, driven=True)


def test_fluid_at_rest_has_no_wall_units_and_no_warnings():
    found = everything(CHANNEL, np.zeros((len(NAMES), AXIS.n, 1)))
    assert found["scalars"][:4] == pytest.approx(0.0)
    assert np.isnan(found["scalars"][4:]).all()
    with_units = [name != "nu_t_plus" for name in PROFILE]
    assert np.isnan(found["profiles"][with_units]).all()
    assert np.isnan(found["subgrid"]).all()


def test_duct_friction_balances_the_drive():
    """Discrete laminar flow for a unit drive: u_tau^2 times the perimeter is the area."""
    y, z = (FiniteVolumeAxis(stretched_faces(n, 0.0, side, 1.2), WALL, WALL) for n, side in ((7, 2.0), (6, 3.0)))

    def second(axis: FiniteVolumeAxis) -> np.ndarray:
        """Second derivative at centres, walls half a spacing away."""
        slopes = np.diff(np.eye(axis.n), axis=0, prepend=0.0, append=0.0)
        slopes[0], slopes[-1] = 2 * np.eye(axis.n)[0], -2 * np.eye(axis.n)[-1]
        return np.diff(slopes / axis.spacing[:, None], axis=0) / axis.width[:, None]

    laplacian = np.kron(second(y), np.eye(z.n)) + np.kron(np.eye(y.n), second(z))
    moments = np.zeros((len(NAMES), y.n, z.n))
    moments[INDEX["u"]] = np.linalg.solve(0.1 * laplacian, -np.ones(y.n * z.n)).reshape(y.n, z.n)
    for sign in (1.0, -1.0):
        u_tau, bulk, re_tau, re_bulk, c_f = Duct(y, z, 0.1).scalars(sign * moments)
        assert u_tau**2 == pytest.approx(6.0 / 10.0)
        assert re_tau == pytest.approx(u_tau * 1.2 / 0.1)  # h = 2 area / perimeter
        assert re_bulk == pytest.approx(2 * 1.2 * abs(bulk) / 0.1)
        assert c_f == pytest.approx(2 * u_tau**2 / bulk**2)
        assert sign * bulk > 0


def case_of(tmp_path, kind: str, *overrides: str) -> Case:
    """channel180 with other ends of y, or of z."""
    ends = {
        "half": ("grid.y.end=1.0", "grid.y.upper='free_slip'"),
        "couette": ("grid.y.upper={kind='no_slip',velocity=[1.0,0.0,0.0]}", "flow.forcing={kind='none'}"),
        "cells along z": ("grid.z={kind='finite_volume',n=4,end=1.0,lower='periodic',upper='periodic'}",),
        "duct": ("grid.z={kind='finite_volume',n=4,end=1.0}",),
    }[kind]
    sizes = ("grid.x.n=4", "grid.y.n=12", "grid.z.n=4")
    case, _ = load_case(CASES / "channel180", (*sizes, *ends, "initial={kind='rest'}", *overrides))
    return case.model_copy(update={"reference": None})


@pytest.mark.parametrize("kind", ["half", "couette", "cells along z"])
def test_tables_of_a_run(tmp_path, kind):
    """What a run with constant means writes: u_tau with an interval, profiles from the wall to h."""
    case = case_of(tmp_path, kind, "flow.nu=0.01")
    grid = case.build_grid()
    statistics = BatchMeans(0.0, 1.0)
    moments = np.zeros((len(NAMES), grid.y.n, 1 if grid.z.is_fourier else grid.z.n))
    distance = grid.y.centres - grid.y.faces[0]
    moments[INDEX["u"]] = {"couette": 0.5 * distance}.get(kind, distance * (2 - distance))[:, None]
    for batch in range(5):
        statistics.add(batch + 0.5, 1.0, moments)
    found = averages.write_statistics(tmp_path, case, tmp_path, grid, statistics)
    slope = {"couette": 0.5}.get(kind, 2.0 - distance[0])
    assert found["u_tau"] == pytest.approx((0.01 * slope) ** 0.5)
    assert found["ci95"]["u_tau"] == pytest.approx(0.0, abs=1e-9)
    rows = list(csv.DictReader((tmp_path / "profiles.csv").open()))
    h = 1.0
    assert [float(row["y"]) for row in rows] == pytest.approx(distance[distance <= h] / h)
    assert next(csv.DictReader((tmp_path / "budget.csv").open())).keys() == {"y_plus", *BUDGET}
    json.dumps(found)


def test_a_duct_says_what_it_does(tmp_path, caplog):
    case = case_of(tmp_path, "duct")
    grid, statistics = case.build_grid(), BatchMeans(0.0, 1.0)
    statistics.add(0.5, 1.0, np.ones((len(NAMES), grid.y.n, grid.z.n)))
    with caplog.at_level("INFO", logger="solver"):
        found = averages.write_statistics(tmp_path, case, tmp_path, grid, statistics)
    assert found["bulk_velocity"] == pytest.approx(1.0)
    assert "u_tau is that of the mean stress over all walls" in caplog.text
    assert not (tmp_path / "profiles.csv").exists()


def noise(name: str) -> Simulation:
    """One instant of random flow on one of `GRIDS`."""
    op = operators(name)
    return simulation(op, random_velocity(op, 70931), 0.01, 0.01)


@pytest.mark.parametrize("name", ["channel", "half_channel", "channel_even"])
def test_spectra_add_up_to_the_variance_at_each_height(name):
    """Of all three components, next to the walls too: v is taken where the moments have it."""
    flow = noise(name)
    spectra = PlaneSpectra(flow.operators, 0.0, 1.0, 1).sample(flow)[..., 0].numpy()
    moments = Moments(flow.operators).sample(flow, None)[..., 0].numpy()
    along_x = flow.operators.grid.fourier_axes[0].highest_mode + 1
    for i, c in enumerate("uvw"):
        variance = moments[INDEX[c + c]] - moments[INDEX[c]] ** 2
        assert spectra[i, :along_x].sum(0) == pytest.approx(variance, rel=1e-10)
        assert spectra[i, along_x:].sum(0) == pytest.approx(variance, rel=1e-10)


def test_listed_spectra_are_averaged_at_one_distance_and_listed_once():
    """Channels average both walls, half channels have one; heights that mean the same plane give one."""
    for name, averaged in (("channel_even", True), ("half_channel", False)):
        flow = noise(name)
        hook = PlaneSpectra(flow.operators, 0.0, 1.0, 1)
        hook.means.add(0.5, 1.0, hook.sample(flow).numpy())
        (channel,) = wall_flows(flow.operators.grid, 0.01, driven=True).values()
        first = channel.heights[0]
        table = hook.table(hook.means, channel, (0.0, 1.01 * first, 0.99 * first))
        assert set(table["y"]) == {first}
        along_x = flow.operators.grid.fourier_axes[0].highest_mode + 1
        e = hook.means.mean[1, :along_x, :, 0]
        expected = 0.5 * (e[:, 0] + e[:, -1]) if averaged else e[:, 0]
        assert table["E_vv"][:along_x] == pytest.approx(expected)


@pytest.mark.parametrize("n", [8, 9])
def test_centre_lines_are_in_the_middle(tmp_path, n):
    """Velocities linear in x, y and z are exact on the lines, whether a cell is centred on them or not."""
    line = FiniteVolumeAxis(stretched_faces(n, 0.0, 1.0, 1.0), WALL, WALL)
    uneven = FiniteVolumeAxis(np.array([0.0, 0.2, 0.35, 0.6, 1.0]), WALL, WALL)
    for z in (FourierAxis(1, 1.0), uneven):
        op = operators(Grid(line, uneven, z))
        flow = simulation(op, random_velocity(op, 3), 0.01, 0.01)
        at = np.meshgrid(*(axis.centres for axis in op.grid.axes), indexing="ij")
        linear = torch.from_numpy(at[0] + 10 * at[1] + (100 * at[2] if z is uneven else 50))
        flow.velocity.__dict__["centred"] = (linear, -linear, linear)
        found = averages.write_centrelines(tmp_path, flow)
        rows = list(csv.DictReader((tmp_path / "profiles.csv").open()))
        for name, other, sign in (("y", "u_centreline", 1), ("x", "v_centreline", -1)):
            place = np.array([float(row[name]) for row in rows])
            expected = 0.5 + 10 * place + 50 if name == "y" else place + 5 + 50
            values = np.array([float(row[other]) for row in rows])
            assert values[np.isfinite(place)] == pytest.approx(sign * expected[np.isfinite(place)])
        assert found["extrema"]["u_min"] == pytest.approx(0.5 + 10 * uneven.centres[0] + 50)
