"""Plans, compiled graphs, reduced precision, flat state: they change the speed, not the result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from ancestral import engine
from ancestral.engine import FlatParameters, Graph, plan
from ancestral.gradients import GradientEstimator
from ancestral.methods import METHODS
from ancestral.objectives import elbo, hinge, iwae
from ancestral.optim import adam, clipped, shrunk
from compiled import CASES, fitted, vae

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _said(monkeypatch):
    from ancestral.engine import notices

    monkeypatch.setattr(notices, "_said", set())


def said(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "ancestral"]


# ---- the plan


@pytest.mark.parametrize(("work", "compiled"), [(1e9, False), (1e13, True)])
def test_compiling_is_decided_by_the_work_ahead(work, compiled):
    assert plan(vae(), CPU, work).compiled == compiled
    assert plan(vae(), CPU, work, compile=not compiled).compiled != compiled


def test_every_sample_of_a_row_is_work(monkeypatch):
    seen = []

    def planned(model, device, work, *_):
        seen.append(work)
        return engine.Plan()

    monkeypatch.setattr("ancestral.engine.plan", planned)
    for objective in (elbo(), iwae(5), elbo(3) + hinge()):
        fitted(vae(), objective, epochs=1, y=np.arange(64) % 2)
    assert np.allclose(np.divide(seen, seen[0]), [1, 5, 3])


def test_convolutions_run_uncompiled_on_a_cpu():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    assert not plan(net, CPU, 1e15).compiled
    assert plan(net, CPU, 1e15, compile=True).compiled


def test_reduced_precision_is_for_hardware_that_has_it(monkeypatch):
    plans = []
    for fast in (False, True):
        monkeypatch.setattr(
            "ancestral.engine.planning.has_fast_bfloat16", lambda _, fast=fast: fast
        )
        plans += [plan(vae(), CPU, 0.0).precision, plan(vae().double(), CPU, 0.0).precision]
    assert plans == ["float32", "float32", "bfloat16", "float32"]


def test_without_a_compiler_training_goes_on_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr("shutil.which", lambda _: None)
    for _ in range(2):
        assert not plan(vae(), CPU, 1e13).compiled
    assert said(caplog) == [
        "training runs uncompiled, slower, with the same results: there is no C++ compiler"
    ]


def test_the_device_chosen_is_said_once(caplog):
    with caplog.at_level("INFO", logger="ancestral"):
        chosen = {engine.resolve_device("auto").type for _ in range(3)}
    assert len(chosen) == 1
    assert len(said(caplog)) == 1
    assert "device='auto' is" in said(caplog)[0]


# ---- graphs


def test_a_graph_that_cannot_be_compiled_runs_as_it_stands(caplog):
    def counts_words(x):
        return x * len(Path(__file__).read_text().split())

    graph = Graph(counts_words, compiled=True)
    expected = counts_words(torch.ones(2))
    for _ in range(2):
        assert torch.equal(graph(torch.ones(2)), expected)
    assert len(said(caplog)) == 1
    assert "runs uncompiled" in said(caplog)[0]


def test_an_error_of_the_users_own_comes_through_a_graph():
    def fails(x):
        raise ValueError("no labels here")

    with pytest.raises(ValueError, match="no labels here"):
        Graph(fails, compiled=True)(torch.ones(2))


def test_what_the_objective_refuses_is_said_in_its_own_words_when_compiled():
    with pytest.raises(ValueError, match="the batch has y=None"):
        fitted(vae(), elbo() + hinge(), compile=True, epochs=1)


@pytest.fixture(scope="module")
def compiled():
    """What compiled and uncompiled training lead to, from a process whose code is not checked."""
    script = Path(__file__).with_name("compiled.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert "uncompiled" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_compiled_training_ends_where_uncompiled_training_does(name, compiled):
    got = compiled[name]
    np.testing.assert_allclose(got["compiled"], got["plain"], atol=3e-4, rtol=3e-4)
    np.testing.assert_allclose(got["compiled_losses"], got["plain_losses"], rtol=1e-4)
    assert np.linalg.norm(np.subtract(got["plain"], got["start"])) > 0.1


@pytest.mark.parametrize("name", ["told", "separated"])
def test_what_knows_classes_compiles_too(name, compiled):
    np.testing.assert_allclose(compiled[name]["compiled"], compiled[name]["plain"], rtol=1e-4)


def test_compiled_training_repeats_to_the_bit(compiled):
    assert compiled["elbo"]["compiled"] == compiled["elbo"]["again"]


def test_compiled_training_goes_on_from_a_checkpoint_to_the_bit(compiled):
    assert compiled["elbo"]["resumed"] == compiled["elbo"]["compiled"]


def test_compiling_leaves_the_users_switches_alone(compiled):
    assert compiled["validates"] is True


def test_a_number_that_changes_during_training_is_seen_by_the_graph(compiled):
    assert compiled["annealed"] == pytest.approx([2.0, 4.0, 8.0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CASES)
def test_a_recorded_step_ends_where_a_plain_one_does(name):
    objective, style, how = CASES[name]
    ends = [
        fitted(vae(**style), objective(), compile=choice, device="cuda", precision="float32", **how)
        for choice in (False, "auto")
    ]
    np.testing.assert_allclose(ends[1][0], ends[0][0], atol=3e-4, rtol=3e-4)
    np.testing.assert_allclose(ends[1][1], ends[0][1], rtol=1e-4)


# ---- reduced precision


@pytest.mark.parametrize(
    "method", [name for name, m in METHODS.items() if issubclass(m.load(), GradientEstimator)]
)
def test_every_method_that_goes_downhill_learns_in_either_precision(method):
    """Also what is looked at after every epoch: held-out rows, and samples of a generator."""
    rows, classes = load_digits(return_X_y=True)
    losses = []
    for precision in ("float32", "bfloat16"):
        model = METHODS[method].load()(
            hidden=(20,), max_epochs=3, batch_size=100, validation_fraction=0.2,
            precision=precision, random_state=0, device="cpu",
        )  # fmt: skip
        history = model.fit(rows / 16, classes).history_
        losses.append([v for k, v in history[-1].items() if k.endswith("loss")])
    assert losses[0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.1)


@pytest.mark.parametrize("how", ["plain", "compiled"])
def test_bfloat16_training_stays_near_float32_training(how, compiled):
    single, reduced = (compiled[f"{how}-{p}"] for p in ("float32", "bfloat16"))
    assert single[-1] != reduced[-1]
    assert abs(single[-1] - reduced[-1]) < 0.15
    assert reduced[-1] < reduced[0] - 0.3


@pytest.mark.parametrize("compiled", [False, True])
def test_inference_in_single_precision_agrees_with_double_and_leaves_no_trace(compiled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 5, bias=False))
    x, before = torch.randn(4, 7, 30), dict(vars(net[0]))
    exact = net.double()(x.double())
    net.float()
    call = Graph(net, compiled=compiled)
    with torch.no_grad(), engine.inference(net, engine.Plan()):
        assert "forward" in vars(net[0])
        torch.testing.assert_close(call(x).double(), exact, atol=1e-5, rtol=1e-5)
    assert vars(net[0]).keys() == before.keys()
    net(x).sum().backward()


def test_ties_of_scores_have_a_slope_in_reduced_precision(compiled):
    single, reduced = compiled["hinge-float32"], compiled["hinge-bfloat16"]
    np.testing.assert_allclose(reduced, single, rtol=0.01)


def test_in_reduced_precision_vectors_read_the_full_one():
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


# ---- flat state


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def gradient_of(flat, loss):
    return flat.gather(torch.autograd.grad(loss, flat.parameters, allow_unused=True))


def test_flat_parameters_are_one_memory_and_one_gradient():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net[2].bias.requires_grad_(False)
    shared = [*net.parameters(), net[0].weight]
    x = rand(5, 3)
    expected = net(x)
    flat = FlatParameters(shared)
    assert flat.vector.numel() == 16 + 8 + 8  # of 12, 4 and 8, filled up to eights
    assert torch.equal(net(x), expected)
    gradient = gradient_of(flat, net(x).square().sum())
    net(x).square().sum().backward()
    moved = [p for p in net.parameters() if p.requires_grad]
    filled_up = [nn.functional.pad(p.grad.flatten(), (0, -p.numel() % 8)) for p in moved]
    torch.testing.assert_close(gradient, torch.cat(filled_up))
    with torch.no_grad():
        flat.vector.mul_(2)
    torch.testing.assert_close(net[0].weight.flatten(), flat.vector[:12])
    flat.release()
    with torch.no_grad():
        flat.vector.zero_()
    assert net[0].weight.abs().min() > 0


def test_flat_gradient_of_what_the_loss_ignores_is_zero():
    used, unused = (nn.Parameter(rand(3, seed=i)) for i in range(2))
    gradient = gradient_of(FlatParameters([used, unused]), used.square().sum())
    expected = torch.zeros(16).double()
    expected[:3] = 2 * used.detach()
    torch.testing.assert_close(gradient, expected)


def test_every_parameter_begins_where_a_gpu_reads():
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))
    FlatParameters(list(net.parameters()), torch.bfloat16)
    assert [p.data_ptr() % 16 for p in net.parameters()] == [0, 0, 0, 0]


def test_what_lies_between_parameters_stays_zero():
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1)).double()
    flat = FlatParameters(list(net.parameters()))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    between = flat.vector == 0
    assert between.sum() == 1 + 5 + 5 + 7
    optimizer = shrunk(clipped(adam(0.1), norm=1e-3), 0.1)
    state = optimizer.init(flat.vector, flat.shapes)
    gradient = gradient_of(flat, net(rand(4, 5)).square().sum())
    with torch.no_grad():
        optimizer.update(flat.vector, gradient, state, optimizer.rates(0, 10))
    assert flat.vector[between].abs().max() == 0
    assert (flat.vector[~between] < 1).all()


def test_convolution_weights_keep_their_channels_last():
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    expected = conv(x)
    before = {k: v.clone() for k, v in conv.state_dict().items()}
    flat = FlatParameters(list(conv.parameters()))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(conv(x), expected)
    gradients = torch.autograd.grad(conv(x).square().sum(), flat.parameters)
    with torch.no_grad():
        flat.vector.sub_(flat.gather(gradients))
    for name, gradient in zip(("weight", "bias"), gradients, strict=True):
        torch.testing.assert_close(getattr(conv, name), before[name] - gradient)
    flat.release()
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
