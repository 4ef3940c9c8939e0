"""Modules that read, select and encode a context."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Constant(nn.Module):
    """Trainable tensors that do not depend on the context.

    Parameters
    ----------
    *values : Tensor
        Initial values. One value is returned as a tensor, more than one as a tuple.

    Examples
    --------
    >>> mu, log_var = Constant(torch.zeros(3), torch.zeros(3))()
    """

    def __init__(self, *values: Tensor) -> None:
        super().__init__()
        self.values = nn.ParameterList(nn.Parameter(v.clone()) for v in values)

    def forward(self, c: object = None) -> Tensor | tuple[Tensor, ...]:  # noqa: ARG002
        """Return the tensor, or the tuple of tensors; ``c`` is ignored."""
        return self.values[0] if len(self.values) == 1 else tuple(self.values)


class Lookup(nn.Module):
    """Trainable tables indexed by a one-hot vector: a class-conditional network.

    Parameters
    ----------
    *tables : Tensor [k, n]
        Initial values. One table gives a tensor, more than one a tuple.

    Examples
    --------
    >>> Lookup(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))(torch.tensor([0.0, 1.0]))
    tensor([3., 4.], grad_fn=<SqueezeBackward4>)
    """

    def __init__(self, *tables: Tensor) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(t.clone()) for t in tables)

    def forward(self, z: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the table rows [..., n] selected by the one-hot z [..., k]."""
        rows = tuple(z @ table for table in self.tables)
        return rows[0] if len(rows) == 1 else rows


class ReadContext(nn.Module):
    """Concatenation of fields of a context, as the first layer of a conditional network.

    Parameters
    ----------
    *fields : {"x", "y", "mask", "z"}
        Fields to concatenate, in this order.
    n_classes : int, optional
        Number of classes: encodes the class indices in ``y`` one-hot, unlabelled samples (-1) as
        zeros. By default ``y`` is concatenated unchanged.

    Examples
    --------
    >>> from ancestral.probability.conditionals import Context
    >>> context = Context(y=torch.tensor([1, -1]), z=torch.zeros(2, 1))
    >>> ReadContext("z", "y", n_classes=2)(context)
    tensor([[0., 0., 1.],
            [0., 0., 0.]])
    """

    def __init__(self, *fields: str, n_classes: int | None = None) -> None:
        super().__init__()
        self.context_fields, self.n_classes = fields, n_classes
        self.register_buffer("like", torch.empty(0), persistent=False)
        self.like: Tensor

    def forward(self, context: object) -> Tensor:
        """Return the concatenation [..., total width]; leading axes are broadcast."""
        values = [getattr(context, f) for f in self.context_fields]
        batch_shapes = [
            v.shape[:-1] for v, f in zip(values, self.context_fields, strict=True) if f != "y"
        ]
        shape = torch.broadcast_shapes(*batch_shapes) if batch_shapes else None
        parts = []
        for field, value in zip(self.context_fields, values, strict=True):
            if field == "y" and self.n_classes is not None:
                value = one_hot(value, self.n_classes).to(self.like.dtype)
            parts.append(value if shape is None else value.expand(*shape, value.shape[-1]))
        return torch.cat(parts, -1)


def one_hot(y: Tensor, n_classes: int) -> Tensor:
    """Encode class indices [batch] as one-hot rows [batch, n_classes]; -1 (unlabelled) as zeros."""
    is_class = y.unsqueeze(-1) == torch.arange(n_classes, device=y.device)
    return is_class.to(torch.get_default_dtype())


class Slice(nn.Module):
    """Slice ``start:stop`` of the last axis, for example one layer of a ``Chain``."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, u: Float[Tensor, "*b d"]) -> Tensor:
        """Return the slice [..., stop - start]."""
        return u[..., self.start : self.stop]
