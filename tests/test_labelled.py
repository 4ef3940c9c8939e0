"""Drawn rows as a classifier sees them."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from ancestral import GMMN, MaxMarginVAE
from ancestral.cli import main
from ancestral.labelled import class_shares, label_errors, train_on_generated

X, Y = load_digits(return_X_y=True)
X = X / 16
HALF = {"hidden": (10,), "max_epochs": 1, "random_state": 0}


class Copies:
    """A generator that draws rows of the data, some of them of the wrong class."""

    def __init__(self, wrong=0.0, kept=range(10)):
        self.classes_, self.wrong, self.kept = np.arange(10), wrong, list(kept)

    def sample(self, n, y=None, *, random_state=0):
        rng = np.random.default_rng(random_state)
        y = rng.choice(self.kept, n) if y is None else y
        swapped = np.where(rng.random(n) < self.wrong, (y + 1) % 10, y)
        return np.stack([X[rng.choice(np.flatnonzero(c == Y))] for c in swapped])


@pytest.fixture(scope="module")
def judge():
    return KNeighborsClassifier(1).fit(X, Y)  # never wrong about a copy


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_wrong_labels_are_counted(judge, wrong):
    found = label_errors(Copies(wrong), judge, 100)
    assert len(found.wrong) == 1000
    assert abs(found.percent - 100 * wrong) <= 4 * found.standard_error
    again = train_on_generated(Copies(wrong), KNeighborsClassifier(1), X, Y, 30)
    assert (again.percent < 15) == (wrong == 0)


def test_classes_left_out_are_seen(judge):
    found = class_shares(Copies(kept=[1, 4]), judge, 400)
    assert found.shares.sum() == pytest.approx(1)
    assert found.shares[[1, 4]].sum() == 1
    assert abs(found.shares[1] - 0.5) < 4 * found.standard_errors[1]
    assert "0 0.0%, 1 " in str(found)


def test_who_cannot_be_asked_is_refused(judge):
    for cls in (GMMN, MaxMarginVAE):
        with pytest.raises(ValueError, match="can't be asked for a class"):
            label_errors(cls(**HALF).fit(X, Y), judge)
    few = KNeighborsClassifier(1).fit(X[Y < 3], Y[Y < 3])
    with pytest.raises(ValueError, match="it knows no 3, 4"):
        label_errors(Copies(), few)


@pytest.mark.parametrize("other", [Y.astype(str), np.where(Y == 3, 11, Y)])
def test_rows_of_classes_that_the_generator_does_not_know_are_refused(other):
    with pytest.raises(ValueError, match=r"y: classes (0, 1|11).*it knows 0, 1"):
        train_on_generated(Copies(), KNeighborsClassifier(1), X, other, 5)


def test_rows_without_a_class_do_not_count():
    known = np.arange(len(Y)) < 100
    y = np.where(known, Y, -1)
    found = train_on_generated(Copies(), KNeighborsClassifier(1), X, y, 30)
    assert len(found.wrong) == 100
    as_numbers = train_on_generated(Copies(), KNeighborsClassifier(1), X, y.astype(float), 30)
    np.testing.assert_array_equal(found.wrong, as_numbers.wrong)


def test_from_the_command_line(tmp_path, capsys):
    generator, judge = tmp_path / "generator", tmp_path / "judge"
    small = ["--max-epochs", "3", "--hidden", "20", "--no-report", "--out"]
    assert main(["fit", "cgmmn", "digits", *small, str(generator)]) == 0
    assert main(["fit", "network-classifier", "digits", *small, str(judge)]) == 0
    capsys.readouterr()
    asked = ["evaluate", str(generator), "--classifier", str(judge)]
    assert main([*asked, "--retrain"]) == 0
    said = capsys.readouterr().out
    assert "classes of 2000 drawn rows: 0 " in said
    assert "drawn label error of drawn rows, %" in said
    assert "test error after training on drawn rows, %" in said
    kept = json.loads((generator / "metrics.json").read_text())
    assert [m.get("classifier") for m in kept[-2:]] == [str(judge)] * 2
    assert main([*asked, "--metric", "error"]) == 2
    assert main(["evaluate", str(judge), "--classifier", str(judge)]) == 2
    assert main(["evaluate", str(generator), "--classifier", str(generator)]) == 2
