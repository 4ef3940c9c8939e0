"""What a regressor predicts, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.labels import TargetLearner
from ancestral.report.drawing import INK, MODEL, MUTED, draw
from ancestral.report.parts import Figure, Plate, Section, number, short
from ancestral.report.subject import Subject

DOTS = 600


def _predicted(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return targets, predictions and their spread; nothing for a model without one target."""
    estimator, y = subject.estimator, subject.y
    if not isinstance(estimator, TargetLearner) or y is None or not estimator.one_target_:
        return None
    mean, spread = subject.estimator.predict(subject.x, return_std=True)
    return y.astype(np.float64), mean, spread


def target_figure(subject: Subject) -> list[Figure]:
    """Return the error for the headline; nothing for a model without targets."""
    found = _predicted(subject)
    if found is None:
        return []
    y, mean, _ = found
    root = float(np.sqrt(np.square(mean - y).mean()))
    note = f"{short(float(y.std()))} for the mean of all {subject.split} targets"
    return [Figure(root, short(root), "root mean squared error", note)]


def targets(subject: Subject) -> list[Section]:
    """Return the section about predictions; nothing for a model without targets."""
    found = _predicted(subject)
    if found is None:
        return []
    y, mean, spread = found
    within = float((np.abs(mean - y) <= 2 * spread).mean())
    words = [
        "Every dot is a row: its true target from left to right, the mean of the model's draws "
        "upward, with a line over one standard deviation of the draws to either side. On the "
        "diagonal a prediction is right.",
        f"{number(100 * within, 0)} % of the targets lie within two standard deviations of the "
        "draws; of a model that knew how uncertain it is, with normal errors, 95 % would.",
    ]
    rows = np.sort(subject.noise(7).permutation(len(y))[:DOTS])

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        low, high = float(min(y.min(), mean.min())), float(max(y.max(), mean.max()))
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
        axes.errorbar(y[rows], mean[rows], yerr=spread[rows], fmt="none", ecolor=MUTED, lw=0.6)
        axes.scatter(y[rows], mean[rows], s=9, lw=0, color=MODEL)
        axes.set(xlabel="true", ylabel="predicted")

    plate = Plate(
        alt=f"Predicted against true targets of {len(rows)} {subject.split} rows.",
        caption=f"Predictions of {subject.split} rows",
        svg=draw("targets", 7.5, 4.0, paint),
    )
    return [Section("targets", "What it predicts", words, [plate])]
