"""What a regressor predicts, and how sure it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ancestral.estimators.base.supervised import RegressorBase
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import Figure, Plate, Section, count, number, short
from ancestral.experiments.report.figures import INK, MODEL, MUTED, draw, sheet, tiles

DOTS, STRIP, DRAWS = 600, 14, 5


@lru_cache(maxsize=1)  # the page at hand: no more is held
def _predicted(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return targets, predictions and their spread, all [n, n_targets]; of a regressor only."""
    y = subject.targets
    if not isinstance(subject.estimator, RegressorBase) or y is None:
        return None
    estimator: Any = subject.estimator
    mean, spread = estimator.predict(subject.x, return_std=True)
    return y, mean.reshape(y.shape), spread.reshape(y.shape)


def target_figure(subject: Subject) -> list[Figure]:
    """Return the error for the headline; nothing for a model without targets."""
    found = _predicted(subject)
    if found is None:
        return []
    y, mean, _ = found
    root, plain = (float(np.sqrt(np.square(y - by).mean())) for by in (mean, y.mean(0)))
    note = f"{short(plain)} for the mean of all {subject.split} targets"
    return [Figure(root, short(root), "root mean squared error", note)]


def targets(subject: Subject) -> list[Section]:
    """Return the section about predictions; nothing for a model without targets."""
    found = _predicted(subject)
    if found is None:
        return []
    y, mean, spread = found
    if y.shape[1] == 1:
        return [_dots(subject, y[:, 0], mean[:, 0], spread[:, 0])]
    return [] if subject.dataset.target_shape is None else [_pictures(subject, y)]


def _pictures(subject: Subject, y: np.ndarray) -> Section:
    """Show pictures of which the left part was given, and what the model draws beside it."""
    chosen = subject.noise(7).permutation(len(y))[:STRIP]
    shape, beside = subject.image_shape or (), subject.dataset.target_shape or ()
    given = subject.x[chosen]
    drawn = subject.estimator.draw(given)
    shown = {"true": y[chosen]}
    shown |= {f"draw {i}": rest for i, rest in enumerate(drawn[:DRAWS], start=1)}
    shown["mean"] = drawn.mean(0)
    rows = np.concatenate([_joined(given, shape, rest, beside) for rest in shown.values()])
    pictures = tiles(rows, (*shape[:-1], shape[-1] + beside[-1]), subject.limits)
    words = [
        f"Every column is one of the {subject.split} images, of which the model sees the left "
        "part. The first line is the whole image; in the next ones the rest is drawn by the model, "
        "each from noise of its own; in the last one it is the mean of all draws.",
        "Where the left part leaves the rest open, good draws differ, and their mean is blurred.",
    ]
    plate = Plate(
        alt=f"{count(len(chosen), 'image')}; beneath, the same left parts with the rest drawn.",
        caption="The rest of an image, given its left part",
        png=sheet(pictures, len(chosen)),
        labels=list(shown),
    )
    return Section("targets", "What it predicts", words, [plate])


def _joined(
    left: np.ndarray, shape: tuple[int, ...], right: np.ndarray, beside: tuple[int, ...]
) -> np.ndarray:
    """Put pictures side by side; rows again, [n, d]."""
    parts = [rows.reshape(len(rows), *size) for rows, size in ((left, shape), (right, beside))]
    return np.concatenate(parts, axis=-1).reshape(len(left), -1)


def _dots(subject: Subject, y: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> Section:
    """Show what is predicted of one target, and how sure."""
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
    return Section("targets", "What it predicts", words, [plate])
