"""Text specifications of convolutional networks on flattened images.

A network is a sequence of layers separated by bars, for example ``5:32v p2 d.5 | 3:32 | 500``. The
layer types are:

| text | layer |
| --- | --- |
| `5:32` | convolution with 32 kernels of 5 x 5 pixels, "same" padding: the map size is unchanged |
| `5:32v` | the same with "valid" padding: height and width shrink by 4 |
| `5:32f` | the same with "full" padding: height and width grow by 4 |
| `500` | dense layer with 500 units |
| `64x5x5` | dense layer, reshaped into 64 maps of 5 x 5 |

Options follow the layer type after a blank:

| text | operation |
| --- | --- |
| `u2` | unpooling of the input: each value in the top left corner of a 2 x 2 block of zeros |
| `p2` | max pooling of the output over 2 x 2 blocks |
| `d.5` | dropout with rate 0.5, after the activation |

The activation of each layer follows pooling. An encoder and a decoder are separated by an arrow,
``5:32 p2 | 500 -> 500 | 32x14x14 | u2 5:1``: the first maps the data to the latent variables, the
second maps back. The last layer of a decoder must output maps of the shape of the data.
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
    """Shape of the values between layers: channels, height and width; a vector is [n, 1, 1]."""

    n: int
    height: int = 1
    width: int = 1


@dataclass(frozen=True)
class Layer:
    """Specification of one layer.

    Attributes
    ----------
    n : int
        Number of output channels, or of maps or units of a dense layer.
    kernel : int
        Side of the square kernel in pixels; 0 for a dense layer.
    padding : {"same", "valid", "full"}
        Padding of a convolution.
    fold : tuple of int, optional
        Height and width of the maps into which the output of a dense layer is reshaped.
    pool, unpool : int
        Side of the pooling and unpooling blocks in pixels; 1 disables the operation.
    drop : float
        Dropout rate in [0, 1).
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
        """Number of zeros padded on each side of the map."""
        return {"same": self.kernel // 2, "valid": 0, "full": self.kernel - 1}[self.padding]

    def after(self, before: Maps) -> Maps:
        """Return the output shape of the layer for an input shape.

        Raises
        ------
        ValueError
            If the input maps are too small for the kernel and the pooling blocks.
        """
        if not self.kernel:
            return Maps(self.n, *(self.fold or ()))
        growth = 2 * self.margin - self.kernel + 1
        sides = [(self.unpool * side + growth) // self.pool for side in before[1:]]
        if min(sides) < 1:
            raise ValueError(
                f"network: a map of {before.height} x {before.width} is too small for a kernel of "
                f"{self.kernel} and pooling blocks of {self.pool}: use larger images or fewer "
                "convolution layers"
            )
        return Maps(self.n, *sides)


def parse_layers(text: str, option: str = "network") -> tuple[Layer, ...]:
    """Parse a sequence of layers separated by bars.

    Parameters
    ----------
    text : str
        Specification in the syntax of this module.
    option : str
        Name of the hyper-parameter that holds ``text``, for error messages.

    Raises
    ------
    ValueError
        If a layer is invalid; the message names the option and the invalid part.

    Examples
    --------
    >>> parse_layers("5:32v p2 d.5 | 500")[0]
    Layer(n=32, kernel=5, padding='valid', fold=None, pool=2, unpool=1, drop=0.5)
    """
    return _parse_lines(f"{option}={text!r}", text)[0]


def _parse_lines(prefix: str, *lines: str) -> list[tuple[Layer, ...]]:
    """Parse several specifications; error messages start with ``prefix``."""
    try:
        return [tuple(_parse_layer(part.strip()) for part in line.split("|")) for line in lines]
    except ValueError as error:
        raise ValueError(f"{prefix}: {error}") from None


def _parse_layer(text: str) -> Layer:
    options: dict[str, float] = {}
    kernel = None
    for word in text.split():
        if word[0] != "d" and "0" in re.findall(r"\d+", word):
            raise ValueError(f"layer {text!r}: {word!r} has a size of zero; expected at least 1")
        if (match := CONV.match(word)) or DENSE.match(word):
            if kernel is not None:
                raise ValueError(
                    f"layer {text!r}: more than one layer type, {kernel} and {word}: separate "
                    "layers with |"
                )
            kernel = word
        elif match := EXTRA.match(word):
            letter = word[0]
            if letter in options:
                raise ValueError(f"layer {text!r}: more than one {letter}; expected at most one")
            options[letter] = float(match[3] or match[2])
        else:
            raise ValueError(f"layer {text!r}: {word!r} is none of k:c, p2, u2, d.5, 500, 64x5x5")
    if kernel is None:
        raise ValueError(f"layer {text!r}: expected k:c, a number of units, or maps such as 64x5x5")
    if (match := CONV.match(kernel)) is not None:
        side, n, suffix = int(match[1]), int(match[2]), match[3]
        padding = {"v": "valid", "f": "full", "": "same"}[suffix]
        if padding == "same" and side % 2 == 0:
            raise ValueError(
                f"layer {text!r}: same padding needs a kernel with an odd side; use v or f padding"
            )
        pool, unpool = int(options.get("p", 1)), int(options.get("u", 1))
        return Layer(n, side, padding, None, pool, unpool, options.get("d", 0.0))
    if {"p", "u"} & options.keys():
        raise ValueError(f"layer {text!r}: options p and u need a convolution (k:c)")
    n, *sides = map(int, kernel.split("x"))
    return Layer(n, fold=(sides[0], sides[1]) if sides else None, drop=options.get("d", 0.0))


def shape_after(layers: Sequence[Layer], shape: Maps) -> Maps:
    """Return the output shape of a sequence of layers for the input shape ``shape``.

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
"""Encoders and decoders of max-margin deep generative models (Li, Zhu, Shi and Zhang, 2015)."""


def parse_encoder(text: str) -> tuple[Layer, ...]:
    """Parse the encoder of a network: a key of :data:`PAPERS`, or ``LAYERS [-> LAYERS]``.

    Raises
    ------
    ValueError
        If a layer is invalid.
    """
    encoder = PAPERS[text][0] if text in PAPERS else text.partition("->")[0]
    return _parse_lines(f"network={text!r}", encoder)[0]


def parse_network(text: str) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Parse the encoder and the decoder: a key of :data:`PAPERS`, or ``LAYERS -> LAYERS``.

    Raises
    ------
    ValueError
        If ``text`` is neither, or if a layer is invalid.

    Examples
    --------
    >>> encoder, decoder = parse_network("3:8 p2 | 20 -> 8x4x4 | u2 3:1")
    >>> len(encoder), len(decoder)
    (2, 2)
    """
    if text in PAPERS:
        encoder_text, decoder_text = PAPERS[text]
    else:
        encoder_text, arrow, decoder_text = text.partition("->")
        if not arrow:
            names = ", ".join(("dense", *PAPERS))
            raise ValueError(f"network={text!r}: expected one of {names}, or LAYERS -> LAYERS")
    encoder, decoder = _parse_lines(f"network={text!r}", encoder_text, decoder_text)
    return encoder, decoder
