"""Max-margin models and classifiers: objectives, initialisation, saving, second stage."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.datasets import load_digits, make_blobs
from torch import nn

from ancestral import (
    VAE,
    ClassConditionalVAE,
    MaxMarginVAE,
    MemoryVAE,
    NetworkClassifier,
    Pegasos,
    datasets,
    load,
)
from ancestral.cli.main import main
from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.estimators.pegasos import make_linear_svm
from ancestral.evaluation.calibration import fit_temperature
from ancestral.evaluation.metrics import ClassificationErrors, classification_errors, mcnemar
from ancestral.experiments import report
from ancestral.experiments.corruption import (
    Corruption,
    ImputationSettings,
    score_corrupted_classification,
    score_imputation,
)
from ancestral.experiments.evaluation_settings import EvaluationSettings
from ancestral.experiments.scoring import (
    fit_second_stage,
    make_second_stage,
    score_classification,
)
from ancestral.models.run import Run
from ancestral.nn import ActivationCollector, BatchNorm
from ancestral.objectives import gaussian_weight_prior, hinge, hinge_loss, sparsity_penalty
from ancestral.training import Player, engine, train
from ancestral.training.optim import adam, cosine

X, Y = load_digits(return_X_y=True)
X = X / 16
NOISY = X + np.random.default_rng(0).normal(0, 0.1, X.shape)
SMALL = {"n_latents": 4, "hidden": (20, 15), "max_epochs": 5, "random_state": 0}
PICTURES = {"network": "3:8 p2 d.2 | 20 -> 8x4x4 | u2 3:1", "image_shape": (8, 8)}


def fitted(**settings):
    return MaxMarginVAE(**SMALL | settings).fit(X[:400], Y[:400])


# ---- the objective


@pytest.mark.parametrize("settings", [{}, {"elbo_weight": 0.01, "C": 2.0, "margin": 1.0}])
def test_objective_terms_match_formulas(settings):
    """With one batch and a learning rate near 0 the history holds the initial loss."""
    frozen = {"batch_size": 400, "learning_rate": 1e-12, "max_epochs": 1, "binarize": "none"}
    model = fitted(**frozen, **settings, batch_norm=False, precision="float32")
    x, y = torch.as_tensor(X[:400], dtype=torch.float32), torch.as_tensor(Y[:400])
    scores = torch.zeros(400, 10)  # scores of the zero-initialised classifier
    weight, c = settings.get("elbo_weight", 1.0), settings.get("C", 15.0)
    logged = model.history_[0]
    assert logged["hinge"] == pytest.approx(
        c * hinge_loss(scores, y, settings.get("margin", 3.0)).mean().item()
    )
    squares = sum(p.square().sum().item() for p in model.model_.parameters())
    assert logged["prior"] == pytest.approx(squares / (2 * 400), rel=1e-4)
    kl = torch.distributions.kl_divergence(
        model.model_.encode(Batch(x)), torch.distributions.Normal(0.0, 1.0)
    )
    assert logged["kl"] == pytest.approx(weight * kl.sum(-1).mean().item(), rel=1e-3)


def test_sparsity_penalty_matches_bernoulli_kl():
    """Reference: a sigmoid network with the weights of the encoder, once per batch."""
    model = fitted(max_epochs=1, batch_norm=False)
    x = torch.as_tensor(X[:50], dtype=torch.float32)
    run = model.model_.run(Batch(x, torch.as_tensor(Y[:50])))
    first, second = (
        m for m in model.model_.posterior.modules()
        if isinstance(m, torch.nn.Linear) and m.out_features in (20, 15)
    )  # fmt: skip
    below = torch.sigmoid(first(x))
    activations = torch.cat([below.mean(0), torch.sigmoid(second(below)).mean(0)])
    target = torch.distributions.Bernoulli(torch.full_like(activations, 0.1))
    expected = torch.distributions.kl_divergence(target, torch.distributions.Bernoulli(activations))
    (penalty,) = (t(model.model_, run) for t in sparsity_penalty(3.0).terms.values())
    assert penalty.item() == pytest.approx(3 * expected.sum().item() / 50, rel=1e-4)
    assert (
        fitted(sparsity_weight=3.0).history_[-1]["sparsity"]
        < fitted(sparsity_weight=1e-6).history_[-1]["sparsity"] * 3e6
    )  # a larger weight reduces the penalty
    with pytest.raises(ValueError, match=r"sparsity_weight=1\.0 requires network='dense'"):
        MaxMarginVAE(**SMALL, **PICTURES, sparsity_weight=1.0).fit(X[:50], Y[:50])


def test_mean_hinge_over_minibatches_equals_full_batch():
    """The mean over the minibatches of a partition equals the full-batch objective."""
    model = fitted(batch_norm=False).model_
    objective = hinge(2.0, 3.0, lambda run: run.batch.x[:, :35])
    rows, y = torch.as_tensor(X[:400], dtype=torch.float32), torch.as_tensor(Y[:400])
    (term,) = objective.terms.values()

    def value(part):
        return term(model, Run(Batch(rows[part], y[part]))).item()

    parts = np.array_split(np.random.default_rng(0).permutation(400), 8)
    assert np.mean([value(p) for p in parts]) == pytest.approx(value(np.arange(400)), rel=1e-5)


def test_scores_on_mean_features_equal_expected_scores():
    model = fitted(classifier_features="mean")
    batch = Batch(torch.as_tensor(X[:3], dtype=torch.float32))
    with engine.seeded_rng(0), torch.no_grad():
        z = model.model_.encode(batch).sample((40_000,))
        averaged = model.model_.classifier(z).mean(0)
        torch.testing.assert_close(model._scores(batch), averaged, atol=0.02, rtol=0.02)
    np.testing.assert_allclose(model.features_of(X[:3]), model.transform(X[:3]), atol=1e-6)


def test_two_class_hinge_minimum_matches_svm_solution():
    """The two rows of weights are opposite: 1/4 |w|^2 + c * mean hinge of the margin 2 w'x."""
    x, y = make_blobs(60, 2, centers=[[-1.5, 0], [1.5, 0.5]], cluster_std=1.2, random_state=0)

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Linear(2, 2, bias=False)

        def run(self, batch):
            return Run(batch)

    def smooth(w):
        hinges = np.maximum(0, 1 - (2 * y - 1) * (x @ w))
        return 0.25 * 0.1 * w @ w + hinges.mean()

    starts = np.random.default_rng(0).normal(size=(5, 2))
    best = min((minimize(smooth, s, method="Nelder-Mead", tol=1e-10) for s in starts),
               key=lambda found: found.fun)  # fmt: skip
    with engine.seeded_rng(0):
        model = Linear()
    objective = hinge(1.0, 1.0, lambda run: run.batch.x) + gaussian_weight_prior(0.1)
    player = Player(model, objective, adam(cosine(0.05)))
    train(model, player, DeviceData(x, y), max_epochs=1500, batch_size=60)
    w = model.classifier.weight.detach().double().numpy()
    np.testing.assert_allclose(w[0], -w[1], atol=2e-3)
    assert smooth(w[1] - w[0]) == pytest.approx(best.fun, abs=1e-4)
    np.testing.assert_allclose(w[1] - w[0], best.x, atol=0.02)


def test_labels_are_unused_without_hinge():
    two_stage = MaxMarginVAE(**SMALL, C=0.0, classifier="pegasos", regularization=1e-2)
    plain = clone(two_stage).fit(X[:400], Y[:400])
    shuffled = clone(two_stage).fit(X[:400], Y[:400][::-1])
    assert plain.history_[-1]["loss"] == shuffled.history_[-1]["loss"]
    assert "hinge" not in plain.history_[-1]
    assert plain.features_of(X[:5]).shape == (5, 35)


# ---- the classifier


def test_hinge_averages_over_labelled_samples():
    y = np.where(np.arange(400) < 200, Y[:400], -1)
    frozen = {"batch_size": 400, "max_epochs": 1, "learning_rate": 1e-12, "batch_norm": False}
    model = MaxMarginVAE(**SMALL | frozen).fit(X[:400], y)
    assert model.history_[0]["hinge"] == pytest.approx(15 * 3)  # mean over the 200 labelled samples
    assert model.classes_.tolist() == list(range(10))


@pytest.mark.parametrize(
    "settings", [{}, {"classifier_features": "mean"}, {"n_latents": (4, 3)}, PICTURES]
)
def test_max_margin_vae_on_digits_accuracy_and_likelihood(settings):
    kwargs = {"max_epochs": 12, "learning_rate": 1e-2, "hidden": (40,)}
    model = MaxMarginVAE(**SMALL | kwargs | settings).fit(X[:1500], Y[:1500])
    assert model.score(X[1500:], Y[1500:]) > 0.6
    p = model.predict_proba(X[1500:])
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p.argmax(1) == model.predict(X[1500:])).all()
    nll = -np.log(p[np.arange(len(p)), Y[1500:]]).mean()
    assert nll < np.log(10) / 2
    assert model.log_likelihood(X[1500:1540], 50).mean > -45.0  # uniform bits: -64 log 2 = -44.4
    assert model.sample(2).shape == (2, 64)


@pytest.mark.parametrize("settings", [{"hidden": (200, 300)}, PICTURES])
def test_normal_and_glorot_initialisation(settings):
    frozen = {"max_epochs": 1, "learning_rate": 1e-12, "batch_norm": False} | settings
    normal = fitted(**frozen, init="normal", classifier_init_std=0.01).model_
    plain = fitted(**frozen).model_
    zero = pytest.approx(0, abs=1e-9)
    assert [p.abs().max().item() for p in plain.classifier.parameters()] == [zero, zero]
    assert normal.classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert normal.classifier.bias.std().item() == pytest.approx(0.01, rel=0.6)
    n_checked = 0
    for module, default in zip(normal.modules(), plain.modules(), strict=True):
        if not isinstance(module, nn.Linear) or module is normal.classifier:
            continue
        n_out, n_in = module.weight.shape
        if default.weight.std().item() == zero:  # output layer of log-variances
            assert [p.abs().max().item() for p in module.parameters()] == [zero, zero]
        elif module.weight.numel() > 2000:
            n_checked += 1
            glorot = (2 / (n_in + n_out)) ** 0.5
            assert module.weight.std().item() == pytest.approx(n_in**-0.5, rel=0.1)
            assert default.weight.std().item() == pytest.approx(glorot, rel=0.1)
            output = n_out == 64  # biases set from the data
            assert output or module.bias.std().item() == pytest.approx(0.01, rel=0.4)
    assert n_checked == (4 if "hidden" in settings else 1)


@pytest.mark.parametrize("settings", [{}, PICTURES])
def test_clip_means_bounds_bernoulli_means(tmp_path, settings):
    kwargs = SMALL | settings | {"binarize": "none", "max_epochs": 2}
    model = MaxMarginVAE(**kwargs, clip_means=0.3).fit(X[:200], Y[:200])
    model.save(tmp_path / "m")
    means = load(tmp_path / "m").sample(50, mean=True)
    assert means.min() == pytest.approx(0.3)
    assert means.max() == pytest.approx(0.7)
    assert MaxMarginVAE(**kwargs).fit(X[:200], Y[:200]).sample(50, mean=True).min() < 0.3
    with pytest.raises(ValueError, match=r"clip_means=0\.5: expected a number of at least 0 and"):
        fitted(clip_means=0.5)


def test_clip_means_on_mixed_columns():
    kinds = ("gaussian", *["bernoulli"] * 63)
    table = np.column_stack([NOISY[:200, :1], X[:200, 1:] > 0.5])
    model = MaxMarginVAE(**SMALL, likelihood=kinds, clip_means=0.3).fit(table, Y[:200])
    bits = model.model_.decode(torch.zeros(1, 4)).parts[0]
    assert bits.mean.shape == (1, 63)
    assert bits.mean.min().item() == pytest.approx(0.3)


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([3.0, 7.0])])
def test_class_labels_of_any_dtype_after_save_and_load(tmp_path, labels):
    x, y = X[Y < 2], labels[Y[Y < 2]]
    model = MaxMarginVAE(**SMALL | {"max_epochs": 15}).fit(x, y)
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert loaded.classes_.tolist() == labels.tolist()
    assert model.score(x, y) > 0.95
    scores = model.decision_function(x)
    assert scores.shape == (len(x),)
    np.testing.assert_array_equal(labels[(scores > 0).astype(int)], model.predict(x))
    np.testing.assert_allclose(loaded.predict_proba(x), model.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("kind", [object, str])
def test_minus_one_is_unlabelled_among_text_labels(kind):
    y = np.array(["few", "many"], dtype=object)[(Y[:400] > 4).astype(int)]
    y[::2] = -1
    model = MaxMarginVAE(**SMALL | {"max_epochs": 2}).fit(X[:400], y.astype(kind))
    assert model.classes_.tolist() == ["few", "many"]


def test_n_rows_excludes_validation_samples():
    model = MaxMarginVAE(**SMALL | {"max_epochs": 1}, validation_fraction=0.25)
    assert model.fit(X[:400], Y[:400]).n_rows_ == 300


def test_temperature_recovers_scale_of_scores():
    model = MaxMarginVAE(**SMALL, validation_fraction=0.3).fit(X[:400], Y[:400])
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 3))
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert fit_temperature(7 * scores, y) == pytest.approx(7, rel=0.1)
    assert model.temperature_ > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"C": -1.0}, "C=-1.0"),
        ({"margin": 0.0}, "margin=0.0"),
        ({"classifier_features": "all"}, "classifier_features='all'"),
        ({"network": "mnist"}, "set image_shape"),
        ({"network": "resnet", "image_shape": (8, 8)}, "expected one of dense, mnist, svhn"),
        ({"network": "mnist", "image_shape": (8, 8)}, "too small"),
        ({"network": "20 -> 8x4x4 | 3:1", "image_shape": (8, 8)}, "has outputs of 1 x 4 x 4"),
        (PICTURES | {"n_latents": (3, 2)}, "single stochastic layer"),
        ({"hidden": ()}, r"classifier_features='hidden' requires .* hidden=\(\)"),
        ({"n_latents": ()}, r"n_latents=\(\): expected one"),
    ],
)
def test_invalid_parameters_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        fitted(**settings)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (Y[:399], "inconsistent numbers of samples"),
        (np.zeros(400, dtype=int), "found 1 class in 400 labelled rows"),
        (np.full(400, -1), "found 0 class in 0 labelled rows"),
        (np.linspace(0, 1, 400), "Unknown label type"),
        (np.where(Y[:400] > 4, "many", None), "text beside None"),
    ],
)
def test_invalid_labels_raise(y, message):
    with pytest.raises(ValueError, match=message):
        MaxMarginVAE(**SMALL).fit(X[:400], y)


def test_convolutional_network_on_mixed_columns_raises():
    kinds = ("gaussian", *["bernoulli"] * 63)
    table = np.column_stack([NOISY[:, :1], X[:, 1:] > 0.5])
    with pytest.raises(ValueError, match="all bits or all real values"):
        MaxMarginVAE(**SMALL, **PICTURES, likelihood=kinds).fit(table, Y)


@pytest.mark.parametrize("cls", [VAE, MaxMarginVAE])
def test_convolutional_gaussian_decoder_fits_variance(cls):
    settings = SMALL | PICTURES | {"likelihood": "gaussian", "max_epochs": 8}
    model = cls(**settings).fit(NOISY[:400], Y[:400])
    assert model.model_.decode(torch.zeros(2, 4)).stddev.std() > 0
    near, far = (model.log_likelihood(x, 20).mean for x in (NOISY[400:420], NOISY[400:420] + 3))
    assert near > far


def test_memory_vae_with_convolutional_network_raises():
    with pytest.raises(ValueError, match="network='dense'"):
        MemoryVAE(**SMALL, **PICTURES).fit(X)


def test_report_shows_classification_errors():
    data = datasets.load("digits")
    data = replace(data, x_test=data.x_test[:80], y_test=data.y_test[:80])
    settings = SMALL | {"max_epochs": 10, "learning_rate": 1e-2}
    model = MaxMarginVAE(**settings).fit(data.x_train, data.y_train)
    page = report.render_page(model, data, title="Digits")
    wrong = (model.predict(data.x_test) != data.y_test).sum()
    assert "Confusion matrix" in page
    assert f"{wrong} of {len(data.y_test)} test rows are misclassified" in page
    assert f"{100 * wrong / len(data.y_test):.2f}%" in page
    assert "Errors by decreasing probability" in page
    plain = VAE(**SMALL | {"max_epochs": 1}).fit(data.x_train)
    assert "Confusion matrix" not in report.render_page(plain, data, title="Digits")


def test_classification_errors_match_manual_values():
    text = classification_errors(np.array(["cat", "dog", "cat"]), np.array(["cat", "-1", "dog"]))
    np.testing.assert_array_equal(text.misclassified, [False, True])
    numeric = classification_errors(np.array([1, 2, 3, 3, 0]), np.array([1, 2, 2, 3, -1]))
    assert numeric.percent == 25
    assert numeric.standard_error == pytest.approx(100 * np.sqrt(0.25 * 0.75 / 4))
    with pytest.raises(ValueError, match="all samples are unlabelled"):
        classification_errors(np.zeros(2), np.full(2, -1))
    with pytest.raises(ValueError, match="shape"):
        classification_errors(np.zeros(2), np.zeros(3))


def test_mcnemar_matches_binomial_formula():
    rng = np.random.default_rng(0)
    first, second = (ClassificationErrors(rng.random(500) < share) for share in (0.1, 0.2))
    comparison = mcnemar(first, second)
    first_errors, second_errors = first.misclassified.astype(int), second.misclassified.astype(int)
    assert comparison.percent == pytest.approx(100 * (first_errors - second_errors).mean())
    assert comparison.standard_error == pytest.approx(
        100 * (first_errors - second_errors).std() / np.sqrt(500)
    )
    n, k = (
        comparison.n_first_only + comparison.n_second_only,
        min(comparison.n_first_only, comparison.n_second_only),
    )
    assert comparison.p_value == pytest.approx(
        2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    )
    assert mcnemar(first, first).p_value == 1
    with pytest.raises(ValueError, match="500 and 499 samples"):
        mcnemar(first, ClassificationErrors(second.misclassified[1:]))


def test_compare_classifiers_command_line(tmp_path, capsys):
    for name in "ab":
        kwargs = {"batch_size": 50} if name == "b" else {}
        fitted(**kwargs).save(tmp_path / name)
    out = tmp_path / "ab.json"
    arguments = [str(tmp_path / "a"), str(tmp_path / "b"), "digits", "--metric", "error"]
    assert main(["compare", *arguments, "--out", str(out)]) == 0
    assert "McNemar p = " in capsys.readouterr().out
    (difference,) = json.loads(out.read_text())["differences"]
    digits = datasets.load("digits")
    a, b = (
        classification_errors(load(tmp_path / n).predict(digits.x_test), digits.y_test)
        for n in "ab"
    )
    assert difference["difference"] == pytest.approx(a.percent - b.percent)
    VAE(n_latents=2, hidden=(5,), max_epochs=1).fit(X).save(tmp_path / "c")
    assert main(["evaluate", str(tmp_path / "c"), "digits", "--metric", "error"]) == 2
    assert "which is not a classifier" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"hidden": (30,)}, {"network": PICTURES["network"]}])
def test_network_classifier_accuracy_report_and_command_errors(tmp_path, capsys, settings):
    kwargs = settings | {"image_shape": (8, 8), "max_epochs": 10, "learning_rate": 5e-3}
    model = NetworkClassifier(**kwargs, random_state=0).fit(X[:1200], Y[:1200])
    assert model.score(X[1200:], Y[1200:]) > 0.85
    assert set(model.history_[0]) >= {"hinge", "prior"}
    model.save(tmp_path / "n")
    loaded = load(tmp_path / "n")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    scores = loaded.features_of(X) @ loaded._linear.weight.T.numpy(force=True)
    scores += loaded._linear.bias.numpy(force=True)
    np.testing.assert_allclose(loaded.decision_function(X), scores, rtol=1e-5, atol=1e-5)
    html = report.render_page(loaded, datasets.load("digits"), title="t")
    assert "Confusion matrix" in html
    assert "log-likelihood" not in html
    imputation = ["evaluate-imputation", "digits", "--out", str(tmp_path / "x.png")]
    for arguments in (["sample", "--out", "x.npy"], ["active-units", "digits"], imputation):
        assert main([arguments[0], str(tmp_path / "n"), *arguments[1:]]) == 2
        expected = (
            "does not generate samples" if arguments[0] == "sample" else "has no latent variables"
        )
        error = capsys.readouterr().err
        assert "contains a NetworkClassifier, which" in error
        assert expected in error


def test_network_classifier_command_line(tmp_path, capsys):
    run = tmp_path / "run"
    options = ["--network", "3:4 p2 | 10", "--max-epochs", "1", "--out", str(run)]
    assert main(["fit", "network-classifier", "digits", *options]) == 0
    assert "test error, %:" in capsys.readouterr().out
    assert (run / "report.html").is_file()
    assert main(["evaluate", str(run)]) == 0
    assert "test error:" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--metric", "log_likelihood"]) == 2


def test_classification_of_corrupted_and_imputed_samples(tmp_path, capsys):
    """Imputation by the model gives fewer errors than noise."""
    digits = datasets.load("digits")
    kwargs = {"max_epochs": 12, "learning_rate": 1e-2, "hidden": (64,), "image_shape": (8, 8)}
    model = MaxMarginVAE(**SMALL | kwargs | {"n_latents": 8}).fit(digits.x_train, digits.y_train)
    plain = NetworkClassifier(**kwargs, random_state=0).fit(digits.x_train, digits.y_train)
    square, settings, rows = (
        Corruption("square", 4),
        ImputationSettings(n_iter=20),
        EvaluationSettings(split="test"),
    )
    imputation = score_imputation(model, digits, square, settings, rows)
    (noisy, _), (refined, wrong) = score_corrupted_classification(
        model, digits, square, settings, rows, imputation
    )
    assert refined["value"] < noisy["value"]
    assert wrong.percent == 100 * (model.predict(imputation.imputed) != digits.y_test).mean()
    ((baseline, _),) = score_corrupted_classification(plain, digits, square, settings, rows)
    assert baseline["metric"] == "error on noise-filled rows, square 4, %"
    assert baseline["value"] > 100 * (1 - plain.score(digits.x_test, digits.y_test))
    with pytest.raises(ValueError, match="error rates require a classifier and class labels"):
        score_corrupted_classification(VAE(), digits, square, settings, rows)
    pegasos = Pegasos(regularization=1e-2, random_state=0)
    stage = {"imputation": imputation, "linear_classifier": pegasos}
    *_, (two_stage, second_errors) = score_corrupted_classification(
        model, digits, square, settings, rows, **stage
    )
    assert two_stage["metric"] == "error on imputed rows, square 4, by Pegasos, %"
    pegasos.fit(model.features_of(digits.x_train), digits.y_train)
    predicted = pegasos.predict(model.features_of(imputation.imputed))
    np.testing.assert_array_equal(second_errors.misclassified, predicted != digits.y_test)
    assert two_stage["value"] < noisy["value"]
    model.save(tmp_path / "m")
    plain.save(tmp_path / "p")
    command = ["--corruption", "square:4", "--n-iter", "3", "--linear-classifier", "liblinear"]
    assert main(["evaluate-imputation", str(tmp_path / "m"), "digits", *command]) == 0
    output = capsys.readouterr().out
    for words in (
        "mean squared error of imputations",
        "error on noise-filled rows",
        "error on imputed rows, square 4, by L",
    ):
        assert words in output
    assert main(["evaluate-imputation", str(tmp_path / "p"), "digits", *command[:4]]) == 0
    assert "refined" not in capsys.readouterr().out


def test_dropout_and_noise_are_applied_in_training_only():
    kwargs = {"hidden": (30, 20), "max_epochs": 3, "learning_rate": 5e-3, "random_state": 0}
    kinds = {"dropout": (0.2, 0.5), "noise_std": (0.3, 0.3, 0.3)}
    plain = NetworkClassifier(**kwargs).fit(X, Y)
    for name, value in kinds.items():
        model = NetworkClassifier(**kwargs, **{name: value}).fit(X, Y)
        assert model.history_[-1]["loss"] > plain.history_[-1]["loss"]
        np.testing.assert_array_equal(
            model.decision_function(X[:9]), model.decision_function(X[:9])
        )
        linear = next(m for m in model.model_.modules() if isinstance(m, torch.nn.Linear))
        norm = next(m for m in model.model_.modules() if isinstance(m, BatchNorm))
        clean = linear(torch.from_numpy(X).float()).mean(0)
        torch.testing.assert_close(norm.mean, clean, rtol=1e-3, atol=2e-2)
        with pytest.raises(ValueError, match=f"{name}=.*at most 3 numbers"):
            NetworkClassifier(**kwargs, **{name: (0.1,) * 4}).fit(X, Y)
    text = {"network": "3:4 p2 | 10", "image_shape": (8, 8)}
    with pytest.raises(ValueError, match="expected one number, of the input"):
        NetworkClassifier(**kwargs, **text, noise_std=(0.1, 0.1)).fit(X, Y)


def test_noise_initialisation_of_real_values_uses_other_samples():
    rows = np.random.default_rng(0).normal(100, 1, (200, 9))
    table = datasets.Dataset(name="t", x_train=rows, y_train=np.arange(200) % 2)
    model = NetworkClassifier(hidden=(5,), max_epochs=1, random_state=0).fit(rows, table.y_train)
    inputs = []
    model.predict = lambda x: (inputs.append(x), table.y_train)[1]
    ((metric, _),) = score_corrupted_classification(
        model,
        table,
        Corruption("random", 0.5),
        ImputationSettings(),
        EvaluationSettings(split="train"),
    )
    assert metric["n_rows"] == 200
    (noisy,) = inputs
    assert 90 < noisy.min() < noisy.max() < 110
    assert 0.4 < (noisy != rows).mean() < 0.6
    settings = ImputationSettings(init="zero")
    score_corrupted_classification(
        model, table, Corruption("random", 0.5), settings, EvaluationSettings(split="train")
    )
    assert set(inputs[1][inputs[1] != rows]) == {0.0}


def noise_initialisation(model, rows, scoring=None, **options):
    """Inputs of the classifier when every entry of the rows is replaced by noise."""
    inputs = []
    y = np.arange(len(rows)) % 2
    model.predict = lambda x: (inputs.append(x), np.zeros(len(x)))[1]
    data = datasets.Dataset("t", rows, y_train=y)
    score_corrupted_classification(
        model,
        data,
        Corruption("random", 1),
        ImputationSettings(),
        scoring or EvaluationSettings(split="train"),
        **options,
    )
    return inputs[0]


def test_noise_initialisation_excludes_the_sample_itself():
    rows = np.random.default_rng(0).normal(size=(4, 9))
    model = NetworkClassifier(hidden=(5,), max_epochs=1, random_state=0).fit(rows, [0, 1, 0, 1])
    noisy = noise_initialisation(model, rows)
    assert (noisy != rows).all()
    assert all(np.isin(noisy[:, j], rows[:, j]).all() for j in range(9))
    bits = np.array([[0.0] * 9, [1.0] * 9])  # for the model these are real values
    np.testing.assert_array_equal(noise_initialisation(model, bits), 1 - bits)
    replaced = noise_initialisation(model, rows, EvaluationSettings(split="train", n_rows=1))
    assert all(replaced[0, j] in rows[1:, j] for j in range(9))
    with pytest.raises(ValueError, match=r"^init='noise': a single row"):
        noise_initialisation(model, rows[:1])
    single = noise_initialisation(model, rows[:1], training=datasets.Dataset("u", rows + 10))
    assert all(single[0, j] in rows[:, j] + 10 for j in range(9))


def test_noise_initialisation_of_bits_is_uniform():
    model = NetworkClassifier(hidden=(5,), max_epochs=1, random_state=0).fit(X[:50], Y[:50])
    expected = np.random.default_rng([0, 1]).random((3, 64))
    np.testing.assert_array_equal(noise_initialisation(model, X[:3]), expected)
    np.testing.assert_array_equal(noise_initialisation(model, X[:1]), expected[:1])


@pytest.fixture(scope="module")
def iris_run(tmp_path_factory):
    """Folder with a fitted iris classifier and its tables, and the class indices."""
    from sklearn.datasets import load_iris

    folder = tmp_path_factory.mktemp("iris_folder")
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])

    def table(path, kinds, selection=slice(None)):
        rows = zip(x[selection], np.asarray(kinds)[y][selection], strict=True)
        lines = [",".join([*map(str, row), str(kind)]) for row, kind in rows]
        (folder / path).write_text("\n".join(["a,b,c,d,kind", *lines]) + "\n")

    table("all.csv", names)
    table("two.csv", names, y > 0)
    table("renamed.csv", np.array(["rose", "versicolor", "virginica"]))
    table("numbers.csv", [5, 6, 7])
    options = ["--target", "kind", "--max-epochs", "30", "--hidden", "16", "--n-latents", "2"]
    command = [str(folder / "all.csv"), *options, "--out", str(folder / "run"), "--no-report"]
    assert main(["fit", "max-margin-vae", *command]) == 0
    return folder, y


@pytest.fixture
def iris_folder(iris_run, monkeypatch):
    """``iris_run`` with its folder as the working directory."""
    monkeypatch.chdir(iris_run[0])
    return iris_run


def evaluate_error(table):
    return main(["evaluate", "run", table, "--target", "kind", "--metric", "error"])


def test_evaluate_matches_classes_of_other_table_by_name(iris_folder):
    folder, y = iris_folder
    model = load(folder / "run" / "model")
    x = np.loadtxt(folder / "two.csv", delimiter=",", skiprows=1, usecols=range(4))
    expected = 100 * (model.predict(x) != y[y > 0]).mean()
    assert evaluate_error("two.csv") == 0
    metric = json.loads((folder / "run" / "metrics.json").read_text())[-1]
    assert metric["value"] == pytest.approx(expected)
    assert metric["n_rows"] == 100


def test_evaluate_with_second_stage_classifier(iris_folder, capsys):
    command = ["evaluate", "run", "all.csv", "--target", "kind", "--metric", "error"]
    assert main([*command, "--linear-classifier", "liblinear"]) == 0
    assert "train error by LinearSVC: " in capsys.readouterr().out


def test_second_stage_is_fitted_to_training_data_of_the_run(iris_folder):
    folder, y = iris_folder
    model = load(folder / "run" / "model")
    table = datasets.load(folder / "all.csv", target="kind")
    x, subset = table.x_train, table.x_train[y > 0]
    stage = make_linear_svm("liblinear", len(x)).fit(model.features_of(x), y)
    expected = 100 * (stage.predict(model.features_of(subset)) != y[y > 0]).mean()
    refitted = make_linear_svm("liblinear", len(subset)).fit(model.features_of(subset), y[y > 0])
    assert expected != 100 * (refitted.predict(model.features_of(subset)) != y[y > 0]).mean()
    arguments = ["two.csv", "--target", "kind", "--linear-classifier", "liblinear"]
    assert main(["evaluate", "run", *arguments, "--metric", "error"]) == 0
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics[-1]["metric"] == "error by LinearSVC, %"
    assert metrics[-1]["value"] == pytest.approx(expected)
    data = datasets.Dataset("two", subset, y_train=y[y > 0])
    settings = (
        data,
        Corruption("random", 0.1),
        ImputationSettings(n_iter=1),
        EvaluationSettings(split="train"),
    )
    imputation = score_imputation(model, *settings)
    kwargs = {
        "linear_classifier": make_linear_svm("liblinear", len(x)),
        "training": replace(table, y_train=y),
    }
    *_, (metric, stage_errors) = score_corrupted_classification(
        model, *settings, imputation, **kwargs
    )
    predicted = stage.predict(model.features_of(imputation.imputed))
    np.testing.assert_array_equal(stage_errors.misclassified, predicted != data.y_train)
    assert (
        main(
            [
                "evaluate-imputation",
                "run",
                *arguments,
                "--corruption",
                "random:0.1",
                "--n-iter",
                "1",
                "--method",
                "pseudo-gibbs",
            ]
        )
        == 0
    )
    *_, stored = json.loads((folder / "run" / "metrics.json").read_text())
    assert stored["metric"] == metric["metric"]
    assert stored["value"] == metric["value"]


def test_second_stage_regularization_name_and_errors():
    y = np.where(np.arange(400) < 100, Y[:400], -1)
    data = datasets.Dataset("t", X[:400], y_train=y)
    model = fitted(max_epochs=1)
    cost = make_second_stage("liblinear", model, data).C
    assert cost == pytest.approx(1 / (1e-4 * 100))
    rows, stage = (
        EvaluationSettings(split="train"),
        Pegasos(regularization=1e-1, rule="adagrad", random_state=0),
    )
    assert score_classification(model, data, rows, linear_classifier=stage)[0]["metric"] == (
        "error by AdaGrad, %"
    )
    with pytest.raises(
        ValueError, match=r"^linear_classifier='pegasos': the training rows of t have"
    ):
        make_second_stage("pegasos", model, replace(data, y_train=np.full(400, -1)))
    other = ClassConditionalVAE()
    with pytest.raises(
        ValueError, match=r"^linear_classifier='pegasos': ClassConditionalVAE has no fe"
    ):
        make_second_stage("pegasos", other, data)
    with pytest.raises(
        ValueError, match=r"^linear_classifier='AdaGrad': ClassConditionalVAE has no fe"
    ):
        fit_second_stage(other, data, stage)


def test_unknown_classes_in_test_split_count_as_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(40.0).reshape(20, 2), np.repeat([0, 1, 2], [7, 7, 6])
    np.savez("data.npz", x_train=x[:14], y_train=y[:14], x_test=x, y_test=y)
    args = ["--max-epochs", "2", "--hidden", "4", "--n-latents", "1", "--out", "run", "--no-report"]
    assert main(["fit", "max-margin-vae", "data.npz", *args]) == 0
    assert main(["evaluate", "run", "--metric", "error"]) == 0
    assert main(["evaluate", "run", "data.npz", "--metric", "error"]) == 2
    assert "unknown classes 2; the model was fitted on 0, 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "unknown"), [("renamed.csv", "rose"), ("numbers.csv", "5, 6, 7")]
)
def test_unknown_classes_of_other_table_raise(iris_folder, capsys, table, unknown):
    assert evaluate_error(table) == 2
    expected = f"unknown classes {unknown}; the model was fitted on setosa, versicolor, virginica"
    assert expected in capsys.readouterr().err


def test_predictions_in_npy_are_class_names(iris_folder):
    assert main(["predict", "run", "all.csv", "--target", "kind", "--out", "told.npy"]) == 0
    assert set(np.load(iris_folder[0] / "told.npy")) <= {"setosa", "versicolor", "virginica"}


def test_zero_hinge_weight_with_joint_classifier_raises():
    x, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match="C=0 leaves the classifier"):
        MaxMarginVAE(C=0).fit(x / 16, y)


def test_continuous_labels_raise():
    x, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match=r"^y: Unknown label type: continuous\. MaxMarginVAE is a"):
        MaxMarginVAE().fit(x / 16, y + 0.5)


def test_features_are_float32_under_autocast():
    """See the comment in ``MaxMarginVAE._features_from``."""
    mmva = fitted(batch_norm=True, max_epochs=1)
    activations = {}
    model = mmva.model_.train()
    model.posterior.register_forward_hook(
        lambda *_: activations.update(ActivationCollector(model.posterior).collect())
    )
    batch = Batch(torch.tensor(X[:50], dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        q = model.encode(batch)
        assert {u.dtype for u in activations.values()} == {torch.bfloat16}
        features = mmva._features_from(q, activations)
    assert features.dtype == torch.float32
    assert features.shape == (50, 35)


def test_temperature_of_separable_rows_has_the_optimum_of_smoothed_labels():
    # softmax of (m, 0) / T is (n + 1) / (n + 2) where m / T = log(n + 1)
    scores = np.array([[2.0, 0.0], [0.0, 2.0]] * 20)
    assert fit_temperature(scores, np.array([0, 1] * 20)) == pytest.approx(2 / np.log(21), rel=1e-3)
