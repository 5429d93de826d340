"""Planted differences are found, equals are not told apart, and what cannot be compared is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from closures.compare import compare, filtered
from closures.compare.campaign import repeats
from closures.compare.channels import METRICS, ChannelJudge, table_errors
from closures.compare.jobs import plan
from closures.compare.references import find, resolve
from closures.compare.report import markdown, record_of
from closures.compare.runs import group, read, require_one_difference
from closures.compare.uncertainty import judge
from closures.compare.verdicts import compare_members
from closures.data.exchange import EXCHANGE
from closures.data.profiles import STATIONARY, channel_facts, filtered_channel
from closures.data.statistics import write_statistics
from solver.analysis.channel import PROFILE, table_of
from solver.analysis.moments import INDEX
from solver.analysis.reference import ChannelReference
from solver.case.case import load_case
from solver.errors import CaseError, RunFolderError
from solver.files.reference_files import read_reference
from tests.compare.ensembles import AVERAGED, CASE, ROOT, TABLE, write_run
from tests.data.stored import reference_profiles

KEYS = [q.name for q in METRICS]


def compared(*folders: Path, reference: str | None = "MKM180"):
    runs = [read(folder) for folder in folders]
    require_one_difference(runs)
    return compare_members(group(runs), resolve(reference, runs))


def words(comparison, label: str) -> dict[str, str]:
    judged = next(j for j in comparison.members if j.member.label == label)
    return dict(zip([q.name for q in comparison.metrics], judged.words, strict=True))


@pytest.fixture
def pair(tmp_path):
    return write_run(tmp_path / "a", "none", 5), write_run(tmp_path / "b", "wale", 5, {"u_rms": 0.05})


def test_a_planted_bias_of_five_per_cent_is_found(pair):
    comparison = compared(*pair)
    found = words(comparison, "wale")
    assert found["u_rms"] == "worse"
    assert {found[key] for key in ("u_mean", "v_rms", "w_rms", "uv", "c_f")} == {"not distinguishable"}
    difference = comparison.members[1].difference
    assert difference is not None
    column = KEYS.index("u_rms")
    assert difference.value[column] == pytest.approx(0.05, abs=0.015)
    assert difference.half_width[column] < difference.value[column]


def test_a_bias_that_is_removed_is_better(tmp_path):
    runs = [write_run(tmp_path / "a", "none", 5, {"w_rms": 0.1}), write_run(tmp_path / "b", "wale", 6)]
    assert words(compared(*runs), "wale")["w_rms"] == "better"
    assert words(compared(*reversed(runs)), "none")["w_rms"] == "worse"  # the first is the baseline


def test_the_same_closure_under_two_seeds_is_not_distinguishable(tmp_path):
    """Families of eight quantities, floors aside, with and without a common bias: one family in twenty may err."""
    wrong, trials = 0, 24
    for trial in range(trials):
        bias = {"v_rms": -0.1} if trial % 2 else {}
        runs = [write_run(tmp_path / f"{trial}{c}", c, 100 + trial, bias) for c in ("none", "wale")]
        comparison = compared(*runs)
        difference = comparison.members[1].difference
        wrong += any(word in ("better", "worse") for word in judge([difference], np.zeros(len(KEYS)))[0])
        if trial < 3:
            assert set(comparison.members[1].words) == {"not distinguishable"}
    assert wrong <= 4  # P(more than 4 of 24 at 5 %) is 0.6 %


def test_seeds_are_pooled_and_narrow_the_interval(tmp_path):
    folders = [write_run(tmp_path / f"{c}{s}", c, s) for c in ("none", "wale") for s in (1, 2, 3, 4)]
    four, one = compared(*folders), compared(folders[0], folders[4])
    assert [len(j.member.runs) for j in four.members] == [4, 4]
    ratios = four.members[0].errors.half_width / one.members[0].errors.half_width
    assert np.median(ratios[1:6]) == pytest.approx(0.5, abs=0.2)


def test_errors_are_those_of_the_run_summary(pair):
    from solver.analysis.channel import ChannelProfiles, errors
    from solver.analysis.moments import INDEX

    comparison = compared(*pair)
    run = read(pair[1])
    sums, weights = run.moments
    assert weights.sum() == pytest.approx(AVERAGED)
    channel = ChannelProfiles(run.case.build_grid().y, run.case.flow.nu)
    expected = errors(channel, ChannelReference(read_reference(TABLE)), sums.sum(0) / weights.sum(), "bulk")
    assert comparison.members[1].errors.value[1:7] == pytest.approx(expected)
    assert comparison.members[1].errors.value[0] == pytest.approx(np.sqrt((expected[:5] ** 2).mean()))
    assert sums.shape[1] == len(INDEX)


def test_a_run_is_no_distance_from_itself_as_reference(pair):
    comparison = compared(*pair, reference=str(pair[0]))
    assert comparison.members[0].errors.value == pytest.approx(0.0, abs=1e-12)
    assert comparison.members[1].errors.value[KEYS.index("u_rms")] == pytest.approx(0.05, abs=0.02)
    assert all(q.floor == 0 for q in comparison.metrics)


def test_a_data_set_of_filtered_dns_as_reference(pair):
    """Its statistics, scaled by the wall stress of the direct simulation; how far trajectories differ is the floor."""
    data = ROOT / "closures/data/samples/channel180_sample.h5"
    comparison = compared(*pair, reference=f"filtered-dns:{data}")
    assert isinstance(comparison.judge, ChannelJudge)
    table = comparison.judge.target.at()
    profiles, means = filtered_channel(data)
    expected = np.sqrt(means[:, 0, INDEX["uu"]].mean(0) - means[:, 0, INDEX["u"]].mean(0) ** 2)[:, 0]
    half = slice(0, len(expected) // 2)
    folded = (
        0.5 * (expected + expected[::-1])[half] / profiles.friction_velocity(profiles.fold(means.mean(axis=(0, 1))))
    )
    assert np.sqrt(table.table["uu_plus"][1 : len(folded) + 1]) == pytest.approx(folded, rel=0.02)
    one_by_one = [table_of(profiles, m.mean(axis=0)) for m in filtered_channel(data, batches=5)[1]]
    apart = [table_errors(comparison.judge.channel, a, b) for a in one_by_one for b in one_by_one if a is not b]
    floors = np.array([q.floor for q in comparison.metrics])
    assert floors == pytest.approx(np.sqrt(np.mean(np.square(apart), axis=0)))
    assert floors.min() > 0.005
    assert "A difference below the floor is none" in markdown(record_of(comparison, "solver compare"))
    assert 0.0 < comparison.members[0].errors.value[KEYS.index("u_rms")] < 1.0


def test_a_filtered_reference_shows_the_work_of_its_stress(tmp_path):
    """That on the mean flow from its means; that on fluctuations from the exchange between scales."""
    target = tmp_path / "sample.h5"
    shutil.copyfile(ROOT / "closures/data/samples/channel180_sample.h5", target)
    rows = [PROFILE.index(name) for name in ("sgs_share", "sgs_work_mean", "sgs_work_fluctuation")]

    def found() -> tuple[np.ndarray, float]:
        channel, means = filtered_channel(target)
        mean = means.mean(axis=(0, 1))
        return channel.profiles(mean)[rows], channel.friction_velocity(channel.fold(mean)) ** 4 / channel.nu

    (share, on_mean, unknown), unit = found()
    assert 0.04 < share[:6].max() < 1
    assert on_mean.max() > 0
    assert np.isnan(unknown).all()
    with h5py.File(target, "a") as file:
        n_traj, n_steps, _, ny = file["statistics/moments"].shape
        exchange = np.zeros((n_traj, n_steps, len(EXCHANGE), ny))
        exchange[:, :, EXCHANGE.index("tau_xy_s_xy")] = -3.5 * unit  # counts twice
        file["statistics/exchange"] = exchange
    (_, same, fluctuation), _ = found()
    assert same == pytest.approx(on_mean)
    assert same + fluctuation == pytest.approx(7.0)


def test_a_difference_below_the_floor_of_the_reference_is_none(tmp_path):
    """A bias of one per cent that is certain: the trajectories of a filtered simulation disagree by more."""
    bias = {f"{c}_rms": 0.01 for c in "uvw"}
    runs = [write_run(tmp_path / "a", "none", 5, noise=1e-4), write_run(tmp_path / "b", "wale", 5, bias, noise=1e-4)]
    data = ROOT / "closures/data/samples/channel180_sample.h5"
    judged = compared(*runs, reference=f"filtered-dns:{data}").members[1]
    column = KEYS.index("w_rms")
    assert judge([judged.difference], np.zeros(len(KEYS)))[0][column] in ("better", "worse")
    assert judged.words[column] == "not distinguishable"


def scattered(tmp_path: Path, scatter: list[float], **change: object) -> Path:
    """Statistics of the sample whose wall stresses scatter from batch to batch, and whose means do not."""
    target = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
    write_statistics(ROOT / "closures/data/samples/channel180_sample.h5", target, batches=5)
    with h5py.File(target, "a") as file:
        file["statistics/moments"][:] = file["statistics/moments"][:].mean(axis=(0, 1))
        file["statistics/wall_stress"][:] = file["statistics/wall_stress"][()].mean() * np.array(scatter)
        recipe = json.loads(file.attrs["recipe"])
        file.attrs["recipe"] = json.dumps({**recipe, **change})
    return target


def test_a_reference_whose_wall_stress_scatters_widens_the_interval_of_friction(tmp_path, pair):
    steady = scattered(tmp_path, [1.0] * 5)
    wild = scattered(tmp_path, [0.8, 1.1, 1.0, 0.9, 1.2])
    one, other = (compared(*pair, reference=f"filtered-dns:{path}").members[0].errors for path in (steady, wild))
    column = KEYS.index("c_f")
    assert other.value == pytest.approx(one.value, rel=1e-6)
    added = np.sqrt(other.variance[column] - one.variance[column])
    assert added == pytest.approx(np.std([0.8, 1.1, 1.0, 0.9, 1.2], ddof=1) / np.sqrt(20), rel=0.6)
    assert other.half_width[column] > 1.3 * one.half_width[column]


def test_every_grid_finds_the_statistics_filtered_to_it(tmp_path, monkeypatch):
    """The file of the flow and the grid, by a box where there are two kernels; another grid or flow finds none."""
    shutil.copy(scattered(tmp_path, [1.0] * 5, filter={"horizontal": "sharp"}), tmp_path / "a.h5")
    (tmp_path / "0.h5").unlink()
    wanted = scattered(tmp_path, [1.0] * 5)
    monkeypatch.setattr(filtered, "FILTERED_DATABASE", tmp_path)
    with h5py.File(wanted) as file:
        recipe = json.loads(file.attrs["recipe"])
    axes = [
        f"grid.{d}.{key}={recipe['coarse'][d][key]}"
        for d in "xyz"
        for key in ("n", "length", "end", "stretching")
        if key in recipe["coarse"][d]
    ]
    drive = [
        f"flow.nu={recipe['flow']['nu']}",
        f"flow.forcing.bulk_velocity={recipe['flow']['forcing']['bulk_velocity']}",
    ]
    case, folder = load_case(CASE, (*axes, *drive))
    assert find(None, case, folder).files == {"filtered": wanted}
    assert find(f"filtered-dns:{tmp_path}", case, folder).files == {"filtered": wanted}
    other, folder = load_case(CASE, (*axes, *drive, "grid.x.n=14"))
    assert not find(None, other, folder).is_filtered
    with pytest.raises(CaseError, match=r"has 1, a, none of the flow and the grid of the case"):
        find(f"filtered-dns:{tmp_path}", other, folder)
    other, folder = load_case(CASE, (*axes, drive[1], "flow.nu=0.0003"))
    assert not find(None, other, folder).is_filtered


@pytest.mark.parametrize(("cells", "stress"), [((16, 16, 8), 0.9), ((24, 24, 12), 0.75), ((48, 48, 48), 0.04)])
def test_the_coarse_channel_on_other_grids_is_judged_by_what_is_filtered_to_them(cells, stress):
    """Shipped, of trajectories that no network learned from: developed, and less is resolved where cells are wide.

    `stress` is the share of the mean turbulent shear stress at y+ 15 that is subgrid (docs/decisions/0040).
    """
    sizes = [f"grid.{d}.n={n}" for d, n in zip("xyz", cells, strict=True)]
    case, folder = load_case(Path("channel180_coarse"), sizes)
    path = find(None, case, folder).files["filtered"]
    assert path.stem == "x".join(map(str, cells))
    with h5py.File(path) as file:
        assert file.attrs["splits"] == "test"
    facts = channel_facts(path)
    assert facts["re_tau"] == pytest.approx(180, rel=0.015)
    assert facts["imbalance"] < 2.5 * STATIONARY  # eight planes see the balance less sharply than 48
    table = {name: column[1:] for name, column in reference_profiles(path).items()}  # without the wall
    share = table["tau_xy_plus"] / (table["tau_xy_plus"] + table["uv_plus"])
    assert np.interp(15.0, table["y_plus"], share) == pytest.approx(stress, abs=0.06)


def test_a_coarse_grid_without_filtered_statistics_is_judged_by_its_mean_flow(tmp_path):
    change = ("grid.x.n=24",)
    runs = [
        write_run(tmp_path / name, name, 5, {"u_rms": 0.3, "uv": bias}, overrides=change)
        for name, bias in (("none", 0.0), ("wale", 0.4))
    ]
    comparison = compared(*runs, reference=None)
    assert [q.name for q in comparison.metrics] == ["u_mean", "c_f", "total_stress"]
    assert "by mean flow, friction and total shear stress alone" in markdown(record_of(comparison, "solver compare"))
    assert len(comparison.members[1].words) == 3
    other_grid = compared(*runs, reference="filtered-dns")
    assert [q.name for q in other_grid.metrics] == ["u_mean", "c_f", "total_stress"]
    assert "filtered to another grid" in other_grid.target.basis
    asked = compared(*runs)
    of_mean_flow = [m.of_mean_flow for m in METRICS]
    assert [q.name for q in asked.metrics] == KEYS
    assert comparison.members[0].errors.value == pytest.approx(asked.members[0].errors.value[of_mean_flow])
    for grid, coarse in ((("x.n=60", "y.n=48", "z.n=60"), False), (("x.n=60", "y.n=48", "z.n=20"), True)):
        case, folder = load_case(CASE, tuple(f"grid.{axis}" for axis in grid))
        assert find(None, case, folder).mean_flow_only is coarse


def test_total_stress_is_resolved_and_subgrid_and_not_known_of_what_moves_momentum_otherwise(tmp_path):
    """A third of the shear stress in the model, or nowhere."""
    runs = [write_run(tmp_path / f"{name}", name, 5, noise=1e-3) for name in ("none", "wale", "vreman")]
    with h5py.File(runs[0] / "statistics.h5") as source:
        whole = source["batches/sums"][()]
    for folder, carried in ((runs[1], 1.0), (runs[2], 0.0)):
        changed = whole.copy()
        changed[:, INDEX["uv"]] *= 2 / 3
        changed[:, INDEX["tau_xy"]] = carried * whole[:, INDEX["uv"]] / 3
        with h5py.File(folder / "statistics.h5", "r+") as file:
            file["batches/sums"][...] = changed
    comparison = compared(*runs)
    none, wale, vreman = (judged.errors.value for judged in comparison.members)
    uv, total = KEYS.index("uv"), KEYS.index("total_stress")
    assert wale[total] == pytest.approx(none[total], abs=1e-9)
    assert wale[uv] == pytest.approx(1 / 3, abs=0.05)
    assert np.isnan(vreman[total])
    assert comparison.members[2].words[total] == "not judged"


def test_filtered_statistics_of_the_grid_are_the_default_reference(pair, tmp_path):
    """The coarse channel has some; on another grid they are none of it, and the published table judges."""
    comparison = compared(*pair, reference=None)
    assert comparison.target.name == "filtered-dns"
    assert "filtered to the scales that the grid carries" in comparison.target.basis
    assert "Judged by a direct simulation filtered" in markdown(record_of(comparison, "solver compare"))
    table = compared(*pair)
    assert table.target.basis.startswith("the whole flow")
    assert not np.allclose(table.members[0].errors.value[:6], comparison.members[0].errors.value[:6], rtol=0.01)
    for change in ("grid.x.n=24", "grid.y.n=24", "grid.y.stretching=1.5", "grid.z.length=4.0"):
        case, folder = load_case(CASE, (change,))
        assert find(None, case, folder).name == "MKM180"


def test_floors_are_how_far_databases_disagree(pair):
    comparison = compared(*pair)
    floors = {q.name: q.floor for q in comparison.metrics}
    assert all(0.002 < floors[key] < 0.03 for key in KEYS)
    assert isinstance(comparison.judge, ChannelJudge)
    table = comparison.judge.table
    assert table_errors(comparison.judge.channel, table, table) == pytest.approx(0.0, abs=1e-14)


def test_a_diverged_run_is_shown_and_worse_than_any_number(tmp_path, pair):
    broken = write_run(tmp_path / "c", "vreman", 5, status="diverged", statistics=False)
    comparison = compared(*pair, broken)
    judged = comparison.members[2]
    assert judged.member.status == "diverged at t = 103.5"
    assert set(judged.words) == {"diverged"}
    assert judged.errors is None
    assert judged.cost.time == 103.5
    assert not any("vreman" in (p.one, p.other) for p in comparison.pairs)


def test_one_diverged_seed_of_two_is_not_averaged_away(tmp_path, pair):
    broken = write_run(tmp_path / "c", "wale", 6, status="diverged", statistics=False)
    judged = compared(*pair, broken).members[1]
    assert judged.member.status == "diverged at t = 103.5 (1 of 2)"
    assert set(judged.words) == {"diverged"}
    assert judged.errors is not None


def test_equal_wall_clock_averages_less_for_the_dearer(tmp_path):
    cheap = write_run(tmp_path / "a", "none", 5, seconds_per_step=0.01)
    dear = write_run(tmp_path / "b", "wale", 5, seconds_per_step=0.02)
    first, second = compared(cheap, dear).members
    assert first.equal_wall.value == pytest.approx(first.errors.value)
    assert second.cost.seconds_per_unit == pytest.approx(2 * first.cost.seconds_per_unit)
    # 600 units of the cheap one buy 300 of the dear one, 100 of them after its start at 200: 5 of 20 batches
    assert second.equal_wall.freedom[1] == pytest.approx(4)
    assert second.errors.freedom[1] == pytest.approx(19)


def test_costs_are_for_h_over_u_tau(pair):
    cost = compared(*pair).members[0].cost
    unit = 4200 / 178.12  # h^2 / (nu Re_tau) in time units of the case
    assert cost.seconds_per_unit == pytest.approx(0.01 * 4000 / 600 * unit)


def test_other_cases_are_refused_with_the_difference(tmp_path, pair):
    other = write_run(tmp_path / "c", "wale", 6, overrides=("flow.nu=0.0003", "time.cfl=1.0"))
    with pytest.raises(CaseError, match=r"differ outside \[closure\].*flow.nu: 0.0002380952381 against 0.0003") as e:
        compared(pair[0], other)
    assert "time.cfl: 1.4 against 1.0" in str(e.value)
    assert "--different-cases" in str(e.value)
    out = compare([pair[0], other], different_cases=True, out=tmp_path / "out")
    keys = [d["key"] for d in json.loads((out / "report.json").read_text())["differences"]]
    assert {"flow.nu", "time.cfl", "closure.name"} <= set(keys)


def test_bad_input_is_named(tmp_path, pair):
    bare = write_run(tmp_path / "c", "vreman", 5, statistics=False)
    with pytest.raises(RunFolderError, match=r"c: it has no statistics.h5.*\[statistics\] start"):
        compared(*pair, bare)
    with pytest.raises(RunFolderError, match="no run folder"):
        read(CASE)
    (bare / "summary.json").unlink()
    with pytest.raises(RunFolderError, match=r"has not ended.*--restart"):
        read(bare)
    twin = write_run(tmp_path / "d", "none", 5)
    with pytest.raises(CaseError, match="the same closure and the same seed 5"):
        compared(pair[0], twin)
    with pytest.raises(CaseError, match=r"--reference nowhere: should be 'mkm180'.*filtered-dns.*run folder"):
        compared(*pair, reference="nowhere")
    with pytest.raises(CaseError, match="two or more run folders"):
        compare([pair[0]])
    with pytest.raises(CaseError, match="--closures"):
        compare(list(pair), seeds=3)


def test_no_overlap_with_the_reference(tmp_path, pair):
    for folder in pair:
        table = ROOT / "cases" / "channel590" / "reference" / "channel_mkm590.csv"
        (folder / "reference" / "channel_mkm180.csv").write_bytes(table.read_bytes())
    with pytest.raises(CaseError, match=r"bulk Reynolds number is 21.*runs 5600: no overlap"):
        compared(*pair)
    lines = TABLE.read_text().splitlines()
    for folder in pair:
        (folder / "reference" / "channel_mkm180.csv").write_text("\n".join(lines[:20]) + "\n")
    with pytest.raises(CaseError, match="no overlap with the half channel"):
        compared(*pair)


def test_plans_name_what_is_wrong(tmp_path):
    with pytest.raises(CaseError, match="name:option=value"):
        plan(CASE, "smagorinsky:c_s", ())
    with pytest.raises(CaseError, match="has no randomness"):
        repeats(ROOT / "cases" / "taylor_green_les", "none", (), 2)
    jobs = repeats(CASE, "smagorinsky:c_s=0.1", ("time.end=300.0",), 3)
    assert len({job.case.initial.seed for job in jobs}) == len({job.folder for job in jobs}) == 3
    assert jobs[0].case.closure.options == {"c_s": 0.1}
    assert jobs[0].case.time.end == 300.0
