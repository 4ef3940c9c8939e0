"""Street View House Numbers: colour images, sets that need care with memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ancestral.datasets.builders import DIGITS, SPLIT_SEED, Fields, Raw
from ancestral.datasets.core import damaged
from ancestral.datasets.formats import read_mat, read_npz
from ancestral.datasets.splits import per_class

SIDE = (32, 32, 3)
BLOCK = 4096
VALID_FROM_TRAIN = 400
VALID_FROM_EXTRA = 200


def read_part(path: Path) -> Raw:
    """Read the part of the test split: images (n, 32, 32, 3), labels 0 to 9."""
    x, y = read_npz(path, "x_test", "y_test")
    return {"x": np.moveaxis(x, -1, 1).reshape(len(x), -1), "y": y.astype(np.int64)}


def build_part(raw: Raw) -> Fields:
    """Cut the part into contiguous blocks of 7,000 / 1,000 / 2,000."""
    blocks = {"train": slice(7_000), "valid": slice(7_000, 8_000), "test": slice(8_000, None)}
    fields = {f"{key}_{name}": raw[key][rows] for name, rows in blocks.items() for key in "xy"}
    return {**fields, "image_shape": (3, 32, 32), "class_names": DIGITS}


def read_whole(train: Path, extra: Path, test: Path) -> Raw:
    """Read the three .mat files, one at a time, into the arrays of the declared splits."""
    y_train, y_extra, y_test = (_labels(path) for path in (train, extra, test))
    rng = np.random.RandomState(SPLIT_SEED)
    held = [
        per_class(y_train, VALID_FROM_TRAIN, rng),
        per_class(y_extra, VALID_FROM_EXTRA, rng),
    ]
    kept = [
        np.setdiff1d(np.arange(len(y)), out)
        for y, out in zip((y_train, y_extra), held, strict=True)
    ]
    x_train = np.empty((sum(map(len, kept)), 3072), np.uint8)
    x_valid = np.empty((sum(map(len, held)), 3072), np.uint8)
    for path, i in ((train, 0), (extra, 1)):
        images = _images(path)
        _fill(x_train[len(kept[0]) * i :], images, kept[i])
        _fill(x_valid[len(held[0]) * i :], images, held[i])
        del images  # the next file needs the room
    images = _images(test)
    x_test = np.empty((images.shape[-1], 3072), np.uint8)
    _fill(x_test, images, np.arange(len(x_test)))
    labels = {
        "y_train": np.concatenate([y_train[kept[0]], y_extra[kept[1]]]),
        "y_valid": np.concatenate([y_train[held[0]], y_extra[held[1]]]),
    }
    return {"x_train": x_train, "x_valid": x_valid, "x_test": x_test, "y_test": y_test, **labels}


def build_whole(raw: Raw) -> Fields:
    """Name the fields; the splits were made while reading."""
    return {**raw, "image_shape": (3, 32, 32), "class_names": DIGITS}


def _labels(path: Path) -> np.ndarray:
    (y,) = read_mat(path, "y")
    y = y.astype(np.int64).ravel()
    if y.size == 0 or y.min() < 1 or y.max() > 10:
        raise damaged(path, "holds labels outside 1 to 10")
    return y % 10  # the files write the digit 0 as class 10


def _images(path: Path) -> np.ndarray:
    (x,) = read_mat(path, "X")
    if x.shape[:-1] != SIDE or x.dtype != np.uint8:
        raise damaged(path, f"holds images {x.shape} of {x.dtype}, expected {SIDE} of uint8 each")
    return x


def _fill(target: np.ndarray, images: np.ndarray, index: np.ndarray) -> None:
    for start in range(0, len(index), BLOCK):
        block = images[..., index[start : start + BLOCK]].transpose(3, 2, 0, 1)
        target[start : start + block.shape[0]] = block.reshape(block.shape[0], -1)
