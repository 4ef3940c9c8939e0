"""Classes: what labels stand for, and estimators that tell them apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch import Tensor, nn

from ancestral.data import Batch, Data
from ancestral.datasets.core import UNLABELLED as UNLABELLED
from ancestral.datasets.core import has_label as has_label
from ancestral.networks import one_hot
from ancestral.preprocess import Columns


def class_name(value: object) -> str:
    """Return what a class is called that has no other name.

    Examples
    --------
    >>> class_name(5), class_name(5.0), class_name("cat"), class_name(np.True_)
    ('5', '5', 'cat', 'true')
    """
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def class_names(estimator: Any) -> list[str]:
    """Return what the classes of a fitted estimator are called, in the order of ``classes_``."""
    named = getattr(estimator, "class_names_", None)
    return [class_name(c) for c in estimator.classes_] if named is None else list(named)


class LabelLearner:
    """An estimator that learns from the classes of rows."""

    def _learn_classes(self, y: Any, n_rows: int) -> np.ndarray:
        """Return the classes as codes from 0, unlabelled rows as -1."""
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        if len(y) != n_rows:
            check_consistent_length(np.empty(n_rows), y)
        known = has_label(y)
        odd = [v for v in y[known] if not isinstance(v, str)] if y.dtype.kind == "O" else []
        if len(odd) not in (0, known.sum()):
            raise ValueError(
                f"y: text beside {odd[0]!r}: expected whole numbers or text, and "
                f"{UNLABELLED} for rows without a label"
            )
        try:
            check_classification_targets(y[known])
        except ValueError as error:
            reason = str(error).split(". ")[0]
            raise ValueError(
                f"y: {reason}. {name} tells classes apart: expected whole numbers or text"
            ) from None
        self.classes_ = np.unique(y[known])
        if len(self.classes_) < 2:
            raise ValueError(
                f"y: {name} needs two classes and found {len(self.classes_)} class in "
                f"{int(known.sum())} labelled rows ({UNLABELLED} = unlabelled)"
            )
        codes = np.full(n_rows, UNLABELLED)
        codes[known] = np.searchsorted(self.classes_, y[known])
        return codes

    def _one_hot(self, y: Any, n: int, device: torch.device) -> Tensor:
        """Return the classes of n rows to draw, or the one of all of them, [n, n_classes].

        Raises
        ------
        ValueError
            If a class is unknown, or there are more or fewer than rows.
        """
        classes = np.asarray(self.classes_)
        if np.shape(y) not in ((), (n,)):
            raise ValueError(f"y has the shape {np.shape(y)}: expected one class, or {n} of them")
        wanted = np.broadcast_to(np.asarray(y), (n,))
        unknown = sorted({class_name(c) for c in wanted if c not in classes})
        if unknown:
            raise ValueError(
                f"y: unknown classes {', '.join(unknown)}; the model knows "
                f"{', '.join(map(class_name, classes))}"
            )
        codes = torch.from_numpy(np.searchsorted(classes, wanted)).to(device)
        return one_hot(codes, len(classes))

    if TYPE_CHECKING:
        classes_: np.ndarray


class TargetLearner:
    """An estimator that learns real-valued targets of rows, standardised inside or in [0, 1]."""

    bounded: bool = False

    _several_targets: ClassVar[bool] = True
    """Whether a row may have more than one."""

    _for_classes: ClassVar[str] = "NetworkClassifier"
    """What learns classes instead, of the same family where there is one."""

    def _learn_targets(self, y: Any, n_rows: int) -> np.ndarray:
        """Return the targets [n, n_targets] with mean zero and variance one, bounded ones as is."""
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        try:
            checked = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(
                f"y: {error}. {name} learns numbers; the one that learns classes is "
                f"{self._for_classes}"
            ) from None
        if not self._several_targets:
            checked = self._only_target(checked)
        if len(checked) != n_rows:
            check_consistent_length(np.empty(n_rows), checked)
        self.one_target_ = checked.ndim == 1
        targets = checked.reshape(n_rows, -1)
        location, scale = targets.mean(0), targets.std(0)
        if self.bounded:
            if targets.min() < 0 or targets.max() > 1:
                raise ValueError(
                    f"bounded=True: expected targets in [0, 1], and y reaches from "
                    f"{targets.min():g} to {targets.max():g}"
                )
            location, scale = np.zeros_like(location), np.zeros_like(scale)
        self.target_location_ = location.tolist()
        self.target_scale_ = np.where(scale > 0, scale, 1.0).tolist()
        standard = (targets - np.array(self.target_location_)) / np.array(self.target_scale_)
        return standard.astype(np.float32)

    def _only_target(self, y: np.ndarray) -> np.ndarray:
        """Return the target of every row, [n], of what may be a single column."""
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(
                f"y: expected one target a row, [n_samples], and got {y.shape[1]} columns: fit a "
                f"{type(self).__name__} to each"
            )
        return column_or_1d(y, warn=True)

    def log_density(self, X: Any, y: Any) -> np.ndarray:
        """Return log p(y | x) of every row, [n_samples], nats, in the units of the targets.

        p(y | x) is normal, with the mean and the standard deviation that ``predict`` returns.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        y : array-like [n_samples] or [n_samples, n_targets]
            Their targets.

        Raises
        ------
        ValueError
            If predictions have no spread.
        """
        found = self.predict(X, return_std=True)  # type: ignore[attr-defined]
        mean, std = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in found)
        if not (std > 0).all():
            raise ValueError(
                f"{type(self).__name__} predicts without a spread (n_noise=0 draws the same again "
                "and again), which is no density"
            )
        away = (np.asarray(y, dtype=np.float64).reshape(mean.shape) - mean) / std
        return -(0.5 * np.square(away) + np.log(std) + 0.5 * np.log(2 * np.pi)).sum(1)

    def __sklearn_tags__(self) -> Any:
        """Targets may mostly be several."""
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.multi_output = self._several_targets
        return tags

    if TYPE_CHECKING:
        one_target_: bool
        target_location_: list[float]
        target_scale_: list[float]


def check_labelled(estimator: LabelLearner, y: Tensor | None) -> None:
    """Refuse unlabelled rows, for what can't learn from them.

    Raises
    ------
    ValueError
        If there are some.
    """
    n = 0 if y is None else int((y < 0).sum())
    if n:
        raise ValueError(
            f"y: {n} rows are unlabelled ({UNLABELLED}) and {type(estimator).__name__} learns from "
            "labelled rows only: leave them out"
        )


class ClassLearner(LabelLearner, ABC):
    """What every classifier of rows can do once it is fitted.

    A row's class is the one of the greatest score. Probabilities are the softmax of scores over a
    temperature, the one number that is fitted after training, to the held-out rows if there are
    some (``validation_fraction``), else to the training rows, by maximum likelihood (Guo, Pleiss,
    Sun and Weinberger, 2017). It changes no decision.
    """

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the scores [n_samples, n_classes]; of two classes the second less the first, [n].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry, which the network sees as zero.
        """
        scores = self._map_rows(X, self._scores)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the class of every row, [n_samples]."""
        chosen = self._map_rows(X, self._scores).argmax(1)
        return self.classes_[chosen]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities of the classes, [n_samples, n_classes]."""
        scaled = self._map_rows(X, self._scores).astype(np.float64) / self.temperature_
        odds = np.exp(scaled - scaled.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    @abstractmethod
    def _scores(self, batch: Batch) -> Tensor:
        """Return a score for every class, [batch, n_classes]."""

    @abstractmethod
    def _learn_scores(self, data: Data) -> None:
        """Fit what of the scores was not fitted with the rest."""

    @torch.no_grad()
    def _learn_temperature(self, training: Data, held_out: Data | None) -> None:
        """Fit the temperature to labelled rows, as they are when they are to be classified.

        Held-out ones, if there are some; at most 10,000, taken evenly.
        """
        apart = held_out is not None and held_out.y is not None and bool((held_out.y >= 0).any())
        data = held_out if apart and held_out is not None else training
        assert data.y is not None
        labelled = torch.nonzero(data.y >= 0).flatten()
        evenly = torch.linspace(0, len(labelled) - 1, min(TEMPERED, len(labelled)))
        labelled = labelled[evenly.long().to(labelled.device)]
        rows = data.subset(labelled.cpu().numpy()).seen_as(self.columns_.to_model)
        parts = [self._scores(batch)[:n].double().cpu() for batch, n in rows.chunks(CHUNK)]
        self.temperature_ = temperature(torch.cat(parts).numpy(), data.y[labelled].cpu().numpy())

    if TYPE_CHECKING:
        temperature_: float
        columns_: Columns

        def _map_rows(self, X: Any, function: Any) -> np.ndarray: ...


class LinearScores(ClassLearner, ABC):
    """Classes whose scores are linear in features of a row: ``model_.classifier`` on them."""

    def features_of(self, X: Any) -> np.ndarray:
        """Return what the scores are linear in, [n_samples, n_features]: for a second stage.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry, which the network sees as zero.
        """
        return self._map_rows(X, self._features)

    @abstractmethod
    def _features(self, batch: Batch) -> Tensor:
        """Return [batch, n_features]."""

    def _scores(self, batch: Batch) -> Tensor:
        return self._linear(self._features(batch))

    @property
    def _linear(self) -> nn.Linear:
        classifier = getattr(self, "model_").classifier  # noqa: B009
        assert isinstance(classifier, nn.Linear)
        return classifier


def linear_scores(n_features: int, n_classes: int, scale: float = 0.0) -> nn.Linear:
    """Return a linear map from features to scores that starts at zero, or normal of that scale."""
    classifier = nn.Linear(n_features, n_classes)
    for parameter in classifier.parameters():
        nn.init.normal_(parameter, std=scale) if scale > 0 else nn.init.zeros_(parameter)
    return classifier


CHUNK, TEMPERED = 1024, 10_000
"""Rows scored at once, and at most, when the temperature is fitted."""


def temperature(scores: Float[np.ndarray, "n classes"], y: Int[np.ndarray, " n"]) -> float:
    """T that makes softmax(scores / T) likeliest; the log-likelihood is concave in 1 / T.

    Where every row is right no T is best: it is held above 1e-2 of the scores' spread, and below
    1e4 times it where scores tell nothing.

    Examples
    --------
    >>> scores = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]] * 5))
    >>> y = np.array([0, 0, 1, 1] * 4 + [0, 1, 0, 1])  # nine of ten are right
    >>> round(temperature(3 * scores, y), 3)
    3.0
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    spread = float(scores.std()) or 1.0
    scaled, rows = scores / spread, np.arange(len(y))

    def nll(log_t: float) -> float:
        z = scaled / np.exp(log_t)
        return float((logsumexp(z, axis=1) - z[rows, y]).mean())

    found = minimize_scalar(nll, bounds=(np.log(1e-2), np.log(1e4)), method="bounded")
    return spread * float(np.exp(found.x))
