"""Windows that grow: each stage minimises what a recipe with that number of steps does, at its share of the rate."""

from __future__ import annotations

import signal

import pytest
import torch

from closures.training import fit
from closures.training.curriculum import Curriculum, StageTable
from closures.training.experiment import train
from closures.training.fit import Fit
from closures.training.objective import Rollout
from closures.training.online.train import Online
from closures.training.recipe import checked
from solver.errors import CaseError
from tests.training.test_offline import file, largest_difference, start, weights  # noqa: F401  a fixture
from tests.training.test_online import recipe_of, root, same  # noqa: F401  a fixture
from tests.training.trajectories import small_recipe

STAGES = [{"epoch": 0, "steps": 1}, {"epoch": 1, "steps": 2, "divide": 3.0}, {"epoch": 2, "steps": 4}]


@pytest.fixture
def steps(monkeypatch):
    """What every step of the optimiser was given: windows, seeds, rate; and its loss."""
    seen, plain = [], fit.Fit._step

    def step(self, shared, batch, drawn, rate):
        loss = plain(self, shared, batch, drawn, rate)
        seen.append((batch, drawn, rate, loss))
        return loss

    monkeypatch.setattr(fit.Fit, "_step", step)
    return seen


def test_each_stage_has_the_loss_of_the_plain_recipe(tmp_path, file, steps, monkeypatch):  # noqa: F811
    """On the same weights, windows and seeds, to the bit; windows are runs of consecutive frames of their sample."""
    recipe, compared = small_recipe(file, loss={"stages": STAGES}), []
    plain = Rollout.forward

    def forward(self, batch, seeds):
        loss = plain(self, batch, seeds)
        alone = small_recipe(file, loss={"steps": batch.shape[1] - 1}).loss
        twin = Rollout(self.predictor, self.domain, alone, "float32", self.noise)
        compared.append(torch.equal(loss, plain(twin, batch, seeds)))
        return loss

    monkeypatch.setattr(Rollout, "forward", forward)
    trained = train(recipe, tmp_path)
    assert all(compared)
    assert [batch.shape[1] for batch, *_ in steps] == [2, 3, 5]  # a step an epoch, on two windows of five frames each
    rates = [rate for _, _, rate, _ in steps]
    steps.clear()
    train(small_recipe(file, loss={"steps": 4}), tmp_path / "plain")
    plain_rates = [rate for _, _, rate, _ in steps]
    assert rates == [plain_rates[0], plain_rates[1] / 3.0, plain_rates[2]]
    assert [row["steps"] for row in trained.progress.history] == [1, 2, 4]
    assert "fluctuation_error_4" in trained.card.metrics  # all are judged by the longest


def test_a_single_stage_is_the_plain_recipe(tmp_path, file):  # noqa: F811
    train(small_recipe(file, loss={"steps": 3}), tmp_path / "plain")
    train(small_recipe(file, loss={"stages": [{"epoch": 0, "steps": 3}]}), tmp_path / "stage")
    assert largest_difference(weights(tmp_path / "plain"), weights(tmp_path / "stage")) == 0.0


def test_short_windows_begin_anywhere_in_a_sample():
    """Each is a run of its frames; all places come up, and depend on the seed alone."""
    curriculum = Curriculum([StageTable(epoch=0, steps=2)])
    sample = torch.arange(6.0)
    windows = curriculum.windows(sample.expand(200, 6), list(range(830_100, 830_300)), 0)
    assert torch.equal(windows - windows[:, :1], torch.arange(3.0).expand(200, 3))
    assert set(windows[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0}
    again = curriculum.windows(sample.expand(1, 6), [830_150], 0)
    assert torch.equal(again[0], windows[50])


@pytest.mark.slow
def test_a_restart_in_the_middle_of_a_stage_is_to_the_bit(tmp_path, file):  # noqa: F811
    changes = {"loss": {"stages": STAGES}, "loop": {"epochs": 4, "batch": 2, "checkpoint_seconds": 0.0}}
    recipe = small_recipe(file, **changes)
    train(recipe, tmp_path / "whole")
    killed = start(recipe, tmp_path / "resumed", kill_at=3)
    assert killed.wait(timeout=120) == -signal.SIGKILL, killed.stdout.read()
    train(recipe, tmp_path / "resumed")
    assert largest_difference(weights(tmp_path / "resumed"), weights(tmp_path / "whole")) == 0.0
    assert (tmp_path / "whole" / "history.csv").read_text() == (tmp_path / "resumed" / "history.csv").read_text()


@pytest.mark.slow
def test_online_samples_have_the_frames_of_the_longest_windows(root, tmp_path, steps, monkeypatch):  # noqa: F811
    """And a training that ends in its second stage goes on from there to the bit."""
    torch.set_num_threads(1)
    stages = {"kind": "projected_l2", "stages": [{"epoch": 0, "steps": 1}, {"epoch": 1, "steps": 2}]}
    recipe = recipe_of(root, loss=stages, online={"held_out": {"flows": 1, "frames": 4}})
    train(recipe, tmp_path / "whole")
    assert [batch.shape[1] for batch, *_ in steps] == [2] * 3 + [3] * 6
    with monkeypatch.context() as stopping:
        plain = Fit._save

        def save(self):
            plain(self)
            if self.progress.step == 4:
                raise KeyboardInterrupt

        stopping.setattr(Fit, "_save", save)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "again")
    train(recipe, tmp_path / "again")
    assert same(weights(tmp_path / "again"), weights(tmp_path / "whole"))
    assert Online(recipe, 0).maker().make(0, None).steps == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"stages": [{"epoch": 1, "steps": 2}]}}, "epoch = 1 of the first: the first stage begins at epoch 0"),
        ({"loss": {"stages": [STAGES[0], STAGES[0]]}}, "epoch = 0 after 0: give later stages later epochs"),
        (
            {"loss": {"stages": STAGES, "steps": 2}},
            r"steps: does nothing with \[\[loss.stages\]\], which have their own",
        ),
        ({"loss": {"stages": STAGES}, "loop": {"epochs": 2}}, r"\[\[loss.stages\]\] epoch = 2: there are 2 epochs"),
        ({"loss": {"stages": [{"epoch": 0, "steps": 1}], "through": False}}, "through: does nothing with .*steps = 1"),
        ({"loss": {"energy_fixer": 1.0}}, "energy_fixer: does nothing with kind = 'relative_l2'"),
        ({"loss": {"frame": 0.4}, "correct": {"case": "x"}}, r"\[loss\] frame: a corrector stays at the time"),
    ],
)
def test_bad_input(tmp_path, file, changes, message):  # noqa: F811
    tables = small_recipe(file).model_dump()
    for name, change in changes.items():
        tables[name] = (tables.get(name) or {}) | change
    with pytest.raises(CaseError, match=message) as refused:
        checked(type(small_recipe(file)), tables, tmp_path / "recipe.toml")
    assert "\n" not in str(refused.value)
