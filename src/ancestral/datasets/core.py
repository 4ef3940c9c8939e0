"""The data set as a value, its checksum, and the one error of this package."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")
BLOCK_BYTES = 1 << 24

UNLABELLED = -1
"""What stands in the place of a class that is not known, as a number or as text."""


class DataError(ValueError):
    """Data that are missing, damaged or of the wrong kind; the message says what to do."""


def has_label(y: np.ndarray) -> np.ndarray:
    """Whether rows have a class at all, [n]; beside text -1 may be a number or text itself.

    Examples
    --------
    >>> has_label(np.array([2, -1])), has_label(np.array(["cat", -1], dtype=object))
    (array([ True, False]), array([ True, False]))
    """
    if y.dtype.kind in "OUS":
        return np.array([str(value) != str(UNLABELLED) for value in y], dtype=bool)
    return y != UNLABELLED


def damaged(path: Path | str, problem: str) -> DataError:
    """Return the error for a file that is not what it should be.

    Parameters
    ----------
    path : Path or str
        The file.
    problem : str
        What was found and what was expected.
    """
    return DataError(
        f"{path}: {problem}. Mend this file or put a good copy in its place; one that was "
        "downloaded may be deleted and is then fetched again."
    )


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Arrays of one data set, with where they come from.

    Rows are two-dimensional: uint8 for bytes 0 to 255 (images), bool for bits, floats for
    tables (NaN where a cell is empty). Labels are class indices, -1 where a row has none;
    targets of a regression are floats.

    Parameters
    ----------
    name : str
        Name in the catalogue, or the stem of the user's file.
    x_train, x_test, x_valid : ndarray of shape (n_rows, n_features)
        The splits; None where there is none.
    y_train, y_test, y_valid : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Labels or targets; None where there are none.
    image_shape : tuple of int, optional
        (height, width), or (channels, height, width) for flattened channels-first rows.
    target_shape : tuple of int, optional
        Likewise of a row of targets that is the rest of a picture, to the right of what is given.
    feature_names : tuple of str, optional
        Names of the columns.
    class_names : tuple of str, optional
        Name of class 0, 1, and so on.
    source, licence : str
        Where the data come from, and under which terms.
    checksum : str
        `content_checksum` of the arrays. Empty for a memory-mapped file, which is not read
        as a whole.
    note : str
        What a reader of results must know: the split and its seed, other peculiarities.

    Raises
    ------
    DataError
        If the arrays do not fit together.
    """

    name: str
    x_train: np.ndarray
    x_test: np.ndarray | None = None
    y_train: np.ndarray | None = None
    y_test: np.ndarray | None = None
    x_valid: np.ndarray | None = None
    y_valid: np.ndarray | None = None
    image_shape: tuple[int, ...] | None = None
    target_shape: tuple[int, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    source: str = ""
    licence: str = ""
    checksum: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _check_fit(self)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that are there, by name."""
        found = {part: getattr(self, part) for part in PARTS}
        return {part: array for part, array in found.items() if array is not None}

    def held_out(self, n_valid: int) -> Dataset:
        """Return the data with the last ``n_valid`` training rows as their validation split.

        Raises
        ------
        DataError
            If that leaves no rows to train on, or there is a validation split already.
        """
        if self.x_valid is not None:
            raise DataError(
                f"{self.name} has a validation split of {len(self.x_valid)} rows of its own: leave "
                "n_valid out"
            )
        cut = len(self.x_train) - n_valid
        if n_valid < 1 or cut < 1:
            raise DataError(
                f"n_valid={n_valid}: expected from 1 to {len(self.x_train) - 1}, so that some of "
                f"the {len(self.x_train)} training rows are left"
            )
        labels = None if self.y_train is None else self.y_train[cut:]
        return replace(self._cut(cut), x_valid=self.x_train[cut:], y_valid=labels)

    def first(self, n_train: int) -> Dataset:
        """Return the data with only the first ``n_train`` training rows.

        Raises
        ------
        DataError
            If there are fewer.
        """
        if not 1 <= n_train <= len(self.x_train):
            raise DataError(f"n_train={n_train}: expected from 1 to {len(self.x_train)} rows")
        return self._cut(n_train)

    def with_contrast(self) -> Dataset:
        """Return the images with their contrast normalised, as float32 in place of bytes.

        See `ancestral.contrast.normalise_contrast`. The checksum stays that of the bytes.

        Raises
        ------
        DataError
            If the rows are no images, or a value is missing.
        """
        from ancestral.contrast import normalise_contrast

        shape = self.image_shape
        if shape is None:
            raise DataError(f"contrast=True is for images, and {self.name} has rows of a table")
        parts = {name: x for name, x in self.arrays().items() if name.startswith("x_")}
        if any(x.dtype.kind == "f" and np.isnan(x).any() for x in parts.values()):
            raise DataError(f"contrast=True: {self.name} has missing pixels, without a contrast")
        done: dict[str, Any] = {name: normalise_contrast(x, shape) for name, x in parts.items()}
        note = f"{self.note} Contrast normalised globally, then locally.".strip()
        return replace(self, note=note, **done)

    def halved(self) -> Dataset:
        """Return the left half of every image as a row, and the right half as its targets.

        Targets are float32, bytes as fractions of 255. The checksum stays that of whole images.

        Raises
        ------
        DataError
            If the rows are no images, or images a single pixel wide.
        """
        shape = self.image_shape
        if shape is None or shape[-1] < 2:
            raise DataError(
                f"halves=True is for images two pixels wide or more, and {self.name} has "
                f"{'rows of a table' if shape is None else f'images of shape {shape}'}"
            )
        cut, splits = shape[-1] // 2, dict[str, Any]()
        for name, rows in self.arrays().items():
            if name.startswith("x_"):
                pictures = rows.reshape(len(rows), *shape)
                left, right = pictures[..., :cut], pictures[..., cut:]
                unit = np.float32(1 / 255 if rows.dtype == np.uint8 else 1)
                splits[name] = left.reshape(len(rows), -1)
                splits[f"y_{name[2:]}"] = right.reshape(len(rows), -1).astype(np.float32) * unit
        shapes: dict[str, Any] = {
            "image_shape": (*shape[:-1], cut),
            "target_shape": (*shape[:-1], shape[-1] - cut),
        }
        note = f"{self.note} The left half is given, the right half is the target.".strip()
        return replace(self, class_names=None, feature_names=None, note=note, **shapes, **splits)

    def _cut(self, n: int) -> Dataset:
        labels = None if self.y_train is None else self.y_train[:n]
        return replace(self, x_train=self.x_train[:n], y_train=labels)

    def __repr__(self) -> str:
        x = self.x_train
        words = [f"{self.name!r}", f"train {x.shape[0]} x {x.shape[1]} {x.dtype}"]
        splits = {"valid": self.x_valid, "test": self.x_test}
        words += [f"{split} {len(rows)}" for split, rows in splits.items() if rows is not None]
        words += [f"image {self.image_shape}"] if self.image_shape else []
        words += [f"{len(self.class_names)} classes"] if self.class_names else []
        return f"Dataset({', '.join(words)})"


def content_checksum(arrays: Mapping[str, np.ndarray | None]) -> str:
    """Return the SHA-256 of the content of named arrays, as hexadecimal digits.

    For each array that is not None, in alphabetical order of the names, the hash takes the
    line ``{name} {dtype} {shape}`` and a newline (dtype as numpy's little-endian code such as
    ``<f8``, shape as ``60000x784``) and then the elements in row-major order, little-endian.
    File format and machine do not matter, order of rows and dtype do.

    Parameters
    ----------
    arrays : mapping of str to ndarray or None
        For a data set, ``dataset.arrays()``.

    Examples
    --------
    >>> import numpy as np
    >>> content_checksum({"x_train": np.zeros((2, 3), np.uint8), "y_train": None})[:16]
    '5aae223fad838622'
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if array is None:
            continue
        little = array.dtype.newbyteorder("<")
        digest.update(f"{name} {little.str} {'x'.join(map(str, array.shape))}\n".encode())
        for block in row_blocks(array):
            digest.update(np.ascontiguousarray(block, dtype=little).data)
    return digest.hexdigest()


def row_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive rows in pieces of about 16 MB, so that a mapped file stays on disk."""
    if array.size == 0:
        return
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _check_fit(data: Dataset) -> None:
    for split in ("train", "valid", "test"):
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        if x is not None:
            _check_rows(data, f"x_{split}", x)
        if y is not None and (x is None or len(y) != len(x)):
            rows = "missing" if x is None else f"{len(x)} rows"
            raise DataError(f"{data.name}: y_{split} has {len(y)} rows but x_{split} is {rows}.")


def _check_rows(data: Dataset, part: str, x: np.ndarray) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(
            f"{data.name}: {part} has shape {x.shape}, expected (rows, features), "
            "at least one of each."
        )
    width = data.x_train.shape[-1]
    if x.shape[1] != width:
        raise DataError(f"{data.name}: {part} has {x.shape[1]} features, x_train has {width}.")
    if data.image_shape is not None and int(np.prod(data.image_shape)) != width:
        raise DataError(
            f"{data.name}: image_shape {data.image_shape} does not make {width} pixels."
        )
    if data.feature_names is not None and len(data.feature_names) != width:
        raise DataError(f"{data.name}: {len(data.feature_names)} feature names, {width} features.")
