"""Layers of convolutional networks, on rows that are pictures, from their descriptions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral import parallel
from ancestral.networks.disturb import Dropout
from ancestral.networks.layers import ACTIVATIONS, linear
from ancestral.networks.normalise import BatchNorm
from ancestral.networks.precision import at_least_single
from ancestral.networks.written import Layer, Maps

FEW = 100
"""Values in a patch up to which a convolution in reduced precision is a product of all patches."""


class Fold(nn.Module):
    """Rows [..., d] to maps [rows, channels, height, width], or to rows [rows, d]."""

    def __init__(self, shape: Maps) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, u: Tensor) -> Tensor:
        """Return the maps, channels last in memory."""
        n, height, width = self.shape
        if (
            n == 1
        ):  # last in name too: torch takes a single channel that is first for channels first
            return u.reshape(-1, height, width, 1).movedim(-1, 1)
        maps = u.reshape(-1, n, height, width)
        return maps.contiguous(memory_format=torch.channels_last)


class Conv(nn.Module):
    """Convolution, of an unpooled map if asked for; weights Glorot-uniform, bias zero.

    A kernel counts as often in the fan-out as pooling and unpooling make its values count.

    Unpooling puts each value in the top left corner of a block of zeros. Convolving what is
    mostly zeros is a transposed convolution of the small map, which never touches the zeros.

    Parameters
    ----------
    n_in : int
        Maps that come in.
    layer : Layer
        What to do.

    Examples
    --------
    >>> from ancestral.networks.written import parse_layers
    >>> Conv(2, parse_layers("u2 3:4")[0])(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 4, 10, 10])
    """

    def __init__(self, n_in: int, layer: Layer) -> None:
        super().__init__()
        side = layer.kernel
        self.weight = nn.Parameter(torch.empty(layer.n, n_in, side, side))
        self.bias = nn.Parameter(torch.zeros(layer.n))
        self.margin, self.unpool = layer.margin, layer.unpool
        pixels = side * side
        fan_out = layer.n * pixels * (layer.unpool / layer.pool) ** 2
        bound = math.sqrt(6 / (n_in * pixels + fan_out))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, u: Float[Tensor, "rows n h w"]) -> Tensor:
        """Return [rows, n_out, height, width]."""
        reduced = self.weight.dtype.itemsize < 4
        if self.unpool == 1 and reduced and self.weight[0].numel() <= FEW:
            return self._product(u)
        if self.unpool == 1:
            return nn.functional.conv2d(u, self.weight, self.bias, padding=self.margin)
        turned = self.weight.flip(-1, -2).transpose(0, 1)
        return nn.functional.conv_transpose2d(
            u,
            turned,
            self.bias,
            stride=self.unpool,
            padding=self.weight.shape[-1] - 1 - self.margin,
            output_padding=self.unpool - 1,
        )

    def _product(self, u: Tensor) -> Tensor:
        """Lay all patches out and multiply: in reduced precision faster where a patch is small."""
        side, edge = self.weight.shape[-1], (self.margin,) * 4
        patches = nn.functional.pad(u, edge).unfold(2, side, 1).unfold(3, side, 1)
        height, width = patches.shape[2:4]
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, self.weight[0].numel())
        maps = nn.functional.linear(rows, self.weight.flatten(1), self.bias)
        return maps.view(len(u), height, width, -1).permute(0, 3, 1, 2)


class ClassMaps(nn.Module):
    """Rows of a picture and a one-hot class to pictures with a constant map for every class.

    Parameters
    ----------
    shape : Maps
        Of the picture.
    n_classes : int
        How many entries of a row, the last ones, say the class.

    Attributes
    ----------
    shape_out : Maps
        With the maps of the classes.

    Examples
    --------
    >>> ClassMaps(Maps(1, 1, 2), 2)(torch.tensor([[0.3, 0.7, 0.0, 1.0]]))
    tensor([[0.3000, 0.7000, 0.0000, 0.0000, 1.0000, 1.0000]])
    """

    def __init__(self, shape: Maps, n_classes: int) -> None:
        super().__init__()
        self.n, self.n_pixels = math.prod(shape), shape.height * shape.width
        self.shape_out = shape._replace(n=shape.n + n_classes)

    def forward(self, u: Float[Tensor, "rows d"]) -> Float[Tensor, "rows m"]:
        """Return the pixels and the maps, side by side."""
        return torch.cat([u[:, : self.n], u[:, self.n :].repeat_interleave(self.n_pixels, 1)], 1)


class MapNorm(nn.Module):
    """Batch normalisation of every channel over rows and pixels."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = BatchNorm(n)

    def forward(self, u: Float[Tensor, "rows n h w"]) -> Tensor:
        """Return the same shape; in training by one operation, unless the moments are wanted."""
        norm = self.norm
        if norm.training and not norm.collecting and parallel.n_shares() == 1:
            scale, shift = norm.weight, norm.bias
            u = at_least_single(u)
            return nn.functional.batch_norm(u, None, None, scale, shift, True, eps=norm.eps)
        return norm(u.movedim(1, -1)).movedim(-1, 1)


class Stack(nn.Module):
    """A network of layers on rows; what comes out are rows again.

    Parameters
    ----------
    layers : sequence of Layer
        See :func:`parse_layers`.
    shape : Maps
        Of a row that comes in.
    activation : str
        One of :data:`~ancestral.networks.ACTIVATIONS`.
    batch_norm : bool
        Normalise before each activation.
    linear_last : bool
        Leave the last layer without activation and normalisation.

    Attributes
    ----------
    shape_out : Maps
        Of what comes out.

    Examples
    --------
    >>> from ancestral.networks.written import parse_layers
    >>> stack = Stack(parse_layers("5:32v p2 | 3:64 | 500"), Maps(1, 28, 28))
    >>> stack(torch.zeros(3, 784)).shape, stack.shape_out
    (torch.Size([3, 500]), Maps(n=500, height=1, width=1))
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: Maps,
        activation: str = "relu",
        batch_norm: bool = False,
        linear_last: bool = False,
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for number, layer in enumerate(layers):
            plain = linear_last and number == len(layers) - 1
            modules += _modules(layer, shape, "" if plain else activation, batch_norm)
            shape = layer.after(shape)
        self.layers = nn.Sequential(*modules)
        self.shape_out = shape

    def forward(self, u: Float[Tensor, "*b d"]) -> Float[Tensor, "*b n"]:
        """Return [..., n]."""
        return self.layers(u.reshape(-1, u.shape[-1])).reshape(*u.shape[:-1], -1)


class TwoHeaded(nn.Module):
    """A stack whose last layer is made twice, for the mean and for the log-variance of pixels.

    Parameters
    ----------
    layers, shape, activation, batch_norm
        As in :class:`Stack`. The log-variance starts at zero.

    Attributes
    ----------
    shape_out : Maps
        Of either.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: Maps,
        activation: str = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.below = Stack(layers[:-1], shape, activation, batch_norm)
        heads = [Stack(layers[-1:], self.below.shape_out, linear_last=True) for _ in range(2)]
        self.heads = nn.ModuleList(heads)
        self.shape_out = heads[0].shape_out
        for parameter in heads[1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, u: Float[Tensor, "*b d"]) -> tuple[Tensor, ...]:
        """Return (mean, log-variance), each [..., n]."""
        below = self.below(u)
        return tuple(head(below) for head in self.heads)


def _modules(layer: Layer, shape: Maps, activation: str, batch_norm: bool) -> list[nn.Module]:
    """Make a layer: product, pooling, normalisation, activation (or ``""``), dropout."""
    after = layer.after(shape)
    norm: list[nn.Module] = []
    if layer.kernel:
        pool = [nn.MaxPool2d(layer.pool)] if layer.pool > 1 else []
        made: list[nn.Module] = [Fold(shape), Conv(shape.n, layer), *pool]
        norm = [MapNorm(layer.n)]
    else:
        n_out = math.prod(after)
        made = [nn.Flatten(1), linear(math.prod(shape), n_out)]
        norm = [BatchNorm(n_out)]
    if activation:
        made += [*(norm if batch_norm else []), ACTIVATIONS[activation]()]
    return made + ([Dropout(layer.drop)] if layer.drop else [])
