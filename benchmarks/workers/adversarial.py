"""Worker: a GAN, critic and generator moving in turn, by ancestral or a plain loop."""

from __future__ import annotations

import torch
from common import Clock, Task, Workload
from side import measure_loop, run_sides, step
from torch import Tensor, nn
from torch.nn.functional import softplus

WORKLOADS = {"GAN": Workload(k=1, warm_up=50, block=50)}
N_NOISE, N_PIXELS, RATE, BETAS = 100, 784, 2e-4, (0.5, 0.999)


def generator() -> nn.Sequential:
    """Noise [..., 100] to pixels [..., 784]."""
    layers = [nn.Linear(N_NOISE, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(1200, N_PIXELS), nn.Sigmoid())


def critic() -> nn.Sequential:
    """Pixels [..., 784] to the log-odds of "comes from the data" [..., 1]."""
    layers = [nn.Linear(N_PIXELS, 240), nn.LeakyReLU(), nn.Linear(240, 240), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Linear(240, 1))


def by_ancestral(task: Task) -> Clock:
    """Train two players by ``ancestral.training.train``."""
    from ancestral_timer import Timer, measure

    from ancestral import Generator, Player
    from ancestral.objectives import critic_loss, generator_loss
    from ancestral.probability.conditionals import standard_normal
    from ancestral.training.optim import adam

    model = nn.Module()
    model.generator = Generator(generator(), standard_normal(N_NOISE))
    model.critic = critic()
    players = {
        "critic": Player(model.critic, critic_loss(), adam(RATE, BETAS)),
        "generator": Player(model.generator, generator_loss(), adam(RATE, BETAS)),
    }
    return measure(task, model, players, Timer(task, critic_loss()))


def by_plain_loop(task: Task) -> Clock:
    """Train in an eager float32 loop."""
    draw, judge = generator(), critic()
    judging = torch.optim.Adam(judge.parameters(), lr=RATE, betas=BETAS)
    drawing = torch.optim.Adam(draw.parameters(), lr=RATE, betas=BETAS)

    def critic_loss(x: Tensor) -> Tensor:
        with torch.no_grad():
            fake = draw(torch.randn(len(x), N_NOISE))
        return softplus(-judge(x)).mean() + softplus(judge(fake)).mean()

    def move(x: Tensor) -> None:
        step(critic_loss(x), judging)
        fooled = softplus(-judge(draw(torch.randn(len(x), N_NOISE)))).mean()
        step(fooled, drawing)

    return measure_loop(task, 1.0, critic_loss, move)


if __name__ == "__main__":
    run_sides(WORKLOADS, {"ancestral": by_ancestral, "plain": by_plain_loop})
