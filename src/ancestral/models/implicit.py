"""Implicit models: generators, generators of codes, and adversarial pairs."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.models.deterministic import AutoencoderModel
from ancestral.models.latent import LatentModel
from ancestral.models.run import GeneratorRun
from ancestral.nn import ActivationCollector, one_hot
from ancestral.nn.numerics import at_least_float32
from ancestral.probability.conditionals import Conditional
from ancestral.probability.distributions import mean_or_mode
from ancestral.utils import distributed


class Generator(nn.Module):
    """Implicit model: a network that maps noise, and optionally a condition, to samples.

    Parameters
    ----------
    network : Module
        Map noise, or the concatenation [condition, noise], -> samples [n, d].
    noise : Conditional
        Distribution of the noise, called on None.
    condition : {"x", "y"}, optional
        Field of the batch on which samples are conditioned. Default: unconditional.
    n_classes : int, optional
        Number of classes; if given, class indices in ``y`` are one-hot encoded.

    Examples
    --------
    >>> from ancestral.probability.conditionals import standard_normal
    >>> from ancestral.nn import MLP
    >>> Generator(MLP(2, (8,), 3), standard_normal(2)).sample(5).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        noise: Conditional,
        condition: Literal["x", "y"] | None = None,
        n_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.noise = network, noise
        self.condition, self.n_classes = condition, n_classes
        self._collector = ActivationCollector(network)

    def run(self, batch: Batch) -> GeneratorRun:
        """Generate one sample per row of the batch."""
        sample = self.sample(len(batch.x), self.condition_of(batch))
        return GeneratorRun(batch, sample, activations=self._collector.collect())

    def condition_of(self, batch: Batch) -> Tensor | None:
        """Return the condition of a batch, [batch, ...], or None for an unconditional model.

        Raises
        ------
        ValueError
            If the batch lacks the field ``condition``.
        """
        if self.condition is None:
            return None
        c = getattr(batch, self.condition)
        if c is None:
            raise ValueError(
                f"condition={self.condition!r}: the batch has no {self.condition}; pass a batch "
                "with this field"
            )
        return one_hot(c, self.n_classes) if self.condition == "y" and self.n_classes else c

    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """Generate samples [n, d], one per row of the condition ``c`` [n, ...] if given."""
        return self.generate(
            distributed.local_shard(self.sample_noise(n * distributed.n_shards())), c
        )

    def sample_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Sample noise for n samples, [n, l]."""
        return self.noise().sample((n,))

    def generate(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Tensor:
        """Map noise h [n, l], and conditions c [n, ...] if given, to samples [n, d]."""
        return at_least_float32(self.network(h if c is None else torch.cat([c.to(h.dtype), h], -1)))


class LatentSpaceGenerator(nn.Module):
    """Generator in the code space of a fitted autoencoder (Li et al., 2015).

    In its :class:`GeneratorRun`, the batch contains codes instead of x, and the sample consists of
    generated codes. The autoencoder is not trained and remains in evaluation mode.

    Parameters
    ----------
    generator : Generator
        Generator of codes.
    autoencoder : AutoencoderModel or LatentModel
        Fitted autoencoder. With a latent-variable model, codes are posterior means E_q[z | x].
    """

    def __init__(self, generator: Generator, autoencoder: AutoencoderModel | LatentModel) -> None:
        super().__init__()
        self.generator, self.autoencoder = generator, autoencoder
        self.train(self.training)

    def train(self, mode: bool = True) -> LatentSpaceGenerator:
        """Set the mode of the generator; the autoencoder remains in evaluation mode."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def codes(self, batch: Batch) -> Tensor:
        """Return the codes of a batch, [batch, n]."""
        code = self.autoencoder.encode(batch)
        return code if isinstance(code, Tensor) else mean_or_mode(code)

    def run(self, batch: Batch) -> GeneratorRun:
        """Encode the batch and generate one code per row."""
        return self.generator.run(batch._replace(x=self.codes(batch), mask=None))

    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """Generate samples [n, d]: the mean of p(x | code) (mode of codes) at generated codes."""
        return mean_or_mode(self.autoencoder.decode(self.generator.sample(n, c)))

    def sample_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Sample noise for n samples, [n, l]."""
        return self.generator.sample_noise(n)

    def generate(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Tensor:
        """Map noise h [n, l], and conditions c [n, ...] if given, to samples [n, d]."""
        return mean_or_mode(self.autoencoder.decode(self.generator.generate(h, c)))


class AdversarialPair(nn.Module):
    """Generator and critic of a generative adversarial network (Goodfellow et al., 2014).

    Parameters
    ----------
    generator : Generator
        Generator of samples.
    critic : Module
        Map samples, or the concatenation [sample, condition], -> logits [n] or [n, 1] of the
        probability that a sample comes from the data.
    """

    def __init__(self, generator: Generator, critic: nn.Module) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    def run(self, batch: Batch) -> GeneratorRun:
        """Generate one sample per row of the batch."""
        return self.generator.run(batch)

    def critic_logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Compute the critic's logits of x, concatenated with the conditions of the batch."""
        c = self.generator.condition_of(batch)
        return self.critic(x if c is None else torch.cat([x, c.to(x.dtype)], -1))
