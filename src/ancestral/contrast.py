"""Contrast of images: brought to one scale over the image, then around every pixel."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from ancestral.fields import Count, Positive, check

BLOCK = 1024
"""Images whose contrast is normalised at once."""
SMALLEST_LENGTH, SMALLEST_SPREAD = 1e-8, 1e-4


def global_contrast(x: np.ndarray) -> np.ndarray:
    """Subtract the mean of every image and divide by the length of what is left.

    Over all channels at once; an image of one colour becomes zero.

    Parameters
    ----------
    x : array [n, d]
        Images as rows, in any unit.

    Returns
    -------
    array [n, d]
        Floating point, every row of mean 0 and length 1.

    Examples
    --------
    >>> global_contrast(np.array([[1.0, 3.0, 2.0, 2.0]])).round(3)
    array([[-0.707,  0.707,  0.   ,  0.   ]])
    """
    x = np.asarray(x, np.result_type(x, np.float32))
    centred = x - x.mean(1, keepdims=True)
    length = np.sqrt(np.square(centred).sum(1, keepdims=True))
    return centred / np.where(length < SMALLEST_LENGTH, 1.0, length)


def local_contrast(
    x: np.ndarray, image_shape: tuple[int, ...], *, window: int = 7, sigma: float = 2.0
) -> np.ndarray:
    """Subtract what is around a pixel on average and divide by how much it varies there.

    In every channel, with a Gaussian window G that sums to one and zeros outside of the image:
    x - G * x over the greatest of sqrt(G * x^2), its mean over the channel, and 1e-4.

    Parameters
    ----------
    x : array [n, d]
        Images as rows.
    image_shape : tuple
        (height, width) or (channels, height, width).
    window : int
        Side of the window in pixels, odd.
    sigma : float
        Of the Gaussian, in pixels.

    Returns
    -------
    array [n, d]
        Floating point, of the precision that came in, single at least.

    Raises
    ------
    ValueError
        If the window has no middle, or the rows are not images of that shape.

    References
    ----------
    K. Jarrett, K. Kavukcuoglu, M. Ranzato and Y. LeCun (2009): What is the best multi-stage
    architecture for object recognition? The divisor is that of the max-margin papers' code.

    Examples
    --------
    >>> bool(local_contrast(np.ones((1, 81)), (9, 9)).reshape(9, 9)[4, 4].round(6) == 0)
    True
    """
    check("window", window, Count)
    check("sigma", sigma, Positive)
    if window % 2 == 0:
        raise ValueError(f"window={window}: expected an odd number, so that a pixel is its middle")
    x = np.asarray(x, np.result_type(x, np.float32))
    if x.ndim != 2 or np.prod(image_shape) != x.shape[1]:
        raise ValueError(f"image_shape={image_shape} does not describe rows of shape {x.shape}")
    places = np.arange(window) - window // 2
    bell = np.exp(-np.square(places / sigma) / 2)
    bell /= bell.sum()

    def blurred(maps: np.ndarray) -> np.ndarray:
        for axis in (-2, -1):
            maps = correlate1d(maps, bell, axis, mode="constant")
        return maps

    maps = x.reshape(len(x), -1, *image_shape[-2:])
    spread = np.sqrt(blurred(np.square(maps)))
    usual = spread.mean((-2, -1), keepdims=True)
    floor = np.maximum(usual, SMALLEST_SPREAD)
    return ((maps - blurred(maps)) / np.maximum(spread, floor)).reshape(x.shape)


def normalise_contrast(x: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Normalise the contrast globally, then locally, as the max-margin papers do with SVHN.

    Parameters
    ----------
    x : array [n, d]
        Images as rows, in any unit.
    image_shape : tuple
        (height, width) or (channels, height, width).

    Returns
    -------
    array [n, d]
        float32.
    """
    out = np.empty(x.shape, np.float32)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        out[rows] = local_contrast(global_contrast(x[rows]), image_shape)
    return out
