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

CONV_PATTERN = re.compile(r"(\d+):(\d+)([vf]?)$")

DENSE_PATTERN = re.compile(r"\d+(x\d+x\d+)?$")

OPTION_PATTERN = re.compile(r"(p|u)(\d+)$|d(0?\.\d+)$")


class MapShape(NamedTuple):
    """Shape of the values between layers: channels, height and width; a vector is [n, 1, 1]."""

    n: int
    height: int = 1
    width: int = 1


@dataclass(frozen=True)
class LayerSpec:
    """Specification of one layer.

    Attributes
    ----------
    n : int
        Number of output channels, or of maps or units of a dense layer.
    kernel : int
        Side of the square kernel in pixels; 0 for a dense layer.
    padding : {"same", "valid", "full"}
        Padding of a convolution.
    map_size : tuple of int, optional
        Height and width of the maps into which the output of a dense layer is reshaped.
    pool, unpool : int
        Side of the pooling and unpooling blocks in pixels; 1 disables the operation.
    dropout_rate : float
        Dropout rate in [0, 1).
    """

    n: int
    kernel: int = 0
    padding: str = "same"
    map_size: tuple[int, int] | None = None
    pool: int = 1
    unpool: int = 1
    dropout_rate: float = 0.0

    @property
    def pad_width(self) -> int:
        """Number of zeros padded on each side of the map."""
        return {"same": self.kernel // 2, "valid": 0, "full": self.kernel - 1}[self.padding]

    def output_shape(self, input_shape: MapShape) -> MapShape:
        """Return the output shape of the layer for an input shape.

        Raises
        ------
        ValueError
            If the input maps are too small for the kernel and the pooling blocks.
        """
        if not self.kernel:
            return MapShape(self.n, *(self.map_size or ()))
        growth = 2 * self.pad_width - self.kernel + 1
        sides = [(self.unpool * side + growth) // self.pool for side in input_shape[1:]]
        if min(sides) < 1:
            raise ValueError(
                f"network: a map of {input_shape.height} x {input_shape.width} is too small for "
                "a kernel of "
                f"{self.kernel} and pooling blocks of {self.pool}: use larger images or fewer "
                "convolution layers"
            )
        return MapShape(self.n, *sides)


def parse_layers(text: str, option: str = "network") -> tuple[LayerSpec, ...]:
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
    LayerSpec(n=32, kernel=5, padding='valid', map_size=None, pool=2, unpool=1, dropout_rate=0.5)
    """
    return _parse_lines(f"{option}={text!r}", text)[0]


def _parse_lines(prefix: str, *lines: str) -> list[tuple[LayerSpec, ...]]:
    """Parse several specifications; error messages start with ``prefix``."""
    try:
        return [tuple(_parse_layer(part.strip()) for part in line.split("|")) for line in lines]
    except ValueError as error:
        raise ValueError(f"{prefix}: {error}") from None


def _parse_layer(text: str) -> LayerSpec:
    options: dict[str, float] = {}
    kernel = None
    for word in text.split():
        if word[0] != "d" and "0" in re.findall(r"\d+", word):
            raise ValueError(f"layer {text!r}: {word!r} has a size of zero; expected at least 1")
        if (match := CONV_PATTERN.match(word)) or DENSE_PATTERN.match(word):
            if kernel is not None:
                raise ValueError(
                    f"layer {text!r}: more than one layer type, {kernel} and {word}: separate "
                    "layers with |"
                )
            kernel = word
        elif match := OPTION_PATTERN.match(word):
            letter = word[0]
            if letter in options:
                raise ValueError(f"layer {text!r}: more than one {letter}; expected at most one")
            options[letter] = float(match[3] or match[2])
        else:
            raise ValueError(f"layer {text!r}: {word!r} is none of k:c, p2, u2, d.5, 500, 64x5x5")
    if kernel is None:
        raise ValueError(f"layer {text!r}: expected k:c, a number of units, or maps such as 64x5x5")
    if (match := CONV_PATTERN.match(kernel)) is not None:
        side, n, suffix = int(match[1]), int(match[2]), match[3]
        padding = {"v": "valid", "f": "full", "": "same"}[suffix]
        if padding == "same" and side % 2 == 0:
            raise ValueError(
                f"layer {text!r}: same padding needs a kernel with an odd side; use v or f padding"
            )
        pool, unpool = int(options.get("p", 1)), int(options.get("u", 1))
        return LayerSpec(n, side, padding, None, pool, unpool, options.get("d", 0.0))
    if {"p", "u"} & options.keys():
        raise ValueError(f"layer {text!r}: options p and u need a convolution (k:c)")
    n, *sides = map(int, kernel.split("x"))
    return LayerSpec(
        n, map_size=(sides[0], sides[1]) if sides else None, dropout_rate=options.get("d", 0.0)
    )


def network_output_shape(layers: Sequence[LayerSpec], shape: MapShape) -> MapShape:
    """Return the output shape of a sequence of layers for the input shape ``shape``.

    >>> network_output_shape(parse_layers("5:32v p2 | 3:64v p2"), MapShape(1, 28, 28))
    MapShape(n=64, height=5, width=5)
    """
    for layer in layers:
        shape = layer.output_shape(shape)
    return shape


PUBLISHED_NETWORKS = {
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


def parse_encoder(text: str) -> tuple[LayerSpec, ...]:
    """Parse an encoder: a key of :data:`PUBLISHED_NETWORKS`, or ``LAYERS [-> LAYERS]``.

    Raises
    ------
    ValueError
        If a layer is invalid.
    """
    encoder = PUBLISHED_NETWORKS[text][0] if text in PUBLISHED_NETWORKS else text.partition("->")[0]
    return _parse_lines(f"network={text!r}", encoder)[0]


def parse_network(text: str) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """Parse a network: a key of :data:`PUBLISHED_NETWORKS`, or ``LAYERS -> LAYERS``.

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
    if text in PUBLISHED_NETWORKS:
        encoder_text, decoder_text = PUBLISHED_NETWORKS[text]
    else:
        encoder_text, arrow, decoder_text = text.partition("->")
        if not arrow:
            names = ", ".join(("dense", *PUBLISHED_NETWORKS))
            raise ValueError(f"network={text!r}: expected one of {names}, or LAYERS -> LAYERS")
    encoder, decoder = _parse_lines(f"network={text!r}", encoder_text, decoder_text)
    return encoder, decoder
