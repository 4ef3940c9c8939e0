"""What the columns of a table look like: learnt at fit, checked ever after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from ancestral.datasets.core import row_blocks
from ancestral.preprocess import ColumnKind, Columns

KINDS = get_args(ColumnKind)
SHOWN = 5


def learn_columns(
    X: np.ndarray,
    likelihood: str | Sequence[str],
    unit: float = 1.0,
    *,
    density: bool = True,
    names: Sequence[str] | None = None,
) -> Columns:
    """Learn kind, location, scale and number of categories of every column of training rows.

    Parameters
    ----------
    X : array [n, d]
        ``NaN`` marks missing entries; uint8 and bool hold none.
    likelihood : str or sequence of str
        ``"auto"``, one kind for all columns, or one for each.
    unit : float
        What a stored one stands for.
    density : bool
        Whether the likelihood itself is maximised: no column may then be constant.
    names : sequence of str, optional
        Of the columns, for messages.

    Raises
    ------
    ValueError
        If the values do not suit the likelihood: it names the columns and what would.
    """
    low, high = value_range(X, unit)
    _check_seen(low, names)
    kinds = _kinds(likelihood, low, high)
    d = X.shape[1]
    loc, scale = np.zeros(d), np.ones(d)
    gaussian = [j for j, k in enumerate(kinds) if k == "gaussian"]
    if gaussian:
        loc[gaussian], scale[gaussian] = _location_and_scale(
            X, gaussian, low[gaussian], unit, names
        )
    _check_codes(kinds, high, len(X), names)
    n_categories = [
        int(high[j]) + 1 if k == "categorical" and np.isfinite(high[j]) else 0
        for j, k in enumerate(kinds)
    ]
    columns = Columns(kinds, loc, scale, n_categories)
    check_columns(X, columns, unit, fitting=True, names=names)
    if density:
        _check_varied(low, high, gaussian, names)
    return columns


def check_columns(
    X: np.ndarray,
    columns: Columns,
    unit: float = 1.0,
    *,
    fitting: bool = False,
    names: Sequence[str] | None = None,
) -> None:
    """Check that values suit the likelihood of their columns.

    Raises
    ------
    ValueError
        For a Bernoulli value outside [0, 1], a count or code that is negative or broken, or a
        category that was not there at fit.
    """
    if X.dtype == np.bool_ or set(columns.kinds) == {"gaussian"}:
        return
    low, high = value_range(X, unit if X.dtype == np.uint8 else 1.0)
    for kind in ("bernoulli", "categorical", "poisson"):
        chosen = columns.columns_of(kind)
        if kind == "bernoulli":
            expected = "values within [0, 1]"
            _refuse(chosen, (low < 0) | (high > 1), kind, expected, low, high, names)
        elif chosen:
            broken = np.zeros(X.shape[1], dtype=bool)
            broken[chosen] = _any_broken(X, chosen)
            expected = "whole numbers from 0 on"
            _refuse(chosen, (low < 0) | broken, kind, expected, low, high, names)
    if not fitting:
        limit = np.where(np.array(columns.n_categories) > 0, columns.n_categories, np.inf)
        coded, unseen = columns.columns_of("categorical"), "codes that were there at fit"
        _refuse(coded, high >= limit, "categorical", unseen, low, high, names)


def is_binary(X: np.ndarray) -> bool:
    """Whether all observed values are bits: 0 and 1, or 0 and 255 in bytes."""
    if X.dtype == np.bool_:
        return True
    top = 255 if X.dtype == np.uint8 and X.max() > 1 else 1
    return all(np.all((b == 0) | (b == top) | np.isnan(b)) for b in row_blocks(X))


def as_numbers(X: np.ndarray, kinds: set[str]) -> np.ndarray:
    """Read bytes as the numbers they are, not as pixels, where counts or codes are among them."""
    counted = not kinds.isdisjoint({"categorical", "poisson"})
    return X.astype(np.float32) if counted and X.dtype in (np.uint8, np.bool_) else X


def value_range(X: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the greatest value of every column, [d]; NaN where all are missing."""
    if X.dtype.kind != "f":
        return X.min(0) * unit, X.max(0) * unit
    low, high = np.fmin.reduce(X, 0), np.fmax.reduce(X, 0)
    return low.astype(np.float64), high.astype(np.float64)


def has_missing(X: np.ndarray) -> bool:
    """Whether some entry is ``NaN``."""
    return X.dtype.kind == "f" and any(np.isnan(block).any() for block in row_blocks(X))


def _any_broken(X: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Which columns hold a number that is not whole."""
    parts = (block[:, columns] for block in row_blocks(X))
    return np.any([((p != np.floor(p)) & ~np.isnan(p)).any(0) for p in parts], 0)


def _kinds(likelihood: str | Sequence[str], low: np.ndarray, high: np.ndarray) -> list[ColumnKind]:
    if likelihood == "auto":
        inside = bool(np.nanmin(low) >= 0 and np.nanmax(high) <= 1)
        return ["bernoulli" if inside else "gaussian"] * len(low)
    kinds = [likelihood] * len(low) if isinstance(likelihood, str) else list(likelihood)
    unknown = sorted({k for k in kinds if k not in KINDS})
    if unknown:
        raise ValueError(f"likelihood={unknown[0]!r}: expected auto, {', '.join(KINDS)}")
    if len(kinds) != len(low):
        raise ValueError(f"likelihood names {len(kinds)} columns; the rows have {len(low)}")
    return kinds  # type: ignore[return-value]


def _location_and_scale(
    X: np.ndarray,
    columns: Sequence[int],
    low: np.ndarray,
    unit: float,
    names: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray]:
    total, squares, count = (np.zeros(len(columns)) for _ in range(3))
    for rows in row_blocks(X):
        # taking the smallest value away keeps the precision of squares far from zero
        block = np.asarray(rows, dtype=np.float64)[:, columns] * unit - low
        seen = ~np.isnan(block)
        block = np.where(seen, block, 0.0)
        total += block.sum(0)
        with np.errstate(over="ignore"):
            squares += np.square(block).sum(0)
        count += seen.sum(0)
    count = np.maximum(count, 1)
    mean = total / count
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.maximum(squares / count - mean**2, 0.0)
    scale = np.sqrt(variance)
    lost = [j for j, s in zip(columns, scale, strict=True) if not np.isfinite(s)]
    if lost:
        raise ValueError(
            f"X: the values of {_name(lost, names)} are too large to be squared: rescale them"
        )
    return mean + low, np.where(scale > 0, scale, 1.0)


def _check_codes(
    kinds: Sequence[ColumnKind], high: np.ndarray, n_rows: int, names: Sequence[str] | None
) -> None:
    many = max(256, n_rows)
    wide = [j for j, k in enumerate(kinds) if k == "categorical" and high[j] >= many]
    if wide:
        raise ValueError(
            f"X: {_name(wide, names)} has codes up to {high[wide].max():g}, more than there are "
            "rows: recode to 0, 1, ... (scikit-learn: OrdinalEncoder)"
        )


def _check_seen(low: np.ndarray, names: Sequence[str] | None) -> None:
    empty = np.flatnonzero(np.isnan(low))
    if len(empty):
        raise ValueError(
            f"X: {_name(empty, names)} holds no observed value: drop it before fitting"
        )


def _check_varied(
    low: np.ndarray, high: np.ndarray, gaussian: Sequence[int], names: Sequence[str] | None
) -> None:
    flat = [j for j in gaussian if low[j] == high[j]]
    if flat:
        raise ValueError(
            f"X: {_name(flat, names)} is constant, and the density of a Gaussian that fits it "
            "grows without bound: drop it, or give it another likelihood"
        )


def _refuse(
    columns: Sequence[int],
    bad: np.ndarray,
    kind: str,
    expected: str,
    low: np.ndarray,
    high: np.ndarray,
    names: Sequence[str] | None,
) -> None:
    wrong = [j for j in columns if bad[j]]
    if wrong:
        lowest, highest = np.nanmin(low[wrong]), np.nanmax(high[wrong])
        raise ValueError(
            f"X: {_name(wrong, names)} has values from {lowest:g} to {highest:g}; a {kind} "
            f"likelihood needs {expected}. Rescale or recode the values, or choose another "
            "likelihood"
        )


def _name(columns: Sequence[int] | np.ndarray, names: Sequence[str] | None) -> str:
    told = [str(int(j)) if names is None else repr(names[int(j)]) for j in columns[:SHOWN]]
    shown = ", ".join(told)
    more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
    return f"column {shown}" if len(columns) == 1 else f"each of the columns {shown}{more}"
