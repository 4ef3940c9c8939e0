"""Readers of .npy and .npz files, and conversion of arrays to rows and labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.data.labels import UNLABELLED, has_label
from ancestral.data.sampling import row_blocks
from ancestral.datasets.archive_formats import open_npz, read_npz
from ancestral.datasets.dataset import ARRAY_NAMES, DataError, file_error
from ancestral.datasets.splits import train_test_split

Fields = dict[str, Any]

CHANNEL_COUNTS = (1, 3, 4)

BOOL_CLASS_NAMES = ("false", "true")

ROW_DTYPES = {"u1", "b1", "f4", "f8"}


def load_npy(
    path: Path, *, test_fraction: float | None = None, seed: int = 0, shuffle: bool = True
) -> Fields:
    """Memory-map an .npy file without copying it; the dtype is unchanged.

    With `test_fraction` and `shuffle` the rows are reordered and therefore copied; with
    ``shuffle=False`` the test split is the last rows and stays memory-mapped.

    Parameters
    ----------
    path : Path
        The file.
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
        If the file is unreadable, or its array has an unsupported dtype, shape or memory order.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        raise file_error(path, "is not a readable .npy file of a plain array") from None
    _check_dtype(array, path.name)
    if array.ndim == 4 and not _channels_first(array.shape):
        raise DataError(
            f"{path}: images of shape {array.shape[1:]} are channels-last and cannot be "
            "memory-mapped as rows. Save np.moveaxis(images, -1, 1) instead."
        )
    if array.ndim > 2 and not array.flags.c_contiguous:
        raise DataError(f"{path}: is in column-major order; save np.ascontiguousarray(array).")
    x, image_shape = as_rows(array, path.name)
    x = x.view(np.bool_) if is_bits(x) else x
    split: Fields = {"x_train": x}
    if test_fraction is not None:
        split = train_test_split(x, None, test_fraction, seed, shuffle)
    return {**split, "image_shape": image_shape, "note": "Memory-mapped."}


def load_npz(
    path: Path, *, test_fraction: float | None = None, seed: int = 0, shuffle: bool = True
) -> Fields:
    """Read an .npz file with arrays x_train, y_train, x_test, ..., or x (or data) and y.

    Parameters
    ----------
    path : Path
        The file; names of arrays are case-insensitive.
    test_fraction : float, optional
        Fraction of training rows that become the test split, between 0 and 1.
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
        If the file is unreadable, the arrays are missing or unsuitable, or `test_fraction` is
        given for a file with x_test.
    """
    names = _array_names(path)
    arrays = dict(zip(names, read_npz(path, *names.values()), strict=True))
    rows = {name: as_rows(a, name) for name, a in arrays.items() if name.startswith("x_")}
    labels = {name: a for name, a in arrays.items() if name.startswith("y_")}
    fields: Fields = dict(zip(rows, unify_dtypes([x for x, _ in rows.values()]), strict=True))
    y, class_names = encode_labels(labels)
    if test_fraction is not None:
        if "x_test" in fields:
            raise DataError(f"{path}: the file contains x_test; remove test_fraction.")
        valid = {name: a for name, a in {**fields, **y}.items() if name.endswith("_valid")}
        train = fields["x_train"], y.get("y_train")
        fields, y = {**train_test_split(*train, test_fraction, seed, shuffle), **valid}, {}
    return {**fields, **y, "image_shape": rows["x_train"][1], "class_names": class_names}


def _array_names(path: Path) -> dict[str, str]:
    """Map array names of `Dataset` to array names of the file, ignoring case."""
    with open_npz(path) as archive:
        file_names = {name.lower(): name for name in archive.files}
    names = {field: file_names[field] for field in ARRAY_NAMES if field in file_names}
    if "x_train" not in names:
        x, y = file_names.get("x", file_names.get("data")), file_names.get("y")
        names = {k: name for k, name in (("x_train", x), ("y_train", y)) if name is not None}
    if "x_train" not in names:
        raise DataError(
            f"{path}: contains the arrays {', '.join(file_names.values()) or '(none)'}; expected "
            "x_train (optionally x_test, y_train, y_test, x_valid, y_valid), or x (or data) and "
            "optionally y."
        )
    return names


def as_rows(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Flatten images (n, h, w), (n, c, h, w) or (n, h, w, c) to rows, channels first.

    Parameters
    ----------
    array : ndarray
        Images, or rows (n, features).
    name : str
        Name of the array for error messages.

    Returns
    -------
    rows : ndarray of shape (n, features)
        A view if the memory order permits, else a copy.
    image_shape : tuple of int or None
        (h, w) or (c, h, w) for images, None for rows.

    Raises
    ------
    DataError
        If the dtype is not numeric or the shape is not supported.
    """
    _check_dtype(array, name)
    if array.ndim == 2:
        return array, None
    if array.ndim == 4 and not _channels_first(array.shape):
        array = np.moveaxis(array, -1, 1)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[1] not in CHANNEL_COUNTS):
        raise DataError(
            f"{name}: shape {array.shape} is not supported; expected rows (n, features), or images "
            "(n, h, w), (n, c, h, w) or (n, h, w, c) with 1, 3 or 4 channels. Reshape a single "
            "feature with x.reshape(-1, 1)."
        )
    shape = array.shape[1:]
    rows = array.reshape(len(array), int(np.prod(shape)))
    return rows, shape[1:] if len(shape) == 3 and shape[0] == 1 else shape


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[1] in CHANNEL_COUNTS or shape[-1] not in CHANNEL_COUNTS


def _check_dtype(array: np.ndarray, name: str) -> None:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: has dtype {array.dtype}; expected numbers or bool.")


def is_bits(array: np.ndarray) -> bool:
    """Return whether an array is uint8 with values 0 and 1 only."""
    return array.dtype == np.uint8 and all(block.max() <= 1 for block in row_blocks(array))


def unify_dtypes(splits: list[np.ndarray]) -> list[np.ndarray]:
    """Convert the splits to a common dtype: bool, uint8, float32 or float64.

    Bytes with values 0 and 1 only become bool, since as grey values they would be almost black.
    """
    if all(map(is_bits, splits)):
        return [x.astype(np.bool_) for x in splits]
    common = np.result_type(*splits)
    if common.str[1:] not in ROW_DTYPES:
        common = np.dtype(np.float32 if common.str[1:] == "f2" else np.float64)
    return [x.astype(common.newbyteorder("="), copy=False) for x in splits]


def encode_labels(
    labels: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Encode the labels of all splits.

    Text becomes class indices in the sorted order of the class names, with "-1" for unlabelled
    rows; integers become int64; bool becomes the classes "false" and "true"; floating-point
    targets are unchanged.

    Parameters
    ----------
    labels : mapping of str to ndarray
        Labels of each split.

    Returns
    -------
    encoded : dict of str to ndarray
        Class indices (-1 = unlabelled) or targets of each split.
    class_names : tuple of str or None
        Names of the classes of text and bool labels.

    Raises
    ------
    DataError
        If labels are neither numbers nor text, or text in some splits only.
    """
    kinds = {y.dtype.kind for y in labels.values()}
    if not kinds <= set("biufU"):
        raise DataError(f"labels have dtype kind {sorted(kinds)}; expected numbers or text.")
    if "U" not in kinds:
        encoded = {
            name: y if y.dtype.kind == "f" else y.astype(np.int64) for name, y in labels.items()
        }
        return encoded, BOOL_CLASS_NAMES if kinds == {"b"} else None
    if kinds != {"U"}:
        raise DataError(
            "labels are text in one split and numbers in another; use one type in all splits."
        )
    names = np.unique(np.concatenate(list(labels.values())))
    names = names[has_label(names)]
    encoded = {
        name: np.where(has_label(y), np.searchsorted(names, y), UNLABELLED)
        for name, y in labels.items()
    }
    return encoded, tuple(map(str, names))
