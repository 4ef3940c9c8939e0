"""Bayesian networks by probabilistic backpropagation: moments, updates, fits, distillation."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import ancestral
from ancestral import PBP, datasets
from ancestral.cli.main import main
from ancestral.experiments.evaluation_settings import EvaluationSettings
from ancestral.experiments.metrics import EvaluationTask, evaluate_task
from ancestral.experiments.recipes import Protocol
from ancestral.models.bayesian_mlp import (
    BayesianMLP,
    Gamma,
    Moments,
    linear_moments,
    log_normal,
    relu_moments,
    update_gamma,
    update_gaussian,
)

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
def test_relu_moments_match_reference_values(mean, variance, expected):
    result = relu_moments(Moments(double(mean), double(variance)))
    assert [u.item() for u in result] == pytest.approx(expected, abs=1e-11)


def test_relu_moments_far_below_zero_are_small_with_finite_gradients():
    mean, variance = double(-40.0, -8.0, -2.0), double(1.0, 1.0, 1e-6)
    mean.requires_grad_()
    result = relu_moments(Moments(mean, variance))
    assert all((u >= 0).all() and u.max() < 1e-15 for u in result)
    (gradient,) = torch.autograd.grad(result.mean.sum() + result.variance.sum(), mean)
    assert gradient.isfinite().all()


def test_linear_moments_match_monte_carlo():
    u = Moments(double(0.5, -1.0), double(0.2, 0.4))
    mean, variance = (
        double([1.0, 2.0, -0.5], [0.3, 0.0, 1.0]),
        double([0.1, 0.2, 0.3], [1.0, 0.5, 0.2]),
    )
    result = linear_moments(u, mean, variance)
    n = 400_000
    x = u.mean.numpy() + np.sqrt(u.variance.numpy()) * RNG.normal(size=(n, 2))
    w = mean.numpy() + np.sqrt(variance.numpy()) * RNG.normal(size=(n, 2, 3))
    draws = (w @ np.pad(x, ((0, 0), (0, 1)), constant_values=1.0)[..., None])[..., 0] / np.sqrt(3)
    np.testing.assert_allclose(result.mean, draws.mean(0), atol=0.01)
    np.testing.assert_allclose(result.variance, draws.var(0), rtol=0.02)


def test_network_moments_match_monte_carlo_over_weights():
    """With one hidden layer the assumption of independent Gaussian inputs is exact."""
    torch.manual_seed(0)
    net = BayesianMLP(2, (6,)).double()
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


def test_updates_of_one_weight_match_exact_posterior():
    xs, noise = RNG.normal(size=30), 0.5
    ys = 1.3 * xs + RNG.normal(scale=noise**0.5, size=30)
    posterior = Moments(double(0.0), double(1.0))
    for x, y in zip(xs, ys, strict=True):
        mean, variance = (u.clone().requires_grad_() for u in posterior)
        log_z = log_normal(double(y), Moments(x * mean, x * x * variance), noise).sum()
        posterior = update_gaussian(
            Moments(mean, variance), *torch.autograd.grad(log_z, (mean, variance))
        )
        posterior = Moments(*(u.detach() for u in posterior))
    precision = 1 + (xs**2).sum() / noise
    assert posterior.mean.item() == pytest.approx((xs * ys).sum() / noise / precision, rel=1e-10)
    assert posterior.variance.item() == pytest.approx(1 / precision, rel=1e-10)


def test_gaussian_update_with_invalid_result_is_skipped():
    prior = Moments(double(1.0, 1.0), double(1.0, 1.0))
    result = update_gaussian(prior, double(10.0, 0.1), double(0.0, float("nan")))
    assert torch.equal(torch.stack(result), torch.stack(prior))


def test_gamma_update_with_student_marginals_is_conjugate():
    """With Student-t marginals for log Z the result is Gamma(a + 1/2, b + r^2 / 2)."""
    prior, residual = Gamma(6.0, 5.0), 1.4

    def log_z(a):
        return stats.t(2 * a, scale=np.sqrt(prior.b / a)).logpdf(residual)

    result = update_gamma(prior, log_z(prior.a), log_z(prior.a + 1), log_z(prior.a + 2))
    assert result == pytest.approx((6.5, 5.0 + residual**2 / 2), rel=1e-9)


def test_gamma_update_moments_match_quadrature():
    """E[gamma^j] as integrals over the prior, each normalised by its own Gaussian."""
    prior, mean, variance, y = Gamma(6.0, 6.0), 0.3, 0.2, 1.1
    noises = (prior.variance, prior.b / prior.a, prior.b / (prior.a + 1))
    log_z = [
        log_normal(double(y), Moments(double(mean), double(variance)), v).item() for v in noises
    ]
    result = update_gamma(prior, *log_z)
    gamma = stats.gamma(prior.a, scale=1 / prior.b)
    moments = [
        integrate.quad(lambda g, j=j: g**j * gamma.pdf(g), 0, np.inf)[0]
        * np.exp(log_z[j] - log_z[0])
        for j in (1, 2)
    ]
    assert result.a / result.b == pytest.approx(moments[0], rel=1e-8)
    assert result.a * (result.a + 1) / result.b**2 == pytest.approx(moments[1], rel=1e-8)


def test_repeated_prior_refinement_converges():
    """Without new data, repeated refinement reaches a fixed point with positive variances."""
    torch.manual_seed(0)
    net = BayesianMLP(3, (4,)).double()
    for _ in range(10):
        net.update(double(1.0, -1.0, 0.5), torch.tensor(0.5))
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


def test_pbp_predictive_mean_and_std_on_quadratic_curve():
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
    draws = np.stack([fitted.draw(test[:50], random_state=s) for s in range(300)])
    np.testing.assert_allclose(draws.mean(0), mean[:50], atol=5 * std[:50].max() / np.sqrt(300))
    np.testing.assert_allclose(draws.std(0), std[:50], rtol=0.25)


def test_pbp_predictions_after_save_and_load_are_identical(tmp_path):
    x, y = toy()
    fitted = PBP(hidden=(5,), max_epochs=2, random_state=0).fit(x, y)
    fitted.save(tmp_path / "model")
    loaded = ancestral.load(tmp_path / "model")
    for a, b in zip(*(e.predict(x, return_std=True) for e in (fitted, loaded)), strict=True):
        np.testing.assert_array_equal(a, b)
    refitted = PBP(hidden=(5,), max_epochs=2, random_state=0).fit(x, y)
    np.testing.assert_array_equal(refitted.predict(x), fitted.predict(x))


def test_pbp_resumes_from_checkpoint_identically(tmp_path, monkeypatch):
    x, y = toy()
    kwargs = {"hidden": (5,), "max_epochs": 5, "random_state": 0}
    expected = PBP(**kwargs).fit(x, y)
    interrupted = PBP(**kwargs, checkpoint_path=str(tmp_path / "state"))

    def interrupt(progress):
        if progress.event == "step" and progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(PBP, "_callbacks", lambda _: [interrupt])
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(x, y)
    monkeypatch.undo()
    interrupted.fit(x, y)
    np.testing.assert_array_equal(interrupted.predict(x), expected.predict(x))


@pytest.mark.parametrize(
    ("make", "targets", "message"),
    [
        (lambda: PBP(), np.ones((60, 2)), "y: expected one target a row"),
        (lambda: PBP(likelihood="bernoulli"), np.ones(60), "likelihood='bernoulli': expected"),
        (lambda: PBP(max_epochs=0), np.ones(60), "max_epochs=0: expected"),
        (lambda: PBP(), None, "PBP requires y"),
    ],
)
def test_invalid_parameters_and_inputs_raise(make, targets, message):
    with pytest.raises(ValueError, match=message):
        make().fit(toy()[0], targets)
    gaps = np.where(np.arange(60)[:, None] < 3, np.nan, toy()[0])
    with pytest.raises(ValueError, match="X contains NaN"):
        PBP().fit(gaps, toy()[1])


def test_log_density_of_deterministic_regressor_raises():
    x, y = toy()
    student = ancestral.CGMMNRegressor(hidden=(5,), n_noise=0, max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match="CGMMNRegressor predicts without a spread"):
        student.fit(x, y).log_density(x, y)


def test_pbp_boston_housing_error_and_log_likelihood():
    """Three epochs on one split; the results hold the mean of 20 splits after 40 epochs."""
    try:
        data = datasets.load("boston_housing", split=0)
    except datasets.DataError as error:
        pytest.skip(f"no data: {error}")
    fitted = PBP(max_epochs=3, random_state=0).fit(data.x_train, data.y_train)
    rmse = np.sqrt(np.mean((fitted.predict(data.x_test) - data.y_test) ** 2))
    assert rmse < 4.0
    values = fitted.log_density(data.x_test, data.y_test)
    assert -values.mean() < 2.9
    task = {
        "name": "",
        "folder": Path(),
        "estimator": fitted,
        "dataset": data,
        "rows": EvaluationSettings(),
    }
    (metric,) = evaluate_task(EvaluationTask(**task, protocol=Protocol(metric="target_density")))
    assert metric["value"] == pytest.approx(values.mean(), rel=1e-12)
    assert metric["metric"] == "log-likelihood of targets, nats"


def test_pbp_command_line(tmp_path, capsys):
    x, y = toy()
    table = tmp_path / "curve.csv"
    table.write_text("x,y\n" + "\n".join(f"{a},{b}" for (a,), b in zip(x, y, strict=True)))
    out = tmp_path / "run"
    command = ["fit", "pbp", str(table), "--target", "y", "--hidden", "8", "--max-epochs", "3"]
    assert main([*command, "--out", str(out)]) == 0
    assert "root mean squared error" in capsys.readouterr().out
    assert "predicted target" in (out / "report.html").read_text()
    assert main(["predict", str(out), str(table), "--out", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_text().startswith("target,standard_deviation")


# ---- distillation


@pytest.fixture(scope="module")
def teacher_and_path(tmp_path_factory):
    """A fitted teacher and the path of its saved model."""
    x, y = toy()
    teacher = PBP(hidden=(20,), max_epochs=20, random_state=0).fit(x, y)
    teacher.save(path := tmp_path_factory.mktemp("teacher") / "model")
    return teacher, str(path)


def test_distilled_cgmmn_matches_teacher_mean_and_std(teacher_and_path):
    teacher, path = teacher_and_path
    x, y = toy()
    kwargs = {"hidden": (50, 50), "learning_rate": 1e-2, "max_epochs": 20, "random_state": 0}
    student = ancestral.CGMMNRegressor(teacher=path, objective="unbiased", **kwargs).fit(x, 0 * y)
    inputs = np.linspace(-2.5, 2.5, 50)[:, None]
    (mean, std), (teacher_mean, teacher_std) = (
        e.predict(inputs, return_std=True) for e in (student, teacher)
    )
    assert np.sqrt(np.mean((mean - teacher_mean) ** 2)) < 0.4
    assert 0.8 < (std / teacher_std).mean() < 1.25


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((50, 2)), "was fitted to 1 columns, but X has 2"),
        (np.arange(50, dtype=np.uint8)[:, None], "expected floats, got uint8"),
    ],
)
def test_distillation_on_unsuitable_inputs_raises(rows, message, teacher_and_path):
    student = ancestral.CGMMNRegressor(teacher=teacher_and_path[1], random_state=0)
    with pytest.raises(ValueError, match=message):
        student.fit(rows, np.zeros(50))


def test_distillation_from_non_regressor_raises(tmp_path):
    x, y = toy()
    ancestral.MixtureModel(n_components=2, random_state=0).fit(x).save(tmp_path / "model")
    student = ancestral.CGMMNRegressor(teacher=str(tmp_path / "model"), random_state=0)
    with pytest.raises(ValueError, match="holds a MixtureModel: expected a regressor"):
        student.fit(x, y)
