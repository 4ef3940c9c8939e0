"""Corruption of rows, and evaluation of imputation and classification on corrupted rows."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from ancestral.data.preprocessing import corrupt
from ancestral.datasets import Dataset
from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import ClassifierBase
from ancestral.estimators.pegasos import solver_name
from ancestral.evaluation.metrics import (
    ClassificationErrors,
    SquaredErrors,
    classification_errors,
    squared_errors,
)
from ancestral.experiments.evaluation_settings import (
    EvaluationSettings,
    Metric,
    labels,
    make_metric,
)
from ancestral.experiments.scoring import fit_second_stage
from ancestral.utils import files, serialization
from ancestral.utils.validation import Count, Natural, check_field, field_hints

CorruptionKind = Literal["square", "random", "half"]

MAX_DONOR_ROWS = 1000
"""Number of training rows that replace missing entries of a single row."""


@dataclass(frozen=True)
class Corruption:
    """Corruption of rows: the entries to remove.

    Attributes
    ----------
    kind : {"square", "random", "half"}
        A centred square, entries independently at random, or the left half.
    amount : float
        Side of the square in pixels, or probability of removal in [0, 1].

    Examples
    --------
    >>> print(Corruption.parse("square:12"), Corruption.parse("half"), sep=", ")
    square 12, half
    """

    kind: CorruptionKind
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Corruption:
        """Parse ``square:SIDE``, ``random:PROBABILITY`` or ``half``.

        Raises
        ------
        ValueError
            If the text has another form.
        """
        kind, _, amount = text.partition(":")
        try:
            if (kind == "half") == (amount == "") and kind in ("square", "random", "half"):
                return cls(kind, float(amount or 0))  # type: ignore[arg-type]
        except ValueError:
            pass
        raise ValueError(f"corruption={text!r}: expected square:SIDE, random:PROBABILITY or half")

    @property
    def text(self) -> str:
        """Text form, the inverse of :meth:`parse`."""
        return self.kind if self.kind == "half" else f"{self.kind}:{self.amount:g}"

    def __str__(self) -> str:
        return self.kind if self.kind == "half" else f"{self.kind} {self.amount:g}"

    def apply(self, x: np.ndarray, image_shape: tuple[int, ...] | None, seed: int) -> np.ndarray:
        """Copy of the rows [n, d] as floating point, with removed entries set to ``NaN``.

        Raises
        ------
        ValueError
            If the corruption requires images and the rows are none, or the amount is out of range.
        """
        if image_shape is None and self.kind != "random":
            raise ValueError(
                f"corruption={self.text!r}: requires images, but the rows are not images: expected "
                "random:PROBABILITY"
            )
        try:
            return corrupt(x, self.kind, self.amount, image_shape=image_shape, seed=seed)
        except ValueError as error:
            raise ValueError(f"corruption={self.text!r}: {error}") from None


@dataclass(frozen=True)
class ImputationSettings:
    """Imputation settings; see ``LatentEstimator.impute``.

    Attributes
    ----------
    n_iter : int
        Number of imputation iterations.
    n_chains : int
        Number of chains, whose mean is scored.
    init : {"noise", "zero"}
        Initial values of missing entries: uniform noise on [0, 1] (in columns of other ranges,
        values of other rows), or zeros.
    batch_statistics : bool
        Whether batch normalisation uses the statistics of the imputed rows, as in the paper on
        memory-augmented models.
    seed : int
        Seed of the corruption and of the imputation noise.
    method : {"pseudo-gibbs", "weighted"}
        Procedure of the papers, by which recorded numbers were computed, or importance-weighted
        latents, the default of ``impute``.
    """

    n_iter: Count = 100
    n_chains: Count = 1
    init: Literal["noise", "zero"] = "noise"
    batch_statistics: bool = False
    seed: Natural = 0
    method: Literal["weighted", "pseudo-gibbs"] = "pseudo-gibbs"


@dataclass(frozen=True, eq=False)
class ImputationResult:
    """Original, corrupted and imputed rows, with the imputation error.

    Attributes
    ----------
    metric : dict
        Record for ``metrics.json``.
    errors : SquaredErrors
        Squared errors of the removed entries.
    truth, corrupted, imputed : array [n, d]
        Original, corrupted and imputed rows in the user's units; bytes as fractions of 255.
    """

    metric: Metric
    errors: SquaredErrors
    truth: np.ndarray
    corrupted: np.ndarray
    imputed: np.ndarray


def score_imputation(
    estimator: LatentEstimator,
    dataset: Dataset,
    corruption: Corruption,
    settings: ImputationSettings,
    rows: EvaluationSettings,
    cache_dir: Path | None = None,
) -> ImputationResult:
    """Corrupt rows, impute them and score the mean squared error of the removed entries.

    Grey values are not binarised.

    Parameters
    ----------
    estimator : LatentEstimator
        Fitted model.
    dataset : Dataset
        Data set of the rows.
    corruption : Corruption
        Corruption of the rows.
    settings : ImputationSettings
        Imputation settings.
    rows : EvaluationSettings
        Evaluation settings: split and number of rows.
    cache_dir : Path, optional
        Folder in which imputed rows of this model are cached.

    Raises
    ------
    ValueError
        If a setting is invalid, the corruption requires images and the rows are none, or no
        observed entry is removed.
    """
    for name, hint in field_hints(ImputationSettings).items():
        check_field(name, getattr(settings, name), hint)
    split, x = rows.rows(dataset)
    truth = _to_user_units(estimator, x)
    corrupted = _corrupt(estimator, dataset, corruption, settings.seed, truth)
    options: dict[str, Any] = {f.name: getattr(settings, f.name) for f in fields(settings)}
    seed = options.pop("seed")
    imputed, seconds = _impute_cached(
        estimator, corrupted, options | {"random_state": seed}, cache_dir
    )
    truth = truth.astype(corrupted.dtype)
    if not (np.isnan(corrupted) & ~np.isnan(truth)).any():
        raise ValueError(
            f"corruption={corruption.text!r}: removed no entry of {len(x)} {split} rows"
        )
    mse = squared_errors(truth, imputed, np.isnan(corrupted))
    name, value = f"mean squared error of imputations, {corruption}", mse.estimate
    start_time = perf_counter() - seconds
    metric = make_metric(name, split, len(x), dataset, value, start_time, **options, seed=seed)
    return ImputationResult(metric, mse, truth, corrupted, imputed)


def score_corrupted_classification(
    estimator: Estimator,
    dataset: Dataset,
    corruption: Corruption,
    settings: ImputationSettings,
    rows: EvaluationSettings,
    imputation: ImputationResult | None = None,
    *,
    linear_classifier: Any = None,
    training: Dataset | None = None,
) -> list[tuple[Metric, ClassificationErrors]]:
    """Error rate of a classifier on corrupted rows, with noise or imputed values for missing ones.

    Missing entries are replaced by uniform noise on [0, 1] (in columns of other ranges, by values
    of other rows), the baseline of a classifier without a generative model.

    Parameters
    ----------
    estimator : Estimator
        Fitted classifier.
    dataset, corruption, settings, rows
        As in :func:`score_imputation`.
    imputation : ImputationResult, optional
        Imputed versions of the same rows, to be classified as well.
    linear_classifier : classifier, optional
        A classifier with the scikit-learn interface, such as :class:`~ancestral.Pegasos`. A clone
        is fitted to features of the training rows and predicts the classes instead of the
        estimator.
    training : Dataset, optional
        Data set of the training rows; by default ``dataset``. If a single row is scored, they are
        also the source of values for its missing entries.

    Returns
    -------
    list of (dict, ClassificationErrors)
        Record and errors of the noise-filled rows; then of the imputed rows, if given.

    Raises
    ------
    ValueError
        If the estimator is not a classifier or the rows have no labels; if a second stage is given
        and the estimator has no features; if there is no other row as a source of values.
    """
    split, x = rows.rows(dataset)
    y = labels(dataset, rows)
    if not isinstance(estimator, ClassifierBase) or y is None:
        raise ValueError(
            f"{type(estimator).__name__} on {dataset.name}: error rates require a classifier and "
            "class labels"
        )
    truth = _to_user_units(estimator, x)
    corrupted = _corrupt(estimator, dataset, corruption, settings.seed, truth)
    noisy = _fill_with_noise(
        estimator, corrupted, _with_donors(estimator, truth, rows, dataset, training), settings
    )
    inputs = {"noise-filled": noisy} | (
        {} if imputation is None else {"imputed": imputation.imputed}
    )
    suffix = ""
    predict: Callable[[np.ndarray], np.ndarray] = estimator.predict
    if linear_classifier is not None:
        predict = fit_second_stage(estimator, training or dataset, linear_classifier)
        suffix = f", by {solver_name(linear_classifier)}"
    results = []
    for name, values in inputs.items():
        start_time = perf_counter()
        result = classification_errors(predict(values), y[: len(x)])
        metric = make_metric(
            f"error on {name} rows, {corruption}{suffix}, %",
            split,
            len(result.misclassified),
            dataset,
            result.estimate,
            start_time,
            n_iter=settings.n_iter if name == "imputed" else 0,
            batch_statistics=settings.batch_statistics and name == "imputed",
            seed=settings.seed,
        )
        results.append((metric, result))
    return results


def _impute_cached(
    estimator: LatentEstimator,
    corrupted: np.ndarray,
    options: dict[str, Any],
    cache_dir: Path | None,
) -> tuple[np.ndarray, float]:
    """Imputed rows [n, d], from the cache if possible, and the seconds that imputation took."""
    key = hashlib.sha256(corrupted.tobytes()).hexdigest(), options
    file = None if cache_dir is None else cache_dir / f"{serialization.digest(key)[:16]}.npz"
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as cache:
            return cache["imputed"], float(cache["seconds"])
    start_time = perf_counter()
    imputed = estimator.impute(corrupted, **options)
    seconds = perf_counter() - start_time
    if file is not None:
        content = io.BytesIO()
        np.savez(content, imputed=imputed, seconds=seconds)
        files.write_file(file, content.getvalue())
    return imputed, seconds


def _corrupt(
    estimator: Estimator, dataset: Dataset, corruption: Corruption, seed: int, x: np.ndarray
) -> np.ndarray:
    """Corrupted copy of the rows, with the image shape of the data or of the estimator."""
    shape = dataset.image_shape or estimator.image_shape
    return corruption.apply(x, None if shape is None else tuple(shape), seed)


def _to_user_units(estimator: Estimator, x: np.ndarray) -> np.ndarray:
    """Rows in the user's units: bytes multiplied by the estimator's unit, others unchanged."""
    return x * np.float32(estimator.unit_) if x.dtype == np.uint8 else x


def _with_donors(
    estimator: Estimator,
    truth: np.ndarray,
    rows: EvaluationSettings,
    dataset: Dataset,
    training: Dataset | None,
) -> np.ndarray:
    """The scored rows; a single row is followed by training rows."""
    if len(truth) > 1:
        return truth
    same_data = training is None or training is dataset
    candidates = (training or dataset).x_train[: MAX_DONOR_ROWS + 1]
    start = 1 if same_data and rows.rows(dataset)[0] == "train" else 0  # skip the row itself
    return np.concatenate([truth, _to_user_units(estimator, candidates[start:])])


def _fill_with_noise(
    estimator: Estimator, corrupted: np.ndarray, donors: np.ndarray, settings: ImputationSettings
) -> np.ndarray:
    """Replace missing entries by uninformative values.

    Parameters
    ----------
    estimator : Estimator
        Fitted model, for the types of the columns.
    corrupted : array [n, d]
        Corrupted rows.
    donors : array [m, d]
        Rows from which values are drawn; the first n are the original rows.
    settings : ImputationSettings
        Imputation settings: initial values and seed.
    """
    rng = np.random.default_rng([settings.seed, 1])
    if settings.init == "zero":
        noise = np.zeros_like(corrupted)
    else:
        noise = rng.random(corrupted.shape, dtype=corrupted.dtype)
        unbounded = np.array(estimator.likelihood_) != "bernoulli"
        if unbounded.any():
            noise[:, unbounded] = _sample_donors(donors[:, unbounded], len(corrupted), rng)
    return np.nan_to_num(np.where(np.isnan(corrupted), noise, corrupted))


def _sample_donors(donors: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Values of the same columns in random other rows, one for each entry of n rows, [n, d]."""
    if len(donors) < 2:
        raise ValueError(
            "init='noise': a single row has no other row to draw replacement values from: give "
            "more rows, or init='zero'"
        )
    steps = rng.integers(1, len(donors), (n, donors.shape[1]))
    return np.take_along_axis(donors, (np.arange(n)[:, None] + steps) % len(donors), axis=0)
