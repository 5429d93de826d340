"""Trainings in other people's logs: the numbers of ``history.csv``, in one run also when a training goes on."""

from __future__ import annotations

import json

import pytest

from closures.training.experiment import train
from tests.training.trajectories import small_recipe, write_file


def test_mlflow_has_every_step_and_epoch_in_one_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="pip install mlflow-skinny")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/log")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its skinny package has no data base
    file = write_file(tmp_path / "waves.h5")
    for epochs in (1, 2):
        found = train(small_recipe(file, loop={"epochs": epochs}), tmp_path / "net")
    client = MlflowClient()
    place = client.get_experiment_by_name("les-solver").experiment_id
    (run,) = client.search_runs([place])
    assert run.info.status == "FINISHED"
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "training/loss")]
    assert sorted(steps) == list(range(1, found.progress.step + 1))
    errors = [m.value for m in client.get_metric_history(run.info.run_id, "epoch/fluctuation_error")]
    assert errors == pytest.approx([row["fluctuation_error"] for row in found.progress.history])


def test_weights_and_biases_writes_offline(tmp_path, monkeypatch):
    """Its file is a log of messages in which numbers are JSON; it has those of every epoch."""
    pytest.importorskip("wandb", reason="pip install wandb")
    for name, value in (("PROJECT", "waves"), ("MODE", "offline"), ("SILENT", "true")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    found = train(small_recipe(write_file(tmp_path / "waves.h5"), loop={"epochs": 2}), tmp_path / "net")
    (path,) = (tmp_path / "net").glob("wandb/offline-run-*/*.wandb")
    written = path.read_bytes()
    assert b"fluctuation_error" in written
    for row in found.progress.history:
        assert json.dumps(row["fluctuation_error"]).encode() in written
