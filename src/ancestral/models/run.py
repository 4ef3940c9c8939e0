"""Record of one forward pass of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor
from torch.distributions import Distribution

from ancestral.data.batch import Batch
from ancestral.probability.distributions import log_prob


@dataclass(eq=False)
class Run:
    """Record of one forward pass.

    Attributes
    ----------
    batch : Batch
        Input of the pass.
    activations : dict of Tensor
        Activations recorded by the ``ActivationTap`` modules of the networks, by name.
    """

    batch: Batch
    activations: dict[str, Tensor] = field(default_factory=dict, kw_only=True)


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
    log_w_all : Tensor [K, batch], optional
        Log importance weights of the K samples from which z was resampled.
    """

    q: Distribution
    prior: Distribution
    z: Tensor
    log_px: Tensor
    log_w_all: Tensor | None = None
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
