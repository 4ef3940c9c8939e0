"""How well a classifier tells classes apart: confusions, mistakes, what its shares are worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.evaluate import Errors, errors
from ancestral.labels import ClassLearner
from ancestral.report.drawing import INK, MODEL, MUTED, draw, sheet, tiles
from ancestral.report.parts import Figure, Plate, Section, count, number
from ancestral.report.subject import Subject

MISTAKES, BINS = 28, 10


def error_figure(subject: Subject) -> list[Figure]:
    """Return the error rate for the headline; nothing for a model without classes."""
    found = _errors(subject)
    if found is None:
        return []
    note = f"± {number(found.standard_error)} % (standard error)"
    return [Figure(found.percent, f"{number(found.percent)} %", f"{subject.split} error", note)]


def classes(subject: Subject) -> list[Section]:
    """Return the section about a classifier; nothing for a model without classes."""
    found = _errors(subject)
    if found is None:
        return []
    n_wrong = int(found.wrong.sum())
    words = [
        f"{count(n_wrong, f'{subject.split} row')} of {len(found.wrong):,} are told wrong. A row "
        "of the chart is a true class, a column what the model says: the diagonal is right.",
    ]
    plates = [_confusion(subject), _reliability(subject)]
    words.append(
        "The curve compares how sure the model is with how often it is right: on the diagonal its "
        "probabilities mean what they say, below it the model is too sure."
    )
    if subject.image_shape is not None and n_wrong:
        plates.append(_mistakes(subject))
        words.append("Last, the mistakes it was surest of.")
    return [Section("classes", "Which class?", words, plates)]


def _truth(subject: Subject) -> np.ndarray | None:
    y = subject.y
    if not isinstance(subject.estimator, ClassLearner) or y is None or y.dtype.kind != "i":
        return None
    return y if (y >= 0).any() else None


def _errors(subject: Subject) -> Errors | None:
    y = _truth(subject)
    if y is None:
        return None
    assert isinstance(subject.estimator, ClassLearner)
    return errors(subject.estimator.predict(subject.x), y)


def _labelled(subject: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that have a class, the class, and the model's probabilities."""
    y = _truth(subject)
    assert y is not None
    assert isinstance(subject.estimator, ClassLearner)
    x = subject.x[y >= 0]
    return x, y[y >= 0], subject.estimator.predict_proba(x)


def _names(subject: Subject) -> list[str]:
    names = subject.dataset.class_names
    known = subject.estimator.classes_.tolist()
    return [str(c) if names is None or c >= len(names) else names[c] for c in known]


def _confusion(subject: Subject) -> Plate:
    _, y, p = _labelled(subject)
    known = subject.estimator.classes_
    names = _names(subject)
    table = np.zeros((len(known), len(known)))
    for row, column in zip(np.searchsorted(known, y), p.argmax(1), strict=True):
        table[min(row, len(known) - 1), column] += 1
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(table > 0):
            colour = "#ffffff" if shares[i, j] > 0.4 else "#22303c"
            axes.text(j, i, f"{int(table[i, j])}", ha="center", va="center", color=colour,
                      fontsize=7)  # fmt: skip
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xlabel("told")
        axes.set_ylabel("true")
        axes.tick_params(length=0, labelcolor=INK)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return Plate(
        alt=f"Table of true against told classes of {len(y)} rows.",
        caption=f"True classes and what the model tells, {count(len(y), 'row')}",
        svg=draw("confusion", 4.0, 3.9, paint),
        size="half",
    )


def _reliability(subject: Subject) -> Plate:
    _, y, p = _labelled(subject)
    known = subject.estimator.classes_
    sure, right = p.max(1), known[p.argmax(1)] == y
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


def _mistakes(subject: Subject) -> Plate:
    x, y, p = _labelled(subject)
    known = subject.estimator.classes_
    names = dict(zip(known.tolist(), _names(subject), strict=True))
    wrong = np.flatnonzero(known[p.argmax(1)] != y)
    chosen = wrong[np.argsort(-p[wrong].max(1), kind="stable")][:MISTAKES]
    told = [f"{names.get(y[i], y[i])} for {names[known[p[i].argmax()]]}" for i in chosen[:6]]
    return Plate(
        alt=f"{count(len(chosen), 'image')} that the model tells wrong.",
        caption="The surest mistakes. True for told, from the left: " + ", ".join(told),
        png=sheet(tiles(x[chosen], subject.image_shape or (), subject.limits), MISTAKES // 2),
    )
