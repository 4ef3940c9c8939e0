"""Readers of .csv and .parquet tables, based on polars."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ancestral.data.labels import UNLABELLED
from ancestral.datasets.arrays import Fields, encode_labels, unify_dtypes
from ancestral.datasets.dataset import DataError, file_error
from ancestral.datasets.splits import train_test_split

if TYPE_CHECKING:
    import polars as pl


SEPARATORS = (";", "\t", "|")

NULL_VALUES = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]


def load_csv(
    path: Path,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    separator: str = ",",
    header: bool = True,
    test_fraction: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> Fields:
    """Read a .csv file; cells that are empty or equal NA, N/A, NaN or null are missing.

    Parameters
    ----------
    path : Path
        The file, in UTF-8.
    target : str, optional
        Name of the column of labels or targets.
    drop : str or sequence of str
        Columns to exclude.
    separator : str
        Separator of the cells.
    header : bool
        Whether the first line contains the column names.
    test_fraction : float, optional
        Fraction of rows in the test split, between 0 and 1; no test split if None.
    seed : int
        Seed of the split.
    shuffle : bool
        Random split (True), or the last rows as the test split (False).

    Returns
    -------
    dict
        Fields of `Dataset`.

    Raises
    ------
    DataError
        If the file is not a table, a column is missing, or features are not numeric.
    """
    frame = _drop_columns(read_csv(path, separator=separator, header=header), drop, path)
    return _dataset_fields(frame, path, target, test_fraction, seed, shuffle)


def load_parquet(
    path: Path,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    test_fraction: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> Fields:
    """Read a .parquet file; null cells are missing.

    Parameters, results and errors are those of :func:`load_csv`.
    """
    frame = _drop_columns(read_parquet(path), drop, path)
    return _dataset_fields(frame, path, target, test_fraction, seed, shuffle)


def read_csv(path: Path, *, separator: str = ",", header: bool = True) -> pl.DataFrame:
    """Read a .csv file with all its columns.

    Raises
    ------
    DataError
        If the file is not a readable table, or its header is missing or incomplete.
    """
    import polars as pl

    try:
        frame = pl.read_csv(
            path,
            separator=separator,
            has_header=header,
            null_values=NULL_VALUES,
            infer_schema_length=None,  # scan all rows: text may occur late in a column
        )
    except (pl.exceptions.PolarsError, OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: {_diagnose_csv(path, separator, error)}") from None
    _check_separator(frame, path)
    if header:
        _check_header(frame.columns, path)
    return frame


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a .parquet file with all its columns.

    Raises
    ------
    DataError
        If the file is not readable.
    """
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise file_error(path, f"is not a readable parquet file ({_first_line(error)})") from None


def fill_missing(frame: pl.DataFrame, names: Sequence[str], rows: np.ndarray) -> pl.DataFrame:
    """Replace the missing cells of a table by given values.

    Parameters
    ----------
    frame : polars.DataFrame
        Table of n rows.
    names : sequence of str
        Names of the d numeric columns to complete.
    rows : array [n, d]
        Values of these columns; only those of missing cells are used.

    Returns
    -------
    polars.DataFrame
        Completed table. A column of integers becomes floating point if a value is not an integer.

    Examples
    --------
    >>> import polars as pl
    >>> frame = pl.DataFrame({"kind": ["a", "b"], "n": [1, None], "size": [None, 0.5]})
    >>> fill_missing(frame, ["size", "n"], np.array([[1.5, 1.0], [0.5, 3.0]])).rows()
    [('a', 1, 1.5), ('b', 3, 0.5)]
    """
    return frame.with_columns(_fill_column(frame[name], rows[:, j]) for j, name in enumerate(names))


def _fill_column(column: pl.Series, values: np.ndarray) -> pl.Series:
    import polars as pl

    missing = column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
    if not missing.any():
        return column
    integral = column.dtype.is_integer() and np.all(values[missing] == np.floor(values[missing]))
    base = column if integral else column.cast(pl.Float64)
    imputed = pl.Series(values).cast(base.dtype)
    return pl.select(pl.when(missing).then(imputed).otherwise(base).alias(column.name)).to_series()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _diagnose_csv(path: Path, separator: str, error: Exception) -> str:
    """Return the cause, and the line if available, why a .csv file is not a table."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter=separator)
            width = len(next(reader))
            for cells in reader:
                if len(cells) > width:
                    return (
                        f"line {reader.line_num} has {len(cells)} cells, the first line {width}. "
                        "Pass separator='...' if the separator is wrong."
                    )
    except UnicodeDecodeError:
        return "is not UTF-8 text. Save it as UTF-8."
    except (OSError, TypeError, csv.Error, StopIteration):
        pass
    return f"is not a readable table ({_first_line(error)})."


def _check_separator(frame: pl.DataFrame, path: Path) -> None:
    """Raise an error if the header of a one-column table contains another separator."""
    if frame.width == 1:
        header = frame.columns[0]
        for separator in SEPARATORS:
            if separator in header:
                raise DataError(
                    f"{path}: the first line, {header!r}, seems to be separated by {separator!r}: "
                    f"pass separator={separator!r}."
                )


def _check_header(columns: list[str], path: Path) -> None:
    enumerations = [list(map(str, range(start, start + len(columns)))) for start in (0, 1)]
    names = [name for name in columns if name not in NULL_VALUES]
    if names and all(map(_is_number, names)) and columns not in enumerations:
        raise DataError(
            f"{path}: the first line contains only numbers ({', '.join(columns[:3])}, ...). Pass "
            "header=False if it is data, or add a line of column names."
        )
    if "" in columns:
        raise DataError(
            f"{path}: column {columns.index('') + 1} has no name. Name it, or write the table "
            "without its index (pandas: index=False)."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _drop_columns(frame: pl.DataFrame, drop: str | Sequence[str], path: Path) -> pl.DataFrame:
    """Return the table without the columns ``drop``."""
    names = [drop] if isinstance(drop, str) else list(drop)
    for name in names:
        _check_column(frame, name, path)
    return frame.drop(names)


def _check_column(frame: pl.DataFrame, name: str, path: Path) -> None:
    if name not in frame.columns:
        close = get_close_matches(name, frame.columns, n=1)
        suggestion = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"{path}: no column {name!r}.{suggestion} Columns: {', '.join(frame.columns)}."
        )


def _dataset_fields(
    frame: pl.DataFrame,
    path: Path,
    target: str | None,
    test_fraction: float | None,
    seed: int,
    shuffle: bool,
) -> Fields:
    if frame.height == 0:
        raise DataError(f"{path}: the table has no rows.")
    y, class_names = (None, None) if target is None else _encode_target(frame, target, path)
    table = frame if target is None else frame.drop(target)
    if not table.columns:
        raise DataError(
            f"{path}: the table has no feature columns; keep at least one besides the target."
        )
    x = _feature_array(table, path)
    split: Fields = {"x_train": x} if y is None else {"x_train": x, "y_train": y}
    if test_fraction is not None:
        split = train_test_split(x, y, test_fraction, seed, shuffle)
    return {**split, "feature_names": tuple(table.columns), "class_names": class_names}


def _feature_array(table: pl.DataFrame, path: Path) -> np.ndarray:
    """Convert the columns to one array: uint8, bool, or floating point with NaN for nulls."""
    import polars as pl

    _check_numeric(table, path)
    kinds = set(table.dtypes)
    complete = not any(column.null_count() for column in table)
    if complete and kinds in ({pl.UInt8}, {pl.Boolean}):
        return unify_dtypes([np.ascontiguousarray(table.to_numpy())])[0]
    dtype = pl.Float32 if kinds == {pl.Float32} else pl.Float64
    columns = [column.cast(dtype).fill_null(float("nan")).to_numpy() for column in table]
    return np.stack(columns, axis=1)


def _check_numeric(table: pl.DataFrame, path: Path) -> None:
    import polars as pl

    def numeric(column: pl.Series) -> bool:
        all_missing = column.null_count() == len(column)
        return all_missing or column.dtype.is_numeric() or column.dtype == pl.Boolean

    text = [column for column in table if not numeric(column)]
    if text:
        raise DataError(
            f"{path}: columns are not numeric: {', '.join(map(_first_invalid_cell, text))}. "
            "Exclude them "
            "(drop='...'), encode them as numbers (scikit-learn: OrdinalEncoder, OneHotEncoder), "
            "or use one as the labels (target='...')."
        )


def _first_invalid_cell(column: pl.Series) -> str:
    """Return a column's name and its first non-numeric cell, for messages."""
    import polars as pl

    invalid = ~column.is_null()
    if column.dtype == pl.String:
        invalid &= column.cast(pl.Float64, strict=False).is_null()
    row = invalid.arg_max() or 0
    return f"{column.name!r} ({str(column[row])!r} in row {row + 1})"


def _encode_target(
    frame: pl.DataFrame, target: str, path: Path
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the target column and its class names.

    Text and bool become class indices, with -1 for text that is null or "-1"; numbers are
    unchanged and have no class names.
    """
    import polars as pl

    _check_column(frame, target, path)
    column = frame[target]
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _encode(column.cast(pl.String).fill_null(str(UNLABELLED)).to_numpy().astype(str))
    if column.null_count():
        raise DataError(
            f"{path}: target {target!r} has {column.null_count()} empty cells. Drop these rows, or "
            "use -1 for unknown class labels."
        )
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(
            f"{path}: target {target!r} has type {column.dtype}; expected numbers or text."
        )
    if column.dtype == pl.Boolean:
        return _encode(column.to_numpy())
    dtype = pl.Int64 if column.dtype.is_integer() else pl.Float64
    return column.cast(dtype).to_numpy(writable=True), None


def _encode(y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...] | None]:
    codes, names = encode_labels({"y": y})
    return codes["y"], names
