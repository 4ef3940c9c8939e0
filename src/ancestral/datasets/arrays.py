"""The user's own arrays: .npy and .npz files, and the rules that turn an array into rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.datasets.core import (
    PARTS,
    UNLABELLED,
    DataError,
    damaged,
    has_label,
    row_blocks,
)
from ancestral.datasets.formats import open_npz, read_npz
from ancestral.datasets.splits import hold_out

Fields = dict[str, Any]

CHANNELS = (1, 3, 4)
BITS = ("false", "true")
ROW_KINDS = {"u1", "b1", "f4", "f8"}


def load_npy(
    path: Path, *, test_fraction: float | None = None, seed: int = 0, shuffle: bool = True
) -> Fields:
    """Map an .npy file into memory: only what is used is read, nothing is copied.

    Its dtype stays as it is. With `test_fraction` and `shuffle` the rows are copied, since
    they change their order; ``shuffle=False`` takes the last rows as the test split instead.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        raise damaged(path, "is not a readable .npy file of a plain array") from None
    _refuse_kinds(array, path.name)
    if array.ndim == 4 and not _channels_first(array.shape):
        raise DataError(
            f"{path}: images of shape {array.shape[1:]} have their channels last, and moving them "
            "would copy the file into memory. Save np.moveaxis(images, -1, 1) once instead."
        )
    if array.ndim > 2 and not array.flags.c_contiguous:
        raise DataError(f"{path}: is in column-major order; save np.ascontiguousarray(array).")
    x, image_shape = as_rows(array, path.name)
    x = x.view(np.bool_) if is_bits(x) else x
    split: Fields = {"x_train": x}
    if test_fraction is not None:
        split = hold_out(x, None, test_fraction, seed, shuffle)
    return {**split, "image_shape": image_shape, "note": "Memory-mapped."}


def load_npz(
    path: Path, *, test_fraction: float | None = None, seed: int = 0, shuffle: bool = True
) -> Fields:
    """Read x_train, y_train, x_test and so on, or x (also data) and y, from an .npz file."""
    names = _array_names(path)
    arrays = dict(zip(names, read_npz(path, *names.values()), strict=True))
    rows = {part: as_rows(a, part) for part, a in arrays.items() if part.startswith("x_")}
    labels = {part: a for part, a in arrays.items() if part.startswith("y_")}
    fields: Fields = dict(zip(rows, tidy_dtypes([x for x, _ in rows.values()]), strict=True))
    y, class_names = encode_labels(labels)
    if test_fraction is not None:
        if "x_test" in fields:
            raise DataError(f"{path}: test_fraction is given but the file has its own x_test.")
        valid = {part: a for part, a in {**fields, **y}.items() if part.endswith("_valid")}
        train = fields["x_train"], y.get("y_train")
        fields, y = {**hold_out(*train, test_fraction, seed, shuffle), **valid}, {}
    return {**fields, **y, "image_shape": rows["x_train"][1], "class_names": class_names}


def _array_names(path: Path) -> dict[str, str]:
    """Map the names of `Dataset`'s arrays to those in the file, whatever their case."""
    with open_npz(path) as archive:
        found = {name.lower(): name for name in archive.files}
    names = {part: found[part] for part in PARTS if part in found}
    if "x_train" not in names:
        alone = {"x_train": found.get("x", found.get("data")), "y_train": found.get("y")}
        names = {part: name for part, name in alone.items() if name is not None}
    if "x_train" not in names:
        raise DataError(
            f"{path}: holds the arrays {', '.join(found.values()) or '(none)'}; expected x_train "
            "(with x_test, y_train, y_test, x_valid, y_valid as there are), or x (or data) with y."
        )
    return names


def as_rows(array: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Flatten images (n, h, w), (n, c, h, w) or (n, h, w, c) to rows, channels first.

    Returns
    -------
    rows : ndarray of shape (n, features)
        A view where the order of the elements allows.
    image_shape : tuple of int or None
        (h, w) or (c, h, w) for images.
    """
    _refuse_kinds(array, name)
    if array.ndim == 2:
        return array, None
    if array.ndim == 4 and not _channels_first(array.shape):
        array = np.moveaxis(array, -1, 1)
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[1] not in CHANNELS):
        raise DataError(
            f"{name}: shape {array.shape} is neither rows (n, features) nor images (n, h, w), "
            "(n, c, h, w) or (n, h, w, c) with 1, 3 or 4 channels. A single column is "
            "x.reshape(-1, 1)."
        )
    shape = array.shape[1:]
    rows = array.reshape(len(array), int(np.prod(shape)))
    return rows, shape[1:] if len(shape) == 3 and shape[0] == 1 else shape


def _channels_first(shape: tuple[int, ...]) -> bool:
    return shape[1] in CHANNELS or shape[-1] not in CHANNELS


def _refuse_kinds(array: np.ndarray, name: str) -> None:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: has dtype {array.dtype}, expected numbers or bits.")


def is_bits(array: np.ndarray) -> bool:
    """Return whether an array of bytes holds only 0 and 1; stops at the first other byte."""
    return array.dtype == np.uint8 and all(block.max() <= 1 for block in row_blocks(array))


def tidy_dtypes(splits: list[np.ndarray]) -> list[np.ndarray]:
    """Give the splits one dtype: bool for bits, uint8 for bytes, else float32 or float64.

    Bytes that are all 0 or 1 are bits: as grey values they would be almost black.
    """
    if all(map(is_bits, splits)):
        return [x.astype(np.bool_) for x in splits]
    common = np.result_type(*splits)
    if common.str[1:] not in ROW_KINDS:
        common = np.dtype(np.float32 if common.str[1:] == "f2" else np.float64)
    return [x.astype(common.newbyteorder("="), copy=False) for x in splits]


def encode_labels(
    labels: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Turn text into class indices (names sorted), integers into int64; keep float targets.

    The text -1 is no class but a row without one; bits are the classes false and true.
    """
    kinds = {y.dtype.kind for y in labels.values()}
    if not kinds <= set("biufU"):
        raise DataError(f"labels have dtype kind {sorted(kinds)}, expected numbers or text.")
    if "U" not in kinds:
        numbers = {
            part: y if y.dtype.kind == "f" else y.astype(np.int64) for part, y in labels.items()
        }
        return numbers, BITS if kinds == {"b"} else None
    if kinds != {"U"}:
        raise DataError("labels are text in one split and numbers in another.")
    names = np.unique(np.concatenate(list(labels.values())))
    names = names[has_label(names)]
    encoded = {
        part: np.where(has_label(y), np.searchsorted(names, y), UNLABELLED)
        for part, y in labels.items()
    }
    return encoded, tuple(map(str, names))
