"""Generative adversarial networks, unconditional and class-conditional."""

from __future__ import annotations

import math
from abc import ABC
from typing import Literal

from torch import nn

from ancestral.estimators.base.implicit import ClassConditionalGenerator, ImplicitEstimator
from ancestral.estimators.base.sample_log import SampleLog
from ancestral.models.implicit import AdversarialPair
from ancestral.nn import MLP, ClassMaps, ConvNet, apply_spectral_norm, linear, parse_layers
from ancestral.objectives import critic_loss, generator_loss, gradient_penalty
from ancestral.training import Player
from ancestral.utils.validation import Count, Fraction, Positive, Sizes, Weight


class AdversarialEstimator(ImplicitEstimator, ABC):
    """A critic that separates data from generated samples, and a generator; both trained by Adam.

    Parameters
    ----------
    critic : list of int, or str
        Widths of the critic's hidden layers; for images also a text specification of its layers, as
        in ``network``. A class enters as one-hot input features, or as constant feature maps.
    loss : {"non-saturating", "minimax"}
        Loss of the generator: it maximises log D(G(z)), or minimises log(1 - D(G(z))).
    critic_steps : int
        Updates of the critic per update of the generator.
    critic_learning_rate : float, optional
        Learning rate of the critic; by default that of the generator.
    beta1 : float
        Decay rate of Adam's first moments (beta1); 0.5 stabilises adversarial training.
    label_smoothing : float
        One-sided label smoothing: the critic's target for data is 1 minus this.
    gradient_penalty : float
        Weight of the squared gradient of the critic at the data (Mescheder et al., 2018). With 0,
        the original loss, generators tend to collapse to a single sample within a thousand steps.
    spectral_norm : bool
        Divide every weight matrix of the critic by its largest singular value, which bounds the
        gradient of the critic.
    ema_decay : float, optional
        Decay of an exponential moving average of the parameters, with which samples are generated.
    """

    n_noise: Count = 100
    hidden: Sizes = (512, 512)
    critic: Sizes | str = (512, 512)
    loss: Literal["non-saturating", "minimax"] = "non-saturating"
    critic_steps: Count = 1
    critic_learning_rate: Positive | None = None
    beta1: Fraction | None = 0.5
    label_smoothing: Fraction = 0.0
    gradient_penalty: Weight = 1.0
    spectral_norm: bool = False
    optimizer: Literal["adam"] = "adam"
    learning_rate: Positive = 2e-4
    schedule: Literal["cosine", "constant", "delayed_exponential", "iwae_stages"] = "constant"

    _training_only_prefixes = ("model_.critic.",)
    _criterion = "mmd2"  # adversarial losses do not measure progress

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        critic = self._make_critic(len(columns.kinds), self._n_classes)
        model = AdversarialPair(self._build_row_generator(columns), critic)
        model.sample_log = SampleLog(len(columns.kinds))
        return {"columns_": columns, "model_": model}

    def _make_critic(self, n_columns: int, n_classes: int) -> nn.Module:
        critic = self._critic_network(n_columns, n_classes)
        return apply_spectral_norm(critic) if self.spectral_norm else critic

    def _critic_network(self, n_columns: int, n_classes: int) -> nn.Module:
        if not isinstance(self.critic, str):
            return MLP(n_columns + n_classes, tuple(self.critic), 1, activation="leaky_relu")
        maps = ClassMaps(self._image_maps("critic"), n_classes)
        stack = ConvNet(
            parse_layers(self.critic, "critic"), maps.output_shape, activation="leaky_relu"
        )
        return nn.Sequential(maps, stack, linear(math.prod(stack.output_shape), 1))

    def _players(self) -> dict[str, Player]:
        objective = critic_loss(self.label_smoothing)
        if self.gradient_penalty > 0:
            objective = objective + gradient_penalty(self.gradient_penalty)
        model = self.model_
        assert isinstance(model, AdversarialPair)
        optimizers = [self._optimizer(rate) for rate in (self.critic_learning_rate, None)]
        return {
            "critic": Player(model.critic, objective, optimizers[0], repeat=self.critic_steps),
            "generator": Player(model.generator, generator_loss(self.loss), optimizers[1]),
        }


class GAN(AdversarialEstimator):
    """Generative adversarial network (Goodfellow et al., 2014).

    References
    ----------
    Generative AdversarialEstimator Nets, https://arxiv.org/abs/1406.2661

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> gan = GAN(hidden=(50,), critic=(50,), max_epochs=5, random_state=0).fit(X / 16)
    >>> gan.sample(3).shape
    (3, 64)
    """


class ConditionalGAN(ClassConditionalGenerator, AdversarialEstimator):
    """Class-conditional GAN: generator and critic receive the class (Mirza and Osindero, 2014).

    Attributes
    ----------
    classes_ : array [n_classes]
        Sorted class labels, which ``sample`` accepts as ``y``.

    References
    ----------
    Conditional Generative AdversarialEstimator Nets, https://arxiv.org/abs/1411.1784

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> gan = ConditionalGAN(hidden=(50,), critic=(50,), max_epochs=5, random_state=0)
    >>> gan.fit(X / 16, y).sample(3, y=[0, 1, 2]).shape
    (3, 64)
    """
