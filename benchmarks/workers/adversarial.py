"""Worker: a GAN with alternating updates, trained by ancestral or by a plain loop."""

from __future__ import annotations

import torch
from common import Clock, Task, Workload
from paired import gradient_step, measure_loop, run
from torch import Tensor, nn
from torch.nn.functional import softplus

WORKLOADS = {"GAN": Workload(k=1, warm_up=50, block=50)}
N_NOISE, N_PIXELS, LEARNING_RATE, BETAS = 100, 784, 2e-4, (0.5, 0.999)


def generator() -> nn.Sequential:
    """Generator network, noise [..., 100] to pixels [..., 784]."""
    layers = [nn.Linear(N_NOISE, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1200, N_PIXELS), nn.Sigmoid())


def critic() -> nn.Sequential:
    """Critic network, pixels [..., 784] to the log-odds of real data [..., 1]."""
    layers = [nn.Linear(N_PIXELS, 240), nn.LeakyReLU(), nn.Linear(240, 240), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(240, 1))


def by_ancestral(task: Task) -> Clock:
    """Measure training by ``ancestral.training.train`` with two players."""
    from ancestral_timer import Timer, measure

    from ancestral import Generator, Player
    from ancestral.objectives import critic_loss, generator_loss
    from ancestral.probability import standard_normal
    from ancestral.training.optim import adam

    model = nn.Module()
    model.generator = Generator(generator(), standard_normal(N_NOISE))
    model.critic = critic()
    players = {
        "critic": Player(model.critic, critic_loss(), adam(LEARNING_RATE, BETAS)),
        "generator": Player(model.generator, generator_loss(), adam(LEARNING_RATE, BETAS)),
    }
    return measure(task, model, players, Timer(task, critic_loss()))


def by_plain_loop(task: Task) -> Clock:
    """Measure training by an eager float32 loop."""
    g, d = generator(), critic()
    d_optimizer = torch.optim.Adam(d.parameters(), lr=LEARNING_RATE, betas=BETAS)
    g_optimizer = torch.optim.Adam(g.parameters(), lr=LEARNING_RATE, betas=BETAS)

    def critic_loss(x: Tensor) -> Tensor:
        with torch.no_grad():
            samples = g(torch.randn(len(x), N_NOISE))
        return softplus(-d(x)).mean() + softplus(d(samples)).mean()

    def train_step(x: Tensor) -> None:
        gradient_step(critic_loss(x), d_optimizer)
        generator_loss = softplus(-d(g(torch.randn(len(x), N_NOISE)))).mean()
        gradient_step(generator_loss, g_optimizer)

    return measure_loop(task, 1.0, critic_loss, train_step)


if __name__ == "__main__":
    run(WORKLOADS, {"ancestral": by_ancestral, "plain": by_plain_loop})
