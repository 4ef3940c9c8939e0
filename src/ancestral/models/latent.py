"""Explicit latent-variable models: prior, likelihood and approximate posterior.

A training step runs the model once, and all terms of the objective use the same :class:`Run`.
Implicit models, which have samples but no density, are in :mod:`ancestral.models.implicit`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ancestral.data.batch import Batch
from ancestral.models.run import LatentRun
from ancestral.nn import ActivationCollector
from ancestral.probability.conditionals import Conditional, Context, ContextLike, reads_context
from ancestral.probability.distributions import log_prob, mean_or_mode, rsample_or_sample


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
    prior). If its network begins with ``ReadContext``, it is called on a ``Context`` with all
    available fields instead. Further modules, such as a classifier, can be added as attributes.

    Examples
    --------
    >>> from ancestral.probability.conditionals import Bernoulli, Gaussian
    >>> from ancestral.probability.conditionals import standard_normal
    >>> from ancestral.nn import MLP
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
        self._context_conditionals = {c for c in (prior, likelihood, posterior) if reads_context(c)}
        self._collector = ActivationCollector(prior, likelihood, posterior)

    def run(self, batch: Batch, k: int = 1) -> LatentRun:
        """Run the encoder once per sample and the decoder on k latent samples of each."""
        q = self.encode(batch)
        return self.run_at(rsample_or_sample(q, (k,)), batch, q)

    def score(self, z: Float[Tensor, "*k b l"], batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute log p(z) and log p(x | z) at latents z, each [..., batch], in nats.

        log p(x | z) is that of the observed entries.
        """
        prior, log_px = self._evaluate(z, batch)
        self._collector.collect()
        return log_prob(prior, z), log_px

    def run_at(self, z: Float[Tensor, "*k b l"], batch: Batch, q: Distribution) -> LatentRun:
        """Run the model at latents z [..., batch, n_latents]; ``q`` is recorded as given."""
        prior, log_px = self._evaluate(z, batch)
        return LatentRun(batch, q, prior, z, log_px, activations=self._collector.collect())

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
        p = self.decode(self.sample_prior(n, y), y)
        return mean_or_mode(p) if mean else p.sample()

    def sample_joint(self, n: int, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sample latents z [n, l] from the prior and x [n, d] from p(x | z)."""
        z = self.sample_prior(n, y)
        return z, self.decode(z, y).sample()

    def sample_prior(self, n: int, y: Tensor | None = None) -> Tensor:
        """Sample n latents [n, l] from the prior; with ``y`` [n], one for each label."""
        prior = self._call(self.prior, None, Context(y=y))
        n_dims = len(prior.batch_shape) + len(prior.event_shape)
        return prior.sample((n,) if n_dims == 1 else ())

    def _call(self, conditional: Conditional, plain: ContextLike, context: Context) -> Distribution:
        return conditional(context if conditional in self._context_conditionals else plain)
