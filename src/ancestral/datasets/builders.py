"""Readers of the files of a data set, and builders of its splits.

A ``read_*`` function takes the paths of one layout of the files and returns raw arrays that are
the same for every layout. The ``build_*`` function of the data set computes the fields of
`Dataset` from them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.datasets import archive_formats
from ancestral.datasets.dataset import DataError, file_error
from ancestral.datasets.splits import random_permutation, stratified_split

Raw = dict[str, np.ndarray]

Fields = dict[str, Any]

DIGIT_CLASSES = tuple("0123456789")

SPLIT_SEED = 1234

BOSTON_SPLITS = 20

BOSTON_FEATURES = (
    *("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE"),
    *("DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT"),
)


def flatten_images(images: np.ndarray) -> np.ndarray:
    """Flatten images [n, ...] to rows [n, n_pixels]."""
    return images.reshape(len(images), -1)


def read_digits() -> Raw:
    """Return the digits of scikit-learn, scaled to [0, 1]."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {"x": (x / 16).astype(np.float32), "y": y.astype(np.int64)}


def build_digits(raw: Raw) -> Fields:
    """Split the digits into 1,500 training and 297 test rows, stratified by class."""
    train, test = stratified_split(raw["y"], n_test=297, seed=0)
    return {
        "x_train": raw["x"][train],
        "y_train": raw["y"][train],
        "x_test": raw["x"][test],
        "y_test": raw["y"][test],
        "image_shape": (8, 8),
        "class_names": DIGIT_CLASSES,
    }


def read_idx_splits(x_train: Path, y_train: Path, x_test: Path, y_test: Path) -> Raw:
    """Read the four idx files of MNIST or Fashion-MNIST."""
    images = {"x_train": x_train, "x_test": x_test}
    labels = {"y_train": y_train, "y_test": y_test}
    raw = {
        key: flatten_images(archive_formats.read_idx(path, ndim=3)) for key, path in images.items()
    }
    raw |= {
        key: archive_formats.read_idx(path, ndim=1).astype(np.int64) for key, path in labels.items()
    }
    return raw


def grey_image_builder(*class_names: str) -> Callable[[Raw], Fields]:
    """Return a build function for 28 x 28 images with given splits."""
    return lambda raw: {**raw, "image_shape": (28, 28), "class_names": class_names or None}


def read_bit_arrays(path: Path) -> Raw:
    """Read the three splits of binarized MNIST from an .npz file."""
    keys = ("x_train", "x_valid", "x_test")
    arrays = archive_formats.read_npz(path, *keys)
    return {
        key: flatten_images(array).astype(bool) for key, array in zip(keys, arrays, strict=True)
    }


def read_bit_texts(train: Path, valid: Path, test: Path) -> Raw:
    """Read the three splits of binarized MNIST from text files."""
    paths = {"x_train": train, "x_valid": valid, "x_test": test}
    return {key: archive_formats.read_bits(path, width=784) for key, path in paths.items()}


def read_letter_arrays(path: Path) -> Raw:
    """Read the OCR letters from an .npz file."""
    x, y = archive_formats.read_npz(path, "x", "y")
    return _ordered_letters(flatten_images(x).astype(bool), y.astype(np.int64))


def read_letter_text(path: Path) -> Raw:
    """Read the OCR letters from letter.data(.gz)."""
    return _ordered_letters(*archive_formats.read_letters(path))


def _ordered_letters(x: np.ndarray, y: np.ndarray) -> Raw:
    # Copies of the file differ in the order of the words. Sorting by content makes the split
    # independent of that order; equal rows are interchangeable.
    keys = np.concatenate([y[:, None].astype(np.uint8), np.packbits(x, axis=1)], axis=1)
    order = np.lexsort(keys.T[::-1])
    return {"x": x[order], "y": y[order]}


def build_letters(raw: Raw) -> Fields:
    """Split the shuffled letters into 32,152 training, 10,000 validation and 10,000 test rows."""
    order = random_permutation(len(raw["x"]), SPLIT_SEED)
    splits = dict(zip(("train", "valid", "test"), np.split(order, [32_152, 42_152]), strict=True))
    fields = {f"{key}_{name}": raw[key][index] for name, index in splits.items() for key in "xy"}
    return {**fields, "image_shape": (16, 8), "class_names": tuple("abcdefghijklmnopqrstuvwxyz")}


def read_omniglot_arrays(path: Path) -> Raw:
    """Read the 28 x 28 drawings from an .npz file."""
    x, character, drawer = archive_formats.read_npz(path, "x", "character", "drawer")
    return {
        "x": flatten_images(x),
        "y": character.astype(np.int64) - 1,
        "drawer": drawer.astype(np.int64),
    }


def read_omniglot_zips(*paths: Path) -> Raw:
    """Read the two zip files of 105 x 105 drawings and downsample them to 28 x 28."""
    drawings = {key: x for path in paths for key, x in archive_formats.read_drawings(path).items()}
    if not drawings:
        raise file_error(paths[0], "contains no drawing")
    keys = np.array(sorted(drawings))
    x = np.stack([drawings[character, drawer] for character, drawer in keys])
    return {"x": flatten_images(x), "y": keys[:, 0] - 1, "drawer": keys[:, 1]}


def build_omniglot(raw: Raw) -> Fields:
    """Split by drawer: 1 to 15 for training, 16 to 20 for testing."""
    train = raw["drawer"] <= 15
    fields = {f"{key}_train": raw[key][train] for key in "xy"}
    fields |= {f"{key}_test": raw[key][~train] for key in "xy"}
    return {**fields, "image_shape": (28, 28)}


def read_frey_arrays(path: Path) -> Raw:
    """Read the Frey faces from an .npz file."""
    (x,) = archive_formats.read_npz(path, "x")
    return {"x": flatten_images(x)}


def read_frey_mat(path: Path) -> Raw:
    """Read the Frey faces from frey_rawface.mat, whose columns are the frames."""
    (frames,) = archive_formats.read_mat(path, "ff")
    return {"x": np.ascontiguousarray(frames.T)}


def build_frey(raw: Raw) -> Fields:
    """Split the frames at random into training rows and 100 test rows."""
    order = random_permutation(len(raw["x"]), SPLIT_SEED)
    return {
        "x_train": raw["x"][order[:-100]],
        "x_test": raw["x"][order[-100:]],
        "image_shape": (28, 20),
    }


def read_boston_arrays(path: Path) -> Raw:
    """Read the housing table from an .npz file."""
    x, y = archive_formats.read_npz(path, "x", "y")
    return {"x": x, "y": y}


def read_boston_text(path: Path) -> Raw:
    """Read the housing table from text, one or two lines per row; the last number is the target."""
    table = archive_formats.read_numbers(path, width=14)
    return {"x": table[:, :13], "y": table[:, 13]}


def build_boston(raw: Raw, *, split: int = 0) -> Fields:
    """Build one of 20 random 90/10 splits, with 455 training and 51 test rows.

    Parameters
    ----------
    raw : dict of str to ndarray
        Features x [506, 13] and targets y [506].
    split : int
        Index of the split and seed of its permutation, 0 to 19.

    Raises
    ------
    DataError
        If `split` is out of range.
    """
    if split not in range(BOSTON_SPLITS):
        raise DataError(f"split={split!r}: expected an integer from 0 to {BOSTON_SPLITS - 1}.")
    order = random_permutation(len(raw["x"]), seed=int(split))
    n_train = round(0.9 * len(raw["x"]))
    fields = {f"{key}_train": raw[key][order[:n_train]] for key in "xy"}
    fields |= {f"{key}_test": raw[key][order[n_train:]] for key in "xy"}
    return {**fields, "feature_names": BOSTON_FEATURES}
