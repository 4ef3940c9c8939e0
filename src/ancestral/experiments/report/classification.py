"""Classification of test rows: error rate, confusion matrix, calibration and errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ancestral.estimators.base.supervised import ClassifierBase
from ancestral.evaluation.metrics import classification_errors
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    Chart,
    HeadlineNumber,
    Section,
    format_count,
    format_number,
)
from ancestral.experiments.report.figures import INK, MODEL, MUTED, draw_svg, image_row_grid

MAX_ERRORS, N_BINS, N_LISTED = 28, 10, 6


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labelled rows with predicted class probabilities.

    Attributes
    ----------
    x, y : arrays [n, d] and [n]
        Rows and true classes.
    probabilities : array [n, n_classes]
        Predicted class probabilities.
    classes : array [n_classes]
        Class labels, sorted.
    names : list of str
        Names of the classes.
    """

    x: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray
    classes: np.ndarray
    names: list[str]

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class of each row, [n]."""
        return self.classes[self.probabilities.argmax(1)]

    @property
    def is_error(self) -> np.ndarray:
        """Whether the predicted class of each row is wrong, [n]."""
        return self.predicted != self.y


def headline(context: ReportContext) -> list[HeadlineNumber]:
    """Error rate; empty for estimators that are not classifiers."""
    y = _true_classes(context)
    if y is None:
        return []
    assert isinstance(context.estimator, ClassifierBase)
    errors = classification_errors(context.estimator.predict(context.x), y)
    note = f"± {format_number(errors.standard_error)}% (standard error)"
    label = f"{context.split} error rate"
    return [HeadlineNumber(errors.percent, f"{format_number(errors.percent)}%", label, note)]


def sections(context: ReportContext) -> list[Section]:
    """Section on classification; empty for estimators that are not classifiers."""
    y = _true_classes(context)
    if y is None:
        return []
    predictions = _predict(context, y)
    n_errors = int(predictions.is_error.sum())
    paragraphs = [
        f"{n_errors:,} of {format_count(len(predictions.y), f'{context.split} row')} are "
        "misclassified. The confusion matrix has a row for each true class and a column for each "
        "predicted class; correct predictions are on the diagonal.",
        "The calibration curve compares the predicted probability with the fraction of correct "
        "predictions: equal on the diagonal, overconfident below it.",
    ]
    charts = [_confusion_matrix(predictions), _calibration_curve(predictions)]
    if context.image_shape is not None and n_errors:
        charts.append(_errors(context, predictions))
        paragraphs.append("The images below are the errors with the highest probability.")
    return [Section("classification", "Classification", paragraphs, charts)]


def _true_classes(context: ReportContext) -> np.ndarray | None:
    """True classes of the rows; None if they are absent or the estimator is no classifier."""
    y = context.y
    if not isinstance(context.estimator, ClassifierBase) or y is None or y.dtype.kind != "i":
        return None
    return y if np.isin(y, context.estimator.classes_).any() else None


def _predict(context: ReportContext, y: np.ndarray) -> Predictions:
    """Predictions for the rows whose class occurs in training."""
    assert isinstance(context.estimator, ClassifierBase)
    classes = context.estimator.classes_
    rows = np.isin(y, classes)
    x = context.x[rows]
    probabilities = context.estimator.predict_proba(x)
    return Predictions(x, y[rows], probabilities, classes, context.class_names(classes))


def _confusion_matrix(predictions: Predictions) -> Chart:
    n, names = len(predictions.classes), predictions.names
    counts = np.zeros((n, n))
    true = np.searchsorted(predictions.classes, predictions.y)
    np.add.at(counts, (true, predictions.probabilities.argmax(1)), 1)
    fractions = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(np.sqrt(fractions), cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(counts > 0):
            colour = "#ffffff" if fractions[i, j] > 0.4 else "#22303c"
            axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", color=colour,
                      fontsize=7)  # fmt: skip
        rotation = 0 if max(map(len, names)) <= 3 else 90
        axes.set_xticks(range(n), names, fontsize=8, rotation=rotation)
        axes.set_yticks(range(n), names, fontsize=8)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.tick_params(length=0, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return Chart(
        alt=f"Confusion matrix of true and predicted classes of {len(predictions.y)} rows.",
        caption=f"Confusion matrix: number of rows by true and predicted class, "
        f"{format_count(len(predictions.y), 'row')}.",
        svg=draw_svg("confusion", 4.0, 3.9, paint),
        size="half",
    )


def _calibration_curve(predictions: Predictions) -> Chart:
    confidence, correct = predictions.probabilities.max(1), ~predictions.is_error
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(N_BINS, len(confidence)))
    points = [(confidence[b].mean(), correct[b].mean()) for b in bins]
    difference = float(np.mean([abs(p - accuracy) for p, accuracy in points]))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        axes.plot(*zip(*points, strict=True), color=MODEL, marker="o", markersize=4)
        low = min(0.5, *(min(point) for point in points))
        axes.set_xlim(low - 0.02, 1.02)
        axes.set_ylim(low - 0.02, 1.02)
        axes.set_xlabel("probability of the predicted class")
        axes.set_ylabel("fraction correct")
        axes.tick_params(length=2)

    return Chart(
        alt="Line chart of the fraction of correct predictions by predicted probability; mean "
        f"absolute difference {difference:.3f}.",
        caption=f"Calibration curve, {len(bins)} bins of equal size; mean absolute difference "
        f"from the diagonal {difference:.3f}.",
        svg=draw_svg("calibration", 4.0, 3.9, paint),
        size="half",
    )


def _errors(context: ReportContext, predictions: Predictions) -> Chart:
    """Images of the errors with the highest predicted probability."""
    names = dict(zip(predictions.classes.tolist(), predictions.names, strict=True))
    errors = np.flatnonzero(predictions.is_error)
    confidence = predictions.probabilities[errors].max(1)
    chosen = errors[np.argsort(-confidence, kind="stable")][:MAX_ERRORS]
    pairs = [
        f"{names[int(predictions.y[i])]} as {names[int(predictions.predicted[i])]}"
        for i in chosen[:N_LISTED]
    ]
    listed = "; ".join(pairs) + ("." if len(chosen) <= N_LISTED else "; and others.")
    return Chart(
        alt=f"{format_count(len(chosen), 'misclassified image')}.",
        caption=f"Errors by decreasing probability. True class and prediction, in order: {listed}",
        png=image_row_grid(context, predictions.x[chosen], MAX_ERRORS // 2),
    )
