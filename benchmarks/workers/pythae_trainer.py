"""Worker: pythae's VAE and IWAE models in its training pipeline."""

from __future__ import annotations

import contextlib
import sys
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import (
    BATCH,
    N_LATENTS,
    N_PIXELS,
    RATE,
    Clock,
    Enough,
    log_odds,
    note_imports,
    read_task,
    report,
)
from pythae.data.datasets import DatasetOutput
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor
from torch.nn.functional import binary_cross_entropy
from torch_nets import Encoder, decoder


class DenseEncoder(BaseEncoder):
    """The task's encoder in pythae's form."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Encoder()

    def forward(self, x: Tensor) -> ModelOutput:
        """Return mean and log-variance."""
        mean, log_var = self.network(x.flatten(1))
        return ModelOutput(embedding=mean, log_covariance=log_var)


class DenseDecoder(BaseDecoder):
    """The task's decoder in pythae's form, which wants probabilities."""

    def __init__(self, bias: np.ndarray) -> None:
        super().__init__()
        self.network = decoder(bias)

    def forward(self, z: Tensor) -> ModelOutput:
        """Return the pixels' probabilities."""
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


class Timer(TrainingCallback):
    """Tells the clock of every step."""

    def __init__(self) -> None:
        self.clock: Clock | None = None

    def on_train_begin(self, training_config: object, **kwargs: object) -> None:  # noqa: ARG002
        """Start."""
        assert self.clock is not None
        self.clock.start()

    def on_train_step_end(self, training_config: object, **kwargs: object) -> None:  # noqa: ARG002
        """Count (pythae calls the end of a minibatch so)."""
        assert self.clock is not None
        self.clock.tick_or_stop()


def make_model(k: int, bias: np.ndarray) -> VAE | IWAE:
    """Return pythae's VAE, or its IWAE with ``k`` samples."""
    common = {"input_dim": (N_PIXELS,), "latent_dim": N_LATENTS, "reconstruction_loss": "bce"}
    networks = {"encoder": DenseEncoder(), "decoder": DenseDecoder(bias)}
    if k == 1:
        return VAE(VAEConfig(**common), **networks)
    return IWAE(IWAEConfig(number_samples=k, **common), **networks)


def negative_bound(model: VAE | IWAE, x: Tensor, k: int) -> Tensor:
    """Return the negative bound in nats per image, whose gradient pythae follows.

    pythae's IWAE returns another number as its loss, the log-weights averaged by their own
    softmax. That has the gradient of the bound but not its value, so the value is computed here.
    """
    if k == 1:
        return model(DatasetOutput(data=x)).loss
    code = model.encoder(x)
    mean, log_var = code.embedding, code.log_covariance
    noise = torch.randn(k, *mean.shape)
    z = mean + torch.exp(0.5 * log_var) * noise
    p = model.decoder(z)["reconstruction"]
    nats = binary_cross_entropy(p, x.expand_as(p), reduction="none").sum(-1)
    log_w = 0.5 * (noise.square() + log_var - z.square()).sum(-1) - nats
    return (np.log(k) - torch.logsumexp(log_w, 0)).mean()


def main() -> None:
    """Train, measure, report."""
    note_imports()
    task = read_task()
    torch.set_flush_denormal(task.flush_denormals)
    torch.manual_seed(task.seed)
    model = make_model(task.workload.k, log_odds(task.rows))

    @torch.no_grad()
    def loss_of(part: np.ndarray) -> float:
        return negative_bound(model, torch.from_numpy(part).float(), task.workload.k).item()

    timer = Timer()
    timer.clock = task.clock(loss_of)
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1_000_000,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            optimizer_cls="Adam",
            seed=task.seed,
            no_cuda=True,
        )
        pipeline = TrainingPipeline(training_config=settings, model=model)
        with contextlib.suppress(Enough):
            pipeline(train_data=task.rows.astype(np.float32), callbacks=[timer])
    report("pythae", "its trainer", task, timer.clock, ["pythae", "torch"])


if __name__ == "__main__":
    main()
