"""Columns of a table: kinds, their inference and checks, and scaling to model units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ancestral.data.sampling import row_blocks

ColumnKind = Literal["bernoulli", "gaussian", "categorical", "poisson"]


class Columns(nn.Module):
    """Transform between the columns of a table, model inputs and network inputs.

    Gaussian columns are standardised; ``log_volume`` corrects log-densities to the original units.
    Network inputs have log(1 + count) for Poisson columns and one-hot indicators for categorical
    columns; Bernoulli columns are unchanged. A missing entry is zero in all its network inputs.

    Parameters
    ----------
    kinds : sequence of str
        Kind of each column: ``bernoulli``, ``gaussian``, ``categorical`` or ``poisson``.
    loc, scale : arrays [d]
        Location and scale of Gaussian columns, in the user's units; 0 and 1 for other columns.
    n_categories : sequence of int
        Number of codes of categorical columns; 0 for other columns.

    Examples
    --------
    >>> columns = Columns(["gaussian", "categorical"], [2.0, 0.0], [4.0, 1.0], [0, 3])
    >>> columns.to_model_units(torch.tensor([[6.0, 2.0]]))
    tensor([[1., 2.]], dtype=torch.float64)
    >>> columns.to_features(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 0., 1.]])
    """

    def __init__(
        self,
        kinds: Sequence[ColumnKind],
        loc: Sequence[float] | np.ndarray,
        scale: Sequence[float] | np.ndarray,
        n_categories: Sequence[int],
    ) -> None:
        super().__init__()
        self.kinds, self.n_categories = tuple(kinds), tuple(int(n) for n in n_categories)
        self.needs_scaling = "gaussian" in self.kinds
        self.needs_encoding = not {"categorical", "poisson"}.isdisjoint(self.kinds)
        self.register_buffer("loc", torch.as_tensor(loc, dtype=torch.float64), persistent=False)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64), persistent=False)
        self.loc: Tensor
        self.scale: Tensor

    def column_indices(self, kind: ColumnKind) -> list[int]:
        """Return the indices of the columns of one kind."""
        return [j for j, k in enumerate(self.kinds) if k == kind]

    @property
    def n_features(self) -> int:
        """Number of network inputs, the last dimension of :meth:`to_features`."""
        return sum(max(1, n) for n in self.n_categories)

    def to_model_units(self, x: Tensor) -> Tensor:
        """Standardise Gaussian columns: from the user's units [batch, d] to model units."""
        return (x - self.loc) / self.scale if self.needs_scaling else x

    def to_data_units(self, x: Tensor) -> Tensor:
        """Invert :meth:`to_model_units`: from model units [..., d] to the user's units."""
        return x * self.scale + self.loc if self.needs_scaling else x

    def log_volume(self, mask: Tensor | None) -> Tensor:
        """Sum of log ``scale`` over the observed entries, in nats; [] without mask, else [batch].

        log p(x) in the user's units is the log-density in model units minus this value.
        """
        log_scale = self.scale.log()
        return log_scale.sum() if mask is None else (mask * log_scale).sum(-1)

    def to_features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode model units [..., d] as network inputs [..., n_features]."""
        if not self.needs_encoding:
            return x
        encoded = []
        for j, (kind, n) in enumerate(zip(self.kinds, self.n_categories, strict=True)):
            column = x[..., j : j + 1]
            if kind == "poisson":
                column = torch.log1p(column)
            elif kind == "categorical":
                column = nn.functional.one_hot(x[..., j].long(), n).to(x.dtype)
            encoded.append(column if mask is None else column * mask[..., j : j + 1])
        return torch.cat(encoded, -1)


class ColumnFeatures(nn.Module):
    """First layer of an encoder: encodes x and mask of a context with :class:`Columns`."""

    context_fields = ("x", "mask")

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, context: Any) -> Tensor:
        """Return the network inputs [..., n_features]."""
        return self.columns.to_features(context.x, context.mask)


COLUMN_KINDS = get_args(ColumnKind)

MAX_LISTED_COLUMNS = 5


def infer_columns(
    X: np.ndarray,
    likelihood: str | Sequence[str],
    unit: float = 1.0,
    *,
    density: bool = True,
    standardize: bool = True,
    names: Sequence[str] | None = None,
) -> Columns:
    """Infer kind, location, scale and number of categories of every column from training data.

    Parameters
    ----------
    X : array [n, d]
        Training data; ``NaN`` marks missing entries of floating-point arrays.
    likelihood : str or sequence of str
        ``"auto"`` (Bernoulli if all values lie in [0, 1], else Gaussian), one kind for all
        columns, or one kind per column.
    unit : float
        Factor applied to stored values.
    density : bool
        True if the likelihood is maximised; constant Gaussian columns then raise an error.
    standardize : bool
        True to compute location and scale of Gaussian columns; 0 and 1 otherwise.
    names : sequence of str, optional
        Column names for error messages.

    Returns
    -------
    Columns
        The column types and their parameters.

    Raises
    ------
    ValueError
        If values of a column do not suit its likelihood, or a column has no observed value.
    """
    low, high = value_range(X, unit)
    _check_not_empty(low, names)
    kinds = _resolve_kinds(likelihood, low, high)
    d = X.shape[1]
    loc, scale = np.zeros(d), np.ones(d)
    gaussian = [j for j, k in enumerate(kinds) if k == "gaussian"]
    if gaussian and standardize:
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
        _check_not_constant(low, high, gaussian, names)
    return columns


def check_columns(
    X: np.ndarray,
    columns: Columns,
    unit: float = 1.0,
    *,
    fitting: bool = False,
    names: Sequence[str] | None = None,
) -> None:
    """Check that the values of every column suit its likelihood.

    Parameters
    ----------
    X : array [n, d]
        Data; ``NaN`` marks missing entries.
    columns : Columns
        Column types of the training data.
    unit : float
        Factor applied to stored bytes.
    fitting : bool
        True for the training data, which defines the categories.
    names : sequence of str, optional
        Column names for error messages.

    Raises
    ------
    ValueError
        For a Bernoulli value outside [0, 1], a count or code that is negative or not an integer,
        or a category that is absent from the training data.
    """
    if X.dtype == np.bool_ or set(columns.kinds) == {"gaussian"}:
        return
    low, high = value_range(X, unit if X.dtype == np.uint8 else 1.0)
    for kind in ("bernoulli", "categorical", "poisson"):
        indices = columns.column_indices(kind)
        if kind == "bernoulli":
            expected = "values in [0, 1]"
            _raise_if_invalid(indices, (low < 0) | (high > 1), kind, expected, low, high, names)
        elif indices:
            fractional = np.zeros(X.shape[1], dtype=bool)
            fractional[indices] = _non_integer_columns(X, indices)
            expected = "integers of at least 0"
            _raise_if_invalid(indices, (low < 0) | fractional, kind, expected, low, high, names)
    if not fitting:
        limit = np.where(np.array(columns.n_categories) > 0, columns.n_categories, np.inf)
        indices, expected = (
            columns.column_indices("categorical"),
            "codes present in the training data",
        )
        _raise_if_invalid(indices, high >= limit, "categorical", expected, low, high, names)


def is_binary(X: np.ndarray) -> bool:
    """Return whether all observed values are binary: 0 and 1, or 0 and 255 for uint8."""
    if X.dtype == np.bool_:
        return True
    top = 255 if X.dtype == np.uint8 and X.max() > 1 else 1
    return all(np.all((b == 0) | (b == top) | np.isnan(b)) for b in row_blocks(X))


def bytes_as_counts(X: np.ndarray, kinds: set[str]) -> np.ndarray:
    """Convert uint8 and bool to float32 without scaling if ``kinds`` has counts or categories."""
    has_counts = not kinds.isdisjoint({"categorical", "poisson"})
    return X.astype(np.float32) if has_counts and X.dtype in (np.uint8, np.bool_) else X


def value_range(X: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Minimum and maximum of every column, [d] each; NaN for columns without observed values."""
    if X.dtype.kind != "f":
        return X.min(0) * unit, X.max(0) * unit
    low, high = np.fmin.reduce(X, 0), np.fmax.reduce(X, 0)
    return low.astype(np.float64), high.astype(np.float64)


def has_missing(X: np.ndarray) -> bool:
    """Return whether any entry is ``NaN``."""
    return X.dtype.kind == "f" and any(np.isnan(block).any() for block in row_blocks(X))


def _non_integer_columns(X: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Return which columns contain a non-integer value, as a bool array [len(columns)]."""
    blocks = (block[:, columns] for block in row_blocks(X))
    return np.any([((b != np.floor(b)) & ~np.isnan(b)).any(0) for b in blocks], 0)


def _resolve_kinds(
    likelihood: str | Sequence[str], low: np.ndarray, high: np.ndarray
) -> list[ColumnKind]:
    if likelihood == "auto":
        in_unit_interval = bool(np.nanmin(low) >= 0 and np.nanmax(high) <= 1)
        return ["bernoulli" if in_unit_interval else "gaussian"] * len(low)
    kinds = [likelihood] * len(low) if isinstance(likelihood, str) else list(likelihood)
    unknown = sorted({k for k in kinds if k not in COLUMN_KINDS})
    if unknown:
        raise ValueError(f"likelihood={unknown[0]!r}: expected auto, {', '.join(COLUMN_KINDS)}")
    if len(kinds) != len(low):
        raise ValueError(
            f"likelihood has {len(kinds)} entries; expected one per column, {len(low)} in all"
        )
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
        # subtracting the minimum avoids cancellation in the variance of data far from zero
        block = np.asarray(rows, dtype=np.float64)[:, columns] * unit - low
        observed = ~np.isnan(block)
        block = np.where(observed, block, 0.0)
        total += block.sum(0)
        with np.errstate(over="ignore"):
            squares += np.square(block).sum(0)
        count += observed.sum(0)
    count = np.maximum(count, 1)
    mean = total / count
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.maximum(squares / count - mean**2, 0.0)
    scale = np.sqrt(variance)
    overflowing = [j for j, s in zip(columns, scale, strict=True) if not np.isfinite(s)]
    if overflowing:
        raise ValueError(
            f"X: the variance of {_format_columns(overflowing, names)} overflows double "
            "precision: rescale "
            "the values"
        )
    return mean + low, np.where(scale > 0, scale, 1.0)


def _check_codes(
    kinds: Sequence[ColumnKind], high: np.ndarray, n_rows: int, names: Sequence[str] | None
) -> None:
    limit = max(256, n_rows)
    too_large = [j for j, k in enumerate(kinds) if k == "categorical" and high[j] >= limit]
    if too_large:
        raise ValueError(
            f"X: {_format_columns(too_large, names)} has codes up to {high[too_large].max():g}; "
            "categorical "
            f"codes must be below {limit}. Recode to 0, 1, ... (scikit-learn: OrdinalEncoder)"
        )


def _check_not_empty(low: np.ndarray, names: Sequence[str] | None) -> None:
    empty = np.flatnonzero(np.isnan(low))
    if len(empty):
        raise ValueError(
            f"X: {_format_columns(empty, names)} has no observed value: drop it before fitting"
        )


def _check_not_constant(
    low: np.ndarray, high: np.ndarray, gaussian: Sequence[int], names: Sequence[str] | None
) -> None:
    constant = [j for j in gaussian if low[j] == high[j]]
    if constant:
        raise ValueError(
            f"X: {_format_columns(constant, names)} is constant, so its Gaussian likelihood is "
            "unbounded: "
            "drop it or choose another likelihood"
        )


def _raise_if_invalid(
    columns: Sequence[int],
    bad: np.ndarray,
    kind: str,
    expected: str,
    low: np.ndarray,
    high: np.ndarray,
    names: Sequence[str] | None,
) -> None:
    invalid = [j for j in columns if bad[j]]
    if invalid:
        lowest, highest = np.nanmin(low[invalid]), np.nanmax(high[invalid])
        raise ValueError(
            f"X: {_format_columns(invalid, names)} has values from {lowest:g} to {highest:g}; a "
            f"{kind} "
            f"likelihood requires {expected}. Rescale or recode the values, or choose another "
            "likelihood"
        )


def _format_columns(columns: Sequence[int] | np.ndarray, names: Sequence[str] | None) -> str:
    labels = [
        str(int(j)) if names is None else repr(names[int(j)]) for j in columns[:MAX_LISTED_COLUMNS]
    ]
    text = ", ".join(labels)
    more = (
        f" and {len(columns) - MAX_LISTED_COLUMNS} more"
        if len(columns) > MAX_LISTED_COLUMNS
        else ""
    )
    return f"column {text}" if len(columns) == 1 else f"each of the columns {text}{more}"
