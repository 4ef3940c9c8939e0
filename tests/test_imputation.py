"""Pseudo-Gibbs imputation against the conditional distribution of a Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral import VAE
from ancestral.data.batch import Batch
from ancestral.data.preprocessing import corrupt
from ancestral.evaluation.imputation import pseudo_gibbs
from ancestral.evaluation.metrics import squared_errors
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
    missing, single = np.isnan(corrupted), vae.impute(corrupted, n_iter=3, random_state=1)
    averaged = vae.impute(corrupted, n_iter=3, n_chains=20, random_state=1)
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
    imputed, missing = vae.impute(corrupted, init="zero"), np.isnan(corrupted)
    np.testing.assert_allclose(imputed[missing], 0, atol=1e-5)
    assert np.abs(vae.impute(corrupted)[missing]).max() > 0.1
    with pytest.raises(ValueError, match="init='none': expected"):
        vae.impute(corrupted, init="none")


@pytest.mark.parametrize("fill", ["mean", "sample"])
def test_imputed_values_are_clipped_to_the_training_range(fill):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 1)) * [1, 2, 3, 4] + rng.normal(size=(120, 4)) + [5, 0, 0, -3]
    vae = VAE(n_latents=2, hidden=(16,), max_epochs=5, batch_norm=True, random_state=0).fit(x)
    incomplete = np.where(rng.random(x.shape) < 0.3, np.nan, x)
    imputed = vae.impute(incomplete, n_iter=30, return_mean=fill == "mean")
    assert (imputed >= x.min(0) - 1e-5).all()
    assert (imputed <= x.max(0) + 1e-5).all()
    vae.range_ = None  # without clipping, the iterations diverge
    assert np.abs(vae.impute(incomplete, n_iter=30, return_mean=fill == "mean")).max() > 1e3


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
    imputed = vae.impute(corrupted, n_iter=1, batch_statistics=True, random_state=5)
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
    assert not np.allclose(imputed, vae.impute(corrupted, n_iter=1, random_state=5), atol=1e-3)


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
