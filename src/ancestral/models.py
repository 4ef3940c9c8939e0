"""Models: what is known of the joint distribution, and one forward pass through it.

An explicit model knows its densities (:class:`LatentModel`); an implicit one can only be drawn
from (:class:`Generator`). Either way a training step runs the model once, and every term of the
objective reads the same :class:`Run`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral import parallel
from ancestral.conditional import Chain, Conditional, Context, Given, reads_context
from ancestral.data import Batch
from ancestral.distributions import centre, draw, log_prob
from ancestral.networks import Taps, one_hot
from ancestral.networks.precision import at_least_single


@dataclass(eq=False)
class Run:
    """The record of one forward pass; what was not part of it is ``None``.

    Attributes
    ----------
    batch : Batch
        What went in.
    q, prior : Distribution
        q(z | x) and p(z).
    z : Tensor [k, batch, n_latents]
        The latent sample.
    log_px : Tensor [k, batch]
        log p(x | z), of the observed entries, in nats.
    taps : dict of Tensor
        What the taps inside the networks saw.
    sample : Tensor [batch, ...]
        What a generator drew.
    log_w_before : Tensor [K, batch]
        Log importance weights of the K samples from which z was resampled.
    """

    batch: Batch
    q: Distribution | None = None
    prior: Distribution | None = None
    z: Tensor | None = None
    log_px: Tensor | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
    sample: Tensor | None = None
    log_w_before: Tensor | None = None
    _known: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def log_pz(self) -> Tensor:
        """Log p(z) [k, batch]."""
        return self._once("log_pz", lambda: self._log_density(self.prior))

    @property
    def log_qz(self) -> Tensor:
        """Log q(z | x) [k, batch]."""
        return self._once("log_qz", lambda: self._log_density(self.q))

    @property
    def log_w(self) -> Tensor:
        """Log importance weights log p(x, z) - log q(z | x), [k, batch]."""
        assert self.log_px is not None
        return self.log_px + self.log_pz - self.log_qz

    def _log_density(self, p: Distribution | None) -> Tensor:
        assert p is not None
        assert self.z is not None
        return log_prob(p, self.z)

    def _once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        if name not in self._known:  # functools.cached_property holds a lock, which no graph can
            self._known[name] = compute()
        return self._known[name]


class LatentModel(nn.Module):
    """An explicit latent-variable model p(z) p(x | z) with a recognition model q(z | x).

    Parameters
    ----------
    prior : Conditional
        p(z), or p(z | y).
    likelihood : Conditional
        p(x | z), or p(x | z, y).
    posterior : Conditional
        q(z | x), or q(z | x, y).

    Notes
    -----
    A conditional is called on the plain tensor (the posterior on x, the likelihood on z, the
    prior on nothing), unless its network begins with ``Read``: then on a ``Context`` with all
    there is. Further modules (a classifier) may be added as attributes.

    Examples
    --------
    >>> from ancestral.conditional import Bernoulli, Gaussian, standard_normal
    >>> from ancestral.networks import MLP
    >>> model = LatentModel(
    ...     prior=standard_normal(2),
    ...     likelihood=Bernoulli(MLP(2, (8,), 4)),
    ...     posterior=Gaussian(MLP(4, (8,), heads=(2, 2))),
    ... )
    >>> model.run(Batch(torch.ones(3, 4)), k=5).log_w.shape
    torch.Size([5, 3])
    """

    def __init__(self, prior: Conditional, likelihood: Conditional, posterior: Conditional) -> None:
        super().__init__()
        self.prior, self.likelihood, self.posterior = prior, likelihood, posterior
        self._readers = {c for c in (prior, likelihood, posterior) if reads_context(c)}
        self._taps = Taps(prior, likelihood, posterior)

    def run(self, batch: Batch, k: int = 1) -> Run:
        """Run the model once: the encoder once per row, k latent samples each, the decoder."""
        q = self.encode(batch)
        return self.run_at(draw(q, (k,)), batch, q)

    def score(self, z: Float[Tensor, "*k b l"], batch: Batch) -> tuple[Tensor, Tensor]:
        """Log p(z) and log p(x | z) of the observed entries at given latents, [..., batch]."""
        run = self.run_at(z, batch)
        assert run.log_px is not None
        return run.log_pz, run.log_px

    def run_at(
        self, z: Float[Tensor, "*k b l"], batch: Batch, q: Distribution | None = None
    ) -> Run:
        """Run the model at given latents, [..., batch, n_latents]."""
        prior = self._call(self.prior, None, Context(y=batch.y))
        log_px = log_prob(self.decode(z, batch.y), batch.x, batch.mask)
        return Run(batch, q, prior, z, log_px, self._taps.take())

    def encode(self, batch: Batch) -> Distribution:
        """q(z | x) of a batch."""
        context = Context(batch.x, batch.y, batch.mask)
        return self._call(self.posterior, batch.x, context)

    def decode(self, z: Float[Tensor, "*b l"], y: Tensor | None = None) -> Distribution:
        """p(x | z) for latent vectors."""
        return self._call(self.likelihood, z, Context(y=y, z=z))

    def sample(self, n: int, y: Tensor | None = None, *, mean: bool = False) -> Tensor:
        """Ancestral sampling: z from the prior, then x (or its mean) given z; [n, d].

        Parameters
        ----------
        n : int
            How many rows; with ``y`` [n], one for each label.
        y : Tensor [n], optional
            Labels, for a model that sees them.
        mean : bool
            Return E[x | z] in place of a draw.
        """
        p = self.decode(self.draw_latents(n, y), y)
        return centre(p) if mean else p.sample()

    def draw(self, n: int, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw latents [n, l] and the rows [n, d] that come of them."""
        z = self.draw_latents(n, y)
        return z, self.decode(z, y).sample()

    def draw_latents(self, n: int, y: Tensor | None = None) -> Tensor:
        """Draw from the prior, [n, l]; with ``y`` [n], one for each label."""
        prior = self._call(self.prior, None, Context(y=y))
        in_prior = len(prior.batch_shape) + len(prior.event_shape)
        return prior.sample((n,) if in_prior == 1 else ())

    def _call(self, conditional: Conditional, plain: Given, context: Context) -> Distribution:
        return conditional(context if conditional in self._readers else plain)


class Lowest(Conditional):
    """p(x | h_1, ..., c) that depends on the last entries, c, alone."""

    def __init__(self, conditional: Conditional, n: int) -> None:
        super().__init__()
        self.conditional, self.n = conditional, n

    def forward(self, c: Given = None) -> Distribution:
        """Call the conditional on the last entries."""
        assert isinstance(c, Tensor)
        return self.conditional(c[..., -self.n :])


class Stacked(LatentModel):
    """A model of rows, and on top of it a model of its codes, as one: p(h) p(c | h) p(x | c).

    The model below has learnt; the one on top takes the place of its prior, and learns from codes
    c drawn from q(c | x). A latent vector is laid out as [h, c].

    Parameters
    ----------
    top : LatentModel
        p(h) p(c | h), with q(h | c); called on plain tensors.
    bottom : LatentModel
        p(x | c), with q(c | x). It stays as it was fitted: in evaluation mode.
    sizes : (int, int)
        Widths of h and of c.

    Examples
    --------
    >>> from ancestral.conditional import Gaussian, standard_normal
    >>> from ancestral.networks import MLP
    >>> top, bottom = (
    ...     LatentModel(standard_normal(n), Gaussian(MLP(n, (8,), heads=(d, d))),
    ...                 Gaussian(MLP(d, (8,), heads=(n, n))))
    ...     for n, d in [(2, 3), (3, 5)]
    ... )
    >>> both = Stacked(top, bottom, (2, 3))
    >>> both.run(Batch(torch.ones(4, 5)), k=6).log_w.shape, both.sample(7).shape
    (torch.Size([6, 4]), torch.Size([7, 5]))
    """

    def __init__(self, top: LatentModel, bottom: LatentModel, sizes: tuple[int, int]) -> None:
        n_top, n_codes = sizes
        super().__init__(
            Chain([top.prior, top.likelihood], (n_top, n_codes)),
            Lowest(bottom.likelihood, n_codes),
            Chain([bottom.posterior, top.posterior], (n_codes, n_top), reverse=True),
        )
        self.sizes, self._both = sizes, (top, bottom)  # whose modules are this one's already
        self.train(self.training)

    @property
    def top(self) -> LatentModel:
        """The model of codes."""
        return self._both[0]

    @property
    def bottom(self) -> LatentModel:
        """The model of rows given codes."""
        return self._both[1]

    def train(self, mode: bool = True) -> Stacked:
        """Set the mode of the model on top alone."""
        super().train(mode)
        self.bottom.eval()
        return self

    def codes(self, batch: Batch) -> Batch:
        """Return the batch with codes drawn from q(c | x) in the place of its rows."""
        with torch.no_grad():
            return batch._replace(x=draw(self.bottom.encode(batch)), mask=None)


class FeatureModel(nn.Module):
    """A discriminative model: features of a row, and scores linear in them.

    Parameters
    ----------
    network : Module
        Context to features [batch, n]; it begins with ``Read`` or reads x and mask by itself.
    classifier : Module
        Features to scores [batch, n_classes].
    """

    def __init__(self, network: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.network, self.classifier = network, classifier

    def features(self, batch: Batch) -> Tensor:
        """Return the features of a batch."""
        return self.network(Context(batch.x, batch.y, batch.mask))

    def run(self, batch: Batch) -> Run:
        """Run the network once; its features are found among the taps."""
        return Run(batch, taps={"features": self.features(batch)})


class Coder(nn.Module):
    """An autoencoder: a row becomes a code, and a code a distribution of rows.

    Nothing is known of how codes are distributed: a :class:`LatentModel` says that too.

    Parameters
    ----------
    encoder : Module
        Context to codes [batch, n]; it begins with ``Read`` or reads x and mask by itself.
    likelihood : Conditional
        p(x | code).

    Examples
    --------
    >>> from ancestral.conditional import Bernoulli
    >>> from ancestral.networks import MLP, Read
    >>> encoder = nn.Sequential(Read("x"), MLP(4, (8,), 2))
    >>> Coder(encoder, Bernoulli(MLP(2, (8,), 4))).run(Batch(torch.ones(3, 4))).log_px.shape
    torch.Size([1, 3])
    """

    def __init__(self, encoder: nn.Module, likelihood: Conditional) -> None:
        super().__init__()
        self.encoder, self.likelihood = encoder, likelihood

    def encode(self, batch: Batch) -> Tensor:
        """Return the codes of a batch, [batch, n]."""
        return self.encoder(Context(batch.x, batch.y, batch.mask))

    def decode(self, code: Float[Tensor, "*b n"]) -> Distribution:
        """p(x | code)."""
        return self.likelihood(code)

    def run(self, batch: Batch) -> Run:
        """Encode a batch, and say how likely its rows are given their codes."""
        z = self.encode(batch).unsqueeze(0)
        return Run(batch, z=z, log_px=log_prob(self.decode(z), batch.x, batch.mask))


class Generator(nn.Module):
    """An implicit model: noise (and a condition) through a network, density unknown.

    Parameters
    ----------
    network : Module
        Noise, or [condition, noise] side by side, to a sample [n, d].
    noise : Conditional
        Of the noise, called on nothing.
    condition : {"x", "y"}, optional
        Which field of a batch the sample is conditioned on.
    n_classes : int, optional
        Class indices in ``y`` become one-hot.

    Examples
    --------
    >>> from ancestral.conditional import standard_normal
    >>> from ancestral.networks import MLP
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
        self._taps = Taps(network)

    def run(self, batch: Batch) -> Run:
        """Draw one sample for every row of the batch."""
        sample = self.sample(len(batch.x), self.condition_of(batch))
        return Run(batch, taps=self._taps.take(), sample=sample)

    def condition_of(self, batch: Batch) -> Tensor | None:
        """Return what the sample is conditioned on, [batch, ...]."""
        if self.condition is None:
            return None
        c = getattr(batch, self.condition)
        if c is None:
            raise ValueError(f"samples are conditioned on {self.condition}: the batch has none")
        return one_hot(c, self.n_classes) if self.condition == "y" and self.n_classes else c

    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """Draw [n, d], one for each row of ``c`` [n, ...] if there is a condition."""
        return self.at(parallel.share(self.draw_noise(n * parallel.n_shares())), c)

    def draw_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Draw noise for n samples."""
        return self.noise().sample((n,))

    def at(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Tensor:
        """Return what given noise (and conditions, row by row) becomes, [n, d]."""
        return at_least_single(self.network(h if c is None else torch.cat([c.to(h.dtype), h], -1)))


class Coded(nn.Module):
    """A generator of codes, and the autoencoder that makes rows of them (Li et al., 2015).

    A run is about codes: those of the batch in the place of its rows, and those drawn. The
    autoencoder stays as it was fitted: it learns nothing here, and drops nothing.

    Parameters
    ----------
    generator : Generator
        Draws codes.
    coder : Coder or LatentModel
        Fitted to rows. The code of a row under a latent-variable model is E_q[z | x].
    """

    def __init__(self, generator: Generator, coder: Coder | LatentModel) -> None:
        super().__init__()
        self.generator, self.coder = generator, coder
        self.train(self.training)

    def train(self, mode: bool = True) -> Coded:
        """Set the mode of the generator alone."""
        super().train(mode)
        self.coder.eval()
        return self

    @torch.no_grad()
    def codes(self, batch: Batch) -> Tensor:
        """Return the codes of a batch, [batch, n]."""
        found = self.coder.encode(batch)
        return found if isinstance(found, Tensor) else centre(found)

    def run(self, batch: Batch) -> Run:
        """Encode the batch, and draw a code for every row of it."""
        return self.generator.run(batch._replace(x=self.codes(batch), mask=None))

    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """Draw rows [n, d]: the centre of p(x | code) for every code."""
        return centre(self.coder.decode(self.generator.sample(n, c)))

    def draw_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Draw noise for n samples."""
        return self.generator.draw_noise(n)

    def at(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Tensor:
        """Return what given noise (and conditions, row by row) becomes, [n, d]."""
        return centre(self.coder.decode(self.generator.at(h, c)))


class Game(nn.Module):
    """A generator and the critic it plays against (Goodfellow et al., 2014).

    Parameters
    ----------
    generator : Generator
        Draws samples.
    critic : Module
        Sample, or [sample, condition] side by side, to the logit of "comes from the data", [n] or
        [n, 1].
    """

    def __init__(self, generator: Generator, critic: nn.Module) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    def run(self, batch: Batch) -> Run:
        """Draw one sample for every row of the batch."""
        return self.generator.run(batch)

    def judge(self, x: Tensor, batch: Batch) -> Tensor:
        """Return the critic's logits of rows, which it sees with their conditions."""
        c = self.generator.condition_of(batch)
        return self.critic(x if c is None else torch.cat([x, c.to(x.dtype)], -1))
