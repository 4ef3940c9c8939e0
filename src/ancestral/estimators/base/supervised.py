"""Base classes of supervised estimators: classifiers, regressors, and functions of their labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy.special import softmax
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, column_or_1d
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.data.labels import UNLABELLED, class_name, has_label
from ancestral.estimators.base.estimator import Estimator
from ancestral.evaluation.calibration import fit_temperature
from ancestral.nn import one_hot
from ancestral.utils.hooks import hook


def class_names(estimator: Any) -> list[str]:
    """Return the display names of the classes of a fitted estimator, ordered as ``classes_``."""
    names = getattr(estimator, "class_names_", None)
    return [class_name(c) for c in estimator.classes_] if names is None else list(names)


def encode_classes(
    y: Any, n_rows: int, name: str, *, unlabelled: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted classes and the class codes [n_rows], -1 where unlabelled.

    Parameters
    ----------
    y : array-like [n_rows]
        Labels: whole numbers or text; -1 = unlabelled.
    n_rows : int
        Number of rows of X.
    name : str
        Class name of the estimator, for messages.
    unlabelled : bool
        Whether -1 marks an unlabelled row; otherwise it is a class.

    Raises
    ------
    ValueError
        If ``y`` is missing, has another length, mixes text and numbers, is continuous, or has
        fewer than two classes.
    """
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y")
    if len(y) != n_rows:
        check_consistent_length(np.empty(n_rows), y)
    labelled = has_label(y) if unlabelled else np.ones(n_rows, dtype=bool)
    numbers = [v for v in y[labelled] if not isinstance(v, str)] if y.dtype.kind == "O" else []
    if len(numbers) not in (0, labelled.sum()):
        raise ValueError(
            f"y: text beside {numbers[0]!r}: expected whole numbers or text, and "
            f"{UNLABELLED} for rows without a label"
        )
    try:
        check_classification_targets(y[labelled])
    except ValueError as error:
        reason = str(error).split(". ")[0]
        raise ValueError(
            f"y: {reason}. {name} is a classifier: expected whole numbers or text"
        ) from None
    classes = np.unique(y[labelled])
    if len(classes) < 2:
        raise ValueError(
            f"y: {name} needs two classes and found {len(classes)} class in "
            f"{int(labelled.sum())} labelled rows"
            + (f" ({UNLABELLED} = unlabelled)" if unlabelled else "")
        )
    codes = np.full(n_rows, UNLABELLED)
    codes[labelled] = np.searchsorted(classes, y[labelled])
    return classes, codes


def one_hot_classes(y: Any, n: int, classes: Any, device: torch.device) -> Tensor:
    """Return the one-hot classes of n rows to generate, [n, n_classes].

    Parameters
    ----------
    y : array-like [n], or a single label
        Classes of the rows.
    n : int
        Number of rows.
    classes : array-like [n_classes]
        Sorted classes of the model.
    device : torch.device
        Device of the result.

    Raises
    ------
    ValueError
        If a class is unknown, or the number of classes is not the number of rows.
    """
    classes = np.asarray(classes)
    if np.shape(y) not in ((), (n,)):
        raise ValueError(f"y has the shape {np.shape(y)}: expected one class, or {n} of them")
    labels = np.broadcast_to(np.asarray(y), (n,))
    unknown = sorted({class_name(c) for c in labels if c not in classes})
    if unknown:
        raise ValueError(
            f"y: unknown classes {', '.join(unknown)}; the classes of the model are "
            f"{', '.join(map(class_name, classes))}"
        )
    codes = torch.from_numpy(np.searchsorted(classes, labels)).to(device)
    return one_hot(codes, len(classes))


def check_labelled(estimator: object, codes: np.ndarray) -> None:
    """Refuse unlabelled rows, for estimators that cannot use them.

    Raises
    ------
    ValueError
        If a row is unlabelled.
    """
    n = int((codes < 0).sum())
    if n:
        raise ValueError(
            f"y: {n} rows are unlabelled ({UNLABELLED}). {type(estimator).__name__} needs labelled "
            "rows only: drop the others"
        )


class RegressorBase(Estimator, ABC):
    """A regressor whose targets are standardised inside, or lie in [0, 1].

    A subclass implements ``predict(X, return_std=False)``.
    """

    target_kind = "values"

    _multi_output: ClassVar[bool] = True
    """Whether a row may have several targets."""

    _classifier_name: ClassVar[str] = "NetworkClassifier"
    """Name of a classifier of the same family, for messages."""

    @property
    @hook
    def _targets_in_unit_interval(self) -> bool:
        """Whether targets lie in [0, 1] and are not standardised."""
        return False

    def _encode_targets(self, y: Any, n_rows: int) -> np.ndarray:
        """Return targets [n_rows, n_targets] with mean 0 and variance 1; bounded ones unchanged."""
        name = type(self).__name__
        if y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        try:
            checked = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(
                f"y: {error}. {name} is a regressor; for classes use {self._classifier_name}"
            ) from None
        if not self._multi_output:
            checked = self._single_target(checked)
        if len(checked) != n_rows:
            check_consistent_length(np.empty(n_rows), checked)
        self.one_target_ = checked.ndim == 1
        targets = checked.reshape(n_rows, -1)
        location, scale = self._location_and_scale(targets)
        self.target_location_ = location.tolist()
        self.target_scale_ = np.where(scale > 0, scale, 1.0).tolist()
        standard = (targets - np.array(self.target_location_)) / np.array(self.target_scale_)
        return standard.astype(np.float32)

    def _location_and_scale(self, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of targets; zeros for bounded ones, after a check."""
        location, scale = targets.mean(0), targets.std(0)
        if not self._targets_in_unit_interval:
            return location, scale
        if targets.min() < 0 or targets.max() > 1:
            raise ValueError(
                f"bounded=True: expected targets in [0, 1], got values from "
                f"{targets.min():g} to {targets.max():g}"
            )
        return np.zeros_like(location), np.zeros_like(scale)

    def _single_target(self, y: np.ndarray) -> np.ndarray:
        """Return the target of every row, [n], from a vector or a single column."""
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(
                f"y: expected one target a row, [n_samples], and got {y.shape[1]} columns: fit a "
                f"{type(self).__name__} to each"
            )
        return column_or_1d(y, warn=True)

    @abstractmethod
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the mean of p(y | x) for every row, and its standard deviation if asked."""

    def log_density(self, X: Any, y: Any) -> np.ndarray:
        """Return log p(y | x) of every row, [n_samples], nats, in the units of the targets.

        p(y | x) is normal, with the mean and the standard deviation of ``predict``.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        y : array-like [n_samples] or [n_samples, n_targets]
            Targets.

        Raises
        ------
        ValueError
            If the predicted standard deviation is zero.
        """
        mean, std = (
            np.asarray(v, dtype=np.float64).reshape(len(v), -1)
            for v in self.predict(X, return_std=True)
        )
        if not (std > 0).all():
            raise ValueError(
                f"{type(self).__name__} predicts without a spread, which is no density: "
                "its predictions are deterministic (n_noise=0)"
            )
        z = (np.asarray(y, dtype=np.float64).reshape(mean.shape) - mean) / std
        return -(0.5 * np.square(z) + np.log(std) + 0.5 * np.log(2 * np.pi)).sum(1)

    def __sklearn_tags__(self) -> Any:
        """Several targets are allowed for most regressors."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._multi_output
        return tags

    if TYPE_CHECKING:
        one_target_: bool = field(init=False)
        target_location_: list[float] = field(init=False)
        target_scale_: list[float] = field(init=False)


class ClassifierBase(Estimator, ABC):
    """A classifier that scores every class.

    The predicted class has the greatest score. Probabilities are the softmax of scores divided by
    a temperature, which is fitted after training by maximum likelihood with smoothed labels to the
    held-out rows if there are any (``validation_fraction``), otherwise to the training rows (Guo,
    Pleiss, Sun and Weinberger, 2017). Temperatures of training rows that a network has fitted are
    too low: set ``validation_fraction`` for calibrated probabilities. It changes no decision.

    A subclass implements ``_scores``.
    """

    target_kind = "classes"

    _semi_supervised: ClassVar[bool] = True
    """Whether -1 marks unlabelled rows; otherwise it is a class."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Return scores [n_samples, n_classes]; for two classes their difference, [n_samples].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry, which the network reads as zero.
        """
        scores = self._map_rows(X, self._scores)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted class of every row, [n_samples]."""
        best = self._map_rows(X, self._scores).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return calibrated probabilities of the classes, [n_samples, n_classes]."""
        scores = self._map_rows(X, self._scores).astype(np.float64) / self.temperature_
        return softmax(scores, axis=1)

    @abstractmethod
    def _scores(self, batch: Batch) -> Tensor:
        """Return a score for every class, [batch, n_classes]."""

    @hook
    def _fit_classifier(self, data: DeviceData) -> None:
        """Fit the parts of the classifier that are not trained with the model."""

    def _encode_targets(self, y: Any, n_rows: int) -> np.ndarray:
        """Set ``classes_`` and return class codes."""
        name = type(self).__name__
        self.classes_, codes = encode_classes(y, n_rows, name, unlabelled=self._semi_supervised)
        return codes

    def _after_training(self, training: DeviceData, held_out: DeviceData | None) -> None:
        """Fit the classifier and its temperature."""
        self._fit_classifier(training)
        self._fit_temperature(training, held_out)

    @hook
    @torch.no_grad()
    def _fit_temperature(self, training: DeviceData, held_out: DeviceData | None) -> None:
        """Fit the temperature to at most 10,000 labelled rows, evenly spaced."""
        usable = held_out is not None and held_out.y is not None and bool((held_out.y >= 0).any())
        data = held_out if usable and held_out is not None else training
        assert data.y is not None
        labelled = torch.nonzero(data.y >= 0).flatten()
        evenly = torch.linspace(0, len(labelled) - 1, min(MAX_CALIBRATION_ROWS, len(labelled)))
        labelled = labelled[evenly.long().to(labelled.device)]
        rows = data.subset(labelled.cpu().numpy()).with_transform(self.columns_.to_model_units)
        parts = [self._scores(batch)[:n].double().cpu() for batch, n in rows.padded_chunks(CHUNK)]
        self.temperature_ = fit_temperature(
            torch.cat(parts).numpy(), data.y[labelled].cpu().numpy()
        )

    if TYPE_CHECKING:
        temperature_: float = field(init=False)


class LinearClassifierBase(ClassifierBase, ABC):
    """A classifier whose scores are linear in features of a row: ``model_.classifier`` on them."""

    def features_of(self, X: Any) -> np.ndarray:
        """Return the features that scores are linear in, [n_samples, n_features].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry, which the network reads as zero.
        """
        return self._map_rows(X, self._features)

    @abstractmethod
    def _features(self, batch: Batch) -> Tensor:
        """Return the features of a batch, [batch, n_features]."""

    def _scores(self, batch: Batch) -> Tensor:
        return self._linear(self._features(batch))

    @property
    def _linear(self) -> nn.Linear:
        classifier = self.model_.classifier
        assert isinstance(classifier, nn.Linear)
        return classifier


def make_linear_classifier(n_features: int, n_classes: int, scale: float = 0.0) -> nn.Linear:
    """Return a linear map from features to scores, initialised at zero or N(0, scale^2)."""
    classifier = nn.Linear(n_features, n_classes)
    for parameter in classifier.parameters():
        nn.init.normal_(parameter, std=scale) if scale > 0 else nn.init.zeros_(parameter)
    return classifier


CHUNK, MAX_CALIBRATION_ROWS = 1024, 10_000
"""Rows scored at once, and greatest number of rows, when the temperature is fitted."""
