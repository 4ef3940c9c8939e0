"""Worker: a small convolutional VAE on colour images of 32x32, by ancestral or a plain loop."""

from __future__ import annotations

from itertools import pairwise

import torch
from common import LEARNING_RATE, Clock, Task, Workload
from paired import gradient_step, measure_loop, parameters, run
from torch import Tensor, nn
from torch.distributions import Normal

WORKLOADS = {"convolution": Workload(k=1, warm_up=10, block=5)}
SHAPE, CHANNELS, N_LATENTS, LOG_VAR = (3, 32, 32), (64, 64, 128), 64, -4.0
UNIT = 1 / 255


class Encoder(nn.Module):
    """Rows [..., 3072] to mean and log-variance [..., 64]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((3, *CHANNELS)):
            layers += [nn.Conv2d(n_in, n_out, 4, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        width = CHANNELS[-1] * 4 * 4
        self.mean, self.log_var = nn.Linear(width, N_LATENTS), nn.Linear(width, N_LATENTS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance."""
        h = self.convolutions(x.reshape(-1, *SHAPE))
        shape = (*x.shape[:-1], -1)
        return self.mean(h).view(shape), self.log_var(h).view(shape)


class Decoder(nn.Module):
    """Latents [..., 64] to means of the pixels [..., 3072]."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(N_LATENTS, CHANNELS[-1] * 4 * 4)
        layers: list[nn.Module] = []
        widths = (*CHANNELS[::-1], 3)
        for n_in, n_out in pairwise(widths):
            layers += [nn.ReLU(), nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Means of the pixels."""
        h = self.dense(z.reshape(-1, z.shape[-1])).view(-1, CHANNELS[-1], 4, 4)
        return self.convolutions(h).reshape(*z.shape[:-1], -1)


def by_ancestral(task: Task) -> Clock:
    """Measure training by ``ancestral.training.train``."""
    from ancestral_timer import Timer, measure

    from ancestral import LatentModel, Player
    from ancestral.objectives import elbo
    from ancestral.probability import Gaussian, standard_normal
    from ancestral.training.optim import adam

    posterior, likelihood = Gaussian(Encoder()), Gaussian(Decoder(), log_var=LOG_VAR)
    model = LatentModel(standard_normal(N_LATENTS), likelihood, posterior)
    player = Player(model, elbo(), adam(LEARNING_RATE))
    return measure(task, model, player, Timer(task, elbo(), UNIT))


def by_plain_loop(task: Task) -> Clock:
    """Measure training by an eager float32 loop."""
    encoder, decoder = Encoder(), Decoder()
    optimizer = torch.optim.Adam(parameters(encoder, decoder), lr=LEARNING_RATE)
    scale = torch.tensor(LOG_VAR / 2).exp()

    def loss_of(x: Tensor) -> Tensor:
        mean, log_var = encoder(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1)
        return (kl - Normal(decoder(z), scale, validate_args=False).log_prob(x).sum(-1)).mean()

    return measure_loop(task, UNIT, loss_of, lambda x: gradient_step(loss_of(x), optimizer))


if __name__ == "__main__":
    run(WORKLOADS, {"ancestral": by_ancestral, "plain": by_plain_loop})
