"""Objectives: gradients by enumeration, values by closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy import integrate, stats
from torch import nn

from ancestral.data.batch import Batch
from ancestral.models.implicit import Generator
from ancestral.models.latent import LatentModel
from ancestral.models.run import GeneratorRun, LatentRun, Run
from ancestral.nn import MLP, ActivationTap, BatchNorm, Heads
from ancestral.objectives import (
    Objective,
    cmmd,
    cmmd2,
    critic_loss,
    elbo,
    generator_loss,
    hinge,
    hinge_loss,
    iwae,
    local_reconstruction,
    log_mean_exp,
    mmd,
    mmd2,
    posterior_mean,
    reweighted_wake,
    vimco,
)
from ancestral.objectives.moment_matching import ConditionalMMD
from ancestral.objectives.variational import run_resampled, systematic_resampling
from ancestral.probability.cmmd import regression_operator
from ancestral.probability.conditionals import Bernoulli, Gaussian, Unconditional, standard_normal
from ancestral.probability.kernels import DeltaKernel, GaussianKernel, Kernel, squared_distances
from ancestral.training import engine

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def vae(n_latents=2, seed=0):
    with engine.seeded_rng(seed):
        model = LatentModel(
            standard_normal(n_latents),
            Bernoulli(MLP(n_latents, (4,), 3)),
            Gaussian(MLP(3, (4,), heads=(n_latents, n_latents))),
        )
    return model.double()


def random_bits(n, d=3, seed=0):
    return (rand(n, d, seed=seed) > 0).double()


def gradients(loss, parameters):
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(grads, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


# ---- bounds


def belief_net():
    """Return a sigmoid belief network with two latent bits."""
    with engine.seeded_rng(3):
        model = LatentModel(
            Bernoulli(_Free(2)), Bernoulli(nn.Linear(2, 3)), Bernoulli(nn.Linear(3, 2))
        )
    return model.double()


class _Free(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.logits = nn.Parameter(torch.linspace(-1, 1, n))

    def forward(self, c=None):
        return self.logits


def run_at(model, batch, z):
    """Return the run of a model at the latent vectors z [k, batch, n_latents]."""
    log_px = model.likelihood.log_prob(batch.x, z)
    return LatentRun(batch, model.encode(batch), model.prior(), z, log_px)


@pytest.mark.parametrize("k", [2, 3])
def test_vimco_expected_gradient_matches_exact_gradient_by_enumeration(k):
    """Sum over all draws of k latent vectors weighted by probability: no sampling error."""
    model, batch = belief_net(), Batch(tensor([[1.0, 0.0, 1.0]]))
    parameters = list(model.parameters())
    hidden = tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    exact, value, average = 0.0, 0.0, 0.0
    for draws in itertools.product(range(4), repeat=k):
        run = run_at(model, batch, hidden[list(draws)].unsqueeze(1))
        mass = run.log_qz.sum(0).exp()
        exact = exact + (mass * log_mean_exp(run.log_w)).sum()
        term = vimco(k).terms["bound"](model, run)
        assert term.item() == pytest.approx(-log_mean_exp(run.log_w).item(), abs=1e-12)
        value += mass.item() * term.item()
        average = average + mass.item() * gradients(term, parameters)
    expected = gradients(-exact, parameters)
    assert value == pytest.approx(-exact.item(), abs=1e-12)
    torch.testing.assert_close(average, expected, atol=1e-11, rtol=1e-9)
    assert (expected.abs() > 1e-4).sum() > 12


def test_vimco_baseline_is_geometric_mean_of_other_weights():
    model, z = belief_net(), random_bits(4, 2, seed=1).unsqueeze(1)
    run = run_at(model, Batch(tensor([[1.0, 0.0, 1.0]])), z)
    parameters = list(model.parameters())
    log_w = run.log_w[:, 0].tolist()

    def bound(values):
        return math.log(sum(math.exp(v) for v in values) / len(values))

    expected = gradients(-log_mean_exp(run.log_w).sum(), parameters)
    for j in range(4):
        others = log_w[:j] + log_w[j + 1 :]
        signal = bound(log_w) - bound([*others, sum(others) / 3])
        expected = expected - signal * gradients(run.log_qz[j].sum(), parameters)
    actual = gradients(vimco(4).terms["bound"](model, run), parameters)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-9)
    assert len({round(v, 9) for v in log_w}) > 1


def test_vimco_batch_gradient_is_mean_of_per_sample_gradients():
    model, x, z = belief_net(), random_bits(4), random_bits(3 * 4, 2, seed=1).view(3, 4, 2)
    parameters = list(model.parameters())
    batch_gradient = gradients(
        vimco(3).terms["bound"](model, run_at(model, Batch(x), z)), parameters
    )
    sample_gradients = [
        gradients(
            vimco(3).terms["bound"](model, run_at(model, Batch(x[i : i + 1]), z[:, i : i + 1])),
            parameters,
        )
        for i in range(4)
    ]
    torch.testing.assert_close(batch_gradient, torch.stack(sample_gradients).mean(0))


@pytest.mark.parametrize("k", [2, 3])
def test_reweighted_wake_gradients_of_model_and_q_by_enumeration(k):
    """The expected model gradient is exact; the gradient for q is that of -sum w~ log q."""
    model, batch = belief_net(), Batch(tensor([[1.0, 0.0, 1.0]]))
    theta = [*model.prior.parameters(), *model.likelihood.parameters()]
    phi = list(model.posterior.parameters())
    hidden = tensor(list(itertools.product([0.0, 1.0], repeat=2)))
    exact, average = 0.0, 0.0
    for draws in itertools.product(range(4), repeat=k):
        run = run_at(model, batch, hidden[list(draws)].unsqueeze(1))
        mass = run.log_qz.sum(0).exp().detach()
        exact = exact + (mass * log_mean_exp(run.log_w)).sum()
        term = reweighted_wake(k).terms["bound"](model, run)
        assert term.item() == pytest.approx(-log_mean_exp(run.log_w).item(), abs=1e-12)
        average = average + mass.item() * gradients(term, theta)
        weights = torch.softmax(run.log_w.detach(), 0)
        expected = gradients(-(weights * run.log_qz).sum(), phi)
        torch.testing.assert_close(gradients(term, phi), expected)
    torch.testing.assert_close(average, gradients(-exact, theta), atol=1e-11, rtol=1e-9)


def test_vimco_has_lower_variance_than_score_function_gradient():
    model, batch = belief_net(), Batch(tensor([[1.0, 0.0, 1.0]]).expand(1, 3))
    phi = list(model.posterior.parameters())
    vimco_gradients, score_gradients = [], []
    for seed in range(120):
        with engine.seeded_rng(seed):
            run = model.run(batch, 5)
        vimco_gradients.append(gradients(vimco(5).terms["bound"](model, run), phi))
        bound = log_mean_exp(run.log_w)
        score_gradients.append(gradients(-(bound + bound.detach() * run.log_qz.sum(0)).sum(), phi))
    actual, reference = torch.stack(vimco_gradients), torch.stack(score_gradients)
    error = torch.sqrt((actual.var(0) + reference.var(0)) / 120)
    assert ((actual.mean(0) - reference.mean(0)).abs() <= 4 * error + 1e-12).all()
    assert actual.var(0).sum() < 0.1 * reference.var(0).sum()


@pytest.mark.parametrize("k", [1, 2, 6])
def test_doubly_reparameterised_gradient_matches_formula_for_fixed_noise(k):
    model, batch = vae(), Batch(random_bits(4))
    theta = [*model.likelihood.parameters()]
    phi = [*model.posterior.parameters()]
    with engine.seeded_rng(1):
        plain_run = model.run(batch, k)
    plain = iwae(k).terms["bound"](model, plain_run)
    with engine.seeded_rng(1):
        term = iwae(k, "doubly")(model, batch)["bound"]
    assert term.item() == pytest.approx(plain.item(), abs=1e-12)
    torch.testing.assert_close(gradients(term, theta), gradients(plain, theta))
    # phi: sum_k w~^2 (d log w / dz) (dz / dphi), with the density of q detached
    with engine.seeded_rng(1):
        run = model.run(batch, k)
    q = model.encode(batch)
    detached_q = torch.distributions.Normal(q.loc.detach(), q.scale.detach())
    log_w = run.log_px + run.log_pz - detached_q.log_prob(run.z).sum(-1)
    (grad_z,) = torch.autograd.grad(log_w.sum(), run.z, retain_graph=True)
    weights = torch.softmax(log_w, 0).detach()
    surrogate = -(weights.square().unsqueeze(-1) * grad_z.detach() * run.z).sum() / 4
    torch.testing.assert_close(gradients(term, phi), gradients(surrogate, phi))


def test_doubly_reparameterised_gradient_has_expectation_of_reparameterised_gradient():
    model, batch, n = vae(seed=2), Batch(tensor([[1.0, 0.0, 1.0]]).expand(200, 3)), 80
    phi = list(model.posterior.parameters())
    plain, doubly = [], []
    for seed in range(n):
        with engine.seeded_rng(0, seed):
            plain.append(gradients(iwae(5)(model, batch)["bound"], phi))
        with engine.seeded_rng(1, seed):
            doubly.append(gradients(iwae(5, "doubly")(model, batch)["bound"], phi))
    plain, doubly = torch.stack(plain), torch.stack(doubly)
    error = torch.sqrt((plain.var(0) + doubly.var(0)) / n)
    assert ((plain.mean(0) - doubly.mean(0)).abs() <= 4 * error + 1e-12).all()
    assert (plain.mean(0).abs() > 8 * error).any()


def test_doubly_reparameterised_gradient_vanishes_at_the_exact_posterior():
    likelihood = nn.Linear(1, 1, bias=False).double()
    encoder = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        likelihood.weight.fill_(1.0)
        encoder.weight.fill_(0.8)
    log_var = nn.Parameter(tensor([0.2]).log())
    model = LatentModel(
        standard_normal(1).double(),
        Gaussian(likelihood, nn.Parameter(tensor([0.25]).log())),
        Gaussian(encoder, log_var),
    )
    phi = [encoder.weight, log_var]
    with engine.seeded_rng(0):
        run = model.run(Batch(rand(5, 1)), 4)
    plain = gradients(iwae(4).terms["bound"](model, run), phi)
    doubly = gradients(iwae(4, "doubly").terms["bound"](model, run), phi)
    assert doubly.abs().max() < 1e-12
    assert plain.abs().max() > 1e-2


@pytest.mark.parametrize("gradient", ["reparameterised", "doubly"])
def test_resampled_iwae_gradient_has_expectation_of_full_gradient(gradient):
    model, batch, n = vae(seed=2), Batch(tensor([[1.0, 0.0, 1.0]]).expand(200, 3)), 80
    parameters = list(model.parameters())
    full, resampled = [], []
    for seed in range(n):
        with engine.seeded_rng(0, seed):
            full.append(gradients(iwae(20, gradient)(model, batch)["bound"], parameters))
        with engine.seeded_rng(1, seed):
            resampled.append(gradients(iwae(20, gradient, 3)(model, batch)["bound"], parameters))
    full, resampled = torch.stack(full), torch.stack(resampled)
    error = torch.sqrt((full.var(0) + resampled.var(0)) / n)
    assert ((full.mean(0) - resampled.mean(0)).abs() <= 4 * error + 1e-12).all()
    assert (full.mean(0).abs() > 8 * error).any()


@pytest.mark.parametrize("gradient", ["reparameterised", "doubly"])
def test_resampled_iwae_value_equals_bound_of_all_samples(gradient):
    model, batch = vae(), Batch(random_bits(4))
    with engine.seeded_rng(0):
        full = iwae(6, gradient)(model, batch)["bound"]
    with engine.seeded_rng(0):
        resampled = iwae(6, gradient, 2)(model, batch)["bound"]
    assert resampled.item() == pytest.approx(full.item(), abs=1e-12)
    with torch.no_grad(), engine.seeded_rng(0):
        without_grad = iwae(6, gradient, 2)(model, batch)["bound"]
    assert without_grad.item() == pytest.approx(full.item(), abs=1e-12)


def test_resampled_iwae_gradient_is_computed_at_resampled_latents():
    """If one sample has all the weight, the gradient is the gradient at that sample."""
    model, batch = vae(), Batch(random_bits(4))
    with engine.seeded_rng(0):
        full_run = model.run(batch, 5)
    best = full_run.log_w.argmax(0)
    model.run_at, run_at = (lambda z, *args: _upweight(run_at(z, *args), best)), model.run_at
    with engine.seeded_rng(0):
        actual = gradients(iwae(5, n_resampled=2)(model, batch)["bound"], [*model.parameters()])
    expected = -full_run.log_w.gather(0, best.unsqueeze(0)).mean()
    torch.testing.assert_close(actual, gradients(expected, [*model.parameters()]))


def _upweight(run, best):
    if len(run.z) == 5:
        run.log_px = run.log_px + 1000 * (torch.arange(5).unsqueeze(1) == best)
    return run


def test_resampled_run_has_encoder_and_decoder_taps():
    with engine.seeded_rng(0):
        model = LatentModel(
            standard_normal(2),
            Bernoulli(nn.Sequential(nn.Linear(2, 4), ActivationTap("down"), nn.Linear(4, 3))),
            Gaussian(nn.Sequential(nn.Linear(3, 4), ActivationTap("up"), Heads(4, (2, 2)))),
        ).double()
    objective = iwae(8, n_resampled=2) + local_reconstruction([("up", "down", 0.1)])
    run = objective.run(model, Batch(random_bits(6)))
    assert {name: len(tap) for name, tap in run.activations.items()} == {"up": 6, "down": 2}


@given(k=st.integers(2, 9), m=st.integers(1, 8), seed=st.integers(0, 99))
@QUICK
def test_systematic_resampling_counts_are_proportional_to_shares(k, m, seed):
    shares = torch.softmax(rand(k, 1, seed=seed).expand(k, 4000), 0)
    with engine.seeded_rng(seed):
        indices = systematic_resampling(shares, m)
    counts = torch.stack([(indices == i).sum(0) for i in range(k)]).double()
    assert indices.shape == (m, 4000)
    assert ((counts - m * shares).abs() < 1).all()
    torch.testing.assert_close(counts.mean(1), m * shares[:, 0], atol=0.04, rtol=0)


def test_resampled_run_uses_batch_norm_statistics_of_all_samples():
    with engine.seeded_rng(0):
        model = LatentModel(
            standard_normal(2),
            Bernoulli(MLP(2, (4,), 3, batch_norm=True)),
            Gaussian(MLP(3, (4,), heads=(2, 2), batch_norm=True)),
        ).double()
    batch = Batch(random_bits(6))
    with engine.seeded_rng(1):
        full_run = model.run(batch, 7)
    with engine.seeded_rng(1):
        resampled_run = run_resampled(model, batch, 7, 3)
    torch.testing.assert_close(resampled_run.log_w_all, full_run.log_w)
    differences = (resampled_run.log_w.unsqueeze(1) - full_run.log_w.unsqueeze(0)).abs()
    assert (differences.amin(1) < 1e-12).all()
    norms = [m for m in model.modules() if isinstance(m, BatchNorm)]
    assert all(norm.sharing is None and norm.shared_moments is None for norm in norms)
    resampled_run.log_w.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_doubly_reparameterised_bound_preserves_gradients_of_other_terms():
    """A term of z added to the bound has its usual gradient."""
    model, batch = vae(), Batch(random_bits(4))
    phi = list(model.posterior.parameters())
    extra = Objective({"size": lambda m, run: run.z.square().mean()})
    results = []
    for objective in (iwae(5, "doubly"), iwae(5, "doubly") + extra, iwae(5) + extra, iwae(5)):
        with engine.seeded_rng(0):
            results.append(gradients(sum(objective(model, batch).values()), phi))
    torch.testing.assert_close(results[1] - results[0], results[2] - results[3])


def test_score_function_objectives_require_two_samples():
    for objective, name in ((vimco, "VIMCO"), (reweighted_wake, "reweighted wake-sleep")):
        with pytest.raises(ValueError, match=f"k=1: {name} compares samples"):
            objective(1)


def test_vimco_rejects_reparameterised_posterior():
    """The bound would be differentiated through z and by the score function as well."""
    with pytest.raises(ValueError, match=r"expected a discrete q\(z \| x\): use elbo or iwae"):
        vimco(2)(vae(), Batch(random_bits(2)))


def test_sum_of_objectives_runs_the_model_once():
    model, batch = vae(), Batch(random_bits(4), torch.tensor([0, 1, -1, 0]))
    model.classifier = nn.Linear(2, 2).double()
    runs, model_run = [], model.run
    model.run = lambda *args: runs.append(model_run(*args)) or runs[-1]
    with engine.seeded_rng(0):
        terms = (hinge(2.0) + elbo(3, "sampled"))(model, batch)
    assert len(runs) == 1
    run = runs[0]
    assert run.z.shape == (3, 4, 2)
    expected = {
        "reconstruction": -run.log_px.mean(),
        "kl": (run.log_qz - run.log_pz).mean(),
        "hinge": 2 * hinge_loss(model.classifier(run.q.mean)[[0, 1, 3]], batch.y[[0, 1, 3]]).mean(),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    with pytest.raises(ValueError, match="bound"):
        iwae(2) + iwae(3)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [(elbo, (0,)), (iwae, (0,)), (vimco, (1,)), (elbo, (1, "exact")), (iwae, (5, "doubly", 7))],
)
def test_bounds_reject_invalid_settings(make, arguments):
    with pytest.raises((ValueError, TypeCheckError), match=str(arguments[-1])):
        make(*arguments)


# ---- hinge loss


SCORES = tensor([[2.0, 1.0, 0.5], [0.2, 0.1, 0.9], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("margin", "expected"),
    [(1.0, [0.0, 1.8, 1.0]), (3.0, [2.0, 3.8, 3.0]), (10.0, [9.0, 10.8, 10.0])],
)
def test_hinge_loss_values(margin, expected):
    torch.testing.assert_close(hinge_loss(SCORES, LABELS, margin), tensor(expected))
    model = _Classifier(nn.Identity())
    run = Run(Batch(SCORES, LABELS))
    term = hinge(2.5, margin, lambda run: run.batch.x).terms["hinge"]
    assert term(model, run).item() == pytest.approx(2.5 * np.mean(expected), abs=1e-12)


class _Classifier(nn.Module):
    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier


@QUICK
@given(st.integers(2, 5), st.integers(1, 6), st.floats(0.1, 20), st.integers(0, 99))
def test_hinge_loss_bounds_zero_one_loss(n_classes, n, margin, seed):
    scores = rand(n, n_classes, seed=seed) * 3
    y = torch.from_numpy(np.random.default_rng(seed).integers(0, n_classes, n))
    loss = hinge_loss(scores, y, margin)
    assert (loss >= margin * (scores.argmax(-1) != y)).all()
    equal = hinge_loss(0 * scores + 1.7, y, margin)
    torch.testing.assert_close(equal, torch.full_like(equal, margin))


@QUICK
@given(st.integers(2, 4), st.floats(0.5, 4), st.integers(0, 99))
def test_hinge_subgradient_matches_central_differences(n_classes, margin, seed):
    scores = rand(5, n_classes, seed=seed).requires_grad_()
    y = torch.from_numpy(np.random.default_rng(seed).integers(0, n_classes, 5))
    assert torch.autograd.gradcheck(
        lambda s: hinge_loss(s, y, margin).sum(), scores, eps=1e-7, atol=1e-5
    )


@QUICK
@given(st.integers(2, 5), st.floats(0.1, 20), st.integers(0, 99))
def test_hinge_loss_matches_definition_and_scales_with_margin(n_classes, margin, seed):
    scores = rand(6, n_classes, seed=seed)
    y = torch.from_numpy(np.random.default_rng(seed).integers(0, n_classes, 6))
    actual = hinge_loss(scores, y, margin)
    for i in range(6):
        f = scores[i].tolist()
        others = [margin + f[j] - f[y[i]] for j in range(n_classes) if j != y[i]]
        assert actual[i].item() == pytest.approx(max(0.0, *others), abs=1e-12)
    torch.testing.assert_close(actual, margin * hinge_loss(scores / margin, y))


def test_hinge_term_averages_over_minibatches_to_full_batch():
    model, y = _Classifier(nn.Linear(3, 4).double()), torch.tensor([0, 3, 1, 2, 0, 1])
    x = rand(6, 3)
    term = hinge(1.5, 1.0, lambda run: run.batch.x).terms["hinge"]
    full = term(model, Run(Batch(x, y)))
    pairs = [list(p) for p in itertools.combinations(range(6), 2)]
    minibatch_values = torch.stack([term(model, Run(Batch(x[p], y[p]))) for p in pairs])
    torch.testing.assert_close(minibatch_values.mean(), full)


def test_expected_scores_equal_scores_at_posterior_mean():
    model, batch = vae(), Batch(random_bits(3), torch.tensor([0, 1, 2]))
    model.classifier = nn.Linear(2, 3).double()
    with torch.no_grad(), engine.seeded_rng(0):
        run = model.run(batch, 20_000)
        scores = model.classifier(run.z)
        expected = model.classifier(posterior_mean(run))
    error = scores.std(0) / math.sqrt(20_000)
    assert ((scores.mean(0) - expected).abs() < 4 * error).all()


def test_hinge_ignores_unlabelled_samples():
    scores = torch.cat([SCORES, rand(2, 3)]).requires_grad_()
    y = torch.tensor([0, 1, 2, -1, -1])
    term = hinge(1.0, 1.0, lambda run: run.batch.x).terms["hinge"]
    loss = term(_Classifier(nn.Identity()), Run(Batch(scores, y)))
    assert loss.item() == pytest.approx(2.8 / 3, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert not gradient[3:].any()
    unlabelled_loss = term(_Classifier(nn.Identity()), Run(Batch(scores, y - 5)))
    assert unlabelled_loss.item() == 0
    with pytest.raises(ValueError, match="labels"):
        term(_Classifier(nn.Identity()), Run(Batch(scores)))


# ---- moment matching


def expected_kernel(m1, s1, m2, s2, g):
    """Return E k(x, y), x ~ N(m1, s1), y ~ N(m2, s2), with kernel exp(-|x - y|^2 / (2 g))."""
    total = s1 + s2 + g * np.eye(len(m1))
    d = np.asarray(m1) - np.asarray(m2)
    exponent = -0.5 * d @ np.linalg.solve(total, d)
    return math.sqrt(g ** len(m1) / np.linalg.det(total)) * math.exp(exponent)


CASES = [
    (([0.0], [[1.0]]), ([1.0], [[1.0]]), 1.0, 0.177267634920),
    (([0.0], [[1.0]]), ([0.0], [[4.0]]), 2.0, 0.085275409037),
    (([0.0, 0.0], np.eye(2)), ([1.0, -1.0], [[2.0, 0.5], [0.5, 1.0]]), 1.0, 0.185481768270),
]


@pytest.mark.parametrize(("p", "q", "g", "expected"), CASES)
def test_biased_mmd_expectation_matches_closed_form_for_gaussians(p, q, g, expected):
    p, q = (tuple(np.asarray(v, float) for v in pair) for pair in (p, q))
    pairs = (p, p), (q, q), (p, q)
    kernels = [expected_kernel(*u, *v, g) for u, v in pairs]
    xx, yy, xy = kernels
    assert xx + yy - 2 * xy == pytest.approx(expected, abs=1e-11)
    rng, n, m = np.random.default_rng(0), 20, 30
    values = []
    for _ in range(400):
        x, y = rng.multivariate_normal(*p, n), rng.multivariate_normal(*q, m)
        values.append(mmd2(torch.from_numpy(x), torch.from_numpy(y), [g]).item())
    mean = expected + (1 - xx) / n + (1 - yy) / m
    assert abs(np.mean(values) - mean) < 4 * np.std(values) / math.sqrt(400)
    assert min(values) >= 0


@QUICK
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_mmd_matches_double_sums_and_is_symmetric(n, m, d, seed):
    a, b, variances = rand(n, d, seed=seed), rand(m, d, seed=seed + 1), [0.5, 2.0, 7.0]

    def k(u, v):
        return sum(math.exp(-((u - v) ** 2).sum().item() / (2 * s)) for s in variances)

    expected = (
        np.mean([k(u, v) for u in a for v in a])
        + np.mean([k(u, v) for u in b for v in b])
        - 2 * np.mean([k(u, v) for u in a for v in b])
    )
    actual = mmd2(a, b, variances)
    assert actual.item() == pytest.approx(expected, abs=1e-12)
    assert actual.item() >= -1e-12
    assert mmd2(a, a, variances).item() == pytest.approx(0, abs=1e-14)
    assert actual.item() == pytest.approx(mmd2(b, a, variances).item(), abs=1e-13)
    kernel_sum = sum(mmd2(a, b, [s]) for s in variances)
    torch.testing.assert_close(actual, kernel_sum, atol=1e-12, rtol=0)


def test_mmd_objective_compares_batch_with_generated_samples():
    with engine.seeded_rng(0):
        generator = Generator(nn.Linear(2, 3), standard_normal(2)).double()
        run = generator.run(Batch(rand(6, 3)))
    term = mmd([1.0, 4.0]).terms["mmd"](generator, run)
    torch.testing.assert_close(term, mmd2(rand(6, 3), run.sample, [1.0, 4.0]))


def test_squared_distances_far_from_origin():
    a, b = rand(6, 2), rand(5, 2, seed=1)
    expected = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(squared_distances(a, b), expected)
    shifted = squared_distances((a + 1000).float(), (b + 1000).float()).double()
    torch.testing.assert_close(shifted, expected, atol=1e-2, rtol=1e-2)


def operator_of(inputs, lam, variances=(1.0,)):
    return regression_operator(GaussianKernel(tuple(variances))(inputs, inputs), lam)


@pytest.mark.parametrize("lam", [1e-3, 0.1, 5.0])
def test_regression_operator_matches_explicit_inverse(lam):
    x = rand(7, 2)
    gram = GaussianKernel((1.0,))(x, x)
    inverse = torch.linalg.inv(gram + lam * torch.eye(7).double())
    expected = inverse @ gram @ inverse
    torch.testing.assert_close(operator_of(x, lam), expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("lam", [0.01, 1.0])
def test_cmmd_with_constant_inputs_equals_scaled_mmd(lam):
    a, b, n = rand(9, 2), rand(9, 2, seed=1), 9
    operator = regression_operator(torch.ones(n, n).double(), lam)
    expected = (n / (n + lam)) ** 2 * mmd2(a, b, [1.0, 3.0])
    torch.testing.assert_close(cmmd2(operator, a, b, [1.0, 3.0]), expected, atol=1e-10, rtol=1e-8)


def test_cmmd_with_class_inputs_equals_sum_of_class_mmds():
    y, lam = torch.tensor([0, 0, 1, 2, 1, 0, 2, 2, 2]), 0.3
    a, b = rand(9, 2), rand(9, 2, seed=1)
    codes = nn.functional.one_hot(y).double()
    actual = cmmd2(operator_of(codes, lam, [1e-3]), a, b, [1.0])
    expected = sum(
        (n / (n + lam)) ** 2 * mmd2(a[y == c], b[y == c], [1.0])
        for c, n in enumerate(y.bincount().tolist())
    )
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)
    generator = _Replay(b)
    objective = cmmd("y", "x", [1e-3], [1.0], lam, n_classes=3)
    for index in (None, torch.arange(9)):
        term = objective(generator, Batch(a, y, index=index))["cmmd"]
        torch.testing.assert_close(term, expected, atol=1e-6, rtol=0)


class _Replay(nn.Module):
    """Generator that returns a fixed sample."""

    def __init__(self, sample):
        super().__init__()
        self.sample = sample

    def run(self, batch):
        return GeneratorRun(batch, sample=self.sample)


def test_cmmd_with_linear_kernels_compares_ridge_regressions():
    x, a, b, lam, g = rand(8, 3), rand(8, 2, seed=1), rand(8, 2, seed=2), 0.7, 1e7
    operator = regression_operator(x @ x.T, lam)
    ridge = torch.linalg.inv(x.T @ x + lam * torch.eye(3).double())
    difference = (a - b).T @ x @ ridge
    expected = difference.square().sum()
    torch.testing.assert_close((operator * ((a - b) @ (a - b).T)).sum(), expected)
    # a Gaussian kernel of large variance g is linear: k(u, v) = 1 - |u - v|^2 / (2 g) + O(g^-2)
    wide = g * cmmd2(operator, a, b, [g])
    torch.testing.assert_close(wide, expected, atol=1e-5, rtol=1e-5)


@QUICK
@given(st.integers(1, 7), st.integers(0, 99))
def test_cmmd_is_symmetric_zero_for_equal_samples_and_permutation_invariant(n, seed):
    x, a, b = rand(n, 2, seed=seed), rand(n, 2, seed=seed + 1), rand(n, 2, seed=seed + 2)
    operator = operator_of(x, 0.1)
    value = cmmd2(operator, a, b, [1.0])
    assert value.item() > 0
    torch.testing.assert_close(cmmd2(operator, b, a, [1.0]), value)
    assert cmmd2(operator, a, a, [1.0]).abs().item() < 1e-12
    permutation = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    shuffled = cmmd2(operator_of(x[permutation], 0.1), a[permutation], b[permutation], [1.0])
    torch.testing.assert_close(shuffled, value, atol=1e-9, rtol=1e-7)


def test_mmd_and_cmmd_gradients_match_finite_differences():
    a, b = rand(5, 2), rand(5, 2, seed=1).requires_grad_()
    operator = operator_of(rand(5, 3, seed=2), 0.1)
    assert torch.autograd.gradcheck(lambda s: mmd2(a, s, [0.5, 2.0]), b)
    assert torch.autograd.gradcheck(lambda s: cmmd2(operator, a, s, [0.5, 2.0]), b)


def test_cmmd_increases_with_output_noise():
    x, noise = rand(40, 1), rand(40, 1, seed=1)
    y = x.sin()
    objective = cmmd("x", "y", [0.5], [0.5], 0.1)
    values = [objective(_Replay(y + s * noise), Batch(x, y))["cmmd"].item() for s in (0, 0.3, 1)]
    assert values[0] == pytest.approx(0, abs=1e-12)
    assert values[0] < values[1] < values[2]


def test_cmmd_cache_distinguishes_batches_with_equal_index():
    """Training and validation batches can have equal indices: each needs its own operator."""
    objective, index = cmmd("x", "y", [1.0], [1.0], 0.1), torch.arange(6)
    sample = rand(6, 2, seed=3)
    for seed in (1, 2):
        batch = Batch(rand(6, 2, seed=seed), rand(6, 2, seed=seed + 10), index=index)
        actual = objective(_Replay(sample), batch)["cmmd"]
        expected = cmmd2(operator_of(batch.x, 0.1), batch.y, sample, [1.0])
        torch.testing.assert_close(actual, expected)


def test_cmmd_cache_size_is_bounded(monkeypatch):
    monkeypatch.setattr("ancestral.objectives.moment_matching.MAX_CACHED_ENTRIES", 4 * 50)
    objective = cmmd("x", "y", [1.0], [1.0], 0.1)
    x, y = rand(600, 1), rand(600, 1, seed=1)
    rng = np.random.default_rng(0)
    for _ in range(600):
        index = torch.from_numpy(rng.permutation(600)[:2])
        objective(_Replay(y[index]), Batch(x[index], y[index], index=index))
    caches = [v for v in vars(objective.terms["cmmd"]).values() if isinstance(v, dict)]
    assert [len(cache) for cache in caches] == [50]


def test_regression_operator_rejects_singular_gram_matrix():
    with pytest.raises(ValueError, match="regularization"):
        regression_operator(torch.ones(3, 3), 0.0)


@pytest.mark.parametrize("form", ["cmmd", "diagonal", "classwise"])
def test_cmmd_class_blocks_match_full_delta_kernel_matrix(form):
    """The class blocks of a delta kernel give the same result as its full matrix."""

    class FullDelta(Kernel):
        def __call__(self, a, b):
            return DeltaKernel()(a, b)

    batch = Batch(rand(40, 5), y=torch.arange(40) % 3, index=torch.arange(40))
    sample, results = rand(40, 5, seed=1).requires_grad_(), []
    for kernel in (DeltaKernel(), FullDelta()):
        term = ConditionalMMD("y", "x", kernel, (0.5, 2.0), 0.1, 3, form)
        term.input_kernel = kernel
        for _ in range(2):  # the second evaluation uses the cache
            value = term(nn.Identity(), GeneratorRun(batch, sample=sample))
        results.append((value, *torch.autograd.grad(value, sample)))
    for block, full in zip(*results, strict=True):
        torch.testing.assert_close(block, full)


@pytest.mark.parametrize("regularization", [1e-3, 1e-5])
def test_cmmd_in_float32_matches_float64(regularization):
    """With two-dimensional inputs, K has eigenvalues far below float32 rounding errors."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(500, 2, generator=generator) for _ in range(2))
    term = ConditionalMMD("x", "y", (1.0, 9.0, 20.0, 40.0, 80.0), (1.0, 4.0), regularization)
    values = [
        term(
            nn.Identity(), GeneratorRun(Batch(x.to(dtype), y=y.to(dtype)), sample=(y + 1).to(dtype))
        )
        for dtype in (torch.float32, torch.float64)
    ]
    assert values[1] > 0
    torch.testing.assert_close(values[0].double(), values[1], rtol=1e-2, atol=0)


def test_cmmd_diagonal_form_with_non_constant_kernel_diagonal():
    class Product(Kernel):
        def __call__(self, a, b):
            return a @ b.mT

    x, y, sample = rand(12, 2), rand(12, 3, seed=1), rand(12, 3, seed=2)
    term = ConditionalMMD("x", "y", (1.0,), Product(), 0.1, estimator="diagonal")
    gram = GaussianKernel((1.0,))(x, x)
    weights = (
        gram.diagonal() * torch.linalg.inv(gram + 0.1 * torch.eye(12).double()).diagonal() ** 2
    )
    within, across = (y * y).sum(1) + (sample * sample).sum(1), (y * sample).sum(1)
    value = term(nn.Identity(), GeneratorRun(Batch(x, y=y), sample=sample))
    torch.testing.assert_close(value, (weights * (within - across)).sum())


# ---- adversarial losses


class AdversarialPair(nn.Module):
    """Generator G(h) = h + shift and critic; data and noise are quantiles of N(0, 1)."""

    def __init__(self, shift, critic):
        super().__init__()
        self.generator, self.critic = _Shift(shift), critic


class _Shift(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.shift = nn.Parameter(tensor([shift]))

    def run(self, batch):
        return GeneratorRun(batch, sample=batch.x + self.shift)


def quantiles(n=400_001):
    """Return the standard normal quantiles at the midpoints of n equal probabilities."""
    return Batch(torch.from_numpy(stats.norm.ppf((np.arange(n) + 0.5) / n)).unsqueeze(-1))


def optimal_critic(m):
    """Return log N(x; 0, 1) - log N(x; m, 1)."""
    return lambda x: m * m / 2 - m * x


def game_value(game, batch):
    return -sum(critic_loss()(game, batch).values()).item()


@pytest.mark.parametrize(
    ("m", "jsd", "value"),
    [
        (0.5, 0.030311300521, -1.325671760),
        (1.0, 0.111421482185, -1.163451397),
        (2.0, 0.336830820347, -0.712632720),
    ],
)
def test_critic_loss_at_optimal_critic_matches_jensen_shannon_divergence(m, jsd, value):
    actual = game_value(AdversarialPair(m, optimal_critic(m)), quantiles())
    assert actual == pytest.approx(value, abs=2e-6)
    assert (actual + math.log(4)) / 2 == pytest.approx(jsd, abs=1e-6)

    def integrand(x):
        p, r = stats.norm.pdf(x), stats.norm.pdf(x, m)
        return 0.5 * (p * math.log(2 * p / (p + r)) + r * math.log(2 * r / (p + r)))

    assert integrate.quad(integrand, -12, 12 + m)[0] == pytest.approx(jsd, abs=1e-9)


@QUICK
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 1))
def test_no_critic_exceeds_the_optimal_value(a, b, c):
    batch, optimum = quantiles(4001), optimal_critic(1.0)
    value = game_value(AdversarialPair(1.0, lambda x: optimum(x) + a + b * x + c * x * x), batch)
    assert value <= game_value(AdversarialPair(1.0, optimum), batch) + 1e-6


def test_critic_loss_matches_sums_for_discrete_distributions():
    p, r = np.array([0.5, 0.25, 0.25, 0.0]), np.array([0.125, 0.125, 0.25, 0.5])
    rows = torch.eye(4).double()
    data = rows.repeat_interleave(torch.from_numpy((8 * p).astype(int)), 0)
    model = rows.repeat_interleave(torch.from_numpy((8 * r).astype(int)), 0)
    with np.errstate(divide="ignore"):
        logits = torch.from_numpy(np.clip(np.log(p) - np.log(r), -50, 50))
    game = nn.Module()
    game.generator, game.critic = _Replay(model), lambda x: x @ logits
    support = p > 0
    jsd = 0.5 * (p[support] * np.log(2 * p[support] / (p + r)[support])).sum()
    jsd += 0.5 * (r * np.log(2 * r / (p + r))).sum()
    value = game_value(game, Batch(data))
    assert value == pytest.approx(2 * jsd - math.log(4), abs=1e-9)
    game.critic = lambda x: 100 * (x[:, 0] - x[:, 3])
    game.generator = _Replay(rows[3:].expand(5, 4))
    assert game_value(game, Batch(rows[:1].expand(5, 4))) == pytest.approx(0, abs=1e-12)


def test_minimax_and_non_saturating_gradients_are_positive_multiples():
    critic = MLP(1, (5,), 1).double()
    for sample in rand(6, 1) * 2:
        game = nn.Module()
        kind_gradients = []
        for kind in ("minimax", "non-saturating"):
            point = sample.clone().view(1, 1).requires_grad_()
            game.generator, game.critic = _Replay(point), critic
            loss = generator_loss(kind)(game, Batch(rand(1, 1)))["fool"]
            kind_gradients.append(torch.autograd.grad(loss, point)[0].item())
        d = torch.sigmoid(critic(sample)).item()
        assert kind_gradients[0] == pytest.approx(d / (1 - d) * kind_gradients[1], rel=1e-9)
        assert abs(kind_gradients[1]) > 1e-6


@pytest.mark.parametrize("kind", ["minimax", "non-saturating"])
@pytest.mark.parametrize("shift", [-1.5, 0.7])
def test_generator_gradient_points_towards_the_data(kind, shift):
    game = AdversarialPair(shift, optimal_critic(shift))
    loss = generator_loss(kind)(game, quantiles(2001))["fool"]
    (gradient,) = torch.autograd.grad(loss, game.generator.shift)
    assert gradient.item() * shift > 0


def test_critic_loss_has_no_generator_gradient():
    critic = nn.Linear(1, 1).double()
    game = AdversarialPair(1.0, critic)
    loss = sum(critic_loss()(game, quantiles(11)).values())
    grads = torch.autograd.grad(loss, [game.generator.shift, critic.weight], allow_unused=True)
    assert grads[0] is None
    assert grads[1].abs().item() > 0
    with pytest.raises((ValueError, TypeCheckError), match="other"):
        generator_loss("other")


def test_generator_samples_from_fixed_noise_distribution():
    noise = Unconditional(torch.distributions.Uniform(-torch.ones(2), torch.ones(2)))
    generator = Generator(nn.Identity(), noise)
    with engine.seeded_rng(0):
        h = generator.sample(20_000)
    assert h.abs().max() <= 1
    assert (h.mean(0).abs() < 4 / math.sqrt(3 * 20_000)).all()
    assert (h.square().mean(0) - 1 / 3).abs().max() < 4 * math.sqrt(4 / 45 / 20_000)
