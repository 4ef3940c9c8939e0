"""Worker: Pyro's stochastic variational inference on a VAE.

As its tutorial on VAEs has it: two modules, a model and a guide with the images in a plate, SVI
over a DataLoader. ``--lean`` is the same with what a user in a hurry would change: rows taken by
index, and Pyro's validation of every distribution switched off.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from common import BATCH, N_LATENTS, RATE, Task, log_odds, note_imports, read_task, report
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from pyro.optim import Adam
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch_nets import Encoder, decoder


class Autoencoder(nn.Module):
    """Encoder and decoder as Pyro's guide and model."""

    def __init__(self, bias: np.ndarray) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(), decoder(bias)

    def model(self, x: Tensor) -> None:
        """p(z) p(x | z)."""
        pyro.module("decoder", self.decoder)
        # all sites are inside the plate: its axis stays a batch axis of every log-probability
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
    """Return Pyro's ELBO, or its importance weighted bound (a Renyi bound of order zero).

    The samples of the latter get a plate of their own outside the images' plate. Both plates
    hold every site, so Pyro keeps log-weights [k, batch], averages weights over k for every
    image, and only then sums over the images.
    """
    if k == 1:
        return Trace_ELBO()
    return RenyiELBO(alpha=0, num_particles=k, vectorize_particles=True, max_plate_nesting=1)


def rows_by_loader(rows: Tensor) -> Iterator[Tensor]:
    """Yield minibatches from a DataLoader for ever."""
    loader = DataLoader(TensorDataset(rows), batch_size=BATCH, shuffle=True)
    while True:
        for (x,) in loader:
            yield x


def rows_by_index(task: Task, rows: Tensor) -> Iterator[Tensor]:
    """Yield minibatches by indexing for ever."""
    for index in task.batches():
        yield rows[torch.from_numpy(index)]


def main() -> None:
    """Train, measure, report."""
    note_imports()
    task = read_task(lambda parser: parser.add_argument("--lean", action="store_true"))
    lean = task.options.lean
    torch.set_flush_denormal(task.flush_denormals)
    pyro.set_rng_seed(task.seed)
    if lean:
        pyro.enable_validation(False)
    rows = torch.from_numpy(task.rows).float()
    vae = Autoencoder(log_odds(task.rows))
    svi = SVI(vae.model, vae.guide, Adam({"lr": RATE}), loss=bound(task.workload.k))

    def loss_of(part: np.ndarray) -> float:
        return svi.evaluate_loss(torch.from_numpy(part).float()) / len(part)

    clock = task.clock(loss_of)
    clock.start()
    for x in rows_by_index(task, rows) if lean else rows_by_loader(rows):
        svi.step(x)
        if not clock.tick():
            break
    variant = "index loader, no validation" if lean else "as in its tutorial"
    report("Pyro", variant, task, clock, ["pyro-ppl", "torch"])


if __name__ == "__main__":
    main()
