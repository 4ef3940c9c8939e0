"""Convolutional networks on flattened images, built from layer specifications."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.nn.batch_norm import BatchNorm
from ancestral.nn.conv_spec import LayerSpec, MapShape
from ancestral.nn.dropout import Dropout
from ancestral.nn.mlp import ACTIVATIONS, linear
from ancestral.nn.numerics import at_least_float32
from ancestral.utils import distributed

MAX_PATCH_SIZE = 100
"""Maximum patch size for which a reduced-precision convolution is one product of all patches."""


class RowsToMaps(nn.Module):
    """Reshape of vectors [..., d] to feature maps [rows, channels, height, width].

    Parameters
    ----------
    shape : MapShape
        Shape of one sample.
    """

    def __init__(self, shape: MapShape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, u: Tensor) -> Tensor:
        """Return the maps, stored channels last."""
        n, height, width = self.shape
        if n == 1:
            # torch treats a single channel in second position as channels first
            return u.reshape(-1, height, width, 1).movedim(-1, 1)
        maps = u.reshape(-1, n, height, width)
        return maps.contiguous(memory_format=torch.channels_last)


class Conv(nn.Module):
    """Convolution with optional unpooling; Glorot-uniform weights and zero bias.

    Unpooling puts each value in the top left corner of a block of zeros. The convolution of the
    unpooled map is computed as a transposed convolution of the small map, which skips the zeros.
    The fan-out of the initialisation is n_out * pixels * (unpool / pool)^2.

    Parameters
    ----------
    n_in : int
        Number of input channels.
    layer : LayerSpec
        Specification of the layer.

    Examples
    --------
    >>> from ancestral.nn.conv_spec import parse_layers
    >>> Conv(2, parse_layers("u2 3:4")[0])(torch.zeros(1, 2, 5, 5)).shape
    torch.Size([1, 4, 10, 10])
    """

    def __init__(self, n_in: int, layer: LayerSpec) -> None:
        super().__init__()
        side = layer.kernel
        self.weight = nn.Parameter(torch.empty(layer.n, n_in, side, side))
        self.bias = nn.Parameter(torch.zeros(layer.n))
        self.pad_width, self.unpool = layer.pad_width, layer.unpool
        pixels = side * side
        fan_out = layer.n * pixels * (layer.unpool / layer.pool) ** 2
        bound = math.sqrt(6 / (n_in * pixels + fan_out))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, u: Float[Tensor, "rows n h w"]) -> Tensor:
        """Return [rows, n_out, height, width]."""
        reduced = self.weight.dtype.itemsize < 4
        if self.unpool == 1 and reduced and self.weight[0].numel() <= MAX_PATCH_SIZE:
            return self._patch_product(u)
        if self.unpool == 1:
            return nn.functional.conv2d(u, self.weight, self.bias, padding=self.pad_width)
        transposed = self.weight.flip(-1, -2).transpose(0, 1)
        return nn.functional.conv_transpose2d(
            u,
            transposed,
            self.bias,
            stride=self.unpool,
            padding=self.weight.shape[-1] - 1 - self.pad_width,
            output_padding=self.unpool - 1,
        )

    def _patch_product(self, u: Tensor) -> Tensor:
        """Convolve by one product of all patches: faster for small patches in reduced precision."""
        side, padding = self.weight.shape[-1], (self.pad_width,) * 4
        patches = nn.functional.pad(u, padding).unfold(2, side, 1).unfold(3, side, 1)
        height, width = patches.shape[2:4]
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, self.weight[0].numel())
        maps = nn.functional.linear(rows, self.weight.flatten(1), self.bias)
        return maps.view(len(u), height, width, -1).permute(0, 3, 1, 2)


class ClassMaps(nn.Module):
    """Expansion of a one-hot class, appended to an image, into one constant map per class.

    Parameters
    ----------
    shape : MapShape
        Shape of the image.
    n_classes : int
        Number of classes: the last ``n_classes`` entries of a row are the one-hot class.

    Attributes
    ----------
    output_shape : MapShape
        Shape of the output, with ``n_classes`` additional channels.

    Examples
    --------
    >>> ClassMaps(MapShape(1, 1, 2), 2)(torch.tensor([[0.3, 0.7, 0.0, 1.0]]))
    tensor([[0.3000, 0.7000, 0.0000, 0.0000, 1.0000, 1.0000]])
    """

    def __init__(self, shape: MapShape, n_classes: int) -> None:
        super().__init__()
        self.n, self.n_pixels = math.prod(shape), shape.height * shape.width
        self.output_shape = shape._replace(n=shape.n + n_classes)

    def forward(self, u: Float[Tensor, "rows d"]) -> Float[Tensor, "rows m"]:
        """Return the pixels and the class maps, concatenated: [rows, channels * height * width]."""
        return torch.cat([u[:, : self.n], u[:, self.n :].repeat_interleave(self.n_pixels, 1)], 1)


class MapBatchNorm(nn.Module):
    """Batch normalisation of each channel over samples and pixels.

    Parameters
    ----------
    n : int
        Number of channels.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.norm = BatchNorm(n)

    def forward(self, u: Float[Tensor, "rows n h w"]) -> Tensor:
        """Return the normalised maps; in training by one fused operation unless calibrating."""
        norm = self.norm
        if norm.training and not norm.is_calibrating and distributed.n_shards() == 1:
            scale, shift = norm.weight, norm.bias
            u = at_least_float32(u)
            return nn.functional.batch_norm(u, None, None, scale, shift, True, eps=norm.eps)
        return norm(u.movedim(1, -1)).movedim(-1, 1)


class ConvNet(nn.Module):
    """Convolutional network on flattened images; the output is flattened too.

    Parameters
    ----------
    layers : sequence of LayerSpec
        Specifications of the layers; see :func:`parse_layers`.
    shape : MapShape
        Shape of one input sample.
    activation : str
        Key of :data:`~ancestral.nn.ACTIVATIONS`.
    batch_norm : bool
        Whether batch normalisation precedes each activation.
    linear_last : bool
        Whether the last layer has neither activation nor normalisation.

    Attributes
    ----------
    output_shape : MapShape
        Shape of one output sample.

    Examples
    --------
    >>> from ancestral.nn.conv_spec import parse_layers
    >>> stack = ConvNet(parse_layers("5:32v p2 | 3:64 | 500"), MapShape(1, 28, 28))
    >>> stack(torch.zeros(3, 784)).shape, stack.output_shape
    (torch.Size([3, 500]), MapShape(n=500, height=1, width=1))
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        shape: MapShape,
        activation: str = "relu",
        batch_norm: bool = False,
        linear_last: bool = False,
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for depth, layer in enumerate(layers):
            is_linear = linear_last and depth == len(layers) - 1
            modules += _layer_modules(layer, shape, "" if is_linear else activation, batch_norm)
            shape = layer.output_shape(shape)
        self.layers = nn.Sequential(*modules)
        self.output_shape = shape

    def forward(self, u: Float[Tensor, "*b d"]) -> Float[Tensor, "*b n"]:
        """Return the output [..., n]."""
        return self.layers(u.reshape(-1, u.shape[-1])).reshape(*u.shape[:-1], -1)


class TwoHeadConvNet(nn.Module):
    """Convolutional network with two heads: the mean and the log-variance of the output.

    The two heads are copies of the last layer; that of the log-variance is initialised to zero.

    Parameters
    ----------
    layers, shape, activation, batch_norm
        See :class:`ConvNet`.

    Attributes
    ----------
    output_shape : MapShape
        Shape of one output sample of either head.
    """

    def __init__(
        self,
        layers: Sequence[LayerSpec],
        shape: MapShape,
        activation: str = "relu",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.below = ConvNet(layers[:-1], shape, activation, batch_norm)
        heads = [ConvNet(layers[-1:], self.below.output_shape, linear_last=True) for _ in range(2)]
        self.heads = nn.ModuleList(heads)
        self.output_shape = heads[0].output_shape
        for parameter in heads[1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, u: Float[Tensor, "*b d"]) -> tuple[Tensor, ...]:
        """Return (mean, log-variance), each [..., n]."""
        features = self.below(u)
        return tuple(head(features) for head in self.heads)


def _layer_modules(
    layer: LayerSpec, shape: MapShape, activation: str, batch_norm: bool
) -> list[nn.Module]:
    """Build a layer: linear map, pooling, normalisation, activation (``""``: none), dropout."""
    output_shape = layer.output_shape(shape)
    norm: list[nn.Module] = []
    if layer.kernel:
        pool = [nn.MaxPool2d(layer.pool)] if layer.pool > 1 else []
        modules: list[nn.Module] = [RowsToMaps(shape), Conv(shape.n, layer), *pool]
        norm = [MapBatchNorm(layer.n)]
    else:
        n_out = math.prod(output_shape)
        modules = [nn.Flatten(1), linear(math.prod(shape), n_out)]
        norm = [BatchNorm(n_out)]
    if activation:
        modules += [*(norm if batch_norm else []), ACTIVATIONS[activation]()]
    return modules + ([Dropout(layer.dropout_rate)] if layer.dropout_rate else [])
