"""Weighted samples of p(z | x_observed) for rows with missing entries.

The recognition network q(z | x) is trained on complete rows: at a row with gaps it may be far
from the posterior given the observed entries. The proposal is a mixture for each row: Gaussians
fitted to the posterior by gradient steps on the bound of the observed entries (Cremer, Li and
Duvenaud, 2018, section 5.2, local optimisation), started from pseudo-Gibbs chains; q itself; and
the prior as a defensive component (Hesterberg, 1995). Samples are weighted by p(z) p(x_observed |
z) / proposal(z), so means and likelihoods converge to the exact ones of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Normal

from ancestral.data.batch import Batch
from ancestral.evaluation.imputation import pseudo_gibbs
from ancestral.models.latent import LatentModel
from ancestral.probability.distributions import (
    Categorical,
    MixedColumns,
    log_prob,
    mean_or_mode,
    rsample_or_sample,
)

N_CHAINS, N_REFINEMENT_STEPS = 4, 200

DEFENSIVE_SHARE = 0.1
"""Share of the samples from the prior, and of those from q(z | x) at the incomplete row."""

WIDENING = 1.5
"""Factor of the standard deviations of the widened copy of every fitted component."""

DECODED_VALUES = 5_000_000
"""Maximum number of values of x that are decoded at once."""


@dataclass(frozen=True, eq=False)
class MixtureProposal:
    """Mixture proposal of latents, one mixture for each row of a batch.

    Attributes
    ----------
    components : sequence of Distribution
        Components with batches of latents [batch, n_latents]; the prior is a further component.
    shares : sequence of float
        Share of the samples of each component and, last, of the prior; their sum is 1.
    """

    components: Sequence[Distribution]
    shares: Sequence[float]

    def weigh(
        self, model: LatentModel, batch: Batch, n: int
    ) -> tuple[Float[Tensor, "n b l"], Float[Tensor, "n b"]]:
        """Sample n latents of each row and compute their log weights, in nats.

        The numbers of samples of the components are fixed (stratified sampling), which leaves the
        mean weight an unbiased estimate of p(x_observed).

        Parameters
        ----------
        model : LatentModel
            Model in evaluation mode.
        batch : Batch
            Rows with their mask.
        n : int
            Number of samples.

        Returns
        -------
        (Tensor [n, batch, n_latents], Tensor [n, batch])
            Samples and log p(z) + log p(x_observed | z) - log proposal(z).
        """
        edges = [round(n * sum(self.shares[: i + 1])) for i in range(len(self.shares))]
        counts = [b - a for a, b in zip([0, *edges], edges, strict=False)]
        parts = [rsample_or_sample(q, (k,)) for q, k in zip(self.components, counts, strict=False)]
        y = None if batch.y is None else batch.y.repeat(counts[-1], *[1] * (batch.y.ndim - 1))
        rows = len(batch.x)
        if counts[-1]:
            parts.append(model.sample_prior(counts[-1] * rows, y).view(counts[-1], rows, -1))
        z = torch.cat(parts)
        log_pz, log_px = model.score(z, batch)
        densities = [
            math.log(k / n) + (log_pz if q is None else log_prob(q, z))
            for q, k in zip([*self.components, None], counts, strict=True)
            if k
        ]
        return z, log_pz + log_px - torch.logsumexp(torch.stack(densities), 0)


@torch.no_grad()
def gap_proposal(
    model: LatentModel,
    batch: Batch,
    init: Float[Tensor, "batch d"] | None = None,
    *,
    n_iter: int = 20,
    n_chains: int = N_CHAINS,
    n_steps: int = N_REFINEMENT_STEPS,
    bounds: Float[Tensor, "2 d"] | None = None,
) -> MixtureProposal:
    """Build the proposal of p(z | x_observed) for rows with missing entries.

    Noise comes from torch's global generator.

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode.
    batch : Batch
        Rows with their mask.
    init : Tensor [batch, d], optional
        Initial values of missing entries; by default samples of the model.
    n_iter : int
        Pseudo-Gibbs iterations that give the starting points.
    n_chains : int
        Number of chains, each the start of one fitted component.
    n_steps : int
        Gradient steps. Models with discrete latents have none: their components are q(z | x) at
        the imputed rows.
    bounds : Tensor [2, d], optional
        Range of imputed values of the chains.
    """
    assert batch.mask is not None
    y = None if batch.y is None else batch.y.repeat(n_chains, *[1] * (batch.y.ndim - 1))
    x, mask = batch.x.repeat(n_chains, 1), batch.mask.repeat(n_chains, 1)
    start = model.sample(len(x), y) if init is None else init.repeat(n_chains, 1)
    imputed = pseudo_gibbs(model, x, mask, start, n_iter=n_iter, y=y, bounds=bounds)
    rows = imputed.view(n_chains, *batch.x.shape)
    at_chains: list[Distribution] = [model.encode(Batch(row, batch.y)) for row in rows]
    at_gaps = model.encode(batch)
    share = (1 - 2 * DEFENSIVE_SHARE) / n_chains
    if not at_gaps.has_rsample:
        shares = [share] * n_chains + [DEFENSIVE_SHARE] * 2
        return MixtureProposal([*at_chains, at_gaps], shares)
    fitted, log_scale = _refine(model, batch, at_chains, n_steps)
    scale = log_scale.exp()
    narrow = [Normal(*p, validate_args=False) for p in zip(fitted, scale, strict=True)]
    wide = [Normal(*p, validate_args=False) for p in zip(fitted, WIDENING * scale, strict=True)]
    shares = [share / 2] * (2 * n_chains) + [DEFENSIVE_SHARE] * 2
    return MixtureProposal([*narrow, *wide, at_gaps], shares)


def _refine(
    model: LatentModel, batch: Batch, starts: Sequence[Distribution], n_steps: int
) -> tuple[Tensor, Tensor]:
    """Fit diagonal Gaussians to p(z | x_observed) by Adam on the bound of each row.

    Returns means and log standard deviations, [chains, batch, n_latents] each.
    """
    loc = torch.stack([mean_or_mode(q) for q in starts])
    samples = torch.stack([rsample_or_sample(q, (8,)) for q in starts])
    log_scale = (samples - loc.unsqueeze(1)).square().mean(1).sqrt().clamp(1e-3).log()
    parameters = torch.stack([loc, log_scale])
    first, second = torch.zeros_like(parameters), torch.zeros_like(parameters)
    for t in range(1, n_steps + 1):
        with torch.enable_grad():
            variable = parameters.detach().requires_grad_()
            z = variable[0] + variable[1].exp() * torch.randn_like(variable[0])
            log_pz, log_px = model.score(z, batch)
            bound = (log_pz + log_px).sum() + variable[1].sum()
            (gradient,) = torch.autograd.grad(bound, variable)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient.square()
        rate = 0.1 * (1 - (t - 1) / n_steps) + 0.005
        step = (first / (1 - 0.9**t)) / ((second / (1 - 0.98**t)).sqrt() + 1e-8)
        parameters = parameters + rate * step
    return parameters[0], parameters[1].clamp(-7.0, 3.0)


@torch.no_grad()
def weighted_samples(
    model: LatentModel, batch: Batch, proposal: MixtureProposal, n_samples: int
) -> tuple[Float[Tensor, "n b l"], Float[Tensor, "n b"]]:
    """Sample latents in parts of bounded memory; samples and log weights as of ``weigh``."""
    size = max(20, DECODED_VALUES // batch.x.numel())
    n_parts = -(-n_samples // size)
    sizes = [n_samples // n_parts + (i < n_samples % n_parts) for i in range(n_parts)]
    parts = [proposal.weigh(model, batch, n) for n in sizes]
    z, log_w = (torch.cat(values) for values in zip(*parts, strict=True))
    return z, log_w.nan_to_num(-math.inf, posinf=-math.inf)


@torch.no_grad()
def conditional_mean(
    model: LatentModel,
    z: Float[Tensor, "n b l"],
    log_w: Float[Tensor, "n b"],
    y: Tensor | None = None,
    categorical: Sequence[int] = (),
) -> Float[Tensor, "b d"]:
    """Self-normalised mean of E[x | z] over weighted latents, [batch, d].

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode.
    z, log_w : Tensor [n, batch, n_latents], [n, batch]
        Latents and their log weights.
    y : Tensor [batch], optional
        Labels, for a model conditioned on them.
    categorical : sequence of int
        Columns of codes; their result is the code of the largest mean probability.
    """
    weights = torch.softmax(log_w, 0).unsqueeze(-1)
    size = max(1, DECODED_VALUES // mean_or_mode(model.decode(z[:1], y)).numel())
    mean: Tensor | float = 0.0
    probabilities: Tensor | float = 0.0
    for part, w in zip(z.split(size), weights.split(size), strict=True):
        p = model.decode(part, y)
        mean = mean + (w * mean_or_mode(p)).sum(0)
        if categorical:
            probabilities = probabilities + (w.unsqueeze(-1) * _category_probabilities(p)).sum(0)
    assert isinstance(mean, Tensor)
    if isinstance(probabilities, Tensor):
        mean[:, list(categorical)] = probabilities.argmax(-1).to(mean)
    return mean


def _category_probabilities(p: Distribution) -> Tensor:
    """Probabilities of the codes of the categorical columns, [..., columns, codes]."""
    parts = p.parts if isinstance(p, MixedColumns) else [p]
    return next(part.probs for part in parts if isinstance(part, Categorical))


@torch.no_grad()
def conditional_draw(
    model: LatentModel,
    z: Float[Tensor, "n b l"],
    log_w: Float[Tensor, "n b"],
    y: Tensor | None = None,
) -> Float[Tensor, "b d"]:
    """Draw x [batch, d]: one latent of each row, chosen by its weight, then p(x | z)."""
    chosen = torch.distributions.Categorical(logits=log_w.T, validate_args=False).sample()
    rows = torch.arange(len(chosen), device=chosen.device)
    return model.decode(z[chosen, rows], y).sample()
