"""Annealed importance sampling (AIS) with Hamiltonian Monte Carlo: bounds on the log-likelihood.

A chain starts at a sample of a tractable distribution f_0 and passes through the intermediate
distributions f_t = f_0^(1 - beta_t) f_1^beta_t to f_1(z) = p(x, z). The product of the ratios
(f_1 / f_0)^(beta_t - beta_(t-1)) along the chain is an unbiased estimate of p(x) (Neal, 2001). A
chain run in reverse from an exact posterior sample gives an unbiased estimate of 1 / p(x). The
logarithms bound log p(x), in expectation, from below and from above: bidirectional Monte Carlo
(Grosse, Ghahramani and Adams, 2015; Wu et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp
from torch import Tensor
from torch.distributions import Distribution
from tqdm import tqdm

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.evaluation.hmc import hmc_step, value_and_grad
from ancestral.evaluation.log_likelihood import ChunkResults, ImportanceSum, LogLikelihood
from ancestral.models.class_conditioned import ClassConditionedModel, class_log_prior
from ancestral.models.latent import LatentModel
from ancestral.probability.distributions import log_prob, rsample_or_sample
from ancestral.training import engine
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.engine import CompileChoice
from ancestral.utils.validation import Count, Positive, check_field

InitialDistribution = Literal["prior", "posterior"]

TARGET_ACCEPTANCE, STEP_INCREASE, STEP_DECREASE = 0.65, 1.02, 0.98

STEP_RANGE = (1e-4, 0.5)


@dataclass(frozen=True)
class Annealing:
    """Settings of annealed importance sampling.

    Parameters
    ----------
    n_steps : int
        Number of intermediate distributions T; the bias falls like 1 / T.
    n_chains : int
        Number of chains per row, over which the weights are averaged.
    n_leapfrog : int
        Number of leapfrog steps of a Hamiltonian trajectory; each distribution has one trajectory.
    initial_distribution : {"prior", "posterior"}
        Initial distribution f_0: p(z), or the model's q(z | x).
    initial_step_size : float
        Initial leapfrog step size, positive. A preliminary run adapts it to an acceptance rate of
        0.65; the weights are computed with the step sizes fixed, which leaves the estimate
        unbiased.

    Raises
    ------
    ValueError
        If a number is not positive or ``initial_distribution`` is not one of the two values.
    """

    n_steps: int = 1000
    n_chains: int = 16
    n_leapfrog: int = 10
    initial_distribution: InitialDistribution = "prior"
    initial_step_size: float = 0.1

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_chains", "n_leapfrog"):
            check_field(name, getattr(self, name), Count)
        check_field("initial_step_size", self.initial_step_size, Positive)
        check_field("initial_distribution", self.initial_distribution, InitialDistribution)

    @property
    def n_trajectories(self) -> int:
        """Trajectories per chain: one run to adapt the step sizes, one to compute the weights."""
        return 2 * self.n_steps

    def betas(self) -> Float[Tensor, " t"]:
        """Inverse temperatures from 0 to 1: a sigmoid schedule on [-4, 4], dense at both ends.

        >>> Annealing(n_steps=2).betas()
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
        """
        curve = torch.sigmoid(torch.linspace(-4, 4, self.n_steps + 1, dtype=torch.float64))
        return (curve - curve[0]) / (curve[-1] - curve[0])


class BidirectionalBounds(NamedTuple):
    """Bidirectional bounds on the mean log-likelihood of rows sampled from the model.

    Attributes
    ----------
    lower, upper : LogLikelihood
        Bounds for the same rows, in nats, from forward and from reverse chains.
    """

    lower: LogLikelihood
    upper: LogLikelihood

    @property
    def gap(self) -> float:
        """Mean upper bound minus mean lower bound, nats per row."""
        return self.upper.mean - self.lower.mean


@torch.no_grad()
def annealed_log_likelihood(
    model: LatentModel,
    data: DeviceData,
    annealing: Annealing | None = None,
    *,
    seed: int = 0,
    rows_per_chunk: int = 100,
    compile: CompileChoice = "auto",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> LogLikelihood:
    """Estimate log p(x) of every row by annealed importance sampling.

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode with continuous latent variables.
    data : Data
        Rows to evaluate; missing entries are integrated out.
    annealing : Annealing, optional
        Settings; by default 1,000 distributions and 16 chains from the prior.
    seed : int
        Seed of the chains. The global random state is not changed.
    rows_per_chunk : int
        Number of rows annealed together.
    compile : "auto" or bool
        Whether to compile the density and its gradient into one graph; see
        :func:`ancestral.training.engine.make_plan`.
    checkpoint : Checkpoint, optional
        Checkpoint of the finished rows, written periodically and on an interrupt. The same call
        resumes from it.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    LogLikelihood
        Stochastic lower bounds in nats, with Monte Carlo errors from the spread of the chains.

    Raises
    ------
    ValueError
        If the latent variables are not continuous or ``rows_per_chunk`` is not positive.
    """
    annealing = annealing or Annealing()
    check_field("rows_per_chunk", rows_per_chunk, Count)
    n = min(rows_per_chunk, len(data))
    n_chunks = -(-len(data) // n)
    path = _AnnealingPath(model, annealing, data.device, len(data), compile)
    bar = tqdm(
        total=n_chunks * annealing.n_trajectories, desc="AIS", disable=not progress, unit="move"
    )
    with (
        ChunkResults(checkpoint) as results,
        engine.fork_rng(data.device),
        engine.retain_freed_memory(),
        bar,
    ):
        for chunk, (batch, n_rows) in enumerate(data.padded_chunks(n)):
            if chunk < results.n_done:
                bar.update(annealing.n_trajectories)
                continue
            engine.seed(seed, chunk)
            total = ImportanceSum(len(batch.x), data.device)
            sizes = path.adapt_step_sizes(batch, bar.update)
            total.add(path.forward_log_weights(batch, sizes, bar.update))
            results.add(total.summary(), n_rows)
    return results.result(annealing.n_chains, "AIS")


@torch.no_grad()
def bidirectional_bounds(
    model: LatentModel,
    n_rows: int = 100,
    annealing: Annealing | None = None,
    *,
    y: Tensor | None = None,
    seed: int = 0,
    compile: CompileChoice = "auto",
    progress: bool = False,
) -> BidirectionalBounds:
    """Bound the log-likelihood of rows sampled from the model from below and above.

    The latent vector that generated a row is an exact sample of its posterior: reverse chains
    from it give an upper bound on log p(x). A small gap shows that the annealing is long enough.

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode with continuous latent variables.
    n_rows : int
        Number of rows to sample.
    annealing : Annealing, optional
        Settings; by default 1,000 distributions and 16 chains from the prior.
    y : Tensor [n_rows], optional
        Labels, for a model conditioned on them.
    seed : int
        Seed of rows and chains. The global random state is not changed.
    compile : "auto" or bool
        Whether to compile the density and its gradient into one graph; see
        :func:`ancestral.training.engine.make_plan`.
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    ValueError
        If the latent variables are not continuous or ``n_rows`` is not positive.
    """
    annealing = annealing or Annealing()
    device = next(model.parameters()).device
    n_trajectories = annealing.n_trajectories + annealing.n_steps
    bar = tqdm(total=n_trajectories, desc="AIS", disable=not progress, unit="move")
    with engine.seeded_rng(seed, device=device), engine.retain_freed_memory(), bar:
        check_field("n_rows", n_rows, Count)
        z, x = model.sample_joint(n_rows, y)
        path, batch = _AnnealingPath(model, annealing, device, n_rows, compile), Batch(x, y)
        sizes = path.adapt_step_sizes(batch, bar.update)
        forward_sum, reverse_sum = ImportanceSum(n_rows, device), ImportanceSum(n_rows, device)
        forward_sum.add(path.forward_log_weights(batch, sizes, bar.update))
        reverse_sum.add(path.reverse_log_weights(z, batch, sizes, bar.update))
    lower, upper = (_to_log_likelihood(total, annealing) for total in (forward_sum, reverse_sum))
    return BidirectionalBounds(lower, replace(upper, values=-upper.values))


def _to_log_likelihood(total: ImportanceSum, annealing: Annealing) -> LogLikelihood:
    results = ChunkResults()
    results.add(total.summary(), len(total.log_w))
    return results.result(annealing.n_chains, "AIS")


class _AnnealingPath:
    """Annealing path from f_0 to f_1 for the rows of a batch; chains are [n_chains, batch, l]."""

    def __init__(
        self,
        model: LatentModel,
        annealing: Annealing,
        device: torch.device,
        n_rows: int,
        compile: CompileChoice,
    ) -> None:
        self.model, self.annealing = model, annealing
        self.betas = annealing.betas().to(device, engine.widest_float_dtype(device))
        n_gradients = annealing.n_trajectories * annealing.n_leapfrog
        n_parameters = sum(p.numel() for p in model.parameters())
        work = float(n_rows * annealing.n_chains * n_gradients * n_parameters)
        compiled = engine.make_plan(model, device, work, compile, "float32").compiled
        self.value_and_grad = engine.CompiledFunction(self._value_and_grad, compiled=compiled)

    def end_log_densities(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log f_0(z) and log f_1(z), [n_chains, batch]."""
        log_pz, log_px = self.model.score(z, batch)
        q = self._posterior(batch)
        return (log_pz if q is None else log_prob(q, z)), log_pz + log_px

    def sample_initial(self, batch: Batch, n_chains: int) -> Tensor:
        """Sample f_0, [n_chains, batch, l]."""
        if (q := self._posterior(batch)) is not None:
            return rsample_or_sample(q, (n_chains,))
        n = len(batch.x)
        y = None if batch.y is None else batch.y.repeat(n_chains)
        return self.model.sample_prior(n_chains * n, y).unflatten(0, (n_chains, n))

    def adapt_step_sizes(self, batch: Batch, update_progress: Callable[[], object]) -> list[Tensor]:
        """Adapt the leapfrog step size of every intermediate distribution, [batch] each."""
        if not self.model.encode(batch).has_rsample:
            raise ValueError(
                "model: annealed importance sampling follows gradients and requires continuous "
                "latent variables; use importance sampling for a model with discrete ones"
            )
        z = self.sample_initial(batch, max(2, self.annealing.n_chains // 8))
        size = z.new_full((z.shape[1],), self.annealing.initial_step_size)
        sizes = []
        for beta in self.betas[1:]:
            sizes.append(size)
            z, accepted = self.transition(z, batch, beta, size)
            increase = accepted.to(size.dtype).mean(0) > TARGET_ACCEPTANCE
            size = (size * torch.where(increase, STEP_INCREASE, STEP_DECREASE)).clamp(*STEP_RANGE)
            update_progress()
        return sizes

    def forward_log_weights(
        self, batch: Batch, sizes: list[Tensor], update_progress: Callable[[], object]
    ) -> Tensor:
        """Log weights of chains from f_0 to f_1, [n_chains, batch]."""
        z = self.sample_initial(batch, self.annealing.n_chains)
        log_w = z.new_zeros(z.shape[:-1], dtype=self.betas.dtype)
        for previous, beta, size in zip(self.betas, self.betas[1:], sizes, strict=False):
            log_f0, log_f1 = self.end_log_densities(z, batch)
            log_w += (beta - previous) * (log_f1 - log_f0)
            z, _ = self.transition(z, batch, beta, size)
            update_progress()
        return log_w

    def reverse_log_weights(
        self, z: Tensor, batch: Batch, sizes: list[Tensor], update_progress: Callable[[], object]
    ) -> Tensor:
        """Log weights of chains from posterior samples z [batch, l] to f_0, [n_chains, batch]."""
        z = z.expand(self.annealing.n_chains, *z.shape).contiguous()
        log_w = z.new_zeros(z.shape[:-1], dtype=self.betas.dtype)
        steps = list(zip(self.betas, self.betas[1:], sizes, strict=False))
        for previous, beta, size in reversed(steps):
            z, _ = self.transition(z, batch, beta, size)
            log_f0, log_f1 = self.end_log_densities(z, batch)
            log_w -= (beta - previous) * (log_f1 - log_f0)
            update_progress()
        return log_w

    def transition(
        self, z: Tensor, batch: Batch, beta: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run one Hamiltonian trajectory that leaves f_beta invariant.

        Returns the chains [n_chains, batch, l] and whether each accepted, [n_chains, batch].
        """
        beta = beta.to(z.dtype)
        return hmc_step(
            lambda z: self.value_and_grad(z, batch, beta),
            z,
            size.unsqueeze(-1),
            self.annealing.n_leapfrog,
        )

    def _posterior(self, batch: Batch) -> Distribution | None:
        return (
            self.model.encode(batch) if self.annealing.initial_distribution == "posterior" else None
        )

    def _value_and_grad(self, z: Tensor, batch: Batch, beta: Tensor) -> tuple[Tensor, Tensor]:
        def log_f(z: Tensor) -> Tensor:
            log_f0, log_f1 = self.end_log_densities(z, batch)
            return (1 - beta) * log_f0 + beta * log_f1

        return value_and_grad(log_f, z)


@torch.no_grad()
def annealed_marginal_log_likelihood(
    model: LatentModel, data: DeviceData, annealing: Annealing, **kwargs: Any
) -> LogLikelihood:
    """Estimate log p(x) of every row by AIS, run once per class if the model has a latent class.

    Parameters
    ----------
    model, data, annealing, **kwargs
        Arguments of :func:`ancestral.evaluation.ais.annealed_log_likelihood`; all latent variables
        except a class in the first position are continuous.

    Returns
    -------
    LogLikelihood
        Stochastic lower bounds in nats. Errors and effective sample sizes combine those of the
        classes, weighted by p(y | x).
    """
    log_py = class_log_prior(model)
    if log_py is None:
        return annealed_log_likelihood(model, data, annealing, **kwargs)
    n, n_classes = len(data), len(log_py)
    rows = data.subset(np.tile(np.arange(n), n_classes))
    rows.y = torch.arange(n_classes, device=data.device).repeat_interleave(n)
    result = annealed_log_likelihood(
        ClassConditionedModel(model, n_classes).eval(), rows, annealing, **kwargs
    )

    def by_class(values: np.ndarray) -> np.ndarray:
        return values.reshape(n_classes, n)

    joint = by_class(result.values) + log_py.double().cpu().numpy()[:, None]
    values = logsumexp(joint, axis=0)
    posterior = np.exp(joint - values)
    return LogLikelihood(
        values,
        np.sqrt(np.square(posterior * by_class(result.monte_carlo_errors)).sum(0)),
        1 / (np.square(posterior) / by_class(result.effective_sample_sizes)).sum(0),
        result.n_samples,
        result.estimator,
    )
