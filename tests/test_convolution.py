"""Convolutional layers against torch operations; parsing of network specifications."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ancestral.nn import ConvNet, MapShape, n_parameters, parse_encoder, parse_layers, parse_network
from ancestral.nn.conv_spec import LayerSpec
from ancestral.nn.convolution import Conv
from ancestral.nn.dropout import Dropout
from ancestral.training import engine

MNIST_UP = "5:32v p2 d.5 | 3:32 | 3:64v p2 d.5 | 3:64 | 3:64 | 500 d.5"
MNIST_DOWN = "500 | 64x5x5 | 3:64 | u2 3:64f | 3:32 | 3:32 | u2 5:1f"


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def unpooled(u, side):
    """Place each value in the top left corner of a block of zeros."""
    n, c, h, w = u.shape
    out = u.new_zeros(n, c, side * h, side * w)
    out[:, :, ::side, ::side] = u
    return out


@pytest.mark.parametrize("padding", ["", "v", "f"])
@pytest.mark.parametrize("unpool", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_conv_with_unpooling_matches_conv2d_values_and_gradients(kernel, unpool, padding):
    (layer,) = parse_layers(f"{kernel}:4{padding}" + (f" u{unpool}" if unpool > 1 else ""))
    conv, u = Conv(3, layer).double(), rand(2, 3, 5, 6).requires_grad_()
    with torch.no_grad():
        conv.bias.copy_(rand(4, seed=1))
    expected = nn.functional.conv2d(
        unpooled(u, unpool), conv.weight, conv.bias, padding=layer.pad_width
    )
    torch.testing.assert_close(conv(u), expected)
    inputs = (u, conv.weight, conv.bias)
    weight = rand(*expected.shape, seed=2)
    actual = torch.autograd.grad((conv(u) * weight).sum(), inputs)
    torch.testing.assert_close(actual, torch.autograd.grad((expected * weight).sum(), inputs))
    assert tuple(layer.output_shape(MapShape(3, 5, 6))) == tuple(expected.shape[1:])


@pytest.mark.parametrize("padding", ["", "v", "f"])
def test_conv_in_bfloat16_by_patch_product_matches_conv2d(padding):
    (layer,) = parse_layers(f"3:4{padding}")
    conv, rng = Conv(2, layer), np.random.default_rng(0)
    u = torch.from_numpy(rng.integers(-3, 4, (2, 2, 5, 6))).float()
    with torch.no_grad():  # small integers, exact in bfloat16
        conv.weight.copy_(torch.from_numpy(rng.integers(-2, 3, conv.weight.shape)))
        expected = nn.functional.conv2d(u, conv.weight, conv.bias, padding=layer.pad_width)
        assert torch.equal(conv.bfloat16()(u.bfloat16()), expected.bfloat16())


def test_conv_output_is_channels_last():
    for n in (1, 2):
        network = ConvNet(parse_layers("3:4"), MapShape(n, 6, 6), linear_last=True)
        maps = network.layers(rand(3, 36 * n).float())
        assert maps.is_contiguous(memory_format=torch.channels_last)


def test_max_pooling_inverts_unpooling():
    u = rand(2, 3, 4, 4).abs()
    maps = unpooled(u, 2)
    assert torch.equal(nn.functional.max_pool2d(maps, 2), u)
    assert maps.count_nonzero() == u.count_nonzero()
    identity = Conv(3, LayerSpec(3, kernel=1, unpool=2)).double()
    with torch.no_grad():
        identity.weight.copy_(torch.eye(3)[:, :, None, None])
    torch.testing.assert_close(identity(u), maps)


def test_published_mnist_networks_have_published_shapes_and_parameter_counts():
    encoder = ConvNet(parse_layers(MNIST_UP), MapShape(1, 28, 28))
    sizes, shape = [], MapShape(1, 28, 28)
    for layer in parse_layers(MNIST_UP):
        shape = layer.output_shape(shape)
        sizes.append(shape.height)
    assert sizes == [12, 12, 5, 5, 5, 1]
    convs = 25 * 32 + 32 + 9 * (32 * 32 + 32 * 64 + 64 * 64 + 64 * 64) + 32 + 3 * 64
    assert n_parameters(encoder) == convs + 1600 * 500 + 500
    decoder = ConvNet(parse_layers(MNIST_DOWN), MapShape(50), linear_last=True)
    assert decoder.output_shape == MapShape(1, 28, 28)
    assert decoder(torch.zeros(2, 3, 50)).shape == (2, 3, 784)


def test_conv_layer_applies_convolution_pooling_activation_in_order():
    with engine.seeded_rng(0):
        network = ConvNet(parse_layers("3:4 p2"), MapShape(2, 6, 6)).double()
    u = rand(3, 72)
    conv = next(m for m in network.modules() if isinstance(m, Conv))
    maps = nn.functional.conv2d(u.view(3, 2, 6, 6), conv.weight, conv.bias, padding=1)
    expected = nn.functional.max_pool2d(maps, 2).relu().flatten(1)
    torch.testing.assert_close(network(u), expected)
    linear = ConvNet(parse_layers("3:4"), MapShape(2, 6, 6), linear_last=True)
    assert (linear(u.float()) < 0).any()


def test_conv_network_rows_are_independent_and_leading_axes_preserved():
    network, u = (
        ConvNet(parse_layers(MNIST_UP), MapShape(1, 28, 28)).eval(),
        rand(2, 3, 784).float(),
    )
    output = network(u)
    assert output.shape == (2, 3, 500)
    torch.testing.assert_close(output[1, 2], network(u[1, 2][None])[0], atol=1e-5, rtol=1e-4)


def test_conv_batch_norm_normalises_each_channel():
    with engine.seeded_rng(0):
        network = ConvNet(
            parse_layers("3:4"), MapShape(1, 8, 8), activation="tanh", batch_norm=True
        )
    network.layers[-1] = nn.Identity()
    maps = network(rand(5, 64).float()).view(5, 4, 64).transpose(0, 1).reshape(4, -1)
    torch.testing.assert_close(maps.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.var(1, correction=0), torch.ones(4), atol=1e-2, rtol=0)


def test_dropout_rate_and_mean_and_identity_in_evaluation():
    layer, u = Dropout(0.3), torch.ones(200, 500)
    with engine.seeded_rng(0):
        output = layer(u)
    assert (output == 0).double().mean() == pytest.approx(0.3, abs=0.01)
    assert output.mean() == pytest.approx(1, abs=0.01)
    assert torch.equal(layer.eval()(u), u)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5:32w", "'5:32w' is none of"),
        ("p2", "expected k:c"),
        ("5:32 500", "more than one"),
        ("500 p2", "need a convolution"),
        ("4:32", "odd side"),
        ("3:4 p2 p2", "more than one p"),
        ("", "expected k:c"),
    ],
)
def test_parse_layers_rejects_invalid_text(text, message):
    with pytest.raises(ValueError, match=message):
        parse_layers(text)


@pytest.mark.parametrize(
    "parse", [parse_layers, parse_encoder, lambda text: parse_network(f"3:4 -> {text}")]
)
def test_parse_errors_name_the_option_and_its_value(parse):
    with pytest.raises(ValueError, match=r"^network='.*5:32w': layer '5:32w'"):
        parse("5:32w")
    with pytest.raises(ValueError, match=r"^critic='5:32w': layer"):
        parse_layers("5:32w", "critic")


def test_network_rejects_maps_smaller_than_the_kernel():
    with pytest.raises(ValueError, match="4 x 4 is too small for a kernel of 5"):
        ConvNet(parse_layers("5:3v | 3:1v"), MapShape(1, 4, 4))


@pytest.mark.parametrize("text", ["3:4 p0", "3:0 p2", "0", "0:4", "u0 3:1", "64x0x5"])
def test_parse_layers_rejects_sizes_of_zero(text):
    with pytest.raises(ValueError, match="has a size of zero"):
        parse_layers(text)
