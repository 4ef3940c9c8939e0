"""Dense layers, output heads, context readers and the multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ancestral.nn.batch_norm import BatchNorm


class Tanh(nn.Module):
    """Hyperbolic tangent; a compiled graph computes 2 sigmoid(2 u) - 1, which is faster."""

    def forward(self, u: Tensor) -> Tensor:
        """Return tanh(u)."""
        return 2 * torch.sigmoid(2 * u) - 1 if torch.compiler.is_compiling() else torch.tanh(u)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


def linear(n_in: int, n_out: int, *, init: str = "glorot") -> nn.Linear:
    """Return a dense layer with zero bias and Glorot-uniform (or with ``"zero"``, zero) weights."""
    layer = nn.Linear(n_in, n_out)
    nn.init.zeros_(layer.bias)
    if init == "zero":
        nn.init.zeros_(layer.weight)
    else:
        nn.init.xavier_uniform_(layer.weight)
    return layer


def init_normal_(network: nn.Module, bias: float = 0.01) -> None:
    """Initialise dense layers in place: weights from N(0, 1 / n_in), biases from N(0, bias^2).

    This is the initialisation of the code of max-margin deep generative models (Li, Zhu, Shi and
    Zhang, 2015). Layers with all-zero weights, such as log-variance heads, are left unchanged.

    Parameters
    ----------
    network : Module
        Network whose dense layers are initialised.
    bias : float
        Standard deviation of the biases.

    Examples
    --------
    >>> layer = linear(400, 100)
    >>> init_normal_(layer)
    >>> 0.045 < layer.weight.std().item() < 0.055  # 1 / 20
    True
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.weight.any():
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.normal_(layer.bias, std=bias)


MAX_CONCATENATED_WIDTH = 256
"""Maximum total width of heads whose weights are concatenated into one matrix product."""


class Heads(nn.Module):
    """Parallel linear output layers on the same features.

    All heads but the first are initialised to zero: with a mean head followed by a log-variance
    head, the log-variance is initially 0.

    Parameters
    ----------
    n_in : int
        Number of input features.
    sizes : sequence of int
        Number of outputs of each head.

    Examples
    --------
    >>> mu, log_var = Heads(8, (2, 2))(torch.zeros(5, 8))
    """

    def __init__(self, n_in: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.layers = nn.ModuleList(
            linear(n_in, n, init="zero" if i else "glorot") for i, n in enumerate(sizes)
        )

    def forward(self, u: Tensor) -> tuple[Tensor, ...]:
        """Return one tensor [..., size] per head; small heads share one matrix product."""
        if sum(self.sizes) > MAX_CONCATENATED_WIDTH:
            return tuple(layer(u) for layer in self.layers)
        weight = torch.cat([cast(nn.Linear, layer).weight for layer in self.layers])
        bias = torch.cat([cast(nn.Linear, layer).bias for layer in self.layers])
        return nn.functional.linear(u, weight, bias).split(self.sizes, -1)


LayerTransform = Callable[[int, int, list[nn.Module]], list[nn.Module]]
"""(depth, width, modules of a hidden layer) -> modules of that layer, extended."""


def dense_layers(
    n_in: int,
    hidden: Sequence[int],
    activation: str = "tanh",
    batch_norm: bool = False,
    layer_transform: LayerTransform | None = None,
) -> list[nn.Module]:
    """Build dense hidden layers, with optional batch normalisation before each activation.

    ``layer_transform`` can insert further modules into each layer, for example a memory or a tap.
    """
    layers: list[nn.Module] = []
    for depth, n_out in enumerate(hidden):
        norm = [BatchNorm(n_out)] if batch_norm else []
        layer = [linear(n_in, n_out), *norm, ACTIVATIONS[activation]()]
        layers += layer if layer_transform is None else layer_transform(depth, n_out, layer)
        n_in = n_out
    return layers


class MLP(nn.Sequential):
    """Multi-layer perceptron: dense hidden layers and one linear output layer or several heads.

    Parameters
    ----------
    n_in : int
        Number of input features.
    hidden : sequence of int
        Widths of the hidden layers; an empty sequence gives a linear map.
    n_out : int, optional
        Width of the single output. Give either ``n_out`` or ``heads``.
    heads : sequence of int, optional
        Widths of the outputs that are returned as a tuple.
    activation : str
        Key of :data:`ACTIVATIONS`.
    batch_norm : bool
        Whether batch normalisation precedes each activation; the output is never normalised.
    layer_transform : callable, optional
        Function that inserts modules into the hidden layers; see :data:`LayerTransform`.

    Raises
    ------
    ValueError
        Unless exactly one of ``n_out`` and ``heads`` is given, or for an unknown activation.

    Examples
    --------
    >>> MLP(4, (8, 8), n_out=3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    >>> mu, log_var = MLP(4, (8,), heads=(2, 2))(torch.zeros(5, 4))
    """

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int] = (),
        n_out: int | None = None,
        *,
        heads: Sequence[int] | None = None,
        activation: str = "tanh",
        batch_norm: bool = False,
        layer_transform: LayerTransform | None = None,
    ) -> None:
        if (n_out is None) == (heads is None):
            raise ValueError("expected either n_out (one output) or heads (a tuple of outputs)")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        width = hidden[-1] if hidden else n_in
        output = Heads(width, heads) if heads is not None else linear(width, n_out or 0)
        super().__init__(
            *dense_layers(n_in, hidden, activation, batch_norm, layer_transform), output
        )


def set_output_bias(network: nn.Module, value: Tensor) -> None:
    """Set the bias of the last linear layer, or of the first head, to ``value`` [d].

    With the logits of the pixel means, a Bernoulli decoder initially outputs these means.
    """
    linears = [m for m in network.modules() if isinstance(m, nn.Linear)]
    heads = [m for m in network.modules() if isinstance(m, Heads)]
    layer = heads[-1].layers[0] if heads else linears[-1]
    with torch.no_grad():
        layer.bias.copy_(value)  # type: ignore[operator]


def n_parameters(model: nn.Module) -> int:
    """Return the number of trainable scalar parameters.

    >>> n_parameters(MLP(2, (), n_out=3))
    9
    """
    return sum(math.prod(p.shape) for p in model.parameters() if p.requires_grad)


def logit(p: Tensor, eps: float = 1e-3) -> Tensor:
    """Return log(p / (1 - p)) with p clamped to [eps, 1 - eps]."""
    p = p.clamp(eps, 1 - eps)
    return torch.log(p) - torch.log1p(-p)


class ActivationTap(nn.Module):
    """Identity layer that records its input during a forward pass.

    Insert one where an objective needs a hidden activation, for example the features of a
    classifier or the signals of a local reconstruction error. :meth:`LatentModel.run` collects
    the recorded values in its ``Run``.

    Parameters
    ----------
    name : str
        Key of the recorded value in the run.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.value: Tensor | None = None

    def forward(self, u: Tensor) -> Tensor:
        """Record and return ``u``."""
        self.value = u
        return u


class ActivationCollector:
    """Collector of the activations recorded in a model.

    Parameters
    ----------
    *modules : Module
        Modules whose recording layers are listed once, at construction.

    Examples
    --------
    >>> network = nn.Sequential(nn.Identity(), ActivationTap("h"))
    >>> taps, _ = ActivationCollector(network), network(torch.ones(1))
    >>> taps.collect()
    {'h': tensor([1.])}
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.taps = [
            m for module in modules for m in module.modules() if isinstance(m, ActivationTap)
        ]

    def collect(self) -> dict[str, Tensor]:
        """Return the recorded values by name and clear them."""
        values = {tap.name: tap.value for tap in self.taps if tap.value is not None}
        for tap in self.taps:
            tap.value = None
        return values
