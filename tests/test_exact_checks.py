"""Models whose likelihood is known exactly, against the numbers worked out for them by hand."""

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

from ancestral import Autoencoder, CGMMNRegressor, engine
from ancestral.conditional import (
    Bernoulli,
    Chain,
    FactorAnalyser,
    Fixed,
    FullGaussian,
    Gaussian,
    Mixture,
    standard_normal,
)
from ancestral.data import Batch, Data
from ancestral.distributions import kl, log_prob
from ancestral.evaluate import ImportanceSum, log_likelihood
from ancestral.impute import pseudo_gibbs
from ancestral.models import Game, Generator, LatentModel, Run
from ancestral.networks import MLP, Constant, Take, calibrate, set_output_bias
from ancestral.objectives import critic_loss, elbo, iwae, log_mean_exp
from ancestral.optim import adam, cosine
from ancestral.train import Player, train

LOG_PX = -1.930510308862  # of the conjugate model at x = 1.5
QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def line(weight, bias, variance):
    """N(W c + b, diag(variance)) with everything fixed."""
    weight = tensor(weight)
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.load_state_dict({"weight": weight, "bias": tensor(bias)})
    return Gaussian(layer, nn.Parameter(tensor(variance).log()))


class AffineTril(nn.Module):
    """c -> (A c + b, the rows of a constant Cholesky factor, its diagonal logged)."""

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
    """z ~ N(0, 1), x | z ~ N(z, 0.25), q(z | x) the same for every x."""
    return LatentModel(
        prior=standard_normal(1).double(),
        likelihood=line([[1.0]], [0.0], [0.25]),
        posterior=line([[0.0]], [q_mean], [q_variance]),
    )


def conjugate_batch(n=1):
    return Batch(torch.full((n, 1), 1.5, dtype=torch.float64))


def factor_model():
    """The factor analyser of the checks as (loading, mean, noise variances, x)."""
    loading = tensor([[1.0, 0.5], [0.0, -1.0], [2.0, 0.3]])
    mu, psi, x = tensor([0.1, -0.2, 0.3]), tensor([0.5, 0.2, 1.0]), tensor([1.0, 0.5, -0.7])
    return loading, mu, psi, x


def exact_factor_model():
    """The same as a latent model with its exact posterior."""
    loading, mu, psi, _ = factor_model()
    covariance = torch.linalg.inv(torch.eye(2).double() + loading.T @ (loading / psi[:, None]))
    gain = covariance @ (loading / psi[:, None]).T
    return LatentModel(
        prior=standard_normal(2).double(),
        likelihood=line(loading.tolist(), mu.tolist(), psi.tolist()),
        posterior=FullGaussian(AffineTril(gain, -gain @ mu, covariance)),
    )


def small_vae(n_pixels=6, n_latents=2, batch_norm=False, seed=0):
    with engine.seeded(seed):
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
    """Log importance weights at given latent vectors [k, batch, n_latents]."""
    log_px = log_prob(model.decode(z), batch.x, batch.mask)
    return Run(batch, model.encode(batch), model.prior(), z, log_px).log_w


def hermite(n):
    """Nodes and weights for the expectation under N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def conjugate_bound(k, n_nodes=80):
    """L_K of the conjugate model by a product rule over the k noises."""
    nodes, weights = hermite(n_nodes)
    model, batch = conjugate(), conjugate_batch(n_nodes)
    log_w = log_weights(model, batch, (0.8 + 0.7 * nodes).view(1, -1, 1))[0]
    total = 0.0
    grids = torch.meshgrid(*[log_w] * k, indexing="ij")
    masses = torch.meshgrid(*[weights] * k, indexing="ij")
    total = log_mean_exp(torch.stack(grids)) * torch.stack(masses).prod(0)
    return total.sum().item()


def sampled_bound(k, n_rows, seed=0):
    """Mean and standard error of the objective's L_K over independent rows."""
    with torch.no_grad(), engine.seeded(seed):
        values = log_mean_exp(conjugate().run(conjugate_batch(n_rows), k).log_w)
    return values.mean().item(), values.std().item() / math.sqrt(n_rows)


# ---- A: bounds


def test_a1_kl_to_the_standard_normal():
    q, p = Normal(tensor([0.3]), tensor([0.7])), Normal(tensor([0.0]), tensor([1.0]))
    assert kl(q, p).item() == pytest.approx(0.146674943939, abs=1e-11)


@QUICK
@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 3)), min_size=1, max_size=5))
def test_a1_kl_general_form(entries):
    mean, scale = (tensor(list(v)) for v in zip(*entries, strict=True))
    expected = sum(0.5 * (m * m + s * s - 1 - math.log(s * s)) for m, s in entries)
    got = kl(Normal(mean, scale), standard_normal(len(entries)).double()()).item()
    assert got == pytest.approx(expected, abs=1e-9)


def test_a2_log_px_and_elbo_by_both_routes():
    marginal = stats.norm(0, math.sqrt(1.25)).logpdf(1.5)
    assert marginal == pytest.approx(LOG_PX, abs=1e-11)
    assert conjugate_bound(1) == pytest.approx(-2.607466296583, abs=1e-9)
    q = Normal(tensor([0.8]), tensor([0.7]))
    posterior = Normal(tensor([1.2]), tensor([0.2]).sqrt())
    assert marginal - kl(q, posterior).item() == pytest.approx(-2.607466296583, abs=1e-9)


@pytest.mark.parametrize(("k", "expected"), [(2, -2.155062976), (3, -2.053268088)])
def test_a2_multi_sample_bounds_by_quadrature(k, expected):
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
def test_a2_multi_sample_bounds_by_sampling(k, expected, error, n_rows):
    value, standard_error = sampled_bound(k, n_rows)
    assert standard_error < 0.02
    assert abs(value - expected) < 4 * math.hypot(standard_error, error)


def test_a2_bounds_rise_strictly_to_log_px():
    values = [conjugate_bound(1), conjugate_bound(2), conjugate_bound(3)]
    values += [sampled_bound(k, n)[0] for k, n in ((10, 20_000), (50, 20_000))]
    assert values == sorted(set(values))
    assert values[-1] < LOG_PX


def test_a2_gap_falls_as_chi_squared_over_2k():
    nodes, weights = hermite(80)
    batch = conjugate_batch(80)
    log_w = log_weights(conjugate(), batch, (0.8 + 0.7 * nodes).view(1, -1, 1))[0]
    chi2 = (weights * torch.exp(2 * (log_w - LOG_PX))).sum().item() - 1
    assert chi2 == pytest.approx(0.52307, abs=1e-5)
    with torch.no_grad(), engine.seeded(1):
        bound = log_mean_exp(conjugate().run(conjugate_batch(5000), 500).log_w)
    # the mean weight is p(x) on average: less its excess, the gap has hardly any variance
    excess = torch.expm1(bound - LOG_PX)
    gap = excess - (bound - LOG_PX)
    assert gap.mean().item() == pytest.approx(5.23e-4, abs=4 * gap.std().item() / math.sqrt(5000))
    assert gap.std().item() / math.sqrt(5000) < 2e-5


@pytest.mark.parametrize("k", [1, 2, 7])
def test_a2_exact_posterior_has_no_variance(k):
    log_w = conjugate(1.2, 0.2).run(conjugate_batch(50), k).log_w
    torch.testing.assert_close(log_w, torch.full_like(log_w, LOG_PX), atol=1e-9, rtol=0)


def test_a3_factor_analyser_marginal_and_posterior():
    loading, mu, psi, x = factor_model()
    analyser = FactorAnalyser(loading, mu, psi.log())
    assert analyser.log_prob(x).item() == pytest.approx(-5.370401987756, abs=1e-10)
    posterior = analyser.posterior(x)
    covariance = tensor([[0.151250860684, -0.036722515492], [-0.036722515492, 0.160661005279]])
    mean = tensor([0.076245122791, -0.458572412210])
    torch.testing.assert_close(posterior.mean, mean, atol=1e-11, rtol=0)
    torch.testing.assert_close(posterior.covariance_matrix, covariance, atol=1e-11, rtol=0)


def test_a3_exact_posterior_makes_every_weight_the_marginal():
    model, x = exact_factor_model(), torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3)))
    loading, mu, psi, _ = factor_model()
    marginal = stats.multivariate_normal(mu, loading @ loading.T + psi.diag()).logpdf(x)
    log_w = model.run(Batch(x), 30).log_w
    torch.testing.assert_close(log_w, torch.from_numpy(marginal).expand(30, 20), atol=1e-9, rtol=0)
    result = log_likelihood(model, Data(x, dtype=torch.float64), 100)
    np.testing.assert_allclose(result.values, marginal, atol=1e-9)
    np.testing.assert_allclose(result.effective_sample_sizes, 100, rtol=1e-9)
    assert result.monte_carlo_errors.max() < 1e-6


def best_diagonal_bound(shift, log_variance):
    """ELBO of the factor model at q = N(posterior mean + shift, diag), by an exact product rule."""
    loading, mu, psi, x = factor_model()
    posterior = FactorAnalyser(loading, mu, psi.log()).posterior(x).mean.detach()
    q = Normal(posterior + shift, torch.exp(0.5 * log_variance))
    nodes, weights = hermite(8)
    noise = torch.cartesian_prod(nodes, nodes)
    mass = torch.cartesian_prod(weights, weights).prod(-1)
    z = (q.loc + q.scale * noise).unsqueeze(1)
    log_px = log_prob(line(loading.tolist(), mu.tolist(), psi.tolist())(z), x.unsqueeze(0))
    run = Run(Batch(x.unsqueeze(0)), q, standard_normal(2).double()(), z, log_px)
    analytic = (mass * log_px[:, 0]).sum() - kl(q, run.prior)
    return (mass * run.log_w[:, 0]).sum(), analytic


def test_a3_best_diagonal_posterior():
    shift = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    log_variance = tensor([1 / 7, 0.151745068285]).log().requires_grad_()
    bound, analytic = best_diagonal_bound(shift, log_variance)
    assert bound.item() == pytest.approx(-5.398949316476, abs=1e-9)
    assert analytic.item() == pytest.approx(-5.398949316476, abs=1e-9)
    assert -5.370401987756 - bound.item() == pytest.approx(0.028547328720, abs=1e-9)
    for gradient in torch.autograd.grad(analytic, (shift, log_variance)):
        assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("k", [1, 3, 20])
def test_a4_posterior_collapse(k):
    with torch.no_grad():
        model = conjugate(0.0, 1.0)
        model.likelihood = line([[0.0]], [0.4], [0.25])
        bound = iwae(k)(model, conjugate_batch(30))["bound"].item()
    assert -bound == pytest.approx(stats.norm(0.4, 0.5).logpdf(1.5), abs=1e-9)


def test_a5_gradient_of_the_bound_is_the_weighted_sum_of_gradients():
    model, batch, k = small_vae(), Batch(bits(4, 6)), 5
    parameters = list(model.parameters())
    with engine.seeded(0):
        gradients = torch.autograd.grad(-iwae(k)(model, batch)["bound"], parameters)
    with engine.seeded(0):
        log_w = model.run(batch, k).log_w
    weights = torch.softmax(log_w.detach(), 0)
    expected = [torch.zeros_like(p) for p in parameters]
    for i, j in itertools.product(range(k), range(4)):
        parts = torch.autograd.grad(log_w[i, j], parameters, retain_graph=True)
        for total, part in zip(expected, parts, strict=True):
            total += weights[i, j] * part / 4
    torch.testing.assert_close(list(gradients), expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("objective", [iwae(3), elbo(2), elbo(2, "sampled")])
def test_a5_gradients_by_finite_differences(objective):
    model, batch = small_vae(3, 1), Batch(bits(2, 3))
    names, values = zip(*model.named_parameters(), strict=True)
    inputs = tuple(v.detach().clone().requires_grad_() for v in values)

    def loss(*parameters):
        with engine.seeded(0):
            state = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(_Loss(model, objective), state, (batch,))

    assert torch.autograd.gradcheck(loss, inputs)
    assert all(g.abs().max() > 1e-4 for g in torch.autograd.grad(loss(*inputs), inputs))


class _Loss(nn.Module):
    """The loss of an objective as a forward pass, its parameters named as the model's are."""

    def __init__(self, model, objective):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        self.loss = lambda batch: sum(objective(model, batch).values())

    def forward(self, batch):
        return self.loss(batch)


def test_a5_score_has_mean_zero():
    parameters = tensor([0.8, math.log(0.49)]).requires_grad_()
    n = 100_000
    rows = parameters.expand(n, 2)
    q = Normal(rows[:, :1], torch.exp(0.5 * rows[:, 1:]))
    with engine.seeded(0):
        z = q.sample()
    (scores,) = torch.autograd.grad(log_prob(q, z).sum(), rows)
    error = scores.std(0) / math.sqrt(n)
    assert (scores.mean(0).abs() < 4 * error).all()
    assert (scores.std(0) > 0.1).all()


def test_a6_estimators_of_the_elbo_have_equal_means():
    model, batch, n = conjugate(), conjugate_batch(), 100_000
    with torch.no_grad(), engine.seeded(0):
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


class EachRow(nn.Module):
    """q(z | x) = N(mean, variance), with parameters of its own for every row of a batch."""

    def __init__(self, mean, variance, n):
        super().__init__()
        self.mean = nn.Parameter(torch.full((n, 1), mean, dtype=torch.float64))
        self.log_var = nn.Parameter(torch.full((n, 1), math.log(variance), dtype=torch.float64))

    def forward(self, x):
        return self.mean, self.log_var


def gradient_for_q(mean, variance, objective, n):
    """Gradients of the loss in q's mean and log-variance, one for each of n draws."""
    model = conjugate()
    model.posterior = Gaussian(rows := EachRow(mean, variance, n))
    with engine.seeded(0):
        loss = n * sum(objective(model, conjugate_batch(n)).values())
    return torch.cat(torch.autograd.grad(loss, (rows.mean, rows.log_var)), 1)


def test_a6_the_path_gradient_has_the_same_mean_and_vanishes_at_the_posterior():
    n = 3000
    path, plain = (gradient_for_q(0.8, 0.49, elbo(1, kl), n) for kl in ("path", "analytic"))
    assert path.shape == (n, 2)
    error = torch.sqrt((path.var(0) + plain.var(0)) / n)
    assert (abs(path.mean(0) - plain.mean(0)) <= 4 * error).all()
    assert (path.mean(0).abs() > 4 * error).any()
    model, batch = conjugate(), conjugate_batch()
    with torch.no_grad():
        values = [sum(elbo(50_000, kl)(model, batch).values()) for kl in ("path", "analytic")]
    assert values[0].item() == pytest.approx(values[1].item(), abs=0.05)

    # the exact posterior N(0.8 x, 0.2)
    still, noisy = (gradient_for_q(1.2, 0.2, elbo(1, kl), 20) for kl in ("path", "sampled"))
    assert still.abs().max() < 1e-12
    assert noisy.abs().max() > 0.1


def quadrature_log_px(model, x):
    """log p(x) of a model with one latent variable, by adaptive quadrature."""

    def integrand(z):
        with torch.no_grad():
            log_px = log_prob(model.decode(tensor([[z]])), x.unsqueeze(0)).item()
        return math.exp(log_px) * stats.norm.pdf(z)

    return math.log(integrate.quad(integrand, -9, 9, epsabs=1e-13, limit=200)[0])


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_a7_importance_sampling_against_quadrature(kind):
    model = small_vae(4, 1, seed=3)
    x = bits(3, 4, seed=1)
    if kind == "gaussian":
        with engine.seeded(1):
            model.likelihood = Gaussian(MLP(1, (6,), 4), log_var=-0.5).double()
            x = torch.randn(3, 4, dtype=torch.float64)
    expected = [quadrature_log_px(model, row) for row in x]
    result = log_likelihood(model, Data(x, dtype=torch.float64), 5000, seed=2)
    assert (result.effective_sample_sizes > 100).all()
    assert (np.abs(result.values - expected) < 4 * result.monte_carlo_errors).all()


def two_layers():
    """h2 ~ N(0, 1), h1 | h2 in two dimensions, x | h1 in three; and the joint Gaussian of all."""
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
    prior = Chain([standard_normal(1).double(), line(w1, b1, v1)], (1, 2), reverse=True)
    likelihood = line(w0, b0, v0)
    likelihood.network = nn.Sequential(Take(0, 2), likelihood.network)
    return prior, likelihood, mean, covariance


@pytest.mark.parametrize("exact", [True, False])
def test_a9_two_stochastic_layers_against_the_exact_marginal(exact):
    prior, likelihood, mean, covariance = two_layers()
    bottom = regression(mean, covariance, [0, 1], [3, 4, 5])
    top = regression(mean, covariance, [2], [0, 1])
    spread = 1.0 if exact else 1.3
    posterior = Chain(
        [FullGaussian(AffineTril(*bottom[:2], spread * bottom[2])), FullGaussian(AffineTril(*top))],
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
        result = log_likelihood(model, Data(x, dtype=torch.float64), 4000)
        assert (result.monte_carlo_errors > 1e-4).all()
        assert (np.abs(result.values - marginal) < 4 * result.monte_carlo_errors + 1e-6).all()


@pytest.mark.parametrize("d", [3, 8])
def test_a10_bernoulli_probabilities_sum_to_one(d):
    model = small_vae(d, 1, seed=d)
    everything = tensor(list(itertools.product([0.0, 1.0], repeat=d)))
    nodes, weights = hermite(40)
    with torch.no_grad():
        log_px_z = log_prob(model.decode(nodes.view(-1, 1, 1)), everything)
    torch.testing.assert_close(log_px_z.exp().sum(1), torch.ones(40).double(), atol=1e-9, rtol=0)
    px = (weights.unsqueeze(1) * log_px_z.exp()).sum(0)
    assert px.sum().item() == pytest.approx(1, abs=1e-9)
    x = everything[2 ** (d - 1)]
    assert px[2 ** (d - 1)].log().item() == pytest.approx(quadrature_log_px(model, x), abs=1e-6)


# ---- E: the game


@pytest.mark.parametrize("m", [0.5, 2.0])
def test_e2_a_logistic_critic_finds_the_best_one(m):
    """Of data N(0, 1) and samples N(m, 1) its logit is m^2 / 2 - m x, within its own error."""
    n, moved = 20_000, line([[1.0]], [m], [1.0]).network
    with engine.seeded(0):
        data = Data(torch.randn(n, 1, dtype=torch.float64), dtype=torch.float64)
        noise = standard_normal(1).double()
        critic = nn.Linear(1, 1).double()
    game = Game(Generator(moved, noise), critic)
    player = Player(critic, critic_loss(), adam(cosine(0.05)))
    train(game, player, data, max_epochs=8, batch_size=200)
    logit = torch.cat([critic.bias, critic.weight[0]]).detach()
    x = np.random.default_rng(0).normal([[0.0], [m]], size=(2, n))
    p = special.expit(m * m / 2 - m * x)
    columns = np.stack([np.ones_like(x), x])
    information = np.einsum("ink,jnk,nk->ij", columns, columns, p * (1 - p))
    error = np.sqrt(np.linalg.inv(information).diagonal())
    assert (np.abs(logit.numpy() - [m * m / 2, -m]) < 4 * error).all()


# ---- F: classical models


def test_f1_one_step_of_em_is_read_off_the_gradient():
    """The steps of EM are gradients of the log-likelihood times matrices (Xu and Jordan, 1996)."""
    x = tensor([[-1.2], [0.0], [2.5]])
    logits = nn.Parameter(tensor([0.3, 0.7]).log())
    components = Constant(tensor([[-1.0], [2.0]]), tensor([[0.25], [2.25]]).log())
    before = Mixture(Gaussian(components), logits)
    means, log_var = components.values
    slopes = torch.autograd.grad(before.log_prob(x).sum(), (logits, means, log_var))
    with torch.no_grad():
        mass = 3 * logits.softmax(0) + slopes[0]  # responsibilities, summed over rows
        step = log_var.exp() * slopes[1] / mass[:, None]
        around = log_var.exp() * (1 + 2 * slopes[2] / mass[:, None])  # the old means
        found = mass / 3, means + step, around - step.square()
    expected = (
        tensor([0.405904694497, 0.594095305503]),
        tensor([[-0.906944186341], [1.349053306419]]),
        tensor([[0.265785266708], [1.751155351997]]),
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)
    after = Mixture(Gaussian(Constant(found[1], found[2].log())), found[0].log())
    assert after.log_prob(x).sum().item() == pytest.approx(-5.070320798876, abs=1e-10)


def belief_network():
    """The sigmoid belief network of the checks."""
    weight = tensor([[1, -2, 0.5], [0.3, 0.8, -1], [0, 1.5, 2], [-1, 0, 1]])
    layer = nn.Linear(3, 4).double()
    layer.load_state_dict({"weight": weight, "bias": tensor([0.1, -0.2, 0.3, 0.0])})
    prior = Fixed(torch.distributions.Bernoulli(logits=tensor([0.2, -0.4, 0.1])))
    return prior, Bernoulli(layer)


def test_f2_sigmoid_belief_network_by_enumeration():
    prior, likelihood = belief_network()
    h = tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    x = tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    joint = prior.log_prob(h).unsqueeze(1) + likelihood.log_prob(x, h.unsqueeze(1))
    log_px = joint.logsumexp(0)
    assert log_px.exp().sum().item() == pytest.approx(1, abs=1e-12)
    seen = 0b1011
    assert log_px[seen].item() == pytest.approx(-1.995020870374, abs=1e-11)
    expected = [0.078037339, 0.342971652, 0.012481229, 0.059051314]
    expected += [0.063299438, 0.341544544, 0.014860078, 0.087754405]
    posterior = (joint[:, seen] - log_px[seen]).exp()
    torch.testing.assert_close(posterior, tensor(expected), atol=1e-9, rtol=0)


def em_step(p, x):
    """One step of EM of probabilistic PCA, by the exact posterior."""
    z, centred = p.posterior(x), x - x.mean(0)
    moment = z.mean.T @ z.mean + z.covariance_matrix.sum(0)
    loading = torch.linalg.solve(moment, z.mean.T @ centred).T
    explained = (loading * (centred.T @ z.mean)).sum()
    variance = (centred.square().sum() - explained) / centred.numel()
    return FactorAnalyser(loading, x.mean(0), variance.log().expand(len(loading)))


def test_f4_probabilistic_pca_in_closed_form_and_as_the_limit_of_em():
    n, d, q = 200, 4, 2
    with engine.seeded(0), torch.no_grad():
        x = torch.randn(n, d).double() @ torch.randn(d, d).double() + 3
        em = FactorAnalyser(torch.randn(d, q).double(), x.mean(0), torch.zeros(d).double())
        values = [em.log_prob(x).sum().item()]
        for _ in range(400):
            em = em_step(em, x)
            values.append(em.log_prob(x).sum().item())
    values_of_s, u = (part.flip(-1) for part in torch.linalg.eigh(torch.cov(x.T, correction=0)))
    kept, variance = values_of_s[:q], values_of_s[q:].mean()
    loading = u[:, :q] * (kept - variance).sqrt()
    best = FactorAnalyser(loading, x.mean(0), variance.log().expand(d))
    parts = d * math.log(2 * math.pi) + kept.log().sum() + (d - q) * variance.log() + d
    assert best.log_prob(x).sum().item() == pytest.approx(-n / 2 * parts.item(), abs=1e-8)
    slopes = torch.autograd.grad(best.log_prob(x).mean(), list(best.parameters()))
    assert max(slopes[0].abs().max(), slopes[1].abs().max(), slopes[2].sum().abs()) < 1e-12
    assert np.diff(values).min() > -1e-9  # never falls
    assert values[-1] == pytest.approx(-n / 2 * parts.item(), abs=1e-6)
    torch.testing.assert_close(em.loading @ em.loading.T, loading @ loading.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(em.log_psi[0].exp(), variance, atol=1e-5, rtol=0)


def test_f6_a_denoising_autoencoder_shrinks_each_direction_by_its_variance():
    """t^2 / (t^2 + s^2) of what is seen, and an error of t^2 s^2 / (t^2 + s^2)."""
    s, rng = 0.8, np.random.default_rng(0)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    x = rng.normal(size=(4000, 2)) * [1.3, 0.4] @ turn.T
    scale, centred = x.std(0), x - x.mean(0)
    covariance = np.cov((centred / scale).T, ddof=0)
    how = {"n_latents": 2, "hidden": (), "code": "linear", "jitter": (s,), "random_state": 0}
    coder = Autoencoder(**how, learning_rate=0.02, max_epochs=30).fit(x)
    got = np.linalg.lstsq(centred / scale, (coder.reconstruct(x) - x.mean(0)) / scale)[0]
    t2, u = np.linalg.eigh(covariance)
    np.testing.assert_allclose(got, u * (t2 / (t2 + s**2)) @ u.T, atol=0.02)
    least = (t2 * s**2 / (t2 + s**2)).sum()
    loss = coder.history_[-1]["reconstruction"]
    assert loss == pytest.approx(least / 2 + math.log(2 * math.pi), rel=0.02)


# ---- G: a Bayesian predictor distilled


def test_g6_a_linear_gaussian_student_reaches_the_mean_of_bayesian_regression():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 15)
    y = 0.5 - 1.5 * x + 0.3 * rng.normal(size=15)

    def features(x):
        return np.stack([np.ones_like(x), x], -1)

    a = features(x)
    covariance = np.linalg.inv(np.eye(2) + a.T @ a / 0.09)
    weights = covariance @ a.T @ y / 0.09
    shown = rng.uniform(-1, 1, 4000)
    drawn = rng.multivariate_normal(weights, covariance, 4000)
    targets = (features(shown) * drawn).sum(1) + 0.3 * rng.normal(size=4000)
    how = {"hidden": (), "n_noise": 1, "noise": "normal", "n_draws": 2000, "random_state": 0}
    student = CGMMNRegressor(**how, max_epochs=20, learning_rate=0.02).fit(shown[:, None], targets)
    ends = np.array([-0.8, 0.0, 0.8])
    mean, spread = student.predict(ends[:, None], return_std=True)
    truth = features(ends) @ weights
    variance = 0.09 + np.einsum("ni,ij,nj->n", features(ends), covariance, features(ends))
    assert (np.abs(mean - truth) < 0.1 * np.sqrt(variance)).all()
    teacher = list(zip(truth, variance, strict=True))
    apart = gaussian_mmd2(*teacher[:2], 1.0)
    for p, q in zip(teacher, zip(mean, spread**2, strict=True), strict=True):
        assert gaussian_mmd2(p, q, 1.0) < 0.01 * apart


def gaussian_mmd2(p, q, g):
    """D1: squared MMD of two Gaussians on the line, kernel exp(-(a - b)^2 / (2 g))."""

    def k(p, q):
        total = p[1] + q[1] + g
        return math.sqrt(g / total) * math.exp(-0.5 * (p[0] - q[0]) ** 2 / total)

    return k(p, p) + k(q, q) - 2 * k(p, q)


# ---- H: the whole system


@QUICK
@given(st.integers(1, 40), st.sampled_from([1.0, 50.0, 2000.0]), st.integers(0, 100))
def test_h_log_mean_exp_against_mpmath(k, spread, seed):
    log_w = torch.from_numpy(np.random.default_rng(seed).normal(-900, spread, (k, 2)))
    with mpmath.workdps(50):
        expected = [
            float(mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(v)) for v in column) / k))
            for column in log_w.T.tolist()
        ]
    np.testing.assert_allclose(log_mean_exp(log_w), expected, rtol=1e-12)


def test_h_likelihood_is_invariant_to_a_permutation_of_pixels():
    model, x = small_vae(), bits(8, 6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    set_output_bias(model.likelihood, torch.linspace(-1, 1, 6))
    permuted = copy.deepcopy(model)
    with torch.no_grad():
        first, last = permuted.posterior.network[0], permuted.likelihood.network[-1]
        first.weight.copy_(first.weight[:, order])
        last.weight.copy_(last.weight[order])
        last.bias.copy_(last.bias[order])
    values = log_likelihood(model, Data(x, dtype=torch.float64), 50).values
    other = log_likelihood(permuted, Data(x[:, order], dtype=torch.float64), 50).values
    np.testing.assert_allclose(other, values, atol=1e-10)
    unmoved = log_likelihood(model, Data(x[:, order], dtype=torch.float64), 50).values
    assert np.abs(unmoved - values).max() > 1e-3


def trained(seed):
    with engine.seeded(5):
        model = small_vae(batch_norm=True)
    data = Data(bits(50, 6), dtype=torch.float64)
    history = train(
        model, Player(model, iwae(3), adam(1e-2)), data, max_epochs=3, batch_size=20,
        random_state=seed,
    )  # fmt: skip
    return model.state_dict(), history.curve("bound")


def test_h_the_same_seed_gives_the_same_bits():
    (state, curve), (again, same_curve), (other, _) = trained(1), trained(1), trained(2)
    assert all(torch.equal(state[k], again[k]) for k in state)
    assert curve == same_curve
    assert any(not torch.equal(state[k], other[k]) for k in state)
    model, data = small_vae(), Data(bits(5, 6), dtype=torch.float64)
    first, second = (log_likelihood(model, data, 20, seed=3).values for _ in range(2))
    assert (first == second).all()
    assert (first != log_likelihood(model, data, 20, seed=4).values).all()


def test_h_evaluation_changes_neither_parameters_nor_buffers():
    model, x = small_vae(batch_norm=True), bits(30, 6)
    calibrate(model, lambda: model.run(Batch(x)))
    before = copy.deepcopy(model.state_dict())
    log_likelihood(model, Data(x, dtype=torch.float64), 30, rows_per_chunk=7, samples_per_chunk=9)
    mask = bits(30, 6, seed=1)
    pseudo_gibbs(model, x, mask, torch.zeros_like(x), n_iter=3)
    model.sample(5)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


class Recorder(LatentModel):
    """A model that keeps the log-weights it hands out."""

    def run(self, batch, k=1):
        run = super().run(batch, k)
        self.seen = [*getattr(self, "seen", []), run.log_w]
        return run


@pytest.mark.parametrize(("n_samples", "chunk"), [(50, 7), (50, 50), (3, 100)])
def test_h_chunked_bound_equals_unchunked(n_samples, chunk):
    model, x = small_vae(), bits(5, 6)
    recorder = Recorder(model.prior, model.likelihood, model.posterior)
    data = Data(x, dtype=torch.float64)
    result = log_likelihood(recorder, data, n_samples, samples_per_chunk=chunk)
    log_w = torch.cat(recorder.seen)
    assert len(log_w) == n_samples
    np.testing.assert_allclose(result.values, log_mean_exp(log_w), atol=1e-12)
    total = ImportanceSum(5)
    for part in log_w.split(4):
        total.add(part)
    np.testing.assert_allclose(total.log_mean(), result.values, atol=1e-12)
