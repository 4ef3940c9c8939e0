"""What a model of a table has learnt: columns of samples and of reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import Plate, Section, listed, number
from ancestral.experiments.report.figures import DATA, DATA_PIXELS, INK, MODEL, MODEL_PIXELS, draw

MOST_PANELS, MOST_PAIRED, MOST_BARS = 12, 200, 30

N_PAIRS = 3

DOTS, FEW = 600, 300

LEGEND = (("var(--data)", "data"), ("var(--model)", "model"))


def samples(subject: Subject) -> Section:
    """Compare columns of real and of sampled rows, one by one and in pairs."""
    drawn = subject.estimator.sample(len(subject.x), random_state=subject.seed)
    words = [
        f"As many rows were drawn from the model as there are {subject.split} rows to compare "
        "them with. First column by column: the outline (model) should follow the filled shape "
        "(data).",
    ]
    plates = [_marginals(subject, drawn)]
    pairs = _pairs(subject.x)
    if pairs:
        words.append(
            "Then the columns that depend on each other most, in pairs: clouds of the same shape "
            "mean that the model has caught the dependence, and not only the single columns."
        )
        plates.append(_clouds(subject, drawn, pairs))
    return Section("samples", "Samples", words, plates)


def reconstructions(subject: Subject) -> Section:
    """Draw entries against what the model makes of their codes, column by column."""
    rebuilt = subject.estimator.reconstruct(subject.x)
    panels = _panels(subject)
    rows = np.sort(subject.noise(2).permutation(len(subject.x))[:DOTS])
    titles = [f"{subject.names[j]}  {_agreement(subject, rebuilt, j)}" for j in panels]

    def paint(figure: Any) -> None:
        for axes, j, title in zip(_grid(figure, len(panels)), panels, titles, strict=True):
            x, y = subject.x[rows, j], rebuilt[rows, j]
            _diagonal(axes, x)
            axes.scatter(_jittered(subject, j, x), y, s=7, lw=0, color=MODEL_PIXELS, alpha=0.6,
                         rasterized=True)  # fmt: skip
            axes.set_title(title, fontsize=8)
            codes = subject.kinds[j] != "gaussian"
            _light(axes, x=codes, y=subject.kinds[j] == "categorical")

    words = [
        "Every entry (from left to right) against what comes out when its row is encoded to the "
        f"{subject.code} and decoded again (upward). On the line a column is kept exactly; a flat "
        "cloud means that the latent variables hold nothing of it.",
        "R² is the share of a column's variance that is kept; for codes, the share of right ones.",
    ]
    plate = Plate(
        alt="Scatter plots of true against reconstructed entries: " + listed(titles) + ".",
        caption=_which(subject, panels),
        svg=draw("rebuilt", 7.5, _height(len(panels), 1.75), paint),
    )
    return Section("reconstructions", "Reconstructions", words, [plate])


# ---- samples


def _marginals(subject: Subject, drawn: np.ndarray) -> Plate:
    panels = _panels(subject)

    def paint(figure: Any) -> None:
        for axes, j in zip(_grid(figure, len(panels)), panels, strict=True):
            real, made = seen(subject.x[:, j]), seen(drawn[:, j])
            if len(real) and len(made):
                _outline(axes, subject.kinds[j], real, made)
            axes.set_title(subject.names[j], fontsize=8)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)

    shown = listed([subject.names[j] for j in panels])
    return Plate(
        alt=f"Histograms of real and sampled values of {shown}.",
        caption=_which(subject, panels),
        svg=draw("marginals", 7.5, _height(len(panels), 1.45), paint),
        legend=LEGEND,
    )


def _outline(axes: Any, kind: str, real: np.ndarray, made: np.ndarray) -> None:
    if kind == "gaussian" or np.ptp(real) > MOST_BARS:
        _histograms(axes, real, made)
    else:
        _bars(axes, real, made)
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])


def _histograms(axes: Any, real: np.ndarray, made: np.ndarray) -> None:
    low, high = np.quantile(real, [0.002, 0.998])
    edges = (
        np.linspace(low, high, 25 if len(real) > FEW else 11)
        if high > low
        else np.array([low - 0.5, low + 0.5])
    )
    shares = [np.histogram(v, edges)[0] / len(v) for v in (real, made)]
    axes.stairs(shares[0], edges, fill=True, color=DATA, alpha=0.45)
    axes.stairs(shares[1], edges, color=MODEL, linewidth=1.4, baseline=None)


def _bars(axes: Any, real: np.ndarray, made: np.ndarray) -> None:
    values = np.arange(np.floor(real.min()), real.max() + 1)
    shares = [(v[:, None] == values).mean(0) for v in (real, made)]
    axes.bar(values, shares[0], 0.72, color=DATA, alpha=0.45, linewidth=0)
    axes.bar(values, shares[1], 0.72, fill=False, edgecolor=MODEL, linewidth=1.4)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _pairs(x: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of columns with the strongest correlation, over the rows that have both."""
    x = x[:, :MOST_PAIRED].astype(np.float64)
    there = ~np.isnan(x)
    counts = np.maximum(there.sum(0), 1)
    centred = np.where(there, x - np.where(there, x, 0).sum(0) / counts, 0.0)
    together = np.sqrt((centred**2).T @ there * (there.T @ centred**2))
    strength = np.abs(centred.T @ centred) / np.where(together > 0, together, np.inf)
    first, second = np.triu_indices(x.shape[1], 1)
    order = np.argsort(-strength[first, second], kind="stable")[:N_PAIRS]
    return [(int(first[k]), int(second[k])) for k in order]


def _clouds(subject: Subject, drawn: np.ndarray, pairs: Sequence[tuple[int, int]]) -> Plate:
    rows = np.sort(subject.noise(6).permutation(len(subject.x))[:DOTS])

    def paint(figure: Any) -> None:
        grid = figure.subplots(2, N_PAIRS, squeeze=False)
        for axes in grid[:, len(pairs) :].flat:
            axes.set_visible(False)
        for (real, made), (i, j) in zip(grid.T, pairs, strict=False):
            for axes, x, colour in ((real, subject.x, DATA_PIXELS), (made, drawn, MODEL_PIXELS)):
                across, upward = (_jittered(subject, k, x[rows, k]) for k in (i, j))
                axes.scatter(across, upward, s=7, lw=0, color=colour, alpha=0.6, rasterized=True)
                axes.set_ylabel(subject.names[j], fontsize=8)
                _light(axes, x=subject.kinds[i] != "gaussian", y=subject.kinds[j] != "gaussian")
            made.set_xlabel(subject.names[i], fontsize=8)
            for side in "xy":
                k = i if side == "x" else j
                _same_range(real, made, side, subject.x[:, k])

    named = [f"{subject.names[i]} and {subject.names[j]}" for i, j in pairs]
    return Plate(
        alt="Scatter plots, real rows above and sampled rows below, of " + "; ".join(named) + ".",
        caption=f"{'Test' if subject.split == 'test' else 'Training'} rows above, sampled rows "
        "below, on the same axes.",
        svg=draw("clouds", 7.5, 4.2, paint),
        legend=LEGEND,
    )


def _same_range(real: Any, made: Any, side: str, values: np.ndarray) -> None:
    low, high = np.nanmin(values), np.nanmax(values)
    pad = 0.12 * ((high - low) or 1.0)
    for axes in (real, made):
        getattr(axes, f"set_{side}lim")(low - pad, high + pad)


# ---- reconstructions


def _agreement(subject: Subject, rebuilt: np.ndarray, j: int) -> str:
    there = ~np.isnan(subject.x[:, j])
    x, y = subject.x[there, j], rebuilt[there, j]
    if subject.kinds[j] == "categorical":
        return f"{(x == y).mean():.0%} right" if len(x) else ""
    spread = np.square(x - x.mean()).sum() if len(x) else 0.0
    return f"R² {number(1 - np.square(x - y).sum() / spread)}" if spread > 0 else ""


def _diagonal(axes: Any, x: np.ndarray) -> None:
    values = seen(x)
    if len(values):
        ends = [values.min(), values.max()]
        axes.plot(ends, ends, color=INK, linewidth=0.7, alpha=0.6)


# ---- in common


def seen(values: np.ndarray) -> np.ndarray:
    """Return what of a column is not missing."""
    return values[~np.isnan(values)]


def _panels(subject: Subject) -> list[int]:
    return list(range(min(MOST_PANELS, subject.x.shape[1])))


def _which(subject: Subject, panels: Sequence[int]) -> str:
    d = subject.x.shape[1]
    return f"The first {len(panels)} of {d} columns." if d > len(panels) else ""


def _height(n_panels: int, each: float) -> float:
    return each * -(-n_panels // 4) + 0.15


def _grid(figure: Any, n: int) -> list[Any]:
    """Make n panels, four in a row, leaving the places of the last row empty."""
    grid = figure.subplots(-(-n // 4), 4, squeeze=False)
    for axes in grid.flat[n:]:
        axes.set_visible(False)
    return list(grid.flat[:n])


def _light(axes: Any, **whole: bool) -> None:
    """Make ticks small; ``x`` and ``y`` say whether those of an axis are at whole numbers."""
    axes.tick_params(length=2, labelsize=7)
    for side, is_whole in whole.items():
        getattr(axes, f"{side}axis").set_major_locator(MaxNLocator(4, integer=is_whole))


def _jittered(subject: Subject, j: int, values: np.ndarray) -> np.ndarray:
    """Spread whole numbers a little, so that dots do not hide each other."""
    if subject.kinds[j] == "gaussian":
        return values
    return values + subject.noise(100 + j).uniform(-0.18, 0.18, len(values))
