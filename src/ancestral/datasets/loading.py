"""`load`: one door to the catalogue and to the user's own files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ancestral.datasets.arrays import Fields, load_npy, load_npz
from ancestral.datasets.catalogue import check_options, find, load_entry
from ancestral.datasets.core import DataError, Dataset, content_checksum
from ancestral.datasets.entries import ENTRIES
from ancestral.datasets.pictures import load_images
from ancestral.datasets.splits import few_labels
from ancestral.datasets.tables import load_csv, load_parquet, read_csv, read_parquet

if TYPE_CHECKING:
    import polars as pl

READERS: dict[str, Callable[..., Fields]] = {
    ".npy": load_npy,
    ".npz": load_npz,
    ".csv": load_csv,
    ".parquet": load_parquet,
}


def load(
    name_or_path: str | os.PathLike[str],
    *,
    n_valid: int | None = None,
    n_train: int | None = None,
    n_labels: int | None = None,
    label_seed: int = 0,
    contrast: bool = False,
    halves: bool = False,
    **options: Any,
) -> Dataset:
    """Load a data set of the catalogue by name, or the user's own file or folder.

    Files of the catalogue are looked for in the folder that the environment variable
    ANCESTRAL_DATA names (one sub-folder a data set), then in the user's cache, and are
    downloaded into the cache otherwise. What was read is checked against a checksum.

    Parameters
    ----------
    name_or_path : str or path
        One of `names()`, or the path of an .npy, .npz, .csv or .parquet file or of a folder of
        images. A name wins over a path of the same text; ``"./mnist"`` is always a path.
    n_valid : int, optional
        Make the last so many training rows the validation split: the way to choose settings on
        data that have none of their own.
    n_train : int, optional
        Keep only the first so many training rows.
    n_labels : int, optional
        Keep the labels of only so many training rows, as many of every class; the others become
        unlabelled, -1.
    label_seed : int
        Of the draw of those rows.
    contrast : bool
        Normalise the contrast of images globally, then locally, as the max-margin papers do with
        SVHN: real values take the place of bytes.
    halves : bool
        Give the left half of every image as a row, and the right half as its targets.
    **options
        For the user's own data: ``test_fraction`` (share of rows for a test split; none if
        absent), ``seed`` (of that split, 0), ``shuffle`` (True; if False the last rows are the
        test split).
        For tables: ``target`` (column of labels or targets) and ``drop`` (a column, or several,
        to leave out).
        For .csv: ``separator`` (a comma) and ``header`` (True).
        For folders of images: ``size`` ((height, width) to resize to) and ``grayscale``.
        For "boston_housing": ``split`` (0 to 19).

    Returns
    -------
    Dataset
        Rows, labels, and where they come from.

    Raises
    ------
    DataError
        If the name or an option is unknown, or the data are missing, damaged or unusable.
        It is a ValueError, and says what to do.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits
    Dataset('digits', train 1500 x 64 float32, test 297, image (8, 8), 10 classes)
    >>> digits.y_train.shape
    (1500,)
    """
    if isinstance(name_or_path, str) and name_or_path in ENTRIES:
        dataset = load_entry(find(name_or_path), **options)
    else:
        dataset = _load_path(Path(name_or_path).expanduser(), str(name_or_path), options)
    if n_valid is not None:
        dataset = dataset.held_out(n_valid)
    if n_train is not None:
        dataset = dataset.first(n_train)
    if n_labels is not None:
        dataset = few_labels(dataset, n_labels, label_seed)
    if contrast:
        dataset = dataset.with_contrast()
    return dataset.halved() if halves else dataset


def read_table(
    path: str | os.PathLike[str], separator: str = ",", header: bool = True
) -> pl.DataFrame | None:
    """Read a table of the user's own with all its columns; None if these are other data.

    Parameters
    ----------
    path : str or path
        A .csv or .parquet file, or any other data.
    separator, header
        Of a .csv file, as for :func:`load`.
    """
    place = Path(path).expanduser()
    if path in ENTRIES or not place.is_file():
        return None
    match place.suffix.lower():
        case ".csv":
            return read_csv(place, separator=separator, header=header)
        case ".parquet":
            return read_parquet(place)
    return None


def _load_path(path: Path, text: str, options: dict[str, Any]) -> Dataset:
    reader = _reader(path, text)
    check_options(reader, options, str(path))
    fields = reader(path, **options)
    note = " ".join(filter(None, [fields.pop("note", ""), _split_note(options)]))
    dataset = Dataset(name=path.stem, source=str(path), note=note, **fields)
    if reader is load_npy:
        return dataset
    return replace(dataset, checksum=content_checksum(dataset.arrays()))


def _reader(path: Path, text: str) -> Callable[..., Fields]:
    if path.is_dir():
        return load_images
    reader = READERS.get(path.suffix.lower())
    if not path.is_file():
        if reader is None and path.name == text:
            find(text)  # raises, with the names
        raise DataError(f"{path}: there is no such file or folder.")
    if reader is None:
        raise DataError(
            f"{path}: files ending in {path.suffix!r} are not read, only {', '.join(READERS)} and "
            "folders of images."
        )
    return reader


def _split_note(options: dict[str, Any]) -> str:
    if options.get("test_fraction") is None:
        return ""
    if not options.get("shuffle", True):
        return f"The last {options['test_fraction']:g} of the rows are the test split."
    seed = options.get("seed", 0)
    return f"A random {options['test_fraction']:g} of the rows are the test split, seed {seed}."
