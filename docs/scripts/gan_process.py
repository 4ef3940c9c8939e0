"""Draw how a game is played out on the line: densities, the critic, and where noise goes.

Run it:  python docs/process.py     (trains for some seconds, writes docs/images/gan-process.svg)
"""

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
from ancestral.estimators.base.implicit import noise
from ancestral.models.implicit import AdversarialPair
from ancestral.nn import MLP
from ancestral.objectives import critic_loss, generator_loss, gradient_penalty
from ancestral.training import Progress, train
from ancestral.training.optim import adam, cosine

TARGET = Path(__file__).parent / "images" / "gan-process.svg"
MEAN, WIDTH = 0.8, 0.55
LEFT, RIGHT, BINS = -2.8, 2.8, 400
SEEN = 2e-3
MOMENTS = (15, 60, 150, 1600)
INK, DATA, MODEL, CRITIC, PAPER = "#22303c", "#7d8ba0", "#b5652a", "#2f6f8f", "#fffdf9"


class Moment(NamedTuple):
    """Where the game stands after some steps, on a grid of x and at some z."""

    step: int
    x: np.ndarray
    p: np.ndarray
    q: np.ndarray
    critic: np.ndarray
    z: np.ndarray
    sample: np.ndarray

    @property
    def best_critic(self) -> np.ndarray:
        """The critic that no other beats: D* = p / (p + q), where there is anything to judge."""
        both = self.p + self.q
        return np.where(both > SEEN, self.p / both, np.nan)


def density(x: np.ndarray) -> np.ndarray:
    """p(x) of the data."""
    return norm.pdf(x, MEAN, WIDTH)


@torch.no_grad()
def look(game: AdversarialPair, step: int) -> Moment:
    """Take the densities, the critic and the map of the noise as they are now."""
    x = np.linspace(LEFT, RIGHT, BINS)

    def generate(z: np.ndarray) -> np.ndarray:
        return game.generator.generate(torch.from_numpy(z).float()[:, None])[:, 0].numpy()

    # quantiles of the noise stand for all of it: the histogram of where they go is q(x)
    quantiles = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    everywhere = generate(quantiles)
    edges = np.linspace(LEFT, RIGHT, BINS + 1)
    width = edges[1] - edges[0]
    q = np.histogram(everywhere, edges)[0] / (len(everywhere) * width)
    z = np.linspace(-2.4, 2.4, 25)
    critic = game.critic(torch.from_numpy(x).float()[:, None]).sigmoid()[:, 0].numpy()
    return Moment(step, x, density(x), gaussian_filter1d(q, 2.0), critic, z, generate(z))


def play(moments: Sequence[int] = MOMENTS) -> list[Moment]:
    """Train, and look at the given steps."""
    torch.manual_seed(2)
    game = AdversarialPair(Generator(MLP(1, (32, 32), 1), noise("normal", 1)), MLP(1, (64, 64), 1))
    with torch.no_grad():
        game.generator.network[-1].bias.fill_(-1)  # it begins beside the data
    betas = (0.5, 0.999)
    players = {
        "critic": Player(
            game.critic, critic_loss() + gradient_penalty(0.02), adam(cosine(6e-3), betas), repeat=4
        ),
        "generator": Player(game.generator, generator_loss(), adam(cosine(2e-3), betas)),
    }
    found: list[Moment] = []

    def keep(progress: Progress) -> None:
        if progress.event == "step" and progress.step in moments:
            found.append(look(game, progress.step))

    batch = 250
    rows = batch * min(80, moments[-1])
    data = np.random.default_rng(0).normal(MEAN, WIDTH, size=(rows, 1))
    epochs = -(-moments[-1] * batch // rows)
    train(game, players, DeviceData(data), max_epochs=epochs, batch_size=batch,
          precision="float32", callbacks=[keep])  # fmt: skip
    return found


def paint(above: Axes, below: Axes, moment: Moment) -> None:
    """Draw one moment: densities and critic above, the way from noise to samples below."""
    above.fill_between(moment.x, moment.p, color=DATA, alpha=0.35, lw=0)
    above.plot(moment.x, moment.q, color=MODEL, lw=1.8)
    above.plot(moment.x, moment.best_critic, color=CRITIC, lw=1.4, ls=(0, (4, 2)))
    above.plot(moment.x, moment.critic, color=CRITIC, lw=1.8)
    above.set(ylim=(0, 1.06), xlim=(LEFT, RIGHT), yticks=[0, 0.5, 1], xticks=[])
    above.set_title(f"after {moment.step:,} step{'s' * (moment.step > 1)}")
    stretched = (LEFT + RIGHT) / 2 + moment.z * (RIGHT - LEFT) / 5
    for start, end in zip(stretched, moment.sample, strict=True):
        below.plot([start, end], [0, 1], color=INK, lw=0.6, alpha=0.7)
    for height in (0, 1):
        below.axhline(height, color=INK, lw=1)
    below.set(xlim=(LEFT, RIGHT), ylim=(-0.02, 1.02), xticks=[], yticks=[0, 1])
    below.set_yticklabels(["noise z", "x = G(z)"])
    for axes in (above, below):
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)


def draw(moments: Sequence[Moment]) -> Figure:
    size = (2.9 * len(moments), 4.4)
    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    grid = figure.subplots(2, len(moments), height_ratios=(2.2, 1), sharey="row", squeeze=False)
    for above, below, moment in zip(*grid, moments, strict=True):
        above.set_facecolor(PAPER)
        below.set_facecolor(PAPER)
        paint(above, below, moment)
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
    look_ = {"svg.hashsalt": "gan-process", "svg.fonttype": "none", "text.color": INK}
    with mpl.rc_context(look_ | {"font.family": "sans-serif", "ytick.labelcolor": INK}):
        draw(play()).savefig(TARGET, metadata={"Date": None})
    print(TARGET)
