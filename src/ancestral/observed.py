"""A generator with a little noise on top of what it makes: then it has a likelihood.

An implicit model puts its mass on a surface, so a density it has not. What Wu, Burda, Salakhutdinov
and Grosse (2017) compare is the model x = G(h) + e with e ~ N(0, s I): its log p(x) is found by
annealed importance sampling, and means something beside that of another model with the same s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Normal, Uniform

from ancestral.conditional import Context, Gaussian, standard_normal
from ancestral.models import Coded, Generator, LatentModel
from ancestral.networks import one_hot


class Observed(LatentModel):
    """Rows of a generator seen with normal noise, of independent standard normal latents.

    Noise that is uniform is the distribution function of normal latents, so that chains may move
    anywhere. Nothing recognises rows: the posterior is the prior, where annealing starts.

    Parameters
    ----------
    source : Generator or Coded
        What makes rows of noise.
    variance : float
        Of the noise on top, s.

    Raises
    ------
    ValueError
        If the generator's noise has jumps, as bits have.

    Examples
    --------
    >>> from ancestral.data import Batch
    >>> model = Observed(Generator(nn.Identity(), standard_normal(2)), variance=1.0)
    >>> log_pz, log_px = model.score(torch.zeros(1, 3, 2), Batch(torch.zeros(3, 2)))
    >>> bool(torch.allclose(log_px, torch.tensor(-math.log(2 * math.pi))))
    True
    """

    def __init__(self, source: Generator | Coded, variance: float) -> None:
        drawer = _drawer(source)
        noise = drawer.noise()
        if not isinstance(noise, Normal | Uniform):
            raise ValueError(
                f"noise of the kind {type(noise).__name__.lower()} has no slope to move along: "
                "annealing is for generators of normal or uniform noise"
            )
        n, rows = noise.batch_shape[-1], Rows(source)
        super().__init__(
            prior=standard_normal(n),
            likelihood=Gaussian(rows, log_var=math.log(variance)),
            posterior=standard_normal(n),
        )


class Rows(nn.Module):
    """What a generator makes of normal latents, and of a class if it is asked for one.

    Parameters
    ----------
    source : Generator or Coded
        What makes rows of noise.
    """

    reads = ("z", "y")

    def __init__(self, source: Generator | Coded) -> None:
        super().__init__()
        self.source = source

    def forward(self, context: Context) -> Tensor:
        """Return rows [..., d] of latents [..., n]."""
        z, y, drawer = context.z, context.y, _drawer(self.source)
        assert z is not None
        h, noise, c = z, drawer.noise(), None
        if isinstance(noise, Uniform):
            h = noise.low + (noise.high - noise.low) * torch.special.ndtr(z)
        if drawer.n_classes is not None and y is not None:
            c = one_hot(y, drawer.n_classes).expand(*z.shape[:-1], -1).flatten(0, -2)
        return self.source.at(h.flatten(0, -2), c).unflatten(0, z.shape[:-1])


def _drawer(source: Generator | Coded) -> Generator:
    """Return the generator, of codes if there are some."""
    return source.generator if isinstance(source, Coded) else source
