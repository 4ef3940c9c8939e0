"""Tests of optimisers, transformations and schedules against torch and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ancestral.training import engine
from ancestral.training.optim import (
    adagrad,
    adam,
    all_parameters,
    clip,
    constant,
    cosine,
    delayed_exponential,
    ema,
    iwae_adam,
    iwae_stages,
    l2_decay,
    matrices_only,
    piecewise_constant,
    scale_per_parameter,
    sgd,
    sgld,
    step_decay,
    weight_decay,
    with_warmup,
)

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
N_STEPS = 50


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def loss_of(x):
    """Smooth function with curvatures between 0.1 and 100 and an interaction term."""
    curvature = torch.logspace(-1, 2, len(x), dtype=torch.float64)
    return 0.5 * (curvature * x.square()).sum() + torch.sin(x.sum()) + (x[0] * x[-1]).tanh()


def optimizer_path(optimizer, x, n_steps=N_STEPS):
    """Iterates of an optimiser of this library, [n_steps, n]."""
    x, path = x.clone(), []
    state = optimizer.init(x, [x.shape])
    for step in range(n_steps):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(leaf), leaf)
        optimizer.update(x, gradient, state, optimizer.rates(step, n_steps))
        path.append(x.clone())
    return torch.stack(path)


def torch_path(make_optimizer, x, n_steps=N_STEPS, schedule=None, clip_gradients=None):
    """Iterates of a torch optimiser, [n_steps, n]."""
    leaf, path = x.clone().requires_grad_(), []
    optimizer = make_optimizer([leaf])
    for step in range(n_steps):
        optimizer.zero_grad()
        loss_of(leaf).backward()
        if clip_gradients is not None:
            clip_gradients([leaf])
        if schedule is not None:
            optimizer.param_groups[0]["lr"] = schedule(step)
        optimizer.step()
        path.append(leaf.detach().clone())
    return torch.stack(path)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
@pytest.mark.parametrize("eps", [1e-8, 1e-4, 0.1])
def test_adam_matches_torch(betas, eps):
    x = rand(7)
    got = optimizer_path(adam(0.05, betas, eps), x)
    expected = torch_path(lambda p: torch.optim.Adam(p, 0.05, betas, eps), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)
    assert (got[-1] - x).abs().max() > 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_with_momentum_matches_torch(momentum):
    x = rand(7)
    got = optimizer_path(sgd(0.002, momentum), x)
    expected = torch_path(lambda p: torch.optim.SGD(p, 0.002, momentum=momentum), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)
    assert (got[-1] - x).abs().max() > 0.1


def test_sgd_with_scheduled_rate_and_momentum_matches_torch():
    x, optimizers = rand(7), []

    def make_optimizer(parameters):
        optimizers.append(torch.optim.SGD(parameters, 0.002, momentum=0.5))
        return optimizers[0]

    def rate(step):
        is_second_half = step >= N_STEPS / 2
        optimizers[0].param_groups[0]["momentum"] = 0.9 if is_second_half else 0.5
        return 0.0002 if is_second_half else 0.002

    schedules = step_decay(constant(0.002), [0.5], factor=10), piecewise_constant([0.5, 0.9], [0.5])
    got = optimizer_path(sgd(*schedules), x)
    expected = torch_path(make_optimizer, x, schedule=rate)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)
    with pytest.raises(ValueError, match="expected 2 values, one more than the number of mile"):
        piecewise_constant([0.5], [0.5])


def test_adam_with_cosine_schedule_matches_torch():
    x = rand(7)

    def rate(step):
        return 0.05 * 0.5 * (1 + math.cos(math.pi * step / N_STEPS))

    got = optimizer_path(adam(cosine(0.05)), x)
    expected = torch_path(lambda p: torch.optim.Adam(p, 0.05), x, schedule=rate)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)


def test_gradient_clipping_by_norm_matches_torch():
    x = rand(7)
    got = optimizer_path(clip(sgd(0.01), 1.5), x)
    expected = torch_path(
        lambda p: torch.optim.SGD(p, 0.01),
        x,
        clip_gradients=lambda p: nn.utils.clip_grad_norm_(p, 1.5),
    )
    # torch adds 1e-6 to the norm in the denominator
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@QUICK
@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=6),
    st.floats(0.1, 50),
    st.none() | st.floats(0.01, 10),
)
def test_gradient_clipping_by_norm_then_by_value(entries, norm, value):
    gradient = torch.tensor(entries, dtype=torch.float64)
    x = torch.zeros_like(gradient)
    gradient_copy = gradient.clone()
    clip(sgd(1.0), norm, value).update(x, gradient, {}, (1.0, 0.0))
    gradient_norm = math.sqrt(sum(e * e for e in entries))
    expected = np.array(entries) * min(1.0, norm / gradient_norm if gradient_norm else 1.0)
    expected = expected if value is None else np.clip(expected, -value, value)
    np.testing.assert_allclose(-x, expected, atol=1e-12)
    assert torch.equal(gradient, gradient_copy)


@pytest.mark.parametrize("n_steps", [4, 100])
def test_cosine_schedule_matches_torch_cosine_annealing(n_steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for step in range(n_steps):
        got = cosine(0.3)(step, n_steps)
        assert got == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()
    assert cosine(0.3)(n_steps, n_steps) == pytest.approx(0, abs=1e-15)
    assert constant(0.3)(7, 10) == 0.3


def test_warmup_is_linear():
    rates = [with_warmup(cosine(2.0), 4)(step, 10**9) for step in range(6)]
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


def test_delayed_exponential_schedule_matches_memory_paper():
    """Over 3,000 epochs: 0.001, multiplied by 0.998 per epoch from epoch 1,000 on."""
    for epoch in (0, 500, 1000, 1001, 2000, 2999):
        expected = 1e-3 * 0.998 ** max(0, epoch - 1000)
        assert delayed_exponential(1e-3)(epoch, 3000) == pytest.approx(expected, rel=1e-9)


# ---- other update rules and transformations


@pytest.mark.parametrize("start", [0.0, 0.1])
def test_adagrad_matches_torch(start):
    x = rand(7)
    got = optimizer_path(adagrad(0.1, start), x)
    expected = torch_path(lambda p: torch.optim.Adagrad(p, 0.1, initial_accumulator_value=start), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)


def test_iwae_adam_matches_definition():
    """Moments before the current gradient, second moment initialised at one (IWAE code)."""
    x, rate, b1, b2, eps = rand(7), 0.02, 0.99, 0.999, 1e-4
    got = optimizer_path(iwae_adam(rate, (b1, b2), eps), x)
    m, v, path = torch.zeros_like(x), torch.ones_like(x), []
    for t in range(1, N_STEPS + 1):
        leaf = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss_of(leaf), leaf)
        x = x - rate * math.sqrt(1 - b2**t) / (1 - b1**t) * m / (v.sqrt() + eps)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        path.append(x)
    torch.testing.assert_close(got, torch.stack(path), atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_l2_decay_matches_torch_weight_decay(optimizer):
    x = rand(7)
    if optimizer == "sgd":
        got = optimizer_path(l2_decay(sgd(0.002), 0.3), x)
        expected = torch_path(lambda p: torch.optim.SGD(p, 0.002, weight_decay=0.3), x)
    else:
        got = optimizer_path(l2_decay(adam(0.05), 0.3), x)
        expected = torch_path(lambda p: torch.optim.Adam(p, 0.05, weight_decay=0.3), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)


def test_l2_decay_of_matrices_only_leaves_vectors_unchanged():
    optimizer = l2_decay(sgd(1.0), 0.5, matrices_only)
    x = torch.ones(6)
    state = optimizer.init(x, [torch.Size([2, 2]), torch.Size([2])])
    optimizer.update(x, torch.zeros(6), state, optimizer.rates(0, 1))
    assert x.tolist() == [0.5, 0.5, 0.5, 0.5, 1.0, 1.0]


def test_decoupled_weight_decay_matches_torch_adamw():
    x = rand(7)
    got = optimizer_path(weight_decay(adam(0.05), 0.05 * 0.3, decay_factor=all_parameters), x)
    expected = torch_path(lambda p: torch.optim.AdamW(p, 0.05, weight_decay=0.3), x)
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-10)


def test_decoupled_weight_decay_follows_schedule_and_leaves_vectors_unchanged():
    optimizer = weight_decay(sgd(1.0), cosine(0.5))
    x = torch.ones(6)
    state = optimizer.init(x, [torch.Size([2, 2]), torch.Size([2])])
    for step in range(2):
        optimizer.update(x, torch.zeros(6), state, optimizer.rates(step, 2))
    assert x.tolist() == [0.375, 0.375, 0.375, 0.375, 1.0, 1.0]


def test_per_parameter_factors_scale_adam_steps():
    x, shapes = rand(6), [torch.Size([2, 2]), torch.Size([2])]
    updates = []
    for optimizer in (
        adam(0.1),
        scale_per_parameter(adam(0.1), lambda s: 2.0 if len(s) == 1 else 0.5),
    ):
        flat = x.clone()
        state = optimizer.init(flat, shapes)
        optimizer.update(flat, x, state, optimizer.rates(0, 1))
        updates.append(flat - x)
    factor = torch.tensor([0.5] * 4 + [2.0] * 2)
    torch.testing.assert_close(updates[1], factor * updates[0])


def test_ema_matches_torch_averaged_model():
    from torch.optim.swa_utils import AveragedModel

    model, optimizer = nn.Linear(3, 1, bias=False), ema(sgd(0.1), 0.9)
    flat = model.weight.detach().flatten().clone()
    state = optimizer.init(flat, [flat.shape])
    weights = iter([1 - min(0.9, (1 + t) / (10 + t)) for t in range(100)])
    reference = AveragedModel(model, avg_fn=lambda a, p, _: a + (p - a) * next(weights))
    reference.n_averaged.fill_(1)  # torch copies the first update; here the start is averaged
    for step in range(100):
        gradient = rand(3, seed=step).float()
        optimizer.update(flat, gradient, state, optimizer.rates(step, 100))
        model.weight.data = flat.view(1, 3).clone()
        reference.update_parameters(model)
    torch.testing.assert_close(
        optimizer.evaluation_vector(flat, state), reference.module.weight.flatten()
    )


def test_sgld_stationary_variance_matches_closed_form():
    """On N(0, s^2) with constant step size eps the variance is s^2 / (1 - eps / (4 s^2))."""
    optimizer, n = sgld(0.5, n_rows=1), 20_000
    theta = torch.zeros(n, dtype=torch.float64)
    with engine.seeded_rng(0):
        for step in range(60):
            optimizer.update(theta, theta.clone(), {}, optimizer.rates(step, 60))
    expected = 8 / 7
    assert theta.var().item() == pytest.approx(expected, abs=4 * expected * math.sqrt(2 / n))
    assert theta.mean().item() == pytest.approx(0, abs=4 * math.sqrt(expected / n))


def test_iwae_stages_match_paper():
    rates = [iwae_stages(1e-3)(epoch, 3280) for epoch in range(3280)]
    lengths = [rates.count(rate) for rate in dict.fromkeys(rates)]
    assert lengths == [3**i for i in range(8)]
    assert list(dict.fromkeys(rates)) == pytest.approx([1e-3 * 10 ** (-i / 7) for i in range(8)])
