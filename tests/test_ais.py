"""Annealed importance sampling against closed forms and quadrature."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral import VAE, DeviceData, LatentModel
from ancestral.evaluation.ais import Annealing, annealed_log_likelihood, bidirectional_bounds
from ancestral.evaluation.hmc import hmc_step, value_and_grad
from ancestral.evaluation.log_likelihood import log_likelihood
from ancestral.experiments.evaluation_settings import EvaluationSettings
from ancestral.nn import MLP, Constant
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import engine

W = torch.tensor([[1.0, 0.5], [0.0, -1.0], [2.0, 0.3]], dtype=torch.float64)
PSI = torch.tensor([0.5, 0.2, 1.0], dtype=torch.float64)
QUICK = Annealing(n_steps=30, n_chains=16, n_leapfrog=5, initial_step_size=0.2)


def conjugate():
    """Model z ~ N(0, 1), x | z ~ N(z, 0.25), with a poor approximation q = N(0.8, 0.49)."""
    q = Constant(torch.tensor([0.8]), torch.tensor([0.49]).log())
    likelihood = Gaussian(nn.Identity(), log_var=math.log(0.25))
    return LatentModel(standard_normal(1), likelihood, Gaussian(Rows(q))).double()


class Rows(nn.Module):
    """Constant network outputs, repeated for every row."""

    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return tuple(v.expand(len(x), -1) for v in self.constant())


def analyser():
    """Factor analysis with loadings W, noise PSI and zero mean; the marginal is Gaussian."""
    loading = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        loading.weight.copy_(W)
    q = Rows(Constant(torch.zeros(2), torch.zeros(2)))
    return LatentModel(
        standard_normal(2), Gaussian(loading, log_var=PSI.log()), Gaussian(q)
    ).double()


MARGINAL = MultivariateNormal(torch.zeros(3).double(), W @ W.T + PSI.diag())


def pixels():
    """VAE of six bits with one latent variable and a small MLP decoder."""
    with engine.seeded_rng(3):
        decoder = MLP(1, (8,), 6)
        for p in decoder.parameters():
            nn.init.normal_(p, std=1.5)
        encoder = MLP(6, (8,), heads=(1, 1))
    return LatentModel(standard_normal(1), Bernoulli(decoder), Gaussian(encoder)).double().eval()


def test_ais_mean_weight_is_unbiased():
    x = torch.full((2000, 1), 1.5, dtype=torch.float64)
    annealing = Annealing(n_steps=4, n_chains=1, n_leapfrog=3, initial_step_size=0.3)
    result = annealed_log_likelihood(conjugate(), DeviceData(x, dtype=torch.float64), annealing)
    weights = np.exp(result.values)
    error = weights.std() / math.sqrt(len(weights))
    assert error < 0.01
    assert weights.mean() == pytest.approx(0.145074, abs=4 * error)
    assert result.mean < -1.930510308862


def test_bidirectional_bounds_hold_and_tighten_with_more_distributions():
    exact, gaps = [], []
    for n_steps in (3, 20, 120):
        annealing = Annealing(n_steps=n_steps, n_chains=4, n_leapfrog=5, initial_step_size=0.2)
        bounds = bidirectional_bounds(analyser(), 200, annealing, seed=1)
        with engine.seeded_rng(1):
            _, x = analyser().sample_joint(200)
        exact = MARGINAL.log_prob(x).numpy()
        lower_error, upper_error = bounds.lower.values - exact, bounds.upper.values - exact
        assert lower_error.mean() < 4 * lower_error.std() / math.sqrt(200)
        assert upper_error.mean() > -4 * upper_error.std() / math.sqrt(200)
        gaps.append(bounds.gap)
    assert gaps[0] > gaps[1] > gaps[2] > -0.01
    assert gaps[2] < gaps[0] / 10  # the gap is about 1 / n_steps


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_ais_matches_closed_form_marginal_of_factor_analysis(start):
    x = MARGINAL.sample((50,))
    annealing = Annealing(
        n_steps=100, n_chains=32, n_leapfrog=5, initial_distribution=start, initial_step_size=0.2
    )
    result = annealed_log_likelihood(analyser(), DeviceData(x, dtype=torch.float64), annealing)
    exact = MARGINAL.log_prob(x).numpy()
    np.testing.assert_allclose(result.values, exact, atol=0.35)
    assert abs((result.values - exact).mean()) < 0.05
    assert "AIS" in str(result)


def test_ais_integrates_out_missing_entries():
    x = MARGINAL.sample((50,))
    x[:, 1] = math.nan
    annealing = Annealing(n_steps=100, n_chains=32, n_leapfrog=5, initial_step_size=0.2)
    data = DeviceData(x, missing=True, dtype=torch.float64)
    result = annealed_log_likelihood(analyser(), data, annealing)
    observed = [0, 2]
    marginal = MultivariateNormal(
        torch.zeros(2).double(), MARGINAL.covariance_matrix[observed][:, observed]
    )
    exact = marginal.log_prob(x[:, observed]).numpy()
    assert abs((result.values - exact).mean()) < 0.05


def test_ais_and_importance_sampling_match_quadrature_for_network_decoder():
    model = pixels()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (12, 6)).astype(float))
    grid = torch.linspace(-9, 9, 20_001, dtype=torch.float64).unsqueeze(-1)
    with torch.no_grad():
        log_px, log_pz = model.decode(grid), model.prior().log_prob(grid).sum(-1)
        joint = torch.stack([log_px.log_prob(row).sum(-1) + log_pz for row in x])
        exact = (torch.logsumexp(joint, 1) + math.log(18 / 20_000)).numpy()
    data = DeviceData(x, dtype=torch.float64)
    sampled = log_likelihood(model, data, 5000)
    annealed = annealed_log_likelihood(model, data, Annealing(n_leapfrog=5, initial_step_size=0.1))
    for result in (sampled, annealed):
        errors = result.monte_carlo_errors
        assert (np.abs(result.values - exact) < 4 * errors).all()
    assert annealed.monte_carlo_errors.max() < 0.1


def test_hmc_leaves_correlated_gaussian_invariant():
    target = MultivariateNormal(
        torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.5]]).double()
    )
    with engine.seeded_rng(0):
        z = target.sample((20_000,))
        for _ in range(5):
            z, accepted = hmc_step(
                partial(value_and_grad, target.log_prob), z, torch.tensor(0.5), 4
            )
    assert 0.3 < accepted.double().mean() < 0.99  # both acceptances and rejections occur
    np.testing.assert_allclose(z.mean(0), target.mean, atol=0.03)
    np.testing.assert_allclose(torch.cov(z.T), target.covariance_matrix, atol=0.04)


def test_ais_is_reproducible_and_leaves_global_random_state_unchanged():
    model, data = analyser(), DeviceData(MARGINAL.sample((5,)), dtype=torch.float64)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = (annealed_log_likelihood(model, data, QUICK, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)
    assert torch.equal(state, torch.get_rng_state())


def test_discrete_latents_and_invalid_annealing_settings_raise():
    bits = Bernoulli(MLP(3, (), 2))
    model = LatentModel(bits, Bernoulli(MLP(2, (), 3)), bits)
    with pytest.raises(ValueError, match="continuous"):
        annealed_log_likelihood(model, DeviceData(torch.zeros(4, 3)), QUICK)
    for invalid in (
        {"n_steps": 0},
        {"n_chains": -1},
        {"initial_distribution": "middle"},
        {"initial_step_size": 0.0},
        {"n_chains": 2.5},
        {"initial_step_size": math.nan},
    ):
        with pytest.raises(ValueError, match=next(iter(invalid))):
            Annealing(**invalid)


def test_compiled_ais_matches_eager_ais():
    model = pixels()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4, 6)).astype(float))
    annealing = Annealing(n_steps=3, n_chains=2, n_leapfrog=2, initial_step_size=0.1)
    data = DeviceData(x, dtype=torch.float64)
    eager, compiled = (
        annealed_log_likelihood(model, data, annealing, compile=compile)
        for compile in (False, True)
    )
    assert compiled.values == pytest.approx(eager.values, abs=1e-10)


def test_estimator_ais_uses_the_units_of_the_data():
    x = np.random.default_rng(0).normal(5, 3, (60, 2))
    vae = VAE(n_latents=1, hidden=(8,), max_epochs=30, random_state=0).fit(x)
    annealing = Annealing(n_steps=200, n_chains=8, n_leapfrog=5, initial_step_size=0.2)
    annealed, sampled = vae.log_likelihood(x, annealing=annealing), vae.log_likelihood(x, 5000)
    assert annealed.estimator == "AIS"
    assert annealed.mean == pytest.approx(sampled.mean, abs=0.05)
    assert -0.05 < vae.bidirectional_bounds(30, annealing).gap < 0.2
    on_samples = vae.log_likelihood(vae.sample(500, random_state=0), 500)
    difference = on_samples.mean - vae.bidirectional_bounds(500, QUICK).lower.mean
    assert abs(difference) < 6 * on_samples.standard_error
    first, second = (vae.bidirectional_bounds(30, QUICK) for _ in range(2))
    assert first.gap == second.gap


def test_scoring_description_distinguishes_annealing_settings():
    names = [
        str(EvaluationSettings(annealing=annealing))
        for annealing in (Annealing(), Annealing(n_leapfrog=5), Annealing(initial_step_size=0.01))
    ]
    assert names[0] == "AIS_16, 1000 steps from the prior"
    assert len(set(names)) == 3
