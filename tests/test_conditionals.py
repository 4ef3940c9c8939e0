"""Conditional distributions: exact marginals, normalisation and parametrisation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch import distributions as td
from torch import nn

from ancestral.data.batch import Batch
from ancestral.models.factor_analysis import FactorAnalyser
from ancestral.models.latent import LatentModel
from ancestral.nn import MLP, Constant, ReadContext
from ancestral.probability.composite import Chain, Mixture, Product
from ancestral.probability.conditionals import (
    Bernoulli,
    Categorical,
    FullGaussian,
    Gaussian,
    Laplace,
    Poisson,
    Unconditional,
    reads_context,
    standard_normal,
)
from ancestral.training import engine

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def all_masks(d):
    return tensor(list(itertools.product([0.0, 1.0], repeat=d)))


def gaussian_mixture():
    """Two diagonal components in three dimensions: (conditional, weights, means, covariances)."""
    weights, means, log_var = tensor([0.3, 0.7]), rand(2, 3), 0.5 * rand(2, 3, seed=1)
    p = Mixture(Gaussian(Constant(means, log_var)), weights.log())
    return p, weights, means, torch.diag_embed(log_var.exp())


def marginal_mixture(weights, means, covariances, x, observed):
    """log sum_k pi_k N(x_o; mean_k, cov_k) of the observed indices o, by scipy."""
    if not len(observed):
        return 0.0
    parts = [
        stats.multivariate_normal(m[observed], c[observed][:, observed]).logpdf(x[observed].numpy())
        for m, c in zip(means, covariances, strict=True)
    ]
    return special.logsumexp(parts, b=weights.numpy())


# ---- elementary families


@QUICK
@given(st.integers(1, 4), st.integers(0, 50))
def test_full_gaussian_cholesky_factor_is_in_row_major_order(d, seed):
    mean, entries = rand(d, seed=seed), rand(d * (d + 1) // 2, seed=seed + 1)
    p = FullGaussian(Constant(mean, entries))()
    factor, k = np.zeros((d, d)), 0
    for i in range(d):
        for j in range(i + 1):
            factor[i, j] = math.exp(entries[k]) if i == j else entries[k]
            k += 1
    np.testing.assert_allclose(p.covariance_matrix.detach(), factor @ factor.T, atol=1e-12)
    x = rand(5, d, seed=seed + 2)
    expected = stats.multivariate_normal(mean, factor @ factor.T).logpdf(x)
    np.testing.assert_allclose(p.log_prob(x).detach(), np.atleast_1d(expected), rtol=1e-8)


def test_elementwise_log_prob_matches_scipy_with_and_without_mask():
    a, b = rand(3), rand(3, seed=1)
    x, counts = rand(4, 3, seed=2), torch.tensor([[0.0, 2.0, 5.0]]).double()
    m, v = a.numpy(), b.numpy()
    cases = [
        (Gaussian(Constant(a, b)), x, stats.norm(m, np.exp(v / 2)).logpdf(x)),
        (Laplace(Constant(a, b)), x, stats.laplace(m, np.exp(v)).logpdf(x)),
        (Poisson(Constant(a)), counts, stats.poisson(np.exp(m)).logpmf(counts)),
        (Bernoulli(Constant(a)), (x > 0).double(), stats.bernoulli(special.expit(m)).logpmf(x > 0)),
    ]
    for p, value, expected in cases:
        got = p.log_prob(value).detach()
        np.testing.assert_allclose(got, expected.sum(-1), rtol=1e-10)
        mask = tensor([1.0, 0.0, 1.0])
        got = p.log_prob(value, None, mask).detach()
        np.testing.assert_allclose(got, (expected * mask.numpy()).sum(-1), rtol=1e-10)


@pytest.mark.parametrize("log_var", [-1.3, tensor([0.2, -3.7]), nn.Parameter(tensor([0.2, -3.7]))])
def test_gaussian_with_context_independent_log_variance(log_var):
    p = Gaussian(nn.Linear(3, 2), log_var=log_var).double()
    expected = torch.as_tensor(log_var).detach().expand(2).numpy()
    got = p(rand(5, 3)).scale.detach().expand(5, 2)[0]
    np.testing.assert_allclose(got, np.exp(expected / 2), rtol=1e-7)
    assert (p.log_var in set(p.parameters())) == isinstance(log_var, nn.Parameter)


def test_gaussian_log_variance_tensor_retains_float64():
    p = Gaussian(nn.Linear(3, 1).double(), log_var=tensor([math.log(0.1)]))
    assert p(rand(1, 3)).variance.item() == pytest.approx(0.1, rel=1e-12)


def test_gaussian_log_variances_are_clamped_to_their_range():
    scale = Gaussian(Constant(rand(3), tensor([-100.0, 0.0, 100.0])))().scale
    np.testing.assert_allclose(scale.detach(), [math.exp(-7), 1.0, math.exp(7)])


def test_bernoulli_clip_clamps_means_and_zeroes_gradients_outside():
    """The log-probability of values in [0, 1] by hand, with clamped means."""
    logits, x = tensor([-20.0, -1.0, 0.5, 20.0]).requires_grad_(), tensor([0.0, 0.3, 1.0, 0.2])
    p = Bernoulli(nn.Identity(), clip=0.001)
    mean = torch.sigmoid(logits).clamp(0.001, 0.999)
    torch.testing.assert_close(p(logits).mean, mean)
    expected = (x * mean.log() + (1 - x) * (1 - mean).log()).sum()
    torch.testing.assert_close(p.log_prob(x, logits), expected)
    gradient, expected_gradient = (
        torch.autograd.grad(value, logits)[0] for value in (p.log_prob(x, logits), expected)
    )
    torch.testing.assert_close(gradient, expected_gradient)
    assert gradient[0] == gradient[3] == 0
    for clip in (-0.1, 0.5):
        with pytest.raises(ValueError, match=f"clip={clip}"):
            Bernoulli(nn.Identity(), clip)


@pytest.mark.parametrize("sizes", [(2, 3), (4, 1, 2), (1, 1), (3,)])
def test_categorical_log_prob_sums_to_one_by_enumeration(sizes):
    logits = rand(5, sum(sizes))
    p = Categorical(nn.Identity(), sizes)
    codes = tensor(list(itertools.product(*[range(n) for n in sizes])))
    joint = p.log_prob(codes.unsqueeze(1), logits)
    torch.testing.assert_close(joint.exp().sum(0), torch.ones(5).double())
    columns = [u.log_softmax(-1) for u in logits.split(sizes, -1)]
    for row, code in enumerate(codes.long().tolist()):
        expected = sum(u[:, c] for u, c in zip(columns, code, strict=True))
        torch.testing.assert_close(joint[row], expected)
    with engine.seeded_rng(0):
        sample = p(logits).sample((500,))
    assert (sample < torch.tensor(sizes)).all()


def test_categorical_masked_marginal_matches_enumeration():
    sizes, p = (2, 3, 2), Categorical(nn.Identity(), (2, 3, 2))
    logits = rand(1, 7)
    codes = tensor(list(itertools.product(*[range(n) for n in sizes])))
    joint = p.log_prob(codes, logits).exp()
    for mask in all_masks(3):
        for code in codes:
            matches = ((codes == code) | (mask == 0)).all(-1)
            got = p.log_prob(code * mask, logits, mask)
            assert got.item() == pytest.approx(joint[matches].sum().log().item(), abs=1e-12)


def test_categorical_gradients_of_padded_columns():
    logits = rand(2, 5).requires_grad_()
    p = Categorical(nn.Identity(), (2, 3))
    value = p.log_prob(torch.tensor([[1.0, 2.0]]), logits).sum()
    (gradient,) = torch.autograd.grad(value, logits)
    target = tensor([0.0, 1.0, 0.0, 0.0, 1.0])
    probs = torch.cat([u.softmax(-1) for u in logits.detach().split((2, 3), -1)], -1)
    torch.testing.assert_close(gradient, target - probs)


# ---- mixtures and factor analysers


def test_gaussian_mixture_log_likelihood_and_responsibilities():
    means, log_var = tensor([[-1.0], [2.0]]), tensor([[0.25], [2.25]]).log()
    p = Mixture(Gaussian(Constant(means, log_var)), tensor([0.3, 0.7]).log())
    x = tensor([[-1.2], [0.0], [2.5]])
    expected = tensor([-1.426743632, -2.217025801, -1.736634141])
    torch.testing.assert_close(p.log_prob(x).detach(), expected, atol=1e-9, rtol=0)
    assert p.log_prob(x).sum().item() == pytest.approx(-5.380403573985, abs=1e-10)
    x = x.clone().requires_grad_()
    # d log p / dx = -sum_k r_k (x - m_k) / v_k depends on the responsibilities r_k
    (gradient,) = torch.autograd.grad(p.log_prob(x).sum(), x)
    r = tensor([[0.920332257], [0.297381826], [3.112e-11]])
    expected = -(r * (x + 1) / 0.25 + (1 - r) * (x - 2) / 2.25)
    torch.testing.assert_close(gradient, expected.detach(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", ["diagonal", "full", "factor"])
def test_mixture_masked_marginal_matches_scipy(kind):
    p, weights, means, covariances = gaussian_mixture()
    if kind == "full":
        entries = 0.5 * rand(2, 6, seed=4)
        p = Mixture(FullGaussian(Constant(means, entries)), weights.log())
        covariances = p.component().covariance_matrix.detach()
    elif kind == "factor":
        analysers = FactorAnalyser(rand(2, 3, 1, seed=5), means, rand(2, 3, seed=6))
        p = Mixture(analysers, weights.log())
        loading = analysers.loading.detach()
        covariances = loading @ loading.mT + torch.diag_embed(analysers.log_psi.detach().exp())
    x = rand(8, 3, seed=2)
    masks = all_masks(3)
    got = p.log_prob(x, None, masks).detach()
    unmasked = p.log_prob(x).detach()
    for i in range(8):
        observed = masks[i].nonzero().flatten()
        expected = marginal_mixture(weights, means, covariances, x[i], observed)
        assert got[i].item() == pytest.approx(expected, abs=1e-9)
        expected = marginal_mixture(weights, means, covariances, x[i], torch.arange(3))
        assert unmasked[i].item() == pytest.approx(expected, abs=1e-9)


def test_mixture_marginal_matches_numerical_integration():
    p, *_ = gaussian_mixture()
    x = tensor([0.4, 0.0, -0.2])

    def density(value):
        with torch.no_grad():
            return p.log_prob(tensor([0.4, value, -0.2])).exp().item()

    with torch.no_grad():
        got = p.log_prob(x, None, tensor([1.0, 0.0, 1.0])).exp().item()
    assert got == pytest.approx(integrate.quad(density, -20, 20)[0], rel=1e-7)


def test_bernoulli_mixture_marginals_match_enumeration():
    p = Mixture(Bernoulli(Constant(rand(3, 4))), tensor([0.2, 0.5, 0.3]).log())
    x = all_masks(4)
    with torch.no_grad():
        joint = p.log_prob(x).exp()
        assert joint.sum().item() == pytest.approx(1, abs=1e-12)
        for mask in all_masks(4):
            matches = ((x == x[5]) | (mask == 0)).all(-1)
            got = p.log_prob(x[5], None, mask).exp().item()
            assert got == pytest.approx(joint[matches].sum().item(), abs=1e-12)


def test_mixture_with_context_dependent_weights_and_components():
    gate, heads = nn.Linear(2, 3).double(), nn.Linear(2, 6).double()
    shape = nn.Sequential(heads, nn.Unflatten(-1, (3, 2)))
    p = Mixture(Gaussian(shape, log_var=nn.Parameter(torch.zeros(2).double())), gate)
    c, x = rand(5, 2), rand(5, 2, seed=1)
    with torch.no_grad():
        got = p.log_prob(x, c)
        weights, means = gate(c).softmax(-1), shape(c)
    for i in range(5):
        covariances = torch.eye(2).double().expand(3, 2, 2)
        expected = marginal_mixture(weights[i], means[i], covariances, x[i], torch.arange(2))
        assert got[i].item() == pytest.approx(expected, abs=1e-10)


@QUICK
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 50))
def test_factor_analyser_masked_log_prob_matches_scipy(d, q, seed):
    loading, mu, log_psi = rand(d, q, seed=seed), rand(d, seed=seed + 1), rand(d, seed=seed + 2)
    p = FactorAnalyser(loading, mu, log_psi)
    covariance = loading @ loading.T + log_psi.exp().diag()
    x = rand(2**d, d, seed=seed + 3)
    got = p.log_prob(x, None, all_masks(d)).detach()
    for i, mask in enumerate(all_masks(d)):
        observed = mask.nonzero().flatten()
        expected = marginal_mixture(torch.ones(1), [mu], [covariance], x[i], observed)
        assert got[i].item() == pytest.approx(expected, abs=1e-8)


@QUICK
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 50))
def test_factor_analyser_posterior_satisfies_bayes_rule(d, q, seed):
    loading, mu, log_psi = rand(d, q, seed=seed), rand(d, seed=seed + 1), rand(d, seed=seed + 2)
    p = FactorAnalyser(loading, mu, log_psi)
    x, z = rand(6, d, seed=seed + 3), rand(6, q, seed=seed + 4)
    with torch.no_grad():
        log_pz = td.Normal(0.0, 1.0).log_prob(z).sum(-1)
        log_px_z = td.Normal(mu + z @ loading.T, (0.5 * log_psi).exp()).log_prob(x).sum(-1)
        got = p.posterior(x).log_prob(z)
        torch.testing.assert_close(got, log_pz + log_px_z - p.log_prob(x), atol=1e-8, rtol=1e-8)


# ---- composition


def product():
    """Product with Bernoulli, Gaussian, categorical and Gaussian columns."""
    parts = [
        Gaussian(Constant(rand(2), rand(2, seed=1))),
        Bernoulli(Constant(rand(1, seed=2))),
        Categorical(Constant(rand(3, seed=3)), (3,)),
    ]
    return Product(parts, [[3, 1], [0], [2]])


def test_product_log_prob_is_sum_over_parts_for_all_masks():
    p = product()
    x = tensor([[1.0, 0.7, 2.0, -0.4]])
    mu, scale = rand(2).numpy(), np.exp(0.5 * rand(2, seed=1).numpy())
    expected = np.array(
        [
            stats.bernoulli(special.expit(rand(1, seed=2).item())).logpmf(1),
            stats.norm(mu[1], scale[1]).logpdf(0.7),
            special.log_softmax(rand(3, seed=3).numpy())[2],
            stats.norm(mu[0], scale[0]).logpdf(-0.4),
        ]
    )
    masks = all_masks(4)
    got = p.log_prob(x, None, masks).detach()
    np.testing.assert_allclose(got, masks.numpy() @ expected, atol=1e-10)
    assert p.log_prob(x).item() == pytest.approx(expected.sum(), abs=1e-10)


@pytest.mark.parametrize("columns", [[[0, 1], [1], [2]], [[0, 1], [2], [4]], [[0, 1], [2]]])
def test_product_rejects_invalid_column_groups(columns):
    parts = list(product().parts)
    with pytest.raises(ValueError, match="columns="):
        Product(parts, columns)


def test_product_parts_share_the_trunk():
    trunk = MLP(2, (4,), 4)
    parts = [Gaussian(MLP(4, (), heads=(1, 1))), Bernoulli(nn.Linear(4, 2))]
    p = Product(parts, [[1], [0, 2]], trunk).double()
    c, x = rand(5, 2), tensor([[1.0, 0.3, 0.0]]).expand(5, 3)
    h = trunk(c)
    expected = parts[0].log_prob(x[:, 1:2], h) + parts[1].log_prob(x[:, [0, 2]], h)
    torch.testing.assert_close(p.log_prob(x, c), expected)


@pytest.mark.parametrize(
    "p",
    [
        td.Normal(rand(3), rand(3, seed=1).exp()),
        td.Laplace(rand(3), rand(3, seed=1).exp()),
        td.MultivariateNormal(rand(3), torch.diag(tensor([1.0, 2.0, 3.0]))),
        td.Bernoulli(probs=tensor([0.2, 0.5, 0.7])),
        td.Bernoulli(logits=tensor([0.2, 0.5, 0.7])),
        td.Uniform(-torch.ones(3).double(), torch.ones(3).double()),
    ],
    ids=lambda p: type(p).__name__,
)
def test_fixed_conditional_has_the_density_of_its_distribution(p):
    with engine.seeded_rng(0):
        x = p.sample((5,))
    expected = p.log_prob(x)  # first, because torch caches derived parameters
    fixed = Unconditional(p)
    torch.testing.assert_close(fixed().log_prob(x), expected)
    assert all(v.dtype == torch.float32 for v in fixed.float().state_dict().values())
    assert not list(fixed.parameters())


def test_fixed_rejects_distributions_without_tensor_parameters():
    independent = td.Independent(td.Normal(rand(3), torch.ones(3).double()), 1)
    with pytest.raises((TypeError, ValueError, NotImplementedError), match="Independent"):
        Unconditional(independent)


def test_chain_log_prob_is_sum_over_layers_in_both_orders():
    first, second = Bernoulli(nn.Linear(2, 3)), Gaussian(MLP(3, (), heads=(2, 2)))
    p = Chain([first, second], (3, 2)).double()
    c, h1, h2 = rand(5, 2), (rand(5, 3) > 0).double(), rand(5, 2, seed=3)
    expected = first.log_prob(h1, c) + second.log_prob(h2, h1)
    torch.testing.assert_close(p.log_prob(torch.cat([h1, h2], -1), c), expected)
    reversed_chain = Chain([first, second], (3, 2), reverse=True)
    torch.testing.assert_close(reversed_chain.log_prob(torch.cat([h2, h1], -1), c), expected)


def labelled_model():
    """Latent model with linear conditionals that depend on labels, and their weights."""
    weight = rand(2, 5, seed=3)

    def network(fields, columns):
        layer = nn.Linear(len(columns), 2, bias=False)
        with torch.no_grad():
            layer.weight.copy_(weight[:, columns])
        return nn.Sequential(ReadContext(*fields, n_classes=2), layer)

    prior = Gaussian(network(("y",), [3, 4]), 0.0)
    posterior = Gaussian(network(("x", "y"), [0, 1, 2, 3, 4]), -1.0)
    likelihood = Gaussian(nn.Sequential(ReadContext("z", "y", n_classes=2), nn.Linear(4, 3)), 0.5)
    return LatentModel(prior, likelihood, posterior), weight


def test_latent_model_passes_labels_to_all_conditionals():
    model, weight = labelled_model()
    assert reads_context(model.prior)
    assert not reads_context(standard_normal(2))
    x, y = rand(6, 3).float(), torch.tensor([0, 1, 0, 1, 1, 0])
    with torch.no_grad(), engine.seeded_rng(0):
        run = model.run(Batch(x, y), 4)
        sample = model.sample(40_000, y.repeat(40_000)[:40_000])
    code, weight = nn.functional.one_hot(y, 2).float(), weight.float()
    torch.testing.assert_close(run.prior.mean, code @ weight[:, 3:].T)
    torch.testing.assert_close(run.q.mean, torch.cat([x, code], -1) @ weight.T)
    layer = model.likelihood.network[1]
    for i in range(6):
        mean = layer(torch.cat([run.z[:, i], code[i].expand(4, 2)], -1)).detach()
        expected = stats.norm(mean, math.exp(0.25)).logpdf(x[i]).sum(-1)
        np.testing.assert_allclose(run.log_px[:, i], expected, rtol=1e-5)
    for label in (0, 1):
        rows = sample[y.repeat(40_000)[:40_000] == label].double()
        z_mean = weight[:, 3 + label]
        mean = layer(torch.cat([z_mean, torch.eye(2)[label]])).detach()
        assert ((rows.mean(0) - mean).abs() < 4 * rows.std(0) / math.sqrt(len(rows))).all()


def test_one_hot_labels_have_the_dtype_of_the_model():
    model, _ = labelled_model()
    batch = Batch(rand(6, 3), torch.tensor([0, 1, 0, 1, 1, 0]))
    assert model.double().run(batch).log_w.dtype == torch.float64
