"""Section on the latent variables of exact models: mixture components or factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.estimators.factor_analysis import FactorAnalysis
from ancestral.estimators.mixture import MixtureModel
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import MINUS, Chart, Section, format_count
from ancestral.experiments.report.figures import draw_svg, image_row_grid
from ancestral.experiments.report.tabular import shorten_name

GRID_COLUMNS, MAX_FACTORS, MAX_COLUMNS, MAX_NAMED_COLUMNS = 10, 10, 40, 24

N_STDS = 2.0
"""Standard deviations of a factor by which its images are displaced."""


def sections(context: ReportContext) -> list[Section]:
    """Section on mixture components or factors; empty for other models."""
    estimator = context.estimator
    if isinstance(estimator, MixtureModel):
        return [_mixture_section(context, estimator)]
    if isinstance(estimator, FactorAnalysis):
        return [_factor_section(context, estimator)]
    return []


def _mixture_section(context: ReportContext, mixture: MixtureModel) -> Section:
    order = np.argsort(-mixture.weights_, kind="stable")
    weights, means = mixture.weights_[order], mixture.means_[order]
    paragraphs = [
        f"The mixture has {format_count(len(weights), 'component')} with weights from "
        f"{weights[0]:.1%} to {weights[-1]:.1%}."
    ]
    purity = _purity(context, mixture)
    if purity is not None:
        paragraphs.append(
            "Labels are not used in training. If each component predicts its most frequent label, "
            f"{purity:.0%} of the {context.split} rows are correct (purity)."
        )
    if context.image_shape is None:
        names = [f"{weight:.1%}" for weight in weights]
        chart = _heat_map(context, means, "component", names)
        paragraphs.append("Each row of the chart is the mean of a component, labelled by weight.")
    else:
        chart = Chart(
            alt=f"Grid of {format_count(len(means), 'image')}, the mean of each component.",
            caption="Means of the components, by decreasing weight",
            png=image_row_grid(context, means, GRID_COLUMNS),
        )
    return Section("mixture-components", "Mixture components", paragraphs, [chart])


def _purity(context: ReportContext, mixture: MixtureModel) -> float | None:
    """Fraction of labelled rows with the most frequent label of their component."""
    y = context.y
    if y is None or y.dtype.kind != "i" or not (y >= 0).any():
        return None
    components, labels = mixture.predict(context.x[y >= 0]), y[y >= 0]
    correct = [np.bincount(labels[components == c]).max() for c in np.unique(components)]
    return float(sum(correct) / len(labels))


def _factor_section(context: ReportContext, analysis: FactorAnalysis) -> Section:
    explained = np.square(analysis.components_ / analysis.scale_).sum(1)
    order = np.argsort(-explained, kind="stable")[:MAX_FACTORS]
    total = explained.sum() + (analysis.noise_variance_ / np.square(analysis.scale_)).sum()
    paragraphs = [
        f"The factors explain {explained.sum() / total:.0%} of the variance of the standardised "
        "columns; the rest is independent noise of each column. Factors are determined up to a "
        "rotation."
    ]
    if context.image_shape is None:
        names = [f"factor {n + 1}" for n in range(len(order))]
        loadings = analysis.components_[order] + analysis.location_
        chart = _heat_map(context, loadings, "factor", names)
        paragraphs.append(
            "The chart shows the loadings: the change of a column, in its standard deviations, per "
            "unit of a factor."
        )
    else:
        shifts = [sign * N_STDS * analysis.components_[order] for sign in (-1, 1)]
        chart = Chart(
            alt=f"Two rows of {format_count(len(order), 'image')}: the mean image minus and plus "
            "each factor.",
            caption=f"Mean image minus and plus {N_STDS:.0f} standard deviations of each factor, "
            "by decreasing explained variance",
            png=image_row_grid(
                context, np.concatenate([analysis.mean_ + s for s in shifts]), len(order)
            ),
            labels=(f"{MINUS}{N_STDS:.0f}", f"+{N_STDS:.0f}"),
        )
    return Section("factors", "Factors", paragraphs, [chart])


def _heat_map(context: ReportContext, rows: np.ndarray, noun: str, names: list[str]) -> Chart:
    """Heat map of rows [n, d] as standard deviations from the mean of their column."""
    mean = np.nanmean(context.training, axis=0)
    std = np.nanstd(context.training, axis=0)
    shown = ((rows - mean) / np.where(std > 0, std, 1.0))[:, :MAX_COLUMNS]
    limit = max(1.0, float(np.abs(shown).max()))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        image = axes.imshow(
            shown, interpolation="nearest", cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto"
        )
        axes.set_yticks(range(len(names)), names, fontsize=8)
        is_named = shown.shape[1] <= MAX_NAMED_COLUMNS
        labels = [shorten_name(n) for n in context.column_names] if is_named else []
        axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=45, ha="right")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(image, label="standard deviations", shrink=0.9)
        bar.outline.set_visible(False)

    caption = "Blue: negative, below the mean of the column. Red: positive."
    if shown.shape[1] < rows.shape[1]:
        caption += f" The first {shown.shape[1]} of {rows.shape[1]} columns."
    return Chart(
        alt=f"Heat map of {format_count(len(rows), noun)} by column.",
        caption=caption,
        svg=draw_svg("latent-structure", 7.5, 2.4 + 0.22 * len(rows), paint),
    )
