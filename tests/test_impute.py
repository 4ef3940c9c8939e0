"""Pseudo-Gibbs sampling against the conditional distribution of a Gaussian."""

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

from ancestral import VAE, engine
from ancestral.conditional import Bernoulli, Conditional, FactorAnalyser, Gaussian, standard_normal
from ancestral.data import Batch
from ancestral.errors import squared_errors
from ancestral.fields import draw_seed
from ancestral.impute import pseudo_gibbs
from ancestral.models import LatentModel
from ancestral.networks import MLP
from ancestral.preprocess import corrupt

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


class ExactPosterior(Conditional):
    """p(z | x) of a factor analyser."""

    def __init__(self, analyser):
        super().__init__()
        self.analyser = analyser

    def forward(self, c=None):
        p = self.analyser.posterior(c)
        tril = p.scale_tril.expand(*p.mean.shape, p.mean.shape[-1])
        return MultivariateNormal(p.mean, scale_tril=tril, validate_args=False)


def linear_gaussian():
    """x = mu + W z + noise in four dimensions, with the exact q; and the law of x."""
    loading = tensor([[1.0, 0.5], [0.0, -1.0], [0.8, 0.3], [-0.6, 0.9]])
    mu, psi = tensor([0.1, -0.2, 0.3, 1.0]), tensor([0.5, 0.4, 1.0, 0.7])
    layer = nn.Linear(2, 4).double()
    layer.load_state_dict({"weight": loading, "bias": mu})
    likelihood = Gaussian(layer, nn.Parameter(psi.log()))
    posterior = ExactPosterior(FactorAnalyser(loading, mu, psi.log()))
    model = LatentModel(standard_normal(2).double(), likelihood, posterior)
    return model.eval(), mu, loading @ loading.T + psi.diag()


def conditional(mu, covariance, x, mask):
    """Mean and covariance of the missing entries given the observed ones."""
    seen, lost = mask.nonzero().flatten(), (1 - mask).nonzero().flatten()
    gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, lost]).T
    mean = mu[lost] + gain @ (x[seen] - mu[seen])
    return lost, mean, covariance[lost][:, lost] - gain @ covariance[seen][:, lost]


X = tensor([1.5, -1.0, 0.4, 2.0])
MASKS = [tensor([1.0, 0.0, 1.0, 0.0]), tensor([0.0, 0.0, 1.0, 0.0])]
N_CHAINS = 20_000


def stationary(fill, mask, n_iter=60):
    """Many independent chains, long past any memory of where they began."""
    model, mu, covariance = linear_gaussian()
    lost, mean, spread = conditional(mu, covariance, X, mask)
    x = X.expand(N_CHAINS, 4)
    with engine.seeded(0):
        filled = pseudo_gibbs(
            model, x, mask.expand_as(x), torch.full_like(x, 5.0), n_iter=n_iter, fill=fill
        )
    seen = mask > 0
    assert torch.equal(filled[:, seen], x[:, seen])
    return filled[:, lost], mean, spread


@pytest.mark.parametrize("mask", MASKS)
def test_c10_sampling_has_the_exact_conditional_for_its_stationary_law(mask):
    filled, mean, spread = stationary("sample", mask)
    error = filled.std(0) / math.sqrt(N_CHAINS)
    assert ((filled.mean(0) - mean).abs() < 4 * error).all()
    product = (filled - mean).unsqueeze(-1) * (filled - mean).unsqueeze(-2)
    error = product.std(0) / math.sqrt(N_CHAINS)
    assert ((product.mean(0) - spread).abs() < 4 * error).all()


@pytest.mark.parametrize("mask", MASKS)
def test_c10_filling_in_means_keeps_the_mean_and_loses_variance(mask):
    filled, mean, spread = stationary("mean", mask)
    error = filled.std(0) / math.sqrt(N_CHAINS)
    assert ((filled.mean(0) - mean).abs() < 4 * error).all()
    assert (filled.var(0) < 0.8 * spread.diagonal()).all()


def test_c10_one_long_chain():
    model, mu, covariance = linear_gaussian()
    lost, mean, spread = conditional(mu, covariance, X, MASKS[0])
    state, path = X.unsqueeze(0), []
    with engine.seeded(1):
        for _ in range(900):
            state = pseudo_gibbs(model, X[None], MASKS[0][None], state, n_iter=1, fill="sample")
            path.append(state[0, lost])
    path = torch.stack(path)
    blocks = path.view(30, 30, -1).mean(1)
    assert ((path.mean(0) - mean).abs() < 4 * blocks.std(0) / math.sqrt(30)).all()
    centred = (path - mean).square().view(30, 30, -1).mean(1)
    error = centred.std(0) / math.sqrt(30)
    assert ((centred.mean(0) - spread.diagonal()).abs() < 4 * error).all()


def test_c10_one_round_is_encode_draw_decode():
    model, _, _ = linear_gaussian()
    x, mask = X.expand(3, 4), MASKS[0].expand(3, 4)
    start = torch.full_like(x, 0.7)
    with engine.seeded(2):
        filled = pseudo_gibbs(model, x, mask, start, n_iter=1)
    with engine.seeded(2):
        z = model.posterior(torch.where(mask > 0, x, start)).rsample()
    expected = torch.where(mask > 0, x, model.likelihood(z).mean)
    torch.testing.assert_close(filled, expected.detach())
    untouched = pseudo_gibbs(model, x, mask, start, n_iter=0)
    assert torch.equal(untouched, torch.where(mask > 0, x, start))


@QUICK
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from(["mean", "sample"]),
    st.integers(0, 5),
    st.integers(0, 99),
)
def test_c10_observed_entries_never_change(n, d, fill, n_iter, seed):
    rng = np.random.default_rng(seed)
    with engine.seeded(seed):
        model = LatentModel(
            standard_normal(2), Bernoulli(MLP(2, (3,), d)), Gaussian(MLP(d, (3,), heads=(2, 2)))
        ).double()
    x = torch.from_numpy(rng.normal(size=(n, d)))
    mask = torch.from_numpy(rng.integers(0, 2, (n, d))).double()
    dirty = torch.where(mask > 0, x, torch.full_like(x, math.nan))
    before = dirty.clone()
    filled = pseudo_gibbs(model, dirty, mask, torch.zeros_like(x), n_iter=n_iter, fill=fill)
    assert torch.equal(filled[mask > 0], x[mask > 0])
    assert torch.equal(dirty.nan_to_num(9.0), before.nan_to_num(9.0))
    guesses = filled[mask == 0]
    assert ((guesses >= 0) & (guesses <= 1)).all()
    if fill == "sample" and n_iter:
        assert ((guesses == 0) | (guesses == 1)).all()


def test_c10_a_complete_row_comes_back_as_it_was():
    model, _, _ = linear_gaussian()
    x = X.expand(2, 4)
    assert torch.equal(pseudo_gibbs(model, x, torch.ones_like(x), torch.zeros_like(x)), x)


# ---- from an estimator


def fitted_digits(n=120):
    x = load_digits().data[:n] / 16
    return VAE(n_latents=4, hidden=(20,), max_epochs=8, random_state=0).fit(x), x


def test_several_chains_are_averaged():
    vae, x = fitted_digits()
    damaged = corrupt(x, "rect", 4, image_shape=(8, 8))
    gaps, once = np.isnan(damaged), vae.impute(damaged, n_iter=3, random_state=1)
    many = vae.impute(damaged, n_iter=3, n_chains=20, random_state=1)
    np.testing.assert_array_equal(many[~gaps], x[~gaps])
    errors = [squared_errors(x, guess, gaps).mean for guess in (many, once)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    "x", [load_digits().data[:60] / 16, np.random.default_rng(0).normal(30, 1, (60, 64))]
)
def test_gaps_may_be_zero_at_first(monkeypatch, x):
    """In the user's units, also where the model standardises columns."""
    vae = VAE(n_latents=2, hidden=(8,), max_epochs=1, random_state=0).fit(x)
    assert np.isfinite(vae.impute(corrupt(x, "rect", 4, image_shape=(8, 8)), gaps="zero")).all()
    as_they_start = lambda model, x, mask, start, **_: torch.where(mask > 0, x, start)  # noqa: E731
    monkeypatch.setattr("ancestral.density.pseudo_gibbs", as_they_start)
    damaged = corrupt(x, "rect", 4, image_shape=(8, 8))
    filled, gaps = vae.impute(damaged, gaps="zero"), np.isnan(damaged)
    np.testing.assert_allclose(filled[gaps], 0, atol=1e-5)
    assert np.abs(vae.impute(damaged)[gaps]).max() > 0.1
    with pytest.raises(ValueError, match="gaps='none': expected"):
        vae.impute(damaged, gaps="none")


@pytest.mark.parametrize("fill", ["mean", "sample"])
def test_rounds_that_a_hardly_trained_model_carries_away_stay_within_what_it_has_seen(fill):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 1)) * [1, 2, 3, 4] + rng.normal(size=(120, 4)) + [5, 0, 0, -3]
    vae = VAE(n_latents=2, hidden=(16,), max_epochs=5, batch_norm=True, random_state=0).fit(x)
    damaged = np.where(rng.random(x.shape) < 0.3, np.nan, x)
    filled = vae.impute(damaged, n_iter=30, fill=fill)
    assert (filled >= x.min(0) - 1e-5).all()
    assert (filled <= x.max(0) + 1e-5).all()
    del vae.range_  # a model saved before the range was kept
    assert np.abs(vae.impute(damaged, n_iter=30, fill=fill)).max() > 1e3


def test_codes_of_several_chains_are_voted_on():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 150)
    table = np.stack([code, rng.normal(code)], 1).astype(float)
    vae = VAE(
        n_latents=2, hidden=(8,), max_epochs=3, random_state=0,
        likelihood=("categorical", "gaussian"),
    ).fit(table)  # fmt: skip
    damaged = table.copy()
    damaged[:40, 0] = np.nan
    filled = vae.impute(damaged, n_iter=3, n_chains=5, fill="sample")
    assert set(np.unique(filled[:40, 0])) <= {0.0, 1.0, 2.0}


def test_batch_statistics_are_those_of_the_rows_given():
    """One round by hand, the normalisation in training mode; the model is left as it was."""
    vae, x = fitted_digits()
    x = x.astype(np.float32)
    damaged = corrupt(x, "half", image_shape=(8, 8))
    before = {k: v.clone() for k, v in vae.model_.state_dict().items()}
    got = vae.impute(damaged, n_iter=1, batch_statistics=True, random_state=5)
    with engine.seeded(draw_seed(5)), torch.no_grad():
        start = torch.where(
            torch.as_tensor(np.isnan(damaged)), torch.rand(x.shape), torch.as_tensor(x)
        )
        vae.model_.train()
        z = vae.model_.encode(Batch(start)).rsample()
        expected = vae.model_.decode(z).mean.numpy()
        vae.model_.eval()
    np.testing.assert_allclose(got, np.where(np.isnan(damaged), expected, x), atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in vae.model_.state_dict().items())
    assert not any(m.training for m in vae.model_.modules())
    assert not np.allclose(got, vae.impute(damaged, n_iter=1, random_state=5), atol=1e-3)


def test_squared_errors_against_a_bootstrap():
    rng = np.random.default_rng(0)
    truth, guess = rng.random((400, 6)), rng.random((400, 6))
    where = rng.random((400, 6)) < rng.random((400, 1))
    found = squared_errors(truth, guess, where)
    assert found.mean == pytest.approx(np.square(truth - guess)[where].mean())
    means = []
    for _ in range(300):
        rows = rng.integers(0, 400, 400)
        means.append(squared_errors(truth[rows], guess[rows], where[rows]).mean)
    assert found.standard_error == pytest.approx(np.std(means), rel=0.15)
    with pytest.raises(ValueError, match="no entry"):
        squared_errors(truth, guess, np.zeros_like(where))
