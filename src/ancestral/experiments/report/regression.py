"""Section on regression: predictions and their uncertainty."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ancestral.estimators.base.supervised import RegressorBase
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    Chart,
    HeadlineNumber,
    Section,
    format_count,
    format_significant,
)
from ancestral.experiments.report.figures import (
    INK,
    MODEL,
    MUTED,
    draw_svg,
    image_grid,
    to_rgb,
)

MAX_POINTS, GRID_COLUMNS, N_DRAWS = 600, 14, 5


@lru_cache(maxsize=1)  # computed once per page
def _predict(context: ReportContext) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Targets, predicted means and standard deviations, [n, n_targets]; None without regressor."""
    y = context.targets
    if not isinstance(context.estimator, RegressorBase) or y is None:
        return None
    estimator: Any = context.estimator
    mean, std = estimator.predict(context.x, return_std=True)
    return y, mean.reshape(y.shape), std.reshape(y.shape)


def headline(context: ReportContext) -> list[HeadlineNumber]:
    """Root mean squared error; empty for estimators that are not regressors."""
    predictions = _predict(context)
    if predictions is None:
        return []
    y, mean, _ = predictions
    error, baseline = (float(np.sqrt(np.square(y - p).mean())) for p in (mean, y.mean(0)))
    note = f"{format_significant(baseline)} for the mean of all {context.split} targets"
    label = f"{context.split} root mean squared error"
    return [HeadlineNumber(error, format_significant(error), label, note)]


def sections(context: ReportContext) -> list[Section]:
    """Section on predictions; empty for estimators that are not regressors."""
    predictions = _predict(context)
    if predictions is None:
        return []
    y, mean, std = predictions
    if y.shape[1] == 1:
        return [_scalar_section(context, y[:, 0], mean[:, 0], std[:, 0])]
    return [] if context.dataset.target_shape is None else [_image_section(context, y)]


def _image_section(context: ReportContext, y: np.ndarray) -> Section:
    """Section with images completed from their left part."""
    rows = context.rng(7).permutation(len(y))[:GRID_COLUMNS]
    shape, target_shape = context.image_shape or (), context.dataset.target_shape or ()
    left = context.x[rows]
    draws = context.estimator.draw(left)
    right = {"true": y[rows]}
    right |= {f"draw {i}": draw for i, draw in enumerate(draws[:N_DRAWS], start=1)}
    right["mean"] = draws.mean(0)
    images = np.concatenate([_join(left, shape, r, target_shape) for r in right.values()])
    rgb = to_rgb(images, (*shape[:-1], shape[-1] + target_shape[-1]), context.pixel_range)
    paragraphs = [
        f"Each column is a {context.split} image whose right part is predicted from its left "
        "part. Rows: the true image, draws of the model with independent noise, and the mean of "
        "all draws.",
        "Where the left part does not determine the right, draws differ and their mean is blurred.",
    ]
    chart = Chart(
        alt=f"{format_count(len(rows), 'image')}, and below them completions of their left parts.",
        caption="Completions of images from their left part",
        png=image_grid(rgb, len(rows)),
        labels=list(right),
    )
    return Section("regression", "Regression", paragraphs, [chart])


def _join(
    left: np.ndarray, shape: tuple[int, ...], right: np.ndarray, right_shape: tuple[int, ...]
) -> np.ndarray:
    """Join images horizontally; return rows [n, d]."""
    parts = [rows.reshape(len(rows), *s) for rows, s in ((left, shape), (right, right_shape))]
    return np.concatenate(parts, axis=-1).reshape(len(left), -1)


def _scalar_section(
    context: ReportContext, y: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> Section:
    """Section with predicted against true targets."""
    coverage = float((np.abs(mean - y) <= 2 * std).mean())
    rows = np.sort(context.rng(7).permutation(len(y))[:MAX_POINTS])
    paragraphs = [
        "Each point is a row: the true target on the horizontal axis, the predictive mean on the "
        "vertical axis, with error bars of one predictive standard deviation. Correct predictions "
        "are on the diagonal.",
        f"{coverage:.0%} of the targets are within two standard deviations of the mean; 95% is "
        "expected for calibrated normal predictions.",
    ]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        low, high = float(min(y.min(), mean.min())), float(max(y.max(), mean.max()))
        axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
        axes.errorbar(y[rows], mean[rows], yerr=std[rows], fmt="none", ecolor=MUTED, lw=0.6)
        axes.scatter(y[rows], mean[rows], s=9, lw=0, color=MODEL)
        axes.set(xlabel="true target", ylabel="predicted target")

    chart = Chart(
        alt=f"Predicted against true targets of {len(rows)} {context.split} rows.",
        caption=f"Predictions for {format_count(len(rows), f'{context.split} row')}",
        svg=draw_svg("regression", 7.5, 4.0, paint),
    )
    return Section("regression", "Regression", paragraphs, [chart])
