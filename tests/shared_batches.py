"""Small models to train in one process, or under torchrun in several: run by test_parallel."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ancestral import engine, parallel
from ancestral.conditional import Bernoulli, Chain, Gaussian, standard_normal
from ancestral.data import Data
from ancestral.models import LatentModel
from ancestral.networks import MLP, Take
from ancestral.objectives import elbo, hinge, iwae, mmd, sparse_units
from ancestral.optim import adam, clipped, sgd
from ancestral.preprocess import bernoulli_draw
from ancestral.train import Player, train


def vae(batch_norm=False):
    style = {"activation": "relu", "batch_norm": batch_norm}
    with engine.seeded(0):
        model = LatentModel(
            standard_normal(3),
            Bernoulli(MLP(3, (16,), 20, **style)),
            Gaussian(MLP(20, (16,), heads=(3, 3), **style)),
        )
        model.classifier = nn.Linear(3, 2)
    return model


def two_layers():
    with engine.seeded(0):
        down = Gaussian(MLP(2, (8,), heads=(3, 3)))
        up = Gaussian(MLP(3, (8,), heads=(2, 2)))
        bottom = Gaussian(MLP(20, (8,), heads=(3, 3)))
        return LatentModel(
            Chain([standard_normal(2), down], (2, 3), reverse=True),
            Bernoulli(nn.Sequential(Take(0, 3), MLP(3, (8,), 20))),
            Chain([bottom, up], (3, 2)),
        )


CASES = {
    "iwae": (vae, lambda: iwae(4), {}),
    # without Adam, which makes steps of rounding errors where batch norm leaves no gradient
    "batch-norm": (lambda: vae(batch_norm=True), lambda: elbo(), {"optimizer": sgd(0.03)}),
    "hinge": (vae, lambda: elbo() + hinge(3.0), {}),
    "labelled": (vae, lambda: elbo() + hinge(3.0), {"n_labelled": 5}),  # no two equal parts
    "resampled": (vae, lambda: iwae(8, n_resampled=2), {}),
    "sparse": (vae, lambda: elbo() + sparse_units(), {}),
    "two-layers": (two_layers, lambda: iwae(3), {}),
    "compiled": (vae, lambda: elbo(), {"compile": True}),
}


def fitted(make, objective, *, optimizer=None, **how):
    x = np.random.default_rng(0).random((64, 20), dtype=np.float32)
    y = np.random.default_rng(1).integers(-1, 2, 64)
    model = make()
    player = Player(model, objective(), clipped(optimizer or adam(1e-2), 5.0))
    data = Data(x, y, on_batch=bernoulli_draw)
    history = train(model, player, data, max_epochs=3, batch_size=16, precision="float32", **how)
    end = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return {
        "end": end,
        "history": [{k: v for k, v in r.items() if k != "seconds"} for r in history],
    }


def refused(**how):
    try:
        fitted(vae, **how)
    except ValueError as error:
        return str(error)
    return ""


def main(out):
    parallel.join(torch.device("cpu"))
    results = {
        name: fitted(make, objective, **how) for name, (make, objective, how) in CASES.items()
    }
    results["mmd"] = refused(objective=lambda: mmd([1.0]))
    if parallel.is_main():
        out.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
