"""Class fidelity of generated samples."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from ancestral import GMMN, MaxMarginVAE
from ancestral.cli.main import main
from ancestral.evaluation.class_fidelity import (
    class_consistency_errors,
    predicted_class_frequencies,
    train_on_generated_errors,
)

X, Y = load_digits(return_X_y=True)
X = X / 16
SMALL = {"hidden": (10,), "max_epochs": 1, "random_state": 0}


class Copies:
    """Generator that copies rows of the data, with a given rate of wrong classes."""

    def __init__(self, error_rate=0.0, classes=range(10)):
        self.classes_, self.error_rate, self.classes = np.arange(10), error_rate, list(classes)

    def sample(self, n, y=None, *, random_state=0):
        rng = np.random.default_rng(random_state)
        y = rng.choice(self.classes, n) if y is None else y
        sampled = np.where(rng.random(n) < self.error_rate, (y + 1) % 10, y)
        return np.stack([X[rng.choice(np.flatnonzero(c == Y))] for c in sampled])


@pytest.fixture(scope="module")
def classifier():
    return KNeighborsClassifier(1).fit(X, Y)  # exact on copies of training rows


@pytest.mark.parametrize("error_rate", [0.0, 0.3])
def test_label_errors_match_the_error_rate_of_the_generator(classifier, error_rate):
    result = class_consistency_errors(Copies(error_rate), classifier, 100)
    assert len(result.misclassified) == 1000
    assert abs(result.percent - 100 * error_rate) <= 4 * result.standard_error
    retrained = train_on_generated_errors(Copies(error_rate), KNeighborsClassifier(1), X, Y, 30)
    assert (retrained.percent < 15) == (error_rate == 0)


def test_predicted_class_frequencies_of_a_generator_with_missing_classes(classifier):
    result = predicted_class_frequencies(Copies(classes=[1, 4]), classifier, 400)
    assert result.frequencies.sum() == pytest.approx(1)
    assert result.frequencies[[1, 4]].sum() == 1
    assert abs(result.frequencies[1] - 0.5) < 4 * result.standard_errors[1]
    assert "0 0.0%, 1 " in str(result)


def test_label_errors_require_class_conditional_generator_and_matching_classifier(classifier):
    for cls in (GMMN, MaxMarginVAE):
        with pytest.raises(ValueError, match="cannot sample a given class"):
            class_consistency_errors(cls(**SMALL).fit(X, Y), classifier)
    three_classes = KNeighborsClassifier(1).fit(X[Y < 3], Y[Y < 3])
    with pytest.raises(ValueError, match="not fitted to the classes 3, 4"):
        class_consistency_errors(Copies(), three_classes)


@pytest.mark.parametrize("y", [Y.astype(str), np.where(Y == 3, 11, Y)])
def test_train_on_generated_rejects_classes_that_the_generator_lacks(y):
    with pytest.raises(ValueError, match=r"y: contains classes (0, 1|11).*expected 0, 1"):
        train_on_generated_errors(Copies(), KNeighborsClassifier(1), X, y, 5)


def test_train_on_generated_excludes_unlabelled_samples():
    labelled = np.arange(len(Y)) < 100
    y = np.where(labelled, Y, -1)
    result = train_on_generated_errors(Copies(), KNeighborsClassifier(1), X, y, 30)
    assert len(result.misclassified) == 100
    from_floats = train_on_generated_errors(
        Copies(), KNeighborsClassifier(1), X, y.astype(float), 30
    )
    np.testing.assert_array_equal(result.misclassified, from_floats.misclassified)


def test_class_fidelity_from_the_command_line(tmp_path, capsys):
    generator, classifier = tmp_path / "generator", tmp_path / "classifier"
    options = ["--max-epochs", "3", "--hidden", "20", "--no-report", "--out"]
    assert main(["fit", "cgmmn", "digits", *options, str(generator)]) == 0
    assert main(["fit", "network-classifier", "digits", *options, str(classifier)]) == 0
    capsys.readouterr()
    command = ["evaluate", str(generator), "--classifier", str(classifier)]
    assert main([*command, "--retrain"]) == 0
    output = capsys.readouterr().out
    assert "predicted classes of 2000 samples: 0 " in output
    assert "generated class-consistency error of samples, %" in output
    assert "test error after training on samples, %" in output
    metrics = json.loads((generator / "metrics.json").read_text())
    assert [m.get("classifier") for m in metrics[-2:]] == [str(classifier)] * 2
    assert main([*command, "--metric", "error"]) == 2
    assert main(["evaluate", str(classifier), "--classifier", str(classifier)]) == 2
    assert main(["evaluate", str(generator), "--classifier", str(generator)]) == 2
