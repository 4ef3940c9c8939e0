"""The user's own tables: .csv and .parquet files, read by polars."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ancestral.datasets.arrays import Fields, encode_labels, tidy_dtypes
from ancestral.datasets.core import UNLABELLED, DataError, damaged
from ancestral.datasets.splits import hold_out

if TYPE_CHECKING:
    import polars as pl

SEPARATORS = (";", "\t", "|")
EMPTY = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]


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
    """Read a table from text; cells that are empty or say NA, NaN or null are missing."""
    frame = _without(read_csv(path, separator=separator, header=header), drop, path)
    return _fields(frame, path, target, test_fraction, seed, shuffle)


def load_parquet(
    path: Path,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    test_fraction: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> Fields:
    """Read a table from a parquet file; nulls are missing."""
    frame = _without(read_parquet(path), drop, path)
    return _fields(frame, path, target, test_fraction, seed, shuffle)


def read_csv(path: Path, *, separator: str = ",", header: bool = True) -> pl.DataFrame:
    """Read a table from text with all its columns."""
    import polars as pl

    try:
        frame = pl.read_csv(
            path,
            separator=separator,
            has_header=header,
            null_values=EMPTY,
            infer_schema_length=None,  # a column that turns to text late must not pass as numbers
        )
    except (pl.exceptions.PolarsError, OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: {_why(path, separator, error)}") from None
    _check_separated(frame, path)
    if header:
        _check_header(frame.columns, path)
    return frame


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a table from a parquet file with all its columns."""
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise damaged(path, f"is not a readable parquet file ({_first_line(error)})") from None


def filled(frame: pl.DataFrame, names: Sequence[str], rows: np.ndarray) -> pl.DataFrame:
    """Put numbers into the empty cells of a table, and leave all else as it is.

    Parameters
    ----------
    frame : polars.DataFrame
        The table.
    names : sequence of str
        Its columns that the rows are about.
    rows : array [n, d]
        A number for each of their cells.

    Examples
    --------
    >>> import polars as pl
    >>> frame = pl.DataFrame({"kind": ["a", "b"], "n": [1, None], "size": [None, 0.5]})
    >>> filled(frame, ["size", "n"], np.array([[1.5, 1.0], [0.5, 3.0]])).rows()
    [('a', 1, 1.5), ('b', 3, 0.5)]
    """
    return frame.with_columns(_filled(frame[name], rows[:, j]) for j, name in enumerate(names))


def _filled(column: pl.Series, values: np.ndarray) -> pl.Series:
    import polars as pl

    empty = column.is_null() | (column.is_nan() if column.dtype.is_float() else False)
    if not empty.any():
        return column
    whole = column.dtype.is_integer() and np.all(values[empty] == np.floor(values[empty]))
    kept = column if whole else column.cast(pl.Float64)
    return pl.select(
        pl.when(empty).then(pl.Series(values).cast(kept.dtype)).otherwise(kept).alias(column.name)
    ).to_series()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _why(path: Path, separator: str, error: Exception) -> str:
    """Say what is wrong with a file that is not a table, and where, if that can be told."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter=separator)
            width = len(next(reader))
            for cells in reader:
                if len(cells) > width:
                    return (
                        f"line {reader.line_num} has {len(cells)} cells, the first line {width}. "
                        "If the cells are split wrongly, pass separator='...'."
                    )
    except UnicodeDecodeError:
        return "is not UTF-8 text. Save it as UTF-8."
    except (OSError, TypeError, csv.Error, StopIteration):
        pass
    return f"is not a readable table ({_first_line(error)})."


def _check_separated(frame: pl.DataFrame, path: Path) -> None:
    """Refuse a table that was not split into cells."""
    if frame.width == 1:
        head = frame.columns[0]
        for separator in SEPARATORS:
            if separator in head:
                raise DataError(
                    f"{path}: the first line, {head!r}, seems to be split by {separator!r}: pass "
                    f"separator={separator!r}."
                )


def _check_header(columns: list[str], path: Path) -> None:
    counted = [list(map(str, range(start, start + len(columns)))) for start in (0, 1)]
    observed = [name for name in columns if name not in EMPTY]
    if observed and all(map(_is_number, observed)) and columns not in counted:
        raise DataError(
            f"{path}: the first line holds only numbers ({', '.join(columns[:3])}, ...). If it "
            "is data, pass header=False; else name the columns."
        )
    if "" in columns:
        raise DataError(
            f"{path}: column {columns.index('') + 1} has no name, as when an index is written with "
            "the table. Name it, or write the table without the index (pandas: index=False)."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _without(frame: pl.DataFrame, drop: str | Sequence[str], path: Path) -> pl.DataFrame:
    """Leave columns out."""
    names = [drop] if isinstance(drop, str) else list(drop)
    for name in names:
        _check_there(frame, name, path)
    return frame.drop(names)


def _check_there(frame: pl.DataFrame, name: str, path: Path) -> None:
    if name not in frame.columns:
        close = get_close_matches(name, frame.columns, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"{path}: no column {name!r}.{guess} Columns: {', '.join(frame.columns)}.")


def _fields(
    frame: pl.DataFrame,
    path: Path,
    target: str | None,
    test_fraction: float | None,
    seed: int,
    shuffle: bool,
) -> Fields:
    if frame.height == 0:
        raise DataError(f"{path}: the table has no rows.")
    y, class_names = (None, None) if target is None else _labels(frame, target, path)
    table = frame if target is None else frame.drop(target)
    if not table.columns:
        raise DataError(f"{path}: no column is left beside the target {target!r}.")
    x = _numbers(table, path)
    split: Fields = {"x_train": x} if y is None else {"x_train": x, "y_train": y}
    if test_fraction is not None:
        split = hold_out(x, y, test_fraction, seed, shuffle)
    return {**split, "feature_names": tuple(table.columns), "class_names": class_names}


def _numbers(table: pl.DataFrame, path: Path) -> np.ndarray:
    """Return the columns as one array: bytes and bits as they are, else floats with NaN."""
    import polars as pl

    _refuse_text(table, path)
    kinds = set(table.dtypes)
    whole = not any(column.null_count() for column in table)
    if whole and kinds in ({pl.UInt8}, {pl.Boolean}):
        return tidy_dtypes([np.ascontiguousarray(table.to_numpy())])[0]
    dtype = pl.Float32 if kinds == {pl.Float32} else pl.Float64
    columns = [column.cast(dtype).fill_null(float("nan")).to_numpy() for column in table]
    return np.stack(columns, axis=1)


def _refuse_text(table: pl.DataFrame, path: Path) -> None:
    import polars as pl

    def numeric(column: pl.Series) -> bool:
        empty = column.null_count() == len(column)
        return empty or column.dtype.is_numeric() or column.dtype == pl.Boolean

    wrong = [c for c in table if not numeric(c)]
    if wrong:
        raise DataError(
            f"{path}: not numbers: {', '.join(map(_odd_cell, wrong))}. Leave these columns out "
            "(drop='...') or encode them as numbers (scikit-learn: OrdinalEncoder, OneHotEncoder); "
            "one of them can be the labels (target='...')."
        )


def _odd_cell(column: pl.Series) -> str:
    """Name a column and the first of its cells that is not a number."""
    import polars as pl

    odd = ~column.is_null()
    if column.dtype == pl.String:
        odd &= column.cast(pl.Float64, strict=False).is_null()
    first = odd.arg_max() or 0
    return f"{column.name!r} ({str(column[first])!r} in row {first + 1})"


def _labels(
    frame: pl.DataFrame, target: str, path: Path
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the target column: text and bits as class indices, numbers as they are.

    Text that is empty, or -1, is a row without a class.
    """
    import polars as pl

    _check_there(frame, target, path)
    column = frame[target]
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _encoded(column.cast(pl.String).fill_null(str(UNLABELLED)).to_numpy().astype(str))
    if column.null_count():
        raise DataError(
            f"{path}: target {target!r} has {column.null_count()} empty cells. Drop these rows, or "
            "write -1 where a class label is unknown."
        )
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(f"{path}: target {target!r} is {column.dtype}, expected numbers or text.")
    if column.dtype == pl.Boolean:
        return _encoded(column.to_numpy())
    whole = column.dtype.is_integer()
    return column.cast(pl.Int64 if whole else pl.Float64).to_numpy(writable=True), None


def _encoded(y: np.ndarray) -> tuple[np.ndarray, tuple[str, ...] | None]:
    codes, names = encode_labels({"y": y})
    return codes["y"], names
