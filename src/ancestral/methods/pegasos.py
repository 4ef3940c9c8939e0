"""Linear support vector machines by stochastic subgradients: Pegasos, and the authors' variant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ancestral.fields import Count, Positive, RandomState, check, draw_seed
from ancestral.networks import one_hot
from ancestral.optim import Optimizer, adagrad, inverse, sgd

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
) -> Tensor:
    """Minimise lambda / 2 |W|^2 + mean hinge(W x, y) over W, without intercept.

    A subgradient of so small a problem is two products by hand: hundreds of thousands of steps
    take seconds.

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
    Tensor [n_classes, d]
        W, from zero.
    """
    check("rule", rule, Rule)
    rules: dict[str, Optimizer] = {
        "pegasos": sgd(inverse(regularization)),
        "adagrad": adagrad(0.1, eps=1e-4),
    }
    optimizer = rules[rule]
    steps = math.ceil(20 / regularization) if n_steps is None else n_steps
    x = x.float()
    true = one_hot(y, n_classes).to(x)
    w = x.new_zeros(n_classes, x.shape[1])
    flat = w.view(-1)
    state = optimizer.init(flat, [w.shape])
    orders = _orders(len(x), batch_size, random_state, x.device)
    for step, rows in enumerate(islice(orders, steps)):
        gradient = hinge_slope(w, x[rows], true[rows], margin).add_(w, alpha=regularization)
        optimizer.update(flat, gradient.view(-1), state, optimizer.rates(step, steps))
    return w


def hinge_slope(w: Tensor, x: Tensor, true: Tensor, margin: float) -> Tensor:
    """Return a subgradient by W of the mean hinge, [classes, d]; wrong classes that tie share it.

    Parameters
    ----------
    w : Tensor [classes, d]
        Weights.
    x : Tensor [n, d]
        Features.
    true : Tensor [n, classes]
        Classes, one-hot.
    margin : float
        The cost of a wrong class.

    Examples
    --------
    >>> hinge_slope(torch.zeros(2, 1), torch.ones(1, 1), torch.tensor([[1.0, 0.0]]), 1.0)
    tensor([[-1.],
            [ 1.]])
    """
    costs = torch.add(x @ w.T, 1 - true, alpha=margin)
    worst = (costs == costs.amax(-1, keepdim=True)).to(x.dtype)
    return (worst / worst.sum(-1, keepdim=True) - true).T @ x / len(x)


def _orders(n: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the rows of one batch after the other, shuffled anew in every pass."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).to(device).split(batch_size)


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
        The classes, sorted, as ``predict`` returns them.
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
        self.coef_ = learned.double().numpy()
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

    check("solver", solver, Solver)
    if solver == "liblinear":
        c = 1 / (regularization * n_rows)
        return LinearSVC(C=c, multi_class="crammer_singer", max_iter=100_000, random_state=0)
    return Pegasos(rule=solver, regularization=regularization, random_state=0)


def name_of(classifier: Any) -> str:
    """Return what records call a linear machine: its class, or its rule where that has a name.

    Examples
    --------
    >>> name_of(svm("pegasos")), name_of(svm("adagrad")), name_of(svm("liblinear"))
    ('Pegasos', 'AdaGrad', 'LinearSVC')
    """
    rule = getattr(classifier, "rule", None)
    return "AdaGrad" if rule == "adagrad" else type(classifier).__name__
