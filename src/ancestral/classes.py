"""The class of a row as a latent variable: unknown for most rows, observed where there is a label.

A one-hot class y is laid out before z in one latent vector [y, z], so that everything that holds
for latent variables holds for the two together: ancestral sampling, importance weights, repairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Normal, OneHotCategorical

from ancestral.conditional import Conditional, Fixed, Given
from ancestral.distributions import Ancestral
from ancestral.networks.precision import at_least_single


class OneHot(OneHotCategorical):
    """One-hot vectors, the distribution inside not validated either: so that steps compile.

    Parameters
    ----------
    logits : Tensor [..., n]
        Log-odds of the n vectors.
    validate_args : bool
        Whether to check them.
    """

    def __init__(self, logits: Tensor, validate_args: bool = False) -> None:
        self._categorical = Categorical(logits=logits, validate_args=validate_args)
        shape, n = self._categorical.batch_shape, self._categorical.param_shape[-1:]
        Distribution.__init__(self, shape, n, validate_args=validate_args)


class Classes(Conditional):
    """p(y | c) over one-hot classes.

    Parameters
    ----------
    network : Module
        c -> logits [..., n_classes].

    Examples
    --------
    >>> Classes(nn.Linear(3, 4))(torch.zeros(5, 3)).sample().sum(-1)
    tensor([1., 1., 1., 1., 1.])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: Given = None) -> OneHot:
        """Return the distribution of a one-hot vector."""
        return OneHot(at_least_single(self.network(c)))


class Same(Conditional):
    """N(0, I) over d entries for every row of c: latents that do not depend on the class."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.d = d

    def forward(self, c: Given = None) -> Normal:
        """Return as many of it as c has rows."""
        assert isinstance(c, Tensor)
        mean = torch.zeros(*c.shape[:-1], self.d, device=c.device)
        return Normal(mean, torch.ones_like(mean), validate_args=False)


class ClassFirst(Conditional):
    """p(y | c) p(z | y, c): a one-hot class and what comes of it, as the vector [y, z].

    Parameters
    ----------
    label : Conditional
        p(y | c) over one-hot classes.
    rest : Conditional
        p(z | y, c), called on what ``look`` makes of c beside y, or on y alone.
    sizes : sequence of int
        Numbers of classes and of latent variables.
    look : Module, optional
        c -> features [..., n] that both are called on.

    Examples
    --------
    >>> prior = ClassFirst(equal_classes(4), Same(2), (4, 2))
    >>> prior().sample((3,)).shape
    torch.Size([3, 6])
    """

    def __init__(
        self,
        label: Conditional,
        rest: Conditional,
        sizes: Sequence[int],
        look: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.label, self.rest, self.sizes, self.look = label, rest, tuple(sizes), look

    def forward(self, c: Given = None) -> Ancestral:
        """Return the joint distribution of class and latent variables."""
        seen = None if self.look is None else self.look(c)

        def rest(y: Tensor) -> torch.distributions.Distribution:
            if seen is None:
                return self.rest(y)
            return self.rest(torch.cat([seen.expand(*y.shape[:-1], -1), y.to(seen.dtype)], -1))

        return Ancestral(self.label(seen), [rest], self.sizes)


def equal_classes(n: int) -> Fixed:
    """Return p(y) of n classes that are equally frequent."""
    return Fixed(OneHot(torch.zeros(n)))
