"""Taking entries away from rows, and scoring what a model fills in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from time import perf_counter
from typing import Any, Literal

import numpy as np

from ancestral.datasets import Dataset
from ancestral.density import LatentEstimator
from ancestral.errors import SquaredErrors, squared_errors
from ancestral.fields import Count, Natural, check, hints
from ancestral.preprocess import corrupt
from ancestral.scoring import Metric, Scoring

Kind = Literal["rect", "random", "half"]


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
        raise ValueError(f"damage {text!r}: expected rect:SIDE, random:PROBABILITY or half")

    def __str__(self) -> str:
        return self.kind if self.kind == "half" else f"{self.kind} {self.amount:g}"

    def apply(self, x: np.ndarray, image_shape: tuple[int, ...] | None, seed: int) -> np.ndarray:
        """Return the rows as floating point, ``NaN`` where something was taken away."""
        return corrupt(x, self.kind, self.amount, image_shape=image_shape, seed=seed)


@dataclass(frozen=True)
class Repair:
    """How the gaps are filled in; see ``LatentEstimator.impute``.

    Attributes
    ----------
    n_iter : int
        Rounds.
    n_chains : int
        Repairs whose mean is scored.
    batch_statistics : bool
        Batch normalisation uses the rows at hand, as the memory paper does.
    seed : int
        Of the damage, and of the noise in the repair.
    """

    n_iter: Count = 100
    n_chains: Count = 1
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

    Raises
    ------
    ValueError
        If a setting is not what it should be, or rows are no images where the damage needs some.
    """
    for name, hint in hints(Repair).items():
        check(name, getattr(how, name), hint)
    split, x = rows.rows(dataset)
    shape = dataset.image_shape or estimator.image_shape
    began = perf_counter()
    damaged = damage.apply(x, None if shape is None else tuple(shape), how.seed)
    options: dict[str, Any] = {f.name: getattr(how, f.name) for f in fields(how)}
    filled = estimator.impute(damaged, random_state=options.pop("seed"), **options)
    truth = x / np.float32(255) if x.dtype == np.uint8 else x.astype(damaged.dtype)
    errors = squared_errors(truth, filled, np.isnan(damaged))
    metric = {
        "metric": f"squared error of repairs, {damage}",
        "split": split,
        "n_rows": len(x),
        **options,
        "seed": how.seed,
        "data": dataset.name,
        "data_checksum": dataset.checksum,
        "value": errors.mean,
        "standard_error": errors.standard_error,
        "seconds": perf_counter() - began,
    }
    return Repaired(metric, errors, truth, damaged, filled)
