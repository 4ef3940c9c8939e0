"""Tail index of importance weights, its flag, and likelihoods of rows with missing entries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import genpareto
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral.data.device_data import DeviceData
from ancestral.evaluation.log_likelihood import ImportanceSum, LogLikelihood, log_likelihood
from ancestral.evaluation.pareto import pareto_k
from ancestral.models.latent import LatentModel
from ancestral.probability.conditionals import Gaussian, standard_normal


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_tail_index_of_generalised_pareto_samples(k):
    x = genpareto.rvs(k, size=(300, 200), random_state=0)
    log_w = torch.from_numpy(np.log(np.vstack([x, np.full((1, 200), 1e-12)])))
    assert pareto_k(log_w).mean().item() == pytest.approx(k, abs=0.08)
    shifted = pareto_k(log_w + 500.0)
    torch.testing.assert_close(shifted, pareto_k(log_w), atol=1e-6, rtol=0)


def test_tail_index_of_constant_weights_and_of_few_samples():
    assert (pareto_k(torch.zeros(100, 2)) == -math.inf).all()
    assert pareto_k(torch.zeros(5, 2)).isnan().all()


def summarise(log_w):
    total = ImportanceSum(log_w.shape[1])
    for part in log_w.split(100):
        total.add(part)
    return LogLikelihood(*(v.numpy() for v in total.summary()[:3]), len(log_w), "L",
                         total.pareto_k().numpy())  # fmt: skip


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5, 2.0])
def test_two_monte_carlo_errors_cover_the_exact_value(sigma):
    """Log-normal weights of mean 1, in 1000 simulations of 5000 samples."""
    generator = torch.Generator().manual_seed(0)
    log_w = sigma * torch.randn(5000, 1000, generator=generator, dtype=torch.float64)
    result = summarise(log_w - sigma**2 / 2)
    covered = np.abs(result.values) <= 2 * result.monte_carlo_errors
    assert 0.93 < covered.mean() < 0.99


def test_estimates_with_heavy_tails_are_flagged():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1000, 50, generator=generator, dtype=torch.float64)
    assert summarise(normal).n_unreliable == 0
    heavy = summarise(4 * normal)
    assert heavy.n_unreliable == 50
    assert "50 of 50 rows unreliable" in str(heavy)


def model_with_wrong_encoder():
    """Linear Gaussian model of 6 columns and 2 factors whose q(z | x) reads zeros for gaps."""
    generator = torch.Generator().manual_seed(1)
    loading = torch.randn(6, 2, generator=generator)
    layer, encoder = nn.Linear(2, 6), nn.Linear(6, 2)
    variance = 0.1
    precision = torch.eye(2) + loading.T @ loading / variance
    with torch.no_grad():
        layer.weight.copy_(loading)
        layer.bias.zero_()
        encoder.weight.copy_(torch.linalg.solve(precision, loading.T) / variance)
        encoder.bias.zero_()
    posterior = Gaussian(encoder, log_var=math.log(0.02))
    model = LatentModel(standard_normal(2), Gaussian(layer, math.log(variance)), posterior)
    return model.eval(), loading @ loading.T + variance * torch.eye(6)


def test_likelihood_with_missing_entries_is_exact_and_complete_rows_are_unchanged():
    model, covariance = model_with_wrong_encoder()
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(np.zeros(6), covariance.numpy(), 40).astype(np.float32)
    incomplete = x.copy()
    incomplete[:20] = np.where(rng.permuted(np.tile([1, 1, 1, 0, 0, 0], (20, 1)), axis=1),
                               np.nan, x[:20])  # fmt: skip
    result = log_likelihood(model, DeviceData(incomplete, missing=True), 2000)
    for row, value in zip(incomplete[:20], result.values, strict=False):
        o = np.flatnonzero(~np.isnan(row))
        exact = MultivariateNormal(torch.zeros(len(o)), covariance[o][:, o])
        assert value == pytest.approx(exact.log_prob(torch.from_numpy(row[o])).item(), abs=0.1)
    assert result.reliable[:20].all()
    complete = log_likelihood(model, DeviceData(x), 2000)
    np.testing.assert_array_equal(result.values[20:], complete.values[20:])
