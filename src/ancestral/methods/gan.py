"""Generative adversarial networks: a generator learns from a critic that tells it from the data."""

from __future__ import annotations

import math
from abc import ABC
from typing import Literal

from torch import nn

from ancestral.data import Data
from ancestral.fields import Count, Fraction, Positive, Sizes, Weight
from ancestral.labels import LabelLearner
from ancestral.methods.diary import Diary
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.models import Game
from ancestral.networks import (
    MLP,
    ClassMaps,
    Stack,
    linear,
    parse_layers,
    spectrally_normalised,
)
from ancestral.objectives import critic_loss, generator_loss, gradient_penalty
from ancestral.train import Player


class Adversarial(ImplicitEstimator, ABC):
    """A critic learns to tell rows from samples, a generator to make it fail; both by Adam.

    Parameters
    ----------
    critic : list of int, or str
        Widths of the critic's hidden layers; for images also layers as text, as in ``network``. A
        class is seen as further entries of a row, or as constant maps beside those of the image.
    game : {"non-saturating", "minimax"}
        What the generator does: it maximises log D(G(z)), or minimises log(1 - D(G(z))).
    critic_steps : int
        Moves of the critic for one of the generator.
    critic_rate : float, optional
        Its learning rate; by default that of the generator.
    momentum : float
        Adam's decay of first moments: half a step's memory steadies a game.
    smoothing : float
        One-sided label smoothing: the critic's target for real rows is 1 minus this.
    penalty : float
        Weight of the squared gradient of the critic at the data (Mescheder et al., 2018). With 0,
        the plain game, generators of a thousand steps tend to make one row again and again.
    spectral_norm : bool
        Divide every weight matrix of the critic by its greatest singular value, so that its slope
        is bounded.
    averaging : float, optional
        Samples are drawn with an exponential moving average of the parameters with this decay.
    """

    n_noise: Count = 100
    hidden: Sizes = (512, 512)
    critic: Sizes | str = (512, 512)
    game: Literal["non-saturating", "minimax"] = "non-saturating"
    critic_steps: Count = 1
    critic_rate: Positive | None = None
    momentum: Fraction = 0.5
    smoothing: Fraction = 0.0
    penalty: Weight = 1.0
    spectral_norm: bool = False
    optimizer: Literal["adam"] = "adam"
    learning_rate: Positive = 2e-4
    schedule: Literal["cosine", "constant", "late", "stages"] = "constant"

    _trained_against = ("model_.critic.",)
    _criterion = "mmd2"  # the losses of a game say nothing of how far it is

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        n_classes = len(self.classes_) if isinstance(self, LabelLearner) else 0
        critic = self._make_critic(len(columns.kinds), n_classes)
        model = Game(self._make_generator(columns), critic)
        model.diary = Diary(len(columns.kinds))
        return {"columns_": columns, "model_": model}

    def _make_critic(self, n_columns: int, n_classes: int) -> nn.Module:
        critic = self._plain_critic(n_columns, n_classes)
        return spectrally_normalised(critic) if self.spectral_norm else critic

    def _plain_critic(self, n_columns: int, n_classes: int) -> nn.Module:
        if not isinstance(self.critic, str):
            return MLP(n_columns + n_classes, tuple(self.critic), 1, activation="leaky_relu")
        seen = ClassMaps(self._maps("critic"), n_classes)
        stack = Stack(parse_layers(self.critic, "critic"), seen.shape_out, activation="leaky_relu")
        return nn.Sequential(seen, stack, linear(math.prod(stack.shape_out), 1))

    def _initialise(self, data: Data) -> None:
        self._learn_shares(data)

    def _players(self) -> dict[str, Player]:
        against = critic_loss(self.smoothing)
        if self.penalty > 0:
            against = against + gradient_penalty(self.penalty)
        model = self.model_
        assert isinstance(model, Game)
        theirs, ours = (self._optimizer(rate) for rate in (self.critic_rate, None))
        return {
            "critic": Player(model.critic, against, theirs, repeat=self.critic_steps),
            "generator": Player(model.generator, generator_loss(self.game), ours),
        }


class GAN(Adversarial):
    """Generative adversarial network (Goodfellow et al., 2014).

    References
    ----------
    Generative Adversarial Nets, https://arxiv.org/abs/1406.2661

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> gan = GAN(hidden=(50,), critic=(50,), max_epochs=5, random_state=0).fit(X / 16)
    >>> gan.sample(3).shape
    (3, 64)
    """


class ConditionalGAN(LabelLearner, Adversarial):
    """GAN that draws rows of a class; its critic sees the class too (Mirza and Osindero, 2014).

    Attributes
    ----------
    classes_ : array [n_classes]
        What rows can be drawn of.

    References
    ----------
    Conditional Generative Adversarial Nets, https://arxiv.org/abs/1411.1784

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> gan = ConditionalGAN(hidden=(50,), critic=(50,), max_epochs=5, random_state=0)
    >>> gan.fit(X / 16, y).sample(3, y=[0, 1, 2]).shape
    (3, 64)
    """
