"""Models with exact likelihood, compared with closed forms, enumeration and quadrature."""

from __future__ import annotations

import copy
import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats
from torch import nn
from torch.distributions import Normal

from ancestral import Autoencoder, CGMMNRegressor
from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.evaluation.imputation import pseudo_gibbs
from ancestral.evaluation.log_likelihood import ImportanceSum, log_likelihood
from ancestral.models.factor_analysis import FactorAnalyser
from ancestral.models.implicit import AdversarialPair, Generator
from ancestral.models.latent import LatentModel
from ancestral.models.run import LatentRun
from ancestral.nn import MLP, Constant, Slice, calibrate, set_output_bias
from ancestral.objectives import critic_loss, elbo, iwae, log_mean_exp
from ancestral.probability.composite import Chain, Mixture
from ancestral.probability.conditionals import (
    Bernoulli,
    FullGaussian,
    Gaussian,
    Unconditional,
    standard_normal,
)
from ancestral.probability.distributions import kl, log_prob
from ancestral.training import Player, engine, train
from ancestral.training.optim import adam, cosine

LOG_PX = -1.930510308862  # log p(x) of the conjugate model at x = 1.5
QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def linear_gaussian(weight, bias, variance):
    """N(W c + b, diag(variance)) with fixed parameters."""
    weight = tensor(weight)
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.load_state_dict({"weight": weight, "bias": tensor(bias)})
    return Gaussian(layer, nn.Parameter(tensor(variance).log()))


class AffineTril(nn.Module):
    """c -> (A c + b, entries of a constant Cholesky factor with logarithmic diagonal)."""

    def __init__(self, weight, bias, covariance):
        super().__init__()
        tril = torch.linalg.cholesky(covariance)
        d = len(tril)
        tril[range(d), range(d)] = tril.diagonal().log()
        row, column = torch.tril_indices(d, d)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.entries = nn.Parameter(tril[row, column].clone())

    def forward(self, c):
        mu = c @ self.weight.T + self.bias
        return mu, self.entries.expand(*mu.shape[:-1], -1)


def regression(joint_mean, joint_covariance, outputs, inputs):
    """Weight, bias and covariance of the outputs given the inputs of a joint Gaussian."""
    s = joint_covariance
    weight = torch.linalg.solve(s[inputs][:, inputs], s[inputs][:, outputs]).T
    bias = joint_mean[outputs] - weight @ joint_mean[inputs]
    covariance = s[outputs][:, outputs] - weight @ s[inputs][:, outputs]
    return weight, bias, 0.5 * (covariance + covariance.T)


def conjugate(q_mean=0.8, q_variance=0.49):
    """z ~ N(0, 1), x | z ~ N(z, 0.25), and q(z | x) equal for all x."""
    return LatentModel(
        prior=standard_normal(1).double(),
        likelihood=linear_gaussian([[1.0]], [0.0], [0.25]),
        posterior=linear_gaussian([[0.0]], [q_mean], [q_variance]),
    )


def conjugate_batch(n=1):
    return Batch(torch.full((n, 1), 1.5, dtype=torch.float64))


def factor_model():
    """A factor analyser and one observation as (loading, mean, noise variances, x)."""
    loading = tensor([[1.0, 0.5], [0.0, -1.0], [2.0, 0.3]])
    mu, psi, x = tensor([0.1, -0.2, 0.3]), tensor([0.5, 0.2, 1.0]), tensor([1.0, 0.5, -0.7])
    return loading, mu, psi, x


def exact_factor_model():
    """The model of ``factor_model`` as a latent-variable model with its exact posterior."""
    loading, mu, psi, _ = factor_model()
    covariance = torch.linalg.inv(torch.eye(2).double() + loading.T @ (loading / psi[:, None]))
    gain = covariance @ (loading / psi[:, None]).T
    return LatentModel(
        prior=standard_normal(2).double(),
        likelihood=linear_gaussian(loading.tolist(), mu.tolist(), psi.tolist()),
        posterior=FullGaussian(AffineTril(gain, -gain @ mu, covariance)),
    )


def small_vae(n_pixels=6, n_latents=2, batch_norm=False, seed=0):
    with engine.seeded_rng(seed):
        model = LatentModel(
            prior=standard_normal(n_latents),
            likelihood=Bernoulli(MLP(n_latents, (5,), n_pixels, batch_norm=batch_norm)),
            posterior=Gaussian(
                MLP(n_pixels, (5,), heads=(n_latents, n_latents), batch_norm=batch_norm)
            ),
        )
    return model.double()


def bits(n, d, seed=0):
    return tensor(np.random.default_rng(seed).integers(0, 2, (n, d)).tolist())


def log_weights(model, batch, z):
    """Log importance weights at latent vectors z [k, batch, n_latents]."""
    log_px = log_prob(model.decode(z), batch.x, batch.mask)
    return LatentRun(batch, model.encode(batch), model.prior(), z, log_px).log_w


def hermite(n):
    """Gauss-Hermite nodes and weights for expectations under N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def conjugate_bound(k, n_nodes=80):
    """L_K of the conjugate model by a product quadrature rule over the k noise variables."""
    nodes, weights = hermite(n_nodes)
    model, batch = conjugate(), conjugate_batch(n_nodes)
    log_w = log_weights(model, batch, (0.8 + 0.7 * nodes).view(1, -1, 1))[0]
    grids = torch.meshgrid(*[log_w] * k, indexing="ij")
    masses = torch.meshgrid(*[weights] * k, indexing="ij")
    return (log_mean_exp(torch.stack(grids)) * torch.stack(masses).prod(0)).sum().item()


def sampled_bound(k, n_rows, seed=0):
    """Mean and standard error of the objective's L_K over independent rows."""
    with torch.no_grad(), engine.seeded_rng(seed):
        values = log_mean_exp(conjugate().run(conjugate_batch(n_rows), k).log_w)
    return values.mean().item(), values.std().item() / math.sqrt(n_rows)


# ---- variational bounds


def test_kl_of_gaussian_to_standard_normal():
    q, p = Normal(tensor([0.3]), tensor([0.7])), Normal(tensor([0.0]), tensor([1.0]))
    assert kl(q, p).item() == pytest.approx(0.146674943939, abs=1e-11)


@QUICK
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 3)), min_size=1, max_size=5))
def test_kl_of_diagonal_gaussian_matches_closed_form(entries):
    mean, scale = (tensor(list(v)) for v in zip(*entries, strict=True))
    expected = sum(0.5 * (m * m + s * s - 1 - math.log(s * s)) for m, s in entries)
    got = kl(Normal(mean, scale), standard_normal(len(entries)).double()()).item()
    assert got == pytest.approx(expected, abs=1e-9)


def test_elbo_is_log_px_minus_kl_to_the_exact_posterior():
    marginal = stats.norm(0, math.sqrt(1.25)).logpdf(1.5)
    assert marginal == pytest.approx(LOG_PX, abs=1e-11)
    assert conjugate_bound(1) == pytest.approx(-2.607466296583, abs=1e-9)
    q = Normal(tensor([0.8]), tensor([0.7]))
    posterior = Normal(tensor([1.2]), tensor([0.2]).sqrt())
    assert marginal - kl(q, posterior).item() == pytest.approx(-2.607466296583, abs=1e-9)


@pytest.mark.parametrize(("k", "expected"), [(2, -2.155062976), (3, -2.053268088)])
def test_iwae_bound_matches_quadrature(k, expected):
    assert conjugate_bound(k) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("k", "expected", "error", "n_rows"),
    [
        (1, -2.607466296583, 0, 50_000),
        (2, -2.155062976, 0, 50_000),
        (3, -2.053268088, 0, 50_000),
        (5, -1.99271, 3e-4, 50_000),
        (10, -1.95899, 2e-4, 50_000),
        (50, -1.93573, 2e-4, 20_000),
        (500, -1.93104, 2e-4, 4_000),
    ],
)
def test_iwae_bound_by_sampling_matches_quadrature(k, expected, error, n_rows):
    value, standard_error = sampled_bound(k, n_rows)
    assert standard_error < 0.02
    assert abs(value - expected) < 4 * math.hypot(standard_error, error)


def test_iwae_bound_increases_with_k_below_log_px():
    values = [conjugate_bound(1), conjugate_bound(2), conjugate_bound(3)]
    values += [sampled_bound(k, n)[0] for k, n in ((10, 20_000), (50, 20_000))]
    assert values == sorted(set(values))
    assert values[-1] < LOG_PX


def test_iwae_gap_is_chi_squared_over_2k():
    nodes, weights = hermite(80)
    batch = conjugate_batch(80)
    log_w = log_weights(conjugate(), batch, (0.8 + 0.7 * nodes).view(1, -1, 1))[0]
    chi2 = (weights * torch.exp(2 * (log_w - LOG_PX))).sum().item() - 1
    assert chi2 == pytest.approx(0.52307, abs=1e-5)
    with torch.no_grad(), engine.seeded_rng(1):
        bound = log_mean_exp(conjugate().run(conjugate_batch(5000), 500).log_w)
    # the mean weight estimates p(x) without bias: its relative error is a control variate
    excess = torch.expm1(bound - LOG_PX)
    gap = excess - (bound - LOG_PX)
    assert gap.mean().item() == pytest.approx(5.23e-4, abs=4 * gap.std().item() / math.sqrt(5000))
    assert gap.std().item() / math.sqrt(5000) < 2e-5


@pytest.mark.parametrize("k", [1, 2, 7])
def test_importance_weights_of_exact_posterior_are_constant(k):
    log_w = conjugate(1.2, 0.2).run(conjugate_batch(50), k).log_w
    torch.testing.assert_close(log_w, torch.full_like(log_w, LOG_PX), atol=1e-9, rtol=0)


def test_factor_analyser_marginal_and_posterior_match_closed_form():
    loading, mu, psi, x = factor_model()
    analyser = FactorAnalyser(loading, mu, psi.log())
    assert analyser.log_prob(x).item() == pytest.approx(-5.370401987756, abs=1e-10)
    posterior = analyser.posterior(x)
    covariance = tensor([[0.151250860684, -0.036722515492], [-0.036722515492, 0.160661005279]])
    mean = tensor([0.076245122791, -0.458572412210])
    torch.testing.assert_close(posterior.mean, mean, atol=1e-11, rtol=0)
    torch.testing.assert_close(posterior.covariance_matrix, covariance, atol=1e-11, rtol=0)


def test_factor_analysis_importance_weights_equal_the_marginal():
    model, x = exact_factor_model(), torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3)))
    loading, mu, psi, _ = factor_model()
    marginal = stats.multivariate_normal(mu, loading @ loading.T + psi.diag()).logpdf(x)
    log_w = model.run(Batch(x), 30).log_w
    torch.testing.assert_close(log_w, torch.from_numpy(marginal).expand(30, 20), atol=1e-9, rtol=0)
    result = log_likelihood(model, DeviceData(x, dtype=torch.float64), 100)
    np.testing.assert_allclose(result.values, marginal, atol=1e-9)
    np.testing.assert_allclose(result.effective_sample_sizes, 100, rtol=1e-9)
    assert result.monte_carlo_errors.max() < 1e-6


def diagonal_elbo(shift, log_variance):
    """ELBO of the factor model at q = N(posterior mean + shift, diag), by exact quadrature.

    Returns the values with sampled and with analytic KL divergence.
    """
    loading, mu, psi, x = factor_model()
    posterior = FactorAnalyser(loading, mu, psi.log()).posterior(x).mean.detach()
    q = Normal(posterior + shift, torch.exp(0.5 * log_variance))
    nodes, weights = hermite(8)
    noise = torch.cartesian_prod(nodes, nodes)
    mass = torch.cartesian_prod(weights, weights).prod(-1)
    z = (q.loc + q.scale * noise).unsqueeze(1)
    log_px = log_prob(
        linear_gaussian(loading.tolist(), mu.tolist(), psi.tolist())(z), x.unsqueeze(0)
    )
    run = LatentRun(Batch(x.unsqueeze(0)), q, standard_normal(2).double()(), z, log_px)
    analytic = (mass * log_px[:, 0]).sum() - kl(q, run.prior)
    return (mass * run.log_w[:, 0]).sum(), analytic


def test_elbo_of_optimal_diagonal_posterior_and_its_zero_gradient():
    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    log_variance = tensor([1 / 7, 0.151745068285]).log().requires_grad_()
    bound, analytic = diagonal_elbo(shift, log_variance)
    assert bound.item() == pytest.approx(-5.398949316476, abs=1e-9)
    assert analytic.item() == pytest.approx(-5.398949316476, abs=1e-9)
    assert -5.370401987756 - bound.item() == pytest.approx(0.028547328720, abs=1e-9)
    for gradient in torch.autograd.grad(analytic, (shift, log_variance)):
        assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("k", [1, 3, 20])
def test_iwae_bound_with_collapsed_posterior_equals_log_px(k):
    with torch.no_grad():
        model = conjugate(0.0, 1.0)
        model.likelihood = linear_gaussian([[0.0]], [0.4], [0.25])
        bound = iwae(k)(model, conjugate_batch(30))["bound"].item()
    assert -bound == pytest.approx(stats.norm(0.4, 0.5).logpdf(1.5), abs=1e-9)


def test_iwae_gradient_is_the_importance_weighted_sum_of_gradients():
    model, batch, k = small_vae(), Batch(bits(4, 6)), 5
    parameters = list(model.parameters())
    with engine.seeded_rng(0):
        gradients = torch.autograd.grad(-iwae(k)(model, batch)["bound"], parameters)
    with engine.seeded_rng(0):
        log_w = model.run(batch, k).log_w
    weights = torch.softmax(log_w.detach(), 0)
    expected = [torch.zeros_like(p) for p in parameters]
    for i, j in itertools.product(range(k), range(4)):
        parts = torch.autograd.grad(log_w[i, j], parameters, retain_graph=True)
        for total, part in zip(expected, parts, strict=True):
            total += weights[i, j] * part / 4
    torch.testing.assert_close(list(gradients), expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("objective", [iwae(3), elbo(2), elbo(2, "sampled")])
def test_objective_gradients_match_finite_differences(objective):
    model, batch = small_vae(3, 1), Batch(bits(2, 3))
    names, values = zip(*model.named_parameters(), strict=True)
    inputs = tuple(v.detach().clone().requires_grad_() for v in values)

    def loss(*parameters):
        with engine.seeded_rng(0):
            state = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(_Loss(model, objective), state, (batch,))

    assert torch.autograd.gradcheck(loss, inputs)
    assert all(g.abs().max() > 1e-4 for g in torch.autograd.grad(loss(*inputs), inputs))


class _Loss(nn.Module):
    """Loss of an objective as a forward pass, with the parameter names of the model."""

    def __init__(self, model, objective):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        self.loss = lambda batch: sum(objective(model, batch).values())

    def forward(self, batch):
        return self.loss(batch)


def test_score_function_has_mean_zero():
    parameters = tensor([0.8, math.log(0.49)]).requires_grad_()
    n = 100_000
    rows = parameters.expand(n, 2)
    q = Normal(rows[:, :1], torch.exp(0.5 * rows[:, 1:]))
    with engine.seeded_rng(0):
        z = q.sample()
    (scores,) = torch.autograd.grad(log_prob(q, z).sum(), rows)
    error = scores.std(0) / math.sqrt(n)
    assert (scores.mean(0).abs() < 4 * error).all()
    assert (scores.std(0) > 0.1).all()


def test_analytic_and_sampled_elbo_have_equal_means():
    model, batch, n = conjugate(), conjugate_batch(), 100_000
    with torch.no_grad(), engine.seeded_rng(0):
        run = model.run(batch, n)
    analytic = run.log_px[:, 0] - kl(run.q, run.prior)
    sampled = run.log_w[:, 0]
    for values in (analytic, sampled):
        assert abs(values.mean() + 2.607466296583) < 4 * values.std() / math.sqrt(n)
    with torch.no_grad():
        for kind, values in (("analytic", analytic), ("sampled", sampled)):
            objective = elbo(n, kind)
            terms = {name: term(model, run) for name, term in objective.terms.items()}
            assert sum(terms.values()).item() == pytest.approx(-values.mean().item(), abs=1e-9)


class RowwiseGaussian(nn.Module):
    """Parameters of q(z | x) = N(mean, variance), separate for each row of a batch."""

    def __init__(self, mean, variance, n):
        super().__init__()
        self.mean = nn.Parameter(torch.full((n, 1), mean, dtype=torch.float64))
        self.log_var = nn.Parameter(torch.full((n, 1), math.log(variance), dtype=torch.float64))

    def forward(self, x):
        return self.mean, self.log_var


def posterior_gradients(mean, variance, objective, n):
    """Gradients [n, 2] of the loss in q's mean and log-variance, one per sample."""
    model = conjugate()
    model.posterior = Gaussian(rows := RowwiseGaussian(mean, variance, n))
    with engine.seeded_rng(0):
        loss = n * sum(objective(model, conjugate_batch(n)).values())
    return torch.cat(torch.autograd.grad(loss, (rows.mean, rows.log_var)), 1)


def test_path_gradient_is_unbiased_and_vanishes_at_the_exact_posterior():
    n = 3000
    path, analytic = (posterior_gradients(0.8, 0.49, elbo(1, kl), n) for kl in ("path", "analytic"))
    assert path.shape == (n, 2)
    error = torch.sqrt((path.var(0) + analytic.var(0)) / n)
    assert (abs(path.mean(0) - analytic.mean(0)) <= 4 * error).all()
    assert (path.mean(0).abs() > 4 * error).any()
    model, batch = conjugate(), conjugate_batch()
    with torch.no_grad():
        values = [sum(elbo(50_000, kl)(model, batch).values()) for kl in ("path", "analytic")]
    assert values[0].item() == pytest.approx(values[1].item(), abs=0.05)

    # the exact posterior N(0.8 x, 0.2)
    path, sampled = (posterior_gradients(1.2, 0.2, elbo(1, kl), 20) for kl in ("path", "sampled"))
    assert path.abs().max() < 1e-12
    assert sampled.abs().max() > 0.1


def quadrature_log_px(model, x):
    """log p(x) of a model with one latent variable, by adaptive quadrature."""

    def integrand(z):
        with torch.no_grad():
            log_px = log_prob(model.decode(tensor([[z]])), x.unsqueeze(0)).item()
        return math.exp(log_px) * stats.norm.pdf(z)

    return math.log(integrate.quad(integrand, -9, 9, epsabs=1e-13, limit=200)[0])


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_importance_sampled_log_likelihood_matches_quadrature(kind):
    model = small_vae(4, 1, seed=3)
    x = bits(3, 4, seed=1)
    if kind == "gaussian":
        with engine.seeded_rng(1):
            model.likelihood = Gaussian(MLP(1, (6,), 4), log_var=-0.5).double()
            x = torch.randn(3, 4, dtype=torch.float64)
    expected = [quadrature_log_px(model, row) for row in x]
    result = log_likelihood(model, DeviceData(x, dtype=torch.float64), 5000, seed=2)
    assert (result.effective_sample_sizes > 100).all()
    assert (np.abs(result.values - expected) < 4 * result.monte_carlo_errors).all()


def two_layers():
    """h2 ~ N(0, 1), h1 | h2 in two dimensions, x | h1 in three dimensions.

    Returns the prior, the likelihood, and mean and covariance of the joint Gaussian (h1, h2, x).
    """
    w1, b1, v1 = [[1.0], [-0.5]], [0.2, 0.1], [0.6, 0.3]
    w0, b0, v0 = [[1.0, 0.4], [0.0, 1.5], [-0.7, 0.2]], [0.1, 0.0, -0.3], [0.5, 0.2, 0.8]
    a1, a0 = tensor(w1), tensor(w0)
    s22 = torch.ones(1, 1).double()
    s11 = a1 @ a1.T + tensor(v1).diag()
    s12, s00 = a1, a0 @ s11 @ a0.T + tensor(v0).diag()
    mean1 = tensor(b1)
    mean = torch.cat([mean1, torch.zeros(1).double(), a0 @ mean1 + tensor(b0)])
    covariance = torch.cat(
        [
            torch.cat([s11, s12, s11 @ a0.T], 1),
            torch.cat([s12.T, s22, s12.T @ a0.T], 1),
            torch.cat([a0 @ s11, a0 @ s12, s00], 1),
        ]
    )
    prior = Chain([standard_normal(1).double(), linear_gaussian(w1, b1, v1)], (1, 2), reverse=True)
    likelihood = linear_gaussian(w0, b0, v0)
    likelihood.network = nn.Sequential(Slice(0, 2), likelihood.network)
    return prior, likelihood, mean, covariance


@pytest.mark.parametrize("exact", [True, False])
def test_two_stochastic_layers_match_the_exact_gaussian_marginal(exact):
    prior, likelihood, mean, covariance = two_layers()
    bottom = regression(mean, covariance, [0, 1], [3, 4, 5])
    top = regression(mean, covariance, [2], [0, 1])
    scale = 1.0 if exact else 1.3
    posterior = Chain(
        [FullGaussian(AffineTril(*bottom[:2], scale * bottom[2])), FullGaussian(AffineTril(*top))],
        (2, 1),
    )
    model = LatentModel(prior, likelihood, posterior)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3)))
    marginal = stats.multivariate_normal(mean[3:], covariance[3:, 3:]).logpdf(x)
    if exact:
        log_w = model.run(Batch(x), 20).log_w
        torch.testing.assert_close(
            log_w, torch.from_numpy(marginal).expand(20, 6), atol=1e-9, rtol=0
        )
    else:
        result = log_likelihood(model, DeviceData(x, dtype=torch.float64), 4000)
        assert (result.monte_carlo_errors > 1e-4).all()
        assert (np.abs(result.values - marginal) < 4 * result.monte_carlo_errors + 1e-6).all()


@pytest.mark.parametrize("d", [3, 8])
def test_bernoulli_vae_probabilities_sum_to_one(d):
    model = small_vae(d, 1, seed=d)
    all_x = tensor(list(itertools.product([0.0, 1.0], repeat=d)))
    nodes, weights = hermite(40)
    with torch.no_grad():
        log_px_z = log_prob(model.decode(nodes.view(-1, 1, 1)), all_x)
    torch.testing.assert_close(log_px_z.exp().sum(1), torch.ones(40).double(), atol=1e-9, rtol=0)
    px = (weights.unsqueeze(1) * log_px_z.exp()).sum(0)
    assert px.sum().item() == pytest.approx(1, abs=1e-9)
    x = all_x[2 ** (d - 1)]
    assert px[2 ** (d - 1)].log().item() == pytest.approx(quadrature_log_px(model, x), abs=1e-6)


# ---- adversarial critic


@pytest.mark.parametrize("m", [0.5, 2.0])
def test_logistic_critic_converges_to_the_optimal_logit_of_two_gaussians(m):
    """For data N(0, 1) and samples N(m, 1), the logit is m^2 / 2 - m x within standard errors."""
    n, shift = 20_000, linear_gaussian([[1.0]], [m], [1.0]).network
    with engine.seeded_rng(0):
        data = DeviceData(torch.randn(n, 1, dtype=torch.float64), dtype=torch.float64)
        noise = standard_normal(1).double()
        critic = nn.Linear(1, 1).double()
    game = AdversarialPair(Generator(shift, noise), critic)
    player = Player(critic, critic_loss(), adam(cosine(0.05)))
    train(game, player, data, max_epochs=8, batch_size=200)
    logit = torch.cat([critic.bias, critic.weight[0]]).detach()
    x = np.random.default_rng(0).normal([[0.0], [m]], size=(2, n))
    p = special.expit(m * m / 2 - m * x)
    columns = np.stack([np.ones_like(x), x])
    information = np.einsum("ink,jnk,nk->ij", columns, columns, p * (1 - p))
    error = np.sqrt(np.linalg.inv(information).diagonal())
    assert (np.abs(logit.numpy() - [m * m / 2, -m]) < 4 * error).all()


# ---- classical models


def test_em_step_of_gaussian_mixture_matches_gradient_identity():
    """An EM step is a matrix times the gradient of the log-likelihood (Xu and Jordan, 1996)."""
    x = tensor([[-1.2], [0.0], [2.5]])
    logits = nn.Parameter(tensor([0.3, 0.7]).log())
    components = Constant(tensor([[-1.0], [2.0]]), tensor([[0.25], [2.25]]).log())
    before = Mixture(Gaussian(components), logits)
    means, log_var = components.values
    gradients = torch.autograd.grad(before.log_prob(x).sum(), (logits, means, log_var))
    with torch.no_grad():
        mass = 3 * logits.softmax(0) + gradients[0]  # responsibilities, summed over rows
        step = log_var.exp() * gradients[1] / mass[:, None]
        moment = log_var.exp() * (1 + 2 * gradients[2] / mass[:, None])  # about the old means
        updated = mass / 3, means + step, moment - step.square()
    expected = (
        tensor([0.405904694497, 0.594095305503]),
        tensor([[-0.906944186341], [1.349053306419]]),
        tensor([[0.265785266708], [1.751155351997]]),
    )
    for value, expected_value in zip(updated, expected, strict=True):
        torch.testing.assert_close(value, expected_value, atol=1e-11, rtol=0)
    after = Mixture(Gaussian(Constant(updated[1], updated[2].log())), updated[0].log())
    assert after.log_prob(x).sum().item() == pytest.approx(-5.070320798876, abs=1e-10)


def belief_network():
    """Prior and likelihood of a sigmoid belief network with 3 hidden and 4 visible units."""
    weight = tensor([[1, -2, 0.5], [0.3, 0.8, -1], [0, 1.5, 2], [-1, 0, 1]])
    layer = nn.Linear(3, 4).double()
    layer.load_state_dict({"weight": weight, "bias": tensor([0.1, -0.2, 0.3, 0.0])})
    prior = Unconditional(torch.distributions.Bernoulli(logits=tensor([0.2, -0.4, 0.1])))
    return prior, Bernoulli(layer)


def test_sigmoid_belief_network_marginal_and_posterior_by_enumeration():
    prior, likelihood = belief_network()
    h = tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    x = tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    joint = prior.log_prob(h).unsqueeze(1) + likelihood.log_prob(x, h.unsqueeze(1))
    log_px = joint.logsumexp(0)
    assert log_px.exp().sum().item() == pytest.approx(1, abs=1e-12)
    index = 0b1011
    assert log_px[index].item() == pytest.approx(-1.995020870374, abs=1e-11)
    expected = [0.078037339, 0.342971652, 0.012481229, 0.059051314]
    expected += [0.063299438, 0.341544544, 0.014860078, 0.087754405]
    posterior = (joint[:, index] - log_px[index]).exp()
    torch.testing.assert_close(posterior, tensor(expected), atol=1e-9, rtol=0)


def em_step(p, x):
    """One EM step of probabilistic PCA with the exact posterior."""
    z, centred = p.posterior(x), x - x.mean(0)
    moment = z.mean.T @ z.mean + z.covariance_matrix.sum(0)
    loading = torch.linalg.solve(moment, z.mean.T @ centred).T
    explained = (loading * (centred.T @ z.mean)).sum()
    variance = (centred.square().sum() - explained) / centred.numel()
    return FactorAnalyser(loading, x.mean(0), variance.log().expand(len(loading)))


def test_probabilistic_pca_em_converges_to_the_closed_form():
    n, d, q = 200, 4, 2
    with engine.seeded_rng(0), torch.no_grad():
        x = torch.randn(n, d).double() @ torch.randn(d, d).double() + 3
        em = FactorAnalyser(torch.randn(d, q).double(), x.mean(0), torch.zeros(d).double())
        values = [em.log_prob(x).sum().item()]
        for _ in range(400):
            em = em_step(em, x)
            values.append(em.log_prob(x).sum().item())
    eigenvalues, u = (part.flip(-1) for part in torch.linalg.eigh(torch.cov(x.T, correction=0)))
    leading, variance = eigenvalues[:q], eigenvalues[q:].mean()
    loading = u[:, :q] * (leading - variance).sqrt()
    best = FactorAnalyser(loading, x.mean(0), variance.log().expand(d))
    parts = d * math.log(2 * math.pi) + leading.log().sum() + (d - q) * variance.log() + d
    assert best.log_prob(x).sum().item() == pytest.approx(-n / 2 * parts.item(), abs=1e-8)
    gradients = torch.autograd.grad(best.log_prob(x).mean(), list(best.parameters()))
    norms = gradients[0].abs().max(), gradients[1].abs().max(), gradients[2].sum().abs()
    assert max(norms) < 1e-12
    assert np.diff(values).min() > -1e-9  # EM does not decrease the likelihood
    assert values[-1] == pytest.approx(-n / 2 * parts.item(), abs=1e-6)
    torch.testing.assert_close(em.loading @ em.loading.T, loading @ loading.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(em.log_psi[0].exp(), variance, atol=1e-5, rtol=0)


def test_linear_denoising_autoencoder_matches_closed_form_shrinkage():
    """Shrinkage t^2 / (t^2 + s^2) and error t^2 s^2 / (t^2 + s^2) per principal direction."""
    s, rng = 0.8, np.random.default_rng(0)
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    x = rng.normal(size=(4000, 2)) * [1.3, 0.4] @ rotation.T
    scale, centred = x.std(0), x - x.mean(0)
    covariance = np.cov((centred / scale).T, ddof=0)
    kwargs = {
        "n_latents": 2,
        "hidden": (),
        "code_activation": "linear",
        "noise_std": (s,),
        "random_state": 0,
    }
    coder = Autoencoder(**kwargs, learning_rate=0.02, max_epochs=30).fit(x)
    got = np.linalg.lstsq(centred / scale, (coder.reconstruct(x) - x.mean(0)) / scale)[0]
    t2, u = np.linalg.eigh(covariance)
    np.testing.assert_allclose(got, u * (t2 / (t2 + s**2)) @ u.T, atol=0.02)
    minimum = (t2 * s**2 / (t2 + s**2)).sum()
    loss = coder.history_[-1]["reconstruction"]
    assert loss == pytest.approx(minimum / 2 + math.log(2 * math.pi), rel=0.02)


# ---- distillation of a Bayesian predictor


def test_cgmmn_regressor_distils_bayesian_linear_regression():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 15)
    y = 0.5 - 1.5 * x + 0.3 * rng.normal(size=15)

    def features(x):
        return np.stack([np.ones_like(x), x], -1)

    a = features(x)
    covariance = np.linalg.inv(np.eye(2) + a.T @ a / 0.09)
    weights = covariance @ a.T @ y / 0.09
    inputs = rng.uniform(-1, 1, 4000)
    sampled_weights = rng.multivariate_normal(weights, covariance, 4000)
    targets = (features(inputs) * sampled_weights).sum(1) + 0.3 * rng.normal(size=4000)
    kwargs = {
        "hidden": (),
        "n_noise": 1,
        "noise_distribution": "normal",
        "n_draws": 2000,
        "random_state": 0,
    }
    student = CGMMNRegressor(**kwargs, max_epochs=20, learning_rate=0.02)
    student.fit(inputs[:, None], targets)
    x_test = np.array([-0.8, 0.0, 0.8])
    mean, std = student.predict(x_test[:, None], return_std=True)
    expected_mean = features(x_test) @ weights
    variance = 0.09 + np.einsum("ni,ij,nj->n", features(x_test), covariance, features(x_test))
    assert (np.abs(mean - expected_mean) < 0.1 * np.sqrt(variance)).all()
    teacher = list(zip(expected_mean, variance, strict=True))
    reference = gaussian_mmd2(*teacher[:2], 1.0)  # between predictions at two inputs
    for p, q in zip(teacher, zip(mean, std**2, strict=True), strict=True):
        assert gaussian_mmd2(p, q, 1.0) < 0.01 * reference


def gaussian_mmd2(p, q, g):
    """Squared MMD of two Gaussians (mean, variance) with kernel exp(-(a - b)^2 / (2 g))."""

    def k(p, q):
        total = p[1] + q[1] + g
        return math.sqrt(g / total) * math.exp(-0.5 * (p[0] - q[0]) ** 2 / total)

    return k(p, p) + k(q, q) - 2 * k(p, q)


# ---- evaluation and reproducibility


@QUICK
@given(st.integers(1, 40), st.sampled_from([1.0, 50.0, 2000.0]), st.integers(0, 100))
def test_log_mean_exp_matches_mpmath(k, spread, seed):
    log_w = torch.from_numpy(np.random.default_rng(seed).normal(-900, spread, (k, 2)))
    with mpmath.workdps(50):
        expected = [
            float(mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(v)) for v in column) / k))
            for column in log_w.T.tolist()
        ]
    np.testing.assert_allclose(log_mean_exp(log_w), expected, rtol=1e-12)


def test_log_likelihood_is_invariant_to_permutation_of_pixels():
    model, x = small_vae(), bits(8, 6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    set_output_bias(model.likelihood, torch.linspace(-1, 1, 6))
    permuted = copy.deepcopy(model)
    with torch.no_grad():
        input_layer, output_layer = permuted.posterior.network[0], permuted.likelihood.network[-1]
        input_layer.weight.copy_(input_layer.weight[:, order])
        output_layer.weight.copy_(output_layer.weight[order])
        output_layer.bias.copy_(output_layer.bias[order])
    values = log_likelihood(model, DeviceData(x, dtype=torch.float64), 50).values
    permuted_values = log_likelihood(
        permuted, DeviceData(x[:, order], dtype=torch.float64), 50
    ).values
    np.testing.assert_allclose(permuted_values, values, atol=1e-10)
    mismatched = log_likelihood(model, DeviceData(x[:, order], dtype=torch.float64), 50).values
    assert np.abs(mismatched - values).max() > 1e-3


def train_small_vae(seed):
    """State and bound curve of a small VAE with fixed initialisation, trained with ``seed``."""
    with engine.seeded_rng(5):
        model = small_vae(batch_norm=True)
    data = DeviceData(bits(50, 6), dtype=torch.float64)
    history = train(
        model, Player(model, iwae(3), adam(1e-2)), data, max_epochs=3, batch_size=20,
        random_state=seed,
    )  # fmt: skip
    return model.state_dict(), history.curve("bound")


def test_training_and_evaluation_are_bitwise_reproducible_for_a_seed():
    state, curve = train_small_vae(1)
    repeated_state, repeated_curve = train_small_vae(1)
    other_state, _ = train_small_vae(2)
    assert all(torch.equal(state[k], repeated_state[k]) for k in state)
    assert curve == repeated_curve
    assert any(not torch.equal(state[k], other_state[k]) for k in state)
    model, data = small_vae(), DeviceData(bits(5, 6), dtype=torch.float64)
    first, second = (log_likelihood(model, data, 20, seed=3).values for _ in range(2))
    assert (first == second).all()
    assert (first != log_likelihood(model, data, 20, seed=4).values).all()


def test_evaluation_changes_neither_parameters_nor_buffers():
    model, x = small_vae(batch_norm=True), bits(30, 6)
    calibrate(model, lambda: model.run(Batch(x)))
    before = copy.deepcopy(model.state_dict())
    log_likelihood(
        model, DeviceData(x, dtype=torch.float64), 30, rows_per_chunk=7, samples_per_chunk=9
    )
    mask = bits(30, 6, seed=1)
    pseudo_gibbs(model, x, mask, torch.zeros_like(x), n_iter=3)
    model.sample(5)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


class RecordingModel(LatentModel):
    """Latent-variable model that records the log-weights of all runs."""

    def run(self, batch, k=1):
        run = super().run(batch, k)
        self.log_w = [*getattr(self, "log_w", []), run.log_w]
        return run


@pytest.mark.parametrize(("n_samples", "chunk"), [(50, 7), (50, 50), (3, 100)])
def test_chunked_log_likelihood_equals_unchunked(n_samples, chunk):
    model, x = small_vae(), bits(5, 6)
    recorder = RecordingModel(model.prior, model.likelihood, model.posterior)
    data = DeviceData(x, dtype=torch.float64)
    result = log_likelihood(recorder, data, n_samples, samples_per_chunk=chunk)
    log_w = torch.cat(recorder.log_w)
    assert len(log_w) == n_samples
    np.testing.assert_allclose(result.values, log_mean_exp(log_w), atol=1e-12)
    total = ImportanceSum(5)
    for part in log_w.split(4):
        total.add(part)
    np.testing.assert_allclose(total.log_mean(), result.values, atol=1e-12)
