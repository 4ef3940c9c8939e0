"""Tests of checkpoints: interrupted training resumes to a bitwise identical result."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ancestral import VAE, CGMMNRegressor, MaxMarginVAE
from ancestral.training.checkpoint import Checkpoint, CheckpointError, Snapshot

X = np.random.default_rng(0).random((200, 6))
QUICK = {"n_latents": 2, "hidden": (8,), "max_epochs": 4, "random_state": 0, "batch_size": 20}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_training_killed_at_random_times_resumes_to_identical_result(tmp_path):
    script = Path(__file__).with_name("kill_and_resume.py")
    process = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "20"],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    n_kills, exit_code = map(int, process.stdout.split())
    assert exit_code == 0
    assert n_kills == 20
    expected, resumed = (torch.load(tmp_path / f"{n}.pt") for n in ("uninterrupted", "resumed"))
    assert resumed["history"] == expected["history"]
    assert resumed["model"].keys() == expected["model"].keys()
    for name, value in expected["model"].items():
        assert torch.equal(resumed["model"][name], value), name


class StoppedError(Exception):
    pass


def stop_at(monkeypatch, step):
    """Write a checkpoint after every step, and raise StoppedError after the given step."""
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    save = Checkpoint.save

    def save_and_stop(self, snapshot):
        save(self, snapshot)
        if snapshot.metadata["step"] == step:
            raise StoppedError

    monkeypatch.setattr(Checkpoint, "save", save_and_stop)


@pytest.mark.parametrize("step", [1, 13, 20, 40])
def test_interrupted_fit_resumes_to_identical_result(tmp_path, monkeypatch, step):
    uninterrupted = VAE(**QUICK, binarize="epoch", validation_fraction=0.1).fit(X)
    path = tmp_path / "vae.checkpoint"
    vae = VAE(**QUICK, binarize="epoch", validation_fraction=0.1, checkpoint_path=str(path))
    if step < 36:  # of 4 epochs of 9 steps
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            with pytest.raises(StoppedError):
                vae.fit(X)
        assert path.exists()
    vae.fit(X)
    assert not path.exists()
    np.testing.assert_array_equal(vae.transform(X), uninterrupted.transform(X))
    for record, expected in zip(vae.history_, uninterrupted.history_, strict=True):
        assert {**record, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize("step", [1, 13, 20])
def test_interrupted_semi_supervised_fit_resumes_to_identical_result(tmp_path, monkeypatch, step):
    y = np.where(np.arange(200) % 20 == 0, np.arange(200) // 20 % 2, -1)
    params = QUICK | {"n_labelled": 3, "validation_fraction": 0.1}
    uninterrupted = MaxMarginVAE(**params).fit(X, y)
    assert uninterrupted.history_[-1]["step"] > 36  # the number of steps without n_labelled
    mmva = MaxMarginVAE(**params, checkpoint_path=str(tmp_path / "mmva.checkpoint"))
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(StoppedError):
            mmva.fit(X, y)
    with pytest.raises(CheckpointError, match="another training"):
        mmva.fit(X, np.where(np.arange(200) == 3, 1, y))  # other labels, other minibatches
    mmva.fit(X, y)
    np.testing.assert_array_equal(mmva.decision_function(X), uninterrupted.decision_function(X))
    for record, expected in zip(mmva.history_, uninterrupted.history_, strict=True):
        assert {**record, "seconds": 0} == {**expected, "seconds": 0}


def test_checkpoint_of_fit_to_other_targets_is_rejected(tmp_path, monkeypatch):
    params = {"hidden": (8,), "max_epochs": 4, "random_state": 0, "batch_size": 20}
    y = X.sum(1)
    uninterrupted = CGMMNRegressor(**params).fit(X, y)
    regressor = CGMMNRegressor(**params, checkpoint_path=str(tmp_path / "cgmmn.checkpoint"))
    with monkeypatch.context() as patch:
        stop_at(patch, 13)
        with pytest.raises(StoppedError):
            regressor.fit(X, y)
    with pytest.raises(CheckpointError, match="another training"):
        regressor.fit(X, -y)
    np.testing.assert_array_equal(regressor.fit(X, y).predict(X), uninterrupted.predict(X))


def test_keyboard_interrupt_saves_last_completed_step(tmp_path, monkeypatch):
    uninterrupted = VAE(**QUICK).fit(X)
    path = tmp_path / "vae.checkpoint"
    vae = VAE(**QUICK, checkpoint_path=str(path))
    handler = signal.getsignal(signal.SIGINT)

    def send_sigint(progress):
        if progress.event == "step" and progress.step == 17:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "_callbacks", lambda self: [send_sigint])
        with pytest.raises(KeyboardInterrupt):
            vae.fit(X)
    assert signal.getsignal(signal.SIGINT) is handler
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["facts"])["step"] == 17
    np.testing.assert_array_equal(vae.fit(X).transform(X), uninterrupted.transform(X))


def test_checkpoint_of_another_training_run_is_rejected(tmp_path, monkeypatch):
    path = str(tmp_path / "vae.checkpoint")
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(StoppedError):
            VAE(**QUICK, checkpoint_path=path).fit(X)
    for params in (QUICK | {"random_state": 1}, QUICK | {"learning_rate": 0.1}):
        with pytest.raises(CheckpointError, match="another training"):
            VAE(**params, checkpoint_path=path).fit(X)
    with pytest.raises(CheckpointError, match="another training"):
        VAE(**QUICK, checkpoint_path=path).fit(X[::-1])


def test_corrupt_checkpoint_is_rejected(tmp_path):
    path = tmp_path / "vae.checkpoint"
    path.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="delete it"):
        VAE(**QUICK, checkpoint_path=str(path)).fit(X)


def test_full_disk_leaves_previous_checkpoint_and_warns(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", identity="one")
    checkpoint.save(Snapshot({"x": torch.ones(1)}, {"step": 1}))

    def raise_no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", raise_no_space)
    with pytest.warns(UserWarning, match="No space left.*previous one remains"):
        checkpoint.save(Snapshot({"x": torch.zeros(1)}, {"step": 2}))
    assert checkpoint.load().metadata == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]
