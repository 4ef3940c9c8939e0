"""Tests of the engine: execution plans, compiled steps, reduced precision, flat parameters."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from ancestral.estimators.base.gradient import GradientEstimator
from ancestral.estimators.registry import METHODS
from ancestral.objectives import elbo, hinge, iwae
from ancestral.training import engine
from ancestral.training.engine import CompiledFunction, FlatParameters, make_plan
from ancestral.training.optim import adam, clip, weight_decay
from train_compiled_and_eager import CASES, train_small_model, vae

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _reset_notices(monkeypatch):
    """Each test starts without notices that were already logged."""
    from ancestral.training.engine import devices

    monkeypatch.setattr(devices, "_logged", set())


def log_messages(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "ancestral"]


# ---- planning


@pytest.mark.parametrize(("work", "compiled"), [(1e9, False), (1e13, True)])
def test_plan_compiles_above_work_threshold(work, compiled):
    assert make_plan(vae(), CPU, work).compiled == compiled
    assert make_plan(vae(), CPU, work, compile=not compiled).compiled != compiled


def test_plan_work_is_proportional_to_importance_samples(monkeypatch):
    work_estimates = []

    def record_work(model, device, work, *_):
        work_estimates.append(work)
        return engine.Plan()

    monkeypatch.setattr("ancestral.training.engine.make_plan", record_work)
    for objective in (elbo(), iwae(5), elbo(3) + hinge()):
        train_small_model(vae(), objective, epochs=1, y=np.arange(64) % 2)
    assert np.allclose(np.divide(work_estimates, work_estimates[0]), [1, 5, 3])


def test_plan_does_not_compile_convolutions_on_cpu():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    assert not make_plan(net, CPU, 1e15).compiled
    assert make_plan(net, CPU, 1e15, compile=True).compiled


def test_plan_uses_bfloat16_for_float32_models_on_capable_hardware(monkeypatch):
    precisions = []
    for is_fast in (False, True):
        monkeypatch.setattr(
            import_module("ancestral.training.engine.compilation"),
            "has_fast_bfloat16",
            lambda _, is_fast=is_fast: is_fast,
        )
        precisions += [
            make_plan(vae(), CPU, 0.0).precision,
            make_plan(vae().double(), CPU, 0.0).precision,
        ]
    assert precisions == ["float32", "float32", "bfloat16", "float32"]


def test_missing_compiler_is_logged_once(monkeypatch, caplog):
    monkeypatch.setattr("shutil.which", lambda _: None)
    for _ in range(2):
        assert not make_plan(vae(), CPU, 1e13).compiled
    assert log_messages(caplog) == [
        "training runs uncompiled: slower, with the same results (no C++ compiler was found)"
    ]


def test_automatic_device_is_logged_once(caplog):
    with caplog.at_level("INFO", logger="ancestral"):
        device_types = {engine.resolve_device("auto").type for _ in range(3)}
    assert len(device_types) == 1
    assert len(log_messages(caplog)) == 1
    assert "device='auto' is" in log_messages(caplog)[0]


# ---- compiled functions


def test_uncompilable_function_runs_eagerly_with_one_warning(caplog):
    def multiply_by_word_count(x):
        return x * len(Path(__file__).read_text().split())

    graph = CompiledFunction(multiply_by_word_count, compiled=True)
    expected = multiply_by_word_count(torch.ones(2))
    for _ in range(2):
        assert torch.equal(graph(torch.ones(2)), expected)
    assert len(log_messages(caplog)) == 1
    assert "runs uncompiled" in log_messages(caplog)[0]


def test_compiled_function_propagates_user_errors():
    def raise_value_error(x):
        raise ValueError("no labels")

    with pytest.raises(ValueError, match="no labels"):
        CompiledFunction(raise_value_error, compiled=True)(torch.ones(2))


def test_compiled_training_propagates_errors_of_the_objective():
    with pytest.raises(ValueError, match="the batch has y=None"):
        train_small_model(vae(), elbo() + hinge(), compile=True, epochs=1)


@pytest.fixture(scope="module")
def compiled():
    """Results of compiled and uncompiled training, from a process without run-time type checks."""
    script = Path(__file__).with_name("train_compiled_and_eager.py")
    process = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "uncompiled" not in process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_compiled_training_matches_eager_training(name, compiled):
    got = compiled[name]
    np.testing.assert_allclose(got["compiled"], got["eager"], atol=3e-4, rtol=3e-4)
    np.testing.assert_allclose(got["compiled_losses"], got["eager_losses"], rtol=1e-4)
    assert np.linalg.norm(np.subtract(got["eager"], got["initial"])) > 0.1


@pytest.mark.parametrize("name", ["class-conditional", "linear-svm"])
def test_compiled_training_with_labels_matches_eager_training(name, compiled):
    np.testing.assert_allclose(compiled[name]["compiled"], compiled[name]["eager"], rtol=1e-4)


def test_compiled_training_is_bitwise_reproducible(compiled):
    assert compiled["elbo"]["compiled"] == compiled["elbo"]["repeated"]


def test_compiled_training_resumed_from_checkpoint_is_bitwise_equal(compiled):
    assert compiled["elbo"]["resumed"] == compiled["elbo"]["compiled"]


def test_compilation_preserves_distribution_validation_default(compiled):
    assert compiled["validate_args"] is True


def test_compiled_step_uses_current_value_of_python_attribute(compiled):
    assert compiled["annealed"] == pytest.approx([2.0, 4.0, 8.0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CASES)
def test_cuda_graph_training_matches_eager_training(name):
    objective, network_options, options = CASES[name]
    options = options | {"device": "cuda", "precision": "float32"}
    (eager, eager_losses), (captured, captured_losses) = (
        train_small_model(vae(**network_options), objective(), compile=choice, **options)
        for choice in (False, "auto")
    )
    np.testing.assert_allclose(captured, eager, atol=3e-4, rtol=3e-4)
    np.testing.assert_allclose(captured_losses, eager_losses, rtol=1e-4)


# ---- reduced precision


@pytest.mark.parametrize(
    "method", [name for name, m in METHODS.items() if issubclass(m.load(), GradientEstimator)]
)
def test_gradient_estimators_train_in_float32_and_bfloat16(method):
    """Including evaluation after every epoch: held-out terms and samples of a generator."""
    X, y = load_digits(return_X_y=True)
    losses = []
    for precision in ("float32", "bfloat16"):
        model = METHODS[method].load()(
            hidden=(20,), max_epochs=3, batch_size=100, validation_fraction=0.2,
            precision=precision, random_state=0, device="cpu",
        )  # fmt: skip
        history = model.fit(X / 16, y).history_
        losses.append([v for k, v in history[-1].items() if k.endswith("loss")])
    assert losses[0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.1)


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_bfloat16_training_is_close_to_float32_training(mode, compiled):
    single, reduced = (compiled[f"{mode}-{p}"] for p in ("float32", "bfloat16"))
    assert single[-1] != reduced[-1]
    assert abs(single[-1] - reduced[-1]) < 0.15
    assert reduced[-1] < reduced[0] - 0.3


@pytest.mark.parametrize("compiled", [False, True])
def test_float32_inference_matches_float64_and_restores_layers(compiled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5, bias=False))
    x, attributes = torch.randn(4, 7, 30), dict(vars(net[0]))
    expected = net.double()(x.double())
    net.float()
    call = CompiledFunction(net, compiled=compiled)
    with torch.no_grad(), engine.inference_mode(net, engine.Plan()):
        assert "forward" in vars(net[0])
        torch.testing.assert_close(call(x).double(), expected, atol=1e-5, rtol=1e-5)
    assert vars(net[0]).keys() == attributes.keys()
    net(x).sum().backward()


def test_hinge_gradient_at_tied_scores_in_bfloat16(compiled):
    single, reduced = compiled["hinge-float32"], compiled["hinge-bfloat16"]
    np.testing.assert_allclose(reduced, single, rtol=0.01)


def test_vectors_view_full_precision_parameters_in_bfloat16():
    layer = nn.Linear(3, 2)
    flat = FlatParameters(list(layer.parameters()), torch.bfloat16)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.bias.dtype == torch.float32
    with torch.no_grad():
        flat.vector.fill_(1.001)
    flat.refresh()
    assert layer.bias[0].item() == pytest.approx(1.001)
    assert layer.weight[0, 0].item() == 1.0
    flat.release()
    assert layer.weight[0, 0].item() == pytest.approx(1.001)


# ---- flat parameters


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def gradient_of(flat, loss):
    return flat.gather(torch.autograd.grad(loss, flat.parameters, allow_unused=True))


def test_flat_parameters_share_memory_and_gather_gradients():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net[2].bias.requires_grad_(False)
    parameters = [*net.parameters(), net[0].weight]  # one of them twice
    x = rand(5, 3)
    expected = net(x)
    flat = FlatParameters(parameters)
    assert flat.vector.numel() == 16 + 8 + 8  # sizes 12, 4 and 8, padded to multiples of 8
    assert torch.equal(net(x), expected)
    gradient = gradient_of(flat, net(x).square().sum())
    net(x).square().sum().backward()
    trainable = [p for p in net.parameters() if p.requires_grad]
    padded = [nn.functional.pad(p.grad.flatten(), (0, -p.numel() % 8)) for p in trainable]
    torch.testing.assert_close(gradient, torch.cat(padded))
    with torch.no_grad():
        flat.vector.mul_(2)
    torch.testing.assert_close(net[0].weight.flatten(), flat.vector[:12])
    flat.release()
    with torch.no_grad():
        flat.vector.zero_()
    assert net[0].weight.abs().min() > 0


def test_flat_gradient_of_unused_parameter_is_zero():
    used, unused = (nn.Parameter(rand(3, seed=i)) for i in range(2))
    gradient = gradient_of(FlatParameters([used, unused]), used.square().sum())
    expected = torch.zeros(16).double()
    expected[:3] = 2 * used.detach()
    torch.testing.assert_close(gradient, expected)


def test_flat_parameters_are_aligned_to_16_bytes():
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))
    FlatParameters(list(net.parameters()), torch.bfloat16)
    assert [p.data_ptr() % 16 for p in net.parameters()] == [0, 0, 0, 0]


def test_padding_between_parameters_remains_zero():
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1)).double()
    flat = FlatParameters(list(net.parameters()))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    is_padding = flat.vector == 0
    assert is_padding.sum() == 1 + 5 + 5 + 7
    optimizer = weight_decay(clip(adam(0.1), norm=1e-3), 0.1)
    state = optimizer.init(flat.vector, flat.shapes)
    gradient = gradient_of(flat, net(rand(4, 5)).square().sum())
    with torch.no_grad():
        optimizer.update(flat.vector, gradient, state, optimizer.rates(0, 10))
    assert flat.vector[is_padding].abs().max() == 0
    assert (flat.vector[~is_padding] < 1).all()


def test_flat_parameters_preserve_channels_last_format():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    expected = conv(x)
    initial = {k: v.clone() for k, v in conv.state_dict().items()}
    flat = FlatParameters(list(conv.parameters()))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(conv(x), expected)
    gradients = torch.autograd.grad(conv(x).square().sum(), flat.parameters)
    with torch.no_grad():
        flat.vector.sub_(flat.gather(gradients))
    for name, gradient in zip(("weight", "bias"), gradients, strict=True):
        torch.testing.assert_close(getattr(conv, name), initial[name] - gradient)
    flat.release()
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
