"""Planted differences are found, equals are not told apart, and what cannot be compared is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from closures.compare import compare
from closures.compare.campaign import repeats
from closures.compare.channels import QUANTITIES, ChannelJudge, table_errors
from closures.compare.jobs import plan
from closures.compare.metrics import compare_members
from closures.compare.references import find, resolve
from closures.compare.report import markdown, record_of
from closures.compare.runs import group, read, require_one_difference
from closures.compare.uncertainty import judge
from closures.data.flow_profiles import filtered_channel
from solver.case import load_case
from solver.errors import CaseError, RunFolderError
from solver.hooks.statistics import INDEX
from solver.reference import ChannelReference
from solver.reference_files import read_reference
from tests.compare.ensembles import AVERAGED, CASE, ROOT, TABLE, write_run

KEYS = [q.key for q in QUANTITIES]


def compared(*folders: Path, reference: str | None = "MKM180"):
    runs = [read(folder) for folder in folders]
    require_one_difference(runs)
    return compare_members(group(runs), resolve(reference, runs))


def words(comparison, label: str) -> dict[str, str]:
    judged = next(j for j in comparison.members if j.member.label == label)
    return dict(zip([q.key for q in comparison.quantities], judged.words, strict=True))


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
    """Families of seven quantities, floors aside, with and without a common bias: one family in twenty may err."""
    wrong, trials = 0, 24
    for trial in range(trials):
        bias = {"v_rms": -0.1} if trial % 2 else {}
        runs = [write_run(tmp_path / f"{trial}{c}", c, 100 + trial, bias) for c in ("none", "wale")]
        comparison = compared(*runs)
        difference = comparison.members[1].difference
        wrong += any(word in ("better", "worse") for word in judge(difference, np.zeros(len(KEYS))))
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
    from solver.channel import ChannelProfiles, errors
    from solver.hooks.statistics import INDEX

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
    assert all(q.floor == 0 for q in comparison.quantities)


def test_a_data_set_of_filtered_dns_as_reference(pair):
    """Its statistics are the reference, scaled by the wall stress of the direct simulation; it has no floor."""
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
    assert all(q.floor == 0 for q in comparison.quantities)
    assert 0.0 < comparison.members[0].errors.value[KEYS.index("u_rms")] < 1.0


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
    floors = {q.key: q.floor for q in comparison.quantities}
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
