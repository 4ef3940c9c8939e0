"""Filling the gaps of a table: how well, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ancestral.data.preprocessing import corrupt
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import Plate, Section, Table, count, number
from ancestral.experiments.report.figures import DATA, INK, MODEL, RULE, draw
from ancestral.experiments.report.tabular import seen

MOST_MEASURED = 40

FILLED_ROWS, ROUNDS, DROPPED = 1000, 50, 0.2


def imputation(subject: Subject) -> Section:
    """Drop entries at random, let the model fill them in, and measure how well by column."""
    if subject.x.shape[1] == 1:
        alone = "The table has a single column: there is nothing to fill a gap in from."
        return Section("imputation", "Filling in what is missing", [alone])
    x = subject.x[:FILLED_ROWS]
    damaged = corrupt(x, "random", DROPPED, seed=subject.seed)
    asked = np.isnan(damaged) & ~np.isnan(x)
    filled = subject.estimator.impute(damaged, n_iter=ROUNDS, random_state=subject.seed)
    columns = [j for j in range(x.shape[1]) if asked[:, j].any()][:MOST_MEASURED]
    errors = [_errors(subject, x, filled, asked, j) for j in columns]
    rows = [
        (subject.names[j], _measure(subject, j), number(ours), number(theirs))
        for j, (ours, theirs) in zip(columns, errors, strict=True)
    ]
    words = [
        f"One entry in five is taken away at random from {count(len(x), f'{subject.split} row')}, "
        f"and the model fills it in from the rest of its row ({_how_filled(subject)}). The "
        "baseline puts the training mean of the column there.",
        "Errors are squared and in units of a column's variance: at 1 one might as well take the "
        "mean, at 0 the entry is known. For codes it is the share of wrong ones, against always "
        "taking the most frequent one.",
    ]
    head = ("column", "measure", "model", "column mean")
    plates = [_dumbbells(subject, columns, errors)] if columns else []
    table = Table("Error on the missing entries (lower is better)", head, rows)
    return Section("imputation", "Filling in what is missing", words, plates, table)


def _how_filled(subject: Subject) -> str:
    return "exactly" if subject.is_exact else f"{ROUNDS} rounds of pseudo-Gibbs sampling"


def _errors(
    subject: Subject, x: np.ndarray, filled: np.ndarray, asked: np.ndarray, j: int
) -> tuple[float, float]:
    """Return the error in a column of the model, and of its baseline."""
    true, guess, known = x[asked[:, j], j], filled[asked[:, j], j], seen(subject.reference[:, j])
    if subject.kinds[j] == "categorical":
        codes, counts = np.unique(known, return_counts=True)
        return float((true != guess).mean()), float((true != codes[counts.argmax()]).mean())
    variance = float(known.var()) or 1.0
    baseline = np.square(true - known.mean()).mean() / variance
    return float(np.square(true - guess).mean() / variance), float(baseline)


def _measure(subject: Subject, j: int) -> str:
    return "wrong codes" if subject.kinds[j] == "categorical" else "squared error"


def _dumbbells(
    subject: Subject, columns: Sequence[int], errors: Sequence[tuple[float, float]]
) -> Plate:
    places = np.arange(len(columns))[::-1]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for place, (ours, theirs) in zip(places, errors, strict=True):
            axes.plot([ours, theirs], [place, place], color=RULE, linewidth=2, zorder=1)
        axes.scatter([e[1] for e in errors], places, s=34, color=DATA, zorder=2, linewidths=0)
        axes.scatter([e[0] for e in errors], places, s=44, color=MODEL, zorder=3, linewidths=0)
        axes.set_yticks(places, [subject.names[j] for j in columns])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(0, None)
        axes.set_ylim(-0.6, len(columns) - 0.4)
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("error on missing entries")

    better = sum(ours < theirs for ours, theirs in errors)
    return Plate(
        alt=f"Dot chart of the imputation error by column: the model is better than the column "
        f"mean in {better} of {len(columns)} columns.",
        caption=f"Better than the column mean in {better} of {count(len(columns), 'column')}.",
        svg=draw("gaps", 7.5, 0.9 + 0.27 * len(columns), paint),
        legend=(("var(--model)", "model"), ("var(--data)", "column mean, or most frequent code")),
    )
