"""Killed at any instant, training goes on to the very same end."""

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
from ancestral.checkpoint import Checkpoint, CheckpointError, Snapshot

X = np.random.default_rng(0).random((200, 6))
QUICK = {"n_latents": 2, "hidden": (8,), "max_epochs": 4, "random_state": 0, "batch_size": 20}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_killed_at_twenty_random_instants_it_ends_the_same(tmp_path):
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "20"],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    kills, code = map(int, done.stdout.split())
    assert code == 0
    assert kills == 20
    undisturbed, resumed = (torch.load(tmp_path / f"{n}.pt") for n in ("undisturbed", "resumed"))
    assert resumed["history"] == undisturbed["history"]
    assert resumed["model"].keys() == undisturbed["model"].keys()
    for name, value in undisturbed["model"].items():
        assert torch.equal(resumed["model"][name], value), name


class StoppedError(Exception):
    pass


def stop_at(monkeypatch, step):
    """Let the training of an estimator break off after so many steps, with a checkpoint each."""
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: True)
    save = Checkpoint.save

    def save_and_stop(self, snapshot):
        save(self, snapshot)
        if snapshot.facts["step"] == step:
            raise StoppedError

    monkeypatch.setattr(Checkpoint, "save", save_and_stop)


@pytest.mark.parametrize("step", [1, 13, 20, 40])
def test_an_interrupted_fit_goes_on(tmp_path, monkeypatch, step):
    whole = VAE(**QUICK, binarize="epoch", validation_fraction=0.1).fit(X)
    path = tmp_path / "vae.checkpoint"
    vae = VAE(**QUICK, binarize="epoch", validation_fraction=0.1, checkpoint=str(path))
    if step < 36:  # of 4 epochs of 9 steps
        with monkeypatch.context() as patch:
            stop_at(patch, step)
            with pytest.raises(StoppedError):
                vae.fit(X)
        assert path.exists()
    vae.fit(X)
    assert not path.exists()
    np.testing.assert_array_equal(vae.transform(X), whole.transform(X))
    for mine, undisturbed in zip(vae.history_, whole.history_, strict=True):
        assert {**mine, "seconds": 0} == {**undisturbed, "seconds": 0}


@pytest.mark.parametrize("step", [1, 13, 20])
def test_an_interrupted_fit_to_few_labels_goes_on(tmp_path, monkeypatch, step):
    y = np.where(np.arange(200) % 20 == 0, np.arange(200) // 20 % 2, -1)
    how = QUICK | {"n_labelled": 3, "validation_fraction": 0.1}
    whole = MaxMarginVAE(**how).fit(X, y)
    assert whole.history_[-1]["step"] > 36  # more steps than as many rows need without labels
    mmva = MaxMarginVAE(**how, checkpoint=str(tmp_path / "mmva.checkpoint"))
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(StoppedError):
            mmva.fit(X, y)
    with pytest.raises(CheckpointError, match="another training"):
        mmva.fit(X, np.where(np.arange(200) == 3, 1, y))  # other labels, other minibatches
    mmva.fit(X, y)
    np.testing.assert_array_equal(mmva.decision_function(X), whole.decision_function(X))
    for mine, undisturbed in zip(mmva.history_, whole.history_, strict=True):
        assert {**mine, "seconds": 0} == {**undisturbed, "seconds": 0}


def test_the_checkpoint_of_a_fit_to_other_targets_is_refused(tmp_path, monkeypatch):
    how = {"hidden": (8,), "max_epochs": 4, "random_state": 0, "batch_size": 20}
    y = X.sum(1)
    whole = CGMMNRegressor(**how).fit(X, y)
    regressor = CGMMNRegressor(**how, checkpoint=str(tmp_path / "cgmmn.checkpoint"))
    with monkeypatch.context() as patch:
        stop_at(patch, 13)
        with pytest.raises(StoppedError):
            regressor.fit(X, y)
    with pytest.raises(CheckpointError, match="another training"):
        regressor.fit(X, -y)
    np.testing.assert_array_equal(regressor.fit(X, y).predict(X), whole.predict(X))


def test_ctrl_c_keeps_the_step_that_was_done(tmp_path, monkeypatch):
    whole = VAE(**QUICK).fit(X)
    path = tmp_path / "vae.checkpoint"
    vae = VAE(**QUICK, checkpoint=str(path))
    handler = signal.getsignal(signal.SIGINT)

    def press(progress):
        if progress.event == "step" and progress.step == 17:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(VAE, "_callbacks", lambda self: [press])
        with pytest.raises(KeyboardInterrupt):
            vae.fit(X)
    assert signal.getsignal(signal.SIGINT) is handler
    with safe_open(path, framework="pt") as kept:
        assert json.loads(kept.metadata()["facts"])["step"] == 17
    np.testing.assert_array_equal(vae.fit(X).transform(X), whole.transform(X))


def test_the_checkpoint_of_another_training_is_refused(tmp_path, monkeypatch):
    path = str(tmp_path / "vae.checkpoint")
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(StoppedError):
            VAE(**QUICK, checkpoint=path).fit(X)
    for other in (QUICK | {"random_state": 1}, QUICK | {"learning_rate": 0.1}):
        with pytest.raises(CheckpointError, match="another training"):
            VAE(**other, checkpoint=path).fit(X)
    with pytest.raises(CheckpointError, match="another training"):
        VAE(**QUICK, checkpoint=path).fit(X[::-1])


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "vae.checkpoint"
    path.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="delete it"):
        VAE(**QUICK, checkpoint=str(path)).fit(X)


def test_a_full_disk_keeps_the_last_checkpoint_and_the_training(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.checkpoint", identity="one")
    checkpoint.save(Snapshot({"x": torch.ones(1)}, {"step": 1}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.warns(UserWarning, match="No space left.*last one is kept"):
        checkpoint.save(Snapshot({"x": torch.zeros(1)}, {"step": 2}))
    assert checkpoint.load().facts == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]
