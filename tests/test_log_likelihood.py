"""Importance-sampled log-likelihoods, their standard errors, and unchanged global state."""

from __future__ import annotations

import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from torch import nn

from ancestral import IWAE, VAE
from ancestral.data.device_data import DeviceData
from ancestral.evaluation.active_units import unit_variances
from ancestral.evaluation.ais import Annealing
from ancestral.evaluation.log_likelihood import (
    ImportanceSum,
    LogLikelihood,
    compare,
    log_likelihood,
)
from ancestral.models.latent import LatentModel
from ancestral.nn import MLP
from ancestral.objectives import elbo
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import Player, engine, train
from ancestral.training.checkpoint import Checkpoint, CheckpointError
from ancestral.training.optim import adam

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def conjugate(q_mean=0.8, q_variance=0.49):
    """Model z ~ N(0, 1), x | z ~ N(z, 0.25), with one q(z) for all x."""

    def linear_gaussian(weight, bias, variance):
        layer = nn.Linear(1, 1).double()
        nn.init.constant_(layer.weight, weight)
        nn.init.constant_(layer.bias, bias)
        return Gaussian(layer, nn.Parameter(torch.tensor([variance], dtype=torch.float64).log()))

    prior = standard_normal(1).double()
    likelihood = linear_gaussian(1.0, 0.0, 0.25)
    posterior = linear_gaussian(0.0, q_mean, q_variance)
    return LatentModel(prior, likelihood, posterior).eval()


def small_vae(d=5):
    with engine.seeded_rng(0):
        model = LatentModel(
            standard_normal(2), Bernoulli(MLP(2, (4,), d)), Gaussian(MLP(d, (4,), heads=(2, 2)))
        )
    return model.double()


def rows(x):
    return DeviceData(np.asarray(x, dtype=float), dtype=torch.float64)


def bits(n, d=5):
    return np.random.default_rng(0).integers(0, 2, (n, d)).astype(float)


def streamed(log_w, sizes):
    total = ImportanceSum(log_w.shape[1])
    for chunk in torch.from_numpy(log_w).split(sizes):
        total.add(chunk)
    return total


# ---- streaming sums


@QUICK
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.sampled_from([0.1, 5.0, 300.0]),
    st.sampled_from([-5000.0, 0.0, 5000.0]),
    st.integers(0, 99),
)
def test_importance_sum_matches_mpmath(sizes, spread, shift, seed):
    n = sum(sizes)
    log_w = np.random.default_rng(seed).normal(shift, spread, (n, 2))
    total = streamed(log_w, sizes)
    with mpmath.workdps(60):
        for column in range(2):
            w = [mpmath.exp(mpmath.mpf(float(v))) for v in log_w[:, column]]
            mean, square = mpmath.fsum(w) / n, mpmath.fsum(v * v for v in w)
            ess = (n * mean) ** 2 / square
            assert total.log_mean()[column].item() == pytest.approx(
                float(mpmath.log(mean)), rel=1e-12, abs=1e-12
            )
            assert total.effective_sample_size()[column].item() == pytest.approx(
                float(ess), rel=1e-9
            )
            if n > 1:
                variance = (square - n * mean**2) / (n - 1)
                error = float(mpmath.sqrt(max(variance, 0) / n) / mean)
                k = float(np.nan_to_num(total.pareto_k()[column].item(), nan=0.0))
                error *= 1 + min(max(k, 0.0), 1.0) ** 2  # allowance for heavy tails
                estimate = total.standard_error()[column].item()
                assert estimate == pytest.approx(error, rel=1e-6, abs=1e-7)


def test_importance_sum_of_equal_and_zero_weights():
    total = streamed(np.full((7, 2), -3.0), [3, 4])
    torch.testing.assert_close(total.log_mean(), torch.full((2,), -3.0).double())
    torch.testing.assert_close(total.effective_sample_size(), torch.full((2,), 7.0).double())
    assert total.standard_error().max() < 1e-7
    log_w = np.array([[-np.inf], [0.0], [-np.inf], [0.0]])
    total = streamed(log_w, [1, 3])
    assert total.log_mean().item() == pytest.approx(math.log(0.5))
    assert total.effective_sample_size().item() == pytest.approx(2)
    assert streamed(log_w[:1], [1]).log_mean().item() == -math.inf


def test_importance_sum_of_one_sample_has_nan_standard_error():
    total = streamed(np.array([[0.3]]), [1])
    assert total.effective_sample_size().item() == pytest.approx(1)
    assert math.isnan(total.standard_error().item())


# ---- log_likelihood


def test_likelihood_is_unbiased_and_standard_errors_match_replicates():
    """500 equal rows are 500 replicates, whose standard deviation matches each standard error."""
    px, n, k = stats.norm(0, math.sqrt(1.25)).pdf(1.5), 500, 200
    result = log_likelihood(conjugate(), rows(np.full((n, 1), 1.5)), k, rows_per_chunk=250)
    estimates = np.exp(result.values)
    assert abs(estimates.mean() - px) < 4 * estimates.std() / math.sqrt(n)
    assert result.values.std() == pytest.approx(result.monte_carlo_errors.mean(), rel=0.15)
    assert (result.values.mean() - math.log(px)) < 0
    # S / ESS converges to chi2(p || q) + 1
    assert k / result.effective_sample_sizes.mean() == pytest.approx(1.52307, rel=0.05)


def test_log_likelihood_mean_and_standard_error_over_rows():
    values = np.array([-1.0, -2.5, -4.0, -0.5])
    result = LogLikelihood(values, values, values, 10)
    assert result.mean == pytest.approx(-2.0)
    assert result.standard_error == pytest.approx(stats.sem(values))
    single_row = LogLikelihood(values[:1], values[:1], values[:1], 10)
    assert math.isnan(single_row.standard_error)


@QUICK
@given(st.integers(1, 13), st.integers(1, 9), st.integers(1, 20), st.integers(1, 9))
def test_log_likelihood_is_exact_for_exact_posterior(
    n, rows_per_chunk, n_samples, samples_per_chunk
):
    x = np.random.default_rng(n).normal(size=(n, 1))
    model = conjugate()
    model.posterior.network.weight.data.fill_(0.8)
    model.posterior.network.bias.data.zero_()
    model.posterior.log_var.data.fill_(math.log(0.2))
    result = log_likelihood(
        model, rows(x), n_samples,
        rows_per_chunk=rows_per_chunk, samples_per_chunk=samples_per_chunk,
    )  # fmt: skip
    expected = stats.norm(0, math.sqrt(1.25)).logpdf(x[:, 0])
    np.testing.assert_allclose(result.values, expected, atol=1e-9)
    np.testing.assert_allclose(result.effective_sample_sizes, n_samples, rtol=1e-9)
    assert result.n_samples == n_samples


def test_missing_entries_are_integrated_out():
    """The likelihood of two observed bits is the sum over the values of the missing one."""
    model, x = small_vae(3), bits(1, 3)
    completions = np.repeat(x, 2, axis=0)
    completions[:, 1] = [0, 1]
    missing = completions[:1].copy()
    missing[0, 1] = np.nan
    data = DeviceData(missing, missing=True, dtype=torch.float64)
    # q does not depend on the mask here: use one broad q for every row
    model.posterior = Gaussian(nn.Linear(3, 2), log_var=0.5).double()
    nn.init.zeros_(model.posterior.network.weight)
    marginal = log_likelihood(model, data, 20_000)
    joint = log_likelihood(model, rows(completions), 20_000, seed=1)
    error = math.hypot(*joint.monte_carlo_errors, *marginal.monte_carlo_errors)
    assert abs(marginal.values[0] - special.logsumexp(joint.values)) < 4 * error
    assert error < 0.02


class RunLimitedModel(LatentModel):
    """Model that fails after ten runs."""

    def run(self, batch, k=1):
        self.n_runs = getattr(self, "n_runs", 0) + 1
        assert self.n_runs <= 10, "log_likelihood does not terminate"
        return super().run(batch, k)


@pytest.mark.parametrize(
    "arguments", [{"n_samples": 0}, {"samples_per_chunk": 0}, {"rows_per_chunk": 0}]
)
def test_non_positive_numbers_of_samples_and_chunk_sizes_raise(arguments):
    model = conjugate()
    model = RunLimitedModel(model.prior, model.likelihood, model.posterior)
    with pytest.raises(ValueError, match=next(iter(arguments))):
        log_likelihood(model, rows([[1.0]]), **arguments)


# ---- global state


def global_state():
    """Random states and global settings of numpy and torch."""
    return (
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.get_default_dtype(),
        torch.distributions.Distribution._validate_args,
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )


def library_calls():
    x = bits(30)
    grey = np.random.default_rng(1).random((30, 5))
    incomplete = np.where(grey < 0.3, np.nan, x)
    model = small_vae()
    fitted = VAE(n_latents=2, hidden=(4,), max_epochs=2, random_state=0).fit(incomplete)

    def run_training():
        train(model, Player(model, elbo(), adam()), rows(x), max_epochs=2, batch_size=8)

    return {
        "train": run_training,
        "log_likelihood": lambda: log_likelihood(model, rows(x), 20),
        "fit": lambda: VAE(
            n_latents=2, hidden=(4,), max_epochs=2, binarize="epoch", batch_norm=True
        ).fit(grey),
        "fit_iwae": lambda: IWAE(n_latents=(2, 1), hidden=(4,), max_epochs=2, random_state=3).fit(
            x
        ),
        "score_samples": lambda: fitted.score_samples(incomplete),
        "sample": lambda: fitted.sample(4),
        "impute": lambda: fitted.impute(incomplete, n_iter=3),
        "transform": lambda: fitted.transform(x),
    }


@pytest.mark.parametrize("name", list(library_calls()))
def test_global_random_state_and_settings_are_unchanged(name):
    call = library_calls()[name]
    state = global_state()
    call()
    assert global_state() == state


def test_global_state_is_unchanged_when_training_fails():
    model, x = small_vae(), bits(10)
    state = global_state()

    def fail(progress):
        if progress.event == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(model, Player(model, elbo(), adam()), rows(x), max_epochs=1, callbacks=[fail])
    assert global_state() == state


def test_results_do_not_depend_on_global_random_state():
    x, results = bits(20), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        vae = VAE(n_latents=2, hidden=(4,), max_epochs=2, random_state=7).fit(x)
        results.append((vae.score_samples(x), vae.sample(3), vae.transform(x)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_log_density_of_standardised_features_is_in_original_units():
    """Scaling a feature by c decreases the log-density by log c."""
    x = np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 5.0] + [0.0, 40.0]
    options = {"n_latents": 1, "hidden": (4,), "max_epochs": 3, "random_state": 0}
    original = VAE(**options, likelihood="gaussian").fit(x)
    scaled = VAE(**options, likelihood="gaussian").fit(x * [1000.0, 1.0])
    expected = original.score_samples(x) - math.log(1000)
    np.testing.assert_allclose(scaled.score_samples(x * [1000.0, 1.0]), expected, atol=1e-2)


# ---- active latent units


def test_unit_variances_match_closed_form_for_linear_posterior():
    """Linear posterior means E_q[z | x] = A x have the variance of A x; one row of A is zero."""
    coefficients = torch.tensor([[1.0, 0.0], [0.5, -0.5], [0.0, 0.0]], dtype=torch.float64)
    heads = nn.Linear(2, 6).double()
    with torch.no_grad():
        heads.weight.zero_()[:3] = coefficients
        heads.bias.zero_()
    q = Gaussian(nn.Sequential(heads, Halves()))
    model = LatentModel(standard_normal(3).double(), Bernoulli(nn.Linear(3, 2).double()), q)
    x = np.random.default_rng(0).normal(size=(500, 2))
    exact = (x @ coefficients.numpy().T).var(0, ddof=1)
    variances = unit_variances(model, rows(x), n_samples=400)
    assert variances == pytest.approx(exact, abs=0.05)
    assert exact[2] == 0
    assert abs(variances[2]) < 0.001  # the naive variance of sample means is biased by 1 / 400
    assert unit_variances(model, rows(x), n_samples=400) == pytest.approx(variances, abs=0)
    for invalid in ({"n_samples": 1}, {}):
        with pytest.raises(ValueError, match="at least 2"):
            unit_variances(model, rows(x if invalid else x[:1]), **invalid)


class Halves(nn.Module):
    """Split of concatenated means and log-variances."""

    def forward(self, u):
        return u.chunk(2, -1)


def test_active_units_per_layer_match_thresholded_unit_variances():
    x = np.random.default_rng(0).integers(0, 2, (300, 1)) * np.ones((1, 8))
    flip = np.random.default_rng(1).random(x.shape) < 0.02
    bits = np.abs(x - flip)  # one bit of information per row
    vae = VAE(n_latents=(4, 3), hidden=((16,), (16,)), max_epochs=40, random_state=0).fit(bits)
    active = vae.active_units(bits)
    assert len(active) == 2
    assert 1 <= active[0] <= 4
    variances = vae.unit_variances(bits)
    assert variances.shape == (7,)
    assert active == (int((variances[:4] > 0.01).sum()), int((variances[4:] > 0.01).sum()))
    assert vae.active_units(bits, threshold=1e6) == (0, 0)


# ---- paired comparison of models


def test_compare_matches_paired_t_test():
    rng = np.random.default_rng(0)
    common = rng.normal(-90, 20, 400)  # cancels in the paired difference
    advantage = rng.normal(0.3, 1.0, 400)
    n = np.full(400, 1.0)
    first, second = LogLikelihood(common + advantage, n, n, 10), LogLikelihood(common, n, n, 10)
    difference = compare(first, second)
    t = stats.ttest_rel(first.values, second.values)
    assert difference.mean / difference.standard_error == pytest.approx(t.statistic)
    assert difference.standard_error < 0.1 * first.standard_error
    assert difference.fraction_better == pytest.approx((advantage > 0).mean())
    with pytest.raises(ValueError, match="400 and 399 rows"):
        compare(first, LogLikelihood(common[1:], n[1:], n[1:], 10))


# ---- interrupted evaluations


@pytest.mark.parametrize("annealing", [None, Annealing(n_steps=3, n_chains=2, n_leapfrog=2)])
@pytest.mark.parametrize("due", [True, False])  # saved periodically, or only at the interrupt
def test_interrupted_evaluation_resumes_to_identical_values(tmp_path, monkeypatch, annealing, due):
    x = bits(450)
    vae = VAE(n_latents=2, hidden=(4,), max_epochs=1, random_state=0).fit(x)
    path = tmp_path / "state"
    options = {"annealing": annealing, "checkpoint": str(path)}
    uninterrupted = vae.log_likelihood(x, 30, annealing=annealing)
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: due)
    seed, calls = engine.seed, []

    def interrupt_at_fourth_chunk(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        seed(*args)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "seed", interrupt_at_fourth_chunk)
        with pytest.raises(KeyboardInterrupt):
            vae.log_likelihood(x, 30, **options)
    assert path.exists()
    with pytest.raises(CheckpointError, match="another"):
        vae.log_likelihood(x[::-1], 30, **options)
    with monkeypatch.context() as patch:
        n_calls = len(calls)
        patch.setattr(engine, "seed", lambda *args: (calls.append(args), seed(*args)))
        resumed = vae.log_likelihood(x, 30, **options)
    assert len(calls) - n_calls == 2  # three of five chunks were finished
    assert np.array_equal(resumed.values, uninterrupted.values)
    assert np.array_equal(resumed.effective_sample_sizes, uninterrupted.effective_sample_sizes)
    assert not path.exists()


def test_eager_log_likelihood_does_not_import_torch_dynamo():
    script = """
import sys, numpy as np, ancestral
x = np.eye(8)
vae = ancestral.VAE(n_latents=2, hidden=(4,), max_epochs=1, random_state=0).fit(x)
vae.log_likelihood(x, 5)
print("torch._dynamo" in sys.modules)
"""
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"


def test_repr_of_a_log_likelihood_is_one_short_line():
    values = np.arange(500.0)
    text = repr(LogLikelihood(values, values, values, n_samples=50))
    assert text == "LogLikelihood(249.5 +- 6.5, n=500, n_samples=50, estimator='L')"
