"""Densities, KL divergences and chains against torch's registry, scipy and enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import distributions as td

from ancestral.probability.distributions import (
    ChainDistribution,
    MixedColumns,
    detach_distribution,
    distribution_parameters,
    kl,
    log_prob,
    mean_or_mode,
    rsample_or_sample,
)
from ancestral.training import engine

QUICK = settings(max_examples=15, deadline=None, derandomize=True)
FAMILIES = ["normal", "full", "low_rank", "laplace", "bernoulli", "poisson", "categorical"]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def tril(n, d, seed=0):
    factor = rand(n, d, d, seed=seed).tril(-1)
    return factor + torch.diag_embed(rand(n, d, seed=seed + 1).exp())


def make(family, n, d, seed=0):
    """Distribution of a family over n rows of d entries, with random parameters."""
    a, b = rand(n, d, seed=seed), rand(n, d, seed=seed + 100).exp()
    match family:
        case "normal":
            return td.Normal(a, b)
        case "full":
            return td.MultivariateNormal(a, scale_tril=tril(n, d, seed))
        case "low_rank":
            return td.LowRankMultivariateNormal(a, rand(n, d, 2, seed=seed + 7), b)
        case "laplace":
            return td.Laplace(a, b)
        case "bernoulli":
            return td.Bernoulli(logits=a)
        case "poisson":
            return td.Poisson(b)
        case "categorical":
            return td.Categorical(logits=rand(n, d, 3, seed=seed))


def covariance_of(p):
    return p.covariance_matrix if p.event_shape else torch.diag_embed(p.variance)


# ---- KL


@pytest.mark.parametrize("family", ["normal", "laplace", "bernoulli", "categorical"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (4, 3)])
def test_kl_matches_torch_registry_within_a_family(family, n, d):
    q, p = make(family, n, d), make(family, n, d, seed=50)
    expected = td.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(kl(q, p), expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(kl(q, q), torch.zeros_like(expected), atol=1e-12, rtol=0)
    assert (kl(q, p) > 0).all()


@QUICK
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_kl_of_correlated_gaussian_matches_torch_registry(n, d, seed):
    q, p = make("full", n, d, seed), make("normal", n, d, seed + 50)
    expected = td.kl_divergence(q, td.MultivariateNormal(p.loc, torch.diag_embed(p.variance)))
    torch.testing.assert_close(kl(q, p), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("q_family", "p_family"),
    [
        ("normal", "normal"),
        ("full", "normal"),
        ("laplace", "laplace"),
        ("bernoulli", "bernoulli"),
        ("categorical", "categorical"),
    ],
)
def test_kl_matches_monte_carlo_estimate(q_family, p_family):
    n = 40_000
    q, p = make(q_family, 3, 2), make(p_family, 3, 2, seed=9)
    with engine.seeded_rng(0):
        z = q.sample((n,)).double()
    ratio = log_prob(q, z) - log_prob(p, z)
    error = ratio.std(0) / math.sqrt(n)
    assert ((ratio.mean(0) - kl(q, p)).abs() < 4 * error).all()


def test_kl_broadcasts_a_shared_prior():
    q, p = make("normal", 5, 3), td.Normal(torch.zeros(3).double(), torch.ones(3).double())
    expected = td.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(kl(q, p), expected)
    expanded = td.Normal(q.loc.expand(2, 5, 3), q.scale)
    torch.testing.assert_close(kl(expanded, p), expected.expand(2, 5))


def test_kl_of_categorical_with_zero_probability_is_finite():
    lowest = torch.finfo(torch.float64).min
    q = td.Categorical(logits=tensor([[0.3, 0.1, lowest]]))
    p = td.Categorical(logits=tensor([[-0.2, 0.4, lowest]]))
    expected = td.kl_divergence(
        td.Categorical(logits=q.logits[:, :2]), td.Categorical(logits=p.logits[:, :2])
    )
    torch.testing.assert_close(kl(q, p), expected.sum(-1, keepdim=False), atol=1e-12, rtol=0)


def test_kl_without_closed_form_raises():
    with pytest.raises(NotImplementedError, match="sampled"):
        kl(make("normal", 1, 2), make("laplace", 1, 2))


# ---- log-densities


@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_sums_over_entries_only(family):
    p = make(family, 5, 3)
    with engine.seeded_rng(1):
        x = p.sample((4,)).double()
    result = log_prob(p, x)
    entries = p.log_prob(x)
    assert result.shape == (4, 5)
    torch.testing.assert_close(result, entries if p.event_shape else entries.sum(-1))


@QUICK
@given(st.sampled_from(["normal", "full", "low_rank"]), st.integers(1, 4), st.integers(0, 99))
def test_masked_gaussian_log_prob_matches_scipy_on_observed_entries(family, d, seed):
    p, x = make(family, 3, d, seed), rand(3, d, seed=seed + 3)
    mask = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (3, d))).double()
    result = log_prob(p, x, mask)
    for row in range(3):
        observed = (mask[row] > 0).nonzero().flatten()
        expected = 0.0
        if len(observed):
            covariance = covariance_of(p)[row][observed][:, observed]
            marginal = stats.multivariate_normal(p.mean[row, observed], covariance)
            expected = marginal.logpdf(x[row, observed].numpy())
        assert result[row].item() == pytest.approx(expected, abs=1e-8, rel=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_with_all_and_no_entries_observed(family):
    p = make(family, 4, 3)
    with engine.seeded_rng(2):
        x = p.sample().double()
    ones = torch.ones(4, 3).double()
    torch.testing.assert_close(log_prob(p, x, ones), log_prob(p, x), atol=1e-9, rtol=1e-9)
    all_missing = log_prob(p, x, 0 * ones)
    torch.testing.assert_close(all_missing, torch.zeros(4).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [1.0, -1.0, 1e6, math.nan, math.inf])
def test_log_prob_ignores_values_at_missing_entries(family, value):
    p = make(family, 4, 3)
    for distribution in (p, *([p.base_dist] if hasattr(p, "base_dist") else [])):
        distribution._validate_args = False
    mask = tensor([[1.0, 0.0, 1.0]]).expand(4, 3)
    with engine.seeded_rng(2):
        x = p.sample().double()
    zeros = torch.where(mask > 0, x, torch.zeros_like(x))
    values = torch.where(mask > 0, x, torch.full_like(x, value))
    torch.testing.assert_close(log_prob(p, values, mask), log_prob(p, zeros, mask))


def test_log_prob_gradient_ignores_values_at_missing_entries():
    mean = rand(3).requires_grad_()
    p = td.Normal(mean, torch.ones(3).double(), validate_args=False)
    x = tensor([0.3, math.nan, -0.2])
    value = log_prob(p, x, tensor([1.0, 0.0, 1.0]))
    (gradient,) = torch.autograd.grad(value, mean)
    expected = torch.where(x.isnan(), torch.zeros_like(x), x - mean.detach())
    torch.testing.assert_close(gradient, expected)


def test_masked_log_prob_without_closed_form_marginal_raises():
    chain = ChainDistribution(make("normal", 2, 1), [lambda h: td.Normal(h, 1.0)], [1, 1])
    with pytest.raises(NotImplementedError, match="ChainDistribution"):
        log_prob(chain, rand(2, 2), torch.ones(2, 2).double())


# ---- columns of mixed types


def mixed():
    """Columns in the order categorical, Gaussian, Bernoulli, Gaussian; and their groups."""
    parts = [make("normal", 5, 2), make("bernoulli", 5, 1), make("categorical", 5, 1)]
    return parts, MixedColumns(parts, torch.tensor([1, 3, 2, 0]).argsort())


def test_mixed_columns_log_prob_matches_density_of_each_column():
    parts, p = mixed()
    x = tensor([[2.0, 0.5, 1.0, -0.3]]).expand(5, 4)
    expected = torch.stack(
        [
            parts[2].log_prob(torch.full((5, 1), 2.0))[:, 0],
            parts[0].log_prob(tensor([0.5, -0.3]))[:, 0],
            parts[1].log_prob(torch.ones(5, 1).double())[:, 0],
            parts[0].log_prob(tensor([0.5, -0.3]))[:, 1],
        ],
        -1,
    )
    torch.testing.assert_close(p.log_prob(x), expected)
    torch.testing.assert_close(log_prob(p, x), expected.sum(-1))
    mask = tensor([1.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(log_prob(p, x, mask), (expected * mask).sum(-1))


def test_mixed_columns_sample_and_centre_in_column_order():
    parts, p = mixed()
    with engine.seeded_rng(0):
        x = p.sample((20_000,)).double()
    assert x.shape == (20_000, 5, 4)
    assert set(x[..., 0].unique().tolist()) == {0.0, 1.0, 2.0}
    assert set(x[..., 2].unique().tolist()) == {0.0, 1.0}
    for column, mean in ((1, parts[0].mean[:, 0]), (3, parts[0].mean[:, 1])):
        error = x[..., column].std(0) / math.sqrt(20_000)
        assert ((x[..., column].mean(0) - mean).abs() < 4 * error).all()
    means = mean_or_mode(p)
    torch.testing.assert_close(means[:, [1, 3]], parts[0].mean)
    torch.testing.assert_close(means[:, 2:3], parts[1].probs)
    torch.testing.assert_close(means[:, 0], parts[2].logits[:, 0].argmax(-1).double())


def test_mixed_columns_sample_dtype_matches_parameters():
    _, p = mixed()
    assert p.sample().dtype == torch.float64


# ---- chains


def gaussian_chain(reverse):
    """Chain h1 [2], h2 | h1 [1], h3 | h2 [2]; mean and covariance of the joint Gaussian."""
    a, b = rand(1, 2, seed=1), rand(2, 1, seed=2)
    first = td.Normal(tensor([0.5, -1.0]), tensor([0.7, 1.2]))

    def second(h):
        return td.Normal(h @ a.T + 0.3, tensor([0.6]))

    def third(h):
        return td.Normal(h @ b.T - 0.2, tensor([0.4, 0.9]))

    p = ChainDistribution(first, [second, third], [2, 1, 2], reverse)
    # h = mean + lift @ noise, built layer by layer
    lift = torch.zeros(5, 5).double()
    lift[:2, :2] = first.scale.diag()
    lift[2:3] = a @ lift[:2]
    lift[2, 2] = 0.6
    lift[3:] = b @ lift[2:3]
    lift[3, 3], lift[4, 4] = 0.4, 0.9
    m2 = a @ first.loc + 0.3
    mean = torch.cat([first.loc, m2, b @ m2 - 0.2])
    order = [3, 4, 2, 0, 1] if reverse else list(range(5))
    return p, mean[order], (lift @ lift.T)[order][:, order]


@pytest.mark.parametrize("reverse", [False, True])
def test_chain_log_prob_and_mean_match_joint_gaussian(reverse):
    p, mean, covariance = gaussian_chain(reverse)
    x = rand(6, 3, 5)
    expected = stats.multivariate_normal(mean, covariance).logpdf(x)
    torch.testing.assert_close(p.log_prob(x), torch.from_numpy(expected), atol=1e-9, rtol=0)
    torch.testing.assert_close(log_prob(p, x), p.log_prob(x))
    torch.testing.assert_close(p.mean, mean)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("method", ["sample", "rsample"])
def test_chain_samples_have_the_moments_of_the_joint_gaussian(reverse, method):
    n = 40_000
    p, mean, covariance = gaussian_chain(reverse)
    with engine.seeded_rng(0):
        x = getattr(p, method)((n,))
    error = x.std(0) / math.sqrt(n)
    assert ((x.mean(0) - mean).abs() < 4 * error).all()
    product = (x - mean).unsqueeze(-1) * (x - mean).unsqueeze(-2)
    error = product.std(0) / math.sqrt(n)
    assert ((product.mean(0) - covariance).abs() < 4 * error).all()


def test_bernoulli_chain_probabilities_match_enumeration_and_sample_counts():
    first = td.Bernoulli(logits=rand(2))
    weight = rand(3, 2, seed=1)
    p = ChainDistribution(
        first, [lambda h: td.Bernoulli(logits=h @ weight.T)], [2, 3], reverse=True
    )
    h = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5))).double()
    assert p.log_prob(h).exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert not p.has_rsample
    with engine.seeded_rng(0):
        samples = p.sample((20_000,))
    code = (samples @ (2.0 ** torch.arange(4, -1, -1)).double()).long()
    counts = torch.bincount(code, minlength=32).double()
    chi2 = ((counts - 20_000 * p.log_prob(h).exp()) ** 2 / (20_000 * p.log_prob(h).exp())).sum()
    assert chi2.item() < stats.chi2(31).ppf(0.9999)


# ---- sampling and parameters


def test_draw_is_differentiable_only_for_reparameterised_families():
    loc = torch.zeros(3).double().requires_grad_()
    z = rsample_or_sample(td.Normal(loc, torch.ones(3).double()), (4,))
    (gradient,) = torch.autograd.grad(z.sum(), loc)
    torch.testing.assert_close(gradient, torch.full((3,), 4.0).double())
    assert not rsample_or_sample(td.Bernoulli(logits=loc), (4,)).requires_grad


@pytest.mark.parametrize("family", ["normal", "laplace", "full", "bernoulli"])
def test_detach_preserves_density_and_removes_gradient(family):
    p = make(family, 3, 2)
    leaves = {k: v.clone().requires_grad_() for k, v in distribution_parameters(p).items()}
    p = type(p)(**leaves)
    with engine.seeded_rng(0):
        x = p.sample()
    expected = log_prob(p, x)
    assert expected.requires_grad
    copy = detach_distribution(p)
    assert not log_prob(copy, x).requires_grad
    torch.testing.assert_close(log_prob(copy, x), expected.detach())


@pytest.mark.parametrize("family", ["bernoulli", "categorical"])
@pytest.mark.parametrize("form", ["probs", "logits"])
def test_parameters_reconstruct_distribution_after_use(family, form):
    """torch caches the other parameterisation on first use; parameters must return one only."""
    shape = (3, 2) if family == "bernoulli" else (3, 2, 4)
    values = rand(*shape).sigmoid()
    values = values if family == "bernoulli" else values / values.sum(-1, keepdim=True)
    values = values if form == "probs" else values.log()
    kind = {"bernoulli": td.Bernoulli, "categorical": td.Categorical}[family]
    p = kind(**{form: values})
    x = torch.ones(3, 2).double()
    expected = p.log_prob(x), p.probs, p.logits
    copy = kind(**distribution_parameters(p))
    torch.testing.assert_close((copy.log_prob(x), copy.probs, copy.logits), expected)
