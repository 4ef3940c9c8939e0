"""Variants of the VAE from building blocks: priors and posteriors of other families.

Usage:  python examples/combine_blocks.py

Fits three variants to scikit-learn's digits and prints their test log-likelihoods.
"""

import torch
from sklearn.datasets import load_digits

from ancestral import DeviceData, LatentModel, Player
from ancestral.data.device_data import sample_bernoulli
from ancestral.data.preprocessing import binarize
from ancestral.evaluation.log_likelihood import LogLikelihood, log_likelihood
from ancestral.nn import MLP, Constant
from ancestral.objectives import elbo, iwae
from ancestral.probability import (
    Bernoulli,
    FullGaussian,
    Gaussian,
    Laplace,
    Mixture,
    standard_normal,
)
from ancestral.training import train
from ancestral.training.optim import adam, cosine

PIXELS = load_digits().data / 16
TRAINING, TEST = PIXELS[:1500], binarize(PIXELS[1500:])
D = 8


def decoder() -> Bernoulli:
    return Bernoulli(MLP(D, (100,), n_out=64))


def mixture_prior() -> tuple[LatentModel, Player]:
    """VAE whose prior p(z) is a learned mixture of ten Gaussians; the KL is sampled."""
    components = Gaussian(Constant(2 * torch.randn(10, D), torch.zeros(10, D)))
    model = LatentModel(
        prior=Mixture(components, logits=torch.nn.Parameter(torch.zeros(10))),
        likelihood=decoder(),
        posterior=Gaussian(MLP(64, (100,), heads=(D, D))),
    )
    return model, Player(model, elbo(kl="sampled"), adam(cosine(3e-3)))


def full_covariance_posterior() -> tuple[LatentModel, Player]:
    """VAE whose posterior q(z | x) is a Gaussian with a full covariance; the KL is closed-form."""
    model = LatentModel(
        prior=standard_normal(D),
        likelihood=decoder(),
        posterior=FullGaussian(MLP(64, (100,), heads=(D, D * (D + 1) // 2))),
    )
    return model, Player(model, elbo(), adam(cosine(3e-3)))


def laplace_posterior() -> tuple[LatentModel, Player]:
    """VAE with a Laplace posterior q(z | x), trained by the importance weighted bound."""
    model = LatentModel(
        prior=standard_normal(D),
        likelihood=decoder(),
        posterior=Laplace(MLP(64, (100,), heads=(D, D))),
    )
    return model, Player(model, iwae(5), adam(cosine(3e-3)))


def fit_and_score(variant, max_epochs: int = 100) -> LogLikelihood:
    torch.manual_seed(0)
    model, player = variant()
    data = DeviceData(TRAINING, batch_transform=sample_bernoulli)
    train(model, player, data, max_epochs=max_epochs)
    return log_likelihood(model, DeviceData(TEST), n_samples=500)


if __name__ == "__main__":
    for variant in (mixture_prior, full_covariance_posterior, laplace_posterior):
        print(f"{variant.__name__:26} {fit_and_score(variant)}")
