"""Annealed importance sampling with Hamiltonian Monte Carlo: likelihoods from below and above.

A chain starts at a draw from a distribution f_0 that is easy to draw from and is led through
f_t = f_0^(1 - beta_t) f_1^beta_t to f_1(z) = p(x, z). The product of the ratios
(f_1 / f_0)^(beta_t - beta_(t-1)) on its way is an unbiased estimate of p(x) (Neal, 2001); led
backwards from an exact posterior draw, one of 1 / p(x). So the logarithm is bounded, in
expectation, from below and from above (Grosse, Ghahramani and Adams, 2015; Wu et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution
from tqdm import tqdm

from ancestral import engine
from ancestral.checkpoint import Checkpoint
from ancestral.data import Batch, Data
from ancestral.distributions import draw, log_prob
from ancestral.engine import CompileChoice
from ancestral.evaluate import ChunkResults, ImportanceSum, LogLikelihood
from ancestral.fields import Count, Positive, check
from ancestral.models import LatentModel

Start = Literal["prior", "posterior"]

TARGET_ACCEPTANCE, LONGER, SHORTER = 0.65, 1.02, 0.98
STEP_RANGE = (1e-4, 0.5)


@dataclass(frozen=True)
class Annealing:
    """How chains are led from one distribution to the other.

    Parameters
    ----------
    n_steps : int
        Intermediate distributions T; the bias falls like 1 / T.
    n_chains : int
        Chains per row, over which weights are averaged.
    n_leapfrog : int
        Leapfrog steps of a Hamiltonian trajectory; there is one trajectory a distribution.
    start : {"prior", "posterior"}
        f_0: p(z), or the model's q(z | x).
    first_step_size : float
        Of the leapfrog, from which it adapts to an acceptance of 0.65. It does so in a run of its
        own, so that the estimates keep the step sizes they are given and stay unbiased.

    Raises
    ------
    ValueError
        If a number is not positive or ``start`` unknown.
    """

    n_steps: int = 1000
    n_chains: int = 16
    n_leapfrog: int = 10
    start: Start = "prior"
    first_step_size: float = 0.1

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_chains", "n_leapfrog"):
            check(name, getattr(self, name), Count)
        check("first_step_size", self.first_step_size, Positive)
        check("start", self.start, Start)

    @property
    def n_moves(self) -> int:
        """Trajectories of all chains: one run to adapt the steps, one to weigh."""
        return 2 * self.n_steps

    def betas(self) -> Float[Tensor, " t"]:
        """Inverse temperatures from 0 to 1, dense at both ends: a logistic curve of radius 4.

        >>> Annealing(n_steps=2).betas()
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
        """
        curve = torch.sigmoid(torch.linspace(-4, 4, self.n_steps + 1, dtype=torch.float64))
        return (curve - curve[0]) / (curve[-1] - curve[0])


class Sandwich(NamedTuple):
    """Bounds on the mean log-likelihood of rows that the model itself drew.

    Attributes
    ----------
    lower, upper : LogLikelihood
        Of the same rows, from chains led forwards and backwards.
    """

    lower: LogLikelihood
    upper: LogLikelihood

    @property
    def gap(self) -> float:
        """Mean of upper less lower, nats per row: what annealing leaves open."""
        return self.upper.mean - self.lower.mean


@torch.no_grad()
def annealed_log_likelihood(
    model: LatentModel,
    data: Data,
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
        In evaluation mode, its latent variables continuous.
    data : Data
        The rows; missing entries are integrated out.
    annealing : Annealing, optional
        How; by default 1,000 distributions and 16 chains from the prior.
    seed : int
        Of the chains. The user's random stream is untouched.
    rows_per_chunk : int
        Rows that are annealed together.
    compile : "auto" or bool
        Whether density and slope become one compiled graph; see :func:`ancestral.engine.plan`.
    checkpoint : Checkpoint, optional
        Keeps the rows that are done, from time to time and at an interrupt: the same call goes on
        there.
    progress : bool
        Show a progress bar.

    Returns
    -------
    LogLikelihood
        A stochastic lower bound in nats, with errors from the spread of the chains.
    """
    annealing = annealing or Annealing()
    check("rows_per_chunk", rows_per_chunk, Count)
    n = min(rows_per_chunk, len(data))
    n_chunks = -(-len(data) // n)
    path = _Path(model, annealing, data.device, len(data), compile)
    bar = tqdm(total=n_chunks * annealing.n_moves, desc="AIS", disable=not progress, unit="move")
    with (
        ChunkResults(checkpoint) as found,
        engine.private_randomness(data.device),
        engine.memory_kept(),
        bar,
    ):
        for number, (batch, n_rows) in enumerate(data.chunks(n)):
            if number < found.n_done:
                bar.update(annealing.n_moves)
                continue
            engine.seed(seed, number)
            total = ImportanceSum(len(batch.x), data.device)
            sizes = path.step_sizes(batch, bar.update)
            total.add(path.forwards(batch, sizes, bar.update))
            found.add(total.summary(), n_rows)
    return found.result(annealing.n_chains, "AIS")


@torch.no_grad()
def sandwich(
    model: LatentModel,
    n_rows: int = 100,
    annealing: Annealing | None = None,
    *,
    y: Tensor | None = None,
    seed: int = 0,
    compile: CompileChoice = "auto",
    progress: bool = False,
) -> Sandwich:
    """Bound the log-likelihood of rows drawn from the model from both sides.

    The latent vector a row was drawn from is an exact draw from its posterior: chains led
    backwards from it bound log p(x) from above. A small gap says that annealing is long enough.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode, its latent variables continuous.
    n_rows : int
        How many rows to draw.
    annealing : Annealing, optional
        How; by default 1,000 distributions and 16 chains from the prior.
    y : Tensor [n_rows], optional
        Labels, for a model that sees them.
    seed : int
        Of rows and chains. The user's random stream is untouched.
    compile : "auto" or bool
        Whether density and slope become one compiled graph; see :func:`ancestral.engine.plan`.
    progress : bool
        Show a progress bar.
    """
    annealing = annealing or Annealing()
    device = next(model.parameters()).device
    n_moves = annealing.n_moves + annealing.n_steps
    bar = tqdm(total=n_moves, desc="AIS", disable=not progress, unit="move")
    with engine.seeded(seed, device=device), engine.memory_kept(), bar:
        check("n_rows", n_rows, Count)
        z, x = model.draw(n_rows, y)
        path, batch = _Path(model, annealing, device, n_rows, compile), Batch(x, y)
        sizes = path.step_sizes(batch, bar.update)
        below, above = ImportanceSum(n_rows, device), ImportanceSum(n_rows, device)
        below.add(path.forwards(batch, sizes, bar.update))
        above.add(path.backwards(z, batch, sizes, bar.update))
    lower, upper = (_result(side, annealing) for side in (below, above))
    return Sandwich(lower, replace(upper, values=-upper.values))


def _result(total: ImportanceSum, annealing: Annealing) -> LogLikelihood:
    found = ChunkResults()
    found.add(total.summary(), len(total.log_w))
    return found.result(annealing.n_chains, "AIS")


class _Path:
    """The way from f_0 to f_1 for rows of a batch; chains are [n_chains, batch, l]."""

    def __init__(
        self,
        model: LatentModel,
        annealing: Annealing,
        device: torch.device,
        n_rows: int,
        compile: CompileChoice,
    ) -> None:
        self.model, self.annealing = model, annealing
        self.betas = annealing.betas().to(device, engine.widest(device))
        n_gradients = annealing.n_moves * annealing.n_leapfrog
        n_parameters = sum(p.numel() for p in model.parameters())
        work = float(n_rows * annealing.n_chains * n_gradients * n_parameters)
        compiled = engine.plan(model, device, work, compile, "float32").compiled
        self.slope = engine.Graph(self._value_and_slope, compiled=compiled)

    def ends(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log f_0(z) and log f_1(z), [n_chains, batch]."""
        log_pz, log_px = self.model.score(z, batch)
        q = self._posterior(batch)
        return (log_pz if q is None else log_prob(q, z)), log_pz + log_px

    def first(self, batch: Batch, n_chains: int) -> Tensor:
        """Draw from f_0."""
        if (q := self._posterior(batch)) is not None:
            return draw(q, (n_chains,))
        n = len(batch.x)
        y = None if batch.y is None else batch.y.repeat(n_chains)
        return self.model.draw_latents(n_chains * n, y).unflatten(0, (n_chains, n))

    def step_sizes(self, batch: Batch, moved: Callable[[], object]) -> list[Tensor]:
        """Adapt the leapfrog's step to every distribution on the way, [batch] each."""
        if not self.model.encode(batch).has_rsample:
            raise ValueError("annealing moves latents along gradients: they must be continuous")
        z = self.first(batch, max(2, self.annealing.n_chains // 8))
        size = z.new_full((z.shape[1],), self.annealing.first_step_size)
        sizes = []
        for beta in self.betas[1:]:
            sizes.append(size)
            z, accepted = self.move(z, batch, beta, size)
            longer = accepted.to(size.dtype).mean(0) > TARGET_ACCEPTANCE
            size = (size * torch.where(longer, LONGER, SHORTER)).clamp(*STEP_RANGE)
            moved()
        return sizes

    def forwards(self, batch: Batch, sizes: list[Tensor], moved: Callable[[], object]) -> Tensor:
        """Log weights of chains from f_0 to f_1, [n_chains, batch]."""
        z = self.first(batch, self.annealing.n_chains)
        log_w = z.new_zeros(z.shape[:-1], dtype=self.betas.dtype)
        for before, beta, size in zip(self.betas, self.betas[1:], sizes, strict=False):
            at_start, at_end = self.ends(z, batch)
            log_w += (beta - before) * (at_end - at_start)
            z, _ = self.move(z, batch, beta, size)
            moved()
        return log_w

    def backwards(
        self, z: Tensor, batch: Batch, sizes: list[Tensor], moved: Callable[[], object]
    ) -> Tensor:
        """Log weights of chains from posterior draws z [batch, l] to f_0, [n_chains, batch]."""
        z = z.expand(self.annealing.n_chains, *z.shape).contiguous()
        log_w = z.new_zeros(z.shape[:-1], dtype=self.betas.dtype)
        steps = list(zip(self.betas, self.betas[1:], sizes, strict=False))
        for before, beta, size in reversed(steps):
            z, _ = self.move(z, batch, beta, size)
            at_start, at_end = self.ends(z, batch)
            log_w -= (beta - before) * (at_end - at_start)
            moved()
        return log_w

    def move(self, z: Tensor, batch: Batch, beta: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """One Hamiltonian trajectory that leaves f_beta as it is; who moved is accepted."""
        beta = beta.to(z.dtype)

        def slope(z: Tensor) -> tuple[Tensor, Tensor]:
            return self.slope(z, batch, beta)

        return _trajectory(slope, z, size.unsqueeze(-1), self.annealing.n_leapfrog)

    def _posterior(self, batch: Batch) -> Distribution | None:
        return self.model.encode(batch) if self.annealing.start == "posterior" else None

    def _value_and_slope(self, z: Tensor, batch: Batch, beta: Tensor) -> tuple[Tensor, Tensor]:
        def log_f(z: Tensor) -> Tensor:
            at_start, at_end = self.ends(z, batch)
            return (1 - beta) * at_start + beta * at_end

        return _value_and_slope(log_f, z)


def hamiltonian(
    log_f: Callable[[Tensor], Tensor], z: Float[Tensor, "*b l"], step: Tensor, n_leapfrog: int
) -> tuple[Float[Tensor, "*b l"], Tensor]:
    """Hamiltonian Monte Carlo: one trajectory, accepted or refused (Neal, 2011).

    Parameters
    ----------
    log_f : callable
        z [..., l] -> log-density [...], up to a constant.
    z : Tensor [..., l]
        Where the chains are.
    step : Tensor
        Size of a leapfrog step, broadcast over z.
    n_leapfrog : int
        Steps of the trajectory.

    Returns
    -------
    (Tensor [..., l], Tensor [...])
        Where they are afterwards, and whether they moved.

    Examples
    --------
    >>> z = torch.zeros(1000, 1)
    >>> for _ in range(20):
    ...     z, moved = hamiltonian(lambda z: -0.5 * z.square().sum(-1), z, torch.tensor(0.3), 5)
    >>> bool(0.8 < z.var() < 1.2), bool(moved.float().mean() > 0.9)
    (True, True)
    """
    return _trajectory(lambda z: _value_and_slope(log_f, z), z, step, n_leapfrog)


def _trajectory(
    value_and_slope: Callable[[Tensor], tuple[Tensor, Tensor]],
    z: Tensor,
    step: Tensor,
    n_leapfrog: int,
) -> tuple[Tensor, Tensor]:
    momentum = torch.randn_like(z)
    value, slope = value_and_slope(z)
    before = value - 0.5 * momentum.square().sum(-1)
    here, p = z, momentum + 0.5 * step * slope
    for number in range(n_leapfrog):
        here = here + step * p
        value, slope = value_and_slope(here)
        p = p + (1.0 if number < n_leapfrog - 1 else 0.5) * step * slope
    after = value - 0.5 * p.square().sum(-1)
    chance = torch.rand_like(before).log()
    accepted = chance < after - before  # never where a trajectory has left the numbers
    return torch.where(accepted.unsqueeze(-1), here, z), accepted


def _value_and_slope(log_f: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = log_f(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope
