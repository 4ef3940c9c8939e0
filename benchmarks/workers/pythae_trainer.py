"""Worker: VAE and IWAE of pythae in its training pipeline."""

from __future__ import annotations

import contextlib
import sys
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import (
    BATCH_SIZE,
    LEARNING_RATE,
    N_LATENTS,
    N_PIXELS,
    Clock,
    MeasurementComplete,
    log_odds,
    parse_task,
    record_import_memory,
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
    """Encoder of the task with pythae's interface."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Encoder()

    def forward(self, x: Tensor) -> ModelOutput:
        """Mean and log-variance."""
        mean, log_var = self.network(x.flatten(1))
        return ModelOutput(embedding=mean, log_covariance=log_var)


class DenseDecoder(BaseDecoder):
    """Decoder of the task with pythae's interface, which expects probabilities."""

    def __init__(self, bias: np.ndarray) -> None:
        super().__init__()
        self.network = decoder(bias)

    def forward(self, z: Tensor) -> ModelOutput:
        """Probabilities of the pixels."""
        return ModelOutput(reconstruction=torch.sigmoid(self.network(z)))


class Timer(TrainingCallback):
    """Callback that advances the clock at every step."""

    def __init__(self) -> None:
        self.clock: Clock | None = None

    def on_train_begin(self, training_config: object, **kwargs: object) -> None:  # noqa: ARG002
        """Start the clock."""
        assert self.clock is not None
        self.clock.start()

    def on_train_step_end(self, training_config: object, **kwargs: object) -> None:  # noqa: ARG002
        """Advance the clock at the end of a minibatch."""
        assert self.clock is not None
        self.clock.tick_or_stop()


def make_model(k: int, bias: np.ndarray) -> VAE | IWAE:
    """Pythae's VAE for k = 1, otherwise its IWAE with ``k`` samples."""
    common = {"input_dim": (N_PIXELS,), "latent_dim": N_LATENTS, "reconstruction_loss": "bce"}
    networks = {"encoder": DenseEncoder(), "decoder": DenseDecoder(bias)}
    if k == 1:
        return VAE(VAEConfig(**common), **networks)
    return IWAE(IWAEConfig(number_samples=k, **common), **networks)


def negative_bound(model: VAE | IWAE, x: Tensor, k: int) -> Tensor:
    """Negative bound in nats per image.

    The loss that pythae's IWAE returns is the mean of the log-weights weighted by their softmax. It
    has the gradient of the bound but not its value, which is therefore computed here.
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
    """Measure training, and report."""
    record_import_memory()
    task = parse_task()
    torch.set_flush_denormal(task.flush_denormals)
    torch.manual_seed(task.seed)
    model = make_model(task.workload.k, log_odds(task.rows))

    @torch.no_grad()
    def loss_of(batch: np.ndarray) -> float:
        return negative_bound(model, torch.from_numpy(batch).float(), task.workload.k).item()

    timer = Timer()
    timer.clock = task.clock(loss_of)
    with TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        settings = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=1_000_000,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            optimizer_cls="Adam",
            seed=task.seed,
            no_cuda=True,
        )
        pipeline = TrainingPipeline(training_config=settings, model=model)
        with contextlib.suppress(MeasurementComplete):
            pipeline(train_data=task.rows.astype(np.float32), callbacks=[timer])
    report("pythae", "its trainer", task, timer.clock, ["pythae", "torch"])


if __name__ == "__main__":
    main()
