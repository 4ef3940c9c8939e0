"""Batch normalisation against torch, layers against their formulas, initial output biases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ancestral.data.batch import Batch
from ancestral.data.columns import Columns
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import init_output_bias
from ancestral.models.implicit import Generator
from ancestral.models.latent import LatentModel
from ancestral.nn import (
    MLP,
    ActivationTap,
    BatchNorm,
    ReadContext,
    calibrate,
    logit,
    n_parameters,
    one_hot,
    set_output_bias,
)
from ancestral.nn.batch_norm import shared_statistics
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import engine

QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def batch_norm(n=3, **kwargs):
    layer = BatchNorm(n, **kwargs).double()
    if layer.weight is not None:
        with torch.no_grad():
            layer.weight.copy_(rand(n, seed=8))
            layer.bias.copy_(rand(n, seed=9))
    return layer


# ---- batch normalisation

# A layer has three implementations: torch's function without compilation, an explicit formula when
# it shares statistics, and an autograd function in a compiled graph.


@QUICK
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=2).filter(lambda s: math.prod(s) > 1),
    st.booleans(),
    st.sampled_from([1e-10, 1e-5, 1e-2]),
)
def test_batch_norm_against_torch_with_batch_statistics(shape, affine, eps):
    layer, u = batch_norm(3, eps=eps, affine=affine), rand(*shape, 3)
    initial_state = {k: v.clone() for k, v in layer.state_dict().items()}
    expected = nn.functional.batch_norm(
        u.reshape(-1, 3), None, None, layer.weight, layer.bias, training=True, eps=eps
    )
    torch.testing.assert_close(layer(u), expected.view(u.shape), atol=1e-9, rtol=1e-9)
    with shared_statistics(layer, "lend"):
        torch.testing.assert_close(layer(u), expected.view(u.shape), atol=1e-9, rtol=1e-9)
    assert all(torch.equal(v, initial_state[k]) for k, v in layer.state_dict().items())


def test_batch_norm_gradients_against_torch():
    layer, u = batch_norm(), rand(6, 3).requires_grad_()
    inputs = [u, layer.weight, layer.bias]
    weight = rand(6, 3, seed=4)
    reference = nn.functional.batch_norm(u, None, None, *inputs[1:], training=True, eps=layer.eps)
    expected = torch.autograd.grad((reference * weight).sum(), inputs)
    actual = torch.autograd.grad((layer(u) * weight).sum(), inputs)
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-9)
    with shared_statistics(layer, "lend"):
        output = layer(u)
    actual = torch.autograd.grad((output * weight).sum(), inputs)
    torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-9)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_compiled_formula_matches_torch(affine, monkeypatch):
    layer, u = batch_norm(affine=affine), rand(4, 6, 3).requires_grad_()
    inputs, weight = [u, *layer.parameters()], rand(4, 6, 3, seed=4)
    results = []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda value=compiling: value)
        output = layer(u)
        results.append([output, *torch.autograd.grad((output * weight).sum(), inputs)])
    torch.testing.assert_close(*results, atol=1e-10, rtol=1e-9)


def test_batch_norm_of_a_single_row_equals_its_bias():
    layer = batch_norm()
    torch.testing.assert_close(layer(rand(1, 3)), layer.bias.detach()[None])


def test_calibrate_sets_batch_norm_statistics_of_the_training_rows():
    network = nn.Sequential(nn.Linear(2, 3), batch_norm(), nn.Tanh(), nn.Linear(3, 3), batch_norm())
    network, x = network.double(), rand(20, 2)
    hidden = network[0](x)
    expected = network.train()(x)
    calibrate(network, lambda: network(x))
    assert not network.training
    torch.testing.assert_close(network[1].mean, hidden.mean(0))
    torch.testing.assert_close(network[1].var, hidden.var(0, correction=0))
    # evaluation on the same rows reproduces the output of training mode on the full batch
    torch.testing.assert_close(network(x), expected)
    norm = network[1]
    reference = nn.functional.batch_norm(
        hidden, norm.mean, norm.var, norm.weight, norm.bias, training=False, eps=norm.eps
    )
    torch.testing.assert_close(norm(hidden), reference)
    torch.testing.assert_close(network(x[3:4]), expected[3:4])


def test_calibrate_averages_minibatch_statistics_and_discards_previous_ones():
    layer, x = batch_norm(), rand(12, 3)
    calibrate(layer, lambda: layer(rand(50, 3, seed=5) + 7))
    calibrate(layer, lambda: [layer(batch) for batch in x.split(4)])
    batches = x.view(3, 4, 3)
    torch.testing.assert_close(layer.mean, x.mean(0))
    torch.testing.assert_close(layer.var, batches.var(1, correction=0).mean(0))
    layer.train()
    mean = layer.mean.clone()
    layer(x + 100)
    assert torch.equal(layer.mean, mean)


def test_calibrate_stops_collecting_statistics_after_an_exception():
    layer = batch_norm()

    def fail():
        raise RuntimeError("no rows")

    with pytest.raises(RuntimeError, match="no rows"):
        calibrate(layer, fail)
    mean = layer.mean.clone()
    layer.train()(rand(5, 3))
    assert torch.equal(layer.mean, mean)


# ---- layers, taps, generators, output biases


def test_mlp_against_matrix_products():
    with engine.seeded_rng(0):
        net = MLP(3, (4, 5), heads=(2, 1)).double()
    w1, w2, w3, w4 = (m.weight for m in net.modules() if isinstance(m, nn.Linear))
    x = rand(6, 3)
    h = torch.tanh(torch.tanh(x @ w1.T) @ w2.T)
    torch.testing.assert_close(net(x), (h @ w3.T, h @ w4.T))
    assert n_parameters(net) == 3 * 4 + 4 + 4 * 5 + 5 + 3 * (5 + 1)
    for w in (w1, w2):
        bound = math.sqrt(6 / sum(w.shape))
        assert 0.5 * bound < w.abs().max() <= bound
    assert not torch.equal(w3[:1], w4)


def test_dense_network_parameter_counts_match_published_models():
    norm = {"batch_norm": True, "activation": "relu"}
    for width, expected in ((500, 1_440_984), (530, 1_559_184)):
        encoder = MLP(784, (width, width), heads=(100, 100), **norm)
        decoder = MLP(100, (width, width), 784, **norm)
        assert n_parameters(encoder) + n_parameters(decoder) == expected
    encoder = MLP(128, (200, 200), heads=(50, 50), **norm)
    decoder = MLP(50, (200, 200), 128, **norm)
    assert n_parameters(encoder) + n_parameters(decoder) == 163_828


@QUICK
@given(st.integers(1, 5), st.lists(st.integers(-1, 4), min_size=1, max_size=6))
def test_one_hot_encodes_unlabelled_as_zeros(n_classes, labels):
    actual = one_hot(torch.tensor(labels), n_classes)
    expected = [[float(label == j) for j in range(n_classes)] for label in labels]
    assert actual.tolist() == expected


def test_read_broadcasts_labels_over_latent_samples():
    z, y = rand(4, 3, 2), torch.tensor([1, 0, -1])

    class MockContext:
        pass

    context = MockContext()
    context.z, context.y = z, y
    actual = ReadContext("z", "y", n_classes=2)(context)
    for k in range(4):
        for i, code in enumerate(([0.0, 1.0], [1.0, 0.0], [0.0, 0.0])):
            assert actual[k, i].tolist() == [*z[k, i].tolist(), *code]


def test_taps_record_activations_of_a_run_and_are_cleared():
    network = nn.Sequential(nn.Linear(3, 4), ActivationTap("h"), nn.Linear(4, 2)).double()
    model = LatentModel(
        standard_normal(2).double(),
        Bernoulli(nn.Linear(2, 3)).double(),
        Gaussian(network, nn.Parameter(torch.zeros(2).double())),
    )
    x = (rand(5, 3) > 0).double()
    run = model.run(Batch(x))
    torch.testing.assert_close(run.activations["h"], network[0](x))
    assert network[1].value is None


def test_generator_applies_network_to_one_hot_condition_and_noise():
    layer = nn.Linear(5, 2)
    generator = Generator(layer, standard_normal(3), condition="y", n_classes=2)
    batch = Batch(torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]))
    with engine.seeded_rng(3):
        sample = generator.run(batch).sample
    with engine.seeded_rng(3):
        noise = torch.randn(4, 3)
    code = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    torch.testing.assert_close(sample, layer(torch.cat([code, noise], -1)))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.997])
def test_logit_inverts_sigmoid_and_clamps_at_0_and_1(p):
    value = logit(torch.tensor([p]).double())
    assert torch.sigmoid(value).item() == pytest.approx(p, abs=1e-7)
    clamped = torch.sigmoid(logit(torch.tensor([0.0, 1.0]).double()))
    assert clamped.tolist() == pytest.approx([0.001, 0.999])


def test_set_output_bias_sets_the_output_at_zero_input():
    net, value = MLP(3, (4,), 2).double(), torch.tensor([0.3, -1.0]).double()
    set_output_bias(net, value)
    torch.testing.assert_close(net(torch.zeros(1, 3).double()), value.unsqueeze(0))
    heads = MLP(3, (4,), heads=(2, 2)).double()
    set_output_bias(heads, value)
    mean, log_var = heads(torch.zeros(1, 3).double())
    torch.testing.assert_close(mean[0], value)
    assert not log_var.any()


@pytest.mark.parametrize("n", [10, 4095, 4097, 9000])
@pytest.mark.parametrize("missing", [False, True])
def test_initial_decoder_output_equals_column_means(n, missing):
    x = (np.random.default_rng(0).random((n, 3)) < [0.2, 0.5, 0.9]).astype(np.float32)
    x[-1] = 1 - x[-1]
    if missing:
        x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    likelihood = Bernoulli(MLP(2, (), 3))
    columns = Columns(["bernoulli"] * 3, np.zeros(3), np.ones(3), [0, 0, 0])
    init_output_bias(likelihood, columns, DeviceData(x, missing=missing))
    actual = likelihood(torch.zeros(1, 2)).probs.detach()[0]
    expected = np.clip(np.nanmean(x, 0), 1e-3, 1 - 1e-3)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
