"""The user's own tables: .csv and .parquet files, read by polars."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ancestral.datasets.arrays import Fields, tidy_dtypes
from ancestral.datasets.core import DataError, damaged
from ancestral.datasets.splits import hold_out

if TYPE_CHECKING:
    import polars as pl

EMPTY = ["", "NA", "N/A", "NaN", "nan", "null", "NULL"]


def load_csv(
    path: Path,
    *,
    target: str | None = None,
    separator: str = ",",
    header: bool = True,
    test_fraction: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> Fields:
    """Read a table from text; cells that are empty or say NA, NaN or null are missing."""
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
        raise damaged(path, f"is not a readable table ({_first_line(error)})") from None
    if header:
        _check_header(frame.columns, path)
    return _fields(frame, path, target, test_fraction, seed, shuffle)


def load_parquet(
    path: Path,
    *,
    target: str | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> Fields:
    """Read a table from a parquet file; nulls are missing."""
    import polars as pl

    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise damaged(path, f"is not a readable parquet file ({_first_line(error)})") from None
    return _fields(frame, path, target, test_fraction, seed, shuffle)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _check_header(columns: list[str], path: Path) -> None:
    if "" in columns:
        raise DataError(
            f"{path}: column {columns.index('') + 1} has no name, as when an index is written with "
            "the table. Name it, or write the table without the index (pandas: index=False)."
        )
    counted = [list(map(str, range(start, start + len(columns)))) for start in (0, 1)]
    if all(map(_is_number, columns)) and columns not in counted:
        raise DataError(
            f"{path}: the first line holds only numbers ({', '.join(columns[:3])}, ...). If it "
            "is data, pass header=False; else name the columns."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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

    wrong = [f"{c.name!r} ({c.dtype}, e.g. {c.drop_nulls()[0]})" for c in table if not numeric(c)]
    if wrong:
        raise DataError(
            f"{path}: not numbers: {', '.join(wrong)}. Drop these columns or encode them as "
            "numbers (scikit-learn: OrdinalEncoder, OneHotEncoder); one of them can be the labels "
            "(target='...'). If the cells are split wrongly, pass separator='...'."
        )


def _labels(
    frame: pl.DataFrame, target: str, path: Path
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the target column: text as class indices (-1 where empty), numbers as they are."""
    import polars as pl

    if target not in frame.columns:
        close = get_close_matches(target, frame.columns, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"{path}: no column {target!r}.{guess} Columns: {', '.join(frame.columns)}."
        )
    column = frame[target]
    if column.dtype in (pl.String, pl.Categorical, pl.Enum):
        return _encode(column.cast(pl.String))
    if column.null_count():
        raise DataError(
            f"{path}: target {target!r} has {column.null_count()} empty cells. Drop these rows, or "
            "write -1 where a class label is unknown."
        )
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(f"{path}: target {target!r} is {column.dtype}, expected numbers or text.")
    whole = column.dtype.is_integer() or column.dtype == pl.Boolean
    return column.cast(pl.Int64 if whole else pl.Float64).to_numpy(writable=True), None


def _encode(column: pl.Series) -> tuple[np.ndarray, tuple[str, ...]]:
    names = sorted(column.drop_nulls().unique().to_list())
    number = {name: index for index, name in enumerate(names)}
    codes = [-1 if cell is None else number[cell] for cell in column]
    return np.array(codes, np.int64), tuple(names)
