"""Parameters side by side in one vector, with a copy in reduced precision where that is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ancestral.engine.planning import Plan

ALIGNED = 8
"""Every parameter begins at a multiple of so many numbers: of bfloat16 they are the 16 bytes that a
GPU's kernels read at once, and expect to begin where such a block does."""


class FlatParameters:
    """Parameters laid side by side in one vector, of which they are views.

    Zeros fill the vector up behind a parameter whose size is not a multiple of :data:`ALIGNED`.

    Parameters
    ----------
    parameters : sequence of Parameter
        Tied ones count once; they keep their identity, so the model needs no change.
    reduced : dtype, optional
        Matrices and kernels then read a copy of the vector in this dtype, written whenever
        :meth:`refresh` is called; vectors (biases, scales) read the full one: near 1, the steps
        of bfloat16 are 0.008 wide.

    Attributes
    ----------
    vector : Tensor [n]
        The masters, in the parameters' own precision.
    low : Tensor [n] or None
        The copy in reduced precision.
    views : list of Tensor
        What each parameter reads, in their order.
    shapes : list of Size
        Of what lies in the vector: after each parameter the zeros behind it, maybe none.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> flat = FlatParameters(list(layer.parameters()))
    >>> with torch.no_grad(): _ = flat.vector.zero_()
    >>> layer.weight
    Parameter containing:
    tensor([[0., 0.]], requires_grad=True)
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], reduced: torch.dtype | None = None
    ) -> None:
        self.parameters = list(dict.fromkeys(p for p in parameters if p.requires_grad))
        if not self.parameters:
            raise ValueError("params: a player needs at least one parameter to move")
        self.shapes = [size for p in self.parameters for size in (p.shape, _zeros_behind(p))]
        self._orders = [_memory_order(p) for p in self.parameters]
        laid_out = [
            p.detach().permute(o) for p, o in zip(self.parameters, self._orders, strict=True)
        ]
        self.vector = self._filled_up([p.reshape(-1) for p in laid_out])
        self.low = None if reduced is None else self.vector.to(reduced)
        self.views = self._views(self.vector, self.low)
        self._bind(self.views)

    def _views(self, vector: Tensor, low: Tensor | None) -> list[Tensor]:
        sizes = [shape.numel() for shape in self.shapes]
        full = vector.split(sizes)[::2]
        reduced = full if low is None else low.split(sizes)[::2]
        shapes = self.shapes[::2]
        pieces = [r if len(s) > 1 else f for f, r, s in zip(full, reduced, shapes, strict=True)]
        return [
            piece.view([shape[axis] for axis in order]).permute(_inverse(order))
            for piece, shape, order in zip(pieces, shapes, self._orders, strict=True)
        ]

    def _filled_up(self, pieces: Sequence[Tensor]) -> Tensor:
        """Lay flat pieces side by side, with the zeros between them."""
        fillers = [pieces[0].new_zeros(shape) for shape in self.shapes[1::2]]
        return torch.cat([part for pair in zip(pieces, fillers, strict=True) for part in pair])

    def _bind(self, tensors: Sequence[Tensor]) -> None:
        for parameter, tensor in zip(self.parameters, tensors, strict=True):
            parameter.data = tensor

    def leaves(self) -> list[Tensor]:
        """Return the parameters' values as fresh leaves to differentiate by."""
        return [view.detach().requires_grad_() for view in self._views(self.vector, self.low)]

    def gather(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Lay gradients side by side as the vector is; a missing one counts as zeros."""
        n = self.vector
        return self._filled_up(
            [
                n.new_zeros(shape.numel())
                if g is None
                else g.permute(order).reshape(-1).to(n.dtype)
                for g, shape, order in zip(gradients, self.shapes[::2], self._orders, strict=True)
            ]
        )

    def write(self, vector: Tensor) -> None:
        """Give the parameters other values."""
        if vector is not self.vector:
            self.vector.copy_(vector)
            self.refresh()

    def refresh(self) -> None:
        """Write the reduced copy anew, after the vector was moved."""
        if self.low is not None:
            self.low.copy_(self.vector)

    def release(self, vector: Tensor | None = None) -> None:
        """Give every parameter memory and full precision of its own again.

        Parameters
        ----------
        vector : Tensor [n], optional
            Their values, if not those of :attr:`vector`.
        """
        values = self._views(self.vector if vector is None else vector, None)
        self._bind([value.clone() for value in values])


def _zeros_behind(p: Tensor) -> torch.Size:
    return torch.Size([-p.numel() % ALIGNED])


def lay_out(model: nn.Module, form: torch.memory_format) -> None:
    """Lay the kernels of convolutions out in another order in memory."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=form)


@contextmanager
def reduced(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Compute matrix products in the plan's precision inside."""
    if plan.reduced is None:
        yield
        return
    flat = FlatParameters(list(model.parameters()), plan.reduced)
    try:
        with plan.products(flat.vector.device):
            yield
    finally:
        flat.release()


def _memory_order(p: Tensor) -> list[int]:
    """Axes from the slowest to the fastest in memory: convolutions may keep channels last."""
    if p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous():
        return [0, 2, 3, 1]
    return list(range(p.ndim))


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
