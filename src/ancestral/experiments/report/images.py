"""Sections of models of images: samples, reconstructions and imputation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ancestral.data.preprocessing import corrupt
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    TIMES,
    Chart,
    HtmlTable,
    Section,
    format_count,
    format_significant,
)
from ancestral.experiments.report.figures import image_row_grid

GRID_SIDE, GRID_COLUMNS = 10, 14

MAX_EVALUATED, N_ITERATIONS, N_IMPUTATIONS = 200, 25, 4

MISSING_FRACTION = 0.6


def samples_section(context: ReportContext) -> Section:
    """Section with samples next to real images."""
    n = GRID_SIDE**2
    samples = context.estimator.sample(n, mean=True, random_state=context.seed)
    real = _random_rows(context, n, stream=1)
    paragraphs = [
        "Samples: latent variables are drawn from the prior and decoded; the mean of the "
        "likelihood is shown, without pixel noise.",
        f"Good samples resemble real {context.split} images and are equally diverse. Blurred "
        "samples are the mean of several possible images, typical of few latent variables or "
        "short training.",
    ]
    charts = [
        Chart(
            alt=f"Grid of {format_count(n, 'sample')} of the model.",
            caption="Samples of the model",
            png=image_row_grid(context, samples, GRID_SIDE),
            size="half",
        ),
        Chart(
            alt=f"Grid of {format_count(len(real), 'real image')} of the {context.split} set.",
            caption=f"Real {context.split} images",
            png=image_row_grid(context, real, GRID_SIDE),
            size="half",
        ),
    ]
    return Section("samples", "Samples", paragraphs, charts)


def reconstructions_section(context: ReportContext) -> Section:
    """Section with images above their reconstructions."""
    images = _random_rows(context, GRID_COLUMNS, stream=2)
    evaluated = context.x[:MAX_EVALUATED]
    error = np.nanmean(np.square(evaluated - context.estimator.reconstruct(evaluated)))
    pairs = np.concatenate([images, context.estimator.reconstruct(images)])
    paragraphs = [
        f"Above, {context.split} images; below, their reconstructions: each image is encoded to "
        f"its {context.encoding} and decoded. Differences are information that the latent "
        "variables do not represent.",
    ]
    chart = Chart(
        alt=f"Two rows of {len(images)} images: originals above, reconstructions below.",
        caption=f"Mean squared error {format_significant(error)} per pixel, over "
        f"{format_count(len(evaluated), 'image')}.",
        png=image_row_grid(context, pairs, len(images)),
        labels=("original", "reconstructed"),
    )
    return Section("reconstructions", "Reconstructions", paragraphs, [chart])


def imputation_section(context: ReportContext) -> Section:
    """Section with imputations of three corruptions and their errors."""
    x = context.x[:MAX_EVALUATED]
    shown = np.sort(context.rng(3).permutation(len(x))[:GRID_COLUMNS])
    charts, rows = [], []
    for name, mask in corruption_masks(len(x), context.image_shape or (), context.seed).items():
        corrupted = np.where(mask, np.nan, x)
        n_imputations = 1 if context.is_exact else N_IMPUTATIONS
        imputations = [impute(context, corrupted, i) for i in range(n_imputations)]
        estimates = [imputations[0], np.nanmean(context.training, axis=0)[None]]
        if n_imputations > 1:
            estimates.insert(1, np.mean(imputations, axis=0))
        errors = [_mean_squared_error(x, e, mask & ~np.isnan(x)) for e in estimates]
        rows.append((name, f"{mask.mean():.0%}", *map(format_significant, errors)))
        strip = np.concatenate([x[shown], corrupted[shown], imputations[0][shown]])
        charts.append(
            Chart(
                alt=f"Three rows of {len(shown)} images: originals, the same with {name} missing, "
                "and imputed images.",
                caption=f"Missing: {name}",
                png=image_row_grid(context, strip, len(shown)),
                labels=("original", "corrupted", "imputed"),
            )
        )
    columns: tuple[str, ...] = ("imputation",)
    if not context.is_exact:
        columns = ("one imputation", f"mean of {N_IMPUTATIONS} imputations")
    header = ("missing", "fraction", *columns, "training mean")
    table = HtmlTable("Mean squared error of missing pixels; lower is better", header, rows)
    paragraphs = _imputation_paragraphs(context, len(x))
    return Section("imputation", "Imputation", paragraphs, charts, table)


def _imputation_paragraphs(context: ReportContext, n_images: int) -> list[str]:
    method = (
        "their conditional expectation given the observed pixels"
        if context.is_exact
        else f"{N_ITERATIONS} iterations of pseudo-Gibbs sampling: encode, sample the latent "
        "variables, decode"
    )
    spread = "" if context.is_exact else (
        " One imputation is a sample and can be plausible but different from the original; the "
        f"mean of {N_IMPUTATIONS} is smoother and usually has a lower error."
    )  # fmt: skip
    return [
        f"Pixels of {context.split} images are removed (orange) and imputed by {method}. Observed "
        "pixels are unchanged.",
        f"The table shows the mean squared error of the missing pixels of "
        f"{format_count(n_images, 'image')}. The baseline is the training mean of each pixel."
        + spread,
    ]


def impute(context: ReportContext, corrupted: np.ndarray, number: int) -> np.ndarray:
    """Imputation of corrupted images; the number selects the random stream."""
    seed = int(context.rng(200 + number).integers(2**31))
    return context.estimator.impute(
        corrupted, method="pseudo-gibbs", n_iter=N_ITERATIONS, random_state=seed
    )


def corruption_masks(n: int, image_shape: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Masks of missing entries by name of the corruption, [n, d]; all channels of a pixel alike."""
    plane = tuple(image_shape[-2:])
    side = max(1, min(plane) * 3 // 7)
    blank = np.zeros((n, plane[0] * plane[1]), dtype=np.float32)
    corrupted = {
        f"a square of {side} {TIMES} {side}": corrupt(blank, "square", side, image_shape=plane),
        "the left half": corrupt(blank, "half", image_shape=plane),
        f"{MISSING_FRACTION:.0%} of the pixels": corrupt(
            blank, "random", MISSING_FRACTION, seed=seed
        ),
    }
    n_channels = int(np.prod(image_shape[:-2]))
    return {name: np.tile(np.isnan(x), n_channels) for name, x in corrupted.items()}


def _mean_squared_error(x: np.ndarray, estimate: np.ndarray, mask: np.ndarray) -> float:
    squares = np.square(x - estimate)[mask]
    return float(squares.mean()) if len(squares) else float("nan")


def _random_rows(context: ReportContext, n: int, *, stream: int) -> np.ndarray:
    return context.x[context.rng(stream).permutation(len(context.x))[:n]]
