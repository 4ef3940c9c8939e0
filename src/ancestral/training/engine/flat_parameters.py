"""Flat parameter vectors, with an optional copy in reduced precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ancestral.training.engine.compilation import Plan

ALIGNMENT = 8
"""Alignment of each parameter in the flat vector, in numbers: 8 of bfloat16 are 16 bytes, the
alignment of vectorised loads in GPU kernels."""


class FlatParameters:
    """Parameters of a model stored in one flat vector, of which they become views.

    Each parameter is padded with zeros to a multiple of :data:`ALIGNMENT` numbers.

    Parameters
    ----------
    parameters : sequence of Parameter
        Parameters to store; those without gradient are skipped and tied ones stored once. The
        parameter objects remain the same, so the model needs no change.
    reduced_dtype : dtype, optional
        Dtype of the copy that matrices and convolution kernels view; :meth:`refresh` updates the
        copy. Vectors (biases, scales) view the full-precision vector, because near 1 bfloat16
        numbers are 0.008 apart. By default there is no copy.

    Attributes
    ----------
    vector : Tensor [n]
        Master copy in the precision of the parameters.
    reduced_copy : Tensor [n] or None
        Copy in reduced precision.
    views : list of Tensor
        View of each parameter, in the order of the parameters.
    shapes : list of Size
        Shapes of the parts of the vector: each parameter followed by its padding, which may be
        empty.

    Raises
    ------
    ValueError
        If no parameter requires a gradient.

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
        self, parameters: Sequence[nn.Parameter], reduced_dtype: torch.dtype | None = None
    ) -> None:
        self.parameters = list(dict.fromkeys(p for p in parameters if p.requires_grad))
        if not self.parameters:
            raise ValueError(
                "params: no parameter requires a gradient; expected at least one per player"
            )
        self.shapes = [size for p in self.parameters for size in (p.shape, _padding_shape(p))]
        self._orders = [_memory_order(p) for p in self.parameters]
        in_memory_order = [
            p.detach().permute(o) for p, o in zip(self.parameters, self._orders, strict=True)
        ]
        self.vector = self._concatenate_padded([p.reshape(-1) for p in in_memory_order])
        self.reduced_copy = None if reduced_dtype is None else self.vector.to(reduced_dtype)
        self.views = self._views(self.vector, self.reduced_copy)
        self._bind(self.views)

    def _views(self, vector: Tensor, reduced_copy: Tensor | None) -> list[Tensor]:
        sizes = [shape.numel() for shape in self.shapes]
        full = vector.split(sizes)[::2]
        reduced_dtype = full if reduced_copy is None else reduced_copy.split(sizes)[::2]
        shapes = self.shapes[::2]
        pieces = [
            r if len(s) > 1 else f for f, r, s in zip(full, reduced_dtype, shapes, strict=True)
        ]
        return [
            piece.view([shape[axis] for axis in order]).permute(_inverse_permutation(order))
            for piece, shape, order in zip(pieces, shapes, self._orders, strict=True)
        ]

    def _concatenate_padded(self, pieces: Sequence[Tensor]) -> Tensor:
        """Concatenate flat parts, each followed by its zero padding."""
        paddings = [pieces[0].new_zeros(shape) for shape in self.shapes[1::2]]
        return torch.cat([part for pair in zip(pieces, paddings, strict=True) for part in pair])

    def _bind(self, tensors: Sequence[Tensor]) -> None:
        for parameter, tensor in zip(self.parameters, tensors, strict=True):
            parameter.data = tensor

    def leaves(self) -> list[Tensor]:
        """Return the values of the parameters as new leaf tensors that require gradients."""
        return [
            view.detach().requires_grad_() for view in self._views(self.vector, self.reduced_copy)
        ]

    def gather(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Concatenate gradients in the layout of :attr:`vector`, [n]; None counts as zeros."""
        vector = self.vector
        return self._concatenate_padded(
            [
                vector.new_zeros(shape.numel())
                if g is None
                else g.permute(order).reshape(-1).to(vector.dtype)
                for g, shape, order in zip(gradients, self.shapes[::2], self._orders, strict=True)
            ]
        )

    def write(self, vector: Tensor) -> None:
        """Set the parameters to the values of ``vector``, [n]."""
        if vector is not self.vector:
            self.vector.copy_(vector)
            self.refresh()

    def refresh(self) -> None:
        """Update the reduced-precision copy after a change of :attr:`vector`."""
        if self.reduced_copy is not None:
            self.reduced_copy.copy_(self.vector)

    def release(self, vector: Tensor | None = None) -> None:
        """Store each parameter in separate memory and full precision again.

        Parameters
        ----------
        vector : Tensor [n], optional
            Values of the parameters; by default those of :attr:`vector`.
        """
        values = self._views(self.vector if vector is None else vector, None)
        self._bind([value.clone() for value in values])


def _padding_shape(p: Tensor) -> torch.Size:
    return torch.Size([-p.numel() % ALIGNMENT])


def set_memory_format(model: nn.Module, form: torch.memory_format) -> None:
    """Set the memory format of convolution kernels (parameters with four axes)."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=form)


@contextmanager
def reduced_precision(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Compute matrix products in the precision of the plan inside the context."""
    if plan.reduced_dtype is None:
        yield
        return
    flat = FlatParameters(list(model.parameters()), plan.reduced_dtype)
    try:
        with plan.autocast(flat.vector.device):
            yield
    finally:
        flat.release()


def _memory_order(p: Tensor) -> list[int]:
    """Return axes from the slowest to the fastest in memory; kernels may be channels-last."""
    if p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous():
        return [0, 2, 3, 1]
    return list(range(p.ndim))


def _inverse_permutation(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)
