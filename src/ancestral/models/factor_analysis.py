"""Factor analysis as a conditional and as a latent-variable model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, distributions, nn

from ancestral.data.batch import Batch
from ancestral.models.exact import ExactModel, FunctionConditional, Statistics, _fill_missing
from ancestral.models.mixture_components import MIN_VARIANCE
from ancestral.probability.conditionals import Conditional, ContextLike, standard_normal
from ancestral.probability.distributions import mean_or_mode, rsample_or_sample


class FactorAnalyser(Conditional):
    """Factor analyser N(mu, W W^T + Psi) with diagonal Psi: x = W z + mu + noise, z ~ N(0, I).

    ``log_prob`` is exact, also with missing entries (Rubin and Thayer, 1982).

    Parameters
    ----------
    loading : Tensor [d, q]
        Initial loading matrix W, a parameter.
    mu : Tensor [d]
        Initial mean, a parameter.
    log_psi : Tensor [d]
        Initial log noise variances, a parameter.

    Examples
    --------
    >>> fa = FactorAnalyser(torch.ones(3, 1), torch.zeros(3), torch.zeros(3))
    >>> round(fa.log_prob(torch.zeros(3)).item(), 4)
    -3.45
    """

    def __init__(self, loading: Tensor, mu: Tensor, log_psi: Tensor) -> None:
        super().__init__()
        self.loading, self.mu = nn.Parameter(loading.clone()), nn.Parameter(mu.clone())
        self.log_psi = nn.Parameter(log_psi.clone())

    def forward(self, c: ContextLike = None) -> distributions.LowRankMultivariateNormal:  # noqa: ARG002
        """Return the marginal distribution p(x)."""
        return distributions.LowRankMultivariateNormal(
            self.mu, self.loading, self.log_psi.exp(), validate_args=False
        )

    def likelihood(self, z: Float[Tensor, "*b q"]) -> distributions.Normal:
        """Return p(x | z) = N(W z + mu, Psi)."""
        mean = z @ self.loading.T + self.mu
        return distributions.Normal(mean, torch.exp(0.5 * self.log_psi), validate_args=False)

    def posterior(
        self, x: Float[Tensor, "*b d"], mask: Float[Tensor, "*b d"] | None = None
    ) -> distributions.MultivariateNormal:
        """Return p(z | x) = N(G W^T Psi^-1 (x - mu), G) with G = (I + W^T Psi^-1 W)^-1.

        Sums over entries skip those where ``mask`` is 0 (missing).
        """
        scaled = self.loading / self.log_psi.exp().unsqueeze(-1)
        if mask is None:
            residual, precision = x - self.mu, self.loading.T @ scaled
        else:
            residual = (x - self.mu) * mask
            outer = self.loading.unsqueeze(-1) * scaled.unsqueeze(-2)  # [d, q, q]
            precision = (mask.to(x.dtype) @ outer.flatten(1)).unflatten(-1, outer.shape[1:])
        identity = torch.eye(self.loading.shape[1], dtype=x.dtype, device=x.device)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(identity + precision))
        mean = (residual @ scaled).unsqueeze(-2) @ covariance
        return distributions.MultivariateNormal(mean.squeeze(-2), covariance, validate_args=False)


class FactorAnalysisModel(ExactModel):
    """Factor analysis: z ~ N(0, I), x | z ~ N(W z + mu, Psi) with diagonal Psi.

    Parameters
    ----------
    analyser : FactorAnalyser
        Conditional with parameters W, mu and Psi.
    isotropic : bool, default False
        Constrain Psi = sigma^2 I: probabilistic PCA (Tipping and Bishop, 1999).

    Examples
    --------
    >>> analyser = FactorAnalyser(torch.ones(3, 1), torch.zeros(3), torch.zeros(3))
    >>> model = FactorAnalysisModel(analyser)
    >>> run = model.run(Batch(torch.ones(2, 3)), k=4)  # each importance weight equals p(x)
    >>> bool((run.log_w - model.log_marginal(run.batch)).abs().max() < 1e-5)
    True
    """

    def __init__(self, analyser: FactorAnalyser, isotropic: bool = False) -> None:
        super().__init__(
            standard_normal(analyser.loading.shape[1]),
            FunctionConditional(analyser.likelihood),
            FunctionConditional(analyser.posterior, context_fields=("x", "mask")),
        )
        self.analyser, self.isotropic = analyser, isotropic

    def log_marginal(self, batch: Batch) -> Float[Tensor, " b"]:
        """Log p(x) of the observed entries, [batch], in nats."""
        q = self.encode(batch)
        return self.run_at(q.mean, batch, q).log_w  # log p(x, z) - log p(z | x) is equal at all z

    def e_step(self, batch: Batch) -> tuple[Float[Tensor, " b"], Statistics]:
        """E-step: log p(x) and, with u = [z, 1], sums of E[u u^T], x E[u]^T, x^2 and counts.

        Sums run over the rows in which a column is observed.
        """
        x, mask, q = batch.x, batch.mask, self.analyser.posterior(batch.x, batch.mask)
        u = nn.functional.pad(q.mean, (0, 1), value=1.0)
        products = u.unsqueeze(-1) * u.unsqueeze(-2)
        products[:, :-1, :-1] += q.covariance_matrix
        if mask is None:  # equal for all columns
            products, n = products.sum(0, keepdim=True), x.new_full((1,), len(x))
        else:
            products = (mask.T @ products.flatten(1)).unflatten(-1, u.shape[-1:] * 2)
            n = mask.sum(0)
        log_px = self.run_at(q.mean, batch, q).log_w
        return log_px, [[products, x.T @ u, x.square().sum(0), n]]

    def m_step(self, statistics: Statistics) -> None:
        """M-step: regress each column on [z, 1]; Psi is the residual variance."""
        products, cross, squares, n = statistics[0]
        weights = torch.linalg.solve(products, cross.unsqueeze(-1)).squeeze(-1)
        rss = squares - (weights * cross).sum(-1)  # residual sum of squares
        psi = (rss.sum() / n.expand_as(rss).sum()).expand_as(rss) if self.isotropic else rss / n
        self.analyser.loading.copy_(weights[:, :-1])
        self.analyser.mu.copy_(weights[:, -1])
        self.analyser.log_psi.copy_(psi.clamp(min=MIN_VARIANCE).log())

    def impute(self, batch: Batch, *, sample: bool = False) -> Float[Tensor, "b d"]:
        """Impute missing entries by E[x_missing | x_observed], or by a sample if ``sample``."""
        q = self.encode(batch)
        p = self.decode(rsample_or_sample(q) if sample else mean_or_mode(q))
        return _fill_missing(batch, rsample_or_sample(p) if sample else mean_or_mode(p))
