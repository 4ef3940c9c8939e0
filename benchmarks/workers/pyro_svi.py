"""Worker: stochastic variational inference of a VAE in Pyro.

As in its VAE tutorial: two modules, a model and a guide with the images in a plate, and SVI over a
DataLoader. With ``--lean``, minibatches are indexed directly and Pyro's validation of distributions
is off.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from common import (
    BATCH_SIZE,
    LEARNING_RATE,
    N_LATENTS,
    Task,
    log_odds,
    parse_task,
    record_import_memory,
    report,
)
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch_nets import Encoder, decoder


class Autoencoder(nn.Module):
    """Guide and model of Pyro with encoder and decoder."""

    def __init__(self, bias: np.ndarray) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), decoder(bias)

    def model(self, x: Tensor) -> None:
        """p(z) p(x | z)."""
        pyro.module("decoder", self.decoder)
        # all sites are inside the plate: its axis remains a batch axis of every log-probability
        with pyro.plate("images", len(x)):
            prior = dist.Normal(x.new_zeros(len(x), N_LATENTS), x.new_ones(len(x), N_LATENTS))
            z = pyro.sample("latent", prior.to_event(1))
            pyro.sample("pixels", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        """q(z | x)."""
        pyro.module("encoder", self.encoder)
        with pyro.plate("images", len(x)):
            mean, log_var = self.encoder(x)
            pyro.sample("latent", dist.Normal(mean, torch.exp(0.5 * log_var)).to_event(1))


def bound(k: int) -> Trace_ELBO | RenyiELBO:
    """Pyro's ELBO for k = 1, otherwise its importance weighted bound.

    The latter is a Renyi bound of order zero. Its samples have a separate plate outside that of the
    images. Both plates contain every site, so that Pyro computes log-weights [k, batch], averages
    weights over k for each image, and then sums over the images.
    """
    if k == 1:
        return Trace_ELBO()
    return RenyiELBO(alpha=0, num_particles=k, vectorize_particles=True, max_plate_nesting=1)


def batches_from_loader(rows: Tensor) -> Iterator[Tensor]:
    """Yield minibatches from a DataLoader without end."""
    loader = DataLoader(TensorDataset(rows), batch_size=BATCH_SIZE, shuffle=True)
    while True:
        for (x,) in loader:
            yield x


def batches_by_index(task: Task, rows: Tensor) -> Iterator[Tensor]:
    """Yield minibatches by indexing without end."""
    for index in task.batches():
        yield rows[torch.from_numpy(index)]


def main() -> None:
    """Measure training, and report."""
    record_import_memory()
    task = parse_task(lambda parser: parser.add_argument("--lean", action="store_true"))
    lean = task.options.lean
    torch.set_flush_denormal(task.flush_denormals)
    pyro.set_rng_seed(task.seed)
    if lean:
        pyro.enable_validation(False)
    rows = torch.from_numpy(task.rows).float()
    vae = Autoencoder(log_odds(task.rows))
    svi = SVI(vae.model, vae.guide, Adam({"lr": LEARNING_RATE}), loss=bound(task.workload.k))

    def loss_of(batch: np.ndarray) -> float:
        return svi.evaluate_loss(torch.from_numpy(batch).float()) / len(batch)

    clock = task.clock(loss_of)
    clock.start()
    for x in batches_by_index(task, rows) if lean else batches_from_loader(rows):
        svi.step(x)
        if not clock.tick():
            break
    variant = "index loader, no validation" if lean else "as in its tutorial"
    report("Pyro", variant, task, clock, ["pyro-ppl", "torch"])


if __name__ == "__main__":
    main()
