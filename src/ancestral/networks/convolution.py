"""Convolutional networks written as text, on rows that are pictures.

A network is a line of layers with bars between them, for example ``5:32v p2 d.5 | 3:32 | 500``. A
layer is one of these:

| text | layer |
| --- | --- |
| `5:32` | 32 kernels of 5 x 5 pixels; the map keeps its size |
| `5:32v` | the same, only where a kernel fits: the map shrinks by 4 in each direction |
| `5:32f` | the same, wherever a kernel touches: the map grows by 4 in each direction |
| `500` | a dense layer of 500 values |
| `64x5x5` | a dense layer, folded into 64 maps of 5 x 5 |

After a blank, a layer can have more:

| text | what is done |
| --- | --- |
| `u2` | first: put every value in the top left corner of a 2 x 2 block of zeros |
| `p2` | then, after the layer: take the greatest of each 2 x 2 block |
| `d.5` | last, in training: drop half of the values and double the others |

Every layer ends in the activation, which comes after pooling. Of an encoder and a decoder the line
has both, from the row to the latent variables and back, with an arrow between them:
``5:32 p2 | 500 -> 500 | 32x14x14 | u2 5:1``. The last layer of a decoder must make maps of the
row's shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral import parallel
from ancestral.networks.disturb import Dropout
from ancestral.networks.layers import ACTIVATIONS, linear
from ancestral.networks.normalise import BatchNorm
from ancestral.networks.precision import at_least_single

CONV = re.compile(r"(\d+):(\d+)([vf]?)$")
DENSE = re.compile(r"\d+(x\d+x\d+)?$")
FEW = 100
"""Values in a patch up to which a convolution in reduced precision is a product of all patches."""

EXTRA = re.compile(r"(p|u)(\d+)$|d(0?\.\d+)$")


class Maps(NamedTuple):
    """The shape of what flows between layers: channels, height, width; a row is [n, 1, 1]."""

    n: int
    height: int = 1
    width: int = 1


@dataclass(frozen=True)
class Layer:
    """One layer as its text says.

    Attributes
    ----------
    n : int
        Kernels, or units.
    kernel : int
        Side of a kernel; 0 for a dense layer.
    padding : {"same", "valid", "full"}
        Where kernels are put.
    fold : tuple, optional
        Height and width into which a dense layer is folded.
    pool, unpool : int
        Side of the blocks; 1 is none.
    drop : float
        Share of the values dropped in training.
    """

    n: int
    kernel: int = 0
    padding: str = "same"
    fold: tuple[int, int] | None = None
    pool: int = 1
    unpool: int = 1
    drop: float = 0.0

    @property
    def margin(self) -> int:
        """Zeros around the map."""
        return {"same": self.kernel // 2, "valid": 0, "full": self.kernel - 1}[self.padding]

    def after(self, before: Maps) -> Maps:
        """Return the shape behind this layer.

        Raises
        ------
        ValueError
            If the maps are too small for it.
        """
        if not self.kernel:
            return Maps(self.n, *(self.fold or ()))
        grown = 2 * self.margin - self.kernel + 1
        sides = [(self.unpool * side + grown) // self.pool for side in before[1:]]
        if min(sides) < 1:
            raise ValueError(
                f"network: a map of {before.height} x {before.width} is too small for a kernel of "
                f"{self.kernel} and blocks of {self.pool}: expected larger images, or fewer layers"
            )
        return Maps(self.n, *sides)


def parse_layers(text: str, option: str = "network") -> tuple[Layer, ...]:
    """Read a line of layers, the value of an option.

    Raises
    ------
    ValueError
        Naming the option, and the part that is not understood.

    Examples
    --------
    >>> parse_layers("5:32v p2 d.5 | 500")[0]
    Layer(n=32, kernel=5, padding='valid', fold=None, pool=2, unpool=1, drop=0.5)
    """
    return _parse_lines(f"{option}={text!r}", text)[0]


def _parse_lines(named: str, *lines: str) -> list[tuple[Layer, ...]]:
    """Read lines of layers; errors begin with what is named."""
    try:
        return [tuple(_parse_layer(part.strip()) for part in line.split("|")) for line in lines]
    except ValueError as error:
        raise ValueError(f"{named}: {error}") from None


def _parse_layer(text: str) -> Layer:
    found: dict[str, float] = {}
    kernel = None
    for word in text.split():
        if word[0] != "d" and "0" in re.findall(r"\d+", word):
            raise ValueError(f"layer {text!r}: {word!r} has a size of zero")
        if (match := CONV.match(word)) or DENSE.match(word):
            if kernel is not None:
                raise ValueError(f"layer {text!r}: there is more than one of {kernel} and {word}")
            kernel = word
        elif match := EXTRA.match(word):
            letter = word[0]
            if letter in found:
                raise ValueError(f"layer {text!r}: there is more than one {letter}")
            found[letter] = float(match[3] or match[2])
        else:
            raise ValueError(f"layer {text!r}: {word!r} is none of k:c, p2, u2, d.5, 500, 64x5x5")
    if kernel is None:
        raise ValueError(f"layer {text!r}: expected k:c, a number of units, or maps as 64x5x5")
    if (match := CONV.match(kernel)) is not None:
        side, n, how = int(match[1]), int(match[2]), match[3]
        padding = {"v": "valid", "f": "full", "": "same"}[how]
        if padding == "same" and side % 2 == 0:
            raise ValueError(f"layer {text!r}: a kernel that keeps the map's size has an odd side")
        pool, unpool = int(found.get("p", 1)), int(found.get("u", 1))
        return Layer(n, side, padding, None, pool, unpool, found.get("d", 0.0))
    if {"p", "u"} & found.keys():
        raise ValueError(f"layer {text!r}: p and u go with a convolution")
    n, *sides = map(int, kernel.split("x"))
    return Layer(n, fold=(sides[0], sides[1]) if sides else None, drop=found.get("d", 0.0))


def shape_after(layers: Sequence[Layer], shape: Maps) -> Maps:
    """Return the shape behind some layers.

    >>> shape_after(parse_layers("5:32v p2 | 3:64v p2"), Maps(1, 28, 28))
    Maps(n=64, height=5, width=5)
    """
    for layer in layers:
        shape = layer.after(shape)
    return shape


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


PAPERS = {
    "mnist": (
        "5:32v p2 d.5 | 3:32 | 3:64v p2 d.5 | 3:64 | 3:64 | 500 d.5",
        "500 | 64x5x5 | 3:64 | u2 3:64f | 3:32 | 3:32 | u2 5:1f",
    ),
    "svhn": (
        "5:64 p2 | 3:64 d.3 | 3:64 p2 d.3 | 3:96 d.3 | 3:96 p2",
        "96x4x4 | u2 3:96 | 3:64 | u2 3:64 | 3:64 | u2 5:3",
    ),
}
"""Encoder and decoder of the max-margin models (Li, Zhu, Shi and Zhang, 2015), by name."""


def parse_encoder(text: str) -> tuple[Layer, ...]:
    """Read an encoder: of a network named in :data:`PAPERS`, or of ``LAYERS [-> LAYERS]``.

    Raises
    ------
    ValueError
        If a layer is not one.
    """
    up = PAPERS[text][0] if text in PAPERS else text.partition("->")[0]
    return _parse_lines(f"network={text!r}", up)[0]


def parse_network(text: str) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Read an encoder and a decoder: a name in :data:`PAPERS`, or ``LAYERS -> LAYERS``.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> up, down = parse_network("3:8 p2 | 20 -> 8x4x4 | u2 3:1")
    >>> len(up), len(down)
    (2, 2)
    """
    if text in PAPERS:
        up, down = PAPERS[text]
    else:
        up, arrow, down = text.partition("->")
        if not arrow:
            names = ", ".join(("dense", *PAPERS))
            raise ValueError(f"network={text!r}: expected one of {names}, or LAYERS -> LAYERS")
    encoder, decoder = _parse_lines(f"network={text!r}", up, down)
    return encoder, decoder
