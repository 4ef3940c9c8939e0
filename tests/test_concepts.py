"""Integration: models of each kind composed from public parts in about ten lines each."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Normal, Uniform

from ancestral import Batch, DeviceData, Generator, LatentModel, Player
from ancestral.data.device_data import sample_bernoulli
from ancestral.models.factor_analysis import FactorAnalyser
from ancestral.nn import MLP, ActivationTap, BatchNorm, Constant, Memory, ReadContext, Slice, linear
from ancestral.objectives import (
    cmmd,
    critic_loss,
    elbo,
    generator_loss,
    hinge,
    iwae,
    mmd,
    nll,
    posterior_mean,
    vimco,
)
from ancestral.probability.composite import Chain
from ancestral.probability.conditionals import Bernoulli, Gaussian, Unconditional, standard_normal
from ancestral.training import train
from ancestral.training.optim import adam, clip

DIGITS = load_digits()
X = (DIGITS.data / 16).astype(np.float32)
Y = DIGITS.target


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def vae(n_latents=8, n_in=64):
    return LatentModel(
        prior=standard_normal(n_latents),
        likelihood=Bernoulli(MLP(n_latents, (64,), 64)),
        posterior=Gaussian(MLP(n_in, (64,), heads=(n_latents, n_latents))),
    )


def assert_decreases(history, name="loss", by=0.0):
    """Check that a training curve is finite and ends lower than it starts by at least ``by``."""
    curve = history.curve(name)
    assert curve[-1] < curve[0] - by
    assert np.isfinite(curve).all()


def test_elbo_and_hinge_share_one_forward_pass():
    model = vae()
    model.classifier = linear(8, 10)
    runs = []
    objective = elbo() + hinge(c=10.0)
    counting = type(objective)(objective.terms, lambda m, b: runs.append(1) or objective.run(m, b))
    y = np.where(np.arange(len(Y)) % 3 == 0, -1, Y)  # a third of the labels is missing
    data = DeviceData(X, y, batch_transform=sample_bernoulli)
    history = train(model, Player(model, counting, adam(3e-3)), data, max_epochs=8)
    assert_decreases(history, "hinge", by=1.0)
    assert_decreases(history, "reconstruction")
    assert len(runs) == history[-1]["step"]
    with torch.no_grad():
        scores = model.classifier(posterior_mean(model.run(Batch(torch.from_numpy(X)))))
    assert (scores.argmax(-1).numpy() == Y).mean() > 0.8


def test_hinge_on_hidden_activations_of_the_encoder():
    posterior = nn.Sequential(linear(64, 32), nn.Tanh(), ActivationTap("h"), MLP(32, heads=(4, 4)))
    model = LatentModel(standard_normal(4), Bernoulli(MLP(4, (32,), 64)), Gaussian(posterior))
    model.classifier = linear(32, 10)
    objective = elbo() + hinge(features=lambda run: run.activations["h"])
    assert_decreases(
        train(model, Player(model, objective), DeviceData(X, Y), max_epochs=3), "hinge"
    )


def test_gan_training_with_two_players():
    model = nn.Module()
    noise = Unconditional(Uniform(-torch.ones(8), torch.ones(8)))
    model.generator = Generator(nn.Sequential(MLP(8, (64,), 64), nn.Sigmoid()), noise)
    model.critic = MLP(64, (64,), 1, activation="leaky_relu")
    players = {
        "critic": Player(model.critic, critic_loss(), adam(1e-3, betas=(0.5, 0.999)), repeat=2),
        "generator": Player(model.generator, generator_loss(), adam(1e-3, betas=(0.5, 0.999))),
    }
    history = train(model, players, DeviceData(X), max_epochs=12)
    assert_decreases(history, "critic.loss")
    with torch.no_grad():
        sample = model.generator.sample(500).numpy()
    assert np.abs(sample.mean(0) - X.mean(0)).mean() < 0.6 * np.abs(0.5 - X.mean(0)).mean()


def test_moment_matching_network_training():
    noise = Unconditional(Uniform(-torch.ones(8), torch.ones(8)))
    model = Generator(nn.Sequential(MLP(8, (64,), 64), nn.Sigmoid()), noise)
    assert_decreases(
        train(model, Player(model, mmd([2.0, 5.0, 10.0])), DeviceData(X), max_epochs=3)
    )


def test_cmmd_caches_one_regression_operator_per_batch():
    model = Generator(
        nn.Sequential(MLP(64 + 4, (64,), 10), nn.Sigmoid()),
        Unconditional(Uniform(torch.zeros(4), torch.ones(4))),
        condition="x",
    )
    objective = cmmd("x", "y", [1.0, 9.0], [1.0, 3.0], regularization=1e-2, n_classes=10)
    data = DeviceData(X, Y)
    history = train(
        model, Player(model, objective), data, max_epochs=12, batch_size=200, shuffle=False
    )
    assert_decreases(history, by=1.0)
    assert len(objective.terms["cmmd"]._cache) == history[0]["step"]  # one per batch
    with torch.no_grad():
        prediction = model.run(data.batch_at(torch.arange(len(X)))).sample.argmax(-1)
    assert (prediction.numpy() == Y).mean() > 0.8


def test_sigmoid_belief_net_training_with_vimco():
    layers = (16, 8)
    model = LatentModel(
        prior=Chain(
            [Bernoulli(Constant(torch.zeros(8))), Bernoulli(linear(8, 16))],
            sizes=layers[::-1],
            reverse=True,
        ),
        likelihood=Bernoulli(nn.Sequential(Slice(0, 16), linear(16, 64))),
        posterior=Chain([Bernoulli(linear(64, 16)), Bernoulli(linear(16, 8))], sizes=layers),
    )
    data = DeviceData(X, batch_transform=sample_bernoulli)
    history = train(model, Player(model, vimco(5), adam(3e-3)), data, max_epochs=10)
    assert_decreases(history, "bound", by=3.0)


def test_factor_analysis_training_with_exact_masked_likelihood():
    varied = X[:, X.std(0) > 0.05].astype(np.float64)
    incomplete = np.where(np.random.default_rng(0).random(varied.shape) < 0.2, np.nan, varied)
    d = varied.shape[1]
    model = FactorAnalyser(0.1 * torch.randn(d, 5), torch.full((d,), 0.3), torch.zeros(d)).double()
    data = DeviceData(incomplete, missing=True, dtype=torch.float64)
    assert_decreases(
        train(model, Player(model, nll(), adam(0.03)), data, max_epochs=10), "nll", by=10.0
    )


def test_iwae_training_with_batch_norm_and_memory():
    decoder = nn.Sequential(linear(8, 64), BatchNorm(64), nn.ReLU(), Memory(64, 10), linear(64, 64))
    encoder = MLP(64, (64,), heads=(8, 8), activation="relu", batch_norm=True)
    model = LatentModel(standard_normal(8), Bernoulli(decoder), Gaussian(encoder))
    optimizer = clip(adam(3e-3, eps=1e-4), norm=5.0, value=1.0)
    data = DeviceData(X, batch_transform=sample_bernoulli)
    assert_decreases(
        train(model, Player(model, iwae(5), optimizer), data, max_epochs=6), "bound", by=3.0
    )
    memory = decoder[3].compose
    assert memory.a[2].abs().max() > 0  # the memory's coefficients are fitted


def test_class_conditional_vae_samples_resemble_their_class():
    model = LatentModel(
        prior=standard_normal(8),
        likelihood=Bernoulli(
            nn.Sequential(ReadContext("z", "y", n_classes=10), MLP(18, (64,), 64))
        ),
        posterior=Gaussian(
            nn.Sequential(ReadContext("x", "y", n_classes=10), MLP(74, (64,), heads=(8, 8)))
        ),
    )
    data = DeviceData(X, Y, batch_transform=sample_bernoulli)
    assert_decreases(train(model, Player(model, elbo(), adam(3e-3)), data, max_epochs=30))
    with torch.no_grad():
        zeros = model.sample(200, torch.zeros(200, dtype=torch.long), mean=True).mean(0).numpy()
    distances = [np.square(zeros - X[k == Y].mean(0)).sum() for k in range(10)]
    assert int(np.argmin(distances)) == 0


def test_sum_of_objectives_with_a_common_term_raises():
    with pytest.raises(ValueError, match="reconstruction"):
        elbo() + elbo()


def test_non_finite_error_names_the_term():
    from ancestral.objectives import Objective
    from ancestral.training import NonFiniteError

    model = vae()
    non_finite = Objective({"broken": lambda model, run: run.log_px.mean() * torch.inf})
    with pytest.raises(NonFiniteError, match=r"'broken' is -inf at step 1.*learning_rate"):
        train(model, Player(model, elbo() + non_finite), DeviceData(X), max_epochs=1)


def test_player_updates_only_its_own_parameters():
    model = vae()
    before = [p.clone() for p in model.likelihood.parameters()]
    train(model, Player(model.posterior, elbo()), DeviceData(X[:200]), max_epochs=1)
    after = model.likelihood.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_standard_normal_prior_is_a_buffer_and_follows_the_model_dtype():
    model = vae().double()
    assert model.prior().loc.dtype == torch.float64
    assert isinstance(model.prior(), Normal)
    assert not list(model.prior.parameters())
