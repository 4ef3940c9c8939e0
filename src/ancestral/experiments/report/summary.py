"""The head of the page: what was fitted on what, and how likely it makes new rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.registry import METHODS
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import TIMES, Figure, Plate, Section, count, number
from ancestral.experiments.report.figures import INK, MODEL, draw

QUICK_ROWS, QUICK_SAMPLES = 500, 200


def quick_evaluation(subject: Subject) -> LogLikelihood:
    """Estimate the log-likelihood of some rows with few samples: what a page can wait for."""
    return subject.estimator.log_likelihood(
        subject.x[:QUICK_ROWS], n_importance_samples=QUICK_SAMPLES
    )


def standfirst(subject: Subject) -> str:
    """Say in a sentence what was fitted on what."""
    estimator, dataset = subject.estimator, subject.dataset
    name = type(estimator).__name__
    summary = next((m.summary for m in METHODS.values() if m.class_name == name), "")
    summary = summary.split(" (")[0]
    article = "an" if summary[:1] in "aeiou" else "a"
    return (
        f"{name}{f', {article} {summary},' if summary else ''}{_latents(subject)} fitted to "
        f"{count(len(dataset.x_train), 'row')} of {dataset.name}: {_rows_are(subject)}."
    )


def _latents(subject: Subject) -> str:
    """Say how many latent variables there are, if there are some."""
    if not isinstance(subject.estimator, LatentEstimator):
        return ""
    params = subject.estimator.get_params()
    if "n_components" in params:
        return f" with {count(params['n_components'], 'class', 'classes')},"
    n_latents = np.atleast_1d(params.get("n_latents", subject.latents.shape[1]))
    noun = "variable" if n_latents.sum() == 1 else "variables"
    return f" with {' + '.join(map(str, n_latents))} latent {noun},"


def _rows_are(subject: Subject) -> str:
    shape = subject.image_shape
    if shape is None:
        return f"a table of {count(subject.x.shape[1], 'column')}"
    colour = " in colour" if len(shape) == 3 and shape[0] == 3 else ""
    return f"images of {shape[-2]} {TIMES} {shape[-1]} pixels{colour}"


def figures(subject: Subject, result: LogLikelihood) -> list[Figure]:
    """Return the numbers of the headline."""
    spread = number(result.standard_error)
    found = [
        Figure(
            result.mean,
            number(result.mean),
            f"{subject.split} log-likelihood",
            f"± {spread} nats a row (standard error)",
        )
    ]
    if is_discrete(subject):
        observed = float((~np.isnan(subject.x)).sum(1).mean())
        bits = -result.mean / (observed * math.log(2))
        found.append(Figure(bits, number(bits, 3), "bits per dimension", "lower is better"))
    if not result.is_exact:
        found += _sampling(result)
    n_rows = len(result.values)
    return [*found, Figure(n_rows, f"{n_rows:,}", "rows", _which_rows(subject, result))]


def _sampling(result: LogLikelihood) -> list[Figure]:
    n, size = result.n_samples, float(np.median(result.effective_sample_sizes))
    note = f"the median row: {judge(size)[0]}"
    return [
        Figure(n, f"{n:,}", "importance samples", "drawn for each row (S)"),
        Figure(size, number(size, 1), "effective sample size", note),
    ]


def is_discrete(subject: Subject) -> bool:
    """Whether the likelihood is a probability, of bits, codes or counts."""
    return "gaussian" not in subject.kinds and not _fractions_of_bits(subject)


def _fractions_of_bits(subject: Subject) -> bool:
    grey = bool(((subject.x > 0) & (subject.x < 1)).any())
    return subject.estimator.binarize == "none" and "bernoulli" in subject.kinds and grey


def _which_rows(subject: Subject, result: LogLikelihood) -> str:
    if len(result.values) == subject.n_rows:
        return f"all of the {subject.split} split"
    return f"of {subject.n_rows:,} {subject.split} rows"


def judge(size: float) -> tuple[str, str]:
    """Say what a median effective sample size means: in two words, and in a sentence."""
    if size < 2:
        return "too low", (
            "Near 1, as here, the estimate of a typical row rests on a single sample, and the "
            "value is too low: raise the number of samples (n_evaluation_samples)."
        )
    if size < 10:
        return "on the low side", (
            "Only a handful of samples carry a typical row here: the value is a little too low, "
            "and more samples (n_evaluation_samples) would raise it."
        )
    return "sound", (
        "Near 1 the value would be too low and more samples would be called for; here enough "
        "samples carry a typical row."
    )


def likelihood(subject: Subject, result: LogLikelihood, *, quick: bool) -> Section:
    """Explain the number, and show its spread over the rows."""
    words = [
        "The log-likelihood says how probable the model finds rows that it "
        f"{'was fitted to' if subject.split == 'training' else 'has not seen'}: higher is better. "
        + _how_found(result),
        *([] if result.is_exact else [_how_sound(result)]),
        *_warnings(subject, quick=quick),
    ]
    values = result.values[np.isfinite(result.values)]
    plates = [_spread(values, result.mean, subject.split)] if len(np.unique(values)) > 1 else []
    return Section("likelihood", "How likely are new rows?", words, plates)


def _how_found(result: LogLikelihood) -> str:
    if result.is_exact:
        return "Of this model it is known in closed form: the latent variables are summed out."
    return (
        "It has no closed form, so it is estimated by averaging importance weights over "
        f"{count(result.n_samples, 'draw')} of the latent variables for each row, which on "
        "average falls short of the truth, never beyond it."
    )


def _how_sound(result: LogLikelihood) -> str:
    size = float(np.median(result.effective_sample_sizes))
    return (
        "The effective sample size says how many of the draws the average really rests on: "
        f"{number(size, 1)} of {result.n_samples:,} for the median row. {judge(size)[1]}"
    )


def _warnings(subject: Subject, *, quick: bool) -> list[str]:
    found = []
    if subject.split == "training":
        found.append("This data set has no test split: every number and picture on this page is "
                     "of training rows, which flatters the model.")  # fmt: skip
    if quick:
        what = (
            "of a few rows"
            if subject.is_exact
            else "a quick estimate on a few rows with few samples"
        )
        found.append(f"No evaluation was passed to the page: this is {what}.")
    if _fractions_of_bits(subject):
        found.append("Grey values were taken as fractions of a bit (binarize='none'): the value "
                     "is not the likelihood of any data.")  # fmt: skip
    elif subject.estimator.draws_bits_:
        found.append("Grey values were turned into bits by one seeded draw before evaluation.")
    if "gaussian" in subject.kinds:
        found.append("For real-valued columns this is the logarithm of a density, in the units of "
                     "the data: it may be positive, and changes with the units.")  # fmt: skip
    return found


def _spread(values: np.ndarray, mean: float, split: str) -> Plate:
    shown = values[values >= np.quantile(values, 0.005)]

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.hist(shown, bins=min(50, max(8, len(shown) // 12)), color=MODEL, alpha=0.85)
        top = axes.get_ylim()[1] * 1.18
        axes.set_ylim(0, top)
        axes.plot([mean, mean], [0, top * 0.9], color=INK, linewidth=1.1)
        axes.annotate(f"mean {number(mean)}", (mean, top * 0.92), ha="center", color=INK)
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        axes.set_xlabel("log-likelihood of a row, in nats")

    return Plate(
        alt=f"Histogram of the log-likelihoods of {len(shown)} {split} rows around their mean, "
        f"{number(mean)} nats.",
        caption=f"One value for each of the {split} rows. The tail on the left are the rows the "
        "model finds strange (the lowest half per cent is cut off).",
        svg=draw("spread", 7.5, 2.0, paint),
    )
