"""The concepts hold for what comes next: each system in about ten lines from public parts."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Normal, Uniform

from ancestral import Batch, Data, Generator, LatentModel, Player
from ancestral.conditional import (
    Bernoulli,
    Chain,
    FactorAnalyser,
    Fixed,
    Gaussian,
    standard_normal,
)
from ancestral.networks import MLP, BatchNorm, Constant, Memory, Read, Take, Tap, linear
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
from ancestral.optim import adam, clipped
from ancestral.preprocess import bernoulli_draw
from ancestral.train import train

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


def falls(history, name="loss", by=0.0):
    curve = history.curve(name)
    assert curve[-1] < curve[0] - by
    assert np.isfinite(curve).all()


def test_bound_plus_hinge_share_one_run():
    model = vae()
    model.classifier = linear(8, 10)
    runs = []
    objective = elbo() + hinge(c=10.0)
    counted = type(objective)(objective.terms, lambda m, b: runs.append(1) or objective.run(m, b))
    y = np.where(np.arange(len(Y)) % 3 == 0, -1, Y)  # a third is unlabelled
    data = Data(X, y, on_batch=bernoulli_draw)
    history = train(model, Player(model, counted, adam(3e-3)), data, max_epochs=8)
    falls(history, "hinge", by=1.0)
    falls(history, "reconstruction")
    assert len(runs) == history[-1]["step"]
    with torch.no_grad():
        scores = model.classifier(posterior_mean(model.run(Batch(torch.from_numpy(X)))))
    assert (scores.argmax(-1).numpy() == Y).mean() > 0.8


def test_hinge_on_tapped_hidden_features():
    posterior = nn.Sequential(linear(64, 32), nn.Tanh(), Tap("h"), MLP(32, heads=(4, 4)))
    model = LatentModel(standard_normal(4), Bernoulli(MLP(4, (32,), 64)), Gaussian(posterior))
    model.classifier = linear(32, 10)
    objective = elbo() + hinge(features=lambda run: run.taps["h"])
    falls(train(model, Player(model, objective), Data(X, Y), max_epochs=3), "hinge")


def test_gan_is_two_players():
    model = nn.Module()
    noise = Fixed(Uniform(-torch.ones(8), torch.ones(8)))
    model.generator = Generator(nn.Sequential(MLP(8, (64,), 64), nn.Sigmoid()), noise)
    model.critic = MLP(64, (64,), 1, activation="leaky_relu")
    players = {
        "critic": Player(model.critic, critic_loss(), adam(1e-3, betas=(0.5, 0.999)), repeat=2),
        "generator": Player(model.generator, generator_loss(), adam(1e-3, betas=(0.5, 0.999))),
    }
    history = train(model, players, Data(X), max_epochs=12)
    falls(history, "critic.loss")
    with torch.no_grad():
        sample = model.generator.sample(500).numpy()
    assert np.abs(sample.mean(0) - X.mean(0)).mean() < 0.6 * np.abs(0.5 - X.mean(0)).mean()


def test_moment_matching_network():
    noise = Fixed(Uniform(-torch.ones(8), torch.ones(8)))
    model = Generator(nn.Sequential(MLP(8, (64,), 64), nn.Sigmoid()), noise)
    falls(train(model, Player(model, mmd([2.0, 5.0, 10.0])), Data(X), max_epochs=3))


def test_conditional_moment_matching_caches_the_operator_by_batch_index():
    model = Generator(
        nn.Sequential(MLP(64 + 4, (64,), 10), nn.Sigmoid()),
        Fixed(Uniform(torch.zeros(4), torch.ones(4))),
        condition="x",
    )
    objective = cmmd("x", "y", [1.0, 9.0], [1.0, 3.0], regularization=1e-2, n_classes=10)
    data = Data(X, Y)
    history = train(
        model, Player(model, objective), data, max_epochs=12, batch_size=200, shuffle=False
    )
    falls(history, by=1.0)
    assert len(objective.terms["cmmd"]._known) == history[0]["step"]  # one for each batch
    with torch.no_grad():
        prediction = model.run(data.take(torch.arange(len(X)))).sample.argmax(-1)
    assert (prediction.numpy() == Y).mean() > 0.8


def test_sigmoid_belief_net_by_vimco():
    layers = (16, 8)
    model = LatentModel(
        prior=Chain(
            [Bernoulli(Constant(torch.zeros(8))), Bernoulli(linear(8, 16))],
            sizes=layers[::-1],
            reverse=True,
        ),
        likelihood=Bernoulli(nn.Sequential(Take(0, 16), linear(16, 64))),
        posterior=Chain([Bernoulli(linear(64, 16)), Bernoulli(linear(16, 8))], sizes=layers),
    )
    data = Data(X, on_batch=bernoulli_draw)
    history = train(model, Player(model, vimco(5), adam(3e-3)), data, max_epochs=10)
    falls(history, "bound", by=3.0)


def test_factor_analysis_by_its_exact_masked_likelihood():
    varied = X[:, X.std(0) > 0.05].astype(np.float64)
    damaged = np.where(np.random.default_rng(0).random(varied.shape) < 0.2, np.nan, varied)
    d = varied.shape[1]
    model = FactorAnalyser(0.1 * torch.randn(d, 5), torch.full((d,), 0.3), torch.zeros(d)).double()
    data = Data(damaged, missing=True, dtype=torch.float64)
    falls(train(model, Player(model, nll(), adam(0.03)), data, max_epochs=10), "nll", by=10.0)


def test_network_with_batch_norm_and_memory():
    decoder = nn.Sequential(linear(8, 64), BatchNorm(64), nn.ReLU(), Memory(64, 10), linear(64, 64))
    encoder = MLP(64, (64,), heads=(8, 8), activation="relu", batch_norm=True)
    model = LatentModel(standard_normal(8), Bernoulli(decoder), Gaussian(encoder))
    optimizer = clipped(adam(3e-3, eps=1e-4), norm=5.0, value=1.0)
    data = Data(X, on_batch=bernoulli_draw)
    falls(train(model, Player(model, iwae(5), optimizer), data, max_epochs=6), "bound", by=3.0)
    memory = decoder[3].compose
    assert memory.a[2].abs().max() > 0  # the composition has begun to listen to the memory


def test_class_conditional_model_reads_labels():
    model = LatentModel(
        prior=standard_normal(8),
        likelihood=Bernoulli(nn.Sequential(Read("z", "y", n_classes=10), MLP(18, (64,), 64))),
        posterior=Gaussian(
            nn.Sequential(Read("x", "y", n_classes=10), MLP(74, (64,), heads=(8, 8)))
        ),
    )
    data = Data(X, Y, on_batch=bernoulli_draw)
    falls(train(model, Player(model, elbo(), adam(3e-3)), data, max_epochs=30))
    with torch.no_grad():
        zeros = model.sample(200, torch.zeros(200, dtype=torch.long), mean=True).mean(0).numpy()
    distances = [np.square(zeros - X[k == Y].mean(0)).sum() for k in range(10)]
    assert int(np.argmin(distances)) == 0


def test_two_objectives_with_a_common_term_are_refused():
    with pytest.raises(ValueError, match="reconstruction"):
        elbo() + elbo()


def test_a_term_that_is_not_finite_is_named():
    from ancestral.objectives import Objective
    from ancestral.train import NonFiniteError

    model = vae()
    bad = Objective({"broken": lambda model, run: run.log_px.mean() * torch.inf})
    with pytest.raises(NonFiniteError, match=r"'broken' became -inf at step 1.*learning_rate"):
        train(model, Player(model, elbo() + bad), Data(X), max_epochs=1)


def test_players_move_disjoint_parameters_in_turn():
    model = vae()
    before = [p.clone() for p in model.likelihood.parameters()]
    train(model, Player(model.posterior, elbo()), Data(X[:200]), max_epochs=1)
    after = model.likelihood.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_normal_prior_is_a_buffer_that_moves_with_the_model():
    model = vae().double()
    assert model.prior().loc.dtype == torch.float64
    assert isinstance(model.prior(), Normal)
    assert not list(model.prior.parameters())
