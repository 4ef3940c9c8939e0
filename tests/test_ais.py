"""Annealed importance sampling against closed forms and quadrature (exact checks A7 and A8)."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from ancestral import VAE, Data, LatentModel, engine
from ancestral.ais import Annealing, annealed_log_likelihood, hamiltonian, sandwich
from ancestral.conditional import Bernoulli, Gaussian, standard_normal
from ancestral.evaluate import log_likelihood
from ancestral.networks import MLP, Constant
from ancestral.protocol import Scoring

W = torch.tensor([[1.0, 0.5], [0.0, -1.0], [2.0, 0.3]], dtype=torch.float64)
PSI = torch.tensor([0.5, 0.2, 1.0], dtype=torch.float64)
QUICK = Annealing(n_steps=30, n_chains=16, n_leapfrog=5, first_step_size=0.2)


def conjugate():
    """A2: z ~ N(0, 1), x | z ~ N(z, 0.25), and a poor q = N(0.8, 0.49)."""
    q = Constant(torch.tensor([0.8]), torch.tensor([0.49]).log())
    likelihood = Gaussian(nn.Identity(), log_var=math.log(0.25))
    return LatentModel(standard_normal(1), likelihood, Gaussian(Rows(q))).double()


class Rows(nn.Module):
    """Constant outputs, one for every row."""

    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return tuple(v.expand(len(x), -1) for v in self.constant())


def analyser():
    """A3's loadings and noise with zero mean: the marginal is a known Gaussian."""
    loading = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        loading.weight.copy_(W)
    q = Rows(Constant(torch.zeros(2), torch.zeros(2)))
    return LatentModel(
        standard_normal(2), Gaussian(loading, log_var=PSI.log()), Gaussian(q)
    ).double()


MARGINAL = MultivariateNormal(torch.zeros(3).double(), W @ W.T + PSI.diag())


def pixels():
    """A small MLP decoder of six bits with one latent variable."""
    with engine.seeded(3):
        decoder = MLP(1, (8,), 6)
        for p in decoder.parameters():
            nn.init.normal_(p, std=1.5)
        encoder = MLP(6, (8,), heads=(1, 1))
    return LatentModel(standard_normal(1), Bernoulli(decoder), Gaussian(encoder)).double().eval()


def test_a8_the_mean_weight_is_unbiased():
    x = torch.full((2000, 1), 1.5, dtype=torch.float64)
    short = Annealing(n_steps=4, n_chains=1, n_leapfrog=3, first_step_size=0.3)
    got = annealed_log_likelihood(conjugate(), Data(x, dtype=torch.float64), short)
    weights = np.exp(got.values)
    error = weights.std() / math.sqrt(len(weights))
    assert error < 0.01
    assert weights.mean() == pytest.approx(0.145074, abs=4 * error)
    assert got.mean < -1.930510308862


def test_a8_the_sandwich_holds_and_closes():
    exact, gaps = [], []
    for n_steps in (3, 20, 120):
        how = Annealing(n_steps=n_steps, n_chains=4, n_leapfrog=5, first_step_size=0.2)
        found = sandwich(analyser(), 200, how, seed=1)
        with engine.seeded(1):
            _, x = analyser().draw(200)
        exact = MARGINAL.log_prob(x).numpy()
        below, above = found.lower.values - exact, found.upper.values - exact
        assert below.mean() < 4 * below.std() / math.sqrt(200)
        assert above.mean() > -4 * above.std() / math.sqrt(200)
        gaps.append(found.gap)
    assert gaps[0] > gaps[1] > gaps[2] > -0.01
    assert gaps[2] < gaps[0] / 10  # it falls like one over the number of distributions


@pytest.mark.parametrize("start", ["prior", "posterior"])
def test_against_the_marginal_of_factor_analysis(start):
    x = MARGINAL.sample((50,))
    how = Annealing(n_steps=100, n_chains=32, n_leapfrog=5, start=start, first_step_size=0.2)
    got = annealed_log_likelihood(analyser(), Data(x, dtype=torch.float64), how)
    exact = MARGINAL.log_prob(x).numpy()
    np.testing.assert_allclose(got.values, exact, atol=0.35)
    assert abs((got.values - exact).mean()) < 0.05
    assert "AIS" in str(got)


def test_missing_entries_are_integrated_out():
    x = MARGINAL.sample((50,))
    x[:, 1] = math.nan
    how = Annealing(n_steps=100, n_chains=32, n_leapfrog=5, first_step_size=0.2)
    data = Data(x, missing=True, dtype=torch.float64)
    got = annealed_log_likelihood(analyser(), data, how)
    seen = [0, 2]
    marginal = MultivariateNormal(
        torch.zeros(2).double(), MARGINAL.covariance_matrix[seen][:, seen]
    )
    exact = marginal.log_prob(x[:, seen]).numpy()
    assert abs((got.values - exact).mean()) < 0.05


def test_a7_a_network_decoder_against_quadrature_and_importance_sampling():
    model = pixels()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (12, 6)).astype(float))
    grid = torch.linspace(-9, 9, 20_001, dtype=torch.float64).unsqueeze(-1)
    with torch.no_grad():
        log_px, log_pz = model.decode(grid), model.prior().log_prob(grid).sum(-1)
        joint = torch.stack([log_px.log_prob(row).sum(-1) + log_pz for row in x])
        exact = (torch.logsumexp(joint, 1) + math.log(18 / 20_000)).numpy()
    data = Data(x, dtype=torch.float64)
    sampled = log_likelihood(model, data, 5000)
    annealed = annealed_log_likelihood(model, data, Annealing(n_leapfrog=5, first_step_size=0.1))
    for found in (sampled, annealed):
        errors = found.monte_carlo_errors
        assert (np.abs(found.values - exact) < 4 * errors).all()
    assert annealed.monte_carlo_errors.max() < 0.1


def test_hamiltonian_moves_leave_a_correlated_gaussian_as_it_is():
    target = MultivariateNormal(
        torch.tensor([1.0, -2.0]).double(), torch.tensor([[1.0, 0.6], [0.6, 0.5]]).double()
    )
    with engine.seeded(0):
        z = target.sample((20_000,))
        for _ in range(5):
            z, moved = hamiltonian(target.log_prob, z, torch.tensor(0.5), 4)
    assert 0.3 < moved.double().mean() < 0.99  # neither all nor none: the test bites
    np.testing.assert_allclose(z.mean(0), target.mean, atol=0.03)
    np.testing.assert_allclose(torch.cov(z.T), target.covariance_matrix, atol=0.04)


def test_the_same_seed_repeats_and_the_users_stream_is_left_alone():
    model, data = analyser(), Data(MARGINAL.sample((5,)), dtype=torch.float64)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = (annealed_log_likelihood(model, data, QUICK, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert torch.equal(before, torch.get_rng_state())


def test_what_cannot_be_annealed_is_refused():
    bits = Bernoulli(MLP(3, (), 2))
    model = LatentModel(bits, Bernoulli(MLP(2, (), 3)), bits)
    with pytest.raises(ValueError, match="continuous"):
        annealed_log_likelihood(model, Data(torch.zeros(4, 3)), QUICK)
    for bad in (
        {"n_steps": 0},
        {"n_chains": -1},
        {"start": "middle"},
        {"first_step_size": 0.0},
        {"n_chains": 2.5},
        {"first_step_size": math.nan},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Annealing(**bad)


def test_compiled_and_uncompiled_annealing_agree():
    model = pixels()
    x = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (4, 6)).astype(float))
    short = Annealing(n_steps=3, n_chains=2, n_leapfrog=2, first_step_size=0.1)
    data = Data(x, dtype=torch.float64)
    plain, fast = (
        annealed_log_likelihood(model, data, short, compile=how) for how in (False, True)
    )
    assert fast.values == pytest.approx(plain.values, abs=1e-10)


def test_an_estimator_anneals_in_the_units_of_its_rows():
    x = np.random.default_rng(0).normal(5, 3, (60, 2))
    vae = VAE(n_latents=1, hidden=(8,), max_epochs=30, random_state=0).fit(x)
    how = Annealing(n_steps=200, n_chains=8, n_leapfrog=5, first_step_size=0.2)
    annealed, plain = vae.log_likelihood(x, annealing=how), vae.log_likelihood(x, 5000)
    assert annealed.estimator == "AIS"
    assert annealed.mean == pytest.approx(plain.mean, abs=0.05)
    assert -0.05 < vae.sandwich(30, how).gap < 0.2
    own = vae.log_likelihood(vae.sample(500, random_state=0), 500)
    off = own.mean - vae.sandwich(500, QUICK).lower.mean
    assert abs(off) < 6 * own.standard_error
    first, again = (vae.sandwich(30, QUICK) for _ in range(2))
    assert first.gap == again.gap


def test_an_evaluation_is_called_by_all_that_its_values_depend_on():
    names = [
        str(Scoring(annealing=how))
        for how in (Annealing(), Annealing(n_leapfrog=5), Annealing(first_step_size=0.01))
    ]
    assert names[0] == "AIS_16, 1000 steps from the prior"
    assert len(set(names)) == 3
