"""Preprocessing of model inputs: binarisation, corruption, and scaling and encoding of columns."""

from __future__ import annotations

from typing import Literal

import numpy as np


def to_unit_interval(x: np.ndarray) -> np.ndarray:
    """Convert bytes to float32 in [0, 1]: divided by 255, unless all values are 0 or 1.

    Examples
    --------
    >>> [to_unit_interval(np.array([0, top], dtype=np.uint8)).tolist() for top in (255, 1)]
    [[0.0, 1.0], [0.0, 1.0]]
    """
    return x * np.float32(1 / 255 if x.max(initial=0) > 1 else 1)


def binarize(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Sample a binary array from probabilities, with a separate random generator.

    Parameters
    ----------
    x : array
        Probabilities: floating point in [0, 1], or uint8 in units of 1/255 (in units of 1 if all
        values are 0 or 1). ``NaN`` is returned as ``NaN``.
    seed : int
        Seed of the generator. The evaluation protocols use 0, 1 and 2 for the test set.

    Returns
    -------
    array
        0 and 1, of the shape of ``x``; floating point.

    Examples
    --------
    >>> binarize(np.array([[0.0, 1.0, np.nan]]))
    array([[ 0.,  1., nan]])
    """
    rng = np.random.default_rng(seed)
    p = to_unit_interval(x) if x.dtype == np.uint8 else x
    bits = (rng.random(p.shape, dtype=np.float32) < p).astype(p.dtype)
    return np.where(np.isnan(p), p, bits)


def corrupt(
    x: np.ndarray,
    kind: Literal["square", "random", "half"],
    amount: float = 12,
    *,
    image_shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Set entries to missing (``NaN``) in one of the patterns of the papers' test images.

    Parameters
    ----------
    x : array [n, d]
        Rows, not modified; flattened images of ``image_shape`` for ``square`` and ``half``.
    kind : {"square", "random", "half"}
        Missing entries: a centred square of side ``amount``; each entry (each pixel of an image)
        independently with probability ``amount``; or the left half of the image.
    amount : float
        Side of the square in pixels, or probability; unused for ``half``.
    image_shape : tuple, optional
        (height, width) or (channels, height, width).
    seed : int
        Seed of the pattern ``random``.

    Returns
    -------
    array [n, d]
        Floating-point copy of ``x``; uint8 is converted to [0, 1].

    Raises
    ------
    ValueError
        If ``kind`` is unknown, ``image_shape`` does not match the rows, or ``amount`` is out of
        range.

    Examples
    --------
    >>> corrupt(np.zeros((1, 4)), "half", image_shape=(2, 2))
    array([[nan,  0., nan,  0.]])
    """
    if kind not in ("square", "random", "half"):
        raise ValueError(f"kind={kind!r}: expected 'square', 'random' or 'half'")
    if image_shape is None and kind == "random":
        image_shape = (1, x.shape[1])
    if image_shape is None or np.prod(image_shape) != x.shape[1]:
        raise ValueError(
            f"image_shape={image_shape} does not match rows of {x.shape[1]} entries: pass the "
            f"shape of the images, which kind={kind!r} needs"
        )
    out = to_unit_interval(x) if x.dtype == np.uint8 else np.array(x, np.result_type(x, np.float32))
    pixels = out.reshape(len(out), -1, *image_shape[-2:])
    missing = _missing_pixels(kind, amount, (len(out), *image_shape[-2:]), seed)
    pixels[np.broadcast_to(missing[:, None], pixels.shape)] = np.nan
    return out


def _missing_pixels(kind: str, amount: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    _, height, width = shape
    if kind == "random":
        if not 0 <= amount <= 1:
            raise ValueError(f"amount={amount}: expected a probability from 0 to 1")
        return np.random.default_rng(seed).random(shape) < amount
    missing = np.zeros(shape, dtype=bool)
    if kind == "half":
        missing[..., : width // 2] = True
        return missing
    if not (float(amount).is_integer() and 0 < amount <= min(height, width)):
        raise ValueError(
            f"amount={amount}: expected the side of a square in whole pixels, from 1 to "
            f"{min(height, width)} for images of {height}x{width}"
        )
    side = int(amount)
    top, left = (height - side) // 2, (width - side) // 2
    missing[:, top : top + side, left : left + side] = True
    return missing
