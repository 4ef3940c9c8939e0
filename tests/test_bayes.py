"""Networks whose weights are uncertain: moments, updates and what comes of them."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import ancestral
from ancestral import PBP, datasets
from ancestral.assumed import (
    Gamma,
    GaussianWeights,
    Moments,
    linear_moments,
    log_normal,
    relu_moments,
    updated_gamma,
    updated_gaussian,
)
from ancestral.cli import main
from ancestral.measures import Subject, measure
from ancestral.protocol import Scoring
from ancestral.recipes import Protocol

RNG = np.random.default_rng(0)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [
        (0.0, 1.0, (0.398942280401, 0.340845056908)),
        (0.5, 2.0, (0.849088662230, 0.979919164956)),
        (-1.0, 0.25, (0.004245351308, 0.001424158671)),
    ],
)
def test_g1_moments_of_a_rectified_normal(mean, variance, expected):
    found = relu_moments(Moments(double(mean), double(variance)))
    assert [u.item() for u in found] == pytest.approx(expected, abs=1e-11)


def test_moments_far_below_zero_are_small_and_have_slopes():
    mean, variance = double(-40.0, -8.0, -2.0), double(1.0, 1.0, 1e-6)
    mean.requires_grad_()
    found = relu_moments(Moments(mean, variance))
    assert all((u >= 0).all() and u.max() < 1e-15 for u in found)
    (slope,) = torch.autograd.grad(found.mean.sum() + found.variance.sum(), mean)
    assert slope.isfinite().all()


def test_moments_of_a_linear_layer_are_those_of_draws():
    u = Moments(double(0.5, -1.0), double(0.2, 0.4))
    mean, variance = (
        double([1.0, 2.0, -0.5], [0.3, 0.0, 1.0]),
        double([0.1, 0.2, 0.3], [1.0, 0.5, 0.2]),
    )
    found = linear_moments(u, mean, variance)
    n = 400_000
    x = u.mean.numpy() + np.sqrt(u.variance.numpy()) * RNG.normal(size=(n, 2))
    w = mean.numpy() + np.sqrt(variance.numpy()) * RNG.normal(size=(n, 2, 3))
    drawn = (w @ np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)[..., None])[..., 0] / np.sqrt(3)
    np.testing.assert_allclose(found.mean, drawn.mean(0), atol=0.01)
    np.testing.assert_allclose(found.variance, drawn.var(0), rtol=0.02)


def test_one_hidden_layer_has_the_moments_of_draws_of_its_weights():
    """Exactly: what it assumes of the layer below, independent Gaussians, is so."""
    torch.manual_seed(0)
    net = GaussianWeights(2, (6,)).double()
    x = double(0.7, -1.2)
    mean, variance = (u.item() for u in net(x))
    n = 200_000
    layers = [
        m.detach().numpy() + np.sqrt(v.detach().numpy()) * RNG.normal(size=(n, *m.shape))
        for m, v in zip(net.means, net.variances, strict=True)
    ]
    u = np.tile(x.numpy(), (n, 1))
    for number, w in enumerate(layers):
        u = np.pad(u, ((0, 0), (0, 1)), constant_values=1.0)
        u = np.einsum("boi,bi->bo", w, u) / np.sqrt(u.shape[1])
        u = np.maximum(u, 0) if number == 0 else u
    assert u.mean() == pytest.approx(mean, abs=5 * u.std() / np.sqrt(n))
    assert u.var() == pytest.approx(variance, rel=0.02)


def test_g2_one_weight_stays_exact_over_many_observations():
    xs, noise = RNG.normal(size=30), 0.5
    ys = 1.3 * xs + RNG.normal(scale=noise**0.5, size=30)
    known = Moments(double(0.0), double(1.0))
    for x, y in zip(xs, ys, strict=True):
        mean, variance = (u.clone().requires_grad_() for u in known)
        log_z = log_normal(double(y), Moments(x * mean, x * x * variance), noise).sum()
        known = updated_gaussian(
            Moments(mean, variance), *torch.autograd.grad(log_z, (mean, variance))
        )
        known = Moments(*(u.detach() for u in known))
    precision = 1 + (xs**2).sum() / noise
    assert known.mean.item() == pytest.approx((xs * ys).sum() / noise / precision, rel=1e-10)
    assert known.variance.item() == pytest.approx(1 / precision, rel=1e-10)


def test_an_update_that_leads_nowhere_is_not_made():
    prior = Moments(double(1.0, 1.0), double(1.0, 1.0))
    found = updated_gaussian(prior, double(10.0, 0.1), double(0.0, float("nan")))
    assert torch.equal(torch.stack(found), torch.stack(prior))


def test_g5_a_precision_with_its_own_likelihood_is_conjugate():
    """With Student's marginals for log Z the moments are those of Gamma(a + 1/2, b + r^2 / 2)."""
    prior, away = Gamma(6.0, 5.0), 1.4

    def log_z(a):
        return stats.t(2 * a, scale=np.sqrt(prior.b / a)).logpdf(away)

    found = updated_gamma(prior, log_z(prior.a), log_z(prior.a + 1), log_z(prior.a + 2))
    assert found == pytest.approx((6.5, 5.0 + away**2 / 2), rel=1e-9)


def test_g5_moments_under_the_gaussian_in_place_of_students_distribution():
    """E[gamma^j] as integrals over the prior, each normalised by its own Gaussian."""
    prior, mean, variance, y = Gamma(6.0, 6.0), 0.3, 0.2, 1.1
    noises = (prior.variance, prior.b / prior.a, prior.b / (prior.a + 1))
    log_z = [
        log_normal(double(y), Moments(double(mean), double(variance)), v).item() for v in noises
    ]
    found = updated_gamma(prior, *log_z)
    gamma = stats.gamma(prior.a, scale=1 / prior.b)
    moments = [
        integrate.quad(lambda g, j=j: g**j * gamma.pdf(g), 0, np.inf)[0]
        * np.exp(log_z[j] - log_z[0])
        for j in (1, 2)
    ]
    assert found.a / found.b == pytest.approx(moments[0], rel=1e-8)
    assert found.a * (found.a + 1) / found.b**2 == pytest.approx(moments[1], rel=1e-8)


def test_the_prior_is_taken_in_anew_to_what_a_fixed_point_keeps():
    """Refined again and again without new rows, the weights come to rest, and shrink to zero."""
    torch.manual_seed(0)
    net = GaussianWeights(3, (4,)).double()
    for _ in range(10):
        net.observe(double(1.0, -1.0, 0.5), torch.tensor(0.5))
    steps = []
    for _ in range(30):
        before = torch.cat([m.detach().clone().flatten() for m in net.means])
        net.refine_prior()
        steps.append((torch.cat([m.detach().flatten() for m in net.means]) - before).abs().max())
    assert steps[-1] < 1e-3 * steps[0]
    assert all((v > 0).all() for v in net.variances)


def toy(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, size=(n, 1))
    return x, x[:, 0] ** 2 + rng.normal(scale=0.5, size=n)


def test_it_learns_the_curve_the_noise_and_where_it_knows_nothing():
    x, y = toy()
    fitted = PBP(hidden=(30,), max_epochs=30, random_state=0).fit(x, y)
    test, truth = toy(200, seed=1)
    mean, std = fitted.predict(test, return_std=True)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 1.0
    assert (np.abs(mean - truth) < 2 * std).mean() > 0.85
    far = fitted.predict([[9.0], [-9.0]], return_std=True)[1]
    assert far.min() > 2 * std.mean()
    expected = stats.norm(mean, std).logpdf(truth)
    np.testing.assert_allclose(fitted.log_density(test, truth), expected, rtol=1e-6)
    drawn = np.stack([fitted.draw(test[:50], random_state=s) for s in range(300)])
    np.testing.assert_allclose(drawn.mean(0), mean[:50], atol=5 * std[:50].max() / np.sqrt(300))
    np.testing.assert_allclose(drawn.std(0), std[:50], rtol=0.25)


def test_it_answers_the_same_when_loaded(tmp_path):
    x, y = toy()
    fitted = PBP(hidden=(5,), max_epochs=2, random_state=0).fit(x, y)
    fitted.save(tmp_path / "model")
    loaded = ancestral.load(tmp_path / "model")
    for a, b in zip(*(e.predict(x, return_std=True) for e in (fitted, loaded)), strict=True):
        np.testing.assert_array_equal(a, b)
    again = PBP(hidden=(5,), max_epochs=2, random_state=0).fit(x, y)
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))


def test_an_interrupted_fit_goes_on_to_the_same_network(tmp_path, monkeypatch):
    x, y = toy()
    how = {"hidden": (5,), "max_epochs": 5, "random_state": 0}
    expected = PBP(**how).fit(x, y)
    broken = PBP(**how, checkpoint=str(tmp_path / "state"))

    def interrupt(progress):
        if progress.event == "step" and progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PBP, "_callbacks", lambda _: [interrupt])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(x, y)
    monkeypatch.undo()
    broken.fit(x, y)
    np.testing.assert_array_equal(broken.predict(x), expected.predict(x))


@pytest.mark.parametrize(
    ("make", "targets", "message"),
    [
        (lambda: PBP(), np.ones((60, 2)), "y: expected one target a row"),
        (lambda: PBP(likelihood="bernoulli"), np.ones(60), "likelihood='bernoulli': expected"),
        (lambda: PBP(max_epochs=0), np.ones(60), "max_epochs=0: expected"),
        (lambda: PBP(), None, "PBP requires y"),
    ],
)
def test_bad_settings_are_named(make, targets, message):
    with pytest.raises(ValueError, match=message):
        make().fit(toy()[0], targets)
    gaps = np.where(np.arange(60)[:, None] < 3, np.nan, toy()[0])
    with pytest.raises(ValueError, match="X contains NaN"):
        PBP().fit(gaps, toy()[1])


def test_predictions_without_a_spread_are_no_density():
    x, y = toy()
    student = ancestral.CGMMNRegressor(hidden=(5,), n_noise=0, max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match="CGMMNRegressor predicts without a spread"):
        student.fit(x, y).log_density(x, y)


def test_boston_within_what_twenty_splits_span():
    """Three passes on one split; the mean over twenty after forty is in the results."""
    try:
        data = datasets.load("boston_housing", split=0)
    except datasets.DataError as error:
        pytest.skip(f"no data: {error}")
    fitted = PBP(max_epochs=3, random_state=0).fit(data.x_train, data.y_train)
    root = np.sqrt(np.mean((fitted.predict(data.x_test) - data.y_test) ** 2))
    assert root < 4.0
    values = fitted.log_density(data.x_test, data.y_test)
    assert -values.mean() < 2.9
    about = {"name": "", "folder": Path(), "estimator": fitted, "dataset": data, "rows": Scoring()}
    (metric,) = measure(Subject(**about, protocol=Protocol(metric="target_density")))
    assert metric["value"] == pytest.approx(values.mean(), rel=1e-12)
    assert metric["metric"] == "log-likelihood of targets, nats"


def test_the_command_line_fits_predicts_and_reports(tmp_path, capsys):
    x, y = toy()
    table = tmp_path / "curve.csv"
    table.write_text("x,y\n" + "\n".join(f"{a},{b}" for (a,), b in zip(x, y, strict=True)))
    out = tmp_path / "run"
    how = ["fit", "pbp", str(table), "--target", "y", "--hidden", "8", "--max-epochs", "3"]
    assert main([*how, "--out", str(out)]) == 0
    assert "root mean squared error" in capsys.readouterr().out
    assert "What it predicts" in (out / "report.html").read_text()
    assert main(["predict", str(out), str(table), "--out", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text().startswith("target,standard_deviation")


# ---- students


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A teacher that has seen a curve, and where it is saved."""
    x, y = toy()
    teacher = PBP(hidden=(20,), max_epochs=20, random_state=0).fit(x, y)
    teacher.save(path := tmp_path_factory.mktemp("teacher") / "model")
    return teacher, str(path)


def test_a_student_predicts_as_its_teacher_does_whatever_the_targets(taught):
    teacher, path = taught
    x, y = toy()
    how = {"hidden": (50, 50), "learning_rate": 1e-2, "max_epochs": 20, "random_state": 0}
    student = ancestral.CGMMNRegressor(teacher=path, form="unbiased", **how).fit(x, 0 * y)
    at = np.linspace(-2.5, 2.5, 50)[:, None]
    (mean, std), (theirs, spread) = (e.predict(at, return_std=True) for e in (student, teacher))
    assert np.sqrt(np.mean((mean - theirs) ** 2)) < 0.4
    assert 0.8 < (std / spread).mean() < 1.25


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((50, 2)), "was fitted to 1 columns and there are 2"),
        (np.arange(50, dtype=np.uint8)[:, None], "give them as floats"),
    ],
)
def test_what_a_teacher_can_not_be_asked(rows, message, taught):
    student = ancestral.CGMMNRegressor(teacher=taught[1], random_state=0)
    with pytest.raises(ValueError, match=message):
        student.fit(rows, np.zeros(50))


def test_a_teacher_is_a_regressor(tmp_path):
    x, y = toy()
    ancestral.MixtureModel(n_components=2, random_state=0).fit(x).save(tmp_path / "model")
    student = ancestral.CGMMNRegressor(teacher=str(tmp_path / "model"), random_state=0)
    with pytest.raises(ValueError, match="is of the class MixtureModel: no regressor"):
        student.fit(x, y)
