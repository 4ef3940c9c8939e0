"""Linear support vector machines by stochastic subgradients: Pegasos, and a variant by AdaGrad."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.data.columns import ColumnFeatures
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.supervised import MAX_CALIBRATION_ROWS, LinearClassifierBase
from ancestral.evaluation.calibration import fit_temperature, out_of_fold_scores
from ancestral.models.deterministic import FeatureModel
from ancestral.nn import one_hot
from ancestral.objectives import hinge_loss
from ancestral.training import History
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.optim import Optimizer, adagrad, inverse, sgd
from ancestral.utils.validation import Count, Positive, check_field

Rule = Literal["pegasos", "adagrad"]

Solver = Literal["pegasos", "adagrad", "liblinear"]


def fit_linear_svm(
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
    """Minimise lambda / 2 |W|^2 + mean hinge(W x, y) over W, without intercept, from W = 0.

    The subgradient is computed by hand with two matrix products, so that hundreds of thousands of
    steps take seconds.

    Parameters
    ----------
    x : Tensor [n, d]
        Features.
    y : Tensor [n]
        Class indices from 0.
    n_classes : int
        Number of classes.
    rule : {"pegasos", "adagrad"}
        Update rule: step sizes 1 / (lambda t) (Shalev-Shwartz et al., 2011), or AdaGrad with
        learning rate 0.1, as in the code of the max-margin models.
    regularization : float
        lambda > 0.
    margin : float
        Cost of a wrong class in the multi-class hinge.
    n_steps : int, optional
        Number of steps; 20 / lambda by default.
    batch_size, random_state : int
        Number of samples per step; seed of their order.

    Returns
    -------
    Tensor [n_classes, d]
        W.
    """
    check_field("rule", rule, Rule)
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
    batches = _batch_indices(len(x), batch_size, random_state, x.device)
    for step, index in enumerate(islice(batches, steps)):
        gradient = hinge_subgradient(w, x[index], true[index], margin).add_(w, alpha=regularization)
        optimizer.update(flat, gradient.view(-1), state, optimizer.rates(step, steps))
    return w


def hinge_subgradient(w: Tensor, x: Tensor, true: Tensor, margin: float) -> Tensor:
    """Subgradient of the mean multi-class hinge with respect to W, [classes, d].

    Classes of equal maximal cost share it equally.

    Parameters
    ----------
    w : Tensor [classes, d]
        Weights.
    x : Tensor [n, d]
        Features.
    true : Tensor [n, classes]
        One-hot classes.
    margin : float
        Cost of a wrong class.

    Examples
    --------
    >>> hinge_subgradient(torch.zeros(2, 1), torch.ones(1, 1), torch.tensor([[1.0, 0.0]]), 1.0)
    tensor([[-1.],
            [ 1.]])
    """
    costs = torch.add(x @ w.T, 1 - true, alpha=margin)
    worst = (costs == costs.amax(-1, keepdim=True)).to(x.dtype)
    return (worst / worst.sum(-1, keepdim=True) - true).T @ x / len(x)


def _batch_indices(n: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Yield sample indices batch by batch, without end, reshuffled in every pass."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).to(device).split(batch_size)


class Pegasos(ClassifierMixin, LinearClassifierBase):
    """Multi-class linear support vector machine by Pegasos, without intercept.

    Columns are used as given, not standardised. Training takes seconds and has no checkpoints.

    Parameters
    ----------
    regularization : float
        lambda > 0.
    margin : float
        Cost of a wrong class in the hinge of Crammer and Singer.
    rule : {"pegasos", "adagrad"}
        Update rule; see :func:`fit_linear_svm`.
    n_steps : int, optional
        Number of steps; 20 / lambda by default.
    batch_size : int
        Number of samples per step.
    likelihood : {"gaussian"}
        All columns are real numbers.

    Attributes
    ----------
    classes_ : array [n_classes]
        Sorted class labels. All labels are classes, -1 too.
    coef_ : array [n_classes, n_features]
        W.
    temperature_ : float
        Divisor of the scores in ``predict_proba``, fitted to the scores of a 3-fold
        cross-validation (to the training rows if a class has fewer than three rows).

    References
    ----------
    Pegasos: primal estimated sub-gradient solver for SVM (Shalev-Shwartz, Singer, Srebro and
    Cotter), Mathematical Programming 127, 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> Pegasos(regularization=1e-1, random_state=0).fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    regularization: Positive = 1e-4
    margin: Positive = 1.0
    rule: Rule = "pegasos"
    n_steps: Count | None = None
    batch_size: Count = 100
    likelihood: Literal["gaussian"] = "gaussian"

    _supports_missing = False
    _standardizes = False
    _semi_supervised = False

    @property
    def coef_(self) -> np.ndarray:
        """W, [n_classes, n_features]."""
        return self._linear.weight.detach().cpu().double().numpy()

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        linear = nn.Linear(columns.n_features, len(self.classes_), bias=False)
        return {"columns_": columns, "model_": FeatureModel(ColumnFeatures(columns), linear)}

    @torch.no_grad()
    def _fit_model(self, data: DeviceData, checkpoint: Checkpoint | None) -> None:  # noqa: ARG002
        batch = data.batch_at(torch.arange(len(data), device=data.device))
        assert batch.y is not None
        weights = self._fit_weights(batch.x, batch.y, self.n_steps)
        self._linear.weight.copy_(weights)
        scores = self._linear(batch.x)
        loss = hinge_loss(scores, batch.y, self.margin).mean()
        penalty = self.regularization / 2 * weights.square().sum()
        self.history_ = History([{"epoch": 1, "loss": float(loss + penalty)}])
        self._after_training(data, None)

    def _fit_weights(self, x: Tensor, y: Tensor, n_steps: int | None) -> Tensor:
        """Return W, [n_classes, n_features], of rows x and class codes y."""
        return fit_linear_svm(
            x,
            y,
            len(self.classes_),
            rule=self.rule,
            regularization=self.regularization,
            margin=self.margin,
            n_steps=n_steps,
            batch_size=self.batch_size,
            random_state=self.seed_,
        )

    def _fit_temperature(self, training: DeviceData, held_out: DeviceData | None) -> None:
        """Fit the temperature to out-of-fold scores of at most 10,000 rows, evenly spaced."""
        n = len(training)
        evenly = torch.linspace(0, n - 1, min(MAX_CALIBRATION_ROWS, n)).long()
        batch = training.batch_at(evenly.to(training.device))
        x, y = batch.x, batch.y
        assert y is not None
        n_steps = min(self.n_steps or math.ceil(20 / self.regularization), MAX_FOLD_STEPS)

        def scores_without(train: np.ndarray, scored: np.ndarray) -> np.ndarray:
            weights = self._fit_weights(x[train], y[train], n_steps)
            return (x[scored] @ weights.T).double().numpy(force=True)

        codes = y.numpy(force=True)
        scores = out_of_fold_scores(scores_without, codes)
        if scores is None:
            super()._fit_temperature(training, held_out)
        else:
            self.temperature_ = fit_temperature(scores, codes)

    def _features(self, batch: Batch) -> Tensor:
        return batch.x


MAX_FOLD_STEPS = 20_000
"""Greatest number of steps of a fit without a fold, whose scores set the temperature."""


def make_linear_svm(solver: Solver, n_rows: int = 60_000, regularization: float = 1e-4) -> Any:
    """Build an unfitted linear support vector machine.

    Parameters
    ----------
    solver : {"pegasos", "adagrad", "liblinear"}
        Update rule of :class:`Pegasos`, or scikit-learn's ``LinearSVC`` with the hinge of Crammer
        and Singer.
    n_rows : int
        Number n of training samples, which sets liblinear's C = 1 / (lambda n).
    regularization : float
        lambda > 0.

    Examples
    --------
    >>> make_linear_svm("pegasos")
    Pegasos(random_state=0)
    """
    from sklearn.svm import LinearSVC

    check_field("solver", solver, Solver)
    if solver == "liblinear":
        c = 1 / (regularization * n_rows)
        return LinearSVC(C=c, multi_class="crammer_singer", max_iter=100_000, random_state=0)
    return Pegasos(rule=solver, regularization=regularization, random_state=0)


def solver_name(classifier: Any) -> str:
    """Name of a linear classifier in records: ``AdaGrad`` for that rule, else its class name.

    Examples
    --------
    >>> [solver_name(make_linear_svm(solver)) for solver in ("pegasos", "adagrad", "liblinear")]
    ['Pegasos', 'AdaGrad', 'LinearSVC']
    """
    rule = getattr(classifier, "rule", None)
    return "AdaGrad" if rule == "adagrad" else type(classifier).__name__
