"""Global and local contrast normalisation of images."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from ancestral.utils.validation import Count, Positive, check_field

IMAGES_PER_BLOCK = 1024
"""Number of images processed per block."""

MIN_NORM, MIN_STD = 1e-8, 1e-4


def global_contrast_normalization(x: np.ndarray) -> np.ndarray:
    """Global contrast normalisation: subtract each image's mean and divide by the L2 norm.

    Mean and norm are over all channels together. An image with norm below 1e-8 after the
    subtraction is not divided, so a constant image becomes zero.

    Parameters
    ----------
    x : array [n, d]
        Flattened images, in any unit.

    Returns
    -------
    array [n, d]
        Floating point, at least float32; each row has mean 0 and L2 norm 1.

    Examples
    --------
    >>> global_contrast_normalization(np.array([[1.0, 3.0, 2.0, 2.0]])).round(3)
    array([[-0.707,  0.707,  0.   ,  0.   ]])
    """
    x = np.asarray(x, np.result_type(x, np.float32))
    centred = x - x.mean(1, keepdims=True)
    norm = np.sqrt(np.square(centred).sum(1, keepdims=True))
    return centred / np.where(norm < MIN_NORM, 1.0, norm)


def local_contrast_normalization(
    x: np.ndarray, image_shape: tuple[int, ...], *, window: int = 7, sigma: float = 2.0
) -> np.ndarray:
    """Local contrast normalisation: subtract a local mean and divide by a local standard deviation.

    Per channel: (x - G * x) / max(sqrt(G * x^2), mean over pixels of sqrt(G * x^2), 1e-4), where
    G * is the convolution with a Gaussian window that sums to one, zero-padded at the border.

    Parameters
    ----------
    x : array [n, d]
        Flattened images.
    image_shape : tuple
        (height, width) or (channels, height, width).
    window : int
        Side of the window in pixels, odd.
    sigma : float
        Standard deviation of the Gaussian in pixels, above 0.

    Returns
    -------
    array [n, d]
        Floating point, of the precision of ``x`` and at least float32.

    Raises
    ------
    ValueError
        If ``window`` is not odd and positive, ``sigma`` is not positive, or ``image_shape`` does
        not match the rows.

    References
    ----------
    K. Jarrett, K. Kavukcuoglu, M. Ranzato and Y. LeCun (2009): What is the best multi-stage
    architecture for object recognition? The divisor is that of the max-margin papers' code.

    Examples
    --------
    >>> image = local_contrast_normalization(np.ones((1, 81)), (9, 9)).reshape(9, 9)
    >>> bool(image[4, 4].round(6) == 0)
    True
    """
    check_field("window", window, Count)
    check_field("sigma", sigma, Positive)
    if window % 2 == 0:
        raise ValueError(f"window={window}: expected an odd number of pixels")
    x = np.asarray(x, np.result_type(x, np.float32))
    if x.ndim != 2 or np.prod(image_shape) != x.shape[1]:
        raise ValueError(
            f"image_shape={image_shape} does not match an array of shape {x.shape}: expected "
            "[n, d] with d the product of image_shape"
        )
    offsets = np.arange(window) - window // 2
    weights = np.exp(-np.square(offsets / sigma) / 2)
    weights /= weights.sum()

    def blur(maps: np.ndarray) -> np.ndarray:
        for axis in (-2, -1):
            maps = correlate1d(maps, weights, axis, mode="constant")
        return maps

    maps = x.reshape(len(x), -1, *image_shape[-2:])
    std = np.sqrt(blur(np.square(maps)))
    mean_std = std.mean((-2, -1), keepdims=True)
    min_std = np.maximum(mean_std, MIN_STD)
    return ((maps - blur(maps)) / np.maximum(std, min_std)).reshape(x.shape)


def contrast_normalization(x: np.ndarray, image_shape: tuple[int, ...]) -> np.ndarray:
    """Global, then local contrast normalisation, the max-margin papers' preprocessing of SVHN.

    Parameters
    ----------
    x : array [n, d]
        Flattened images, in any unit.
    image_shape : tuple
        (height, width) or (channels, height, width).

    Returns
    -------
    array [n, d]
        Normalised images, float32.
    """
    out = np.empty(x.shape, np.float32)
    for start in range(0, len(x), IMAGES_PER_BLOCK):
        rows = slice(start, start + IMAGES_PER_BLOCK)
        out[rows] = local_contrast_normalization(
            global_contrast_normalization(x[rows]), image_shape
        )
    return out
