"""Pseudo-Gibbs imputation against the conditional distribution of a Gaussian."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral import VAE, BeliefNet
from ancestral.data.batch import Batch
from ancestral.data.preprocessing import corrupt
from ancestral.evaluation.imputation import pseudo_gibbs
from ancestral.evaluation.metrics import squared_errors
from ancestral.evaluation.posterior_sampling import (
    conditional_draw,
    conditional_mean,
    gap_proposal,
    weighted_samples,
)
from ancestral.models.factor_analysis import FactorAnalyser
from ancestral.models.latent import LatentModel
from ancestral.nn import MLP
from ancestral.probability.conditionals import Bernoulli, Conditional, Gaussian, standard_normal
from ancestral.training import engine
from ancestral.utils.random import draw_seed

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


class ExactPosterior(Conditional):
    """Exact posterior p(z | x) of a factor analysis model."""

    def __init__(self, analyser):
        super().__init__()
        self.analyser = analyser

    def forward(self, c=None):
        p = self.analyser.posterior(c)
        tril = p.scale_tril.expand(*p.mean.shape, p.mean.shape[-1])
        return MultivariateNormal(p.mean, scale_tril=tril, validate_args=False)


def linear_gaussian():
    """Model x = mu + W z + noise [4] with the exact posterior; also mean and covariance of x."""
    loading = tensor([[1.0, 0.5], [0.0, -1.0], [0.8, 0.3], [-0.6, 0.9]])
    mu, psi = tensor([0.1, -0.2, 0.3, 1.0]), tensor([0.5, 0.4, 1.0, 0.7])
    layer = nn.Linear(2, 4).double()
    layer.load_state_dict({"weight": loading, "bias": mu})
    likelihood = Gaussian(layer, nn.Parameter(psi.log()))
    posterior = ExactPosterior(FactorAnalyser(loading, mu, psi.log()))
    model = LatentModel(standard_normal(2).double(), likelihood, posterior)
    return model.eval(), mu, loading @ loading.T + psi.diag()


def conditional(mu, covariance, x, mask):
    """Indices, conditional mean and covariance of the missing entries given the observed ones."""
    observed, missing = mask.nonzero().flatten(), (1 - mask).nonzero().flatten()
    cov_om = covariance[observed][:, missing]
    gain = torch.linalg.solve(covariance[observed][:, observed], cov_om).T
    mean = mu[missing] + gain @ (x[observed] - mu[observed])
    return missing, mean, covariance[missing][:, missing] - gain @ cov_om


X = tensor([1.5, -1.0, 0.4, 2.0])
MASKS = [tensor([1.0, 0.0, 1.0, 0.0]), tensor([0.0, 0.0, 1.0, 0.0])]
N_CHAINS = 20_000


def stationary(fill, mask, n_iter=60):
    """Missing entries of independent chains after burn-in; exact conditional mean, covariance."""
    model, mu, covariance = linear_gaussian()
    missing, mean, conditional_cov = conditional(mu, covariance, X, mask)
    x = X.expand(N_CHAINS, 4)
    with engine.seeded_rng(0):
        imputed = pseudo_gibbs(
            model,
            x,
            mask.expand_as(x),
            torch.full_like(x, 5.0),
            n_iter=n_iter,
            return_mean=fill == "mean",
        )
    observed = mask > 0
    assert torch.equal(imputed[:, observed], x[:, observed])
    return imputed[:, missing], mean, conditional_cov


@pytest.mark.parametrize("mask", MASKS)
def test_pseudo_gibbs_sampling_converges_to_exact_gaussian_conditional(mask):
    imputed, mean, covariance = stationary("sample", mask)
    error = imputed.std(0) / math.sqrt(N_CHAINS)
    assert ((imputed.mean(0) - mean).abs() < 4 * error).all()
    product = (imputed - mean).unsqueeze(-1) * (imputed - mean).unsqueeze(-2)
    error = product.std(0) / math.sqrt(N_CHAINS)
    assert ((product.mean(0) - covariance).abs() < 4 * error).all()


@pytest.mark.parametrize("mask", MASKS)
def test_mean_imputation_has_exact_mean_and_smaller_variance(mask):
    imputed, mean, covariance = stationary("mean", mask)
    error = imputed.std(0) / math.sqrt(N_CHAINS)
    assert ((imputed.mean(0) - mean).abs() < 4 * error).all()
    assert (imputed.var(0) < 0.8 * covariance.diagonal()).all()


def test_single_long_pseudo_gibbs_chain_matches_gaussian_conditional():
    model, mu, covariance = linear_gaussian()
    missing, mean, conditional_cov = conditional(mu, covariance, X, MASKS[0])
    state, path = X.unsqueeze(0), []
    with engine.seeded_rng(1):
        for _ in range(900):
            state = pseudo_gibbs(model, X[None], MASKS[0][None], state, n_iter=1, return_mean=False)
            path.append(state[0, missing])
    path = torch.stack(path)
    blocks = path.view(30, 30, -1).mean(1)
    assert ((path.mean(0) - mean).abs() < 4 * blocks.std(0) / math.sqrt(30)).all()
    squares = (path - mean).square().view(30, 30, -1).mean(1)
    error = squares.std(0) / math.sqrt(30)
    assert ((squares.mean(0) - conditional_cov.diagonal()).abs() < 4 * error).all()


def test_one_pseudo_gibbs_iteration_encodes_samples_and_decodes():
    model, _, _ = linear_gaussian()
    x, mask = X.expand(3, 4), MASKS[0].expand(3, 4)
    start = torch.full_like(x, 0.7)
    with engine.seeded_rng(2):
        imputed = pseudo_gibbs(model, x, mask, start, n_iter=1)
    with engine.seeded_rng(2):
        z = model.posterior(torch.where(mask > 0, x, start)).rsample()
    expected = torch.where(mask > 0, x, model.likelihood(z).mean)
    torch.testing.assert_close(imputed, expected.detach())
    initial = pseudo_gibbs(model, x, mask, start, n_iter=0)
    assert torch.equal(initial, torch.where(mask > 0, x, start))


@QUICK
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from(["mean", "sample"]),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_pseudo_gibbs_leaves_observed_entries_unchanged(n, d, fill, n_iter, seed):
    rng = np.random.default_rng(seed)
    with engine.seeded_rng(seed):
        model = LatentModel(
            standard_normal(2), Bernoulli(MLP(2, (3,), d)), Gaussian(MLP(d, (3,), heads=(2, 2)))
        ).double()
    x = torch.from_numpy(rng.normal(size=(n, d)))
    mask = torch.from_numpy(rng.integers(0, 2, (n, d))).double()
    incomplete = torch.where(mask > 0, x, torch.full_like(x, math.nan))
    copy = incomplete.clone()
    imputed = pseudo_gibbs(
        model, incomplete, mask, torch.zeros_like(x), n_iter=n_iter, return_mean=fill == "mean"
    )
    assert torch.equal(imputed[mask > 0], x[mask > 0])
    assert torch.equal(incomplete.nan_to_num(9.0), copy.nan_to_num(9.0))
    values = imputed[mask == 0]
    assert ((values >= 0) & (values <= 1)).all()
    if fill == "sample" and n_iter:
        assert ((values == 0) | (values == 1)).all()


def test_pseudo_gibbs_returns_complete_rows_unchanged():
    model, _, _ = linear_gaussian()
    x = X.expand(2, 4)
    assert torch.equal(pseudo_gibbs(model, x, torch.ones_like(x), torch.zeros_like(x)), x)


# ---- impute method of an estimator


def fitted_digits(n=120):
    x = load_digits().data[:n] / 16
    return VAE(n_latents=4, hidden=(20,), max_epochs=8, random_state=0).fit(x), x


def test_imputation_averaged_over_chains_has_smaller_error():
    vae, x = fitted_digits()
    corrupted = corrupt(x, "square", 4, image_shape=(8, 8))
    missing, single = (
        np.isnan(corrupted),
        vae.impute(corrupted, method="pseudo-gibbs", n_iter=3, random_state=1),
    )
    averaged = vae.impute(corrupted, method="pseudo-gibbs", n_iter=3, n_chains=20, random_state=1)
    np.testing.assert_array_equal(averaged[~missing], x[~missing])
    errors = [squared_errors(x, imputed, missing).mean for imputed in (averaged, single)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    "x", [load_digits().data[:60] / 16, np.random.default_rng(0).normal(30, 1, (60, 64))]
)
def test_zero_initialisation_of_missing_entries(monkeypatch, x):
    """Zero in the original units, also if the model standardises features."""
    vae = VAE(n_latents=2, hidden=(8,), max_epochs=1, random_state=0).fit(x)
    assert np.isfinite(vae.impute(corrupt(x, "square", 4, image_shape=(8, 8)), init="zero")).all()
    initial_values = lambda model, x, mask, start, **_: torch.where(mask > 0, x, start)  # noqa: E731
    monkeypatch.setattr("ancestral.estimators.base.latent.pseudo_gibbs", initial_values)
    corrupted = corrupt(x, "square", 4, image_shape=(8, 8))
    vae.range_ = None
    imputed = vae.impute(corrupted, method="pseudo-gibbs", init="zero")
    missing = np.isnan(corrupted)
    np.testing.assert_allclose(imputed[missing], 0, atol=1e-5)
    assert np.abs(vae.impute(corrupted, method="pseudo-gibbs")[missing]).max() > 0.1
    with pytest.raises(ValueError, match="init='none': expected"):
        vae.impute(corrupted, init="none")


@pytest.mark.parametrize("method", ["weighted", "pseudo-gibbs"])
@pytest.mark.parametrize("fill", ["mean", "sample"])
def test_imputed_values_are_clipped_to_the_training_range(fill, method):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 1)) * [1, 2, 3, 4] + rng.normal(size=(120, 4)) + [5, 0, 0, -3]
    vae = VAE(n_latents=2, hidden=(16,), max_epochs=5, batch_norm=True, random_state=0).fit(x)
    incomplete = np.where(rng.random(x.shape) < 0.3, np.nan, x)
    options = {"method": method, "n_iter": 30, "return_mean": fill == "mean"}
    imputed = vae.impute(incomplete, **options)
    assert (imputed >= x.min(0) - 1e-5).all()
    assert (imputed <= x.max(0) + 1e-5).all()
    vae.range_ = None  # without clipping, unweighted iterations diverge
    largest = np.abs(vae.impute(incomplete, **options)).max()
    assert largest > 1e3 if method == "pseudo-gibbs" else largest < 100


def test_imputed_categorical_codes_of_several_chains_are_valid_codes():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 150)
    table = np.stack([code, rng.normal(code)], 1).astype(float)
    vae = VAE(
        n_latents=2, hidden=(8,), max_epochs=3, random_state=0,
        likelihood=("categorical", "gaussian"),
    ).fit(table)  # fmt: skip
    incomplete = table.copy()
    incomplete[:40, 0] = np.nan
    imputed = vae.impute(incomplete, n_iter=3, n_chains=5, return_mean=False)
    assert set(np.unique(imputed[:40, 0])) <= {0.0, 1.0, 2.0}


def test_impute_with_batch_statistics_normalises_with_the_imputed_batch():
    """One iteration matches batch norm in training mode; the model state is unchanged."""
    vae, x = fitted_digits()
    x = x.astype(np.float32)
    corrupted = corrupt(x, "half", image_shape=(8, 8))
    state = {k: v.clone() for k, v in vae.model_.state_dict().items()}
    with pytest.raises(ValueError, match="batch_statistics=True: expected method"):
        vae.impute(corrupted, batch_statistics=True)
    options = {"method": "pseudo-gibbs"}
    imputed = vae.impute(corrupted, n_iter=1, batch_statistics=True, random_state=5, **options)
    with engine.seeded_rng(draw_seed(5)), torch.no_grad():
        start = torch.where(
            torch.as_tensor(np.isnan(corrupted)), torch.rand(x.shape), torch.as_tensor(x)
        )
        vae.model_.train()
        z = vae.model_.encode(Batch(start)).rsample()
        expected = vae.model_.decode(z).mean.numpy()
        vae.model_.eval()
    np.testing.assert_allclose(imputed, np.where(np.isnan(corrupted), expected, x), atol=1e-5)
    assert all(torch.equal(v, state[k]) for k, v in vae.model_.state_dict().items())
    assert not any(m.training for m in vae.model_.modules())
    assert not np.allclose(
        imputed, vae.impute(corrupted, n_iter=1, random_state=5, **options), atol=1e-3
    )


def test_squared_errors_standard_error_matches_bootstrap():
    rng = np.random.default_rng(0)
    truth, guess = rng.random((400, 6)), rng.random((400, 6))
    where = rng.random((400, 6)) < rng.random((400, 1))
    result = squared_errors(truth, guess, where)
    assert result.mean == pytest.approx(np.square(truth - guess)[where].mean())
    means = []
    for _ in range(300):
        rows = rng.integers(0, 400, 400)
        means.append(squared_errors(truth[rows], guess[rows], where[rows]).mean)
    assert result.standard_error == pytest.approx(np.std(means), rel=0.15)
    with pytest.raises(ValueError, match="at least one selected entry"):
        squared_errors(truth, guess, np.zeros_like(where))


# ---- importance-weighted imputation against exact conditionals


def biased_linear_model(offset=0.7, scale=0.6):
    """Model of :func:`linear_gaussian` with a wrong q(z | x), in float32; mean, covariance of x."""
    model, mu, covariance = linear_gaussian()
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.copy_(model.posterior(torch.eye(4).double()).mean.T.float() * 0.5)
        layer.bias.fill_(offset)
    model.posterior = Gaussian(layer, log_var=2 * math.log(scale))
    model = LatentModel(standard_normal(2), model.likelihood.float(), model.posterior)
    return model.eval(), mu.float(), covariance.float()


def incomplete_rows(mu, covariance, n=200, seed=0):
    """Rows of the model, and a mask with at least one observed and one missing entry per row."""
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(mu.numpy(), covariance.numpy(), n).astype(np.float32)
    mask = rng.permuted(np.tile([1.0, 1.0, 0.0, 0.0], (n, 1)), axis=1).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(mask)


@pytest.fixture(scope="module")
def weighted_example():
    model, mu, covariance = biased_linear_model()
    x, mask = incomplete_rows(mu, covariance)
    batch = Batch(x * mask, mask=mask)
    with engine.seeded_rng(0):
        proposal = gap_proposal(model, batch)
        z, log_w = weighted_samples(model, batch, proposal, 1000)
    exact = [conditional(mu, covariance, row, m) for row, m in zip(x, mask, strict=True)]
    return model, batch, x, (mu, covariance), exact, z, log_w


def test_weighted_mean_is_the_exact_conditional_mean(weighted_example):
    model, batch, _, _, exact, z, log_w = weighted_example
    mean = conditional_mean(model, z, log_w)
    errors = [
        (row[missing] - m) / c.diagonal().sqrt()
        for row, (missing, m, c) in zip(mean, exact, strict=True)
    ]
    assert torch.cat(errors).square().mean().sqrt() < 0.05
    with engine.seeded_rng(0):
        chain = pseudo_gibbs(model, batch.x, batch.mask, torch.zeros_like(batch.x))
    unweighted = [
        (row[missing] - m) / c.diagonal().sqrt()
        for row, (missing, m, c) in zip(chain, exact, strict=True)
    ]
    assert torch.cat(unweighted).square().mean().sqrt() > 0.3


def test_weighted_draws_have_the_exact_variance_and_cover(weighted_example):
    model, _, x, _, exact, z, log_w = weighted_example
    with engine.seeded_rng(1):
        draws = torch.stack([conditional_draw(model, z, log_w) for _ in range(200)])
    low, high = draws.quantile(0.05, 0), draws.quantile(0.95, 0)
    ratios, covered = [], []
    for i, (missing, _, c) in enumerate(exact):
        ratios.append(draws[:, i, missing].var(0) / c.diagonal())
        covered.append((x[i, missing] >= low[i, missing]) & (x[i, missing] <= high[i, missing]))
    assert torch.cat(ratios).mean() == pytest.approx(1, abs=0.05)
    assert 0.85 < torch.cat(covered).float().mean() < 0.95


def test_mean_weight_is_the_exact_marginal_likelihood(weighted_example):
    _, batch, x, (mu, covariance), _, _, log_w = weighted_example
    estimate = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    for row, m, value in zip(x, batch.mask, estimate, strict=True):
        o = m.nonzero().flatten()
        exact = MultivariateNormal(mu[o], covariance[o][:, o]).log_prob(row[o])
        assert value.item() == pytest.approx(exact.item(), abs=0.15)


def test_proposal_of_discrete_latents_gives_the_exact_mean():
    """BeliefNet: sum over all latent codes."""
    rng = np.random.default_rng(0)
    x = (rng.random((300, 1)) < 0.5) ^ (rng.random((300, 6)) < 0.15)
    net = BeliefNet(n_latents=(3,), max_epochs=5, random_state=0).fit(x.astype(float))
    incomplete = np.where(rng.random((20, 6)) < 0.5, np.nan, x[:20].astype(float))
    codes = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    mask = torch.from_numpy(~np.isnan(incomplete)).float()
    batch = Batch(torch.from_numpy(np.nan_to_num(incomplete)).float(), mask=mask)
    with torch.no_grad():
        log_pz, log_px = net.model_.score(codes.unsqueeze(1).expand(-1, 20, -1), batch)
        weights = torch.softmax(log_pz + log_px, 0)
        expected = weights.T @ net.model_.decode(codes).mean
    imputed = net.impute(incomplete, n_importance_samples=4000, n_iter=5)
    missing = np.isnan(incomplete)
    np.testing.assert_allclose(imputed[missing], expected.numpy()[missing], atol=0.04)


def test_large_offsets_are_clipped_in_the_units_of_the_data():
    """Imputed values of a column 1.7e12 +- 1000 vary, within the range of the column."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(300, 1))
    x = (factor + 0.3 * rng.normal(size=(300, 3))) * [1000, 1, 1] + [1.7e12, 0, 0]
    settings = {"hidden": (8,), "max_epochs": 200, "learning_rate": 5e-3, "random_state": 0}
    vae = VAE(n_latents=1, **settings).fit(x)
    incomplete = x.copy()
    incomplete[:100, 0] = np.nan
    for method in ("weighted", "pseudo-gibbs"):
        imputed = vae.impute(incomplete, method=method, n_iter=10)[:100, 0]
        assert (imputed >= x[:, 0].min()).all()
        assert (imputed <= x[:, 0].max()).all()
        assert np.corrcoef(imputed, x[:100, 0])[0, 1] > 0.7
