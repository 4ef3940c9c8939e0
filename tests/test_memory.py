"""Memory layers, their ladder composition and local error, and the MemoryVAE estimator."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from ancestral import VAE, MemoryVAE, datasets
from ancestral.data.batch import Batch
from ancestral.evaluation import memory_analysis
from ancestral.experiments import report
from ancestral.models.latent import LatentModel
from ancestral.nn import (
    MLP,
    BatchNorm,
    Memory,
    ablate_memories,
    memories,
    n_parameters,
    standardise,
)
from ancestral.nn.ladder import Ladder
from ancestral.objectives import local_error
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import engine

BITS = np.random.default_rng(0).integers(0, 2, (200, 12)).astype(float)
SMALL = {"n_latents": 3, "hidden": (8, 6), "max_epochs": 3, "random_state": 0}


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def memory(n=4, n_slots=3, seed=0, **kwargs):
    """Memory layer with random values in place of its initial parameters."""
    layer = Memory(n, n_slots, **kwargs).double()
    with torch.no_grad():
        for i, p in enumerate(layer.parameters()):
            p.copy_(rand(*p.shape, seed=seed + i))
    return layer


def test_memory_layer_is_initially_the_identity():
    h = rand(5, 4).abs()
    with engine.seeded_rng(0):
        layer = Memory(4, 3).double()
    torch.testing.assert_close(layer(h), h, atol=0, rtol=0)


def test_initial_bound_is_equal_with_and_without_memory():
    def model(with_memory):
        with engine.seeded_rng(0):
            decoder = [*MLP(2, (5,), 4, activation="relu")]
            encoder = MLP(4, (5,), heads=(2, 2))
        if with_memory:
            decoder.insert(2, Memory(5, 3))
        likelihood = Bernoulli(nn.Sequential(*decoder))
        return LatentModel(standard_normal(2), likelihood, Gaussian(encoder)).double()

    batch, runs = Batch((rand(6, 4) > 0).double()), []
    for network in (model(False), model(True)):
        with engine.seeded_rng(1):
            runs.append(network.run(batch, 3).log_w)
    assert torch.equal(*runs)


def test_ladder_with_plus_coefficients_adds_memory_output():
    layer, h = memory(), rand(5, 4)
    with torch.no_grad():
        layer.compose.a.copy_(torch.tensor([[0.0], [1.0], [1.0], [0.0]]).expand(4, 4).flatten())
        layer.compose.b.zero_()
    h_m = torch.sigmoid(h @ layer.address.weight.T + layer.address.bias) @ layer.slots
    assert ((h + h_m) < 0).any()
    torch.testing.assert_close(layer(h), torch.relu(h + h_m))


def test_zero_address_logits_read_half_the_sum_of_slots():
    layer = memory()
    with torch.no_grad():
        layer.address.weight.zero_()
        layer.address.bias.zero_()
        layer.compose.a.copy_(torch.tensor([[100.0], [0.0], [1.0], [0.0]]).expand(4, 4).flatten())
        layer.compose.b.zero_()
    expected = 100 + 0.5 * layer.slots.sum(0)
    torch.testing.assert_close(layer(rand(5, 4)), expected.expand(5, 4))


def test_saturated_attention_reads_a_single_slot():
    layer = memory()
    with torch.no_grad():
        layer.address.weight.zero_()
        layer.address.bias.copy_(torch.tensor([-800.0, 800.0, -800.0]))
        layer.compose.a.copy_(torch.tensor([[100.0], [0.0], [1.0], [0.0]]).expand(4, 4).flatten())
        layer.compose.b.zero_()
    torch.testing.assert_close(layer(rand(5, 4)), (100 + layer.slots[1]).expand(5, 4))


def test_memory_ladder_matches_scalar_implementation():
    layer, h = memory(), rand(2, 3, 4)
    out = layer(h)
    a, c = (v.view(4, -1).tolist() for v in (layer.compose.a, layer.compose.c))
    b = layer.compose.b.tolist()
    for i, row in enumerate(h.reshape(6, 4)):
        score = layer.address.weight @ row + layer.address.bias
        h_m = layer.slots.T @ (1 / (1 + torch.exp(-score)))
        for j in range(4):
            g, m = row[j].item(), h_m[j].item()
            s = c[0][j] + c[1][j] * g + c[2][j] * m + c[3][j] * g * m
            u = a[0][j] + a[1][j] * g + a[2][j] * m + a[3][j] * g * m
            expected = max(0.0, u + b[j] / (1 + math.exp(-s)))
            assert out.reshape(6, 4)[i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rows", [(5,), (2, 10), (7, 3)])
def test_ladder_gradients_match_finite_differences(rows):
    ladder = Ladder(3).double()
    parts = [rand(*rows, 3, seed=1), rand(*rows, 3, seed=2)]
    shapes = [p.shape for p in (ladder.a, ladder.c, ladder.b)]
    coefficients = [rand(*shape, seed=3 + i) for i, shape in enumerate(shapes)]
    inputs = [v.requires_grad_() for v in (*parts, *coefficients)]

    def compose(h_g, h_m, a, c, b):
        return functional_call(ladder, {"a": a, "c": c, "b": b}, (h_g, h_m))

    assert torch.autograd.gradcheck(compose, inputs)


def test_ladder_is_independent_of_block_size(monkeypatch):
    def ladder_and_gradients():
        ladder = Ladder(3).double()
        with torch.no_grad():
            ladder.a.copy_(rand(12, seed=6)), ladder.c.copy_(rand(12, seed=7)), ladder.b.fill_(0.5)
        parts = [rand(7, 5, 3, seed=1).requires_grad_(), rand(7, 5, 3, seed=2).requires_grad_()]
        out = ladder(*parts)
        return out, *torch.autograd.grad(out.square().sum(), [*parts, *ladder.parameters()])

    expected = ladder_and_gradients()
    monkeypatch.setattr("ancestral.nn.ladder.BLOCK_SIZE", 3 * 8)  # eight rows of 35
    for a, b in zip(ladder_and_gradients(), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_ladder_output_dtype_and_bfloat16_accuracy():
    """Outputs and gradients in bfloat16 are within 2 % of those in float32."""
    ladder, hidden, readout = Ladder(4), rand(30, 4).float(), rand(30, 4, seed=5).float()
    with torch.no_grad():
        ladder.a.copy_(rand(16, seed=6)), ladder.c.copy_(rand(16, seed=7)), ladder.b.fill_(0.5)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        h_g, h_m = hidden.clone().requires_grad_(), readout.to(dtype).requires_grad_()
        out = ladder(h_g, h_m)
        assert out.dtype == dtype
        results.append(
            [out, *torch.autograd.grad(out.float().sum(), [h_g, h_m, ladder.a, ladder.c])]
        )
    for single, half in zip(*results, strict=True):
        assert (single - half).norm() < 0.02 * single.norm()


def test_memory_is_invariant_to_slot_permutation():
    layer, other, h = memory(), memory(), rand(5, 4, seed=77)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        other.slots.copy_(layer.slots[order])
        other.address.weight.copy_(layer.address.weight[order])
        other.address.bias.copy_(layer.address.bias[order])
    torch.testing.assert_close(other(h), layer(h))


def test_initial_gradient_reaches_ladder_coefficients_not_slots():
    with engine.seeded_rng(0):
        layer = Memory(4, 3).double()
    layer(rand(5, 4).abs()).square().sum().backward()
    assert not layer.slots.grad.any()
    assert layer.compose.a.grad.view(4, -1)[2].abs().min() > 0


def test_plus_composition_equals_ladder_with_plus_coefficients():
    ladder, plus, h = memory(), memory(composition="plus"), rand(5, 4)
    with torch.no_grad():
        ladder.compose.a.copy_(torch.tensor([[0.0], [1.0], [1.0], [0.0]]).expand(4, 4).flatten())
        ladder.compose.b.zero_()
    torch.testing.assert_close(plus(h), ladder(h))


def test_softmax_memory_output_is_a_convex_combination_of_slots():
    layer, h = memory(attention="softmax", composition="plus"), rand(50, 4)
    weights = layer.attend(h)
    torch.testing.assert_close(weights.sum(-1), torch.ones(50).double())
    outputs = weights @ layer.slots
    assert (outputs <= layer.slots.amax(0)).all()
    assert (outputs >= layer.slots.amin(0)).all()
    torch.testing.assert_close(layer(h), torch.relu(h + outputs))


@pytest.mark.parametrize(
    ("n_features", "settings", "expected"),
    [
        (784, {"n_latents": 100, "hidden": (500, 500), "n_slots": (70, 30)}, 1_550_084),
        (784, {"n_latents": 100, "hidden": (500, 500), "n_slots": 0}, 1_440_984),
        (784, {"n_latents": 100, "hidden": (530, 530), "n_slots": 0}, 1_559_184),
        (128, {"n_latents": 50, "hidden": (200, 200), "n_slots": (70, 30)}, 207_528),
        (128, {"n_latents": 50, "hidden": (200, 200), "n_slots": 0}, 163_828),
    ],
)
def test_memory_vae_parameter_counts(n_features, settings, expected):
    x = np.random.default_rng(0).integers(0, 2, (4, n_features)).astype(float)
    assert n_parameters(MemoryVAE(**settings, max_epochs=1).fit(x).model_) == expected


def test_local_error_is_two_times_one_minus_correlation():
    up, down = rand(4000, 3, seed=1), rand(4000, 3, seed=2)
    assert local_error(up, -3 * up + 1) == pytest.approx(4, abs=1e-4)
    assert local_error(up, down) == pytest.approx(2, abs=0.1)
    mixed = up + 2 * down
    correlations = [np.corrcoef(up[:, j], mixed[:, j])[0, 1] for j in range(3)]
    assert local_error(up, mixed) == pytest.approx(2 * (1 - np.mean(correlations)), abs=1e-4)


def test_local_error_averages_reconstructions_over_samples():
    up, down = rand(6, 2), rand(3, 6, 2, seed=3)
    batch_norm = BatchNorm(2, affine=False).double().train()
    expected = (batch_norm(down.view(18, 2)).view(3, 6, 2).mean(0) - batch_norm(up)).square().mean()
    torch.testing.assert_close(local_error(up, down), expected)
    torch.testing.assert_close(standardise(down), batch_norm(down))
    torch.testing.assert_close(standardise(down, average=True), batch_norm(down).mean(0))


# ---- the estimator


def test_memory_vae_without_memory_and_local_error_equals_vae():
    plain = VAE(**SMALL).fit(BITS)
    bare = MemoryVAE(**SMALL, n_slots=0, local_weight=0).fit(BITS)
    assert [r["loss"] for r in plain.history_] == [r["loss"] for r in bare.history_]
    assert list(bare.history_[0]) == list(plain.history_[0])


@pytest.mark.parametrize("k", [1, 3])
def test_taps_record_encoder_and_decoder_layers_of_equal_height(k):
    """Encoder taps precede the normalisation, decoder taps follow the memory."""
    model = MemoryVAE(**SMALL, n_slots=(5, 4), n_importance_samples=k).fit(BITS).model_
    model.train()
    x, recorded = torch.as_tensor(BITS, dtype=torch.float32), {}
    up = [m for m in model.posterior.modules() if isinstance(m, nn.Linear)][:2]
    down = memories(model.likelihood)[::-1]
    for name, module in zip(("up0", "up1", "down0", "down1"), (*up, *down), strict=True):
        module.register_forward_hook(lambda _, __, out, name=name: recorded.__setitem__(name, out))
    run = model.run(Batch(x), k)
    assert [m.slots.shape for m in down] == [(5, 8), (4, 6)]
    for name, value in recorded.items():
        torch.testing.assert_close(run.activations[name], value)
    assert run.activations["memory0.attention"].shape == (k, 200, 5)


def test_local_error_is_linear_in_layer_weights():
    def local(weight):
        fitted = MemoryVAE(**SMALL | {"max_epochs": 1, "batch_size": 200}, local_weight=weight)
        return fitted.fit(BITS).history_[0]["local"]

    both = local((0.3, 0.2))
    assert local((0.3, 0)) + local((0, 0.2)) == pytest.approx(both, rel=1e-5)
    assert local((0.6, 0)) == pytest.approx(2 * local((0.3, 0)), rel=1e-5)


def test_silenced_memory_outputs_ones():
    layer, h = memory(), rand(5, 4)
    with ablate_memories(layer):
        output = layer(h)
    torch.testing.assert_close(output, layer.combine(h, torch.ones_like(h)))
    assert layer.enabled
    assert not torch.equal(output, layer(h))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_slots": (3,)}, r"n_slots=\(3,\): expected 2 entries"),
        ({"local_weight": (1.0, 2.0, 3.0)}, "local_weight"),
        ({"n_slots": -1}, "n_slots=-1"),
        ({"local_weight": -0.1}, "local_weight=-0.1"),
        ({"attention": "hard"}, "attention='hard'"),
        ({"n_latents": (3, 2), "gradient_estimator": "doubly"}, "single stochastic layer"),
        ({"n_resampled": 2}, "n_resampled=2: expected None"),
        ({"n_importance_samples": 3, "n_resampled": 3}, "n_resampled=3: expected"),
    ],
)
def test_invalid_parameters_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        MemoryVAE(**SMALL | settings).fit(BITS)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_latents": (3, 2), "hidden": ((8, 6), (5,))},
        {"gradient_estimator": "doubly"},
        {"n_importance_samples": 3, "gradient_estimator": "doubly"},
        {"n_importance_samples": 8, "n_resampled": 2},
        {"attention": "softmax", "composition": "plus", "activation": "tanh"},
        {"batch_norm": False, "n_slots": 2},
    ],
)
def test_memory_vae_variants_fit_three_patterns(settings):
    x = (np.arange(200)[:, None] % 3 == np.arange(12) % 3).astype(float)  # three distinct patterns
    fitted = MemoryVAE(
        **SMALL | {"max_epochs": 30, "batch_size": 50, "learning_rate": 0.04} | settings
    ).fit(x)
    assert fitted.score(x[:3]) > -6  # the optimum is log 1/3; independent pixels give -7.6


# ---- analysis of the fitted memory


@pytest.fixture(scope="module")
def digits():
    data = datasets.load("digits")
    settings = {"n_latents": 4, "hidden": (20, 16), "n_slots": (7, 5), "random_state": 0}
    fitted = MemoryVAE(**settings, max_epochs=10, attention="softmax", composition="plus")
    return fitted.fit(data.x_train), data


def test_attend_matches_layer_attention_at_posterior_mean(digits):
    fitted, data = digits
    x = data.x_test[:9]
    z = torch.as_tensor(fitted.transform(x), dtype=torch.float32)
    for number, width in ((0, 7), (1, 5)):
        network = list(fitted.model_.likelihood.network)
        layer = memories(fitted.model_.likelihood)[1 - number]
        below = nn.Sequential(*network[: network.index(layer)])
        attention = fitted.attend(x, number)
        assert attention.shape == (9, width)
        np.testing.assert_allclose(attention, layer.attend(below(z)).detach(), atol=1e-6)


def test_decode_slots_matches_manual_decoding(digits):
    """Reference: zero layer input, one slot as memory output, then the remaining layers."""
    fitted, _ = digits
    network = list(fitted.model_.likelihood.network)
    for number, layer in enumerate(memories(fitted.model_.likelihood)[::-1]):
        above = nn.Sequential(*network[network.index(layer) + 1 :])
        for slot in range(len(layer.slots)):
            h = torch.relu(layer.slots[slot])
            expected = torch.sigmoid(above(h[None]))[0].detach()
            np.testing.assert_allclose(fitted.decode_slots(number)[slot], expected, atol=1e-6)


def test_silencing_one_memory_leaves_the_other_unchanged(digits):
    fitted, data = digits
    x, upper = data.x_test[:5], fitted.attend(data.x_test[:5], 1)
    reconstruction = fitted.reconstruct(x)
    with fitted.ablate_memories(0):
        np.testing.assert_array_equal(fitted.attend(x, 1), upper)
        without = fitted.reconstruct(x)
    with fitted.ablate_memories():
        neither = fitted.reconstruct(x)
    errors = [np.square(x / 1.0 - r).mean() for r in (reconstruction, without, neither)]
    assert errors[0] < min(errors[1:])
    np.testing.assert_array_equal(fitted.reconstruct(x), reconstruction)


def test_invalid_memory_index_raises(digits):
    with pytest.raises(ValueError, match=r"memory=2: expected one of \[0, 1\], .*n_slots=\(7, 5\)"):
        digits[0].attend(digits[1].x_test, 2)
    half = MemoryVAE(**SMALL | {"max_epochs": 1}, n_slots=(0, 4)).fit(BITS)
    assert half.memories_ == (1,)
    assert half.decode_slots(1).shape == (4, 12)
    with pytest.raises(ValueError, match=r"memory=0: expected one of \[1\]"):
        half.decode_slots()


def test_class_preferences_match_manual_values():
    attention = np.array([[2.0, 2.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 2.0], [9.0, 0.0, 0.0]])
    preferences = memory_analysis.class_mean_attention(attention, np.array([0, 0, 2, -1]), 4)
    np.testing.assert_allclose(preferences[0], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(preferences[2], [0.25, 0.25, 0.5])
    assert np.isnan(preferences[[1, 3]]).all()
    with pytest.raises(ValueError, match="all samples are unlabelled"):
        memory_analysis.class_mean_attention(attention, np.full(4, -1))
    with pytest.raises(ValueError, match="3 entries and attention 4 rows"):
        memory_analysis.class_mean_attention(attention, np.zeros(3, dtype=int))


def test_class_similarity_matches_covariance_of_rows():
    averages = np.random.default_rng(0).random((3, 8))
    centred = averages - averages.mean(1, keepdims=True)
    np.testing.assert_allclose(memory_analysis.class_covariance(averages), centred @ centred.T / 7)


def test_report_shows_memories_only_for_models_with_memory(digits):
    fitted, data = digits
    data = replace(data, x_test=data.x_test[:80], y_test=data.y_test[:80])
    page = report.render_page(fitted, data, title="Digits")
    assert ">Memory</h2>" in page
    assert "7 slots of the memory next to the data" in page
    assert "5 slots of the memory next to the latent variables" in page
    best = memory_analysis.class_mean_attention(fitted.attend(data.x_test), data.y_test).max(1)
    for share in best:
        assert f"{share:.2f} (" in page
    bare = MemoryVAE(n_latents=2, hidden=(8,), n_slots=0, max_epochs=1).fit(data.x_train)
    assert ">Memory</h2>" not in report.render_page(bare, data, title="Digits")


def test_report_of_memory_vae_on_unlabelled_table():
    data = datasets.Dataset(name="bits", x_train=BITS)
    fitted = MemoryVAE(**SMALL | {"max_epochs": 1}, n_slots=3).fit(BITS)
    page = report.render_page(fitted, data, title="Bits")
    assert "Ablation: the mean squared reconstruction error" in page
