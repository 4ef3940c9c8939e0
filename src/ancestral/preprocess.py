"""Preprocessing of model inputs: binarisation, corruption, and scaling and encoding of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

ColumnKind = Literal["bernoulli", "gaussian", "categorical", "poisson"]


def bernoulli_draw(x: Tensor) -> Tensor:
    """Sample each entry from Bernoulli(x), with torch's global generator; shape and dtype of x."""
    return (torch.rand_like(x) < x).to(x.dtype)


def as_shares(x: np.ndarray) -> np.ndarray:
    """Convert bytes to float32 in [0, 1]: divided by 255, unless all values are 0 or 1.

    >>> as_shares(np.array([0, 255], dtype=np.uint8)), as_shares(np.array([0, 1], dtype=np.uint8))
    (array([0., 1.], dtype=float32), array([0., 1.], dtype=float32))
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
    p = as_shares(x) if x.dtype == np.uint8 else x
    bits = (rng.random(p.shape, dtype=np.float32) < p).astype(p.dtype)
    return np.where(np.isnan(p), p, bits)


def corrupt(
    x: np.ndarray,
    kind: Literal["rect", "random", "half"],
    amount: float = 12,
    *,
    image_shape: tuple[int, ...] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Set entries to missing (``NaN``) in one of the patterns of the papers' test images.

    Parameters
    ----------
    x : array [n, d]
        Rows, not modified; flattened images of ``image_shape`` for ``rect`` and ``half``.
    kind : {"rect", "random", "half"}
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
    if kind not in ("rect", "random", "half"):
        raise ValueError(f"kind={kind!r}: expected 'rect', 'random' or 'half'")
    if image_shape is None and kind == "random":
        image_shape = (1, x.shape[1])
    if image_shape is None or np.prod(image_shape) != x.shape[1]:
        raise ValueError(
            f"image_shape={image_shape} does not match rows of {x.shape[1]} entries: pass the "
            f"shape of the images, which kind={kind!r} needs"
        )
    out = as_shares(x) if x.dtype == np.uint8 else np.array(x, np.result_type(x, np.float32))
    pixels = out.reshape(len(out), -1, *image_shape[-2:])
    missing = _lost_pixels(kind, amount, (len(out), *image_shape[-2:]), seed)
    pixels[np.broadcast_to(missing[:, None], pixels.shape)] = np.nan
    return out


def _lost_pixels(kind: str, amount: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
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


class Columns(nn.Module):
    """Transform between the columns of a table, model inputs and network inputs.

    Gaussian columns are standardised; ``log_volume`` corrects log-densities to the original units.
    Network inputs have log(1 + count) for Poisson columns and one-hot indicators for categorical
    columns; Bernoulli columns are unchanged. A missing entry is zero in all its network inputs.

    Parameters
    ----------
    kinds : sequence of str
        Kind of each column: ``bernoulli``, ``gaussian``, ``categorical`` or ``poisson``.
    loc, scale : arrays [d]
        Location and scale of Gaussian columns, in the user's units; 0 and 1 for other columns.
    n_categories : sequence of int
        Number of codes of categorical columns; 0 for other columns.

    Examples
    --------
    >>> columns = Columns(["gaussian", "categorical"], [2.0, 0.0], [4.0, 1.0], [0, 3])
    >>> columns.to_model(torch.tensor([[6.0, 2.0]]))
    tensor([[1., 2.]], dtype=torch.float64)
    >>> columns.to_features(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 0., 1.]])
    """

    def __init__(
        self,
        kinds: Sequence[ColumnKind],
        loc: Sequence[float] | np.ndarray,
        scale: Sequence[float] | np.ndarray,
        n_categories: Sequence[int],
    ) -> None:
        super().__init__()
        self.kinds, self.n_categories = tuple(kinds), tuple(int(n) for n in n_categories)
        self.standardises = "gaussian" in self.kinds
        self.recodes = not {"categorical", "poisson"}.isdisjoint(self.kinds)
        self.register_buffer("loc", torch.as_tensor(loc, dtype=torch.float64), persistent=False)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64), persistent=False)
        self.loc: Tensor
        self.scale: Tensor

    def columns_of(self, kind: ColumnKind) -> list[int]:
        """Return the indices of the columns of one kind."""
        return [j for j, k in enumerate(self.kinds) if k == kind]

    @property
    def n_features(self) -> int:
        """Number of network inputs, the last dimension of :meth:`to_features`."""
        return sum(max(1, n) for n in self.n_categories)

    def to_model(self, x: Tensor) -> Tensor:
        """Standardise Gaussian columns: from the user's units [batch, d] to model units."""
        return (x - self.loc) / self.scale if self.standardises else x

    def to_user(self, x: Tensor) -> Tensor:
        """Invert :meth:`to_model`: from model units [..., d] to the user's units."""
        return x * self.scale + self.loc if self.standardises else x

    def log_volume(self, mask: Tensor | None) -> Tensor:
        """Sum of log ``scale`` over the observed entries, in nats; [] without mask, else [batch].

        log p(x) in the user's units is the log-density in model units minus this value.
        """
        log_scale = self.scale.log()
        return log_scale.sum() if mask is None else (mask * log_scale).sum(-1)

    def to_features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode model units [..., d] as network inputs [..., n_features]."""
        if not self.recodes:
            return x
        encoded = []
        for j, (kind, n) in enumerate(zip(self.kinds, self.n_categories, strict=True)):
            column = x[..., j : j + 1]
            if kind == "poisson":
                column = torch.log1p(column)
            elif kind == "categorical":
                column = nn.functional.one_hot(x[..., j].long(), n).to(x.dtype)
            encoded.append(column if mask is None else column * mask[..., j : j + 1])
        return torch.cat(encoded, -1)


class Features(nn.Module):
    """First layer of an encoder: encodes x and mask of a context with :class:`Columns`."""

    reads = ("x", "mask")

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, context: Any) -> Tensor:
        """Return the network inputs [..., n_features]."""
        return self.columns.to_features(context.x, context.mask)
