"""Loading of catalogue data sets and of user files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ancestral.datasets.arrays import Fields, load_npy, load_npz
from ancestral.datasets.catalogue import ENTRIES
from ancestral.datasets.catalogue_loading import check_options, find_entry, load_entry
from ancestral.datasets.dataset import DataError, Dataset, content_checksum
from ancestral.datasets.images import load_images
from ancestral.datasets.splits import subsample_labels
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
    """Load a catalogue data set by name, or a user file or folder by path.

    Files of the catalogue are searched in the folder given by the environment variable
    ANCESTRAL_DATA (one sub-folder per data set), then in the user's cache. Missing files are
    downloaded into the cache. The content is verified by a checksum.

    Parameters
    ----------
    name_or_path : str or path
        One of `names()`, or the path of an .npy, .npz, .csv or .parquet file or of a folder of
        images. A name takes precedence over a path of the same text; ``"./mnist"`` is a path.
    n_valid : int, optional
        Number of last training rows that become the validation split of a data set without one.
    n_train : int, optional
        Number of first training rows to use; all if None.
    n_labels : int, optional
        Number of labelled training rows, equal for all classes; the labels of other training rows
        become -1. All labels if None.
    label_seed : int
        Seed of the choice of labelled rows.
    contrast : bool
        Apply global, then local contrast normalisation to images, as the max-margin papers do for
        SVHN; features become float32.
    halves : bool
        Use left image halves as features and right halves as targets.
    **options
        User data: ``test_fraction`` (fraction of rows in the test split; default no test split),
        ``seed`` (of that split; default 0), ``shuffle`` (default True; if False the last rows are
        the test split).
        Tables: ``target`` (column of labels or targets), ``drop`` (column or columns to exclude).
        .csv files: ``separator`` (default comma), ``header`` (default True).
        Folders of images: ``size`` ((height, width) to resize to), ``grayscale`` (default False).
        "boston_housing": ``split`` (0 to 19, default 0).

    Returns
    -------
    Dataset
        Features, labels and metadata.

    Raises
    ------
    DataError
        If the name or an option is unknown, or the data are missing, damaged or unsuitable. A
        subclass of ValueError.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits
    Dataset('digits', train 1500 x 64 float32, test 297, image (8, 8), 10 classes)
    >>> digits.y_train.shape
    (1500,)
    """
    if isinstance(name_or_path, str) and name_or_path in ENTRIES:
        dataset = load_entry(find_entry(name_or_path), **options)
    else:
        dataset = _load_path(Path(name_or_path).expanduser(), str(name_or_path), options)
    if n_valid is not None:
        dataset = dataset.with_validation_split(n_valid)
    if n_train is not None:
        dataset = dataset.with_train_size(n_train)
    if n_labels is not None:
        dataset = subsample_labels(dataset, n_labels, label_seed)
    if contrast:
        dataset = dataset.with_contrast_normalization()
    return dataset.with_right_half_targets() if halves else dataset


def read_table(
    path: str | os.PathLike[str], separator: str = ",", header: bool = True
) -> pl.DataFrame | None:
    """Read a .csv or .parquet file with all its columns.

    Parameters
    ----------
    path : str or path
        Path of the file, or a name or path of other data.
    separator : str
        Separator of the cells of a .csv file.
    header : bool
        Whether the first line of a .csv file contains the column names.

    Returns
    -------
    polars.DataFrame or None
        The table; None if ``path`` is not a .csv or .parquet file.

    Raises
    ------
    DataError
        If the file is not a readable table.
    """
    file = Path(path).expanduser()
    if path in ENTRIES or not file.is_file():
        return None
    match file.suffix.lower():
        case ".csv":
            return read_csv(file, separator=separator, header=header)
        case ".parquet":
            return read_parquet(file)
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
            find_entry(text)  # raises an error that lists the catalogue
        raise DataError(f"{path}: no such file or folder.")
    if reader is None:
        raise DataError(
            f"{path}: files ending in {path.suffix!r} are not supported; expected "
            f"{', '.join(READERS)} or a folder of images."
        )
    return reader


def _split_note(options: dict[str, Any]) -> str:
    if options.get("test_fraction") is None:
        return ""
    if not options.get("shuffle", True):
        return f"The last {options['test_fraction']:g} of the rows are the test split."
    seed = options.get("seed", 0)
    return f"A random {options['test_fraction']:g} of the rows are the test split, seed {seed}."
