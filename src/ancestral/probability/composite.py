"""Composite conditionals: mixtures, products, fixed and chained ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributions, nn

from ancestral.nn.numerics import at_least_float32
from ancestral.probability.conditionals import Conditional, ContextLike
from ancestral.probability.distributions import (
    ChainDistribution,
    MixedColumns,
)


class Mixture(Conditional):
    """Finite mixture sum_k pi_k(c) p_k(. | c); missing entries are integrated out exactly.

    Parameters
    ----------
    component : Conditional
        Conditional with k distributions along the axis before the entries, from a network or a
        ``Constant`` with outputs [..., k, d].
    logits : Module or Tensor [k]
        Logits of the mixture weights: a network of c, a fixed tensor, or a ``Parameter`` to fit.

    Examples
    --------
    >>> from ancestral.probability.conditionals import Gaussian
    >>> from ancestral.nn import Constant
    >>> p = Mixture(Gaussian(Constant(torch.randn(3, 2), torch.zeros(3, 2))), torch.zeros(3))
    >>> p.log_prob(torch.zeros(7, 2)).shape
    torch.Size([7])
    """

    def __init__(self, component: Conditional, logits: nn.Module | Tensor) -> None:
        super().__init__()
        self.component = component
        self.logits: nn.Module | Tensor
        if isinstance(logits, nn.Module | nn.Parameter):
            self.logits = logits
        else:
            self.register_buffer("logits", logits)

    def forward(self, c: ContextLike = None) -> distributions.MixtureSameFamily:
        """Return the mixture, over events of d entries."""
        logits = self.logits(c) if isinstance(self.logits, nn.Module) else self.logits
        logits = at_least_float32(logits)
        component = self.component(c)
        if not component.event_shape:
            component = distributions.Independent(component, 1, validate_args=False)
        logits = logits.expand(component.batch_shape)
        weights = distributions.Categorical(logits=logits, validate_args=False)
        return distributions.MixtureSameFamily(weights, component, validate_args=False)


class Product(Conditional):
    """Columns of mixed kinds: groups of columns, independent given c.

    Parameters
    ----------
    parts : sequence of Conditional
        Elementwise conditional of each group.
    columns : sequence of sequence of int
        Column indices of each group; each column of the table belongs to exactly one group.
    trunk : Module, optional
        Shared network c -> input of the parts. Default: the parts are called on c.

    Raises
    ------
    ValueError
        If the groups do not partition the columns, or their number differs from that of the parts.
    """

    def __init__(
        self,
        parts: Sequence[Conditional],
        columns: Sequence[Sequence[int]],
        trunk: nn.Module | None = None,
    ) -> None:
        super().__init__()
        flat = [j for group in columns for j in group]
        if sorted(flat) != list(range(len(flat))) or len(parts) != len(columns):
            raise ValueError(
                f"columns={columns}: expected {len(parts)} groups that contain each column "
                "0 .. d - 1 exactly once"
            )
        self.parts, self.trunk = nn.ModuleList(parts), trunk
        self.register_buffer("order", torch.tensor(flat).argsort())
        self.order: Tensor

    def forward(self, c: ContextLike = None) -> MixedColumns:
        """Return the joint distribution of the columns, in the order of the table."""
        c = c if self.trunk is None else self.trunk(c)
        return MixedColumns([part(c) for part in self.parts], self.order)


class Chain(Conditional):
    """Chain of stochastic layers as one vector: p(h_1 | c) p(h_2 | h_1) ...

    Parameters
    ----------
    layers : sequence of Conditional
        Conditionals of the layers. The first is called on c, each other on the value of its
        predecessor.
    sizes : sequence of int
        Widths of the layers, in sampling order.
    reverse : bool, default False
        Concatenate the layers in reverse sampling order, so that a top-down prior and a bottom-up
        posterior have the same layout.
    """

    def __init__(
        self, layers: Sequence[Conditional], sizes: Sequence[int], reverse: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.sizes, self.reverse = nn.ModuleList(layers), tuple(sizes), reverse

    def forward(self, c: ContextLike = None) -> ChainDistribution:
        """Return the joint distribution of the layers."""
        first, *rest = self.layers
        return ChainDistribution(first(c), rest, self.sizes, self.reverse)
