"""Two legs of any small case make one run, wherever it is cut and however its outputs and averages are spaced."""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests import runs

FOURIER = '[grid.{d}]\nkind = "fourier"\nn = {n}\nlength = {length}\n'
WALLS = '[grid.{d}]\nkind = "finite_volume"\nn = {n}\nend = {length}\nstretching = 1.2\n'
KINDS = {"box": "fff", "channel": "fwf", "duct": "fww", "cavity": "www"}
CLOSURES = ["none", "smagorinsky", "wale", "dynamic_smagorinsky"]  # the last averages along Fourier directions
EXAMPLES = 6 if settings.default.max_examples < 100 else 200


@st.composite
def cases(draw) -> str:
    """A case file of a flow in motion."""
    kind = draw(st.sampled_from(list(KINDS)))
    text = "title = 'Drawn at random'\n"
    for d, letter in zip("xyz", KINDS[kind], strict=True):
        table = FOURIER if letter == "f" else WALLS
        text += table.format(d=d, n=draw(st.integers(4, 8)), length=draw(st.sampled_from([1.0, 2.0, 6.0])))
    drives = {"box": ["none"], "cavity": ["none"]}.get(kind, ["mass_flux", "pressure_gradient"])
    drive, value = (
        draw(st.sampled_from(drives)),
        {"mass_flux": "bulk_velocity = 1.0", "pressure_gradient": "gradient = 0.1"},
    )
    text += "[flow]\nnu = 0.004\n"
    if drive != "none":
        text += f"[flow.forcing]\nkind = '{drive}'\n{value[drive]}\n"
    start = {"box": "isotropic", "channel": "wall_turbulence", "duct": "wall_turbulence", "cavity": "rest"}[kind]
    text += f"[initial]\nkind = '{start}'\n"
    text += f"[closure]\nname = '{draw(st.sampled_from(CLOSURES[: 3 if kind == 'cavity' else 4]))}'\n"
    step = draw(st.sampled_from(["dt = 0.03", "cfl = 0.6\ndt_max = 0.04"]))
    text += f"[time]\nend = 0.3\n{step}\n"
    text += f"[output]\nevery_steps = {draw(st.integers(1, 3))}\ncheckpoint = {draw(st.sampled_from([0.05, 0.1]))}\n"
    if kind in ("channel", "duct"):
        text += f"[statistics]\nstart = 0.04\nevery_steps = {draw(st.integers(1, 2))}\nbatches = 4\n"
    return text + "[run]\ndevice = 'cpu'\nfuse = 'off'\n"


@settings(max_examples=EXAMPLES, phases=[Phase.generate])  # a smaller case says no more, and takes minutes to find
@given(cases(), st.integers(1, 6), st.integers(1, 6))
def test_legs_make_one_run(text: str, first: int, second: int):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "case.toml").write_text(text)
        whole = runs.solver("run", folder, "--out", folder / "whole", "--quiet")
        assert whole.code == 0, whole.err
        legs = folder / "legs"
        for words in (("--steps", first), ("--restart", legs, "--steps", second), ("--restart", legs)):
            done = runs.solver("run", folder, "--out", legs, *words, "--quiet")
            assert done.code == 0, done.err
        runs.assert_same([runs.checkpoints(folder / "whole")[-1]], [runs.checkpoints(legs)[-1]], 1e-11)
        assert (folder / "whole/timeseries.csv").read_text().count("\n") == (legs / "timeseries.csv").read_text().count(
            "\n"
        )
        runs.assert_same([folder / "whole/timeseries.csv"], [legs / "timeseries.csv"], 1e-8)
        with h5py.File(runs.checkpoints(legs)[-1]) as one, h5py.File(runs.checkpoints(folder / "whole")[-1]) as other:
            assert one.attrs["step"] == other.attrs["step"]
