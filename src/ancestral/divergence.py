"""How far apart are two distributions, as a critic learns to tell: a Jensen-Shannon divergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from ancestral import engine
from ancestral.data import Batch, Data
from ancestral.fields import Count, Fraction, Positive, Sizes, check
from ancestral.models import Run
from ancestral.networks import MLP
from ancestral.objectives import critic_loss
from ancestral.optim import adam, cosine
from ancestral.train import Player, train

LEAST_ROWS = 10


@dataclass(frozen=True)
class JensenShannon:
    """A divergence as a critic has it, in nats.

    The divergence itself lies between 0 and log 2.

    Attributes
    ----------
    value, standard_error : float
        On rows that the critic has not seen: in expectation a lower bound, which only the best
        critic reaches. It is below 0 where what the critic has learnt does not hold for them.
    training : float
        On the rows that it learnt from: much above ``value``, it knows them by heart.
    n : int
        Unseen rows of both samples together.
    """

    value: float
    standard_error: float
    training: float
    n: int

    def __str__(self) -> str:
        return f"JSD >= {self.value:.4f} +- {self.standard_error:.4f} nats ({self.n} unseen rows)"


def jensen_shannon(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    *,
    hidden: Sequence[int] = (64, 64),
    max_epochs: int = 20,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
    held_out: float = 0.5,
    random_state: int = 0,
) -> JensenShannon:
    """Estimate the Jensen-Shannon divergence of two samples by a critic trained to tell them apart.

    A critic D that minimises -E_a[log D] - E_b[log(1 - D)] ends, if it is free enough, at
    p_a / (p_a + p_b), where this loss is log 4 - 2 JSD (Goodfellow et al., 2014, theorem 1). Any
    other critic has a greater loss, so log 2 - loss / 2 is a lower bound.

    Parameters
    ----------
    a, b : array [n, d], [m, d]
        The samples. Columns are standardised by both together.
    hidden : sequence of int
        Widths of the critic's hidden layers.
    max_epochs, batch_size, learning_rate
        Of its training, by Adam.
    held_out : float
        Share of either sample that it is scored on and does not see.
    random_state : int
        Seeds the split and the training.

    Raises
    ------
    ValueError
        If a share of a sample has fewer than ten rows, the columns differ in number, a value is
        not finite, or a setting is not what it should be.

    References
    ----------
    Generative Adversarial Nets, https://arxiv.org/abs/1406.2661

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 2000, 1))
    >>> jensen_shannon(a, b + 9).value > 0.65  # all but log 2: they hardly meet
    True
    """
    check("hidden", hidden, Sizes)
    check("max_epochs", max_epochs, Count)
    check("batch_size", batch_size, Count)
    check("learning_rate", learning_rate, Positive)
    check("held_out", held_out, Fraction)
    learnt, unseen = _split(a, b, held_out, random_state)
    with engine.private_randomness(torch.device("cpu")):
        engine.seed(random_state)
        critic = MLP(learnt[0].shape[1], hidden, 1, activation="leaky_relu")
        game = _Known(learnt[1], critic)
        player = Player(critic, critic_loss(), adam(cosine(learning_rate)))
        how: dict[str, Any] = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "random_state": random_state,
        }
        train(game, player, Data(learnt[0]), **how)
        (value, error), (training, _) = (_bound(critic, *rows) for rows in (unseen, learnt))
    return JensenShannon(value, error, training, len(unseen[0]) + len(unseen[1]))


class _Known(nn.Module):
    """A critic, and in the place of a generator a sample to draw from."""

    def __init__(self, sample: Tensor, critic: nn.Module) -> None:
        super().__init__()
        self.sample, self.critic = sample, critic

    @property
    def generator(self) -> _Known:
        return self

    def run(self, batch: Batch) -> Run:
        return Run(batch, sample=self.sample[torch.randint(len(self.sample), (len(batch.x),))])


@torch.no_grad()
def _bound(critic: nn.Module, a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return log 2 - loss / 2, and its standard error."""
    losses = softplus(-critic(a)).double(), softplus(critic(b)).double()
    loss = sum(float(part.mean()) for part in losses)
    variance = sum(float(part.var()) / len(part) for part in losses)
    return math.log(2) - loss / 2, math.sqrt(variance) / 2


def _split(
    a: np.ndarray, b: np.ndarray, held_out: float, seed: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Standardise two samples; return what is learnt from, and what is kept from the critic."""
    a, b = (np.asarray(sample, dtype=np.float64) for sample in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a {a.shape} and b {b.shape}: expected rows of the same columns")
    kept = [round(len(sample) * held_out) for sample in (a, b)]
    if min(*kept, len(a) - kept[0], len(b) - kept[1]) < LEAST_ROWS:
        raise ValueError(
            f"a {a.shape} and b {b.shape}: expected {LEAST_ROWS} rows or more on either side of "
            f"held_out={held_out}"
        )
    both = np.concatenate([a, b])
    if not np.isfinite(both).all():
        raise ValueError("a, b: expected finite values; leave out rows with missing ones")
    loc, scale, rng = both.mean(0), both.std(0), np.random.default_rng(seed)
    learnt, unseen = [], []
    for sample, n in zip((a, b), kept, strict=True):
        rows = rng.permutation((sample - loc) / np.where(scale > 0, scale, 1.0))
        shuffled = torch.from_numpy(rows.astype(np.float32))
        unseen.append(shuffled[:n])
        learnt.append(shuffled[n:])
    return (learnt[0], learnt[1]), (unseen[0], unseen[1])
