"""Factor analysis, mixtures and belief nets against enumeration, closed forms and libraries."""

import itertools
import os
import signal

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn import decomposition, mixture
from sklearn.datasets import load_digits, load_iris, load_wine

import ancestral
from ancestral import BeliefNet, FactorAnalysis, MixtureModel
from ancestral.cli.main import main
from ancestral.data.batch import Batch
from ancestral.models import mixture_components
from ancestral.training import NonFiniteError

IRIS = load_iris().data
WINE = load_wine().data
DIGITS = load_digits().data / 16
EXACT = {"tol": 1e-9, "max_iter": 3000, "random_state": 0}
COVARIANCES = {"full": "full", "tied": "tied", "diag": "diag", "spherical": "spherical"}


def with_missing(x, share=0.2, seed=0):
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def standardised(x):
    return (x - x.mean(0)) / x.std(0)


def assert_em_is_monotone(estimator, slack=1e-10):
    likelihoods = [-record["loss"] for record in estimator.history_]
    assert np.diff(likelihoods).min() > -slack
    assert likelihoods[-1] > likelihoods[0]


# ---- factor analysis


def test_factor_analysis_matches_sklearn():
    """Compare W W^T + Psi, likelihoods, and posterior means up to rotation."""
    fitted = FactorAnalysis(n_components=3, **EXACT).fit(WINE)
    reference = decomposition.FactorAnalysis(3, tol=1e-9, max_iter=3000, svd_method="lapack")
    reference.fit(standardised(WINE))
    volume = np.log(WINE.std(0)).sum()
    assert fitted.score(WINE) == pytest.approx(
        reference.score(standardised(WINE)) - volume, abs=1e-4
    )
    units = np.outer(WINE.std(0), WINE.std(0))
    covariance = fitted.components_.T @ fitted.components_ + np.diag(fitted.noise_variance_)
    np.testing.assert_allclose(covariance / units, reference.get_covariance(), atol=2e-3)
    np.testing.assert_allclose(fitted.mean_, WINE.mean(0), rtol=1e-5)
    z, expected = fitted.transform(WINE), reference.transform(standardised(WINE))
    np.testing.assert_allclose(z @ z.T, expected @ expected.T, rtol=0.01, atol=0.02)


def test_isotropic_factor_analysis_matches_ppca_closed_form():
    """The maximum is -N/2 (d log 2 pi + sum log l_i + (d - q) log sigma^2 + d), eigenvalues l."""
    x, q = standardised(WINE), 4
    d = x.shape[1]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    residual = eigenvalues[q:].mean()
    deviance = (
        d * np.log(2 * np.pi) + np.log(eigenvalues[:q]).sum() + (d - q) * np.log(residual) + d
    )
    fitted = FactorAnalysis(n_components=q, noise_covariance="isotropic", **EXACT).fit(x)
    assert fitted.score(x) == pytest.approx(-deviance / 2, abs=1e-5)
    np.testing.assert_allclose(fitted.noise_variance_, residual, rtol=1e-3)


@pytest.mark.parametrize("noise", ["diagonal", "isotropic"])
def test_factor_analysis_em_is_monotone_and_uses_incomplete_samples(noise):
    incomplete = with_missing(WINE)
    for rows in (WINE, incomplete):
        assert_em_is_monotone(
            FactorAnalysis(n_components=2, noise_covariance=noise, tol=1e-7, random_state=0).fit(
                rows
            )
        )
    fitted = FactorAnalysis(n_components=2, noise_covariance=noise, random_state=0).fit(incomplete)
    dropped = FactorAnalysis(n_components=2, noise_covariance=noise, random_state=0)
    dropped.fit(incomplete[~np.isnan(incomplete).any(1)])
    assert fitted.score(WINE) > dropped.score(WINE)


def test_factor_analysis_marginals_and_imputation_match_gaussian():
    incomplete = with_missing(WINE, 0.4)
    fitted = FactorAnalysis(n_components=2, random_state=0).fit(incomplete)
    mean, covariance = gaussian_moments(fitted)
    values, filled = fitted.score_samples(incomplete[:40]), fitted.impute(incomplete[:40])
    for row, value, imputed in zip(incomplete[:40], values, filled, strict=True):
        assert_matches_gaussian_mixture(row, value, imputed, [1.0], [mean], [covariance])


def gaussian_moments(fitted):
    loading = fitted.components_
    return fitted.mean_, loading.T @ loading + np.diag(fitted.noise_variance_)


def assert_matches_gaussian_mixture(row, value, imputed, weights, means, covariances):
    """Compare with the marginal density and the conditional mean of a Gaussian mixture."""
    observed, joint, means_given = ~np.isnan(row), [], []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        block = covariance[np.ix_(observed, observed)]
        log_density = multivariate_normal(mean[observed], block, allow_singular=True).logpdf(
            row[observed]
        )
        joint.append(np.log(weight) + log_density)
        gain = np.linalg.solve(block, covariance[np.ix_(observed, ~observed)]).T
        means_given.append(mean[~observed] + gain @ (row[observed] - mean[observed]))
    marginal = np.logaddexp.reduce(joint)
    assert value == pytest.approx(marginal, abs=2e-3)
    expected = np.exp(joint - marginal) @ np.array(means_given)
    np.testing.assert_allclose(imputed[~observed], expected, rtol=2e-3, atol=2e-2)
    np.testing.assert_array_equal(imputed[observed], row[observed])


def test_factor_analysis_imputation_draws_have_conditional_variance():
    fitted = FactorAnalysis(n_components=2, random_state=0).fit(IRIS)
    row = np.tile([[np.nan, 3.0, 4.0, 1.2]], (4000, 1))
    draws = fitted.impute(row, return_mean=False, random_state=1)[:, 0]
    _, covariance = gaussian_moments(fitted)
    gain = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
    assert draws.mean() == pytest.approx(fitted.impute(row[:1])[0, 0], abs=0.03)
    variance = covariance[0, 0] - gain @ covariance[1:, 0]
    assert draws.var() == pytest.approx(variance, rel=0.1)


# ---- mixtures


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gaussian_mixture_matches_sklearn(covariance):
    """From the fitted parameters scikit-learn stays at the same maximum of the likelihood."""
    x = standardised(IRIS)
    fitted = MixtureModel(n_components=3, covariance_type=covariance, prior_count=0, **EXACT).fit(x)
    reference = mixture.GaussianMixture(
        3, covariance_type=COVARIANCES[covariance], tol=1e-11, max_iter=3000, random_state=0,
        weights_init=fitted.weights_ / fitted.weights_.sum(), means_init=fitted.means_,
    ).fit(x)  # fmt: skip
    assert fitted.score(x) == pytest.approx(reference.score(x), abs=1e-4)
    np.testing.assert_allclose(fitted.weights_, reference.weights_, atol=2e-3)
    np.testing.assert_allclose(fitted.means_, reference.means_, atol=1e-2)
    np.testing.assert_array_equal(fitted.predict(x), fitted.transform(x).argmax(1))
    assert (fitted.predict(x) == reference.predict(x)).mean() > 0.98


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_mixture_em_is_monotone_with_missing_values(covariance):
    kwargs = {"n_components": 3, "covariance_type": covariance, "prior_count": 0}
    for rows in (IRIS, with_missing(IRIS)):
        assert_em_is_monotone(
            MixtureModel(**kwargs, init_params="random", tol=1e-7, random_state=1).fit(rows)
        )


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_one_component_fits_mean_and_covariance_in_one_step(covariance):
    kwargs = {"n_components": 1, "covariance_type": covariance, "prior_count": 0}
    fitted = MixtureModel(**kwargs, max_iter=1, random_state=0).fit(WINE)
    expected = multivariate_normal(WINE.mean(0), np.cov(WINE.T, bias=True)).logpdf(WINE)
    np.testing.assert_allclose(fitted.score_samples(WINE), expected, atol=2e-3)
    np.testing.assert_allclose(fitted.means_[0], WINE.mean(0), rtol=1e-5)


def test_mixture_marginals_and_imputation_match_gaussian_mixture():
    incomplete = with_missing(standardised(WINE), 0.3)
    fitted = MixtureModel(n_components=3, covariance_type="full", random_state=0).fit(incomplete)
    p = fitted.model_.decode(torch.eye(3))
    scale = np.outer(fitted.scale_, fitted.scale_)
    covariances = p.covariance_matrix.detach().double().numpy() * scale
    values, filled = fitted.score_samples(incomplete[:30]), fitted.impute(incomplete[:30])
    for row, value, imputed in zip(incomplete[:30], values, filled, strict=True):
        assert_matches_gaussian_mixture(
            row, value, imputed, fitted.weights_, fitted.means_, covariances
        )
    many = np.tile(incomplete[:1], (4000, 1))
    draws = fitted.impute(many, return_mean=False, random_state=0)
    gaps = np.isnan(incomplete[0])
    np.testing.assert_array_equal(draws[:, ~gaps], many[:, ~gaps])
    np.testing.assert_allclose(draws[:, gaps].mean(0), filled[0, gaps], atol=0.1)


def mixed_table(n=400):
    """Table of two latent classes with a binary, a categorical, a count and a real column."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    bit = rng.random(n) < np.array([0.1, 0.8])[y]
    code = np.array([rng.choice(3, p=[[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]][c]) for c in y])
    count = rng.poisson(np.array([1.0, 6.0])[y])
    return np.stack([bit, code, count, rng.normal(3.0 * y, 1.0)], 1), y


KINDS = ("bernoulli", "categorical", "poisson", "gaussian")


def test_mixture_of_mixed_column_types_recovers_classes():
    rows, y = mixed_table()
    fitted = MixtureModel(n_components=2, likelihood=KINDS, prior_count=0, **EXACT).fit(rows)
    assert_em_is_monotone(fitted)
    agree = (fitted.predict(rows) == y).mean()
    assert max(agree, 1 - agree) > 0.93
    by_class = np.stack([rows[y == c].mean(0) for c in range(2)])
    order = np.argsort(fitted.means_[:, 3])
    np.testing.assert_allclose(fitted.means_[order][:, [0, 2, 3]], by_class[:, [0, 2, 3]], atol=0.4)
    np.testing.assert_array_equal(fitted.means_[order][:, 1], [0, 2])
    incomplete = with_missing(rows, 0.3)
    assert_em_is_monotone(
        MixtureModel(n_components=2, likelihood=KINDS, prior_count=0, random_state=0).fit(
            incomplete
        )
    )
    filled = fitted.impute(incomplete)
    wrong = (filled[:, 1] != rows[:, 1])[np.isnan(incomplete[:, 1])].mean()
    assert wrong < (rows[:, 1] != np.bincount(rows[:, 1].astype(int)).argmax()).mean()


def test_component_log_density_matches_entrywise_sum():
    rows, _ = mixed_table()
    fitted = MixtureModel(n_components=3, likelihood=KINDS, random_state=0).fit(with_missing(rows))
    model = fitted.model_.double()
    x = torch.tensor(rows)
    x[:, 3] = (x[:, 3] - fitted.location_[3]) / fitted.scale_[3]
    mask = (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.7).double()
    for component, (j,) in zip(model.components, model.columns, strict=True):
        for observed in (None, mask[:, [j]]):
            result = component.log_density(x[:, [j]], observed)
            expected = mixture_components.log_density(
                component.class_distributions, x[:, [j]], observed
            )
            torch.testing.assert_close(result, expected, atol=1e-10, rtol=1e-10)


def test_discrete_mixture_probabilities_sum_to_one_and_to_marginals():
    rows, _ = mixed_table()
    rows = np.concatenate([rows[:, :2], rows[:, :1]], 1)
    kinds = ("bernoulli", "categorical", "bernoulli")
    fitted = MixtureModel(n_components=3, likelihood=kinds, random_state=0).fit(rows)
    all_rows = np.array(list(itertools.product([0, 1], [0, 1, 2], [0, 1])), dtype=float)
    mass = np.exp(fitted.score_samples(all_rows))
    assert mass.sum() == pytest.approx(1, abs=1e-5)
    incomplete = np.array([[1.0, np.nan, 0.0]])
    compatible = (all_rows[:, 0] == 1) & (all_rows[:, 2] == 0)
    assert np.exp(fitted.score_samples(incomplete)[0]) == pytest.approx(
        mass[compatible].sum(), abs=1e-6
    )
    codes = fitted.impute(incomplete)[0, 1]
    assert codes == all_rows[compatible][mass[compatible].argmax(), 1]


def test_smoothing_prevents_component_collapse():
    """Without smoothing, a component shrinks to five equal outliers."""
    rows = np.concatenate([IRIS, np.full((5, 4), 40.0)])
    kwargs = {"n_components": 4, "covariance_type": "diag", "random_state": 0}
    free, smoothed = (MixtureModel(**kwargs, prior_count=s).fit(rows) for s in (0, 1))
    stds = [e.model_.decode(torch.eye(4)).stddev.min().item() for e in (free, smoothed)]
    assert stds[0] < 2e-3 < 0.02 < stds[1]
    assert smoothed.weights_.min() > 0.5 / len(rows)
    assert np.isfinite(smoothed.score_samples(np.full((1, 4), 500.0))).all()
    bernoulli = MixtureModel(n_components=2, likelihood="bernoulli", prior_count=1, random_state=0)
    rare = np.zeros((20, 3))
    rare[0] = 1
    assert np.isfinite(bernoulli.fit(rare).score_samples(1 - rare)).all()


def test_bernoulli_mixture_of_digits_beats_one_component():
    one, many = (MixtureModel(n_components=n, random_state=0).fit(DIGITS[:1500]) for n in (1, 20))
    assert many.log_likelihood(DIGITS[1500:]).mean > one.log_likelihood(DIGITS[1500:]).mean + 3
    assert many.converged_
    assert many.n_iter_ == len(many.history_)


# ---- belief nets


@pytest.mark.parametrize("sizes", [6, (5, 3)])
def test_belief_net_likelihood_matches_enumeration_of_latents(sizes):
    rows = (DIGITS[:, 20:28] > 0.5).astype(float)
    net = BeliefNet(n_latents=sizes, max_epochs=20, learning_rate=0.02, random_state=0).fit(rows)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=int(np.sum(sizes)))))
    batch = Batch(torch.tensor(rows[:50], dtype=torch.float32))
    with torch.no_grad():
        log_pz, log_px = net.model_.score(states.unsqueeze(1).expand(-1, 50, -1), batch)
    exact = torch.logsumexp(log_pz + log_px, 0).numpy()
    result = net.log_likelihood(rows[:50], 5000)
    assert np.abs(result.values - exact).max() < 5 * result.monte_carlo_errors.max() + 1e-4
    assert result.monte_carlo_errors.max() < 0.05
    all_rows = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    assert np.exp(net.log_likelihood(all_rows, 1000).values).sum() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("gradient", ["vimco", "reweighted_wake"])
def test_belief_net_fits_dependent_bits_to_true_likelihood(gradient):
    """Eight noisy copies of one bit; independent bits have a likelihood of -8 log 2 nats."""
    rng = np.random.default_rng(0)
    rows = (rng.random((1000, 1)) < 0.5) ^ (rng.random((1000, 8)) < 0.05)
    kwargs = {"n_latents": 1, "max_epochs": 150, "learning_rate": 0.05, "random_state": 0}
    net = BeliefNet(gradient_estimator=gradient, **kwargs).fit(rows.astype(float))
    n = rows.sum(1)
    by_cause = [k * np.log(0.95) + (8 - k) * np.log(0.05) for k in (n, 8 - n)]
    truth = np.logaddexp(*by_cause).mean() - np.log(2)
    assert net.log_likelihood(rows.astype(float), 200).mean == pytest.approx(truth, abs=0.02)
    assert (net.sample(500).mean(1) > 0.7).mean() == pytest.approx(0.5, abs=0.12)
    gaps = np.where(np.arange(8) < 3, np.nan, rows)
    assert ((net.impute(gaps, n_iter=20) > 0.5) == rows).mean() > 0.9


def test_deep_belief_net_shapes_of_latent_layers():
    net = BeliefNet(n_latents=(6, 4, 2), hidden=((8,), (), ()), max_epochs=2, random_state=0)
    net.fit(DIGITS[:300])
    assert net.transform(DIGITS[:5]).shape == (5, 12)
    assert len(net.active_units(DIGITS[:50])) == 3
    z = net.model_.sample_prior(50)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert z.shape == (50, 12)


# ---- errors, checkpoints, command line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BeliefNet(n_importance_samples=1), "n_importance_samples=1: expected at least 2"),
        (
            lambda: BeliefNet(network="mnist", image_shape=(8, 8)),
            "network='mnist': BeliefNet supports",
        ),
        (lambda: MixtureModel(n_components=5000), "n_components=5000: expected at most"),
        (
            lambda: MixtureModel(covariance_type="full"),
            "covariance_type='full' requires Gaussian columns",
        ),
        (lambda: MixtureModel(binarize="batch"), "binarize='batch': expected"),
        (lambda: FactorAnalysis(likelihood="bernoulli"), "likelihood='bernoulli': expected"),
        (lambda: FactorAnalysis(tol=0), "tol=0: expected"),
    ],
)
def test_invalid_parameters_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make().fit(DIGITS)


def test_exact_likelihood_has_no_monte_carlo_error():
    fitted = MixtureModel(n_components=2, random_state=0).fit(IRIS)
    result = fitted.log_likelihood(IRIS)
    assert str(result).endswith("nats (exact)")
    assert result.is_exact
    assert (result.monte_carlo_errors == 0).all()
    batch = Batch(torch.tensor(standardised(IRIS), dtype=torch.float32))
    log_w = fitted.model_.run(batch, 3).log_w - np.log(IRIS.std(0)).sum()
    np.testing.assert_allclose(log_w.detach().mean(0), result.values, atol=1e-4)
    assert fitted.bidirectional_bounds(5).gap == 0
    with pytest.raises(ValueError, match=r"annealing=.*is known exactly"):
        fitted.log_likelihood(IRIS, annealing=ancestral.Annealing())
    with pytest.raises(ValueError, match="requires continuous latent variables"):
        BeliefNet(n_latents=2, max_epochs=1, random_state=0).fit(DIGITS).bidirectional_bounds(2)


def test_non_finite_likelihood_stops_fit():
    huge = IRIS.copy()
    huge[0] = 1e200
    with pytest.raises((NonFiniteError, ValueError)):
        FactorAnalysis(n_components=1, random_state=0).fit(huge)


@pytest.mark.parametrize("kind", [FactorAnalysis, MixtureModel])
def test_em_resumes_from_checkpoint_identically(kind, tmp_path, monkeypatch):
    kwargs = {"random_state": 0, "tol": 1e-7, "max_iter": 60}
    expected = kind(**kwargs).fit(WINE)
    interrupted = kind(**kwargs, checkpoint_path=str(tmp_path / "state"))

    def interrupt(progress):
        if progress.event == "step" and progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(kind, "_callbacks", lambda _: [interrupt])
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(WINE)
    assert (tmp_path / "state").is_file()
    monkeypatch.undo()
    interrupted.fit(WINE)
    assert not (tmp_path / "state").exists()
    assert [r["loss"] for r in interrupted.history_] == [r["loss"] for r in expected.history_]
    for a, b in zip(interrupted.model_.parameters(), expected.model_.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [FactorAnalysis, MixtureModel, BeliefNet])
def test_class_conditional_vae_requires_continuous_codes(kind, tmp_path):
    rows, y = IRIS if kind is not BeliefNet else DIGITS[:150], load_iris().target
    epochs = {"max_epochs": 1} if kind is BeliefNet else {}
    kind(**epochs, random_state=0).fit(rows).save(tmp_path / "below")
    kwargs = {
        "base_model": str(tmp_path / "below"),
        "hidden": (5,),
        "max_epochs": 1,
        "random_state": 0,
    }
    top = ancestral.ClassConditionalVAE(n_latents=2, **kwargs)
    if kind is FactorAnalysis:
        assert top.fit(rows, y).predict(rows).shape == (150,)
        return
    with pytest.raises(ValueError, match="has discrete latent variables"):
        top.fit(rows, y)


@pytest.mark.parametrize(
    ("method", "options", "title"),
    [
        ("mixture", ["--n-components", "12"], "Mixture components"),
        ("factor-analysis", ["--n-components", "3"], "Factors"),
        ("belief-net", ["--n-latents", "8,4", "--max-epochs", "2"], "Latent space"),
    ],
)
def test_classical_models_command_line(method, options, title, tmp_path, capsys):
    table = tmp_path / "wine.csv"
    data = load_wine(as_frame=True).frame
    data.iloc[::9, 2] = np.nan
    bits = (data.drop(columns="target") > data.drop(columns="target").median()).astype(float)
    frame = bits.assign(target=data.target) if method == "belief-net" else data
    frame.to_csv(table, index=False)
    out = tmp_path / "run"
    command = ["fit", method, str(table), "--target", "target", "--out", str(out), *options]
    assert main(command) == 0
    assert title in (out / "report.html").read_text()
    assert main(["evaluate", str(out), "--n-importance-samples", "10"]) == 0
    output = capsys.readouterr().out
    assert ("log-likelihood L_10" in output) == (method == "belief-net")
    assert main(["impute", str(out), str(table), "--out", str(tmp_path / "full.csv")]) == 0
    assert main(["sample", str(out), "--out", str(tmp_path / "drawn.csv")]) == 0


@pytest.mark.parametrize("incomplete", [False, True], ids=["complete", "incomplete"])
def test_exact_likelihoods_of_strongly_correlated_columns_are_in_double_precision(incomplete):
    """Columns that differ by a hundredth of their spread; reference: SciPy, row by row."""
    rng = np.random.default_rng(0)
    X = 1e3 + rng.normal(size=(300, 1)) + 0.01 * rng.normal(size=(300, 5)) * [1, 1, 1, 1, 30]
    rows = np.where(rng.random(X.shape) < 0.3, np.nan, X) if incomplete else X
    rows = rows[~np.isnan(rows).all(1)]
    fa = FactorAnalysis(n_components=2, random_state=0).fit(X)
    covariance = fa.components_.T @ fa.components_ + np.diag(fa.noise_variance_)
    expected = gaussian_log_density(rows, fa.mean_, covariance)
    np.testing.assert_allclose(fa.score_samples(rows), expected, atol=1e-6)
    mixture = MixtureModel(n_components=1, covariance_type="full", random_state=0).fit(X)
    component = mixture.model_.components[0].class_distributions
    scale = component.scale_tril[0].detach().double().numpy() * mixture.scale_[:, None]
    expected = gaussian_log_density(rows, mixture.means_[0], scale @ scale.T)
    np.testing.assert_allclose(mixture.score_samples(rows), expected, atol=1e-4)


def gaussian_log_density(rows, mean, covariance):
    """Log-density of the observed entries of every row."""
    observed = ~np.isnan(rows)
    return [
        multivariate_normal(mean[o], covariance[np.ix_(o, o)]).logpdf(row[o])
        for row, o in zip(rows, observed, strict=True)
    ]
