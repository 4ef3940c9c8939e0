"""Train small models in one process, or in several under torchrun; used by test_distributed.py."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ancestral.data.device_data import DeviceData, sample_bernoulli
from ancestral.models.latent import LatentModel
from ancestral.nn import MLP, Slice
from ancestral.objectives import elbo, hinge, iwae, mmd, sparsity_penalty
from ancestral.probability.composite import Chain
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import Player, engine, train
from ancestral.training.optim import adam, clip, sgd
from ancestral.utils import distributed


def vae(batch_norm=False):
    options = {"activation": "relu", "batch_norm": batch_norm}
    with engine.seeded_rng(0):
        model = LatentModel(
            standard_normal(3),
            Bernoulli(MLP(3, (16,), 20, **options)),
            Gaussian(MLP(20, (16,), heads=(3, 3), **options)),
        )
        model.classifier = nn.Linear(3, 2)
    return model


def two_layers():
    with engine.seeded_rng(0):
        down = Gaussian(MLP(2, (8,), heads=(3, 3)))
        up = Gaussian(MLP(3, (8,), heads=(2, 2)))
        bottom = Gaussian(MLP(20, (8,), heads=(3, 3)))
        return LatentModel(
            Chain([standard_normal(2), down], (2, 3), reverse=True),
            Bernoulli(nn.Sequential(Slice(0, 3), MLP(3, (8,), 20))),
            Chain([bottom, up], (3, 2)),
        )


CASES = {
    "iwae": (vae, lambda: iwae(4), {}),
    # Adam would amplify rounding errors of gradients that are zero because of batch norm
    "batch-norm": (lambda: vae(batch_norm=True), lambda: elbo(), {"optimizer": sgd(0.03)}),
    "hinge": (vae, lambda: elbo() + hinge(3.0), {}),
    "labelled": (vae, lambda: elbo() + hinge(3.0), {"n_labelled": 5}),  # shards have unequal counts
    "resampled": (vae, lambda: iwae(8, n_resampled=2), {}),
    "sparse": (vae, lambda: elbo() + sparsity_penalty(), {}),
    "two-layers": (two_layers, lambda: iwae(3), {}),
    "compiled": (vae, lambda: elbo(), {"compile": True}),
}


def train_small_model(make_model, objective, *, optimizer=None, **kwargs):
    """Train a model on random images; return its parameters and history without times."""
    x = np.random.default_rng(0).random((64, 20), dtype=np.float32)
    y = np.random.default_rng(1).integers(-1, 2, 64)
    model = make_model()
    player = Player(model, objective(), clip(optimizer or adam(1e-2), 5.0))
    data = DeviceData(x, y, batch_transform=sample_bernoulli)
    kwargs = kwargs | {"max_epochs": 3, "batch_size": 16, "precision": "float32"}
    history = train(model, player, data, **kwargs)
    parameters = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
    return {
        "parameters": parameters,
        "history": [{k: v for k, v in r.items() if k != "seconds"} for r in history],
    }


def error_message(objective):
    """Message of the ValueError that training raises, or an empty string."""
    try:
        train_small_model(vae, objective)
    except ValueError as error:
        return str(error)
    return ""


def main(path):
    distributed.init_process_group(torch.device("cpu"))
    results = {
        name: train_small_model(make_model, objective, **options)
        for name, (make_model, objective, options) in CASES.items()
    }
    results["mmd"] = error_message(lambda: mmd([1.0]))
    if distributed.is_main():
        path.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
