"""Samples of implicit models and their quality, and samples recorded during training."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ancestral.estimators.base.supervised import class_names
from ancestral.evaluation.sample_quality import SampleQuality, nearest_neighbors, sample_quality
from ancestral.experiments.report import tabular
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    Chart,
    HeadlineNumber,
    HtmlTable,
    Section,
    format_count,
    format_significant,
    join_words,
)
from ancestral.experiments.report.figures import image_row_grid
from ancestral.experiments.scoring import to_model_units

GRID_SIDE, GRID_COLUMNS = 10, 14

MMD2 = "MMD\N{SUPERSCRIPT TWO}"


@lru_cache(maxsize=1)  # computed once per page
def _evaluate(context: ReportContext) -> tuple[np.ndarray, SampleQuality]:
    """Samples, as many as complete rows ``x``, and their quality."""
    real, training = _complete_rows(context.x), _complete_rows(context.training)
    generated = context.estimator.sample(len(real), random_state=context.seed)
    arrays = (to_model_units(context.estimator, rows) for rows in (generated, real, training))
    return generated, sample_quality(*arrays, random_state=context.seed)


def _complete_rows(rows: np.ndarray) -> np.ndarray:
    """Rows without missing entries."""
    return rows[~np.isnan(rows).any(1)]


def headline(context: ReportContext) -> list[HeadlineNumber]:
    """Metrics of sample quality."""
    quality = _evaluate(context)[1]
    mmd2, accuracy = quality.mmd2, quality.c2st_accuracy
    return [
        HeadlineNumber(
            mmd2.value,
            format_significant(mmd2.value),
            MMD2,
            f"{format_significant(quality.real_mmd2)} between two halves of the real rows",
        ),
        HeadlineNumber(
            accuracy.value,
            f"{accuracy.value:.1%}",
            "C2ST accuracy",
            f"± {accuracy.standard_error:.1%} (standard error); 50% is ideal",
        ),
        HeadlineNumber(
            quality.precision, f"{quality.precision:.0%}", "precision", "quality of samples"
        ),
        HeadlineNumber(quality.recall, f"{quality.recall:.0%}", "recall", "diversity of samples"),
    ]


def sections(context: ReportContext) -> list[Section]:
    """Sections on samples, their quality and, for images, samples during training."""
    if context.image_shape is None:
        return [tabular.samples_section(context), _quality_section(context)]
    return [_samples_section(context), _quality_section(context), _training_section(context)]


def _samples_section(context: ReportContext) -> Section:
    """Section with samples next to real images."""
    generated, _ = _evaluate(context)
    n = GRID_SIDE**2
    real = context.x[context.rng(1).permutation(len(context.x))[:n]]
    charts = [
        Chart(
            alt=f"Grid of {format_count(n, 'sample')} of the model.",
            caption="Samples of the model",
            png=image_row_grid(context, generated[:n], GRID_SIDE),
            size="half",
        ),
        Chart(
            alt=f"Grid of {format_count(len(real), 'real image')}.",
            caption=f"Real {context.split} images",
            png=image_row_grid(context, real, GRID_SIDE),
            size="half",
        ),
    ]
    paragraphs = [
        "The generator maps noise to images; the model has no likelihood. Good samples resemble "
        "real images and are equally diverse.",
    ]
    if context.estimator.target_kind == "classes":
        charts.append(_class_samples(context))
        paragraphs.append("The third grid shows samples conditioned on a class, one class per row.")
    return Section("samples", "Samples", paragraphs, charts)


def _class_samples(context: ReportContext) -> Chart:
    estimator = context.estimator
    names = class_names(estimator)
    y = np.repeat(estimator.classes_, GRID_COLUMNS)
    generated = estimator.sample(len(y), y, random_state=context.seed)
    return Chart(
        alt=f"Grid of samples, one row for each of the classes {', '.join(names)}.",
        caption="Samples of each class",
        png=image_row_grid(context, generated, GRID_COLUMNS),
        labels=names,
    )


def _training_section(context: ReportContext) -> Section:
    """Section with samples of the same noise after several epochs."""
    epochs, samples = context.estimator.sample_log()
    paragraphs = [
        "Each column shows samples of the same noise after increasing numbers of epochs. If they "
        "no longer change, more training brings little; if they keep changing without improving, "
        "adversarial training oscillates."
    ]
    held_out = context.estimator.history_.curve("validation.mmd2")
    if held_out:
        best = 1 + int(np.argmin(held_out))
        paragraphs.append(
            f"The squared MMD to held-out rows was lowest after epoch {best} of {len(held_out)}: "
            f"{format_significant(held_out[best - 1])}, against "
            f"{format_significant(held_out[-1])} after the last. Early stopping (patience) ends "
            "training when it no longer decreases."
        )
    chart = Chart(
        alt=f"Samples of the same noise after {join_words([str(e) for e in epochs])} epochs.",
        caption="Samples of the same noise during training; labels are epochs",
        png=image_row_grid(context, np.concatenate(samples), samples.shape[1]),
        labels=[str(epoch) for epoch in epochs],
    )
    return Section("sample-log", "Samples during training", paragraphs, [chart])


def _quality_section(context: ReportContext) -> Section:
    """Section with metrics of sample quality and nearest training images."""
    generated, quality = _evaluate(context)
    nearest, real_nearest = map(format_significant, (quality.nearest, quality.real_nearest))
    rows = [
        (f"{MMD2} to real rows", *map(format_significant, (quality.mmd2.value, quality.real_mmd2))),
        ("p-value of the permutation test", format_significant(quality.p_value), ""),
        ("C2ST accuracy (nearest neighbour)", f"{quality.c2st_accuracy.value:.1%}", "50% (ideal)"),
        ("precision", f"{quality.precision:.0%}", ""),
        ("recall", f"{quality.recall:.0%}", ""),
        ("median distance to the nearest training row", nearest, real_nearest),
    ]
    paragraphs = [
        f"The model has no likelihood, so samples are compared with real {context.split} rows. The "
        "squared maximum mean discrepancy (MMD) is zero in expectation for equal distributions. "
        "The classifier two-sample test (C2ST) has an accuracy of 50% if a classifier cannot "
        "distinguish samples from real rows. Precision is the fraction of samples within the "
        "region of real rows, recall the fraction of real rows within the region of samples.",
        "Memorisation makes samples much closer to training rows than real rows are. The median "
        f"distance to the nearest training row is {nearest} for samples and {real_nearest} for "
        "real rows.",
    ]
    table = HtmlTable("Sample quality", ("metric", "samples", "real rows"), rows)
    charts = []
    if context.image_shape is not None:
        training = _complete_rows(context.training)
        _, index = nearest_neighbors(generated[:GRID_COLUMNS], training)
        pairs = np.concatenate([generated[:GRID_COLUMNS], training[index]])
        charts.append(
            Chart(
                alt=f"{GRID_COLUMNS} samples above their nearest training images.",
                caption="Samples and their nearest training images",
                png=image_row_grid(context, pairs, GRID_COLUMNS),
                labels=("sample", "nearest"),
            )
        )
    return Section("sample-quality", "Sample quality", paragraphs, charts, table)
