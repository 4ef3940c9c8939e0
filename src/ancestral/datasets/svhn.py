"""Readers and splits of SVHN (Street View House Numbers), with bounded use of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ancestral.datasets.archive_formats import read_mat, read_npz
from ancestral.datasets.builders import DIGIT_CLASSES, SPLIT_SEED, Fields, Raw
from ancestral.datasets.dataset import file_error
from ancestral.datasets.splits import sample_per_class

IMAGE_SHAPE = (32, 32, 3)

IMAGES_PER_BLOCK = 4096

VALID_FROM_TRAIN = 400

VALID_FROM_EXTRA = 200


def read_svhn_part(path: Path) -> Raw:
    """Read a subset of the test split: images (n, 32, 32, 3), labels 0 to 9."""
    x, y = read_npz(path, "x_test", "y_test")
    return {"x": np.moveaxis(x, -1, 1).reshape(len(x), -1), "y": y.astype(np.int64)}


def build_svhn_part(raw: Raw) -> Fields:
    """Split the subset into contiguous blocks of 7,000, 1,000 and 2,000 rows."""
    splits = {"train": slice(7_000), "valid": slice(7_000, 8_000), "test": slice(8_000, None)}
    fields = {f"{key}_{name}": raw[key][rows] for name, rows in splits.items() for key in "xy"}
    return {**fields, "image_shape": (3, 32, 32), "class_names": DIGIT_CLASSES}


def read_svhn(train: Path, extra: Path, test: Path) -> Raw:
    """Read the .mat files one at a time and split them into training, validation and test rows."""
    y_train, y_extra, y_test = (_read_labels(path) for path in (train, extra, test))
    rng = np.random.RandomState(SPLIT_SEED)
    valid_rows = [
        sample_per_class(y_train, VALID_FROM_TRAIN, rng),
        sample_per_class(y_extra, VALID_FROM_EXTRA, rng),
    ]
    train_rows = [
        np.setdiff1d(np.arange(len(y)), rows)
        for y, rows in zip((y_train, y_extra), valid_rows, strict=True)
    ]
    x_train = np.empty((sum(map(len, train_rows)), 3072), np.uint8)
    x_valid = np.empty((sum(map(len, valid_rows)), 3072), np.uint8)
    for path, i in ((train, 0), (extra, 1)):
        images = _read_images(path)
        _copy_images(x_train[len(train_rows[0]) * i :], images, train_rows[i])
        _copy_images(x_valid[len(valid_rows[0]) * i :], images, valid_rows[i])
        del images  # free memory for the next file
    images = _read_images(test)
    x_test = np.empty((images.shape[-1], 3072), np.uint8)
    _copy_images(x_test, images, np.arange(len(x_test)))
    labels = {
        "y_train": np.concatenate([y_train[train_rows[0]], y_extra[train_rows[1]]]),
        "y_valid": np.concatenate([y_train[valid_rows[0]], y_extra[valid_rows[1]]]),
    }
    return {"x_train": x_train, "x_valid": x_valid, "x_test": x_test, "y_test": y_test, **labels}


def build_svhn(raw: Raw) -> Fields:
    """Add image shape and class names to the splits made by :func:`read_svhn`."""
    return {**raw, "image_shape": (3, 32, 32), "class_names": DIGIT_CLASSES}


def _read_labels(path: Path) -> np.ndarray:
    (y,) = read_mat(path, "y")
    y = y.astype(np.int64).ravel()
    if y.size == 0 or y.min() < 1 or y.max() > 10:
        raise file_error(path, "has labels outside 1 to 10")
    return y % 10  # the files encode digit 0 as class 10


def _read_images(path: Path) -> np.ndarray:
    (x,) = read_mat(path, "X")
    if x.shape[:-1] != IMAGE_SHAPE or x.dtype != np.uint8:
        raise file_error(
            path,
            f"has images of shape {x.shape} and dtype {x.dtype}, expected {(*IMAGE_SHAPE, 'n')} "
            "and uint8",
        )
    return x


def _copy_images(target: np.ndarray, images: np.ndarray, index: np.ndarray) -> None:
    for start in range(0, len(index), IMAGES_PER_BLOCK):
        block = images[..., index[start : start + IMAGES_PER_BLOCK]].transpose(3, 2, 0, 1)
        target[start : start + block.shape[0]] = block.reshape(block.shape[0], -1)
