"""Linear support vector machines: optimum, updates, and the scikit-learn contract."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from ancestral import MaxMarginVAE, Pegasos
from ancestral.training.optim import inverse

X, Y = load_digits(return_X_y=True)
X = X / 16


@parametrize_with_checks(
    [
        Pegasos(regularization=1e-2, n_steps=100),
        Pegasos(regularization=1e-2, rule="adagrad", n_steps=100),
    ]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def objective(w, x, y, regularization, margin=1.0):
    scores = x @ w.T
    true = scores[np.arange(len(y)), y]
    wrong = np.arange(w.shape[0]) != y[:, None]
    hinges = (scores + margin * wrong).max(1) - true
    return 0.5 * regularization * np.square(w).sum() + hinges.mean()


@pytest.mark.parametrize("rule", ["pegasos", "adagrad"])
@pytest.mark.parametrize("margin", [1.0, 3.0])
def test_linear_svm_objective_is_near_optimum_of_powell_search(rule, margin):
    x, y = make_blobs(90, 2, centers=3, cluster_std=2.0, random_state=1)
    x = x / 10
    rng, shape = np.random.default_rng(0), (3, 2)

    def loss(w):
        return objective(w.reshape(shape), x, y, 0.05, margin)

    best = min(
        minimize(loss, rng.normal(size=6), method="Powell", options={"maxiter": 20_000}).fun
        for _ in range(5)
    )
    model = Pegasos(
        regularization=0.05, margin=margin, rule=rule, n_steps=1_000, batch_size=90, random_state=0
    ).fit(x, y)
    assert best - 1e-3 < objective(model.coef_, x, y, 0.05, margin) < best + 0.02


def test_n_steps_is_the_number_of_steps():
    weights = [
        Pegasos(regularization=1e-2, n_steps=n, random_state=0).fit(X, Y).coef_
        for n in (1, 2, 18, 19)
    ]
    for first, second in pairwise(weights):
        assert not np.allclose(first, second)


def test_first_pegasos_step_matches_manual_subgradient():
    """From zero weights all scores are equal, so the wrong classes share the subgradient."""
    x, y = X[:50], Y[:50] % 3
    model = Pegasos(regularization=0.1, n_steps=1, batch_size=50, random_state=0).fit(x, y)
    gradient = np.zeros((3, 64))
    for row, label in zip(x, y, strict=True):
        ties = [c for c in range(3) if c != label]
        for c in ties:  # equal scores share the subgradient
            gradient[c] += row / len(ties) / 50
        gradient[label] -= row / 50
    np.testing.assert_allclose(model.coef_, -gradient / 0.1, atol=1e-5)
    assert inverse(0.1)(0, 1) == pytest.approx(10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regularization": 0.0}, "regularization=0.0"),
        ({"rule": "newton"}, "rule='newton'"),
        ({"n_steps": 0}, "n_steps=0"),
    ],
)
def test_invalid_parameters_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        Pegasos(**settings).fit(X, Y)


@pytest.mark.parametrize("rule", ["pegasos", "adagrad"])
def test_second_stage_equals_pegasos_on_features(rule):
    kwargs = {"n_latents": 4, "hidden": (30,), "max_epochs": 8, "random_state": 0, "margin": 1.0}
    two_stage = MaxMarginVAE(**kwargs, classifier=rule, regularization=3e-2).fit(X[:900], Y[:900])
    assert "hinge" not in two_stage.history_[-1]
    model = Pegasos(regularization=3e-2, rule=rule, random_state=0).fit(
        two_stage.features_of(X[:900]), Y[:900]
    )
    np.testing.assert_allclose(
        two_stage.decision_function(X[900:]),
        model.decision_function(two_stage.features_of(X[900:])),
        atol=1e-4,
    )
    assert two_stage.score(X[900:], Y[900:]) > 0.7


@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_are_near_those_of_the_best_temperature(seed):
    rows = np.random.default_rng(seed).permutation(len(X))
    train, test = rows[:1200], rows[1200:]
    model = Pegasos(regularization=0.1, random_state=seed).fit(X[train], Y[train])
    scores = model.decision_function(X[test])
    losses = [log_loss(Y[test], softmax(scores / t, 1)) for t in np.geomspace(1e-3, 10, 200)]
    assert log_loss(Y[test], model.predict_proba(X[test])) < 1.1 * min(losses)
