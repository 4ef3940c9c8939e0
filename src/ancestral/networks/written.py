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

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

CONV = re.compile(r"(\d+):(\d+)([vf]?)$")
DENSE = re.compile(r"\d+(x\d+x\d+)?$")
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
