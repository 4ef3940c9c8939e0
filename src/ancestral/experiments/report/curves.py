"""Learning curves: the loss, and the terms it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ancestral.estimators.base.latent import LatentEstimator
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import Plate, Section, count, listed, number
from ancestral.experiments.report.figures import DATA, MODEL, RULE, draw

HELD_OUT = "validation."

SKIPPED = 25  # one epoch in so many, at the start, may lie outside the picture

NOT_TERMS = {"epoch", "step", "seconds"}

MEANINGS = {
    "reconstruction": "the reconstruction term says how badly a row is predicted from its own "
    "latent variables",
    "kl": "the KL term says how much the posterior of a row departs from the prior, that is, how "
    "much the latent variables are told about it",
}

Curve = tuple[Sequence[float], Sequence[float]]


def curves(subject: Subject) -> Section:
    """Draw every term of the history over the epochs."""
    history = subject.estimator.history_
    names = list(dict.fromkeys(k.removeprefix(HELD_OUT) for record in history for k in record))
    found = {n: _curve(history, n) for n in names if n not in NOT_TERMS}
    held_out = {n: _curve(history, HELD_OUT + n) for n in found}
    losses = [n for n in found if n.split(".")[-1] == "loss"]
    others = [n for n in found if n not in losses and not _repeats(found, losses, n)]
    terms = [n for n in others if found[n][0]]
    watched = [n for n in others if n not in terms]
    plates = [_loss_plate(found, held_out, losses)] if losses else []
    if terms:
        plates.append(_terms_plate(found, held_out, terms, "The terms of the loss"))
    if watched:
        plates.append(_terms_plate(found, held_out, watched, "Seen on rows held out from training"))
    return Section("learning", "Learning", _words(subject, terms, held_out), plates)


def _curve(history: Sequence[Mapping[str, float]], name: str) -> Curve:
    pairs = [(r.get("epoch", i + 1), r[name]) for i, r in enumerate(history) if name in r]
    return ([p[0] for p in pairs], [p[1] for p in pairs])


def _repeats(found: Mapping[str, Curve], losses: Sequence[str], name: str) -> bool:
    """Whether a term is a loss under another name, being its only term."""
    return any(
        len(found[name][1]) == len(found[loss][1]) and np.allclose(found[name][1], found[loss][1])
        for loss in losses
    )


def _words(subject: Subject, terms: Sequence[str], held_out: Mapping[str, Curve]) -> list[str]:
    history = subject.estimator.history_
    seconds = history[-1].get("seconds", float("nan")) if len(history) else float("nan")
    meanings = [MEANINGS[t] for t in terms if t in MEANINGS]
    dashed = any(curve[0] for curve in held_out.values())
    rounds = count(len(history), "iteration" if subject.is_exact else "epoch")
    words = [
        f"The loss is what training minimises{_bound(subject)}. It went through {rounds} in "
        f"{number(seconds, 1)} seconds. A curve that still falls at its end asks for more.",
    ]
    if meanings:
        words.append(f"It is the sum of its terms: {listed(meanings)}.")
    if dashed:
        words.append(
            "Dashed: the same on rows held out from training. Where the dashed line turns upward "
            "while the other falls, the model is learning its training rows by heart."
        )
    return words


def _bound(subject: Subject) -> str:
    """Say what the loss is for a model of rows."""
    if not isinstance(subject.estimator, LatentEstimator):
        return ", averaged over rows"
    if subject.is_exact:
        return ", in nats a row: the negative log-likelihood"
    return ", in nats a row: for a variational method the negative of a bound on the log-likelihood"


def _loss_plate(
    found: Mapping[str, Curve], held_out: Mapping[str, Curve], losses: Sequence[str]
) -> Plate:
    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for loss, colour in zip(losses, (MODEL, DATA) * len(losses), strict=False):
            _lines(axes, found[loss], held_out[loss], colour)
            if len(losses) > 1:
                axes.annotate(loss, (found[loss][0][-1], found[loss][1][-1]), ha="right")
        _frame(axes, [c for loss in losses for c in (found[loss], held_out[loss])])
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss a row")

    ends = listed([f"{n} {number(found[n][1][-1])}" for n in losses])
    dashed = [n for n in losses if held_out[n][1]]
    held = "; held-out " + listed([f"{n} {number(held_out[n][1][-1])}" for n in dashed])
    cut = len(found[losses[0]][0]) >= SKIPPED
    steep = " The first epochs may rise out of the picture." if cut else ""
    return Plate(
        alt=f"Line chart of the loss over the epochs, ending at {ends}.",
        caption=f"At the end: {ends}{held if dashed else ''}.{steep}",
        svg=draw("loss", 7.5, 2.9, paint),
        legend=[("var(--model)", "training"), *([("dashed", "held out")] if dashed else [])],
    )


def _terms_plate(
    found: Mapping[str, Curve], held_out: Mapping[str, Curve], terms: Sequence[str], what: str
) -> Plate:
    n_columns = min(3, max(2, len(terms)))
    n_rows = -(-len(terms) // n_columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat[len(terms) :]:
            axes.set_visible(False)
        for axes, term in zip(grid.flat, terms, strict=False):
            _lines(axes, found[term], held_out[term], MODEL)
            _frame(axes, [found[term], held_out[term]])
            axes.set_title(term)

    return Plate(
        alt=f"Small line charts. {what}: {listed(terms)}.",
        caption=f"{what}, each on its own scale.",
        svg=draw("terms", 7.5, 1.9 * n_rows, paint),
    )


def _lines(axes: Any, training: Curve, held_out: Curve, colour: str) -> None:
    marker = "o" if len(training[0]) == 1 else None
    axes.plot(*training, color=colour, marker=marker, markersize=4)
    if held_out[0]:
        axes.plot(*held_out, color=colour, linestyle=(0, (4, 2.5)), marker=marker, markersize=4)


def _frame(axes: Any, curves: Sequence[Curve]) -> None:
    """Leave the steep first epochs outside, so that the rest can be told apart."""
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    skip = max(len(c[0]) for c in curves) // SKIPPED
    shown = np.concatenate([np.asarray(c[1])[skip:] for c in curves])
    shown = shown[np.isfinite(shown)]
    if len(shown) > 1 and np.ptp(shown) > 0:
        axes.set_ylim(shown.min() - 0.06 * np.ptp(shown), shown.max() + 0.06 * np.ptp(shown))
