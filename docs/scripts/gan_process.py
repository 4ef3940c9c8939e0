"""Figure of GAN training in one dimension: densities, critic and map of the noise.

Usage:  python docs/scripts/gan_process.py     (some seconds; writes docs/images/gan-process.svg)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm

from ancestral import DeviceData, Generator, Player
from ancestral.models import AdversarialPair
from ancestral.nn import MLP
from ancestral.objectives import critic_loss, generator_loss, gradient_penalty
from ancestral.probability import standard_normal
from ancestral.training import Progress, train
from ancestral.training.optim import adam, cosine

FIGURE = Path(__file__).resolve().parent.parent / "images" / "gan-process.svg"
MEAN, STD = 0.8, 0.55
LEFT, RIGHT, N_BINS = -2.8, 2.8, 400
MIN_DENSITY = 2e-3
STEPS = (15, 60, 150, 1600)
INK, DATA, MODEL, CRITIC, PAPER = "#22303c", "#7d8ba0", "#b5652a", "#2f6f8f", "#fffdf9"


class Snapshot(NamedTuple):
    """State of the training after some steps.

    Attributes
    ----------
    step : int
        Number of training steps.
    x, p, q, critic : array [n_bins]
        Grid, density of the data, density of the generator, output of the critic.
    z, sample : array [n]
        Noise and its image under the generator.
    """

    step: int
    x: np.ndarray
    p: np.ndarray
    q: np.ndarray
    critic: np.ndarray
    z: np.ndarray
    sample: np.ndarray

    @property
    def best_critic(self) -> np.ndarray:
        """Optimal critic D* = p / (p + q); NaN where p + q is negligible."""
        total = self.p + self.q
        return np.where(total > MIN_DENSITY, self.p / total, np.nan)


def data_density(x: np.ndarray) -> np.ndarray:
    """p(x) of the data."""
    return norm.pdf(x, MEAN, STD)


@torch.no_grad()
def snapshot(pair: AdversarialPair, step: int) -> Snapshot:
    """Current densities, critic and map of the noise."""
    x = np.linspace(LEFT, RIGHT, N_BINS)

    def generate(z: np.ndarray) -> np.ndarray:
        return pair.generator.generate(torch.from_numpy(z).float()[:, None])[:, 0].numpy()

    # q(x): histogram of the generator's values at quantiles of the noise
    samples = generate(norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    edges = np.linspace(LEFT, RIGHT, N_BINS + 1)
    width = edges[1] - edges[0]
    q = np.histogram(samples, edges)[0] / (len(samples) * width)
    z = np.linspace(-2.4, 2.4, 25)
    critic = pair.critic(torch.from_numpy(x).float()[:, None]).sigmoid()[:, 0].numpy()
    smooth_q = gaussian_filter1d(q, 2.0)
    return Snapshot(step, x, data_density(x), smooth_q, critic, z, generate(z))


def train_gan(steps: Sequence[int] = STEPS) -> list[Snapshot]:
    """Train a GAN, and return snapshots after the given numbers of steps."""
    torch.manual_seed(2)
    pair = AdversarialPair(Generator(MLP(1, (32, 32), 1), standard_normal(1)), MLP(1, (64, 64), 1))
    with torch.no_grad():
        pair.generator.network[-1].bias.fill_(-1)  # initial samples away from the data
    betas = (0.5, 0.999)
    critic_objective = critic_loss() + gradient_penalty(0.02)
    players = {
        "critic": Player(pair.critic, critic_objective, adam(cosine(6e-3), betas), repeat=4),
        "generator": Player(pair.generator, generator_loss(), adam(cosine(2e-3), betas)),
    }
    snapshots: list[Snapshot] = []

    def record(progress: Progress) -> None:
        if progress.event == "step" and progress.step in steps:
            snapshots.append(snapshot(pair, progress.step))

    batch_size = 250
    n_rows = batch_size * min(80, steps[-1])
    rows = np.random.default_rng(0).normal(MEAN, STD, size=(n_rows, 1))
    train(
        pair,
        players,
        DeviceData(rows),
        max_epochs=-(-steps[-1] * batch_size // n_rows),
        batch_size=batch_size,
        precision="float32",
        callbacks=[record],
    )
    return snapshots


def draw_snapshot(top: Axes, bottom: Axes, state: Snapshot) -> None:
    """Draw densities and critic (top), and the map from noise to samples (bottom)."""
    top.fill_between(state.x, state.p, color=DATA, alpha=0.35, lw=0)
    top.plot(state.x, state.q, color=MODEL, lw=1.8)
    top.plot(state.x, state.best_critic, color=CRITIC, lw=1.4, ls=(0, (4, 2)))
    top.plot(state.x, state.critic, color=CRITIC, lw=1.8)
    top.set(ylim=(0, 1.06), xlim=(LEFT, RIGHT), yticks=[0, 0.5, 1], xticks=[])
    top.set_title(f"after {state.step:,} step{'s' * (state.step > 1)}")
    scaled_noise = (LEFT + RIGHT) / 2 + state.z * (RIGHT - LEFT) / 5
    for start, end in zip(scaled_noise, state.sample, strict=True):
        bottom.plot([start, end], [0, 1], color=INK, lw=0.6, alpha=0.7)
    for height in (0, 1):
        bottom.axhline(height, color=INK, lw=1)
    bottom.set(xlim=(LEFT, RIGHT), ylim=(-0.02, 1.02), xticks=[], yticks=[0, 1])
    bottom.set_yticklabels(["noise z", "x = G(z)"])
    for axes in (top, bottom):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)


def draw(snapshots: Sequence[Snapshot]) -> Figure:
    """Figure with a column per snapshot."""
    size = (2.9 * len(snapshots), 4.4)
    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    grid = figure.subplots(2, len(snapshots), height_ratios=(2.2, 1), sharey="row", squeeze=False)
    for top, bottom, state in zip(*grid, snapshots, strict=True):
        top.set_facecolor(PAPER)
        bottom.set_facecolor(PAPER)
        draw_snapshot(top, bottom, state)
    patch = mpl.patches.Patch(color=DATA, alpha=0.35, lw=0)
    lines = [
        mpl.lines.Line2D([], [], color=MODEL, lw=1.8),
        mpl.lines.Line2D([], [], color=CRITIC, lw=1.8),
        mpl.lines.Line2D([], [], color=CRITIC, lw=1.4, ls=(0, (4, 2))),
    ]
    names = ["data p(x)", "samples q(x)", "critic D(x)", "best critic p / (p + q)"]
    figure.legend([patch, *lines], names, loc="outside lower center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    style = {
        "svg.hashsalt": "gan-process",
        "svg.fonttype": "none",
        "text.color": INK,
        "font.family": "sans-serif",
        "ytick.labelcolor": INK,
    }
    with mpl.rc_context(style):
        draw(train_gan()).savefig(FIGURE, metadata={"Date": None})
    print(FIGURE)
