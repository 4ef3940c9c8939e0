"""Sections of models of tables: columns of samples and of reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import Chart, Section, format_number, join_words
from ancestral.experiments.report.figures import (
    DATA,
    DATA_PIXELS,
    INK,
    MODEL,
    MODEL_PIXELS,
    draw_svg,
)

MAX_PANELS, MAX_PAIRED_COLUMNS, MAX_BARS = 12, 200, 30

N_PAIRS = 3

MAX_POINTS, FEW_ROWS = 600, 300

LEGEND = (("var(--data)", "data"), ("var(--model)", "samples"))


def samples_section(context: ReportContext) -> Section:
    """Section that compares columns of real and of sampled rows, singly and in pairs."""
    samples = context.estimator.sample(len(context.x), random_state=context.seed)
    paragraphs = [
        f"Distribution of each column in {context.split} rows (filled) and in as many samples of "
        "the model (outline). For a good model they agree.",
    ]
    charts = [_marginals(context, samples)]
    pairs = _correlated_pairs(context.x)
    if pairs:
        paragraphs.append(
            "The scatter plots show the most correlated pairs of columns: point clouds of equal "
            "shape indicate that the model represents the dependence."
        )
        charts.append(_scatter_plots(context, samples, pairs))
    return Section("samples", "Samples", paragraphs, charts)


def reconstructions_section(context: ReportContext) -> Section:
    """Section with reconstructed against original entries by column."""
    reconstructed = context.estimator.reconstruct(context.x)
    panels = _panel_columns(context)
    rows = np.sort(context.rng(2).permutation(len(context.x))[:MAX_POINTS])
    scores = [_score(context, reconstructed, j) for j in panels]
    names = [context.column_names[j] for j in panels]

    def paint(figure: Any) -> None:
        grid = _panels(figure, len(panels))
        for axes, j, name, score in zip(grid, panels, names, scores, strict=True):
            x, y = context.x[rows, j], reconstructed[rows, j]
            _diagonal(axes, x)
            axes.scatter(_jitter(context, j, x), y, s=7, lw=0, color=MODEL_PIXELS, alpha=0.6,
                         rasterized=True)  # fmt: skip
            axes.set_title(f"{shorten_name(name)}\n{score}", fontsize=8)
            is_discrete = context.likelihoods[j] != "gaussian"
            _small_ticks(axes, x=is_discrete, y=context.likelihoods[j] == "categorical")
        figure.supxlabel("original", fontsize=9)
        figure.supylabel("reconstructed", fontsize=9)

    paragraphs = [
        "Entries (horizontal axis) against their reconstructions (vertical axis): each row is "
        f"encoded to its {context.encoding} and decoded. Exact reconstructions are on the "
        "diagonal; a flat cloud indicates a column that the latent variables do not represent.",
        "R² is the fraction of the variance of a column explained by the reconstruction. For "
        "categorical columns, the fraction of correct codes.",
    ]
    labels = [f"{name} {score}" for name, score in zip(names, scores, strict=True)]
    chart = Chart(
        alt="Scatter plots of original and reconstructed entries: " + join_words(labels) + ".",
        caption=_panel_caption(context, panels),
        svg=draw_svg("reconstructions", 7.5, _height(len(panels), 1.85), paint),
    )
    return Section("reconstructions", "Reconstructions", paragraphs, [chart])


# ---- samples


def _marginals(context: ReportContext, samples: np.ndarray) -> Chart:
    panels = _panel_columns(context)

    def paint(figure: Any) -> None:
        for axes, j in zip(_panels(figure, len(panels)), panels, strict=True):
            real, sampled = observed(context.x[:, j]), observed(samples[:, j])
            if len(real) and len(sampled):
                _distribution(axes, context.likelihoods[j], real, sampled)
            axes.set_title(shorten_name(context.column_names[j]), fontsize=8)
            axes.tick_params(length=2, labelsize=7)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)

    names = join_words([context.column_names[j] for j in panels])
    return Chart(
        alt=f"Histograms of real and sampled values of {names}.",
        caption=_panel_caption(context, panels),
        svg=draw_svg("marginals", 7.5, _height(len(panels), 1.45), paint),
        legend=LEGEND,
    )


def _distribution(axes: Any, likelihood: str, real: np.ndarray, sampled: np.ndarray) -> None:
    if likelihood == "gaussian" or np.ptp(real) > MAX_BARS:
        _histograms(axes, real, sampled)
    else:
        _bars(axes, real, sampled)
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])


def _histograms(axes: Any, real: np.ndarray, sampled: np.ndarray) -> None:
    low, high = np.quantile(real, [0.002, 0.998])
    edges = (
        np.linspace(low, high, 25 if len(real) > FEW_ROWS else 11)
        if high > low
        else np.array([low - 0.5, low + 0.5])
    )
    shares = [np.histogram(v, edges)[0] / len(v) for v in (real, sampled)]
    axes.stairs(shares[0], edges, fill=True, color=DATA, alpha=0.45)
    axes.stairs(shares[1], edges, color=MODEL, linewidth=1.4, baseline=None)


def _bars(axes: Any, real: np.ndarray, sampled: np.ndarray) -> None:
    values = np.arange(np.floor(real.min()), real.max() + 1)
    shares = [(v[:, None] == values).mean(0) for v in (real, sampled)]
    axes.bar(values, shares[0], 0.72, color=DATA, alpha=0.45, linewidth=0)
    axes.bar(values, shares[1], 0.72, fill=False, edgecolor=MODEL, linewidth=1.4)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _correlated_pairs(x: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of columns with the strongest correlation, over the rows in which both are observed."""
    x = x[:, :MAX_PAIRED_COLUMNS].astype(np.float64)
    present = ~np.isnan(x)
    counts = np.maximum(present.sum(0), 1)
    centred = np.where(present, x - np.where(present, x, 0).sum(0) / counts, 0.0)
    norms = np.sqrt((centred**2).T @ present * (present.T @ centred**2))
    strength = np.abs(centred.T @ centred) / np.where(norms > 0, norms, np.inf)
    first, second = np.triu_indices(x.shape[1], 1)
    order = np.argsort(-strength[first, second], kind="stable")[:N_PAIRS]
    return [(int(first[k]), int(second[k])) for k in order]


def _scatter_plots(
    context: ReportContext, samples: np.ndarray, pairs: Sequence[tuple[int, int]]
) -> Chart:
    rows = np.sort(context.rng(6).permutation(len(context.x))[:MAX_POINTS])
    names, likelihoods = context.column_names, context.likelihoods

    def paint(figure: Any) -> None:
        grid = figure.subplots(2, N_PAIRS, squeeze=False)
        for axes in grid[:, len(pairs) :].flat:
            axes.set_visible(False)
        for (top, bottom), (i, j) in zip(grid.T, pairs, strict=False):
            for axes, x, colour in ((top, context.x, DATA_PIXELS), (bottom, samples, MODEL_PIXELS)):
                horizontal, vertical = (_jitter(context, k, x[rows, k]) for k in (i, j))
                axes.scatter(horizontal, vertical, s=7, lw=0, color=colour, alpha=0.6,
                             rasterized=True)  # fmt: skip
                axes.set_ylabel(shorten_name(names[j]), fontsize=8)
                _small_ticks(axes, x=likelihoods[i] != "gaussian", y=likelihoods[j] != "gaussian")
            bottom.set_xlabel(shorten_name(names[i]), fontsize=8)
            for side, k in (("x", i), ("y", j)):
                _set_equal_limits(top, bottom, side, context.x[:, k])

    labels = [f"{names[i]} and {names[j]}" for i, j in pairs]
    return Chart(
        alt="Scatter plots, real rows above and samples below, of " + "; ".join(labels) + ".",
        caption=f"{context.split.capitalize()} rows above, samples below, on equal axes.",
        svg=draw_svg("pairs", 7.5, 4.2, paint),
        legend=LEGEND,
    )


def _set_equal_limits(top: Any, bottom: Any, side: str, values: np.ndarray) -> None:
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.12 * ((high - low) or 1.0)
    for axes in (top, bottom):
        getattr(axes, f"set_{side}lim")(low - margin, high + margin)


# ---- reconstructions


def _score(context: ReportContext, reconstructed: np.ndarray, j: int) -> str:
    """R² of a column, or the fraction of correct codes; empty if undefined."""
    present = ~np.isnan(context.x[:, j])
    x, y = context.x[present, j], reconstructed[present, j]
    if context.likelihoods[j] == "categorical":
        return f"{(x == y).mean():.0%} correct" if len(x) else ""
    total = np.square(x - x.mean()).sum() if len(x) else 0.0
    return f"R² {format_number(1 - np.square(x - y).sum() / total)}" if total > 0 else ""


def _diagonal(axes: Any, x: np.ndarray) -> None:
    values = observed(x)
    if len(values):
        ends = [values.min(), values.max()]
        axes.plot(ends, ends, color=INK, linewidth=0.7, alpha=0.6)


# ---- helpers


def observed(values: np.ndarray) -> np.ndarray:
    """Entries of a column that are not missing."""
    return values[~np.isnan(values)]


def _panel_columns(context: ReportContext) -> list[int]:
    return list(range(min(MAX_PANELS, context.x.shape[1])))


def _panel_caption(context: ReportContext, panels: Sequence[int]) -> str:
    d = context.x.shape[1]
    return f"The first {len(panels)} of {d} columns." if d > len(panels) else ""


def shorten_name(name: str) -> str:
    """Column name of at most 22 characters."""
    return name if len(name) <= 22 else name[:21] + "\N{HORIZONTAL ELLIPSIS}"


def _height(n_panels: int, row_height: float) -> float:
    return row_height * -(-n_panels // 4) + 0.15


def _panels(figure: Any, n: int) -> list[Any]:
    """Axes of n panels, four per row; the rest of the last row is hidden."""
    grid = figure.subplots(-(-n // 4), 4, squeeze=False)
    for axes in grid.flat[n:]:
        axes.set_visible(False)
    return list(grid.flat[:n])


def _small_ticks(axes: Any, **integer: bool) -> None:
    """Make ticks small; ``x`` and ``y`` select integer ticks."""
    axes.tick_params(length=2, labelsize=7)
    for side, is_integer in integer.items():
        getattr(axes, f"{side}axis").set_major_locator(MaxNLocator(4, integer=is_integer))


def _jitter(context: ReportContext, j: int, values: np.ndarray) -> np.ndarray:
    """Add noise to integers, so that points do not hide each other."""
    if context.likelihoods[j] == "gaussian":
        return values
    return values + context.rng(100 + j).uniform(-0.18, 0.18, len(values))
