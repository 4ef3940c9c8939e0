"""Optimisers, clipping, schedules and the loop against torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ancestral import engine
from ancestral.conditional import FactorAnalyser, Gaussian
from ancestral.data import Data
from ancestral.engine import FlatParameters
from ancestral.networks import Constant
from ancestral.objectives import Objective, nll
from ancestral.optim import adam, clipped, constant, cosine, sgd
from ancestral.train import NonFiniteError, Player, train

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
N_STEPS = 50


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def loss_of(x):
    """A smooth function with curvatures between 0.1 and 100 and a mixed term."""
    curvature = torch.logspace(-1, 2, len(x), dtype=torch.float64)
    return 0.5 * (curvature * x.square()).sum() + torch.sin(x.sum()) + (x[0] * x[-1]).tanh()


def ours(optimizer, x, n_steps=N_STEPS):
    x, path = x.clone(), []
    state = optimizer.init(x, [x.shape])
    for step in range(n_steps):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(leaf), leaf)
        optimizer.update(x, gradient, state, optimizer.rates(step, n_steps))
        path.append(x.clone())
    return torch.stack(path)


def theirs(make, x, n_steps=N_STEPS, schedule=None, clip=None):
    leaf, path = x.clone().requires_grad_(), []
    optimizer = make([leaf])
    for step in range(n_steps):
        optimizer.zero_grad()
        loss_of(leaf).backward()
        if clip is not None:
            clip([leaf])
        if schedule is not None:
            optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        path.append(leaf.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
@pytest.mark.parametrize("eps", [1e-8, 1e-4, 0.1])
def test_adam_against_torch(betas, eps):
    x = rand(7)
    got = ours(adam(0.05, betas, eps), x)
    expected = theirs(lambda p: torch.optim.Adam(p, 0.05, betas, eps), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)
    assert (got[-1] - x).abs().max() > 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_against_torch(momentum):
    x = rand(7)
    got = ours(sgd(0.002, momentum), x)
    expected = theirs(lambda p: torch.optim.SGD(p, 0.002, momentum=momentum), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)
    assert (got[-1] - x).abs().max() > 0.1


def test_adam_with_a_schedule_against_torch():
    x = rand(7)

    def rate(step):
        return 0.05 * 0.5 * (1 + math.cos(math.pi * step / N_STEPS))

    got = ours(adam(cosine(0.05)), x)
    expected = theirs(lambda p: torch.optim.Adam(p, 0.05), x, schedule=rate)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)


def test_clipping_by_norm_against_torch():
    x = rand(7)
    got = ours(clipped(sgd(0.01), 1.5), x)
    expected = theirs(
        lambda p: torch.optim.SGD(p, 0.01), x, clip=lambda p: nn.utils.clip_grad_norm_(p, 1.5)
    )
    # torch adds 1e-6 to the norm it divides by
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@QUICK
@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=6),
    st.floats(0.1, 50),
    st.none() | st.floats(0.01, 10),
)
def test_clipping_keeps_direction_then_bounds_entries(entries, norm, value):
    gradient = torch.tensor(entries, dtype=torch.float64)
    x = torch.zeros_like(gradient)
    before = gradient.clone()
    clipped(sgd(1.0), norm, value).update(x, gradient, {}, (1.0, 0.0))
    length = math.sqrt(sum(e * e for e in entries))
    expected = np.array(entries) * min(1.0, norm / length if length else 1.0)
    expected = expected if value is None else np.clip(expected, -value, value)
    np.testing.assert_allclose(-x, expected, atol=1e-12)
    assert torch.equal(gradient, before)


@pytest.mark.parametrize("n_steps", [4, 100])
def test_cosine_schedule_against_torch(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for step in range(n_steps):
        got = cosine(0.3)(step, n_steps)
        assert got == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()
    assert cosine(0.3)(n_steps, n_steps) == pytest.approx(0, abs=1e-15)
    assert constant(0.3)(7, 10) == 0.3


def test_warm_up_rises_in_equal_steps():
    rates = [cosine(2.0, warmup=4)(step, 10**9) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


# ---- flat parameters


def gradient_of(flat, loss):
    return flat.gather(torch.autograd.grad(loss, flat.parameters, allow_unused=True))


def test_flat_parameters_are_one_memory_and_one_gradient():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net[2].bias.requires_grad_(False)
    shared = [*net.parameters(), net[0].weight]
    x = rand(5, 3)
    expected = net(x)
    flat = FlatParameters(shared)
    assert flat.vector.numel() == 12 + 4 + 8
    assert torch.equal(net(x), expected)
    gradient = gradient_of(flat, net(x).square().sum())
    net(x).square().sum().backward()
    moved = [p for p in net.parameters() if p.requires_grad]
    torch.testing.assert_close(gradient, torch.cat([p.grad.flatten() for p in moved]))
    with torch.no_grad():
        flat.vector.mul_(2)
    torch.testing.assert_close(net[0].weight.flatten(), flat.vector[:12])
    flat.release()
    with torch.no_grad():
        flat.vector.zero_()
    assert net[0].weight.abs().min() > 0


def test_flat_gradient_of_what_the_loss_ignores_is_zero():
    used, unused = (nn.Parameter(rand(3, seed=i)) for i in range(2))
    gradient = gradient_of(FlatParameters([used, unused]), used.square().sum())
    torch.testing.assert_close(gradient, torch.cat([2 * used.detach(), torch.zeros(3).double()]))


# ---- the loop


def analyser():
    return FactorAnalyser(rand(4, 2), rand(4, seed=1), rand(4, seed=2))


def torch_loop(model, data, make, n_epochs, size, seed):
    optimizer, losses = make(model.parameters()), []
    for epoch in range(n_epochs):
        for index in data.batches(size, seed=seed, epoch=epoch):
            optimizer.zero_grad()
            loss = -model.log_prob(data.x[index]).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@pytest.mark.parametrize("size", [30, 7])
def test_train_against_a_plain_loop(size):
    x = rand(30, 4, seed=3) @ rand(4, 4, seed=4)
    data, model, reference = Data(x, dtype=torch.float64), analyser(), analyser()
    history = train(
        model, Player(model, nll(), adam(0.03)), data, max_epochs=6, batch_size=size, random_state=5
    )
    losses = torch_loop(reference, data, lambda p: torch.optim.Adam(p, 0.03), 6, size, 5)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-10, rtol=1e-9)
    per_epoch = np.array(losses).reshape(6, -1).mean(1)
    np.testing.assert_allclose(history.curve("nll"), per_epoch, atol=1e-10)
    np.testing.assert_allclose(history.curve("loss"), per_epoch, atol=1e-10)


def test_train_reaches_the_closed_form_of_a_gaussian():
    x = rand(200, 3) * torch.tensor([0.5, 1.0, 3.0]) + torch.tensor([1.0, -2.0, 0.0])
    model = Gaussian(Constant(torch.zeros(3).double(), torch.zeros(3).double()))
    train(
        model,
        Player(model, nll(), adam(cosine(0.1))),
        Data(x, dtype=torch.float64),
        max_epochs=400,
        batch_size=200,
    )
    torch.testing.assert_close(model().mean, x.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(model().variance, x.var(0, correction=0), atol=1e-3, rtol=1e-3)


def quadratic(name, target):
    """Pulls the parameter ``name`` of a model half the way to a target with rate 0.5."""

    def term(model, run):
        return 0.5 * (getattr(model, name) - target(model)).square().sum()

    return Objective({"pull": term}, lambda model, batch: None)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor([4.0], dtype=torch.float64))


@pytest.mark.parametrize(("every", "repeat"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_players_move_in_turn_and_see_one_another(every, repeat):
    model = Pair()
    players = {
        "first": Player([model.a], quadratic("a", lambda m: m.b.detach()), sgd(0.5)),
        "second": Player(
            [model.b], quadratic("b", lambda m: m.a.detach()), sgd(0.25), every, repeat
        ),
    }
    data = Data(torch.zeros(7, 1))
    history = train(model, players, data, max_epochs=2, batch_size=2)
    a, b, pulls = 0.0, 4.0, []
    for step in range(8):
        pulls.append(0.5 * (a - b) ** 2)
        a += 0.5 * (b - a)
        if step % every == 0:
            for _ in range(repeat):
                b += 0.25 * (a - b)
    assert model.a.item() == pytest.approx(a, abs=1e-12)
    assert model.b.item() == pytest.approx(b, abs=1e-12)
    assert history.curve("first.pull") == pytest.approx([np.mean(pulls[:4]), np.mean(pulls[4:])])


def test_a_player_that_rests_at_some_steps_may_play_alone():
    model = Pair()
    player = Player([model.a], quadratic("a", lambda m: m.b.detach()), sgd(0.5), every=2)
    train(model, player, Data(torch.zeros(4, 1)), max_epochs=1, batch_size=1)
    assert model.a.item() == pytest.approx(3.0)


def test_two_players_may_not_move_the_same_parameter():
    model = Pair()
    pull = quadratic("a", lambda m: m.b.detach())
    players = {"one": Player([model.a], pull, sgd(0.5)), "two": Player(model, pull, sgd(0.5))}
    with pytest.raises(ValueError, match="two"):
        train(model, players, Data(torch.zeros(4, 1)), max_epochs=1)


def test_validation_terms_are_means_over_the_rows():
    x, held_out = rand(20, 4), rand(7, 4, seed=9)
    model = analyser()
    history = train(
        model,
        Player(model, nll(), adam(0.01)),
        Data(x, dtype=torch.float64),
        max_epochs=2,
        batch_size=5,
        validation=Data(held_out, dtype=torch.float64),
    )
    expected = -model.log_prob(held_out).mean().item()
    assert history[-1]["validation.nll"] == pytest.approx(expected, abs=1e-9)


def test_training_stops_at_what_is_not_finite_and_names_it():
    model = Pair()
    objective = Objective({"odd": lambda m, run: (m.a - 1).log().sum()}, lambda m, batch: None)
    with pytest.raises(NonFiniteError, match="odd"):
        train(model, Player(model, objective, sgd(0.1)), Data(torch.zeros(4, 1)), max_epochs=1)
    assert not model.training


@QUICK
@given(st.integers(1, 23), st.integers(1, 30), st.booleans())
def test_minibatches_visit_every_row_and_have_one_shape(n, size, shuffle):
    data = Data(torch.zeros(n, 1))
    batches = list(data.batches(size, seed=1, shuffle=shuffle))
    assert {len(b) for b in batches} == {min(n, size)}
    counts = torch.bincount(torch.cat(batches), minlength=n)
    assert counts.min() == 1
    assert counts.max() <= 2
    assert len(batches) == -(-n // min(n, size))


def test_noise_of_a_step_depends_on_seed_and_step_alone():
    draws = []
    for parts in ((1, 2), (1, 2), (1, 3), (2, 2)):
        with engine.seeded(*parts):
            draws.append(torch.randn(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
