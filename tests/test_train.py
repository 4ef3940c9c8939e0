"""Tests of the training loop, early stopping, weight ema_decay and loggers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ancestral.data.device_data import DeviceData
from ancestral.models.factor_analysis import FactorAnalyser
from ancestral.nn import Constant
from ancestral.objectives import Objective, nll
from ancestral.probability.conditionals import Gaussian
from ancestral.training import NonFiniteError, Player, engine, train
from ancestral.training.callbacks import curve_logger
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.optim import adam, cosine, ema, sgd

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# ---- training loop


def analyser():
    return FactorAnalyser(rand(4, 2), rand(4, seed=1), rand(4, seed=2))


def torch_loop(model, data, make_optimizer, n_epochs, size, seed):
    optimizer, losses = make_optimizer(model.parameters()), []
    for epoch in range(n_epochs):
        for index in data.batch_indices(size, seed=seed, epoch=epoch):
            optimizer.zero_grad()
            loss = -model.log_prob(data.x[index]).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("size", [30, 7])
def test_train_matches_plain_torch_loop(size):
    x = rand(30, 4, seed=3) @ rand(4, 4, seed=4)
    data, model, reference = DeviceData(x, dtype=torch.float64), analyser(), analyser()
    history = train(
        model, Player(model, nll(), adam(0.03)), data, max_epochs=6, batch_size=size, random_state=5
    )
    losses = torch_loop(reference, data, lambda p: torch.optim.Adam(p, 0.03), 6, size, 5)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-10, rtol=1e-9)
    per_epoch = np.array(losses).reshape(6, -1).mean(1)
    np.testing.assert_allclose(history.curve("nll"), per_epoch, atol=1e-10)
    np.testing.assert_allclose(history.curve("loss"), per_epoch, atol=1e-10)


def test_train_reaches_closed_form_maximum_likelihood_of_gaussian():
    x = rand(200, 3) * torch.tensor([0.5, 1.0, 3.0]) + torch.tensor([1.0, -2.0, 0.0])
    model = Gaussian(Constant(torch.zeros(3).double(), torch.zeros(3).double()))
    train(
        model,
        Player(model, nll(), adam(cosine(0.1))),
        DeviceData(x, dtype=torch.float64),
        max_epochs=400,
        batch_size=200,
    )
    torch.testing.assert_close(model().mean, x.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(model().variance, x.var(0, correction=0), atol=1e-3, rtol=1e-3)


def quadratic(name, target):
    """Half the squared distance of the parameter ``name`` to a target."""

    def term(model, run):
        return 0.5 * (getattr(model, name) - target(model)).square().sum()

    return Objective({"distance": term}, lambda model, batch: None)


class TwoParameters(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))


@pytest.mark.parametrize(("every", "repeat"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_players_update_in_order_with_period_and_repetition(every, repeat):
    model = TwoParameters()
    players = {
        "first": Player([model.a], quadratic("a", lambda m: m.b.detach()), sgd(0.5)),
        "second": Player(
            [model.b], quadratic("b", lambda m: m.a.detach()), sgd(0.25), every, repeat
        ),
    }
    data = DeviceData(torch.zeros(7, 1))
    history = train(model, players, data, max_epochs=2, batch_size=2)
    a, b, distances = 0.0, 4.0, []
    for step in range(8):
        distances.append(0.5 * (a - b) ** 2)
        a += 0.5 * (b - a)
        if step % every == 0:
            for _ in range(repeat):
                b += 0.25 * (a - b)
    assert model.a.item() == pytest.approx(a, abs=1e-12)
    assert model.b.item() == pytest.approx(b, abs=1e-12)
    expected = [np.mean(distances[:4]), np.mean(distances[4:])]
    assert history.curve("first.distance") == pytest.approx(expected)


def test_single_player_with_period_two():
    model = TwoParameters()
    player = Player([model.a], quadratic("a", lambda m: m.b.detach()), sgd(0.5), every=2)
    train(model, player, DeviceData(torch.zeros(4, 1)), max_epochs=1, batch_size=1)
    assert model.a.item() == pytest.approx(3.0)


def test_players_with_common_parameter_raise():
    model = TwoParameters()
    objective = quadratic("a", lambda m: m.b.detach())
    players = {
        "one": Player([model.a], objective, sgd(0.5)),
        "two": Player(model, objective, sgd(0.5)),
    }
    with pytest.raises(ValueError, match="'one' and 'two' update the same parameter"):
        train(model, players, DeviceData(torch.zeros(4, 1)), max_epochs=1)


def test_validation_terms_are_means_over_held_out_samples():
    x, held_out = rand(20, 4), rand(7, 4, seed=9)
    model = analyser()
    history = train(
        model,
        Player(model, nll(), adam(0.01)),
        DeviceData(x, dtype=torch.float64),
        max_epochs=2,
        batch_size=5,
        validation=DeviceData(held_out, dtype=torch.float64),
    )
    expected = -model.log_prob(held_out).mean().item()
    assert history[-1]["validation.nll"] == pytest.approx(expected, abs=1e-9)


def test_non_finite_term_raises_with_its_name():
    model = TwoParameters()
    objective = Objective({"log": lambda m, run: (m.a - 1).log().sum()}, lambda m, batch: None)
    with pytest.raises(NonFiniteError, match="the term 'log' is nan at step 1"):
        train(
            model, Player(model, objective, sgd(0.1)), DeviceData(torch.zeros(4, 1)), max_epochs=1
        )
    assert not model.training


@QUICK
@given(st.integers(1, 23), st.integers(1, 30), st.booleans())
def test_minibatches_visit_every_sample_and_have_equal_size(n, size, shuffle):
    data = DeviceData(torch.zeros(n, 1))
    batches = list(data.batch_indices(size, seed=1, shuffle=shuffle))
    assert {len(b) for b in batches} == {min(n, size)}
    counts = torch.bincount(torch.cat(batches), minlength=n)
    assert counts.min() == 1
    assert counts.max() <= 2
    assert len(batches) == -(-n // min(n, size))


def test_seeded_noise_depends_only_on_seed_and_step():
    draws = []
    for parts in ((1, 2), (1, 2), (1, 3), (2, 2)):
        with engine.seeded_rng(*parts):
            draws.append(torch.randn(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


# ---- early stopping, weight ema_decay and loggers


def model_with_validation_losses(losses):
    """Model and objective whose held-out loss after epoch i is ``losses[i - 1]``."""

    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.epoch = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def term(model, run):
        if torch.is_grad_enabled():
            return -model.epoch.sum()  # SGD with rate 1 adds 1 per step
        return torch.tensor(losses[round(model.epoch.item()) - 1], dtype=torch.float64)

    return Counter(), Objective({"cost": term}, lambda model, batch: None)


def test_early_stopping_restores_best_parameters():
    model, objective = model_with_validation_losses([5.0, 3.0, 4.0, 3.0, 3.5, 1.0])
    held_out = DeviceData(torch.zeros(2, 1))
    history = train(
        model, Player(model, objective, sgd(1.0)), DeviceData(torch.zeros(4, 1)),
        max_epochs=6, validation=held_out, patience=3,
    )  # fmt: skip
    assert history.curve("validation.cost") == [5.0, 3.0, 4.0, 3.0, 3.5]
    assert model.epoch.item() == 2.0


def test_best_parameters_are_restored_without_early_stop():
    model, objective = model_with_validation_losses([5.0, 1.0, 4.0])
    train(
        model, Player(model, objective, sgd(1.0)), DeviceData(torch.zeros(4, 1)),
        max_epochs=3, validation=DeviceData(torch.zeros(2, 1)), patience=5,
    )  # fmt: skip
    assert model.epoch.item() == 2.0


def test_early_stopping_on_user_defined_metric():
    model, objective = model_with_validation_losses([5.0, 4.0, 3.0, 2.0, 1.0])
    calls = []

    def epoch_metrics(progress, held_out):
        model = progress.model
        calls.append((progress.epoch, len(held_out), model.training, torch.rand(1).item()))
        return {"metric": [2.0, 1.0, 1.5, 1.2][progress.epoch - 1]}

    history = train(
        model, Player(model, objective, sgd(1.0)), DeviceData(torch.zeros(4, 1)), max_epochs=5,
        validation=DeviceData(torch.zeros(2, 1)), patience=2, criterion="metric",
        epoch_metrics=epoch_metrics,
    )  # fmt: skip
    assert history.curve("validation.metric") == [2.0, 1.0, 1.5, 1.2]
    assert model.epoch.item() == 2.0
    assert [call[:3] for call in calls] == [(epoch, 2, False) for epoch in (1, 2, 3, 4)]
    assert len({noise for *_, noise in calls}) == 1


def test_early_stopping_resumes_from_checkpoint(tmp_path):
    losses = [5.0, 3.0, 4.0, 3.0, 3.5, 1.0]

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.event == "step" and progress.step == 4:
            raise StoppedError

    def run(*callbacks):
        model, objective = model_with_validation_losses(losses)
        history = train(
            model, Player(model, objective, sgd(1.0)), DeviceData(torch.zeros(4, 1)), max_epochs=6,
            validation=DeviceData(torch.zeros(2, 1)), patience=3, callbacks=callbacks,
            checkpoint=Checkpoint(tmp_path / "c", identity="counter", every=0.0),
        )  # fmt: skip
        return model, history

    with pytest.raises(StoppedError):
        run(stop)
    model, history = run()
    assert history.curve("validation.cost") == losses[:5]
    assert model.epoch.item() == 2.0


def test_validation_uses_averaged_parameters():
    model, values = TwoParameters(), []

    def term(m, run):
        values.append(m.a.item())
        return -m.a.sum()

    objective = Objective({"negative": term}, lambda model, batch: None)
    train(
        model, Player([model.a], objective, ema(sgd(1.0), 0.5)), DeviceData(torch.zeros(4, 1)),
        max_epochs=3, validation=DeviceData(torch.zeros(2, 1)),
    )  # fmt: skip
    average, expected = 0.0, []
    for step in range(3):
        average += (step + 1 - average) * (1 - min(0.5, (1 + step) / (10 + step)))
        expected += [float(step), average]
    assert values == pytest.approx(expected)
    assert model.a.item() == pytest.approx(average)


def test_curve_logs_in_csv_and_tensorboard_match_history(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callbacks = [curve_logger(tmp_path / "curves.csv"), curve_logger(tmp_path / "events")]
    model = analyser()
    history = train(
        model, Player(model, nll(), adam(0.01)), DeviceData(rand(20, 4), dtype=torch.float64),
        max_epochs=3, batch_size=5, callbacks=callbacks,
    )  # fmt: skip
    with (tmp_path / "curves.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["nll"]) for row in table] == history.curve("nll")
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [e.step for e in events.Scalars("nll")] == [4, 8, 12]
    assert [e.value for e in events.Scalars("nll")] == pytest.approx(history.curve("nll"))


def test_convolutional_training_matches_plain_torch_loop():
    def net():
        with engine.seeded_rng(0):
            conv = nn.Conv2d(2, 3, 3)
            return nn.Sequential(nn.Unflatten(1, (2, 4, 4)), conv, nn.Flatten()).double()

    x, model, reference = rand(12, 32), net(), net()
    energy = Objective({"energy": lambda m, run: m(run).square().mean()}, lambda m, batch: batch.x)
    train(model, Player(model, energy, adam(0.03)), DeviceData(x, dtype=torch.float64),
          max_epochs=5, batch_size=12, shuffle=False)  # fmt: skip
    optimizer = torch.optim.Adam(reference.parameters(), 0.03)
    for _ in range(5):
        optimizer.zero_grad()
        reference(x).square().mean().backward()
        optimizer.step()
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-10, rtol=1e-9)
        assert p.is_contiguous()


def test_validation_and_callbacks_call_model_in_bfloat16():
    x = rand(20, 4).float()
    model, values = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 4)), []

    def evaluate(progress):
        if progress.event == "step":
            values.append(progress.model(x).square().mean().item())

    energy = Objective(
        {"energy": lambda m, run: m(run).float().square().mean()}, lambda m, batch: batch.x
    )
    history = train(
        model, Player(model, energy, adam(0.03)), DeviceData(x), max_epochs=3, batch_size=20,
        validation=DeviceData(x), precision="bfloat16", callbacks=[evaluate],
    )  # fmt: skip
    assert history.curve("validation.energy") == pytest.approx(values, rel=0.02)
    assert values[-1] < values[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
