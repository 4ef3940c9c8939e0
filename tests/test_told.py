"""Annealing of models that begin with a class, against sums over it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral import VAE, ClassConditionalVAE, Data, LatentModel
from ancestral.ais import Annealing, annealed_log_likelihood
from ancestral.classes import Classes, ClassFirst, Same, equal_classes
from ancestral.conditional import Gaussian
from ancestral.networks import MLP
from ancestral.told import annealed

CLASSES, LATENT, COLUMNS, NOISE = 3, 2, 4, 0.5
HOW = Annealing(n_steps=150, n_chains=32, n_leapfrog=5, first_step_size=0.2)


def mixture():
    """Classes with shares 1/6, 2/6, 3/6 and means of their own, and one covariance for all."""
    torch.manual_seed(0)
    prior = ClassFirst(equal_classes(CLASSES), Same(LATENT), (CLASSES, LATENT))
    prior.label.logits.copy_(torch.tensor([1.0, 2.0, 3.0]).log())
    likelihood = Gaussian(nn.Linear(CLASSES + LATENT, COLUMNS), log_var=2 * math.log(NOISE))
    label = Classes(MLP(COLUMNS, (5,), CLASSES))
    rest = Gaussian(MLP(COLUMNS + CLASSES, (5,), heads=(LATENT, LATENT)))
    posterior = ClassFirst(label, rest, (CLASSES, LATENT), look=nn.Identity())
    return LatentModel(prior, likelihood, posterior).eval()


def exact(model, x):
    weight, bias = model.likelihood.network.weight, model.likelihood.network.bias
    means = bias + weight[:, :CLASSES].T
    covariance = weight[:, CLASSES:] @ weight[:, CLASSES:].T + NOISE**2 * torch.eye(COLUMNS)
    each = MultivariateNormal(means, covariance).log_prob(x.unsqueeze(1))
    return torch.logsumexp(each + torch.tensor([1 / 6, 2 / 6, 3 / 6]).log(), 1).detach().numpy()


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_a_mixture_against_its_closed_form(start):
    model = mixture()
    x = model.sample(60)
    how = Annealing(**vars(HOW) | {"start": start})
    found = annealed(model, Data(x), how)
    assert len(found.values) == 60
    assert found.monte_carlo_errors.shape == found.effective_sample_sizes.shape == (60,)
    difference = found.values - exact(model, x)
    assert abs(difference.mean()) < 0.05
    assert np.abs(difference).max() < 0.5


def test_without_a_class_it_is_plain_annealing():
    x = load_digits().data[:20] / 16
    vae = VAE(n_latents=2, hidden=(8,), max_epochs=1, random_state=0).fit(x)
    data, few = Data(torch.tensor(x).float().round()), Annealing(n_steps=5, n_chains=2)
    ours, plain = (f(vae.model_, data, few) for f in (annealed, annealed_log_likelihood))
    np.testing.assert_array_equal(ours.values, plain.values)


@pytest.mark.parametrize("codes", [False, True])
def test_m2_on_pixels_and_on_codes_is_annealed_to_what_samples_say(tmp_path, codes):
    x, y = load_digits(return_X_y=True)
    x = x / 16 > 0.5
    more = {}
    if codes:
        below = VAE(n_latents=3, hidden=(20,), max_epochs=3, random_state=0).fit(x)
        below.save(tmp_path / "below")
        more = {"codes": str(tmp_path / "below"), "batch_norm": False}
    how = {"n_latents": 2, "hidden": (20,), "max_epochs": 3, "n_decision_samples": 2}
    model = ClassConditionalVAE(**how, random_state=0, **more).fit(x, y)
    sampled = model.log_likelihood(x[:20], 5000)
    found = model.log_likelihood(x[:20], annealing=HOW)
    assert found.estimator == "AIS"
    assert abs((found.values - sampled.values).mean()) < 0.3
