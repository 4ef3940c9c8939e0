"""What the latent variables of an exact model stand for: classes of rows, or factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.estimators.factor_analysis import FactorAnalysis
from ancestral.estimators.mixture import MixtureModel
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import MINUS, Plate, Section, count
from ancestral.experiments.report.figures import draw, sheet, tiles

SHEET_COLUMNS, MOST_FACTORS, MOST_COLUMNS, MOST_NAMED = 10, 10, 40, 24

FAR = 2.0
"""Standard deviations of a factor that are shown on either side."""


def causes(subject: Subject) -> list[Section]:
    """Return the section about classes or factors; nothing for other models."""
    estimator = subject.estimator
    if isinstance(estimator, MixtureModel):
        return [_classes(subject, estimator)]
    if isinstance(estimator, FactorAnalysis):
        return [_factors(subject, estimator)]
    return []


def _classes(subject: Subject, mixture: MixtureModel) -> Section:
    order = np.argsort(-mixture.weights_, kind="stable")
    shares, means = mixture.weights_[order], mixture.means_[order]
    words = [
        f"Every row belongs to one of {count(len(shares), 'class', 'classes')}, which nobody has "
        f"named: the largest holds {shares[0]:.0%} of the rows, the smallest {shares[-1]:.1%}."
    ]
    if (told := _agreement(subject, mixture)) is not None:
        words.append(
            f"The labels were not shown to the model. Were each class called by its most frequent "
            f"label, {told:.0%} of the {subject.split} rows would be called rightly."
        )
    if subject.image_shape is None:
        plate = _table_plate(subject, means, "class", [f"{share:.0%}" for share in shares])
        words.append("A row of the chart is a class, with its share: where its mean lies.")
    else:
        plate = Plate(
            alt=f"A sheet of {count(len(means), 'image')}, the mean of every class.",
            caption="The mean of every class, the most frequent first",
            png=sheet(tiles(means, subject.image_shape, subject.limits), SHEET_COLUMNS),
        )
    return Section("causes", "The classes", words, [plate])


def _agreement(subject: Subject, mixture: MixtureModel) -> float | None:
    """Share of rows whose class has their label for its most frequent one."""
    y = subject.y
    if y is None or y.dtype.kind != "i" or not (y >= 0).any():
        return None
    found, labels = mixture.predict(subject.x[y >= 0]), y[y >= 0]
    right = [np.bincount(labels[found == c]).max() for c in np.unique(found)]
    return float(sum(right) / len(labels))


def _factors(subject: Subject, analysis: FactorAnalysis) -> Section:
    explained = np.square(analysis.components_ / analysis.scale_).sum(1)
    order = np.argsort(-explained, kind="stable")[:MOST_FACTORS]
    spread = explained.sum() + (analysis.noise_variance_ / np.square(analysis.scale_)).sum()
    words = [
        f"{explained.sum() / spread:.0%} of the variance of the standardised columns is that of "
        "the factors, the rest is noise of every column by itself. Another rotation of the "
        "factors would explain the rows as well."
    ]
    if subject.image_shape is None:
        names = [f"factor {n + 1}" for n in range(len(order))]
        loadings = analysis.components_[order] + analysis.location_
        plate = _table_plate(subject, loadings, "factor", names)
        words.append("The chart shows how a column, in standard deviations, moves with a factor.")
    else:
        strip = [analysis.mean_ + way * analysis.components_[order] for way in (-FAR, FAR)]
        plate = Plate(
            alt=f"Two rows of {count(len(order), 'image')}: the mean, moved along a factor.",
            caption="The mean image, moved along each factor, those that explain most first",
            png=sheet(
                tiles(np.concatenate(strip), subject.image_shape, subject.limits), len(order)
            ),
            labels=(f"{MINUS}{FAR:.0f}", f"+{FAR:.0f}"),
        )
    return Section("causes", "The factors", words, [plate])


def _table_plate(subject: Subject, rows: np.ndarray, noun: str, names: list[str]) -> Plate:
    """Draw rows [n, d] of the table, in standard deviations from the mean of their column."""
    mean = np.nanmean(subject.reference, axis=0)
    spread = np.nanstd(subject.reference, axis=0)
    shown = ((rows - mean) / np.where(spread > 0, spread, 1.0))[:, :MOST_COLUMNS]
    limit = max(1.0, float(np.abs(shown).max()))

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        how: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "aspect": "auto"}
        shades = axes.imshow(shown, interpolation="nearest", **how)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        few = shown.shape[1] <= MOST_NAMED
        labels = subject.names[: shown.shape[1]] if few else []
        axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=45, ha="right")
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(length=0)
        bar = figure.colorbar(shades, label="standard deviations", shrink=0.9)
        bar.outline.set_visible(False)

    return Plate(
        alt=f"Heat map of {count(len(rows), noun, noun + ('es' if noun[-1] == 's' else 's'))} by "
        "column.",
        caption=f"The first {shown.shape[1]} columns."
        if shown.shape[1] < rows.shape[1]
        else "Blue below the mean of a column, red above.",
        svg=draw("causes", 7.5, 1.6 + 0.22 * len(rows), paint),
    )
