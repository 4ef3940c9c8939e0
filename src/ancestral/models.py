"""Explicit and implicit generative models, and the record of a forward pass.

An explicit model has densities (:class:`LatentModel`); an implicit model can only be sampled
(:class:`Generator`). A training step runs the model once, and all terms of the objective use the
same :class:`Run`.
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
    """Record of one forward pass.

    Attributes
    ----------
    batch : Batch
        Input of the pass.
    taps : dict of Tensor
        Activations recorded by the ``Tap`` modules of the networks, by name.
    """

    batch: Batch
    taps: dict[str, Tensor] = field(default_factory=dict, kw_only=True)


@dataclass(eq=False)
class LatentRun(Run):
    """Record of a forward pass of a latent-variable model.

    Attributes
    ----------
    q, prior : Distribution
        q(z | x) and p(z).
    z : Tensor [k, batch, n_latents]
        Latent samples.
    log_px : Tensor [k, batch]
        log p(x | z) of the observed entries, in nats.
    log_w_before : Tensor [K, batch], optional
        Log importance weights of the K samples from which z was resampled.
    """

    q: Distribution
    prior: Distribution
    z: Tensor
    log_px: Tensor
    log_w_before: Tensor | None = None
    _known: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def log_pz(self) -> Tensor:
        """Log p(z), [k, batch], in nats."""
        return self._once("log_pz", lambda: log_prob(self.prior, self.z))

    @property
    def log_qz(self) -> Tensor:
        """Log q(z | x), [k, batch], in nats."""
        return self._once("log_qz", lambda: log_prob(self.q, self.z))

    @property
    def log_w(self) -> Tensor:
        """Log importance weights log p(x, z) - log q(z | x), [k, batch], in nats."""
        return self.log_px + self.log_pz - self.log_qz

    def _once(self, name: str, compute: Callable[[], Tensor]) -> Tensor:
        if name not in self._known:  # functools.cached_property takes a lock: not traceable
            self._known[name] = compute()
        return self._known[name]


@dataclass(eq=False)
class AutoencoderRun(Run):
    """Record of a forward pass of an autoencoder.

    Attributes
    ----------
    code : Tensor [batch, n]
        Codes of the rows.
    log_px : Tensor [batch]
        log p(x | code) of the observed entries, in nats.
    """

    code: Tensor
    log_px: Tensor


@dataclass(eq=False)
class FeatureRun(Run):
    """Record of a forward pass of a discriminative model.

    Attributes
    ----------
    features : Tensor [batch, n]
        Inputs of the classifier.
    """

    features: Tensor


@dataclass(eq=False)
class GeneratorRun(Run):
    """Record of a forward pass of an implicit generator.

    Attributes
    ----------
    sample : Tensor [batch, ...]
        One generated sample for every row of the batch.
    """

    sample: Tensor


class LatentModel(nn.Module):
    """Explicit latent-variable model p(z) p(x | z) with an approximate posterior q(z | x).

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
    A conditional is called on a tensor (the posterior on x, the likelihood on z) or on None (the
    prior). If its network begins with ``Read``, it is called on a ``Context`` with all available
    fields instead. Further modules, such as a classifier, can be added as attributes.

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

    def run(self, batch: Batch, k: int = 1) -> LatentRun:
        """Run the encoder once per sample and the decoder on k latent samples of each."""
        q = self.encode(batch)
        return self.run_at(draw(q, (k,)), batch, q)

    def score(self, z: Float[Tensor, "*k b l"], batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute log p(z) and log p(x | z) at latents z, each [..., batch], in nats.

        log p(x | z) is that of the observed entries.
        """
        prior, log_px = self._evaluate(z, batch)
        self._taps.take()
        return log_prob(prior, z), log_px

    def run_at(self, z: Float[Tensor, "*k b l"], batch: Batch, q: Distribution) -> LatentRun:
        """Run the model at latents z [..., batch, n_latents]; ``q`` is recorded as given."""
        prior, log_px = self._evaluate(z, batch)
        return LatentRun(batch, q, prior, z, log_px, taps=self._taps.take())

    def _evaluate(self, z: Tensor, batch: Batch) -> tuple[Distribution, Tensor]:
        """Return p(z) and log p(x | z) [..., batch] of the observed entries."""
        prior = self._call(self.prior, None, Context(y=batch.y))
        return prior, log_prob(self.decode(z, batch.y), batch.x, batch.mask)

    def encode(self, batch: Batch) -> Distribution:
        """Return q(z | x) of a batch."""
        context = Context(batch.x, batch.y, batch.mask)
        return self._call(self.posterior, batch.x, context)

    def decode(self, z: Float[Tensor, "*b l"], y: Tensor | None = None) -> Distribution:
        """Return p(x | z) of latent vectors."""
        return self._call(self.likelihood, z, Context(y=y, z=z))

    def sample(self, n: int, y: Tensor | None = None, *, mean: bool = False) -> Tensor:
        """Ancestral sampling: z from the prior, then x given z.

        Parameters
        ----------
        n : int
            Number of samples; with ``y``, the number of labels.
        y : Tensor [n], optional
            Label of each sample, for class-conditional models.
        mean : bool, default False
            Return E[x | z] instead of a sample from p(x | z).

        Returns
        -------
        Tensor [n, d]
            Samples of x, or their conditional means.
        """
        p = self.decode(self.draw_latents(n, y), y)
        return centre(p) if mean else p.sample()

    def draw(self, n: int, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sample latents z [n, l] from the prior and x [n, d] from p(x | z)."""
        z = self.draw_latents(n, y)
        return z, self.decode(z, y).sample()

    def draw_latents(self, n: int, y: Tensor | None = None) -> Tensor:
        """Sample n latents [n, l] from the prior; with ``y`` [n], one for each label."""
        prior = self._call(self.prior, None, Context(y=y))
        n_dims = len(prior.batch_shape) + len(prior.event_shape)
        return prior.sample((n,) if n_dims == 1 else ())

    def _call(self, conditional: Conditional, plain: Given, context: Context) -> Distribution:
        return conditional(context if conditional in self._readers else plain)


class Lowest(Conditional):
    """Likelihood p(x | h_1, ..., c) that depends only on the last n entries, c.

    Parameters
    ----------
    conditional : Conditional
        p(x | c).
    n : int
        Width of c.
    """

    def __init__(self, conditional: Conditional, n: int) -> None:
        super().__init__()
        self.conditional, self.n = conditional, n

    def forward(self, c: Given = None) -> Distribution:
        """Call the conditional on the last n entries."""
        assert isinstance(c, Tensor)
        return self.conditional(c[..., -self.n :])


class Stacked(LatentModel):
    """Stack of two latent-variable models, p(h) p(c | h) p(x | c).

    The fitted bottom model gives p(x | c) and q(c | x). The top model replaces its prior p(c) and
    is fitted to codes c sampled from q(c | x). The latent vector is [h, c].

    Parameters
    ----------
    top : LatentModel
        p(h) p(c | h) with q(h | c); its conditionals are called on tensors.
    bottom : LatentModel
        p(x | c) with q(c | x). It remains in evaluation mode.
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
        self.sizes, self._both = sizes, (top, bottom)  # a tuple: their modules are registered
        self.train(self.training)

    @property
    def top(self) -> LatentModel:
        """Model of the codes, p(h) p(c | h)."""
        return self._both[0]

    @property
    def bottom(self) -> LatentModel:
        """Model of the data given codes, p(x | c)."""
        return self._both[1]

    def train(self, mode: bool = True) -> Stacked:
        """Set the mode of the top model; the bottom model remains in evaluation mode."""
        super().train(mode)
        self.bottom.eval()
        return self

    def codes(self, batch: Batch) -> Batch:
        """Return the batch with x replaced by codes sampled from q(c | x), without a mask."""
        with torch.no_grad():
            return batch._replace(x=draw(self.bottom.encode(batch)), mask=None)


class FeatureModel(nn.Module):
    """Discriminative model: a feature network and a linear classifier.

    Parameters
    ----------
    network : Module
        Map ``Context`` -> features [batch, n]. It begins with ``Read`` or reads x and mask itself.
    classifier : Module
        Map features -> scores [batch, n_classes].
    """

    def __init__(self, network: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.network, self.classifier = network, classifier

    def features(self, batch: Batch) -> Tensor:
        """Return the features of a batch, [batch, n]."""
        return self.network(Context(batch.x, batch.y, batch.mask))

    def run(self, batch: Batch) -> FeatureRun:
        """Run the network once."""
        return FeatureRun(batch, self.features(batch))


class Coder(nn.Module):
    """Autoencoder with a deterministic encoder and a likelihood p(x | code).

    Unlike a :class:`LatentModel` it has no prior over codes.

    Parameters
    ----------
    encoder : Module
        Map ``Context`` -> codes [batch, n]. It begins with ``Read`` or reads x and mask itself.
    likelihood : Conditional
        p(x | code).

    Examples
    --------
    >>> from ancestral.conditional import Bernoulli
    >>> from ancestral.networks import MLP, Read
    >>> encoder = nn.Sequential(Read("x"), MLP(4, (8,), 2))
    >>> Coder(encoder, Bernoulli(MLP(2, (8,), 4))).run(Batch(torch.ones(3, 4))).log_px.shape
    torch.Size([3])
    """

    def __init__(self, encoder: nn.Module, likelihood: Conditional) -> None:
        super().__init__()
        self.encoder, self.likelihood = encoder, likelihood

    def encode(self, batch: Batch) -> Tensor:
        """Return the codes of a batch, [batch, n]."""
        return self.encoder(Context(batch.x, batch.y, batch.mask))

    def decode(self, code: Float[Tensor, "*b n"]) -> Distribution:
        """Return p(x | code)."""
        return self.likelihood(code)

    def run(self, batch: Batch) -> AutoencoderRun:
        """Encode a batch and compute log p(x | code) of the observed entries."""
        code = self.encode(batch)
        return AutoencoderRun(batch, code, log_prob(self.decode(code), batch.x, batch.mask))


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

    def run(self, batch: Batch) -> GeneratorRun:
        """Generate one sample per row of the batch."""
        sample = self.sample(len(batch.x), self.condition_of(batch))
        return GeneratorRun(batch, sample, taps=self._taps.take())

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
        return self.at(parallel.share(self.draw_noise(n * parallel.n_shares())), c)

    def draw_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Sample noise for n samples, [n, l]."""
        return self.noise().sample((n,))

    def at(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Tensor:
        """Map noise h [n, l], and conditions c [n, ...] if given, to samples [n, d]."""
        return at_least_single(self.network(h if c is None else torch.cat([c.to(h.dtype), h], -1)))


class Coded(nn.Module):
    """Generator in the code space of a fitted autoencoder (Li et al., 2015).

    In its :class:`GeneratorRun`, the batch contains codes instead of x, and the sample consists of
    generated codes. The autoencoder is not trained and remains in evaluation mode.

    Parameters
    ----------
    generator : Generator
        Generator of codes.
    coder : Coder or LatentModel
        Fitted autoencoder. With a latent-variable model, codes are posterior means E_q[z | x].
    """

    def __init__(self, generator: Generator, coder: Coder | LatentModel) -> None:
        super().__init__()
        self.generator, self.coder = generator, coder
        self.train(self.training)

    def train(self, mode: bool = True) -> Coded:
        """Set the mode of the generator; the autoencoder remains in evaluation mode."""
        super().train(mode)
        self.coder.eval()
        return self

    @torch.no_grad()
    def codes(self, batch: Batch) -> Tensor:
        """Return the codes of a batch, [batch, n]."""
        code = self.coder.encode(batch)
        return code if isinstance(code, Tensor) else centre(code)

    def run(self, batch: Batch) -> GeneratorRun:
        """Encode the batch and generate one code per row."""
        return self.generator.run(batch._replace(x=self.codes(batch), mask=None))

    def sample(self, n: int, c: Tensor | None = None) -> Tensor:
        """Generate samples [n, d]: the mean of p(x | code) (mode of codes) at generated codes."""
        return centre(self.coder.decode(self.generator.sample(n, c)))

    def draw_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Sample noise for n samples, [n, l]."""
        return self.generator.draw_noise(n)

    def at(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Tensor:
        """Map noise h [n, l], and conditions c [n, ...] if given, to samples [n, d]."""
        return centre(self.coder.decode(self.generator.at(h, c)))


class Game(nn.Module):
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

    def judge(self, x: Tensor, batch: Batch) -> Tensor:
        """Compute the critic's logits of x, concatenated with the conditions of the batch."""
        c = self.generator.condition_of(batch)
        return self.critic(x if c is None else torch.cat([x, c.to(x.dtype)], -1))
