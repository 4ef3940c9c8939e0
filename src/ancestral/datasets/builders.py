"""From a data set's files to raw arrays, and from raw arrays to the declared splits.

A ``read_*`` function takes the paths of one form of the files and returns raw arrays that do
not depend on that form; the ``build_*`` function beside it makes the fields of `Dataset`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.datasets import formats
from ancestral.datasets.core import DataError, damaged
from ancestral.datasets.splits import shuffled, stratified

Raw = dict[str, np.ndarray]
Fields = dict[str, Any]

DIGITS = tuple("0123456789")
SPLIT_SEED = 1234
BOSTON_SPLITS = 20
BOSTON_FEATURES = (
    *("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE"),
    *("DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT"),
)


def rows(images: np.ndarray) -> np.ndarray:
    """Flatten images to rows."""
    return images.reshape(len(images), -1)


def read_digits() -> Raw:
    """Return scikit-learn's digits, which come with it."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return {"x": (x / 16).astype(np.float32), "y": y.astype(np.int64)}


def build_digits(raw: Raw) -> Fields:
    """Split the digits, class by class."""
    train, test = stratified(raw["y"], n_test=297, seed=0)
    return {
        "x_train": raw["x"][train],
        "y_train": raw["y"][train],
        "x_test": raw["x"][test],
        "y_test": raw["y"][test],
        "image_shape": (8, 8),
        "class_names": DIGITS,
    }


def read_idx_splits(x_train: Path, y_train: Path, x_test: Path, y_test: Path) -> Raw:
    """Read the four idx files of MNIST or Fashion-MNIST."""
    images = {"x_train": x_train, "x_test": x_test}
    labels = {"y_train": y_train, "y_test": y_test}
    raw = {key: rows(formats.read_idx(path, ndim=3)) for key, path in images.items()}
    raw |= {key: formats.read_idx(path, ndim=1).astype(np.int64) for key, path in labels.items()}
    return raw


def grey_images(*class_names: str) -> Callable[[Raw], Fields]:
    """Return the build function of 28 x 28 images that come split."""
    return lambda raw: {**raw, "image_shape": (28, 28), "class_names": class_names or None}


def read_bit_arrays(path: Path) -> Raw:
    """Read the three splits of the binarised digits from one .npz file."""
    keys = ("x_train", "x_valid", "x_test")
    arrays = formats.read_npz(path, *keys)
    return {key: rows(array).astype(bool) for key, array in zip(keys, arrays, strict=True)}


def read_bit_texts(train: Path, valid: Path, test: Path) -> Raw:
    """Read the three splits of the binarised digits from text files."""
    paths = {"x_train": train, "x_valid": valid, "x_test": test}
    return {key: formats.read_bits(path, width=784) for key, path in paths.items()}


def read_letter_arrays(path: Path) -> Raw:
    """Read the OCR letters from an .npz file."""
    x, y = formats.read_npz(path, "x", "y")
    return _ordered_letters(rows(x).astype(bool), y.astype(np.int64))


def read_letter_text(path: Path) -> Raw:
    """Read the OCR letters from letter.data(.gz)."""
    return _ordered_letters(*formats.read_letters(path))


def _ordered_letters(x: np.ndarray, y: np.ndarray) -> Raw:
    # Copies in circulation order the words differently; sorting by content first makes the
    # declared split a function of the letters alone. Equal rows are interchangeable.
    keys = np.concatenate([y[:, None].astype(np.uint8), np.packbits(x, axis=1)], axis=1)
    order = np.lexsort(keys.T[::-1])
    return {"x": x[order], "y": y[order]}


def build_letters(raw: Raw) -> Fields:
    """Cut the shuffled letters into 32,152 / 10,000 / 10,000."""
    order = shuffled(len(raw["x"]), SPLIT_SEED)
    parts = dict(zip(("train", "valid", "test"), np.split(order, [32_152, 42_152]), strict=True))
    fields = {f"{key}_{part}": raw[key][index] for part, index in parts.items() for key in "xy"}
    return {**fields, "image_shape": (16, 8), "class_names": tuple("abcdefghijklmnopqrstuvwxyz")}


def read_omniglot_arrays(path: Path) -> Raw:
    """Read the 28 x 28 drawings from an .npz file."""
    x, character, drawer = formats.read_npz(path, "x", "character", "drawer")
    return {"x": rows(x), "y": character.astype(np.int64) - 1, "drawer": drawer.astype(np.int64)}


def read_omniglot_zips(*paths: Path) -> Raw:
    """Read the two zips of 105 x 105 drawings and shrink them."""
    drawings = {key: x for path in paths for key, x in formats.read_drawings(path).items()}
    if not drawings:
        raise damaged(paths[0], "holds no drawing")
    keys = np.array(sorted(drawings))
    x = np.stack([drawings[character, drawer] for character, drawer in keys])
    return {"x": rows(x), "y": keys[:, 0] - 1, "drawer": keys[:, 1]}


def build_omniglot(raw: Raw) -> Fields:
    """Give the first fifteen drawers to training and the last five to testing."""
    train = raw["drawer"] <= 15
    fields = {f"{key}_train": raw[key][train] for key in "xy"}
    fields |= {f"{key}_test": raw[key][~train] for key in "xy"}
    return {**fields, "image_shape": (28, 28)}


def read_frey_arrays(path: Path) -> Raw:
    """Read the film of a face from an .npz file."""
    (x,) = formats.read_npz(path, "x")
    return {"x": rows(x)}


def read_frey_mat(path: Path) -> Raw:
    """Read the film of a face from frey_rawface.mat, where a column is a frame."""
    (frames,) = formats.read_mat(path, "ff")
    return {"x": np.ascontiguousarray(frames.T)}


def build_frey(raw: Raw) -> Fields:
    """Hold out a random hundred of the frames."""
    order = shuffled(len(raw["x"]), SPLIT_SEED)
    return {
        "x_train": raw["x"][order[:-100]],
        "x_test": raw["x"][order[-100:]],
        "image_shape": (28, 20),
    }


def read_boston_arrays(path: Path) -> Raw:
    """Read the housing table from an .npz file."""
    x, y = formats.read_npz(path, "x", "y")
    return {"x": x, "y": y}


def read_boston_text(path: Path) -> Raw:
    """Read the housing table from text, one or two lines a row; the last number is the target."""
    table = formats.read_numbers(path, width=14)
    return {"x": table[:, :13], "y": table[:, 13]}


def build_boston(raw: Raw, *, split: int = 0) -> Fields:
    """Make the `split`-th of twenty random 90/10 splits, 455 and 51 rows."""
    if split not in range(BOSTON_SPLITS):
        raise DataError(f"split={split!r}: expected an integer from 0 to {BOSTON_SPLITS - 1}.")
    order = shuffled(len(raw["x"]), seed=int(split))
    n_train = round(0.9 * len(raw["x"]))
    fields = {f"{key}_train": raw[key][order[:n_train]] for key in "xy"}
    fields |= {f"{key}_test": raw[key][order[n_train:]] for key in "xy"}
    return {**fields, "feature_names": BOSTON_FEATURES}
