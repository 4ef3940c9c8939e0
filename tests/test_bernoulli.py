"""Fused Bernoulli log-probability: values against torch, gradients against finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import Bernoulli

from ancestral.probability.bernoulli import bernoulli_log_prob


def rand(*shape, seed=0, scale=3.0):
    return torch.from_numpy(scale * np.random.default_rng(seed).normal(size=shape))


def bits(*shape, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, shape).astype(float))


def reference_log_prob(logits, x, mask=None):
    """Unfused log-probability of Bernoulli entries."""
    entries = x * logits - torch.logaddexp(logits, torch.zeros_like(logits))
    return (entries if mask is None else entries * mask).sum(-1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 230), st.integers(0, 2), st.booleans(), st.integers(0, 1000))
def test_log_prob_matches_reference_for_any_width_and_leading_axes(d, n_axes, masked, seed):
    shape = (3, 2)[:n_axes]
    logits, x = rand(*shape, d, seed=seed), bits(*shape[-1:], d, seed=seed)
    mask = bits(*shape[-1:], d, seed=seed + 1) if masked else None
    got = bernoulli_log_prob(logits, x, mask)
    assert got.shape == shape
    torch.testing.assert_close(got, reference_log_prob(logits, x, mask), atol=1e-10, rtol=1e-12)


def test_log_prob_matches_torch_bernoulli():
    logits, x = rand(5, 784), bits(5, 784)
    torch.testing.assert_close(
        bernoulli_log_prob(logits, x), Bernoulli(logits=logits).log_prob(x).sum(-1)
    )


@pytest.mark.parametrize("scale", [1e-3, 30.0, 1e3, 1e30])
def test_float32_log_prob_is_accurate_for_extreme_logits(scale):
    logits, x = rand(4, 784, scale=scale), bits(4, 784)
    got = bernoulli_log_prob(logits.float(), x.float())
    torch.testing.assert_close(
        got.double(), reference_log_prob(logits.float().double(), x), rtol=2e-6, atol=1e-3
    )


def test_log_prob_at_zero_logits_does_not_overflow():
    got = bernoulli_log_prob(torch.zeros(2, 784), torch.zeros(784))
    torch.testing.assert_close(got, torch.full((2,), -784 * np.log(2), dtype=torch.float32))


@pytest.mark.parametrize("masked", [False, True])
def test_first_and_second_derivatives_in_logits_and_values(masked):
    logits, x = rand(3, 2, 7).requires_grad_(), rand(2, 7, scale=0.4).requires_grad_()
    mask = bits(2, 7) if masked else None
    assert gradcheck(lambda a, b: bernoulli_log_prob(a, b, mask), (logits, x))
    assert gradgradcheck(lambda a, b: bernoulli_log_prob(a, b, mask), (logits, x))


def test_gradient_is_summed_over_broadcast_axes():
    logits = rand(7).requires_grad_()
    assert gradcheck(lambda a: bernoulli_log_prob(a, bits(4, 7)), (logits,))
