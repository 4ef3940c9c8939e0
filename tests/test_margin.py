"""Max-margin models: the objective by hand, the classifier against a solver, its manners."""

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
    engine,
    load,
    report,
)
from ancestral.classification import classify as scoring_classify
from ancestral.classification import learned_afresh, second_stage
from ancestral.cli import main
from ancestral.damage import Damage, Repair, classify, repair
from ancestral.data import Batch, Data
from ancestral.errors import Errors, errors, mcnemar
from ancestral.labels import temperature
from ancestral.methods.pegasos import svm
from ancestral.models import Run
from ancestral.networks import BatchNorm, Taps
from ancestral.objectives import gaussian_prior, hinge, hinge_loss, sparse_units
from ancestral.optim import adam, cosine
from ancestral.protocol import Scoring
from ancestral.train import Player, train

X, Y = load_digits(return_X_y=True)
X = X / 16
NOISY = X + np.random.default_rng(0).normal(0, 0.1, X.shape)
SMALL = {"n_latents": 4, "hidden": (20, 15), "max_epochs": 5, "random_state": 0}
PICTURES = {"network": "3:8 p2 d.2 | 20 -> 8x4x4 | u2 3:1", "image_shape": (8, 8)}


def fitted(**settings):
    return MaxMarginVAE(**SMALL | settings).fit(X[:400], Y[:400])


# ---- the objective


@pytest.mark.parametrize("settings", [{}, {"bound_weight": 0.01, "c": 2.0, "margin": 1.0}])
def test_the_terms_of_the_loss_by_hand(settings):
    """One batch of all rows, a learning rate of nothing: what is logged is the start's loss."""
    still = {"batch_size": 400, "learning_rate": 1e-12, "max_epochs": 1, "binarize": "none"}
    model = fitted(**still, **settings, batch_norm=False, precision="float32")
    x, y = torch.as_tensor(X[:400], dtype=torch.float32), torch.as_tensor(Y[:400])
    scores = torch.zeros(400, 10)  # the classifier starts at zero
    weight, c = settings.get("bound_weight", 1.0), settings.get("c", 15.0)
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


def test_sparse_units_by_hand():
    """What a network of sigmoids with the encoder's weights says, once for a batch."""
    model = fitted(max_epochs=1, batch_norm=False)
    x = torch.as_tensor(X[:50], dtype=torch.float32)
    run = model.model_.run(Batch(x, torch.as_tensor(Y[:50])))
    first, second = (
        m for m in model.model_.posterior.modules()
        if isinstance(m, torch.nn.Linear) and m.out_features in (20, 15)
    )  # fmt: skip
    below = torch.sigmoid(first(x))
    shares = torch.cat([below.mean(0), torch.sigmoid(second(below)).mean(0)])
    target = torch.distributions.Bernoulli(torch.full_like(shares, 0.1))
    expected = torch.distributions.kl_divergence(target, torch.distributions.Bernoulli(shares))
    (found,) = (t(model.model_, run) for t in sparse_units(3.0).terms.values())
    assert found.item() == pytest.approx(3 * expected.sum().item() / 50, rel=1e-4)
    assert (
        fitted(sparsity=3.0).history_[-1]["sparsity"]
        < fitted(sparsity=1e-6).history_[-1]["sparsity"] * 3e6
    )  # it falls when it counts
    with pytest.raises(ValueError, match=r"sparsity=1\.0 is for dense"):
        MaxMarginVAE(**SMALL, **PICTURES, sparsity=1.0).fit(X[:50], Y[:50])


def test_c6_minibatches_are_unbiased():
    """The mean over all minibatches of a split is the whole objective."""
    model = fitted(batch_norm=False).model_
    objective = hinge(2.0, 3.0, lambda run: run.batch.x[:, :35])
    rows, y = torch.as_tensor(X[:400], dtype=torch.float32), torch.as_tensor(Y[:400])
    (whole,) = objective.terms.values()

    def value(part):
        return whole(model, Run(Batch(rows[part], y[part]))).item()

    parts = np.array_split(np.random.default_rng(0).permutation(400), 8)
    assert np.mean([value(p) for p in parts]) == pytest.approx(value(np.arange(400)), rel=1e-5)


def test_c7_the_averaging_classifier_is_linear_in_the_mean():
    model = fitted(features="mean")
    batch = Batch(torch.as_tensor(X[:3], dtype=torch.float32))
    with engine.seeded(0), torch.no_grad():
        z = model.model_.encode(batch).sample((40_000,))
        averaged = model.model_.classifier(z).mean(0)
        torch.testing.assert_close(model._scores(batch), averaged, atol=0.02, rtol=0.02)
    np.testing.assert_allclose(model.features_of(X[:3]), model.transform(X[:3]), atol=1e-6)


def test_c8_two_classes_against_a_solver_of_the_svm():
    """1/4 |w|^2 + c * mean hinge of margin 2 w'x: the two rows of weights are opposite."""
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
    with engine.seeded(0):
        model = Linear()
    objective = hinge(1.0, 1.0, lambda run: run.batch.x) + gaussian_prior(0.1)
    player = Player(model, objective, adam(cosine(0.05)))
    train(model, player, Data(x, y), max_epochs=1500, batch_size=60)
    w = model.classifier.weight.detach().double().numpy()
    np.testing.assert_allclose(w[0], -w[1], atol=2e-3)
    assert smooth(w[1] - w[0]) == pytest.approx(best.fun, abs=1e-4)
    np.testing.assert_allclose(w[1] - w[0], best.x, atol=0.02)


def test_without_a_hinge_labels_change_nothing():
    afterwards = MaxMarginVAE(**SMALL, c=0.0, classifier="pegasos", regularization=1e-2)
    plain = clone(afterwards).fit(X[:400], Y[:400])
    shuffled = clone(afterwards).fit(X[:400], Y[:400][::-1])
    assert plain.history_[-1]["loss"] == shuffled.history_[-1]["loss"]
    assert "hinge" not in plain.history_[-1]
    assert plain.features_of(X[:5]).shape == (5, 35)


# ---- the classifier


def test_unlabelled_rows_do_not_enter_the_hinge():
    y = np.where(np.arange(400) < 200, Y[:400], -1)
    still = {"batch_size": 400, "max_epochs": 1, "learning_rate": 1e-12, "batch_norm": False}
    model = MaxMarginVAE(**SMALL | still).fit(X[:400], y)
    assert model.history_[0]["hinge"] == pytest.approx(15 * 3)  # of 200 rows, not of 400
    assert model.classes_.tolist() == list(range(10))


@pytest.mark.parametrize("settings", [{}, {"features": "mean"}, {"n_latents": (4, 3)}, PICTURES])
def test_it_learns_digits_and_stays_a_density_model(settings):
    how = {"max_epochs": 12, "learning_rate": 1e-2, "hidden": (40,)}
    model = MaxMarginVAE(**SMALL | how | settings).fit(X[:1500], Y[:1500])
    assert model.score(X[1500:], Y[1500:]) > 0.6
    p = model.predict_proba(X[1500:])
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p.argmax(1) == model.predict(X[1500:])).all()
    nll = -np.log(p[np.arange(len(p)), Y[1500:]]).mean()
    assert nll < np.log(10) / 2
    assert model.log_likelihood(X[1500:1540], 50).mean > -45.0  # 64 log 2 = 44.4 says nothing
    assert model.sample(2).shape == (2, 64)


@pytest.mark.parametrize("settings", [{"hidden": (200, 300)}, PICTURES])
def test_parameters_start_where_asked(settings):
    still = {"max_epochs": 1, "learning_rate": 1e-12, "batch_norm": False} | settings
    asked = fitted(**still, dense_start="normal", classifier_scale=0.01).model_
    plain = fitted(**still).model_
    zero = pytest.approx(0, abs=1e-9)
    assert [p.abs().max().item() for p in plain.classifier.parameters()] == [zero, zero]
    assert asked.classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert asked.classifier.bias.std().item() == pytest.approx(0.01, rel=0.6)
    found = 0
    for ours, theirs in zip(asked.modules(), plain.modules(), strict=True):
        if not isinstance(ours, nn.Linear) or ours is asked.classifier:
            continue
        n_out, n_in = ours.weight.shape
        if theirs.weight.std().item() == zero:  # the read-out of log-variances
            assert [p.abs().max().item() for p in ours.parameters()] == [zero, zero]
        elif ours.weight.numel() > 2000:
            found += 1
            glorot = (2 / (n_in + n_out)) ** 0.5
            assert ours.weight.std().item() == pytest.approx(n_in**-0.5, rel=0.1)
            assert theirs.weight.std().item() == pytest.approx(glorot, rel=0.1)
            output = n_out == 64  # whose biases are read off the data
            assert output or ours.bias.std().item() == pytest.approx(0.01, rel=0.4)
    assert found == (4 if "hidden" in settings else 1)


@pytest.mark.parametrize("settings", [{}, PICTURES])
def test_means_of_grey_pixels_are_held_where_asked(tmp_path, settings):
    how = SMALL | settings | {"binarize": "none", "max_epochs": 2}
    model = MaxMarginVAE(**how, clip_means=0.3).fit(X[:200], Y[:200])
    model.save(tmp_path / "m")
    means = load(tmp_path / "m").sample(50, mean=True)
    assert means.min() == pytest.approx(0.3)
    assert means.max() == pytest.approx(0.7)
    assert MaxMarginVAE(**how).fit(X[:200], Y[:200]).sample(50, mean=True).min() < 0.3
    with pytest.raises(ValueError, match=r"clip_means=0\.5: expected a number of at least 0 and"):
        fitted(clip_means=0.5)


def test_bits_of_a_mixed_table_are_held_too():
    kinds = ("gaussian", *["bernoulli"] * 63)
    table = np.column_stack([NOISY[:200, :1], X[:200, 1:] > 0.5])
    model = MaxMarginVAE(**SMALL, likelihood=kinds, clip_means=0.3).fit(table, Y[:200])
    bits = model.model_.decode(torch.zeros(1, 4)).parts[0]
    assert bits.mean.shape == (1, 63)
    assert bits.mean.min().item() == pytest.approx(0.3)


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([3.0, 7.0])])
def test_classes_of_any_kind_survive_saving(tmp_path, labels):
    x, y = X[Y < 2], labels[Y[Y < 2]]
    model = MaxMarginVAE(**SMALL | {"max_epochs": 15}).fit(x, y)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.classes_.tolist() == labels.tolist()
    assert model.score(x, y) > 0.95
    scores = model.decision_function(x)
    assert scores.shape == (len(x),)
    np.testing.assert_array_equal(labels[(scores > 0).astype(int)], model.predict(x))
    np.testing.assert_allclose(again.predict_proba(x), model.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("kind", [object, str])
def test_minus_one_is_no_label_beside_text_either(kind):
    y = np.array(["few", "many"], dtype=object)[(Y[:400] > 4).astype(int)]
    y[::2] = -1
    model = MaxMarginVAE(**SMALL | {"max_epochs": 2}).fit(X[:400], y.astype(kind))
    assert model.classes_.tolist() == ["few", "many"]


def test_priors_count_the_rows_that_are_learnt_from():
    model = MaxMarginVAE(**SMALL | {"max_epochs": 1}, validation_fraction=0.25)
    assert model.fit(X[:400], Y[:400]).n_rows_ == 300


def test_temperature_is_fitted_to_held_out_rows():
    model = MaxMarginVAE(**SMALL, validation_fraction=0.3).fit(X[:400], Y[:400])
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4000, 3))
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    y = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert temperature(7 * scores, y) == pytest.approx(7, rel=0.1)
    assert model.temperature_ > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"c": -1.0}, "c=-1.0"),
        ({"margin": 0.0}, "margin=0.0"),
        ({"features": "all"}, "features='all'"),
        ({"network": "mnist"}, "set image_shape"),
        ({"network": "resnet", "image_shape": (8, 8)}, "expected one of dense, mnist, svhn"),
        ({"network": "mnist", "image_shape": (8, 8)}, "too small"),
        ({"network": "20 -> 8x4x4 | 3:1", "image_shape": (8, 8)}, "makes 1 x 4 x 4 of rows"),
        (PICTURES | {"n_latents": (3, 2)}, "single stochastic layer"),
        ({"hidden": ()}, r"features='hidden' and hidden=\(\)"),
        ({"n_latents": ()}, r"n_latents=\(\): expected one"),
    ],
)
def test_bad_settings_are_named(settings, message):
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
def test_bad_labels_are_named(y, message):
    with pytest.raises(ValueError, match=message):
        MaxMarginVAE(**SMALL).fit(X[:400], y)


def test_a_convolutional_network_wants_columns_of_one_kind():
    kinds = ("gaussian", *["bernoulli"] * 63)
    table = np.column_stack([NOISY[:, :1], X[:, 1:] > 0.5])
    with pytest.raises(ValueError, match="all bits or all real values"):
        MaxMarginVAE(**SMALL, **PICTURES, likelihood=kinds).fit(table, Y)


@pytest.mark.parametrize("cls", [VAE, MaxMarginVAE])
def test_real_valued_pictures_have_a_variance_of_their_own(cls):
    settings = SMALL | PICTURES | {"likelihood": "gaussian", "max_epochs": 8}
    model = cls(**settings).fit(NOISY[:400], Y[:400])
    assert model.model_.decode(torch.zeros(2, 4)).stddev.std() > 0
    near, far = (model.log_likelihood(x, 20).mean for x in (NOISY[400:420], NOISY[400:420] + 3))
    assert near > far


def test_a_memory_stands_beside_dense_layers_only():
    with pytest.raises(ValueError, match="network='dense'"):
        MemoryVAE(**SMALL, **PICTURES).fit(X)


def test_the_report_shows_errors_and_mistakes():
    data = datasets.load("digits")
    data = replace(data, x_test=data.x_test[:80], y_test=data.y_test[:80])
    settings = SMALL | {"max_epochs": 10, "learning_rate": 1e-2}
    model = MaxMarginVAE(**settings).fit(data.x_train, data.y_train)
    page = report.page(model, data, title="Digits")
    wrong = (model.predict(data.x_test) != data.y_test).sum()
    assert "Which class?" in page
    assert f"{wrong} test rows of {len(data.y_test)} are told wrong" in page
    assert f"{100 * wrong / len(data.y_test):.2f} %" in page
    assert "surest mistakes" in page
    plain = VAE(**SMALL | {"max_epochs": 1}).fit(data.x_train)
    assert "Which class?" not in report.page(plain, data, title="Digits")


def test_errors_by_hand():
    text = errors(np.array(["cat", "dog", "cat"]), np.array(["cat", "-1", "dog"]))
    np.testing.assert_array_equal(text.wrong, [False, True])
    found = errors(np.array([1, 2, 3, 3, 0]), np.array([1, 2, 2, 3, -1]))
    assert found.percent == 25
    assert found.standard_error == pytest.approx(100 * np.sqrt(0.25 * 0.75 / 4))
    with pytest.raises(ValueError, match="no row is labelled"):
        errors(np.zeros(2), np.full(2, -1))
    with pytest.raises(ValueError, match="shape"):
        errors(np.zeros(2), np.zeros(3))


def test_two_classifiers_compared_by_mcnemar():
    rng = np.random.default_rng(0)
    first, second = (Errors(rng.random(500) < share) for share in (0.1, 0.2))
    found = mcnemar(first, second)
    ours, theirs = first.wrong.astype(int), second.wrong.astype(int)
    assert found.percent == pytest.approx(100 * (ours - theirs).mean())
    assert found.standard_error == pytest.approx(100 * (ours - theirs).std() / np.sqrt(500))
    n, k = found.first_only + found.second_only, min(found.first_only, found.second_only)
    assert found.p_value == pytest.approx(2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(first, first).p_value == 1
    with pytest.raises(ValueError, match="500 and 499 rows"):
        mcnemar(first, Errors(second.wrong[1:]))


def test_classifiers_are_compared_from_the_command_line(tmp_path, capsys):
    for name in "ab":
        how = {"batch_size": 50} if name == "b" else {}
        fitted(**how).save(tmp_path / name)
    out = tmp_path / "ab.json"
    arguments = [str(tmp_path / "a"), str(tmp_path / "b"), "digits", "--metric", "error"]
    assert main(["compare", *arguments, "--out", str(out)]) == 0
    assert "McNemar p = " in capsys.readouterr().out
    (difference,) = json.loads(out.read_text())["differences"]
    digits = datasets.load("digits")
    a, b = (errors(load(tmp_path / n).predict(digits.x_test), digits.y_test) for n in "ab")
    assert difference["difference"] == pytest.approx(a.percent - b.percent)
    VAE(n_latents=2, hidden=(5,), max_epochs=1).fit(X).save(tmp_path / "c")
    assert main(["evaluate", str(tmp_path / "c"), "digits", "--metric", "error"]) == 2
    assert "does not tell the class of rows" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"hidden": (30,)}, {"network": PICTURES["network"]}])
def test_a_network_without_a_generative_model(tmp_path, capsys, settings):
    how = settings | {"image_shape": (8, 8), "max_epochs": 10, "learning_rate": 5e-3}
    model = NetworkClassifier(**how, random_state=0).fit(X[:1200], Y[:1200])
    assert model.score(X[1200:], Y[1200:]) > 0.85
    assert set(model.history_[0]) >= {"hinge", "prior"}
    model.save(tmp_path / "n")
    again = load(tmp_path / "n")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    scores = again.features_of(X) @ again._linear.weight.T.numpy(force=True)
    scores += again._linear.bias.numpy(force=True)
    np.testing.assert_allclose(again.decision_function(X), scores, rtol=1e-5, atol=1e-5)
    html = report.page(again, datasets.load("digits"), title="t")
    assert "Which class?" in html
    assert "log-likelihood" not in html
    strips = ["repair", "digits", "--out", str(tmp_path / "x.png")]
    for arguments in (["sample", "--out", "x.npy"], ["units", "digits"], strips):
        assert main([arguments[0], str(tmp_path / "n"), *arguments[1:]]) == 2
        expected = "draws no rows" if arguments[0] == "sample" else "has no latent variables"
        error = capsys.readouterr().err
        assert "holds a NetworkClassifier, which" in error
        assert expected in error


def test_a_network_without_a_generative_model_leaves_a_run_folder(tmp_path, capsys):
    run = tmp_path / "run"
    how = ["--network", "3:4 p2 | 10", "--max-epochs", "1", "--out", str(run)]
    assert main(["fit", "network-classifier", "digits", *how]) == 0
    assert "test error, %:" in capsys.readouterr().out
    assert (run / "report.html").is_file()
    assert main(["evaluate", str(run)]) == 0
    assert "test error:" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--metric", "log_likelihood"]) == 2


def test_classes_of_damaged_rows(tmp_path, capsys):
    """Noise in a gap misleads; what a generative model fills in misleads less."""
    digits = datasets.load("digits")
    how = {"max_epochs": 12, "learning_rate": 1e-2, "hidden": (64,), "image_shape": (8, 8)}
    model = MaxMarginVAE(**SMALL | how | {"n_latents": 8}).fit(digits.x_train, digits.y_train)
    plain = NetworkClassifier(**how, random_state=0).fit(digits.x_train, digits.y_train)
    square, repair_how, rows = Damage("rect", 4), Repair(n_iter=20), Scoring(split="test")
    found = repair(model, digits, square, repair_how, rows)
    (noisy, _), (refined, wrong) = classify(model, digits, square, repair_how, rows, found)
    assert refined["value"] < noisy["value"]
    assert wrong.percent == 100 * (model.predict(found.filled) != digits.y_test).mean()
    ((alone, _),) = classify(plain, digits, square, repair_how, rows)
    assert alone["metric"] == "error on noisy rows, rect 4, %"
    assert alone["value"] > 100 * (1 - plain.score(digits.x_test, digits.y_test))
    with pytest.raises(ValueError, match="no classes to tell apart"):
        classify(VAE(), digits, square, repair_how, rows)
    svm = Pegasos(1e-2, random_state=0)
    stage = {"repaired": found, "second_stage": svm}
    *_, (anew, told) = classify(model, digits, square, repair_how, rows, **stage)
    assert anew["metric"] == "error on refined rows, rect 4, by Pegasos, %"
    svm.fit(model.features_of(digits.x_train), digits.y_train)
    seen = svm.predict(model.features_of(found.filled))
    np.testing.assert_array_equal(told.wrong, seen != digits.y_test)
    assert anew["value"] < noisy["value"]
    model.save(tmp_path / "m")
    plain.save(tmp_path / "p")
    command = ["--damage", "rect:4", "--n-iter", "3", "--second-stage", "liblinear"]
    assert main(["repair", str(tmp_path / "m"), "digits", *command]) == 0
    said = capsys.readouterr().out
    for words in (
        "mean squared error of repairs",
        "error on noisy rows",
        "error on refined rows, rect 4, by L",
    ):
        assert words in said
    assert main(["repair", str(tmp_path / "p"), "digits", *command[:4]]) == 0
    assert "refined" not in capsys.readouterr().out


def test_a_network_is_disturbed_in_training_only():
    how = {"hidden": (30, 20), "max_epochs": 3, "learning_rate": 5e-3, "random_state": 0}
    kinds = {"dropout": (0.2, 0.5), "jitter": (0.3, 0.3, 0.3)}
    plain = NetworkClassifier(**how).fit(X, Y)
    for name, value in kinds.items():
        model = NetworkClassifier(**how, **{name: value}).fit(X, Y)
        assert model.history_[-1]["loss"] > plain.history_[-1]["loss"]
        np.testing.assert_array_equal(
            model.decision_function(X[:9]), model.decision_function(X[:9])
        )
        first = next(m for m in model.model_.modules() if isinstance(m, torch.nn.Linear))
        norm = next(m for m in model.model_.modules() if isinstance(m, BatchNorm))
        clean = first(torch.from_numpy(X).float()).mean(0)
        torch.testing.assert_close(norm.mean, clean, rtol=1e-3, atol=2e-2)
        with pytest.raises(ValueError, match=f"{name}=.*at most 3 numbers"):
            NetworkClassifier(**how, **{name: (0.1,) * 4}).fit(X, Y)
    text = {"network": "3:4 p2 | 10", "image_shape": (8, 8)}
    with pytest.raises(ValueError, match="of the input only"):
        NetworkClassifier(**how, **text, jitter=(0.1, 0.1)).fit(X, Y)


def test_gaps_of_real_valued_rows_take_values_of_other_rows():
    rows = np.random.default_rng(0).normal(100, 1, (200, 9))
    table = datasets.Dataset(name="t", x_train=rows, y_train=np.arange(200) % 2)
    model = NetworkClassifier(hidden=(5,), max_epochs=1, random_state=0).fit(rows, table.y_train)
    seen = []
    model.predict = lambda given: (seen.append(given), table.y_train)[1]
    ((metric, _),) = classify(model, table, Damage("random", 0.5), Repair(), Scoring(split="train"))
    assert metric["n_rows"] == 200
    (noisy,) = seen
    assert 90 < noisy.min() < noisy.max() < 110
    assert 0.4 < (noisy != rows).mean() < 0.6
    how = Repair(gaps="zero")
    classify(model, table, Damage("random", 0.5), how, Scoring(split="train"))
    assert set(seen[1][seen[1] != rows]) == {0.0}


def noise_of(model, rows, how=None, **more):
    """What stands in the place of rows of which everything was taken away."""
    seen = []
    y = np.arange(len(rows)) % 2
    model.predict = lambda given: (seen.append(given), np.zeros(len(given)))[1]
    data = datasets.Dataset("t", rows, y_train=y)
    classify(model, data, Damage("random", 1), Repair(), how or Scoring(split="train"), **more)
    return seen[0]


def test_noise_says_nothing_of_its_own_row():
    rows = np.random.default_rng(0).normal(size=(4, 9))
    model = NetworkClassifier(hidden=(5,), max_epochs=1, random_state=0).fit(rows, [0, 1, 0, 1])
    noisy = noise_of(model, rows)
    assert (noisy != rows).all()
    assert all(np.isin(noisy[:, j], rows[:, j]).all() for j in range(9))
    bits = np.array([[0.0] * 9, [1.0] * 9])  # of columns that are no bits
    np.testing.assert_array_equal(noise_of(model, bits), 1 - bits)
    first = noise_of(model, rows, Scoring(split="train", n_rows=1))
    assert all(first[0, j] in rows[1:, j] for j in range(9))
    with pytest.raises(ValueError, match=r"^gaps='noise': there is one row"):
        noise_of(model, rows[:1])
    alone = noise_of(model, rows[:1], training=datasets.Dataset("u", rows + 10))
    assert all(alone[0, j] in rows[:, j] + 10 for j in range(9))


def test_noise_of_bits_is_uniform_whatever_the_rows_at_hand():
    model = NetworkClassifier(hidden=(5,), max_epochs=1, random_state=0).fit(X[:50], Y[:50])
    expected = np.random.default_rng([0, 1]).random((3, 64))
    np.testing.assert_array_equal(noise_of(model, X[:3]), expected)
    np.testing.assert_array_equal(noise_of(model, X[:1]), expected[:1])


@pytest.fixture(scope="module")
def garden(tmp_path_factory):
    """A classifier of three named kinds, and the table it was trained on; the folder of both."""
    from sklearn.datasets import load_iris

    folder = tmp_path_factory.mktemp("flowers")
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])

    def table(path, kinds, keep=slice(None)):
        rows = zip(x[keep], np.asarray(kinds)[y][keep], strict=True)
        lines = [",".join([*map(str, row), str(kind)]) for row, kind in rows]
        (folder / path).write_text("\n".join(["a,b,c,d,kind", *lines]) + "\n")

    table("all.csv", names)
    table("two.csv", names, y > 0)
    table("renamed.csv", np.array(["rose", "versicolor", "virginica"]))
    table("numbers.csv", [5, 6, 7])
    how = ["--target", "kind", "--max-epochs", "30", "--hidden", "16", "--n-latents", "2"]
    made = [str(folder / "all.csv"), *how, "--out", str(folder / "run"), "--no-report"]
    assert main(["fit", "max-margin-vae", *made]) == 0
    return folder, y


@pytest.fixture
def flowers(garden, monkeypatch):
    """The folder of ``garden`` as the working directory, and its classes."""
    monkeypatch.chdir(garden[0])
    return garden


def wrong_of(table):
    return main(["evaluate", "run", table, "--target", "kind", "--metric", "error"])


def test_classes_of_another_table_are_known_by_their_names(flowers):
    folder, y = flowers
    model = load(folder / "run" / "model")
    x = np.loadtxt(folder / "two.csv", delimiter=",", skiprows=1, usecols=range(4))
    expected = 100 * (model.predict(x) != y[y > 0]).mean()
    assert wrong_of("two.csv") == 0
    metric = json.loads((folder / "run" / "metrics.json").read_text())[-1]
    assert metric["value"] == pytest.approx(expected)
    assert metric["n_rows"] == 100


def test_a_second_stage_tells_classes_of_undamaged_rows(flowers, capsys):
    command = ["evaluate", "run", "all.csv", "--target", "kind", "--metric", "error"]
    assert main([*command, "--second-stage", "liblinear"]) == 0
    assert "train error by LinearSVC: " in capsys.readouterr().out


def test_a_second_stage_learns_the_rows_of_the_run_whatever_is_scored(flowers):
    folder, y = flowers
    model = load(folder / "run" / "model")
    table = datasets.load(folder / "all.csv", target="kind")
    x, few = table.x_train, table.x_train[y > 0]
    stage = svm("liblinear", len(x)).fit(model.features_of(x), y)
    expected = 100 * (stage.predict(model.features_of(few)) != y[y > 0]).mean()
    alone = svm("liblinear", len(few)).fit(model.features_of(few), y[y > 0])
    assert expected != 100 * (alone.predict(model.features_of(few)) != y[y > 0]).mean()
    again = ["two.csv", "--target", "kind", "--second-stage", "liblinear"]
    assert main(["evaluate", "run", *again, "--metric", "error"]) == 0
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics[-1]["metric"] == "error by LinearSVC, %"
    assert metrics[-1]["value"] == pytest.approx(expected)
    data = datasets.Dataset("two", few, y_train=y[y > 0])
    named = data, Damage("random", 0.1), Repair(n_iter=1), Scoring(split="train")
    found = repair(model, *named)
    how = {"second_stage": svm("liblinear", len(x)), "training": replace(table, y_train=y)}
    *_, (metric, told) = classify(model, *named, found, **how)
    seen = stage.predict(model.features_of(found.filled))
    np.testing.assert_array_equal(told.wrong, seen != data.y_train)
    assert main(["repair", "run", *again, "--damage", "random:0.1", "--n-iter", "1"]) == 0
    *_, kept = json.loads((folder / "run" / "metrics.json").read_text())
    assert kept["metric"] == metric["metric"]
    assert kept["value"] == metric["value"]


def test_a_second_stage_counts_labelled_rows_and_is_called_by_its_rule():
    y = np.where(np.arange(400) < 100, Y[:400], -1)
    data = datasets.Dataset("t", X[:400], y_train=y)
    model = fitted(max_epochs=1)
    cost = second_stage("liblinear", model, data).C
    assert cost == pytest.approx(1 / (1e-4 * 100))
    rows, stage = Scoring(split="train"), Pegasos(1e-1, rule="adagrad", random_state=0)
    assert scoring_classify(model, data, rows, second_stage=stage)[0]["metric"] == (
        "error by AdaGrad, %"
    )
    with pytest.raises(ValueError, match=r"^second_stage='pegasos': the training rows of t have"):
        second_stage("pegasos", model, replace(data, y_train=np.full(400, -1)))
    other = ClassConditionalVAE()
    with pytest.raises(ValueError, match=r"^second_stage='pegasos': ClassConditionalVAE has no fe"):
        second_stage("pegasos", other, data)
    with pytest.raises(ValueError, match=r"^second_stage='AdaGrad': ClassConditionalVAE has no fe"):
        learned_afresh(other, data, stage)


def test_classes_of_its_own_test_rows_that_it_never_saw_are_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(40.0).reshape(20, 2), np.repeat([0, 1, 2], [7, 7, 6])
    np.savez("data.npz", x_train=x[:14], y_train=y[:14], x_test=x, y_test=y)
    how = ["--max-epochs", "2", "--hidden", "4", "--n-latents", "1", "--out", "run", "--no-report"]
    assert main(["fit", "max-margin-vae", "data.npz", *how]) == 0
    assert main(["evaluate", "run", "--metric", "error"]) == 0
    assert main(["evaluate", "run", "data.npz", "--metric", "error"]) == 2
    assert "unknown classes 2; the model was fitted on 0, 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "unknown"), [("renamed.csv", "rose"), ("numbers.csv", "5, 6, 7")]
)
def test_unknown_classes_of_another_table_are_refused(flowers, capsys, table, unknown):
    assert wrong_of(table) == 2
    expected = f"unknown classes {unknown}; the model was fitted on setosa, versicolor, virginica"
    assert expected in capsys.readouterr().err


def test_predictions_as_numpy_are_called_as_in_the_table(flowers):
    assert main(["predict", "run", "all.csv", "--target", "kind", "--out", "told.npy"]) == 0
    assert set(np.load(flowers[0] / "told.npy")) <= {"setosa", "versicolor", "virginica"}


def test_no_weight_on_the_hinge_leaves_nothing_to_decide_by():
    x, y = load_digits(return_X_y=True)
    with pytest.raises(ValueError, match="c=0 leaves the classifier"):
        MaxMarginVAE(c=0).fit(x / 16, y)


def test_real_numbers_are_no_classes():
    x, y = load_digits(return_X_y=True)
    with pytest.raises(
        ValueError, match=r"^y: Unknown label type: continuous\. MaxMarginVAE tells"
    ):
        MaxMarginVAE().fit(x / 16, y + 0.5)


def test_features_are_single_whatever_the_precision_of_products():
    """Else a compiled step lays layers out among one another: see ``_features_in``."""
    mmva = fitted(batch_norm=True, max_epochs=1)
    seen = {}
    model = mmva.model_.train()
    model.posterior.register_forward_hook(lambda *_: seen.update(Taps(model.posterior).take()))
    batch = Batch(torch.tensor(X[:50], dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        model.encode(batch)
        assert {u.dtype for u in seen.values()} == {torch.bfloat16}
        features = mmva._features_in(Run(batch, taps=seen))
    assert features.dtype == torch.float32
    assert features.shape == (50, 35)
