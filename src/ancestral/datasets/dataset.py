"""The `Dataset` class, its content checksum, and the exception of this package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.data.sampling import row_blocks

ARRAY_NAMES = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")


class DataError(ValueError):
    """Error for data that are missing, damaged or of an unsupported type."""


def file_error(path: Path | str, problem: str) -> DataError:
    """Return the error for a damaged or unexpected file.

    Parameters
    ----------
    path : Path or str
        The file.
    problem : str
        Actual and expected content, for the message.
    """
    return DataError(
        f"{path}: {problem}. Replace the file by a valid copy; if it was downloaded, delete it "
        "and load again."
    )


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Arrays of a data set, with metadata and provenance.

    Features are uint8 (bytes 0 to 255, images), bool (binary data) or floating point (tables; NaN
    marks missing cells). Labels are class indices, -1 for unlabelled rows; regression targets are
    floating point.

    Parameters
    ----------
    name : str
        Name in the catalogue, or the stem of the user's file.
    x_train, x_test, x_valid : ndarray of shape (n_rows, n_features)
        Features of each split; None for an absent split.
    y_train, y_test, y_valid : ndarray of shape (n_rows,) or (n_rows, n_targets)
        Labels or targets of each split, or None.
    image_shape : tuple of int, optional
        (height, width), or (channels, height, width) for flattened channels-first images.
    target_shape : tuple of int, optional
        Image shape of the targets if they are the right half of each image.
    feature_names : tuple of str, optional
        Names of the columns.
    class_names : tuple of str, optional
        Names of the classes 0, 1, ...
    source, licence : str
        Origin of the data, and terms of use.
    checksum : str
        `content_checksum` of the arrays; empty for a memory-mapped file, which is not read
        completely.
    note : str
        Facts needed to interpret results, for example the split and its seed.

    Raises
    ------
    DataError
        If shapes of the arrays are inconsistent.
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
        _check_consistency(self)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that are not None, by name."""
        fields = {name: getattr(self, name) for name in ARRAY_NAMES}
        return {name: array for name, array in fields.items() if array is not None}

    def with_validation_split(self, n_valid: int) -> Dataset:
        """Return the data set with the last ``n_valid`` training rows as the validation split.

        Parameters
        ----------
        n_valid : int
            Number of validation rows, from 1 to the number of training rows minus 1.

        Raises
        ------
        DataError
            If no training rows would remain, or the data set has a validation split.
        """
        if self.x_valid is not None:
            raise DataError(
                f"n_valid={n_valid}: {self.name} already has a validation split of "
                f"{len(self.x_valid)} rows; remove n_valid"
            )
        cut = len(self.x_train) - n_valid
        if n_valid < 1 or cut < 1:
            raise DataError(
                f"n_valid={n_valid}: expected an integer from 1 to {len(self.x_train) - 1}, so "
                f"that at least one of the {len(self.x_train)} training rows remains"
            )
        labels = None if self.y_train is None else self.y_train[cut:]
        return replace(self._truncate_train(cut), x_valid=self.x_train[cut:], y_valid=labels)

    def with_train_size(self, n_train: int) -> Dataset:
        """Return the data set with the first ``n_train`` training rows only.

        Parameters
        ----------
        n_train : int
            Number of training rows, from 1 to the number available.

        Raises
        ------
        DataError
            If ``n_train`` is out of range.
        """
        if not 1 <= n_train <= len(self.x_train):
            raise DataError(
                f"n_train={n_train}: expected an integer from 1 to {len(self.x_train)}, the number "
                "of training rows"
            )
        return self._truncate_train(n_train)

    def with_contrast_normalization(self) -> Dataset:
        """Return the data set with contrast-normalised images, as float32.

        See `ancestral.data.contrast_normalization.contrast_normalization`. The checksum is that of
        the original images.

        Raises
        ------
        DataError
            If the rows are not images, or contain missing values.
        """
        from ancestral.data.contrast_normalization import contrast_normalization

        shape = self.image_shape
        if shape is None:
            raise DataError(f"contrast=True requires images; {self.name} is a table")
        images = {name: x for name, x in self.arrays().items() if name.startswith("x_")}
        if any(x.dtype.kind == "f" and np.isnan(x).any() for x in images.values()):
            raise DataError(
                f"contrast=True: {self.name} has missing pixels (NaN); impute them or drop the rows"
            )
        splits: dict[str, Any] = {
            name: contrast_normalization(x, shape) for name, x in images.items()
        }
        note = f"{self.note} Contrast normalised globally, then locally.".strip()
        return replace(self, note=note, **splits)

    def with_right_half_targets(self) -> Dataset:
        """Return the data set with left image halves as features and right halves as targets.

        Targets are float32; bytes are divided by 255. The checksum is that of the full images.

        Raises
        ------
        DataError
            If the rows are not images, or the images are one pixel wide.
        """
        shape = self.image_shape
        if shape is None or shape[-1] < 2:
            raise DataError(
                f"halves=True requires images at least two pixels wide; {self.name} "
                f"{'is a table' if shape is None else f'has images of shape {shape}'}"
            )
        cut, splits = shape[-1] // 2, dict[str, Any]()
        for name, rows in self.arrays().items():
            if name.startswith("x_"):
                images = rows.reshape(len(rows), *shape)
                left, right = images[..., :cut], images[..., cut:]
                unit = np.float32(1 / 255 if rows.dtype == np.uint8 else 1)
                splits[name] = left.reshape(len(rows), -1)
                splits[f"y_{name[2:]}"] = right.reshape(len(rows), -1).astype(np.float32) * unit
        shapes: dict[str, Any] = {
            "image_shape": (*shape[:-1], cut),
            "target_shape": (*shape[:-1], shape[-1] - cut),
        }
        note = (
            f"{self.note} Features are the left half of each image, targets the right half.".strip()
        )
        return replace(self, class_names=None, feature_names=None, note=note, **shapes, **splits)

    def _truncate_train(self, n: int) -> Dataset:
        labels = None if self.y_train is None else self.y_train[:n]
        return replace(self, x_train=self.x_train[:n], y_train=labels)

    def __repr__(self) -> str:
        x = self.x_train
        items = [f"{self.name!r}", f"train {x.shape[0]} x {x.shape[1]} {x.dtype}"]
        splits = {"valid": self.x_valid, "test": self.x_test}
        items += [f"{split} {len(rows)}" for split, rows in splits.items() if rows is not None]
        items += [f"image {self.image_shape}"] if self.image_shape else []
        items += [f"{len(self.class_names)} classes"] if self.class_names else []
        return f"Dataset({', '.join(items)})"


def content_checksum(arrays: Mapping[str, np.ndarray | None]) -> str:
    """SHA-256 of the content of named arrays, as hexadecimal digits.

    For each array that is not None, in alphabetical order of the names, the hash covers the line
    ``{name} {dtype} {shape}`` with a newline (dtype as numpy's little-endian code, for example
    ``<f8``; shape as ``60000x784``), then the elements in row-major order, little-endian. The
    checksum depends on dtype and order of rows, but not on file format or machine.

    Parameters
    ----------
    arrays : mapping of str to ndarray or None
        Arrays by name; ``dataset.arrays()`` for a data set.

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


def _check_consistency(data: Dataset) -> None:
    for split in ("train", "valid", "test"):
        x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
        if x is not None:
            _check_rows(data, f"x_{split}", x)
        if y is not None and (x is None or len(y) != len(x)):
            x_rows = "is missing" if x is None else f"has {len(x)} rows"
            raise DataError(f"{data.name}: y_{split} has {len(y)} rows but x_{split} {x_rows}.")


def _check_rows(data: Dataset, name: str, x: np.ndarray) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise DataError(
            f"{data.name}: {name} has shape {x.shape}; expected (rows, features) with at least "
            "one of each."
        )
    width = data.x_train.shape[-1]
    if x.shape[1] != width:
        raise DataError(
            f"{data.name}: {name} has {x.shape[1]} features; expected {width} as in x_train."
        )
    if data.image_shape is not None and int(np.prod(data.image_shape)) != width:
        raise DataError(
            f"{data.name}: image_shape={data.image_shape} does not match rows of {width} features."
        )
    if data.feature_names is not None and len(data.feature_names) != width:
        raise DataError(
            f"{data.name}: has {len(data.feature_names)} feature names for {width} features."
        )
