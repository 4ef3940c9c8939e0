"""Taking entries away from rows, and scoring what a model fills in, and which class it tells."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from ancestral import storage
from ancestral.classification import learned_afresh
from ancestral.datasets import Dataset
from ancestral.density import LatentEstimator
from ancestral.errors import Errors, SquaredErrors, errors, squared_errors
from ancestral.fields import Count, Natural, check, hints
from ancestral.labels import ClassLearner
from ancestral.methods.pegasos import name_of
from ancestral.preprocess import corrupt
from ancestral.protocol import Metric, Scoring, labels, measured
from ancestral.rows import RowEstimator

Kind = Literal["rect", "random", "half"]

OTHERS = 1000
"""Training rows among which a row that is alone finds values for its gaps."""


@dataclass(frozen=True)
class Damage:
    """What is taken away of each row.

    Attributes
    ----------
    kind : {"rect", "random", "half"}
        A centred square, every entry by itself, or the left half.
    amount : float
        Side of the square in pixels, or probability.

    Examples
    --------
    >>> print(Damage.parse("rect:12"), Damage.parse("half"), sep=", ")
    rect 12, half
    """

    kind: Kind
    amount: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Damage:
        """Read ``rect:SIDE``, ``random:PROBABILITY`` or ``half``.

        Raises
        ------
        ValueError
            If it is none of these.
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
        """What :meth:`parse` reads."""
        return self.kind if self.kind == "half" else f"{self.kind}:{self.amount:g}"

    def __str__(self) -> str:
        return self.kind if self.kind == "half" else f"{self.kind} {self.amount:g}"

    def apply(self, x: np.ndarray, image_shape: tuple[int, ...] | None, seed: int) -> np.ndarray:
        """Return the rows as floating point, ``NaN`` where something was taken away.

        Raises
        ------
        ValueError
            If the rows are no images where the damage needs some, or the amount is out of range.
        """
        if image_shape is None and self.kind != "random":
            raise ValueError(
                f"damage={self.text!r}: is of images, and these are rows of a table: expected "
                "random:PROBABILITY"
            )
        try:
            return corrupt(x, self.kind, self.amount, image_shape=image_shape, seed=seed)
        except ValueError as error:
            raise ValueError(f"damage={self.text!r}: {error}") from None


@dataclass(frozen=True)
class Repair:
    """How the gaps are filled in; see ``LatentEstimator.impute``.

    Attributes
    ----------
    n_iter : int
        Rounds.
    n_chains : int
        Repairs whose mean is scored.
    gaps : {"noise", "zero"}
        What stands in the gaps before: noise on [0, 1], or values of other rows in columns that
        are not of such numbers; or zeros.
    batch_statistics : bool
        Batch normalisation uses the rows at hand, as the memory paper does.
    seed : int
        Of the damage, and of the noise in the repair.
    """

    n_iter: Count = 100
    n_chains: Count = 1
    gaps: Literal["noise", "zero"] = "noise"
    batch_statistics: bool = False
    seed: Natural = 0


@dataclass(frozen=True, eq=False)
class Repaired:
    """Rows before, with gaps and with the gaps filled in, all [n, d], and how far it is off.

    Attributes
    ----------
    metric : dict
        What goes into ``metrics.json``.
    errors : SquaredErrors
        Over the entries that were taken away.
    truth, damaged, filled : array [n, d]
        In the user's units; bytes as fractions of 255.
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
    """Damage rows, let the model repair them, and compare with what was there.

    Grey values are not binarised: the model sees them as they are.

    Parameters
    ----------
    estimator : LatentEstimator
        Fitted.
    dataset : Dataset
        Where the rows come from.
    damage : Damage
        What is taken away.
    how : Repair
        How it is filled in.
    rows : Scoring
        Which rows: split and number.
    kept : Path, optional
        A folder that keeps what this very model fills in: the same rows are not filled in twice.

    Raises
    ------
    ValueError
        If a setting is not what it should be, or rows are no images where the damage needs some.
    """
    for name, hint in hints(Repair).items():
        check(name, getattr(how, name), hint)
    split, x = rows.rows(dataset)
    truth = _values(estimator, x)
    damaged = _damaged(estimator, dataset, damage, how.seed, truth)
    options: dict[str, Any] = {f.name: getattr(how, f.name) for f in fields(how)}
    seed = options.pop("seed")
    filled, seconds = _filled(estimator, damaged, options | {"random_state": seed}, kept)
    truth = truth.astype(damaged.dtype)
    if not (np.isnan(damaged) & ~np.isnan(truth)).any():
        raise ValueError(f"damage {damage}: took nothing away of {len(x)} {split} rows")
    found = squared_errors(truth, filled, np.isnan(damaged))
    name, value = f"mean squared error of repairs, {damage}", (found.mean, found.standard_error)
    began = perf_counter() - seconds
    metric = measured(name, split, len(x), dataset, value, began, **options, seed=seed)
    return Repaired(metric, found, truth, damaged, filled)


def classify(
    estimator: RowEstimator,
    dataset: Dataset,
    damage: Damage,
    how: Repair,
    rows: Scoring,
    repaired: Repaired | None = None,
    *,
    second_stage: Any = None,
    training: Dataset | None = None,
) -> list[tuple[Metric, Errors]]:
    """Count the errors of a classifier on damaged rows: as they are, and refined.

    What is missing is uniform noise at first (of columns that are not numbers in [0, 1], a value of
    another row): what a network without a generative model must make do with.

    Parameters
    ----------
    estimator : RowEstimator
        A fitted classifier.
    dataset, damage, how, rows
        As of :func:`repair`.
    repaired : Repaired, optional
        The same rows as the model has filled them in: these are classified too.
    second_stage : classifier, optional
        Cloned and fitted to features of the whole training rows: it then tells the classes, not
        the scores that the estimator has. Any of scikit-learn's manners, such as
        :class:`~ancestral.Pegasos`.
    training : Dataset, optional
        Whose training rows these are; by default those of the data set itself. A row that is alone
        takes its noise from them.

    Returns
    -------
    list of (dict, Errors)
        Of the noisy rows; of the refined ones, if there are some.

    Raises
    ------
    ValueError
        If the estimator tells no classes apart, or the rows have none; if a second stage is asked
        for and there are no features to learn from; if there is no other row to take noise from.
    """
    split, x = rows.rows(dataset)
    y = labels(dataset, rows)
    if not isinstance(estimator, ClassLearner) or y is None:
        raise ValueError(f"{type(estimator).__name__} on {dataset.name}: no classes to tell apart")
    truth = _values(estimator, x)
    damaged = _damaged(estimator, dataset, damage, how.seed, truth)
    noisy = _noisy(estimator, damaged, _and_others(estimator, truth, rows, dataset, training), how)
    seen = {"noisy": noisy} | ({} if repaired is None else {"refined": repaired.filled})
    predict, by = estimator.predict, ""
    if second_stage is not None:
        predict = learned_afresh(estimator, training or dataset, second_stage)
        by = f", by {name_of(second_stage)}"
    found = []
    for name, given in seen.items():
        began = perf_counter()
        wrong = errors(predict(given), y[: len(x)])
        metric = measured(
            f"error on {name} rows, {damage}{by}, %",
            split,
            len(wrong.wrong),
            dataset,
            (wrong.percent, wrong.standard_error),
            began,
            n_iter=how.n_iter if name == "refined" else 0,
            batch_statistics=how.batch_statistics and name == "refined",
            seed=how.seed,
        )
        found.append((metric, wrong))
    return found


def _filled(
    estimator: LatentEstimator, damaged: np.ndarray, options: dict[str, Any], kept: Path | None
) -> tuple[np.ndarray, float]:
    """Fill the gaps in, or find them filled in; and say how many seconds it took."""
    asked = hashlib.sha256(damaged.tobytes()).hexdigest(), options
    file = None if kept is None else kept / f"{storage.digest(asked)[:16]}.npz"
    if file is not None and file.is_file():
        with np.load(file, allow_pickle=False) as found:
            return found["filled"], float(found["seconds"])
    began = perf_counter()
    filled = estimator.impute(damaged, **options)
    seconds = perf_counter() - began
    if file is not None:
        content = io.BytesIO()
        np.savez(content, filled=filled, seconds=seconds)
        storage.write_file(file, content.getvalue())
    return filled, seconds


def _damaged(
    estimator: RowEstimator, dataset: Dataset, damage: Damage, seed: int, x: np.ndarray
) -> np.ndarray:
    shape = dataset.image_shape or estimator.image_shape
    return damage.apply(x, None if shape is None else tuple(shape), seed)


def _values(estimator: RowEstimator, x: np.ndarray) -> np.ndarray:
    """Return bytes as the numbers that they stand for."""
    return x * np.float32(estimator.unit_) if x.dtype == np.uint8 else x


def _and_others(
    estimator: RowEstimator,
    truth: np.ndarray,
    rows: Scoring,
    dataset: Dataset,
    training: Dataset | None,
) -> np.ndarray:
    """Return the rows that are damaged, and if it is one alone, training rows after it."""
    if len(truth) > 1:
        return truth
    own = training is None or training is dataset
    others = (training or dataset).x_train[: OTHERS + 1]
    first = 1 if own and rows.rows(dataset)[0] == "train" else 0  # the row itself is no other
    return np.concatenate([truth, _values(estimator, others[first:])])


def _noisy(
    estimator: RowEstimator, damaged: np.ndarray, known: np.ndarray, how: Repair
) -> np.ndarray:
    """Fill gaps with what says nothing; the rows themselves come first among those known."""
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
    """Return for every entry of the first n rows the same column's in another row, [n, d]."""
    if len(known) < 2:
        raise ValueError(
            "gaps='noise': there is one row, and no other whose values could stand in its gaps: "
            "give more rows, or gaps='zero'"
        )
    steps = rng.integers(1, len(known), (n, known.shape[1]))
    return np.take_along_axis(known, (np.arange(n)[:, None] + steps) % len(known), axis=0)
