"""A network by its name in a case: found, listed, and refused by name when something is wrong with it."""

from __future__ import annotations

import json
import logging
import pickle
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from closures.algebraic.invariants import strain_norm
from closures.coupling import GuardedModel, GuardTable, StateCorrector, StateSurrogate
from closures.operators import build
from closures.operators.artefact import CARD, WEIGHTS, ArtefactError
from closures.registry import registry
from closures.registry.listing import describe
from solver.case.case import load_case
from solver.discretisation.timers import OBSERVERS
from solver.errors import CaseError, SolverError
from solver.flow.closure import EddyViscosity
from solver.grid.axis import FourierAxis
from solver.grid.grid import Grid
from tests.coupling.flows import NU, SMALL, box, channel, closure, flow, small, write
from tests.runs import arrays, checkpoints, solver, summary, write_case

CASE = Path(__file__).parents[2] / "cases" / "channel180_coarse"


@pytest.fixture(autouse=True)
def plain_run():
    with torch.no_grad():
        yield


@pytest.fixture
def pretrained(monkeypatch, tmp_path):
    """A package with two networks of its own, one of them damaged."""
    folder = tmp_path / "pretrained"
    write(folder / "tiny_model", "tensor_basis")
    write(folder / "broken", "cnn")
    (folder / "broken" / CARD).write_text("{")
    monkeypatch.setattr("closures.operators.shipped.PRETRAINED", folder)
    return folder


def test_shipped_networks_are_listed_from_their_cards_and_created_by_name(pretrained):
    assert registry.names()[1 + len(registry.BUILT_IN) :] == ["broken", "tiny_model"]
    lines = describe()
    assert lines["tiny_model"].summary == "subgrid model (tensor_basis, 100 parameters), trained on a test"
    assert lines["broken"].summary.startswith(f"broken: {pretrained / 'broken' / CARD}: cannot be read")
    made = registry.create("tiny_model", grid=channel(), nu=NU)
    assert isinstance(made, GuardedModel)
    assert (made.name, made.reserve.name) == ("tiny_model", "smagorinsky")
    assert made.facts["weights_sha256"] == json.loads((pretrained / "tiny_model" / CARD).read_text())["weights_sha256"]
    assert "tiny_model" in solver("closures").out


@pytest.mark.parametrize(
    ("architecture", "name", "about", "kind"),
    [
        ("tensor_basis", "tensor_basis", {}, GuardedModel),
        ("cnn", "subgrid_model", {}, GuardedModel),
        ("ifactformer_m", "ifactformer_m", {"step": 0.5}, StateSurrogate),
        ("ifactformer_m", "corrector", {"interval": 0.5}, StateCorrector),
    ],
)
def test_the_card_says_what_a_network_is_for(tmp_path, architecture, name, about, kind):
    made = closure(name, write(tmp_path, architecture, channel(), **about), channel())
    assert isinstance(made, kind)
    assert made.name == name


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ifactformer_o", {}, "'ifactformer_o' is not shipped with this version: give artefact = 'FOLDER'"),
        ("ifactformer_x", {}, "unknown name 'ifactformer_x'; did you mean 'ifactformer_"),
        ("fno", {"artefact": 3}, "artefact = 3: should be the folder"),
        ("smagorinsky", {"artefact": "."}, "unknown option 'artefact' of 'smagorinsky'"),
    ],
)
def test_mistakes_in_names(name, options, message):
    with pytest.raises(CaseError) as caught:
        registry.create(name, grid=channel(), nu=NU, options=options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("role", "options", "message"),
    [
        ("subgrid_model", {"falback": "wale"}, "[closure] unknown key 'falback'; did you mean 'fallback'?"),
        (
            "subgrid_model",
            {"fallback": "wall"},
            "[closure] fallback = 'wall': unknown name 'wall'; did you mean 'wale'?",
        ),
        ("subgrid_model", {"fallback": "cnn"}, "[closure] fallback = 'cnn' is a network: use an algebraic model"),
        ("subgrid_model", {"fallback_options": {"cs": 1.0}}, "[closure] fallback = 'smagorinsky': unknown option 'cs'"),
        ("subgrid_model", {"form": "viscosity"}, "[closure] form = 'viscosity'"),
        ("subgrid_model", {"guard": {"paitence": 3}}, "[guard] unknown key 'paitence'; did you mean 'patience'?"),
        ("subgrid_model", {"guard": {"growth": 0.5}}, "[guard] growth = 0.5"),
        ("subgrid_model", {"every": 2}, "[closure] unknown key 'every'"),
        ("corrector", {"every": 2, "interval": 0.1}, "'every' and 'interval' exclude each other"),
        ("corrector", {"every": 0}, "[closure] every = 0"),
        ("surrogate", {"macro": 0}, "[closure] macro = 0"),
        ("surrogate", {"base": "surrogate"}, "[closure] base = 'surrogate' is a network"),
    ],
)
def test_mistakes_in_options(tmp_path, role, options, message):
    architecture = "tensor_basis" if role == "subgrid_model" else "ifactformer_m"
    folder = write(tmp_path, architecture, channel(), step=float(role == "surrogate"))
    with pytest.raises(CaseError) as caught:
        closure(role, folder, channel(), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_should_be_that_of_the_network(tmp_path):
    folder = write(tmp_path, "ifactformer_m", channel(), step=0.5)
    for wrong in ("fno", "corrector", "subgrid_model"):
        with pytest.raises(CaseError, match=f"name = '{wrong}', but .* holds a surrogate of the architecture 'ifactf"):
            closure(wrong, folder, channel())


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def pickled(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(folder / "executed")))


def saved_by_torch(folder):
    torch.save({"weight": Trap(folder / "executed")}, folder / WEIGHTS)


def truncated(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-40])


def foreign(folder):
    save_file({"layer.weight": torch.zeros(3)}, folder / WEIGHTS)


def six_channels(folder):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"arguments": card["arguments"] | {"channels": 6}}))


DAMAGE = {
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS}: no such file beside {CARD}"),
    "no card": (lambda folder: (folder / CARD).unlink(), f"{CARD}: no such file"),
    "pickle": (pickled, WEIGHTS),
    "torch.save": (saved_by_torch, WEIGHTS),
    "truncated": (truncated, "truncated, damaged or not a safetensors file"),
    "foreign": (foreign, "weights of another network than the card's"),
    "channels": (six_channels, "channels = 6: a velocity has 3"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_networks_are_refused_by_name_and_nothing_is_executed(tmp_path, kind):
    """From the command line: one line, exit code 2, no run folder."""
    damage, message = DAMAGE[kind]
    folder = write(tmp_path / "network", "ifactformer_m", step=0.5)
    damage(folder)
    case = write_case(tmp_path / "case")
    put = ["--set", f"closure={{name='surrogate', artefact='{folder}'}}"]
    done = solver("run", case, "--steps", 1, "--out", tmp_path / "run", *put)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert "Traceback" not in done.err
    assert not (folder / "executed").exists()
    assert not (tmp_path / "run").exists()


def test_a_shipped_subgrid_model_is_at_home_in_its_own_case(caplog):
    """Tbnn was trained on 32 x 32 x 16; the case has these modes and cells, and more points for products."""
    case, _ = load_case(CASE, ())
    elsewhere, _ = load_case(CASE, ("grid.x.n=24",))
    with caplog.at_level(logging.WARNING, logger="solver"):
        registry.create("tbnn", grid=case.build_grid(), nu=case.flow.nu)
        assert "adapted" not in caplog.text
        registry.create("tbnn", grid=elsewhere.build_grid(), nu=case.flow.nu)
    assert "adapted to this grid of 24 x 32 x 16" in caplog.text


def test_a_network_bound_to_its_grid_is_refused_elsewhere_and_others_say_that_they_are_adapted(tmp_path, caplog):
    bound = write(tmp_path / "a", "ifactformer_m", channel(), step=0.5, arguments={"variant": "published"})
    closure("surrogate", bound, channel())
    with pytest.raises(ArtefactError, match=r"bound to its grid of 10 x 9 x 8 points, this case has 10 x 11 x 8"):
        closure("surrogate", bound, channel(ny=11))
    finer = closure("surrogate", bound, channel(nx=16, nz=12))  # more modes: the network sees those it knows
    assert finer.update.update.grid.shape == (10, 9, 8)
    free = write(tmp_path / "b", "ifactformer_m", channel(), step=0.5)
    with caplog.at_level(logging.WARNING, logger="solver"):
        closure("surrogate", free, channel(ny=11))
    assert "adapted to this grid of 10 x 11 x 8" in caplog.text
    with pytest.raises(ArtefactError, match="trained where x, y, z are periodic"):
        closure("surrogate", free, box())


def test_another_viscosity_is_said(tmp_path, caplog):
    folder = write(tmp_path, "tensor_basis", nu=(1e-5, 1e-4))
    with caplog.at_level(logging.WARNING, logger="solver"):
        closure("tensor_basis", folder, channel())
    assert "trained for nu = 1e-05 to 0.0001, this case has 0.002" in caplog.text


def test_a_gpu_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    from tests.closures.flows import make_operators

    model = closure("tensor_basis", write(tmp_path, "tensor_basis"), channel(), device="cuda")
    with pytest.raises(CaseError, match=r"\[closure\] device = 'cuda', but torch sees no GPU: use device = 'auto'"):
        model.init(make_operators(channel()))


def test_weights_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    from tests.closures.flows import make_operators

    model = closure("tensor_basis", write(tmp_path, "tensor_basis"), channel())

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(model.model.network), "to", full)
    with pytest.raises(SolverError, match=r"does not fit into the memory of cpu: use device = 'cpu'"):
        model.init(make_operators(channel()))


@pytest.mark.parametrize(
    ("architecture", "options"), [("tensor_basis", ""), ("ifactformer_m", ", every = 2, base = 'wale'")]
)
def test_a_run_with_a_network_from_the_command_line(tmp_path, architecture, options):
    """The summary names the network, its time and the interventions; a restart in the middle changes nothing."""
    fresh = build(architecture, **SMALL[architecture]) if architecture == "tensor_basis" else None  # Smagorinsky-like
    folder = write(tmp_path / "network", architecture, network=fresh, scale=0.05)
    case = write_case(tmp_path / "case")
    put = ["--set", f"closure={{name='{architecture}', artefact='{folder}'{options}}}", "--set", "time.dt=0.02"]
    assert solver("run", case, "--steps", 4, "--out", tmp_path / "whole", "--quiet", *put).code == 0
    facts = summary(tmp_path / "whole")
    assert facts["closure"] == architecture
    assert facts["closure_facts"]["artefact"] == str(folder)
    assert facts["guard_interventions"] == 0
    milliseconds = facts["milliseconds_per_step"]
    assert {"closure", "closure copy", "closure network"} <= milliseconds.keys()
    parts = sum(v for part, v in milliseconds.items() if part.startswith("closure"))
    assert milliseconds["closure network"] < parts
    observing = sum(milliseconds.get(part, 0.0) for part in OBSERVERS)
    assert facts["closure_fraction"] == pytest.approx(parts / (sum(milliseconds.values()) - observing))
    assert solver("run", case, "--steps", 2, "--out", tmp_path / "part", "--quiet", *put).code == 0
    assert solver("run", case, "--steps", 2, "--restart", tmp_path / "part", "--quiet", *put).code == 0
    whole, part = (arrays(checkpoints(tmp_path / name)[-1]) for name in ("whole", "part"))
    for name in whole:
        if name.startswith("velocity/"):  # a restart projects again: round-off, seen by a network in float32
            np.testing.assert_allclose(part[name], whole[name], rtol=0, atol=1e-7 * np.abs(whole[name]).max())
    assert whole["closure/guard"].tolist() == [0, 0, 0]


def test_interventions_are_reported_and_too_many_end_the_run(tmp_path):
    network = small("tensor_basis", scale=0.3)
    with torch.no_grad():
        for weight in network.coefficients[-1].parameters():
            weight.fill_(-30.0)  # feeds energy
    folder = write(tmp_path / "network", "tensor_basis", network=network)
    case = write_case(tmp_path / "case")

    def put(guard):
        return ["--set", f"closure={{name='tensor_basis', artefact='{folder}', guard={guard}}}"]

    assert solver("run", case, "--steps", 2, "--out", tmp_path / "on", "--quiet", *put("{patience=100}")).code == 0
    assert summary(tmp_path / "on")["guard_interventions"] == 2  # asked once a step
    assert "was overruled" in (tmp_path / "on/log.txt").read_text()
    ended = solver("run", case, "--steps", 5, "--out", tmp_path / "end", "--quiet", *put("{patience=4}"))
    assert ended.code == 3
    assert "was overruled 4 times in a row" in ended.err
    assert "Traceback" not in ended.err
    assert summary(tmp_path / "end")["status"] == "diverged"


GUIDE = (Path(__file__).parents[2] / "docs/add_a_closure.md").read_text(encoding="utf-8")


def test_the_table_of_the_guide(tmp_path):
    """It is valid as it stands, but for the folder."""
    (table,) = re.findall(r"```text\n(\[closure\].*?)```", GUIDE, flags=re.DOTALL)
    options = tomllib.loads(table)["closure"]
    name, _ = options.pop("name"), options.pop("artefact")
    made = closure(name, write(tmp_path, name), channel(), **options)
    assert made.reserve.name == options["fallback"]
    assert made.guard.settings.patience == options["guard"]["patience"]


class Halves:
    """A closure of another package, in two halves, with a network that fails now and then."""

    name, reach, symmetries = "halves", 0, frozenset()

    def __init__(self):
        self.calls = 0

    def init(self, operators):
        return {}

    def __call__(self, velocity, t, state):
        return self.evaluate(self.features(velocity), velocity.operators), state

    def features(self, velocity):
        return strain_norm(velocity.gradient)

    def evaluate(self, features, operators):
        self.calls += 1
        if self.calls % 2:
            raise ArithmeticError("odd")
        return EddyViscosity(1e-3 * features)


def test_a_closure_of_ones_own_under_guard(caplog):
    guarded = GuardedModel(Halves(), registry.create("wale", grid=channel(), nu=NU), GuardTable(), None)
    simulation = flow(channel(), guarded)
    with caplog.at_level(logging.WARNING, logger="solver"):
        simulation.step()
        simulation.step()
    assert simulation.closure_state["guard"].tolist() == [3, 0, 0]
    assert "'halves' was overruled, it failed: ArithmeticError: odd; 'wale' acts instead" in caplog.text


def test_other_periods_are_another_flow(tmp_path):
    """Where the periods are not those of the training data, a network acts on the points of the case."""
    folder = write(tmp_path, "ifactformer_m", channel(), step=0.5)
    other = Grid(FourierAxis(14, 7.0), channel().y, FourierAxis(12, 3.0))
    assert closure("surrogate", folder, other).update.update.grid.shape == (14, 9, 8)
