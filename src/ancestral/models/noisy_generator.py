"""Generator with Gaussian observation noise, which gives it a likelihood.

The distribution of an implicit model is supported on a manifold and has no density. Wu, Burda,
Salakhutdinov and Grosse (2017) evaluate x = G(h) + e with e ~ N(0, s I) instead: log p(x) is
estimated by annealed importance sampling and is comparable between models with equal s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal, Uniform

from ancestral.models.implicit import Generator, LatentSpaceGenerator
from ancestral.models.latent import LatentModel
from ancestral.nn import one_hot
from ancestral.probability.conditionals import Context, Gaussian, standard_normal


class NoisyGenerator(LatentModel):
    """Latent-variable model x = G(h) + e of a generator G with observation noise e ~ N(0, s I).

    The latents are standard normal. Uniform generator noise is computed as the normal CDF of the
    latents, so that Markov chains are unconstrained. The posterior equals the prior, the initial
    distribution of the annealing.

    Parameters
    ----------
    source : Generator or LatentSpaceGenerator
        Generator G.
    variance : float
        Variance s of the observation noise.

    Raises
    ------
    ValueError
        If the generator's noise is neither normal nor uniform.

    Examples
    --------
    >>> from ancestral.data.batch import Batch
    >>> model = NoisyGenerator(Generator(nn.Identity(), standard_normal(2)), variance=1.0)
    >>> log_pz, log_px = model.score(torch.zeros(1, 3, 2), Batch(torch.zeros(3, 2)))
    >>> bool(torch.allclose(log_px, torch.tensor(-math.log(2 * math.pi))))
    True
    """

    def __init__(self, source: Generator | LatentSpaceGenerator, variance: float) -> None:
        noise = _base_generator(source).noise()
        if not isinstance(noise, Normal | Uniform):
            raise ValueError(
                f"source has noise of the kind {type(noise).__name__.lower()}: annealed importance "
                "sampling requires a generator with normal or uniform noise"
            )
        n, rows = noise.batch_shape[-1], GeneratorMean(source)
        super().__init__(
            prior=standard_normal(n),
            likelihood=Gaussian(rows, log_var=math.log(variance)),
            posterior=standard_normal(n),
        )


class GeneratorMean(nn.Module):
    """Output of a generator as a function of standard normal latents and an optional class.

    Parameters
    ----------
    source : Generator or LatentSpaceGenerator
        Generator G.
    """

    context_fields = ("z", "y")

    def __init__(self, source: Generator | LatentSpaceGenerator) -> None:
        super().__init__()
        self.source = source

    def forward(self, context: Context) -> Tensor:
        """Map latents [..., n] to generated samples [..., d]."""
        z, y, generator = context.z, context.y, _base_generator(self.source)
        assert z is not None
        h, noise, c = z, generator.noise(), None
        if isinstance(noise, Uniform):
            h = noise.low + (noise.high - noise.low) * torch.special.ndtr(z)
        if generator.n_classes is not None and y is not None:
            c = one_hot(y, generator.n_classes).expand(*z.shape[:-1], -1).flatten(0, -2)
        return self.source.generate(h.flatten(0, -2), c).unflatten(0, z.shape[:-1])


def _base_generator(source: Generator | LatentSpaceGenerator) -> Generator:
    """Return the generator itself, or that of the codes of a ``LatentSpaceGenerator``."""
    return source.generator if isinstance(source, LatentSpaceGenerator) else source
