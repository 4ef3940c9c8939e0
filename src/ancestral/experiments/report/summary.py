"""Summary of the model and the section on the log-likelihood."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.registry import METHODS
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    TIMES,
    Chart,
    HeadlineNumber,
    Section,
    format_count,
    format_number,
)
from ancestral.experiments.report.figures import INK, MODEL, draw_svg

QUICK_ROWS, QUICK_SAMPLES = 500, 200

CUT_FRACTION = 0.005
"""Fraction of the lowest log-likelihoods outside the histogram."""


def quick_evaluation(context: ReportContext) -> LogLikelihood:
    """Estimate the log-likelihood on at most 500 rows with 200 importance samples."""
    return context.estimator.log_likelihood(
        context.x[:QUICK_ROWS], n_importance_samples=QUICK_SAMPLES
    )


def description(context: ReportContext) -> str:
    """Sentence with the model, its size, and the number and kind of training rows."""
    estimator, dataset = context.estimator, context.dataset
    name = type(estimator).__name__
    method = next((m.summary for m in METHODS.values() if m.class_name == name), "")
    method = method.split(" (")[0]
    article = "an" if method[:1] in "aeiou" else "a"
    return (
        f"{name}{f', {article} {method},' if method else ''}{_latent_variables(context)} fitted to "
        f"{format_count(len(dataset.x_train), 'row')} of {dataset.name}: {_row_type(context)}."
    )


def _latent_variables(context: ReportContext) -> str:
    """Phrase with the number of latent variables or mixture components, if any."""
    if not isinstance(context.estimator, LatentEstimator):
        return ""
    params = context.estimator.get_params()
    if "n_components" in params:
        return f" with {format_count(params['n_components'], 'component')},"
    n_latents = np.atleast_1d(params.get("n_latents", context.posterior_means.shape[1]))
    noun = "variable" if n_latents.sum() == 1 else "variables"
    return f" with {' + '.join(map(str, n_latents))} latent {noun},"


def _row_type(context: ReportContext) -> str:
    shape = context.image_shape
    if shape is None:
        return f"a table of {format_count(context.x.shape[1], 'column')}"
    colour = " in colour" if len(shape) == 3 and shape[0] == 3 else ""
    return f"images of {shape[-2]} {TIMES} {shape[-1]} pixels{colour}"


def headline(context: ReportContext, result: LogLikelihood) -> list[HeadlineNumber]:
    """Log-likelihood, bits per dimension, and number and effective number of samples."""
    numbers = [
        HeadlineNumber(
            result.mean,
            format_number(result.mean),
            f"{context.split} log-likelihood",
            f"± {format_number(result.standard_error)} nats per row (standard error)",
        )
    ]
    if is_discrete(context):
        n_observed = float((~np.isnan(context.x)).sum(1).mean())
        bits = -result.mean / (n_observed * math.log(2))
        numbers.append(
            HeadlineNumber(bits, format_number(bits, 3), "bits per dimension", "lower is better")
        )
    if not result.is_exact:
        numbers += _sampling(result)
    n_rows = len(result.values)
    return [*numbers, HeadlineNumber(n_rows, f"{n_rows:,}", "rows", _row_subset(context, result))]


def _sampling(result: LogLikelihood) -> list[HeadlineNumber]:
    n, size = result.n_samples, float(np.median(result.effective_sample_sizes))
    note = f"median over rows: {rate_effective_sample_size(size)[0]}"
    return [
        HeadlineNumber(n, f"{n:,}", "importance samples", "per row (S)"),
        HeadlineNumber(size, format_number(size, 1), "effective sample size", note),
    ]


def is_discrete(context: ReportContext) -> bool:
    """Whether the likelihood is a probability (of bits, codes or counts), not a density."""
    return "gaussian" not in context.likelihoods and not _has_fractional_bits(context)


def _has_fractional_bits(context: ReportContext) -> bool:
    """Whether grey values are modelled as Bernoulli probabilities without binarisation."""
    grey = bool(((context.x > 0) & (context.x < 1)).any())
    return context.estimator.binarize == "none" and "bernoulli" in context.likelihoods and grey


def _row_subset(context: ReportContext, result: LogLikelihood) -> str:
    if len(result.values) == context.n_rows:
        return f"the whole {context.split} set"
    return f"of {context.n_rows:,} {context.split} rows"


def rate_effective_sample_size(size: float) -> tuple[str, str]:
    """Rating of a median effective sample size, and a sentence that explains it."""
    if size < 2:
        return "too low", (
            "Below 2, a single sample dominates the estimate of a typical row and the value is "
            "too low: increase n_evaluation_samples."
        )
    if size < 10:
        return "low", (
            "Below 10, few samples dominate the estimate of a typical row and the value is "
            "slightly too low: a larger n_evaluation_samples increases it."
        )
    return "sufficient", "At 10 or more, the estimate of a typical row uses enough samples."


def section(context: ReportContext, result: LogLikelihood, *, quick: bool) -> Section:
    """Section on the log-likelihood and its distribution over the rows."""
    rows = "training rows" if context.split == "training" else "test rows, not used in training"
    paragraphs = [
        f"Mean log-likelihood of {rows}; higher is better. " + _estimation_method(result),
        *([] if result.is_exact else [_effective_sample_size(result)]),
        *_warnings(context, quick=quick),
    ]
    values = result.values[np.isfinite(result.values)]
    charts = []
    if len(np.unique(values)) > 1:
        charts = [_histogram(values, result.mean, context.split)]
    return Section("likelihood", "Log-likelihood", paragraphs, charts)


def _estimation_method(result: LogLikelihood) -> str:
    if result.is_exact:
        return "It has a closed form for this model: the latent variables are integrated out."
    return (
        "It has no closed form and is estimated by importance sampling with "
        f"{format_count(result.n_samples, 'sample')} of the latent variables per row. The "
        "estimate is a lower bound in expectation."
    )


def _effective_sample_size(result: LogLikelihood) -> str:
    size = float(np.median(result.effective_sample_sizes))
    return (
        "The effective sample size is the number of equally weighted samples with the same "
        f"variance: {format_number(size, 1)} of {result.n_samples:,} for the median row. "
        f"{rate_effective_sample_size(size)[1]}{_unreliable(result)}"
    )


def _unreliable(result: LogLikelihood) -> str:
    """Sentence on rows whose estimates cannot be trusted; empty if there are none."""
    if not result.n_unreliable:
        return ""
    return (
        f" {result.n_unreliable:,} of {len(result.values):,} rows have unreliable estimates, by "
        "the tail of their importance weights (Pareto k) or their effective sample size; "
        "their values are too low and annealing estimates them better."
    )


def _warnings(context: ReportContext, *, quick: bool) -> list[str]:
    warnings = []
    if context.split == "training":
        warnings.append(
            "This data set has no test split: all numbers and charts of this page are of "
            "training rows and therefore optimistic."
        )
    if quick:
        subset = "few rows" if context.is_exact else "few rows and few importance samples"
        warnings.append(f"This is a quick estimate on {subset}.")
    if _has_fractional_bits(context):
        warnings.append(
            "Grey values are modelled as fractions of a bit (binarize='none'): the value is not "
            "a normalised log-likelihood."
        )
    elif context.estimator.draws_bits_:
        warnings.append("Grey values are binarised once, with a fixed seed, before evaluation.")
    if "gaussian" in context.likelihoods:
        warnings.append(
            "For real-valued columns this is a log-density, which depends on the units of the "
            "data and can be positive."
        )
    return warnings


def _histogram(values: np.ndarray, mean: float, split: str) -> Chart:
    shown = values[values >= np.quantile(values, CUT_FRACTION)]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.hist(shown, bins=min(50, max(8, len(shown) // 12)), color=MODEL, alpha=0.85)
        top = axes.get_ylim()[1] * 1.18
        axes.set_ylim(0, top)
        axes.plot([mean, mean], [0, top * 0.9], color=INK, linewidth=1.1)
        axes.annotate(f"mean {format_number(mean)}", (mean, top * 0.92), ha="center", color=INK)
        axes.set_ylabel("number of rows")
        axes.set_xlabel("log-likelihood per row (nats)")

    return Chart(
        alt=f"Histogram of the log-likelihoods of {len(shown)} {split} rows around their mean, "
        f"{format_number(mean)} nats.",
        caption=f"Distribution over {split} rows. Rows in the left tail are improbable under the "
        "model; the lowest 0.5% are not shown.",
        svg=draw_svg("likelihood", 7.5, 2.2, paint),
    )
