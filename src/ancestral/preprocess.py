"""What is done to rows before a model sees them: binarise, corrupt, bring columns to one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

ColumnKind = Literal["bernoulli", "gaussian", "categorical", "poisson"]


def bernoulli_draw(x: Tensor) -> Tensor:
    """Draw each entry as 1 with its own value as the probability, from torch's current stream."""
    return (torch.rand_like(x) < x).to(x.dtype)


def as_shares(x: np.ndarray) -> np.ndarray:
    """Return bytes as floating point: of 255, or as they are if none is above one.

    >>> as_shares(np.array([0, 255], dtype=np.uint8)), as_shares(np.array([0, 1], dtype=np.uint8))
    (array([0., 1.], dtype=float32), array([0., 1.], dtype=float32))
    """
    return x * np.float32(1 / 255 if x.max(initial=0) > 1 else 1)


def binarize(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Binarise an array of probabilities once, by a stream of its own; ``NaN`` stays.

    Parameters
    ----------
    x : array
        uint8 (255 stands for one, unless all are bits) or floating point in [0, 1].
    seed : int
        Seeds the draw; the protocols of this library use 0, 1 and 2 for the test set.

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
    """Mark entries as missing (``NaN``), in the ways the papers damage their test images.

    Parameters
    ----------
    x : array [n, d]
        Rows; with ``rect`` and ``half`` they are images of ``image_shape``. uint8 comes back as
        floating point in [0, 1].
    kind : {"rect", "random", "half"}
        A centred square of side ``amount``; every entry by itself (every pixel, if there are
        channels) with probability ``amount``; the left half.
    amount : float
        Side in pixels, or probability; without meaning for ``half``.
    image_shape : tuple, optional
        (height, width) or (channels, height, width).
    seed : int
        Of the random drops.

    Raises
    ------
    ValueError
        If the kind is unknown, an image shape is needed and missing, or the amount out of range.

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
            f"image_shape={image_shape} does not describe rows of {x.shape[1]} entries; "
            f"kind={kind!r} needs the images' shape"
        )
    out = as_shares(x) if x.dtype == np.uint8 else np.array(x, np.result_type(x, np.float32))
    pixels = out.reshape(len(out), -1, *image_shape[-2:])
    lost = _lost_pixels(kind, amount, (len(out), *image_shape[-2:]), seed)
    pixels[np.broadcast_to(lost[:, None], pixels.shape)] = np.nan
    return out


def _lost_pixels(kind: str, amount: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    _, height, width = shape
    if kind == "random":
        if not 0 <= amount <= 1:
            raise ValueError(f"amount={amount}: a drop probability lies between 0 and 1")
        return np.random.default_rng(seed).random(shape) < amount
    lost = np.zeros(shape, dtype=bool)
    if kind == "half":
        lost[..., : width // 2] = True
        return lost
    if not (float(amount).is_integer() and 0 < amount <= min(height, width)):
        raise ValueError(
            f"amount={amount}: expected a whole number of pixels, the side of a square inside "
            f"{height}x{width} of them"
        )
    side = int(amount)
    top, left = (height - side) // 2, (width - side) // 2
    lost[:, top : top + side, left : left + side] = True
    return lost


class Columns(nn.Module):
    """How the columns of a table become what a model sees, and back.

    Gaussian columns are standardised (the log-density is brought back to the user's units by
    ``log_volume``), Poisson counts are logged for the network only, categorical codes become
    one-hot indicators for the network only, Bernoulli columns stay. A missing entry is all zeros.

    Parameters
    ----------
    kinds : sequence of str
        One of ``bernoulli gaussian categorical poisson`` per column.
    loc, scale : arrays [d]
        Of the Gaussian columns; 0 and 1 elsewhere.
    n_categories : sequence of int
        How many codes a categorical column has; 0 elsewhere.

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
        """Return the column numbers of one kind."""
        return [j for j, k in enumerate(self.kinds) if k == kind]

    @property
    def n_features(self) -> int:
        """Width of :meth:`to_features`."""
        return sum(max(1, n) for n in self.n_categories)

    def to_model(self, x: Tensor) -> Tensor:
        """From the user's units [batch, d] to the model's."""
        return (x - self.loc) / self.scale if self.standardises else x

    def to_user(self, x: Tensor) -> Tensor:
        """From the model's units [..., d] to the user's."""
        return x * self.scale + self.loc if self.standardises else x

    def log_volume(self, mask: Tensor | None) -> Tensor:
        """Log-determinant of the standardisation over the observed entries, [] or [batch].

        log p(x) in the user's units is the model's log-density minus this.
        """
        log_scale = self.scale.log()
        return log_scale.sum() if mask is None else (mask * log_scale).sum(-1)

    def to_features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """From the model's units [..., d] to network inputs [..., n_features]."""
        if not self.recodes:
            return x
        parts = []
        for j, (kind, n) in enumerate(zip(self.kinds, self.n_categories, strict=True)):
            column = x[..., j : j + 1]
            if kind == "poisson":
                column = torch.log1p(column)
            elif kind == "categorical":
                column = nn.functional.one_hot(x[..., j].long(), n).to(x.dtype)
            parts.append(column if mask is None else column * mask[..., j : j + 1])
        return torch.cat(parts, -1)


class Features(nn.Module):
    """First layer of an encoder: what :class:`Columns` makes of a context's x and mask."""

    reads = ("x", "mask")

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, context: Any) -> Tensor:
        """Return [..., n_features]."""
        return self.columns.to_features(context.x, context.mask)
