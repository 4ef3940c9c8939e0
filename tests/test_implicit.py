"""Implicit models (GMMN, CGMMN, GAN), their likelihood estimates and sample-quality metrics."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.neighbors import KernelDensity
from torch import nn
from torch.distributions import MultivariateNormal, Normal

from ancestral import (
    CGMMN,
    GAN,
    GMMN,
    CGMMNClassifier,
    CGMMNRegressor,
    ConditionalGAN,
    datasets,
    load,
)
from ancestral.cli.main import main
from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.implicit import BOUNDS, noise
from ancestral.evaluation.ais import Annealing, annealed_log_likelihood, bidirectional_bounds
from ancestral.evaluation.parzen import parzen_log_likelihood
from ancestral.evaluation.sample_quality import (
    count_covered_modes,
    nearest_neighbors,
    sample_quality,
)
from ancestral.experiments import report
from ancestral.experiments.evaluation_settings import EvaluationSettings
from ancestral.experiments.metrics import EvaluationTask, evaluate_task
from ancestral.experiments.metrics_file import read_metrics
from ancestral.experiments.recipes import Protocol
from ancestral.experiments.report import regression
from ancestral.experiments.report.context import make_context
from ancestral.experiments.scoring import score_noisy_generator, score_sample_quality
from ancestral.models.implicit import Generator
from ancestral.models.noisy_generator import NoisyGenerator
from ancestral.models.run import GeneratorRun
from ancestral.nn import SpectralNorm, linear, parse_layers
from ancestral.nn.convolution import Conv
from ancestral.objectives import critic_loss, gradient_penalty
from ancestral.probability.conditionals import standard_normal
from ancestral.training import engine

X, Y = load_digits(return_X_y=True)
X = X / 16
SMALL = {"hidden": (40,), "max_epochs": 3, "random_state": 0}
QUICK = {
    GMMN: SMALL | {"batch_size": 300},
    CGMMN: SMALL | {"batch_size": 300},
    GAN: SMALL | {"critic": (20,)},
    ConditionalGAN: SMALL | {"critic": (20,)},
    CGMMNClassifier: SMALL | {"batch_size": 100},
}
GENERATORS = (GMMN, CGMMN, GAN, ConditionalGAN)


def fitted(cls, **settings):
    return cls(**QUICK[cls] | settings).fit(X, Y)


# ---- common behaviour of generators


@pytest.mark.parametrize("cls", GENERATORS)
def test_samples_are_reproducible_and_identical_after_loading(cls, tmp_path):
    model = fitted(cls)
    samples = model.sample(20)
    assert samples.shape == (20, 64)
    assert samples.min() >= 0
    assert samples.max() <= 1
    np.testing.assert_array_equal(samples, model.sample(20))
    assert not np.array_equal(samples, model.sample(20, random_state=1))
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").sample(20), samples)
    refitted = fitted(cls)
    np.testing.assert_array_equal(refitted.sample(20), samples)


def test_gan_saved_without_critic_samples_but_cannot_start_training(tmp_path):
    model = fitted(GAN)
    model.save(tmp_path / "whole")
    model.save(tmp_path / "shipped", whole=False)
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("whole", "shipped")]
    assert sizes[1] < 0.95 * sizes[0]
    shipped = load(tmp_path / "shipped")
    np.testing.assert_array_equal(shipped.sample(20), model.sample(20))
    shipped.save(tmp_path / "again")
    np.testing.assert_array_equal(load(tmp_path / "again").sample(20), model.sample(20))
    with pytest.raises(ValueError, match="critic"):
        fitted(GAN, init_from=str(tmp_path / "again"))


@pytest.mark.parametrize("cls", GENERATORS)
def test_sample_log_contains_samples_of_fixed_noise(cls, tmp_path):
    model = fitted(cls, max_epochs=5, validation_fraction=0.2, precision="float32")
    epochs, pages = model.sample_log()
    assert epochs == [1, 2, 3, 4, 5]
    assert pages.shape == (5, 10, 64)
    source = model._generator
    with engine.seeded_rng(model.seed_, 0), torch.no_grad():
        expected = source.generate(
            source.sample_noise(10), model._class_conditions(torch.arange(10))
        )
    np.testing.assert_allclose(pages[-1], expected.numpy(), atol=1e-6)
    assert np.abs(np.diff(pages, axis=0)).max((1, 2)).min() > 0
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").sample_log()[1], pages)
    accuracies = model.history_.curve("validation.c2st_accuracy")
    assert len(accuracies) == len(model.history_.curve("validation.mmd2")) == 5
    assert min(accuracies) > 0.5


def test_validation_metrics_use_batch_norm_statistics():
    kwargs = {
        "batch_norm": True,
        "max_epochs": 40,
        "learning_rate": 3e-3,
        "validation_fraction": 0.2,
    }
    model = fitted(GMMN, **kwargs)
    during = model.history_.curve("validation.mmd2")[-1]
    after = sample_quality(model.sample(300), X[:300]).mmd2.value
    assert during < 2 * after + 0.01


def test_sample_log_is_cleared_when_training_starts(tmp_path):
    fitted(GAN, max_epochs=9).save(tmp_path / "first")
    refitted = fitted(GAN, max_epochs=3, init_from=str(tmp_path / "first"))
    assert refitted.sample_log()[0] == [1, 2, 3]


@pytest.mark.parametrize("cls", GENERATORS)
def test_generators_raise_on_missing_values(cls):
    incomplete = np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, X)
    with pytest.raises(ValueError, match=r"NaN.*does not support missing values"):
        cls(**QUICK[cls]).fit(incomplete, Y)


def test_too_few_validation_samples_raise():
    with pytest.raises(ValueError, match=r"validation_fraction=0.1 holds out 3 rows: GAN needs"):
        GAN(**QUICK[GAN], validation_fraction=0.1).fit(X[:30])


def test_validation_mmd_is_finite_for_rare_bits():
    rare = (np.random.default_rng(0).random((200, 3)) < 0.05).astype(float)
    model = GAN(**QUICK[GAN], validation_fraction=0.2).fit(rare)
    assert np.isfinite(model.history_.curve("validation.mmd2")).all()


def test_gan_early_stopping_uses_validation_mmd():
    stopped = fitted(GAN, max_epochs=30, validation_fraction=0.2, patience=2)
    distances = stopped.history_.curve("validation.mmd2")
    assert len(distances) in (int(np.argmin(distances)) + 3, 30)


# ---- likelihood with observation noise


def test_ais_of_linear_generator_matches_factor_analysis():
    torch.manual_seed(0)
    network, variance = nn.Linear(2, 5), 0.3
    model = NoisyGenerator(Generator(network, standard_normal(2)), variance).eval()
    x = torch.randn(20, 5)
    covariance = network.weight @ network.weight.T + variance * torch.eye(5)
    exact = MultivariateNormal(network.bias, covariance).log_prob(x).detach().numpy()
    annealing = Annealing(n_steps=100, n_chains=16, n_leapfrog=5)
    result = annealed_log_likelihood(model, DeviceData(x), annealing)
    errors = np.hypot(result.monte_carlo_errors, 0.05)
    assert (np.abs(result.values - exact) / errors).max() < 4
    assert abs((result.values - exact).mean()) < 0.1
    assert abs(bidirectional_bounds(model, 20, annealing).gap) < 0.2


@pytest.mark.parametrize(
    ("kind", "mean", "variance"),
    [
        ("uniform", 0.0, 1 / 3),
        ("unit", 0.5, 1 / 12),
        ("centred", 0.0, 1 / 12),
        ("normal", 0.0, 1.0),
        ("bits", 0.5, 1 / 4),
    ],
)
def test_noise_distributions_have_expected_moments(kind, mean, variance):
    with engine.seeded_rng(0):
        h = noise(kind, 3)().sample((20_000,)).double()
    assert h.shape == (20_000, 3)
    assert h.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / h.numel()))
    assert h.var().item() == pytest.approx(variance, rel=0.02)
    if kind == "bits":
        assert set(h.unique().tolist()) == {0.0, 1.0}
    elif kind != "normal":
        assert (h - mean).abs().max() <= math.sqrt(3 * variance)
        assert (h - mean).abs().max() > 0.999 * math.sqrt(3 * variance)


@pytest.mark.parametrize("kind", ["uniform", "unit", "centred"])
def test_ais_of_uniform_noise_matches_closed_form(kind):
    (low, high), scale = BOUNDS[kind], 0.2
    model = NoisyGenerator(Generator(nn.Identity(), noise(kind, 1)), scale**2).eval()
    x = torch.linspace(low - 0.3, high + 0.3, 9).unsqueeze(1)
    edges = [Normal(0.0, 1.0).cdf((x - edge) / scale) for edge in (low, high)]
    exact = ((edges[0] - edges[1]).log() - math.log(high - low)).squeeze(1).numpy()
    result = annealed_log_likelihood(model, DeviceData(x), Annealing(n_steps=100, n_leapfrog=5))
    np.testing.assert_allclose(result.values, exact, atol=0.4)
    assert abs((result.values - exact).mean()) < 0.12


def test_ais_of_generators_api_and_command_line(tmp_path, capsys):
    model = fitted(ConditionalGAN)
    kwargs = {"annealing": Annealing(n_steps=3, n_chains=2, n_leapfrog=2), "variance": 0.1}
    result = model.log_likelihood(X[:4], Y[:4], **kwargs)
    assert np.isfinite(result.values).all()
    assert not np.allclose(result.values, model.log_likelihood(X[:4], Y[:4] + 1, **kwargs).values)
    assert len(model.bidirectional_bounds(4, **kwargs).upper.values) == 4
    with pytest.raises(ValueError, match="is class-conditional: give the classes"):
        model.log_likelihood(X[:4], **kwargs)
    with pytest.raises(ValueError, match="variance"):
        model.log_likelihood(X[:4], Y[:4], variance=0.0)
    with pytest.raises(ValueError, match="'prior'"):
        model.log_likelihood(
            X[:4], Y[:4], variance=0.1, annealing=Annealing(initial_distribution="posterior")
        )
    with pytest.raises(ValueError, match="bernoulli"):
        fitted(GMMN, noise_distribution="bits").log_likelihood(X[:4], variance=0.1)
    with pytest.raises(ValueError, match="GMMN is not class-conditional"):
        fitted(GMMN).log_likelihood(X[:4], Y[:4], variance=0.1)
    table = datasets.Dataset(name="t", x_train=X[:4], y_train=Y[:4] + 1)
    other = ConditionalGAN(**QUICK[ConditionalGAN]).fit(X, Y + 1)
    rows = EvaluationSettings(split="train", annealing=kwargs["annealing"])
    metric, _ = score_noisy_generator(other, table, rows, 0.1)
    assert metric["value"] == pytest.approx(other.log_likelihood(X[:4], Y[:4] + 1, **kwargs).mean)
    model.save(tmp_path / "m")
    command = ("evaluate", tmp_path / "m", "digits", "--n-steps", 3, "--n-chains", 2, "--n-rows", 4)
    noisy_command = (*command, "--observation-variance", 0.1)
    out = tmp_path / "rows.csv"
    assert main([str(a) for a in (*noisy_command, "--annealed", "--out", out)]) == 0
    assert "with noise of variance 0.1" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 5
    assert main([str(a) for a in (*noisy_command, "--bidirectional", 4)]) == 0
    assert "gap" in capsys.readouterr().out
    for arguments in (noisy_command, (*command, "--annealed"), (*command, "--bidirectional", 4)):
        assert main([str(a) for a in arguments]) == 2
        assert "observation" in capsys.readouterr().err


@pytest.mark.parametrize("cls", GENERATORS)
def test_samples_are_in_units_of_the_data(cls):
    rows = 1000 + 50 * np.random.default_rng(0).normal(size=(400, 3))
    kwargs = {"max_epochs": 60, "learning_rate": 2e-3}
    model = cls(**QUICK[cls] | kwargs).fit(rows, np.arange(400) % 2)
    samples = model.sample(300)
    assert np.abs(samples.mean(0) - 1000).max() < 100
    assert 5 < samples.std() < 150


@pytest.mark.parametrize("cls", GENERATORS)
def test_categorical_columns_raise(cls):
    with pytest.raises(ValueError, match="generates bernoulli and gaussian columns"):
        cls(**QUICK[cls], likelihood="categorical").fit(X.round(), Y)
    with pytest.raises(ValueError, match="the kernel of CGMMNClassifier supports only"):
        CGMMNClassifier(**QUICK[CGMMNClassifier], likelihood="categorical").fit(X.round(), Y)


@pytest.mark.parametrize("cls", [GMMN, GAN])
def test_convolutional_generator_from_text_specification(cls):
    kwargs = {"network": "20 | 8x4x4 | u2 3:1", "image_shape": (8, 8), "max_epochs": 1}
    more = {"critic": "3:8 p2 | 20"} if cls is GAN else {}
    assert fitted(cls, **kwargs, **more).sample(2).shape == (2, 64)
    with pytest.raises(ValueError, match="has outputs of 1 x 16 x 16: expected 1 x 8 x 8"):
        fitted(cls, **kwargs | {"network": "8x8x8 | u2 3:1"})


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (GMMN, {"kernel_variances": (1.0, -1.0)}, "kernel_variances"),
        (CGMMN, {"objective": "diagonal"}, "objective='diagonal'"),
        (CGMMNClassifier, {"regularization": 0.0}, "regularization=0.0"),
        (GAN, {"loss": "zero-sum"}, "loss='zero-sum'"),
        (GAN, {"critic_steps": 0}, "critic_steps=0"),
        (GAN, {"noise_distribution": "pink"}, "noise_distribution='pink'"),
    ],
)
def test_invalid_parameters_raise(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        fitted(cls, **settings)


def test_invalid_labels_raise():
    model = fitted(CGMMN)
    with pytest.raises(ValueError, match="unknown classes 11; the classes of the model are 0, 1"):
        model.sample(2, [3, 11])
    with pytest.raises(ValueError, match="expected one class, or 3 of them"):
        model.sample(3, [1, 2])
    with pytest.raises(ValueError, match="GAN does not generate rows of a class"):
        fitted(GAN).sample(2, 3)
    for cls in (CGMMN, CGMMNClassifier, ConditionalGAN):
        with pytest.raises(ValueError, match="5 rows are unlabelled"):
            cls(**QUICK[cls]).fit(X, np.where(np.arange(len(Y)) < 5, -1, Y))
        with pytest.raises(ValueError, match="requires y"):
            cls(**QUICK[cls]).fit(X)


# ---- fits


def test_gmmn_samples_match_moments_of_data():
    model = fitted(GMMN, max_epochs=30, learning_rate=1e-2, hidden=(64, 64))
    samples = model.sample(1000)
    assert np.abs(samples.mean(0) - X.mean(0)).mean() < 0.03
    assert np.abs(samples.std(0) - X.std(0)).mean() < 0.08
    assert model.history_[-1]["loss"] < 0.6 * model.history_[0]["loss"]


@pytest.mark.parametrize("form", ["cmmd", "classwise"])
def test_cgmmn_generates_requested_classes(form):
    model = fitted(CGMMN, objective=form, max_epochs=40, learning_rate=5e-3, hidden=(64, 64))
    samples = model.sample(10 * len(model.classes_), np.repeat(model.classes_, 10))
    centres = np.stack([X[c == Y].mean(0) for c in range(10)])
    _, predicted = nearest_neighbors(samples, centres)
    assert (predicted == np.repeat(np.arange(10), 10)).mean() > 0.75  # 0.9 for data
    one = model.sample(5, 7)
    assert (nearest_neighbors(one, centres)[1] == 7).mean() >= 0.8


@pytest.mark.parametrize(
    "settings", [{}, {"n_noise": 0}, {"network": "3:8 p2 | 20", "image_shape": (8, 8)}]
)
def test_cgmmn_classifier_accuracy_and_output_moments(settings, tmp_path):
    kwargs = {"max_epochs": 25, "learning_rate": 5e-3}
    model = CGMMNClassifier(**QUICK[CGMMNClassifier] | kwargs | settings).fit(X[:1500], Y[:1500])
    assert model.score(X[1500:], Y[1500:]) > 0.7
    mean, spread = model.output_moments(X[:50])
    assert (model.classes_[mean.argmax(1)] == model.predict(X[:50])).all()
    assert (spread > 0).any() == (settings.get("n_noise", 20) > 0)
    model.save(tmp_path / "c")
    np.testing.assert_array_equal(load(tmp_path / "c").predict_proba(X), model.predict_proba(X))


def test_cgmmn_classifier_diagonal_form_accuracy():
    model = fitted(CGMMNClassifier, objective="diagonal", max_epochs=25, learning_rate=5e-3)
    assert model.score(X, Y) > 0.8


def ring(n, seed):
    rng, angles = np.random.default_rng(seed), 2 * np.pi * np.arange(8) / 8
    centres = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    return centres, centres[rng.integers(0, 8, n)] + 0.05 * rng.normal(size=(n, 2))


def test_gan_covers_all_modes_of_gaussian_ring():
    centres, rows = ring(2560, 0)
    kwargs = {
        "n_noise": 8,
        "noise_distribution": "normal",
        "hidden": (128, 128),
        "critic": (128, 128),
    }
    gan = GAN(
        **kwargs,
        batch_size=256,
        learning_rate=2e-3,
        gradient_penalty=0.1,
        max_epochs=80,
        random_state=0,
    )
    assert count_covered_modes(gan.fit(rows).sample(2000), centres, radius=0.15) == 8
    assert {"critic.loss", "critic.penalty", "generator.loss"} <= set(gan.history_[0])


def test_conditional_gan_generates_requested_classes():
    kwargs = {"max_epochs": 40, "learning_rate": 2e-3, "hidden": (64, 64), "critic": (64,)}
    model = fitted(ConditionalGAN, **kwargs)
    samples = model.sample(100, np.repeat(model.classes_, 10))
    centres = np.stack([X[c == Y].mean(0) for c in range(10)])
    assert (nearest_neighbors(samples, centres)[1] == np.repeat(np.arange(10), 10)).mean() > 0.7


def test_conditional_gan_with_convolutional_critic(tmp_path):
    kwargs = {"max_epochs": 25, "learning_rate": 4e-3, "hidden": (64,), "image_shape": (8, 8)}
    model = fitted(ConditionalGAN, critic="3:8 p2 | 32", **kwargs)
    samples = model.sample(100, np.repeat(model.classes_, 10))
    centres = np.stack([X[c == Y].mean(0) for c in range(10)])
    assert (nearest_neighbors(samples, centres)[1] == np.repeat(np.arange(10), 10)).mean() > 0.6
    model.save(tmp_path / "m")
    same = load(tmp_path / "m").sample(100, np.repeat(model.classes_, 10))
    np.testing.assert_array_equal(same, samples)


@pytest.mark.parametrize("critic", [(20, 20), "3:8 p2 | 20"])
def test_spectral_norm_of_critic_weights_is_one(critic, tmp_path):
    kwargs = {"critic": critic, "spectral_norm": True, "image_shape": (8, 8), "max_epochs": 4}
    model = fitted(GAN, **kwargs)
    layers = [m for m in model.model_.critic.modules() if isinstance(m, SpectralNorm)]
    assert len(layers) == 3
    for layer in layers:
        greatest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item()
        assert greatest == pytest.approx(1, rel=0.03)
    samples = model.sample(5)
    assert not np.allclose(fitted(GAN, **kwargs | {"spectral_norm": False}).sample(5), samples)
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.sample(5), samples)
    x = torch.rand(4, 64)
    assert torch.equal(loaded.model_.critic(x), model.model_.critic(x))


def test_spectral_norm_layer_matches_svd():
    for layer, x in ((linear(6, 4), torch.randn(5, 6)), (conv(2, 4), torch.randn(5, 2, 3, 3))):
        with torch.no_grad():
            layer.bias.normal_()
        normalised = SpectralNorm(layer)
        for _ in range(100):
            normalised(x)
        output = normalised.eval()(x)
        gradient = torch.autograd.grad(output.sum(), layer.weight, retain_graph=True)[0]
        size = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        divided = copy.deepcopy(layer)
        with torch.no_grad():
            divided.weight.div_(size)
        torch.testing.assert_close(output, divided(x), rtol=1e-4, atol=1e-5)
        # a function of W / sigma(W) has zero derivative along W
        assert (gradient * layer.weight).sum().abs() < 1e-3


def conv(n_in, n_out):
    return Conv(n_in, parse_layers(f"3:{n_out}")[0])


def test_averaging_smoothing_and_critic_steps_change_samples():
    plain = fitted(GAN, max_epochs=5).sample(5)
    for settings in ({"ema_decay": 0.9}, {"label_smoothing": 0.1}, {"critic_steps": 2}):
        assert not np.allclose(fitted(GAN, max_epochs=5, **settings).sample(5), plain)


def test_label_smoothing_and_gradient_penalty_match_formulas():
    game = torch.nn.Module()
    game.critic = torch.nn.Linear(3, 1)
    x = torch.randn(6, 3)
    d = torch.sigmoid(game.critic(x))
    loss = critic_loss(0.1).terms["real"](game, GeneratorRun(Batch(x), sample=x))
    expected = -(0.9 * d.log() + 0.1 * (1 - d).log()).mean()
    torch.testing.assert_close(loss, expected)
    penalty = gradient_penalty(3.0).terms["penalty"](game, GeneratorRun(Batch(x), sample=x))
    torch.testing.assert_close(penalty, 1.5 * game.critic.weight.square().sum())


# ---- sample quality


def test_sample_quality_detects_copies_collapse_and_noise():
    rng = np.random.default_rng(0)
    order = rng.permutation(len(X))
    train, real, good = X[order[:800]], X[order[800:1200]], X[order[1200:1600]]
    quality = sample_quality(good, real, train)
    assert quality.p_value > 0.01
    assert abs(quality.c2st_accuracy.value - 0.5) < 0.1
    assert min(quality.precision, quality.recall) > 0.8
    assert quality.nearest == pytest.approx(quality.real_nearest, rel=0.1)
    copies = sample_quality(train[:400], real, train)
    assert copies.nearest == 0
    collapsed = sample_quality(np.repeat(good[:4], 100, axis=0), real, train)
    assert collapsed.recall < 0.2
    assert collapsed.c2st_accuracy.value > 0.9
    noisy = sample_quality(good + rng.normal(0, 0.5, good.shape), real, train)
    assert noisy.precision < 0.2
    assert noisy.p_value == 0.001


def test_sample_quality_and_validation_split_of_sorted_rows():
    order = np.argsort(Y, kind="stable")
    half = np.random.default_rng(0).permutation(len(X)) < len(X) // 2
    result = sample_quality(X[half][:300], X[order[~half[order]]])
    assert result.p_value > 0.01
    assert abs(result.c2st_accuracy.value - 0.5) < 0.1
    assert abs(result.real_mmd2) < 0.02
    gan = GAN(**QUICK[GAN] | {"validation_fraction": 0.5, "max_epochs": 1})
    validation_sets = []
    gan._epoch_metrics = lambda _, held_out: validation_sets.append(held_out) or {}
    gan.fit(X[order])
    classes = nearest_neighbors(validation_sets[0].batch_at(torch.arange(300)).x.numpy(), X)[1]
    assert (np.bincount(Y[classes], minlength=10) > 10).all()


def test_uint8_bits_are_not_scaled():
    bits = np.random.default_rng(0).integers(0, 2, (60, 4))
    generated = np.random.default_rng(1).random((60, 4))
    assert sample_quality(generated, bits.astype(np.uint8)) == sample_quality(
        generated, bits.astype(float)
    )
    arrays = [bits.astype(kind) for kind in (np.uint8, float)]
    assert parzen_log_likelihood(arrays[0], arrays[0], arrays[0]) == parzen_log_likelihood(
        arrays[1], arrays[1], arrays[1]
    )


def test_gmmn_samples_of_data_with_large_offset_are_distinct():
    far = 1e8 + np.random.default_rng(0).normal(size=(200, 3))
    samples = GMMN(hidden=(8,), max_epochs=2, random_state=0).fit(far).sample(100)
    assert len(np.unique(samples[:, 0])) == 100


def test_sample_quality_scales_bytes_and_raises_on_missing_values():
    rng = np.random.default_rng(0)
    generated, real = rng.random((60, 4)), rng.integers(0, 256, (60, 4), dtype=np.uint8)
    assert (
        sample_quality(generated, real).c2st_accuracy.value
        == sample_quality(generated, real / 255).c2st_accuracy.value
    )
    with pytest.raises(ValueError, match="missing"):
        sample_quality(np.where(generated > 0.99, np.nan, generated), generated)


def test_sample_quality_of_mismatched_shapes_raises():
    for generated in (X[:5], X[:50, :10]):
        with pytest.raises(ValueError, match="at least 10 samples each, with the same number"):
            sample_quality(generated, X)
    for training in (X[:, :10], X[:0]):
        with pytest.raises(ValueError, match=r"^training .* with the same number of features"):
            sample_quality(X[:50], X[50:100], training)
    with pytest.raises(ValueError, match=r"^generated \(50,\): expected an array \[n, d\]"):
        sample_quality(X[:50, 0], X[:50, 0])


def test_sample_quality_accepts_lists():
    a, b = X[:50], X[50:100]
    assert str(sample_quality(a.tolist(), b.tolist())) == str(sample_quality(a, b))


class FixedSampler(GMMN):
    """Generator whose samples come from a given function."""

    def sample(self, n_samples=1, y=None, *, random_state=None):
        return self.generate(np.random.default_rng([7, random_state or 0]), n_samples)


def fixed_sampler(generate, rows):
    model = FixedSampler(hidden=(4,), max_epochs=1, random_state=0).fit(rows)
    model.generate = generate
    return model


def two_clusters(rng, n):
    return rng.normal(size=(n, 2)) + 6 * rng.integers(0, 2, (n, 1))


def test_sample_quality_subsamples_sorted_table_evenly():
    rows = two_clusters(np.random.default_rng(0), 5000)
    rows = rows[np.argsort(rows.sum(1))]
    table = datasets.Dataset(name="sorted", x_train=rows)
    result = score_sample_quality(
        fixed_sampler(two_clusters, rows), table, EvaluationSettings(split="train")
    )
    assert result["n_rows"] == result["n"] == 2000
    assert result["p_value"] > 0.01
    assert abs(result["mmd2"]) < 4 * result["mmd2_error"]
    subset = score_sample_quality(
        fixed_sampler(two_clusters, rows), table, EvaluationSettings(split="train", n_rows=500)
    )
    assert subset["n_rows"] == 500
    assert subset["p_value"] == 0.001  # n_rows selects the first rows, all from one cluster


@pytest.mark.parametrize("unit", [1.0, 1e4])
def test_sample_quality_standardises_columns(unit):
    rng = np.random.default_rng(0)
    scale = np.array([1.0, unit])
    rows = rng.normal(size=(400, 2)) * scale + [3.0, 5 * unit]
    table = datasets.Dataset(name="active-units", x_train=rows[:200], x_test=rows[200:])

    def correct(rng, n):
        return rng.normal(size=(n, 2)) * scale + [3.0, 5 * unit]

    def shifted(rng, n):
        return correct(rng, n) + np.array([3.0, 0.0])

    good, bad = (
        score_sample_quality(fixed_sampler(generate, rows), table, EvaluationSettings())
        for generate in (correct, shifted)
    )
    assert good["p_value"] > 0.01
    assert bad["p_value"] == 0.001
    assert bad["c2st_accuracy"] > 0.85
    assert good["nearest"] == pytest.approx(good["real_nearest"], rel=0.4)
    assert good["nearest"] < 1  # in standard deviations


@pytest.mark.parametrize("split", ["test", "train"])
def test_sample_quality_of_rows_with_missing_values_raises(split):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    incomplete = np.where(np.arange(120).reshape(60, 2) == 15, np.nan, rows)
    parts = {"x_train": rows, "x_test": rows} | {f"x_{split}": incomplete}
    table = datasets.Dataset(name="gaps", **parts)
    label = "training" if split == "train" else split
    with pytest.raises(ValueError, match=rf"^gaps, {label} rows: 1 of 60 .* index 7.*impute them"):
        score_sample_quality(
            fixed_sampler(two_clusters, rows), table, EvaluationSettings(split="test")
        )


def test_missing_values_in_test_rows_raise_before_training(tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    rows[50, 1] = np.nan
    np.savez(tmp_path / "gaps.npz", x_train=rows[:40], x_test=rows[40:])
    out = ["--out", str(tmp_path / "run")]
    assert main(["fit", "gmmn", str(tmp_path / "gaps.npz"), "--max-epochs", "1", *out]) == 2
    assert "some test rows of gaps have missing entries" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"gaps.npz"}


def test_parzen_log_likelihood_matches_formula():
    generated, rows = np.zeros((1, 2)), np.array([[0.0, 0.3], [0.4, 0.0]])
    result = parzen_log_likelihood(generated, rows, rows, widths=(0.25,))
    expected = -0.5 * (0.09 + 0.16) / 2 / 0.0625 - np.log(2 * np.pi * 0.0625)
    assert result.widths == (0.25,)
    assert result.estimate.value == pytest.approx(expected)


def test_parzen_matches_sklearn_kernel_density():
    rng = np.random.default_rng(0)
    generated, valid, test = (rng.normal(size=(n, 3)) for n in (200, 90, 61))

    def score(width, rows):
        return KernelDensity(bandwidth=width).fit(generated).score_samples(rows)

    result = parzen_log_likelihood(generated, valid, test, widths=(0.2, 0.4, 0.8))
    best = max((0.2, 0.4, 0.8), key=lambda width: score(width, valid).mean())
    values = score(best, test)
    assert result.widths == (best,)
    assert result.estimate.value == pytest.approx(values.mean())
    assert result.estimate.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(61))


@pytest.mark.parametrize("widths", [(), (0.0,), (0.1, -1.0), (math.nan,)])
def test_parzen_invalid_widths_raise(widths):
    with pytest.raises(ValueError, match=r"^widths="):
        parzen_log_likelihood(X[:20], None, X[20:40], widths)


def test_parzen_invalid_arrays_raise():
    rows = X[:20]
    for name, arrays in {
        "valid": (rows, rows[:0], rows),
        "test": (rows, rows, rows[:1]),
        "generated": (rows[:0], rows, rows),
    }.items():
        with pytest.raises(ValueError, match=f"^{name} .*expected at least . samples"):
            parzen_log_likelihood(*arrays)
    with pytest.raises(ValueError, match=r"^test .*with the 64 features"):
        parzen_log_likelihood(rows, None, rows[:, :5])


def test_parzen_cross_validates_width_without_validation_set():
    generated = np.zeros((1, 1))
    test = np.array([[0.1], [1.0], [-0.1], [-1.0], [0.1]])
    result = parzen_log_likelihood(generated, None, test, widths=(0.1, 1.0))
    assert result.widths == (1.0, 0.1)  # chosen on even rows (smaller values) and on odd rows
    expected = [norm(0, width).logpdf(x) for x, width in [(0.1, 1.0)] * 3 + [(1.0, 0.1)] * 2]
    assert result.estimate.value == pytest.approx(np.mean(expected))
    assert result.estimate.standard_error == pytest.approx(np.std(expected, ddof=1) / math.sqrt(5))


@pytest.mark.parametrize("name", ["gmmn", "cgmmn", "gan", "cgmmn-classifier"])
def test_implicit_models_command_line(name, tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--max-epochs", "2", "--hidden", "20", "--out", str(run)]
    assert main(["fit", name, "digits", *options]) == 0
    fit_output = capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    evaluate_output = capsys.readouterr().out
    if name == "cgmmn-classifier":
        assert "test error, %" in fit_output
        assert "test error:" in evaluate_output
        return
    assert "MMD^2 of samples" in fit_output
    assert "recall" in evaluate_output
    html = (run / "report.html").read_text()
    assert "Sample quality" in html
    assert ("Samples of each class" in html) == (name == "cgmmn")
    out = tmp_path / "s.npy"
    assert main(["sample", str(run), "-n", "3", "--out", str(out)]) == 0
    assert np.load(out).shape == (3, 64)
    label = ["sample", str(run), "--label", "3", "--out", str(tmp_path / "s.png")]
    assert main(label) == (0 if name == "cgmmn" else 2)
    assert main(["evaluate", str(run), "--metric", "error"]) == 2
    capsys.readouterr()
    assert main(["predict", str(run), "digits", "--out", str(tmp_path / "p.csv")]) == 2
    assert "which is not a classifier" in capsys.readouterr().err
    assert main(["impute", str(run), "digits", "--out", str(out)]) == 2


def write_table_with_classes(path):
    """Write 80 rows: identifier, two numbers, text class and numeric target; return the path."""
    rng = np.random.default_rng(0)
    lines = ["id,a,b,kind,price"]
    for i, (a, b) in enumerate(rng.normal(size=(80, 2))):
        lines.append(f"r{i},{a},{b},{'up' if a > 0 else 'down'},{int(10 * (a + b))}")
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize("kind", ["digits", "table"])
def test_cgmmn_regressor_on_class_labels_raises(kind, tmp_path, capsys):
    table = write_table_with_classes(tmp_path / "t.csv")
    options = ["--max-epochs", "1", "--hidden", "8", "--no-report", "--out", str(tmp_path / "run")]
    classes = [table, "--target", "kind", "--drop", "id,price"] if kind == "table" else ["digits"]
    assert main(["fit", "cgmmn-regressor", *classes, *options]) == 2
    assert "fit the classifier cgmmn-classifier instead" in capsys.readouterr().err
    numbers = [table, "--target", "price", "--drop", "id,kind"]
    halves = ["digits", "--halves"]
    assert (
        main(["fit", "cgmmn-regressor", *(numbers if kind == "table" else halves), *options]) == 0
    )


def test_text_targets_raise():
    with pytest.raises(ValueError, match=r"^y: could not convert .*'up'.*CGMMNClassifier"):
        CGMMNRegressor(**SMALL).fit(X[:4], ["up", "down", "up", "up"])


def test_predict_accepts_tables_without_dropped_columns(tmp_path):
    table, run, out = (
        write_table_with_classes(tmp_path / "t.csv"),
        tmp_path / "run",
        tmp_path / "p.csv",
    )
    table_options = ["--target", "kind", "--drop", "id,price"]
    options = ["--max-epochs", "1", "--hidden", "8", "--no-report", "--out", str(run)]
    assert main(["fit", "cgmmn-classifier", table, *table_options, *options]) == 0
    rows = [line.split(",") for line in (tmp_path / "t.csv").read_text().split()]
    outputs = []
    for selection in ([0, 1, 2, 3, 4], [0, 2, 1], [1, 2], [1, 2, 4]):
        new = tmp_path / "new.csv"
        new.write_text("\n".join(",".join(row[j] for j in selection) for row in rows))
        assert main(["predict", str(run), str(new), "--out", str(out)]) == 0
        outputs.append(out.read_text())
    assert len(set(outputs)) == 1
    drop = ["--drop", "price"]  # explicitly dropped columns must exist
    assert main(["predict", str(run), str(new), *drop, "--out", str(out)]) == 0
    new.write_text("a,b\n1,2\n")
    assert main(["predict", str(run), str(new), *drop, "--out", str(out)]) == 2


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            CGMMNClassifier(output_kernel_variances=()),
            r"^output_kernel_variances=\(\): expected at least one number",
        ),
        (
            CGMMNClassifier(input_kernel_variances=()),
            r"^input_kernel_variances=\(\): expected at least one number",
        ),
        (CGMMNClassifier(output_kernel_variances=(math.inf,)), "^output_kernel_variances="),
        (CGMMN(kernel_variances=()), r"^kernel_variances=\(\): expected at least one number"),
        (GMMN(batch_size=1), "^batch_size=1: kernel_variances='auto'"),
        (CGMMN(batch_size=1), "^batch_size=1: kernel_variances='auto'"),
        (CGMMNClassifier(batch_size=1), "^batch_size=1: input_kernel_variances='auto'"),
    ],
    ids=repr,
)
def test_invalid_kernel_variances_raise(model, message):
    with pytest.raises(ValueError, match=message):
        model.set_params(hidden=(4,), max_epochs=1).fit(X[:40], Y[:40] % 2)


@pytest.mark.parametrize("form", ["cmmd", "diagonal"])
def test_singular_kernel_matrix_raises(form):
    twice = np.repeat(X[:30], 2, axis=0)
    model = CGMMNClassifier(regularization=1e-14, objective=form, hidden=(4,), max_epochs=1)
    with pytest.raises(ValueError, match=r"singular with regularization=1e-14: increase"):
        model.fit(twice, np.repeat(Y[:30], 2) % 2)
    with pytest.raises(ValueError, match=r"regularization=inf: expected a number"):
        model.set_params(regularization=math.inf).fit(twice, np.repeat(Y[:30], 2) % 2)


def test_report_of_generator_on_table():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    table = datasets.Dataset(name="table", x_train=rows)
    html = report.render_page(fitted_on(rows), table, title="t")
    assert "MMD" in html
    assert "Samples" in html


def fitted_on(rows):
    return GMMN(**QUICK[GMMN]).fit(rows)


# ---- regression


def bimodal_targets(n, seed=0):
    """Targets on two branches: constant mean, standard deviation increasing with x."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 1))
    return x, 50 + 10 * (1 + x[:, 0]) * np.sign(rng.normal(size=n))


def test_cgmmn_regressor_fits_bimodal_targets(tmp_path):
    x, y = bimodal_targets(1000)
    kwargs = {"hidden": (64,), "n_noise": 3, "learning_rate": 1e-2, "random_state": 0}
    model = CGMMNRegressor(**kwargs, max_epochs=60).fit(x, y)
    inputs = np.array([[-0.8], [0.8]])
    mean, std = model.predict(inputs, return_std=True)
    assert np.abs(mean - 50).max() < 8
    assert std[1] > 2 * std[0]
    samples = model.draw(inputs)
    assert samples.shape == (100, 2)
    assert 0.25 < (samples[:, 1] > 50).mean() < 0.75
    np.testing.assert_allclose(samples.mean(0), mean, rtol=1e-5)
    model.save(tmp_path / "r")
    np.testing.assert_array_equal(load(tmp_path / "r").predict(inputs), mean)
    multi_output = CGMMNRegressor(**kwargs, max_epochs=1).fit(x, np.stack([y, -y], 1))
    assert multi_output.predict(x[:4]).shape == (4, 2)
    table = datasets.Dataset(name="t", x_train=x, y_train=y)
    assert "predicted target" in report.render_page(model, table, title="t")


def test_automatic_kernel_variance_is_robust_to_row_order():
    x = np.linspace(-1, 1, 400)[:, None]
    shuffled = np.random.default_rng(0).permutation(400)
    kwargs = {"hidden": (5,), "max_epochs": 1, "batch_size": 50, "random_state": 0}
    variances = [
        CGMMNRegressor(**kwargs).fit(x[rows], x[rows, 0]).input_kernel_variances_[0]
        for rows in (np.arange(400), shuffled)
    ]
    assert 0.6 < variances[0] / variances[1] < 1.6


def test_predict_writes_multiple_targets_as_csv(tmp_path):
    table, run, out = tmp_path / "t.csv", tmp_path / "r", tmp_path / "p.csv"
    np.savetxt(table, X[:50, 2:5], delimiter=",", header="a,b,c", comments="")
    kwargs = {"hidden": (5,), "max_epochs": 1, "random_state": 0}
    model = CGMMNRegressor(**kwargs).fit(X[:50, 2:5], X[:50, 3:5])
    model.save(run)
    assert main(["predict", str(run), str(table), "--out", str(out)]) == 0
    heads = "target0,target1,standard_deviation0,standard_deviation1"
    assert out.read_text().splitlines()[0] == heads


def test_bounded_regressor_draws_lie_in_unit_interval():
    y = np.random.default_rng(0).random((200, 3)) * [1.0, 0.5, 0.0]
    kwargs = {"hidden": (10,), "max_epochs": 20, "bounded": True, "random_state": 0}
    model = CGMMNRegressor(**kwargs).fit(X[:200], y)
    samples = model.draw(X[200:220])
    assert samples.shape == (100, 20, 3)
    assert 0 <= samples.min() <= samples.max() <= 1
    assert samples[..., 2].max() < 0.1
    with pytest.raises(ValueError, match=r"bounded=True: expected targets in \[0, 1\]"):
        CGMMNRegressor(**kwargs).fit(X[:200], 2 * y)


def test_image_halves_command_line_metrics_and_report(tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--bounded", "true", "--hidden", "10", "--n-draws", "7", "--max-epochs", "2"]
    command = ["fit", "cgmmn-regressor", "digits", "--halves", *options, "--out", str(run)]
    assert main(command) == 0
    assert "test root mean squared error" in capsys.readouterr().out
    html = (run / "report.html").read_text()
    for words in ("Completions of images", "draw 5", "--halves", "root mean squared error"):
        assert words in html
    data = datasets.load("digits", halves=True)
    model = load(run)
    squared_errors = np.square(model.predict(data.x_test) - data.y_test)
    (metric,) = read_metrics(run)
    assert metric["value"] == pytest.approx(math.sqrt(squared_errors.mean()))
    task = {
        "name": "",
        "folder": run,
        "estimator": model,
        "dataset": data,
        "rows": EvaluationSettings(),
    }
    (recomputed,) = evaluate_task(EvaluationTask(**task, protocol=Protocol(metric="target_error")))
    assert recomputed["value"] == metric["value"]
    section = regression.sections(make_context(model, data, seed=0))[0]
    assert section.charts[0].labels == ["true", *[f"draw {i}" for i in range(1, 6)], "mean"]


def test_joined_image_halves_equal_original_images():
    images = np.random.default_rng(0).random((6, 3, 4, 5))
    left, right = images[..., :2].reshape(6, -1), images[..., 2:].reshape(6, -1)
    joined = regression._join(left, (3, 4, 2), right, (3, 4, 3))
    np.testing.assert_array_equal(joined, images.reshape(6, -1))


def test_cgmmn_regressor_r2_on_sine():
    x, _ = bimodal_targets(600)
    y = np.sin(3 * x[:, 0])
    kwargs = {"hidden": (64,), "n_noise": 3, "learning_rate": 1e-2, "random_state": 0}
    assert CGMMNRegressor(**kwargs, max_epochs=40).fit(x, y).score(x, y) > 0.8


@pytest.mark.parametrize(("form", "least", "most"), [("unbiased", 0.85, 1.15), ("cmmd", 0.0, 0.85)])
def test_unbiased_cmmd_fits_conditional_std_and_plain_cmmd_does_not(form, least, most):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2000, 1))
    y = x[:, 0] + (0.5 + 0.4 * x[:, 0]) * rng.normal(size=2000)
    kwargs = {
        "hidden": (50,),
        "n_noise": 3,
        "learning_rate": 1e-2,
        "random_state": 0,
        "n_draws": 500,
    }
    model = CGMMNRegressor(objective=form, regularization=1.0, max_epochs=40, **kwargs).fit(x, y)
    inputs = np.array([[-0.6], [0.0], [0.6]])
    _, std = model.predict(inputs, return_std=True)
    ratio = std / (0.5 + 0.4 * inputs[:, 0])
    assert least < ratio.min() <= ratio.max() < most


@pytest.mark.parametrize("y", [None, np.full(1000, np.nan), np.zeros(999), np.zeros((1000, 1, 1))])
def test_invalid_targets_raise(y):
    with pytest.raises(ValueError, match=r"y|inconsistent"):
        CGMMNRegressor(max_epochs=1).fit(bimodal_targets(1000)[0], y)


def test_cgmmn_regressor_command_line(tmp_path, capsys):
    x, y = bimodal_targets(200)
    table = tmp_path / "t.csv"
    rows = ["a,price", *(f"{a},{p}" for a, p in zip(x[:, 0], y, strict=True))]
    table.write_text("\n".join(rows))
    run, out = tmp_path / "run", tmp_path / "p.csv"
    args = ["--target", "price", "--test-fraction", "0.2", "--max-epochs", "2", "--out", str(run)]
    assert main(["fit", "cgmmn-regressor", str(table), *args]) == 0
    assert "test root mean squared error" in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    assert "test root mean squared error" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--metric", "error"]) == 2
    assert main(["predict", str(run), str(table), "--out", str(out)]) == 0
    assert out.read_text().startswith("target,standard_deviation")
