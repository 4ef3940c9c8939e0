"""Trains small models compiled and uncompiled and prints where they end: run by test_engine.

In a process of its own, since functions whose types are checked at run time can't be compiled.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.distributions import Distribution

from ancestral import ClassConditionalVAE, engine
from ancestral.checkpoint import Checkpoint
from ancestral.conditional import Bernoulli, Gaussian, standard_normal
from ancestral.data import Data
from ancestral.labels import linear_scores
from ancestral.models import FeatureModel, LatentModel
from ancestral.networks import MLP, Read
from ancestral.objectives import Objective, elbo, hinge, iwae
from ancestral.optim import adam, averaged, clipped
from ancestral.preprocess import bernoulli_draw
from ancestral.train import Player, train

CASES = {
    "elbo": (lambda: elbo(), {}, {}),
    "iwae-batch-norm-clipped-averaged": (
        lambda: iwae(5),
        {"batch_norm": True},
        {"optimizer": averaged(clipped(adam(1e-2, eps=1e-4), 5.0, 1.0))},
    ),
    "doubly": (lambda: iwae(4, "doubly"), {}, {}),
    "elbo-hinge": (lambda: elbo() + hinge(2.0), {}, {"y": np.arange(64) % 3 - 1}),
}


def vae(d=20, batch_norm=False):
    style = {"activation": "relu" if batch_norm else "tanh", "batch_norm": batch_norm}
    with engine.seeded(0):
        model = LatentModel(
            standard_normal(3),
            Bernoulli(MLP(3, (16,), d, **style)),
            Gaussian(MLP(d, (16,), heads=(3, 3), **style)),
        )
        model.classifier = linear_scores(3, 2)
    return model


def end(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def fitted(model, objective, *, optimizer=None, epochs=3, y=None, device="cpu", **how):
    x = np.random.default_rng(0).random((64, 20), dtype=np.float32)
    player = Player(model.to(device), objective, optimizer or adam(1e-2))
    data = Data(x, y, on_batch=bernoulli_draw, device=device)
    history = train(model, player, data, max_epochs=epochs, batch_size=16, **how)
    return end(model), history.curve("loss")


def both_ways(objective, style, how):
    how = how | {"precision": "float32"}
    plain, plain_losses = fitted(vae(**style), objective(), compile=False, **how)
    compiled, compiled_losses = fitted(vae(**style), objective(), compile=True, **how)
    return {
        "start": end(vae(**style)),
        "plain": plain,
        "plain_losses": plain_losses,
        "compiled": compiled,
        "compiled_losses": compiled_losses,
    }


def resumed():
    """Stopped after five steps, then gone on with from the checkpoint, which knows it compiled."""

    class StoppedError(Exception):
        pass

    def stop(progress):
        if progress.event == "step" and progress.step == 5:
            raise StoppedError

    with tempfile.TemporaryDirectory() as folder:
        kept = Checkpoint(Path(folder) / "state", identity="elbo", every=0.0)
        with contextlib.suppress(StoppedError):
            how = {"compile": True, "precision": "float32", "callbacks": [stop]}
            fitted(vae(), elbo(), checkpoint=kept, **how)
        return fitted(vae(), elbo(), checkpoint=kept)[0]


class Weighted:
    """A term whose weight is doubled after every epoch."""

    weight = 1.0

    def __call__(self, model, run):
        return self.weight * model.weight.square().sum()

    def double(self, progress):
        self.weight *= 2 if progress.event == "epoch" else 1


def annealed():
    term, model = Weighted(), nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(1.0)
    player = Player(model, Objective({"size": term}, lambda model, batch: None), adam(0.0))
    data, how = Data(torch.zeros(4, 1)), {"compile": True, "callbacks": [term.double]}
    return train(model, player, data, max_epochs=3, **how).curve("size")


def told(compile):
    """M2, some rows without a label: classes are summed over, and its networks read a context."""
    x = np.random.default_rng(0).integers(0, 2, (64, 20))
    y = np.where(np.arange(64) < 40, x[:, 0], -1)
    how = {"hidden": (16,), "n_latents": 2, "max_epochs": 3, "batch_size": 16, "random_state": 0}
    m2 = ClassConditionalVAE(**how, compile=compile, precision="float32", device="cpu").fit(x, y)
    return m2.history_.curve("loss")


def separated(compile):
    """A machine on rows that it reads from a context."""
    machine = FeatureModel(Read("x"), linear_scores(20, 2))
    loss = hinge(1.0, 1.0, lambda run: run.taps["features"])
    how = {"compile": compile, "y": np.arange(64) % 2, "precision": "float32"}
    return fitted(machine, loss, **how)[1]


def main():
    results = {name: both_ways(*case) for name, case in CASES.items()}
    results["elbo"]["again"], _ = fitted(vae(), elbo(), compile=True, precision="float32")
    results["elbo"]["resumed"] = resumed()
    results["annealed"] = annealed()
    for precision in ("float32", "bfloat16"):
        for name, compile in (("plain", False), ("compiled", True)):
            how = {"precision": precision, "compile": compile, "epochs": 20}
            _, losses = fitted(vae(batch_norm=True), elbo(), **how)
            results[f"{name}-{precision}"] = losses
    for precision in ("float32", "bfloat16"):  # scores that start as ties
        how = {"precision": precision, "compile": True, "y": np.arange(64) % 2}
        results[f"hinge-{precision}"] = fitted(vae(), hinge(), **how)[1]
    for name, learn in (("told", told), ("separated", separated)):
        results[name] = {"plain": learn(False), "compiled": learn(True)}
    results["validates"] = Distribution._validate_args
    print(json.dumps(results))


if __name__ == "__main__":
    main()
