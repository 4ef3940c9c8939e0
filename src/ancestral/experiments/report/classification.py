"""How well a classifier tells classes apart: confusions, mistakes, what its shares are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ancestral.estimators.base.supervised import ClassifierBase
from ancestral.evaluation.metrics import classification_errors
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import Figure, Plate, Section, count, number
from ancestral.experiments.report.figures import INK, MODEL, MUTED, draw, sheet, tiles

MISTAKES, BINS = 28, 10


@dataclass(frozen=True, eq=False)
class Told:
    """Rows whose class the model knows, and what it tells of them.

    Attributes
    ----------
    x, y : arrays [n, d] and [n]
        Rows and true classes.
    p : array [n, n_classes]
        Probabilities.
    known : array [n_classes]
        The classes.
    names : list of str
        What they are called.
    """

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    known: np.ndarray
    names: list[str]

    @property
    def told(self) -> np.ndarray:
        """The most probable class of every row."""
        return self.known[self.p.argmax(1)]


def error_figure(subject: Subject) -> list[Figure]:
    """Return the error rate for the headline; nothing for a model without classes."""
    y = _truth(subject)
    if y is None:
        return []
    assert isinstance(subject.estimator, ClassifierBase)
    found = classification_errors(subject.estimator.predict(subject.x), y)
    note = f"± {number(found.standard_error)} % (standard error)"
    return [Figure(found.percent, f"{number(found.percent)} %", f"{subject.split} error", note)]


def classes(subject: Subject) -> list[Section]:
    """Return the section about a classifier; nothing for a model without classes."""
    y = _truth(subject)
    if y is None:
        return []
    rows = _tell(subject, y)
    n_wrong = int((rows.told != rows.y).sum())
    words = [
        f"{count(n_wrong, f'{subject.split} row')} of {len(rows.y):,} are told wrong. A row "
        "of the chart is a true class, a column what the model says: the diagonal is right.",
        "The curve compares how sure the model is with how often it is right: on the diagonal its "
        "probabilities mean what they say, below it the model is too sure.",
    ]
    plates = [_confusion(rows), _reliability(rows)]
    if subject.image_shape is not None and n_wrong:
        plates.append(_mistakes(subject, rows))
        words.append("Last, the mistakes it was surest of.")
    return [Section("classes", "Which class?", words, plates)]


def _truth(subject: Subject) -> np.ndarray | None:
    y = subject.y
    if not isinstance(subject.estimator, ClassifierBase) or y is None or y.dtype.kind != "i":
        return None
    return y if np.isin(y, subject.estimator.classes_).any() else None


def _tell(subject: Subject, y: np.ndarray) -> Told:
    assert isinstance(subject.estimator, ClassifierBase)
    known = subject.estimator.classes_
    mine, names = np.isin(y, known), subject.dataset.class_names
    called = [str(c) if names is None or c >= len(names) else names[c] for c in known.tolist()]
    x = subject.x[mine]
    return Told(x, y[mine], subject.estimator.predict_proba(x), known, called)


def _confusion(rows: Told) -> Plate:
    n, names = len(rows.known), rows.names
    table = np.zeros((n, n))
    np.add.at(table, (np.searchsorted(rows.known, rows.y), rows.p.argmax(1)), 1)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(table > 0):
            colour = "#ffffff" if shares[i, j] > 0.4 else "#22303c"
            axes.text(j, i, f"{int(table[i, j])}", ha="center", va="center", color=colour,
                      fontsize=7)  # fmt: skip
        axes.set_xticks(range(n), names, fontsize=8)
        axes.set_yticks(range(n), names, fontsize=8)
        axes.set_xlabel("told")
        axes.set_ylabel("true")
        axes.tick_params(length=0, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return Plate(
        alt=f"Table of true against told classes of {len(rows.y)} rows.",
        caption=f"True classes and what the model tells, {count(len(rows.y), 'row')}",
        svg=draw("confusion", 4.0, 3.9, paint),
        size="half",
    )


def _reliability(rows: Told) -> Plate:
    sure, right = rows.p.max(1), rows.told == rows.y
    groups = np.array_split(np.argsort(sure, kind="stable"), min(BINS, len(sure)))
    points = [(sure[g].mean(), right[g].mean()) for g in groups]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        axes.plot(*zip(*points, strict=True), color=MODEL, marker="o", markersize=4)
        low = min(0.5, *(min(point) for point in points))
        axes.set_xlim(low - 0.02, 1.02)
        axes.set_ylim(low - 0.02, 1.02)
        axes.set_xlabel("probability of the told class")
        axes.set_ylabel("share that is right")
        axes.tick_params(length=2)

    gap = float(np.mean([abs(a - b) for a, b in points]))
    return Plate(
        alt=f"Line chart of how often the model is right against how sure it is; on average "
        f"{gap:.3f} apart.",
        caption=f"Tenths of the rows, the surest to the right: {gap:.3f} apart on average",
        svg=draw("reliability", 4.0, 3.9, paint),
        size="half",
    )


def _mistakes(subject: Subject, rows: Told) -> Plate:
    names = dict(zip(rows.known.tolist(), rows.names, strict=True))
    wrong = np.flatnonzero(rows.told != rows.y)
    chosen = wrong[np.argsort(-rows.p[wrong].max(1), kind="stable")][:MISTAKES]
    pairs = [f"{names[int(rows.y[i])]} for {names[int(rows.told[i])]}" for i in chosen[:6]]
    return Plate(
        alt=f"{count(len(chosen), 'image')} that the model tells wrong.",
        caption="The surest mistakes. True for told, from the left: " + ", ".join(pairs),
        png=sheet(tiles(rows.x[chosen], subject.image_shape or (), subject.limits), MISTAKES // 2),
    )
