"""Latent features, latent classes, layers of bits: against enumeration, closed forms, libraries."""

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
from ancestral import BeliefNet, FactorAnalysis, MixtureModel, components
from ancestral.cli import main
from ancestral.data import Batch
from ancestral.train import NonFiniteError

IRIS = load_iris().data
WINE = load_wine().data
DIGITS = load_digits().data / 16
EXACT = {"tol": 1e-9, "max_iter": 3000, "random_state": 0}
COVARIANCES = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}


def with_gaps(x, share=0.2, seed=0):
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)


def standardised(x):
    return (x - x.mean(0)) / x.std(0)


def rises(estimator, slack=1e-10):
    likelihoods = [-record["loss"] for record in estimator.history_]
    assert np.diff(likelihoods).min() > -slack
    assert likelihoods[-1] > likelihoods[0]


# ---- factor analysis


def test_factor_analysis_is_that_of_scikit_learn():
    """W W^T + Psi in the units of the columns, likelihoods, posterior means up to rotation."""
    ours = FactorAnalysis(n_latents=3, **EXACT).fit(WINE)
    theirs = decomposition.FactorAnalysis(3, tol=1e-9, max_iter=3000, svd_method="lapack")
    theirs.fit(standardised(WINE))
    volume = np.log(WINE.std(0)).sum()
    assert ours.score(WINE) == pytest.approx(theirs.score(standardised(WINE)) - volume, abs=1e-4)
    units = np.outer(WINE.std(0), WINE.std(0))
    covariance = ours.components_.T @ ours.components_ + np.diag(ours.noise_variance_)
    np.testing.assert_allclose(covariance / units, theirs.get_covariance(), atol=2e-3)
    np.testing.assert_allclose(ours.mean_, WINE.mean(0), rtol=1e-5)
    z, expected = ours.transform(WINE), theirs.transform(standardised(WINE))
    np.testing.assert_allclose(z @ z.T, expected @ expected.T, rtol=0.01, atol=0.02)


def test_isotropic_noise_reaches_the_principal_components():
    """-N/2 (d log 2 pi + sum log l_i + (d - q) log sigma^2 + d) at best, by eigenvalues l."""
    x, q = standardised(WINE), 4
    d = x.shape[1]
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    left = eigenvalues[q:].mean()
    best = d * np.log(2 * np.pi) + np.log(eigenvalues[:q]).sum() + (d - q) * np.log(left) + d
    fitted = FactorAnalysis(n_latents=q, noise="isotropic", **EXACT).fit(x)
    assert fitted.score(x) == pytest.approx(-best / 2, abs=1e-5)
    np.testing.assert_allclose(fitted.noise_variance_, left, rtol=1e-3)


@pytest.mark.parametrize("noise", ["diagonal", "isotropic"])
def test_factor_analysis_never_falls_and_learns_from_gaps(noise):
    damaged = with_gaps(WINE)
    for rows in (WINE, damaged):
        rises(FactorAnalysis(n_latents=2, noise=noise, tol=1e-7, random_state=0).fit(rows))
    fitted = FactorAnalysis(n_latents=2, noise=noise, random_state=0).fit(damaged)
    dropped = FactorAnalysis(n_latents=2, noise=noise, random_state=0)
    dropped.fit(damaged[~np.isnan(damaged).any(1)])
    assert fitted.score(WINE) > dropped.score(WINE)


def test_what_factor_analysis_says_of_gaps_is_what_its_normal_distribution_says():
    damaged = with_gaps(WINE, 0.4)
    fitted = FactorAnalysis(n_latents=2, random_state=0).fit(damaged)
    mean, covariance = normal_of(fitted)
    values, filled = fitted.score_samples(damaged[:40]), fitted.impute(damaged[:40])
    for row, value, full in zip(damaged[:40], values, filled, strict=True):
        agrees_with(row, value, full, [1.0], [mean], [covariance])


def normal_of(fitted):
    loading = fitted.components_
    return fitted.mean_, loading.T @ loading + np.diag(fitted.noise_variance_)


def agrees_with(row, value, full, weights, means, covariances):
    """Marginal and regression of a mixture of normal distributions, entry by entry."""
    seen, joint, filled = ~np.isnan(row), [], []
    for weight, mean, covariance in zip(weights, means, covariances, strict=True):
        among = covariance[np.ix_(seen, seen)]
        log_density = multivariate_normal(mean[seen], among, allow_singular=True).logpdf(row[seen])
        joint.append(np.log(weight) + log_density)
        gain = np.linalg.solve(among, covariance[np.ix_(seen, ~seen)]).T
        filled.append(mean[~seen] + gain @ (row[seen] - mean[seen]))
    marginal = np.logaddexp.reduce(joint)
    assert value == pytest.approx(marginal, abs=2e-3)
    expected = np.exp(joint - marginal) @ np.array(filled)
    np.testing.assert_allclose(full[~seen], expected, rtol=2e-3, atol=2e-2)
    np.testing.assert_array_equal(full[seen], row[seen])


def test_draws_into_gaps_have_the_spread_that_is_left():
    fitted = FactorAnalysis(n_latents=2, random_state=0).fit(IRIS)
    row = np.tile([[np.nan, 3.0, 4.0, 1.2]], (4000, 1))
    drawn = fitted.impute(row, fill="sample", random_state=1)[:, 0]
    _, covariance = normal_of(fitted)
    gain = np.linalg.solve(covariance[1:, 1:], covariance[1:, 0])
    assert drawn.mean() == pytest.approx(fitted.impute(row[:1])[0, 0], abs=0.03)
    left = covariance[0, 0] - gain @ covariance[1:, 0]
    assert drawn.var() == pytest.approx(left, rel=0.1)


# ---- mixtures


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gaussian_mixtures_are_those_of_scikit_learn(covariance):
    """From one start, to the same maximum of the likelihood: classes, weights, means, values."""
    x = standardised(IRIS)
    ours = MixtureModel(n_components=3, covariance=covariance, smoothing=0, **EXACT).fit(x)
    theirs = mixture.GaussianMixture(
        3, covariance_type=COVARIANCES[covariance], tol=1e-11, max_iter=3000, random_state=0,
        weights_init=ours.weights_ / ours.weights_.sum(), means_init=ours.means_,
    ).fit(x)  # fmt: skip
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=1e-4)
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=2e-3)
    np.testing.assert_allclose(ours.means_, theirs.means_, atol=1e-2)
    np.testing.assert_array_equal(ours.predict(x), ours.transform(x).argmax(1))
    assert (ours.predict(x) == theirs.predict(x)).mean() > 0.98


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_mixtures_never_fall_and_learn_from_gaps(covariance):
    how = {"n_components": 3, "covariance": covariance, "smoothing": 0}
    for rows in (IRIS, with_gaps(IRIS)):
        rises(MixtureModel(**how, initialise="random", tol=1e-7, random_state=1).fit(rows))


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_one_class_is_the_mean_and_the_covariance_after_one_step(covariance):
    how = {"n_components": 1, "covariance": covariance, "smoothing": 0}
    fitted = MixtureModel(**how, max_iter=1, random_state=0).fit(WINE)
    expected = multivariate_normal(WINE.mean(0), np.cov(WINE.T, bias=True)).logpdf(WINE)
    np.testing.assert_allclose(fitted.score_samples(WINE), expected, atol=2e-3)
    np.testing.assert_allclose(fitted.means_[0], WINE.mean(0), rtol=1e-5)


def test_what_a_mixture_says_of_gaps_is_what_its_normal_distributions_say():
    damaged = with_gaps(standardised(WINE), 0.3)
    fitted = MixtureModel(n_components=3, covariance="full", random_state=0).fit(damaged)
    p = fitted.model_.decode(torch.eye(3))
    scale = np.outer(fitted.scale_, fitted.scale_)
    covariances = p.covariance_matrix.detach().double().numpy() * scale
    values, filled = fitted.score_samples(damaged[:30]), fitted.impute(damaged[:30])
    for row, value, full in zip(damaged[:30], values, filled, strict=True):
        agrees_with(row, value, full, fitted.weights_, fitted.means_, covariances)
    many = np.tile(damaged[:1], (4000, 1))
    drawn = fitted.impute(many, fill="sample", random_state=0)
    gaps = np.isnan(damaged[0])
    np.testing.assert_array_equal(drawn[:, ~gaps], many[:, ~gaps])
    np.testing.assert_allclose(drawn[:, gaps].mean(0), filled[0, gaps], atol=0.1)


def table_of_kinds(n=400):
    """Two hidden classes of a bit, a code of three, a count and a number."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    bit = rng.random(n) < np.array([0.1, 0.8])[y]
    code = np.array([rng.choice(3, p=[[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]][c]) for c in y])
    count = rng.poisson(np.array([1.0, 6.0])[y])
    return np.stack([bit, code, count, rng.normal(3.0 * y, 1.0)], 1), y


KINDS = ("bernoulli", "categorical", "poisson", "gaussian")


def test_a_table_of_all_kinds_finds_its_classes():
    rows, y = table_of_kinds()
    fitted = MixtureModel(n_components=2, likelihood=KINDS, smoothing=0, **EXACT).fit(rows)
    rises(fitted)
    agree = (fitted.predict(rows) == y).mean()
    assert max(agree, 1 - agree) > 0.93
    by_class = np.stack([rows[y == c].mean(0) for c in range(2)])
    order = np.argsort(fitted.means_[:, 3])
    np.testing.assert_allclose(fitted.means_[order][:, [0, 2, 3]], by_class[:, [0, 2, 3]], atol=0.4)
    np.testing.assert_array_equal(fitted.means_[order][:, 1], [0, 2])
    holes = with_gaps(rows, 0.3)
    rises(MixtureModel(n_components=2, likelihood=KINDS, smoothing=0, random_state=0).fit(holes))
    filled = fitted.impute(holes)
    wrong = (filled[:, 1] != rows[:, 1])[np.isnan(holes[:, 1])].mean()
    assert wrong < (rows[:, 1] != np.bincount(rows[:, 1].astype(int)).argmax()).mean()


def test_densities_by_products_are_those_entry_by_entry():
    rows, _ = table_of_kinds()
    fitted = MixtureModel(n_components=3, likelihood=KINDS, random_state=0).fit(with_gaps(rows))
    model = fitted.model_.double()
    x = torch.tensor(rows)
    x[:, 3] = (x[:, 3] - fitted.location_[3]) / fitted.scale_[3]
    mask = (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.7).double()
    for component, (j,) in zip(model.components, model.columns, strict=True):
        for known in (None, mask[:, [j]]):
            found = component.log_density(x[:, [j]], known)
            expected = components.log_density(component.each, x[:, [j]], known)
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_probabilities_of_all_rows_sum_to_one_and_to_marginals():
    rows, _ = table_of_kinds()
    rows = np.concatenate([rows[:, :2], rows[:, :1]], 1)
    kinds = ("bernoulli", "categorical", "bernoulli")
    fitted = MixtureModel(n_components=3, likelihood=kinds, random_state=0).fit(rows)
    every = np.array(list(itertools.product([0, 1], [0, 1, 2], [0, 1])), dtype=float)
    mass = np.exp(fitted.score_samples(every))
    assert mass.sum() == pytest.approx(1, abs=1e-5)
    gap = np.array([[1.0, np.nan, 0.0]])
    same = (every[:, 0] == 1) & (every[:, 2] == 0)
    assert np.exp(fitted.score_samples(gap)[0]) == pytest.approx(mass[same].sum(), abs=1e-6)
    codes = fitted.impute(gap)[0, 1]
    assert codes == every[same][mass[same].argmax(), 1]


def test_smoothing_keeps_every_class_alive():
    """Five equal rows far away: without it a class shrinks to them, its density without bound."""
    rows = np.concatenate([IRIS, np.full((5, 4), 40.0)])
    how = {"n_components": 4, "random_state": 0}
    free, held = (MixtureModel(**how, smoothing=s).fit(rows) for s in (0, 1))
    spread = [e.model_.decode(torch.eye(4)).stddev.min().item() for e in (free, held)]
    assert spread[0] < 2e-3 < 0.02 < spread[1]
    assert held.weights_.min() > 0.5 / len(rows)
    assert np.isfinite(held.score_samples(np.full((1, 4), 500.0))).all()
    alone = MixtureModel(n_components=2, likelihood="bernoulli", smoothing=1, random_state=0)
    never = np.zeros((20, 3))
    never[0] = 1
    assert np.isfinite(alone.fit(never).score_samples(1 - never)).all()


def test_a_bernoulli_mixture_of_digits_is_better_than_one_class():
    one, many = (MixtureModel(n_components=n, random_state=0).fit(DIGITS[:1500]) for n in (1, 20))
    assert many.log_likelihood(DIGITS[1500:]).mean > one.log_likelihood(DIGITS[1500:]).mean + 3
    assert many.converged_
    assert many.n_iter_ == len(many.history_)


# ---- layers of bits


@pytest.mark.parametrize("sizes", [6, (5, 3)])
def test_the_likelihood_of_a_belief_net_is_the_sum_over_its_bits(sizes):
    rows = (DIGITS[:, 20:28] > 0.5).astype(float)
    net = BeliefNet(n_latents=sizes, max_epochs=20, learning_rate=0.02, random_state=0).fit(rows)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=int(np.sum(sizes)))))
    batch = Batch(torch.tensor(rows[:50], dtype=torch.float32))
    with torch.no_grad():
        log_pz, log_px = net.model_.score(states.unsqueeze(1).expand(-1, 50, -1), batch)
    exact = torch.logsumexp(log_pz + log_px, 0).numpy()
    found = net.log_likelihood(rows[:50], 5000)
    assert np.abs(found.values - exact).max() < 5 * found.monte_carlo_errors.max() + 1e-4
    assert found.monte_carlo_errors.max() < 0.05
    every = np.array(list(itertools.product([0.0, 1.0], repeat=8)))
    assert np.exp(net.log_likelihood(every, 1000).values).sum() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("gradient", ["vimco", "reweighted_wake"])
def test_a_belief_net_learns_what_depends_on_what(gradient):
    """Eight bits that are all equal, but for noise: independent bits leave 8 log 2 nats."""
    rng = np.random.default_rng(0)
    rows = (rng.random((1000, 1)) < 0.5) ^ (rng.random((1000, 8)) < 0.05)
    how = {"n_latents": 1, "max_epochs": 150, "learning_rate": 0.05, "random_state": 0}
    net = BeliefNet(gradient=gradient, **how).fit(rows.astype(float))
    n = rows.sum(1)
    by_cause = [k * np.log(0.95) + (8 - k) * np.log(0.05) for k in (n, 8 - n)]
    truth = np.logaddexp(*by_cause).mean() - np.log(2)
    assert net.log_likelihood(rows.astype(float), 200).mean == pytest.approx(truth, abs=0.02)
    assert (net.sample(500).mean(1) > 0.7).mean() == pytest.approx(0.5, abs=0.12)
    gaps = np.where(np.arange(8) < 3, np.nan, rows)
    assert ((net.impute(gaps, n_iter=20) > 0.5) == rows).mean() > 0.9


def test_a_deep_belief_net_draws_all_of_its_layers():
    net = BeliefNet(n_latents=(6, 4, 2), hidden=((8,), (), ()), max_epochs=2, random_state=0)
    net.fit(DIGITS[:300])
    assert net.transform(DIGITS[:5]).shape == (5, 12)
    assert len(net.active_units(DIGITS[:50])) == 3
    z = net.model_.draw_latents(50)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert z.shape == (50, 12)


# ---- as users meet them


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BeliefNet(n_importance_samples=1), "n_importance_samples=1: latent bits"),
        (lambda: BeliefNet(network="mnist", image_shape=(8, 8)), "network='mnist': layers of bits"),
        (lambda: MixtureModel(n_components=5000), "n_components=5000: expected at most"),
        (lambda: MixtureModel(covariance="full"), "covariance='full' is of Gaussian columns"),
        (lambda: MixtureModel(binarize="batch"), "binarize='batch': expected"),
        (lambda: FactorAnalysis(likelihood="bernoulli"), "likelihood='bernoulli': expected"),
        (lambda: FactorAnalysis(tol=0), "tol=0: expected"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make().fit(DIGITS)


def test_what_is_known_exactly_is_not_estimated():
    fitted = MixtureModel(n_components=2, random_state=0).fit(IRIS)
    found = fitted.log_likelihood(IRIS)
    assert str(found).endswith("nats (exact)")
    assert found.is_exact
    assert (found.monte_carlo_errors == 0).all()
    batch = Batch(torch.tensor(standardised(IRIS), dtype=torch.float32))
    log_w = fitted.model_.run(batch, 3).log_w - np.log(IRIS.std(0)).sum()
    np.testing.assert_allclose(log_w.detach().mean(0), found.values, atol=1e-4)
    assert fitted.sandwich(5).gap == 0
    with pytest.raises(ValueError, match=r"annealing=.*is known exactly"):
        fitted.log_likelihood(IRIS, annealing=ancestral.Annealing())
    with pytest.raises(ValueError, match="they must be continuous"):
        BeliefNet(n_latents=2, max_epochs=1, random_state=0).fit(DIGITS).sandwich(2)


def test_a_log_likelihood_that_is_not_a_number_stops_the_fit():
    huge = IRIS.copy()
    huge[0] = 1e200
    with pytest.raises((NonFiniteError, ValueError)):
        FactorAnalysis(n_latents=1, random_state=0).fit(huge)


@pytest.mark.parametrize("kind", [FactorAnalysis, MixtureModel])
def test_an_interrupted_fit_goes_on_to_the_same_model(kind, tmp_path, monkeypatch):
    how = {"random_state": 0, "tol": 1e-7, "max_iter": 60}
    expected = kind(**how).fit(WINE)
    broken = kind(**how, checkpoint=str(tmp_path / "state"))

    def interrupt(progress):
        if progress.event == "step" and progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(kind, "_callbacks", lambda _: [interrupt])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(WINE)
    assert (tmp_path / "state").is_file()
    monkeypatch.undo()
    broken.fit(WINE)
    assert not (tmp_path / "state").exists()
    assert [r["loss"] for r in broken.history_] == [r["loss"] for r in expected.history_]
    for a, b in zip(broken.model_.parameters(), expected.model_.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", [FactorAnalysis, MixtureModel, BeliefNet])
def test_a_model_on_codes_wants_real_ones(kind, tmp_path):
    rows, y = IRIS if kind is not BeliefNet else DIGITS[:150], load_iris().target
    few = {"max_epochs": 1} if kind is BeliefNet else {}
    kind(**few, random_state=0).fit(rows).save(tmp_path / "below")
    how = {"codes": str(tmp_path / "below"), "hidden": (5,), "max_epochs": 1, "random_state": 0}
    above = ancestral.ClassConditionalVAE(n_latents=2, **how)
    if kind is FactorAnalysis:
        assert above.fit(rows, y).predict(rows).shape == (150,)
        return
    with pytest.raises(ValueError, match="bits or a class among its latent variables"):
        above.fit(rows, y)


@pytest.mark.parametrize(
    ("method", "options", "title"),
    [
        ("mixture", ["--n-components", "12"], "The classes"),
        ("factor-analysis", ["--n-latents", "3"], "The factors"),
        ("belief-net", ["--n-latents", "8,4", "--max-epochs", "2"], "The latent space"),
    ],
)
def test_the_command_line_fits_and_reports(method, options, title, tmp_path, capsys):
    table = tmp_path / "wine.csv"
    data = load_wine(as_frame=True).frame
    data.iloc[::9, 2] = np.nan
    bits = (data.drop(columns="target") > data.drop(columns="target").median()).astype(float)
    frame = bits.assign(target=data.target) if method == "belief-net" else data
    frame.to_csv(table, index=False)
    out = tmp_path / "run"
    how = ["fit", method, str(table), "--target", "target", "--out", str(out), *options]
    assert main(how) == 0
    assert title in (out / "report.html").read_text()
    assert main(["evaluate", str(out), "--n-importance-samples", "10"]) == 0
    said = capsys.readouterr().out
    assert ("log-likelihood L_10" in said) == (method == "belief-net")
    assert main(["impute", str(out), str(table), "--out", str(tmp_path / "full.csv")]) == 0
    assert main(["sample", str(out), "--out", str(tmp_path / "drawn.csv")]) == 0
