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
from ancestral.experiments.protocol import Metric, Scoring, labels, measured
from ancestral.experiments.scoring import learned_afresh
from ancestral.utils import files, serialization
from ancestral.utils.validation import Count, Natural, check_field, field_hints

Kind = Literal["rect", "random", "half"]

OTHERS = 1000
"""Number of training rows that replace missing entries of a single row."""


@dataclass(frozen=True)
class Damage:
    """Corruption of rows: the entries to remove.

    Attributes
    ----------
    kind : {"rect", "random", "half"}
        A centred square, entries independently at random, or the left half.
    amount : float
        Side of the square in pixels, or probability of removal in [0, 1].

    Examples
    --------
    >>> print(Damage.parse("rect:12"), Damage.parse("half"), sep=", ")
    rect 12, half
    """

    kind: Kind
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Damage:
        """Parse ``rect:SIDE``, ``random:PROBABILITY`` or ``half``.

        Raises
        ------
        ValueError
            If the text has another form.
        """
        kind, _, amount = text.partition(":")
        try:
            if (kind == "half") == (amount == "") and kind in ("rect", "random", "half"):
                return cls(kind, float(amount or 0))  # type: ignore[arg-type]
        except ValueError:
            pass
        raise ValueError(f"damage={text!r}: expected rect:SIDE, random:PROBABILITY or half")

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
                f"damage={self.text!r}: requires images, but the rows are not images: expected "
                "random:PROBABILITY"
            )
        try:
            return corrupt(x, self.kind, self.amount, image_shape=image_shape, seed=seed)
        except ValueError as error:
            raise ValueError(f"damage={self.text!r}: {error}") from None


@dataclass(frozen=True)
class Repair:
    """Imputation settings; see ``LatentEstimator.impute``.

    Attributes
    ----------
    n_iter : int
        Number of imputation iterations.
    n_chains : int
        Number of chains, whose mean is scored.
    gaps : {"noise", "zero"}
        Initial values of missing entries: uniform noise on [0, 1] (in columns of other ranges,
        values of other rows), or zeros.
    batch_statistics : bool
        Whether batch normalisation uses the statistics of the imputed rows, as in the paper on
        memory-augmented models.
    seed : int
        Seed of the corruption and of the imputation noise.
    """

    n_iter: Count = 100
    n_chains: Count = 1
    gaps: Literal["noise", "zero"] = "noise"
    batch_statistics: bool = False
    seed: Natural = 0


@dataclass(frozen=True, eq=False)
class Repaired:
    """Original, corrupted and imputed rows, with the imputation error.

    Attributes
    ----------
    metric : dict
        Record for ``metrics.json``.
    errors : SquaredErrors
        Squared errors of the removed entries.
    truth, damaged, filled : array [n, d]
        Original, corrupted and imputed rows in the user's units; bytes as fractions of 255.
    """

    metric: Metric
    errors: SquaredErrors
    truth: np.ndarray
    damaged: np.ndarray
    filled: np.ndarray


def repair(
    estimator: LatentEstimator,
    dataset: Dataset,
    damage: Damage,
    how: Repair,
    rows: Scoring,
    kept: Path | None = None,
) -> Repaired:
    """Corrupt rows, impute them and score the mean squared error of the removed entries.

    Grey values are not binarised.

    Parameters
    ----------
    estimator : LatentEstimator
        Fitted model.
    dataset : Dataset
        Data set of the rows.
    damage : Damage
        Corruption of the rows.
    how : Repair
        Imputation settings.
    rows : Scoring
        Evaluation settings: split and number of rows.
    kept : Path, optional
        Folder in which imputed rows of this model are cached.

    Raises
    ------
    ValueError
        If a setting is invalid, the corruption requires images and the rows are none, or no
        observed entry is removed.
    """
    for name, hint in field_hints(Repair).items():
        check_field(name, getattr(how, name), hint)
    split, x = rows.rows(dataset)
    truth = _values(estimator, x)
    damaged = _damaged(estimator, dataset, damage, how.seed, truth)
    options: dict[str, Any] = {f.name: getattr(how, f.name) for f in fields(how)}
    seed = options.pop("seed")
    filled, seconds = _filled(estimator, damaged, options | {"random_state": seed}, kept)
    truth = truth.astype(damaged.dtype)
    if not (np.isnan(damaged) & ~np.isnan(truth)).any():
        raise ValueError(f"damage={damage.text!r}: removed no entry of {len(x)} {split} rows")
    mse = squared_errors(truth, filled, np.isnan(damaged))
    name, value = f"mean squared error of repairs, {damage}", (mse.mean, mse.standard_error)
    began = perf_counter() - seconds
    metric = measured(name, split, len(x), dataset, value, began, **options, seed=seed)
    return Repaired(metric, mse, truth, damaged, filled)


def classify(
    estimator: Estimator,
    dataset: Dataset,
    damage: Damage,
    how: Repair,
    rows: Scoring,
    repaired: Repaired | None = None,
    *,
    second_stage: Any = None,
    training: Dataset | None = None,
) -> list[tuple[Metric, ClassificationErrors]]:
    """Error rate of a classifier on corrupted rows, with noise or imputed values for missing ones.

    Missing entries are replaced by uniform noise on [0, 1] (in columns of other ranges, by values
    of other rows), the baseline of a classifier without a generative model.

    Parameters
    ----------
    estimator : Estimator
        Fitted classifier.
    dataset, damage, how, rows
        As in :func:`repair`.
    repaired : Repaired, optional
        Imputed versions of the same rows, to be classified as well.
    second_stage : classifier, optional
        A classifier with the scikit-learn interface, such as :class:`~ancestral.Pegasos`. A clone
        is fitted to features of the training rows and predicts the classes instead of the
        estimator.
    training : Dataset, optional
        Data set of the training rows; by default ``dataset``. If a single row is scored, they are
        also the source of values for its missing entries.

    Returns
    -------
    list of (dict, ClassificationErrors)
        Record and errors of the noisy rows; then of the imputed rows, if given.

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
    truth = _values(estimator, x)
    damaged = _damaged(estimator, dataset, damage, how.seed, truth)
    noisy = _noisy(estimator, damaged, _and_others(estimator, truth, rows, dataset, training), how)
    inputs = {"noisy": noisy} | ({} if repaired is None else {"refined": repaired.filled})
    suffix = ""
    predict: Callable[[np.ndarray], np.ndarray] = estimator.predict
    if second_stage is not None:
        predict = learned_afresh(estimator, training or dataset, second_stage)
        suffix = f", by {solver_name(second_stage)}"
    results = []
    for name, values in inputs.items():
        began = perf_counter()
        result = classification_errors(predict(values), y[: len(x)])
        metric = measured(
            f"error on {name} rows, {damage}{suffix}, %",
            split,
            len(result.misclassified),
            dataset,
            (result.percent, result.standard_error),
            began,
            n_iter=how.n_iter if name == "refined" else 0,
            batch_statistics=how.batch_statistics and name == "refined",
            seed=how.seed,
        )
        results.append((metric, result))
    return results


def _filled(
    estimator: LatentEstimator, damaged: np.ndarray, options: dict[str, Any], kept: Path | None
) -> tuple[np.ndarray, float]:
    """Imputed rows [n, d], from the cache if possible, and the seconds that imputation took."""
    key = hashlib.sha256(damaged.tobytes()).hexdigest(), options
    file = None if kept is None else kept / f"{serialization.digest(key)[:16]}.npz"
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as cache:
            return cache["filled"], float(cache["seconds"])
    began = perf_counter()
    filled = estimator.impute(damaged, **options)
    seconds = perf_counter() - began
    if file is not None:
        content = io.BytesIO()
        np.savez(content, filled=filled, seconds=seconds)
        files.write_file(file, content.getvalue())
    return filled, seconds


def _damaged(
    estimator: Estimator, dataset: Dataset, damage: Damage, seed: int, x: np.ndarray
) -> np.ndarray:
    """Corrupted copy of the rows, with the image shape of the data or of the estimator."""
    shape = dataset.image_shape or estimator.image_shape
    return damage.apply(x, None if shape is None else tuple(shape), seed)


def _values(estimator: Estimator, x: np.ndarray) -> np.ndarray:
    """Rows in the user's units: bytes multiplied by the estimator's unit, others unchanged."""
    return x * np.float32(estimator.unit_) if x.dtype == np.uint8 else x


def _and_others(
    estimator: Estimator,
    truth: np.ndarray,
    rows: Scoring,
    dataset: Dataset,
    training: Dataset | None,
) -> np.ndarray:
    """The scored rows; a single row is followed by training rows."""
    if len(truth) > 1:
        return truth
    same_data = training is None or training is dataset
    candidates = (training or dataset).x_train[: OTHERS + 1]
    start = 1 if same_data and rows.rows(dataset)[0] == "train" else 0  # skip the row itself
    return np.concatenate([truth, _values(estimator, candidates[start:])])


def _noisy(estimator: Estimator, damaged: np.ndarray, known: np.ndarray, how: Repair) -> np.ndarray:
    """Replace missing entries by uninformative values.

    Parameters
    ----------
    estimator : Estimator
        Fitted model, for the types of the columns.
    damaged : array [n, d]
        Corrupted rows.
    known : array [m, d]
        Rows from which values are drawn; the first n are the original rows.
    how : Repair
        Imputation settings: initial values and seed.
    """
    rng = np.random.default_rng([how.seed, 1])
    if how.gaps == "zero":
        noise = np.zeros_like(damaged)
    else:
        noise = rng.random(damaged.shape, dtype=damaged.dtype)
        unbounded = np.array(estimator.likelihood_) != "bernoulli"
        if unbounded.any():
            noise[:, unbounded] = _of_others(known[:, unbounded], len(damaged), rng)
    return np.nan_to_num(np.where(np.isnan(damaged), noise, damaged))


def _of_others(known: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Values of the same columns in random other rows, one for each entry of n rows, [n, d]."""
    if len(known) < 2:
        raise ValueError(
            "gaps='noise': a single row has no other row to draw replacement values from: give "
            "more rows, or gaps='zero'"
        )
    steps = rng.integers(1, len(known), (n, known.shape[1]))
    return np.take_along_axis(known, (np.arange(n)[:, None] + steps) % len(known), axis=0)
