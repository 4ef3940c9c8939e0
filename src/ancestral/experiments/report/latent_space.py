"""Section on the latent space: posterior means of the rows, and decoded grid points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    MINUS,
    Chart,
    Section,
    format_count,
    format_number,
)
from ancestral.experiments.report.figures import (
    DATA_PIXELS,
    INK,
    PAPER,
    UNLABELLED,
    class_colours,
    draw_svg,
    image_row_grid,
)
from ancestral.probability import distributions

MAX_EMBEDDED, MIN_EMBEDDED = 1000, 50

MAX_CLASSES = 40

MIN_ACTIVE_VARIANCE = 0.01

GRID_SIDE = 15

GRID_QUANTILE = 0.97


@dataclass(frozen=True)
class Projection:
    """Projection of posterior means to one or two dimensions.

    Attributes
    ----------
    points : array [n, 1] or [n, 2]
        Coordinates.
    y : array [n], optional
        Labels or targets of the points.
    axes : tuple of str
        Names of the axes; empty if the axes have no meaning.
    method : str
        Sentence that describes the projection.
    """

    points: np.ndarray
    y: np.ndarray | None
    axes: tuple[str, ...]
    method: str


def section(context: ReportContext) -> Section:
    """Section with posterior means and, for two latent variables of images, decoded points."""
    projection = project(context)
    n_active = int((context.posterior_means.var(0) > MIN_ACTIVE_VARIANCE).sum())
    n_latents = context.posterior_means.shape[1]
    paragraphs = [
        f"Each point is the posterior mean of the latent variables of a {context.split} row. "
        f"{projection.method}",
    ]
    if projection.y is not None:
        paragraphs.append(
            "Colours are targets, which the projection does not use."
            if projection.y.dtype.kind == "f"
            else "Colours are labels, which the projection does not use. Separate groups of one "
            "colour indicate that the latent variables represent the classes."
        )
    paragraphs.append(
        f"{n_active} of {format_count(n_latents, 'latent variable')} "
        f"{'is' if n_active == 1 else 'are'} active: the variance of the posterior mean over rows "
        f"is above {MIN_ACTIVE_VARIANCE}."
    )
    has_grid = n_latents == 2 and context.image_shape is not None and _is_single_layer(context)
    charts = [_scatter_plot(context, projection, "half" if has_grid else "wide")]
    if has_grid:
        charts.append(_decoded_grid(context))
        paragraphs.append(
            "The grid shows decoded points of the latent space at equally spaced quantiles of the "
            "prior, oriented as in the scatter plot."
        )
    return Section("latents", "Latent space", paragraphs, charts)


def project(context: ReportContext) -> Projection:
    """Project the posterior means to at most two dimensions."""
    z, y = context.posterior_means, context.y
    if z.shape[1] == 1:
        return Projection(
            z, y, ("z₁",), "The vertical position separates classes and has no other meaning."
        )
    if z.shape[1] == 2:
        return Projection(z, y, ("z₁", "z₂"), "The axes are the two latent variables.")
    if y is not None and y.dtype.kind == "i" and len(z) >= MIN_EMBEDDED:
        return _embed(context)
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full").fit(z)
    first, second = pca.explained_variance_ratio_
    method = (
        f"The axes are the first two principal components of {z.shape[1]} latent variables, with "
        f"{first + second:.0%} of the variance."
    )
    axes = (f"first component ({first:.0%})", f"second component ({second:.0%})")
    return Projection(pca.transform(z), y, axes, method)


def _embed(context: ReportContext) -> Projection:
    """Embed at most 1,000 rows in two dimensions by t-SNE."""
    from sklearn.manifold import TSNE

    order = np.sort(context.rng(4).permutation(len(context.x))[:MAX_EMBEDDED])
    z = context.posterior_means[order]
    tsne = TSNE(
        2,
        perplexity=min(30.0, len(z) / 4),
        init="pca",
        max_iter=500,
        random_state=context.seed % 2**32,
    )
    assert context.y is not None
    method = (
        f"t-SNE embeds the {z.shape[1]} latent variables in two dimensions "
        f"({format_count(len(z), 'row')}): neighbours are preserved; distances between groups and "
        "the axes have no meaning."
    )
    return Projection(tsne.fit_transform(z), context.y[order], (), method)


def _scatter_plot(context: ReportContext, projection: Projection, size: str) -> Chart:
    groups = _colour_groups(context, projection.y)
    is_line = projection.points.shape[1] == 1
    y = projection.y
    targets = y if y is not None and y.dtype.kind == "f" else None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        x, height = _coordinates(projection, context)
        if targets is not None:
            points = axes.scatter(x, height, c=targets, s=9, cmap="viridis", rasterized=True)
            points.set_linewidth(0)
            figure.colorbar(points, label="target", shrink=0.7).outline.set_visible(False)
        for label, colour, name in groups:
            members = np.full(len(x), True) if label is None else y == label
            area = 9 if len(x) > 400 else 14
            axes.scatter(
                x[members], height[members], s=area, color=colour, lw=0, alpha=0.85,
                rasterized=True,
            )  # fmt: skip
            if label is not None and label >= 0 and not is_line:
                _write_label(axes, name, np.median(x[members]), np.median(height[members]))
        _format_axes(axes, projection)

    is_labelled = bool(groups) and groups[0][0] is not None
    coloured = " coloured by target" if targets is not None else " coloured by label"
    legend = [(colour, name) for label, colour, name in groups if label is not None]
    inches = {"half": (4.0, 3.9), "wide": (5.6, 2.6 if is_line else 4.6)}[size]
    return Chart(
        alt=f"Scatter plot of the posterior means of {len(projection.points)} {context.split} rows"
        f"{coloured if targets is not None or is_labelled else ''}.",
        caption=f"Posterior means of {format_count(len(projection.points), f'{context.split} row')}"
        + ("" if projection.axes else ", embedded by t-SNE"),
        svg=draw_svg("latents", *inches, paint),
        size=size,
        legend=legend,
    )


def _coordinates(projection: Projection, context: ReportContext) -> tuple[np.ndarray, np.ndarray]:
    points, y = projection.points, projection.y
    if points.shape[1] == 2:
        return points[:, 0], points[:, 1]
    jitter = context.rng(5).uniform(-0.35, 0.35, len(points))
    classes = y if y is not None and y.dtype.kind == "i" else 0
    return points[:, 0], jitter - classes


def _colour_groups(
    context: ReportContext, y: np.ndarray | None
) -> list[tuple[int | None, str, str]]:
    """(label, colour, name) of each group of points; empty for real targets."""
    if y is not None and y.dtype.kind == "f":
        return []
    labels = np.array([], dtype=int) if y is None else np.unique(y[y >= 0])
    if y is None or not 0 < len(labels) <= MAX_CLASSES:
        return [(None, DATA_PIXELS, "")]
    names, colours = context.class_names(labels), class_colours(len(labels))
    unlabelled: list[tuple[int | None, str, str]] = [(-1, UNLABELLED, "unlabelled")]
    return [
        *(unlabelled if (y < 0).any() else []),
        *zip(labels.tolist(), colours, names, strict=True),
    ]


def _write_label(axes: Any, name: str, x: float, y: float) -> None:
    from matplotlib import patheffects

    outline = patheffects.withStroke(linewidth=3, foreground=PAPER)
    axes.text(x, y, name, ha="center", va="center", color=INK, fontsize=10, weight="bold",
              path_effects=[outline], clip_on=True)  # fmt: skip


def _format_axes(axes: Any, projection: Projection) -> None:
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(bool(projection.axes))
    if not projection.axes:
        axes.set_xticks([])
    if len(projection.axes) < 2:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    else:
        is_short = len(projection.axes[1]) < 4
        axes.set_ylabel(projection.axes[1], rotation=0 if is_short else 90)
        axes.set_aspect("equal", "datalim")
    if projection.axes:
        axes.set_xlabel(projection.axes[0])


def _is_single_layer(context: ReportContext) -> bool:
    """Whether z is one layer of two variables, not two layers of one."""
    return np.size(context.estimator.get_params().get("n_latents", 2)) == 1


@torch.no_grad()
def _decoded_grid(context: ReportContext) -> Chart:
    estimator = context.estimator
    steps = norm.ppf(np.linspace(1 - GRID_QUANTILE, GRID_QUANTILE, GRID_SIDE))
    points = np.array([(a, b) for b in steps[::-1] for a in steps])
    device = next(estimator.model_.parameters()).device
    z = torch.as_tensor(points, dtype=torch.float32, device=device)
    mean = distributions.mean_or_mode(estimator.model_.decode(z))
    rows = estimator.columns_.to_data_units(mean).cpu().numpy()
    edge = format_number(float(steps[-1]), 1)
    return Chart(
        alt=f"Grid of {len(points)} images decoded from points of the latent space.",
        caption=f"Decoded points: z₁ from {MINUS}{edge} to {edge} (left to right), z₂ likewise "
        "(bottom to top)",
        png=image_row_grid(context, rows, GRID_SIDE),
        size="half",
    )
