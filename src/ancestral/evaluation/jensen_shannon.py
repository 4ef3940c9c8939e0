"""Lower bound on the Jensen-Shannon divergence of two samples from a trained critic."""

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

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.evaluation.estimate import Estimate
from ancestral.models.run import GeneratorRun
from ancestral.nn import MLP
from ancestral.objectives import critic_loss
from ancestral.training import Player, engine, train
from ancestral.training.optim import adam, cosine
from ancestral.utils.validation import Count, Fraction, Positive, Sizes, check_field

MIN_ROWS = 10


@dataclass(frozen=True)
class JensenShannon:
    """Critic estimate of a Jensen-Shannon divergence, in nats.

    The divergence lies between 0 and log 2.

    Attributes
    ----------
    estimate : Estimate
        Held-out value and its standard error. In expectation a lower bound, attained by the
        optimal critic only; negative if the critic does not generalise.
    training : float
        Estimate on the training rows. If it is much larger than the held-out one, the critic has
        overfitted.
    n : int
        Number of held-out rows of both samples together.
    """

    estimate: Estimate
    training: float
    n: int

    def __str__(self) -> str:
        return f"JSD >= {self.estimate:.4f} nats ({self.n} held-out rows)"


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
    """Estimate the Jensen-Shannon divergence of two samples with a trained critic.

    The critic D minimises -E_a[log D] - E_b[log(1 - D)]. The optimum is p_a / (p_a + p_b), where
    this loss is log 4 - 2 JSD (Goodfellow et al., 2014, theorem 1). Any other critic has a larger
    loss, so log 2 - loss / 2 is a lower bound.

    Parameters
    ----------
    a, b : array [n, d], [m, d]
        The two samples. Features are standardised with the joint mean and standard deviation.
    hidden : sequence of int
        Widths of the critic's hidden layers.
    max_epochs, batch_size : int
        Training epochs and rows per minibatch, positive.
    learning_rate : float
        Initial learning rate of Adam, positive, with cosine decay.
    held_out : float
        Fraction of each sample, in (0, 1), held out for the estimate.
    random_state : int
        Seed of the split and the training.

    Returns
    -------
    JensenShannon
        Held-out and training estimates in nats.

    Raises
    ------
    ValueError
        If the training or held-out part of a sample has fewer than ten rows, the numbers of
        features differ, a value is not finite, or a setting is out of range.

    References
    ----------
    Generative Adversarial Nets, https://arxiv.org/abs/1406.2661

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 2000, 1))
    >>> jensen_shannon(a, b + 9).estimate.value > 0.65  # log 2 is the value of disjoint supports
    True
    """
    check_field("hidden", hidden, Sizes)
    check_field("max_epochs", max_epochs, Count)
    check_field("batch_size", batch_size, Count)
    check_field("learning_rate", learning_rate, Positive)
    check_field("held_out", held_out, Fraction)
    train_rows, test_rows = _standardized_split(a, b, held_out, random_state)
    with engine.fork_rng(torch.device("cpu")):
        engine.seed(random_state)
        critic = MLP(train_rows[0].shape[1], hidden, 1, activation="leaky_relu")
        model = _FixedSampleGenerator(train_rows[1], critic)
        player = Player(critic, critic_loss(), adam(cosine(learning_rate)))
        settings: dict[str, Any] = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "random_state": random_state,
        }
        train(model, player, DeviceData(train_rows[0]), **settings)
        (value, error), (training, _) = (
            _jsd_bound(critic, *rows) for rows in (test_rows, train_rows)
        )
    return JensenShannon(Estimate(value, error), training, len(test_rows[0]) + len(test_rows[1]))


class _FixedSampleGenerator(nn.Module):
    """Adversarial model whose generator resamples the rows of a fixed sample."""

    def __init__(self, sample: Tensor, critic: nn.Module) -> None:
        super().__init__()
        self.sample, self.critic = sample, critic

    @property
    def generator(self) -> _FixedSampleGenerator:
        return self

    def run(self, batch: Batch) -> GeneratorRun:
        return GeneratorRun(batch, self.sample[torch.randint(len(self.sample), (len(batch.x),))])


@torch.no_grad()
def _jsd_bound(critic: nn.Module, a: Tensor, b: Tensor) -> tuple[float, float]:
    """Lower bound log 2 - loss / 2 on the JSD and its standard error, in nats."""
    losses = softplus(-critic(a)).double(), softplus(critic(b)).double()
    loss = sum(float(values.mean()) for values in losses)
    variance = sum(float(values.var()) / len(values) for values in losses)
    return math.log(2) - loss / 2, math.sqrt(variance) / 2


def _standardized_split(
    a: np.ndarray, b: np.ndarray, held_out: float, seed: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Standardise two samples and split each into training and held-out rows."""
    a, b = (np.asarray(sample, dtype=np.float64) for sample in (a, b))
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a {a.shape} and b {b.shape}: expected arrays [n, d] and [m, d] with the same number "
            "of features"
        )
    n_test = [round(len(sample) * held_out) for sample in (a, b)]
    if min(*n_test, len(a) - n_test[0], len(b) - n_test[1]) < MIN_ROWS:
        raise ValueError(
            f"a {a.shape} and b {b.shape}: expected at least {MIN_ROWS} training and held-out "
            f"rows each, with held_out={held_out}"
        )
    both = np.concatenate([a, b])
    if not np.isfinite(both).all():
        raise ValueError("a, b: expected finite values; drop rows with missing or infinite ones")
    loc, scale, rng = both.mean(0), both.std(0), np.random.default_rng(seed)
    train_rows, test_rows = [], []
    for sample, n in zip((a, b), n_test, strict=True):
        rows = rng.permutation((sample - loc) / np.where(scale > 0, scale, 1.0))
        shuffled = torch.from_numpy(rows.astype(np.float32))
        test_rows.append(shuffled[:n])
        train_rows.append(shuffled[n:])
    return (train_rows[0], train_rows[1]), (test_rows[0], test_rows[1])
