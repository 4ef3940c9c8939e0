"""Worker: time of L_5000 of 10,000 test images, by ancestral or a plain loop.

Both evaluate the same images with the same model, trained for one epoch: a tenth of the test
images with all samples, or all images with ``--all``. The time includes compilation.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from common import HIDDEN, N_LATENTS, N_PIXELS, Task, Workload, parse_task
from paired import add_implementation
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ancestral import DeviceData, LatentModel, Player
from ancestral.evaluation.log_likelihood import log_likelihood
from ancestral.nn import MLP
from ancestral.objectives import elbo
from ancestral.probability import Bernoulli, Gaussian, standard_normal
from ancestral.training import train

N_SAMPLES, N_IMAGES, N_PART, CHUNK = 5000, 10_000, 1000, 100
N_TRAINING = 20_000
WORKLOADS = {"likelihood": Workload(k=N_SAMPLES, warm_up=2, block=1)}

Score = Callable[[np.ndarray, int], np.ndarray]


def trained_model(task: Task) -> LatentModel:
    """Model of the workloads after one epoch."""
    widths = (HIDDEN, HIDDEN)
    model = LatentModel(
        prior=standard_normal(N_LATENTS),
        likelihood=Bernoulli(MLP(N_LATENTS, widths, N_PIXELS)),
        posterior=Gaussian(MLP(N_PIXELS, widths, heads=(N_LATENTS, N_LATENTS))),
    )
    train(model, Player(model, elbo()), DeviceData(task.rows[:N_TRAINING]), max_epochs=1)
    return model


def by_ancestral(model: LatentModel) -> Score:
    """Estimator of log p(x) by ancestral."""
    return lambda rows, n: log_likelihood(model, DeviceData(rows), n).values


def by_plain_loop(model: LatentModel) -> Score:
    """Estimator of log p(x) in eager float32."""
    encode, decode = model.posterior.network, model.likelihood.network

    def log_weights(x: Tensor, n: int) -> Tensor:
        mean, log_var = encode(x)
        noise = torch.randn(n, *mean.shape)
        z = mean + torch.exp(0.5 * log_var) * noise
        logits = decode(z)
        nats = binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none")
        return 0.5 * (noise.square() + log_var - z.square()).sum(-1) - nats.sum(-1)

    @torch.no_grad()
    def score(rows: np.ndarray, n: int) -> np.ndarray:
        log_likelihoods = []
        for x in torch.from_numpy(rows).float().split(CHUNK):
            parts = [log_weights(x, CHUNK).logsumexp(0) for _ in range(n // CHUNK)]
            log_likelihoods.append(torch.stack(parts).logsumexp(0) - math.log(n))
        return torch.cat(log_likelihoods).numpy()

    return score


def measure(score: Score, rows: np.ndarray) -> tuple[list[float], float]:
    """Seconds scaled to 10,000 rows, and mean log-likelihood of the rows."""
    start = perf_counter()
    mean = float(score(rows, N_SAMPLES).mean())
    return [(perf_counter() - start) * N_IMAGES / len(rows)], mean


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of this worker."""
    add_implementation(parser)
    parser.add_argument("--test-data", required=True, help="test rows, .npy")
    parser.add_argument("--all", action="store_true")


def main() -> None:
    """Measure the evaluation of a model, and report."""
    task = parse_task(configure, WORKLOADS)
    torch.set_flush_denormal(task.flush_denormals)
    torch.manual_seed(task.seed)
    model, test = trained_model(task), np.load(task.options.test_data)
    estimators = {"ancestral": by_ancestral, "plain": by_plain_loop}
    score = estimators[task.options.implementation](model)
    seconds, mean = measure(score, test if task.options.all else test[:N_PART])
    line = {"workload": "likelihood", "seconds_for_10000": seconds, "mean": mean}
    print(json.dumps(line | {"all_rows": task.options.all}))


if __name__ == "__main__":
    main()
