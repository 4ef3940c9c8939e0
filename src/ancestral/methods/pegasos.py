"""Linear support vector machines by stochastic subgradients: Pegasos, and the authors' variant."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from ancestral import engine
from ancestral.data import Data
from ancestral.estimator import draw_seed
from ancestral.fields import Count, Positive, RandomState, check
from ancestral.labels import linear_scores
from ancestral.models import FeatureModel
from ancestral.networks import Read
from ancestral.objectives import gaussian_prior, hinge
from ancestral.optim import Optimizer, adagrad, inverse, sgd
from ancestral.train import Player, train

Rule = Literal["pegasos", "adagrad"]
Solver = Literal["pegasos", "adagrad", "liblinear"]


def linear_svm(
    x: Tensor,
    y: Tensor,
    n_classes: int,
    *,
    rule: Rule = "pegasos",
    regularization: float = 1e-4,
    margin: float = 1.0,
    n_steps: int | None = None,
    batch_size: int = 100,
    random_state: int = 0,
) -> nn.Linear:
    """Minimise lambda / 2 |W|^2 + mean hinge(W x, y) over W, without intercept.

    Parameters
    ----------
    x : Tensor [n, d]
        Features.
    y : Tensor [n]
        Classes from 0.
    n_classes : int
        How many.
    rule : {"pegasos", "adagrad"}
        Steps of 1 / (lambda t) (Shalev-Shwartz et al., 2011), or AdaGrad at a rate of 0.1, as the
        max-margin models' code has it.
    regularization : float
        lambda.
    margin : float
        Of the multi-class hinge.
    n_steps : int, optional
        By default 20 / lambda.
    batch_size, random_state : int
        Rows a step; seed of their order.

    Returns
    -------
    Linear
        Weights [n_classes, d].
    """
    with engine.private_randomness(x.device), engine.single_precision():
        scores = linear_scores(x.shape[1], n_classes, bias=False)
        model = FeatureModel(Read("x"), scores).to(x.device)
    features = hinge(1.0, margin, lambda run: run.taps["features"])
    objective = features + gaussian_prior(regularization)
    rules: dict[str, Optimizer] = {
        "pegasos": sgd(inverse(regularization)),
        "adagrad": adagrad(0.1, eps=1e-4),
    }
    steps = math.ceil(20 / regularization) if n_steps is None else n_steps
    train(
        model,
        Player(model, objective, rules[rule]),
        Data(x.float(), y, device=x.device),
        max_epochs=steps,
        max_steps=steps,
        batch_size=batch_size,
        random_state=random_state,
        precision="float32",
    )
    return scores


HINTS = {
    "regularization": Positive,
    "margin": Positive,
    "rule": Rule,
    "n_steps": Count | None,
    "batch_size": Count,
    "random_state": RandomState,
}


class Pegasos(ClassifierMixin, BaseEstimator):
    """Multi-class linear support vector machine by Pegasos, without intercept.

    Parameters
    ----------
    regularization : float
        lambda.
    margin : float
        Of Crammer and Singer's hinge.
    rule : {"pegasos", "adagrad"}
        See :func:`linear_svm`.
    n_steps : int, optional
        By default 20 / lambda.
    batch_size : int
        Rows a step.
    random_state : int, RandomState, Generator or None
        Of the order of rows.

    Attributes
    ----------
    classes_ : array [n_classes]
        What ``predict`` answers.
    coef_ : array [n_classes, n_features]
        W.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> Pegasos(regularization=1e-1, random_state=0).fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    def __init__(
        self,
        regularization: float = 1e-4,
        margin: float = 1.0,
        rule: Rule = "pegasos",
        n_steps: int | None = None,
        batch_size: int = 100,
        random_state: RandomState = None,
    ) -> None:
        self.regularization, self.margin, self.rule = regularization, margin, rule
        self.n_steps, self.batch_size, self.random_state = n_steps, batch_size, random_state

    def fit(self, X: Any, y: Any) -> Pegasos:
        """Learn from rows [n_samples, n_features] and their classes [n_samples].

        Raises
        ------
        ValueError
            If a parameter or the input is not what it should be.
        """
        for name, hint in HINTS.items():
            check(name, getattr(self, name), hint)
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: Pegasos tells classes apart and found 1 class: {self.classes_}")
        seed = draw_seed(self.random_state)
        learned = linear_svm(
            torch.tensor(X),
            torch.tensor(codes),
            len(self.classes_),
            rule=self.rule,
            regularization=self.regularization,
            margin=self.margin,
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            random_state=seed,
        )
        self.coef_ = learned.weight.detach().double().numpy()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores [n_samples, n_classes]; of two classes the second less the first."""
        check_is_fitted(self)
        scores = validate_data(self, X, reset=False) @ self.coef_.T
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of every row, [n_samples]."""
        scores = self.decision_function(X)
        chosen = (scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)
        return self.classes_[chosen]


def svm(solver: Solver, n_rows: int = 60_000, regularization: float = 1e-4) -> Any:
    """Return a linear support vector machine to be fitted, by that solver.

    Parameters
    ----------
    solver : {"pegasos", "adagrad", "liblinear"}
        Rules of :class:`Pegasos`, or scikit-learn's ``LinearSVC`` by Crammer and Singer.
    n_rows : int
        Rows it will be fitted to: liblinear's C is 1 / (lambda n).
    regularization : float
        lambda.

    Examples
    --------
    >>> svm("pegasos")
    Pegasos(random_state=0)
    """
    from sklearn.svm import LinearSVC

    if solver == "liblinear":
        c = 1 / (regularization * n_rows)
        return LinearSVC(C=c, multi_class="crammer_singer", max_iter=100_000, random_state=0)
    return Pegasos(rule=solver, regularization=regularization, random_state=0)
