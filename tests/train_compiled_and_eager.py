"""Train small models compiled and eagerly and print the results as JSON; run by test_engine.py.

A separate process is needed because functions with run-time type checks can't be compiled.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.distributions import Distribution

from ancestral import ClassConditionalVAE
from ancestral.data.device_data import DeviceData, sample_bernoulli
from ancestral.estimators.base.supervised import make_linear_classifier
from ancestral.models.deterministic import FeatureModel
from ancestral.models.latent import LatentModel
from ancestral.nn import MLP, ReadContext
from ancestral.objectives import Objective, elbo, hinge, iwae
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import Player, engine, train
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.optim import adam, clip, ema

CASES = {
    "elbo": (lambda: elbo(), {}, {}),
    "iwae-batch-norm-clipped-averaged": (
        lambda: iwae(5),
        {"batch_norm": True},
        {"optimizer": ema(clip(adam(1e-2, eps=1e-4), 5.0, 1.0))},
    ),
    "doubly": (lambda: iwae(4, "doubly"), {}, {}),
    "elbo-hinge": (lambda: elbo() + hinge(2.0), {}, {"y": np.arange(64) % 3 - 1}),
}


def vae(d=20, batch_norm=False):
    options = {"activation": "relu" if batch_norm else "tanh", "batch_norm": batch_norm}
    with engine.seeded_rng(0):
        model = LatentModel(
            standard_normal(3),
            Bernoulli(MLP(3, (16,), d, **options)),
            Gaussian(MLP(d, (16,), heads=(3, 3), **options)),
        )
        model.classifier = make_linear_classifier(3, 2)
    return model


def flat_parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def train_small_model(
    model, objective, *, optimizer=None, epochs=3, y=None, device="cpu", **kwargs
):
    """Train a model on random images; return its parameters and the loss of each epoch."""
    x = np.random.default_rng(0).random((64, 20), dtype=np.float32)
    player = Player(model.to(device), objective, optimizer or adam(1e-2))
    data = DeviceData(x, y, batch_transform=sample_bernoulli, device=device)
    history = train(model, player, data, max_epochs=epochs, batch_size=16, **kwargs)
    return flat_parameters(model), history.curve("loss")


def train_eager_and_compiled(objective, network_options, options):
    options = options | {"precision": "float32"}
    eager, eager_losses = train_small_model(
        vae(**network_options), objective(), compile=False, **options
    )
    compiled, compiled_losses = train_small_model(
        vae(**network_options), objective(), compile=True, **options
    )
    return {
        "initial": flat_parameters(vae(**network_options)),
        "eager": eager,
        "eager_losses": eager_losses,
        "compiled": compiled,
        "compiled_losses": compiled_losses,
    }


def train_resumed():
    """Parameters after training stopped at step five and resumed; the checkpoint has the plan."""

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.event == "step" and progress.step == 5:
            raise StoppedError

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state", identity="elbo", every=0.0)
        with contextlib.suppress(StoppedError):
            options = {"compile": True, "precision": "float32", "callbacks": [stop]}
            train_small_model(vae(), elbo(), checkpoint=checkpoint, **options)
        return train_small_model(vae(), elbo(), checkpoint=checkpoint)[0]


class WeightedTerm:
    """Term whose weight doubles after every epoch."""

    weight = 1.0

    def __call__(self, model, run):
        return self.weight * model.weight.square().sum()

    def double(self, progress):
        self.weight *= 2 if progress.event == "epoch" else 1


def train_with_weighted_term():
    term, model = WeightedTerm(), nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
    player = Player(model, Objective({"size": term}, lambda model, batch: None), adam(0.0))
    data, options = DeviceData(torch.zeros(4, 1)), {"compile": True, "callbacks": [term.double]}
    return train(model, player, data, max_epochs=3, **options).curve("size")


def class_conditional_losses(compile):
    """Losses of M2 with unlabelled samples: a sum over classes, networks that read a context."""
    x = np.random.default_rng(0).integers(0, 2, (64, 20))
    y = np.where(np.arange(64) < 40, x[:, 0], -1)
    options = {"hidden": (16,), "n_latents": 2, "max_epochs": 3, "batch_size": 16}
    engine_options = {"compile": compile, "precision": "float32", "device": "cpu"}
    m2 = ClassConditionalVAE(**options, **engine_options, random_state=0).fit(x, y)
    return m2.history_.curve("loss")


def linear_svm_losses(compile):
    """Losses of a linear SVM whose features are read from a context."""
    svm = FeatureModel(ReadContext("x"), make_linear_classifier(20, 2))
    loss = hinge(1.0, 1.0, lambda run: run.features)
    options = {"compile": compile, "y": np.arange(64) % 2, "precision": "float32"}
    return train_small_model(svm, loss, **options)[1]


def main():
    results = {name: train_eager_and_compiled(*case) for name, case in CASES.items()}
    options = {"compile": True, "precision": "float32"}
    results["elbo"]["repeated"], _ = train_small_model(vae(), elbo(), **options)
    results["elbo"]["resumed"] = train_resumed()
    results["annealed"] = train_with_weighted_term()
    for precision in ("float32", "bfloat16"):
        for name, compile in (("eager", False), ("compiled", True)):
            options = {"precision": precision, "compile": compile, "epochs": 20}
            _, losses = train_small_model(vae(batch_norm=True), elbo(), **options)
            results[f"{name}-{precision}"] = losses
    for precision in ("float32", "bfloat16"):  # initial scores are tied
        options = {"precision": precision, "compile": True, "y": np.arange(64) % 2}
        results[f"hinge-{precision}"] = train_small_model(vae(), hinge(), **options)[1]
    losses_by_name = {
        "class-conditional": class_conditional_losses,
        "linear-svm": linear_svm_losses,
    }
    for name, losses_of in losses_by_name.items():
        results[name] = {"eager": losses_of(False), "compiled": losses_of(True)}
    results["validate_args"] = Distribution._validate_args
    print(json.dumps(results))


if __name__ == "__main__":
    main()
