"""Annealed importance sampling of models with a latent class, by summation over the class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral import VAE, ClassConditionalVAE, DeviceData, LatentModel
from ancestral.evaluation.ais import (
    Annealing,
    annealed_log_likelihood,
    annealed_marginal_log_likelihood,
)
from ancestral.nn import MLP
from ancestral.probability.class_conditional import (
    ClassThenLatent,
    OneHotConditional,
    StandardNormalLike,
    uniform_classes,
)
from ancestral.probability.conditionals import Gaussian

CLASSES, LATENT, COLUMNS, NOISE = 3, 2, 4, 0.5
SETTINGS = Annealing(n_steps=150, n_chains=32, n_leapfrog=5, initial_step_size=0.2)


def mixture():
    """Gaussian mixture with class probabilities 1/6, 2/6, 3/6 and a shared covariance."""
    torch.manual_seed(0)
    prior = ClassThenLatent(uniform_classes(CLASSES), StandardNormalLike(LATENT), (CLASSES, LATENT))
    prior.label.logits.copy_(torch.tensor([1.0, 2.0, 3.0]).log())
    likelihood = Gaussian(nn.Linear(CLASSES + LATENT, COLUMNS), log_var=2 * math.log(NOISE))
    label = OneHotConditional(MLP(COLUMNS, (5,), CLASSES))
    rest = Gaussian(MLP(COLUMNS + CLASSES, (5,), heads=(LATENT, LATENT)))
    posterior = ClassThenLatent(label, rest, (CLASSES, LATENT), encoder=nn.Identity())
    return LatentModel(prior, likelihood, posterior).eval()


def exact(model, x):
    weight, bias = model.likelihood.network.weight, model.likelihood.network.bias
    means = bias + weight[:, :CLASSES].T
    covariance = weight[:, CLASSES:] @ weight[:, CLASSES:].T + NOISE**2 * torch.eye(COLUMNS)
    log_px_given_y = MultivariateNormal(means, covariance).log_prob(x.unsqueeze(1))
    log_py = torch.tensor([1 / 6, 2 / 6, 3 / 6]).log()
    return torch.logsumexp(log_px_given_y + log_py, 1).detach().numpy()


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_ais_over_classes_matches_closed_form_mixture(start):
    model = mixture()
    x = model.sample(60)
    result = annealed_marginal_log_likelihood(
        model, DeviceData(x), Annealing(**vars(SETTINGS) | {"initial_distribution": start})
    )
    assert len(result.values) == 60
    assert result.monte_carlo_errors.shape == result.effective_sample_sizes.shape == (60,)
    difference = result.values - exact(model, x)
    assert abs(difference.mean()) < 0.05
    assert np.abs(difference).max() < 0.5


def test_ais_without_latent_class_equals_plain_ais():
    x = load_digits().data[:20] / 16
    vae = VAE(n_latents=2, hidden=(8,), max_epochs=1, random_state=0).fit(x)
    data, settings = DeviceData(torch.tensor(x).float().round()), Annealing(n_steps=5, n_chains=2)
    result, expected = (
        estimate(vae.model_, data, settings)
        for estimate in (annealed_marginal_log_likelihood, annealed_log_likelihood)
    )
    np.testing.assert_array_equal(result.values, expected.values)


@pytest.mark.parametrize("codes", [False, True])
def test_ais_of_m2_matches_importance_sampling_on_pixels_and_codes(tmp_path, codes):
    x, y = load_digits(return_X_y=True)
    x = x / 16 > 0.5
    options = {"n_latents": 2, "hidden": (20,), "max_epochs": 3, "n_decision_samples": 2}
    if codes:
        base = VAE(n_latents=3, hidden=(20,), max_epochs=3, random_state=0).fit(x)
        base.save(tmp_path / "base")
        options |= {"base_model": str(tmp_path / "base"), "batch_norm": False}
    model = ClassConditionalVAE(**options, random_state=0).fit(x, y)
    sampled = model.log_likelihood(x[:20], 5000)
    annealed_result = model.log_likelihood(x[:20], annealing=SETTINGS)
    assert annealed_result.estimator == "AIS"
    assert abs((annealed_result.values - sampled.values).mean()) < 0.3
