"""How good is it: log-likelihood with its errors, two models compared, latent units in use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ancestral import engine
from ancestral.checkpoint import Checkpoint, Snapshot
from ancestral.data import Data
from ancestral.distributions import draw
from ancestral.engine import CompileChoice, Precision
from ancestral.exact import ExactModel
from ancestral.models import LatentModel


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihoods of rows, in nats.

    Attributes
    ----------
    values : array [n]
        L_S of every row: a stochastic lower bound on log p(x), or log p(x) itself.
    monte_carlo_errors : array [n]
        Standard error of each value that comes from sampling (delta method).
    effective_sample_sizes : array [n]
        (sum w)^2 / sum w^2, between 1 and the number of samples. Where it is near 1 the value
        rests on one sample and is too low.
    n_samples : int
        S, or chains.
    estimator : str
        L for importance sampling, AIS for annealed importance sampling, exact for neither.
    """

    values: np.ndarray
    monte_carlo_errors: np.ndarray
    effective_sample_sizes: np.ndarray
    n_samples: int
    estimator: str = "L"

    @property
    def mean(self) -> float:
        """Mean over the rows."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the rows, from their spread."""
        return standard_error_of_mean(self.values)

    def __str__(self) -> str:
        how = self.estimator if self.is_exact else f"{self.estimator}_{self.n_samples}"
        return f"{self.mean:.2f} +- {self.standard_error:.2f} nats ({how})"

    @property
    def is_exact(self) -> bool:
        """Whether these are log p(x) itself: of a model that knows it."""
        return self.estimator == "exact"


@dataclass(frozen=True)
class Difference:
    """Two models compared on the same rows, in nats.

    Attributes
    ----------
    values : array [n]
        First less second, row by row.
    """

    values: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over the rows: positive where the first model is better."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of that mean. What is hard for both models cancels, so it is small."""
        return standard_error_of_mean(self.values)

    @property
    def share(self) -> float:
        """Share of the rows for which the first model is better."""
        return float((self.values > 0).mean())

    def __str__(self) -> str:
        return (
            f"{self.mean:+.3f} +- {self.standard_error:.3f} nats, "
            f"better on {self.share:.0%} of {len(self.values)} rows"
        )


def compare(first: LogLikelihood, second: LogLikelihood) -> Difference:
    """Compare two models by their log-likelihoods of the same rows.

    Parameters
    ----------
    first, second : LogLikelihood
        Of the same rows in the same order; grey images binarised with the same seed.

    Returns
    -------
    Difference
        First less second.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or there is only one.

    Examples
    --------
    >>> ones = np.ones(4)
    >>> first = LogLikelihood(np.array([-80.0, -90.0, -85.0, -70.0]), ones, ones, 5000)
    >>> second = LogLikelihood(np.array([-81.0, -92.0, -84.5, -71.0]), ones, ones, 5000)
    >>> print(compare(first, second))
    +0.875 +- 0.515 nats, better on 75% of 4 rows
    """
    n, m = len(first.values), len(second.values)
    if n != m or n < 2:
        raise ValueError(
            f"the models were scored on {n} and {m} rows: a comparison takes the same rows, "
            "two or more of them"
        )
    return Difference(first.values - second.values)


def standard_error_of_mean(values: np.ndarray) -> float:
    """Return the standard error of the mean of independent values; of one value, not a number."""
    n = len(values)
    return float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan


class ImportanceSum:
    """Streaming sums of importance weights, in double precision on the log scale.

    Examples
    --------
    >>> total = ImportanceSum(1)
    >>> total.add(torch.tensor([[0.0], [0.0]]))
    >>> total.add(torch.tensor([[0.0]]))
    >>> round(total.effective_sample_size().item(), 6)
    3.0
    """

    def __init__(self, n_rows: int, device: torch.device | str = "cpu") -> None:
        self.log_w = torch.full((n_rows,), -math.inf, dtype=engine.widest(device), device=device)
        self.log_w2 = self.log_w.clone()
        self.n = 0

    def add(self, log_w: Float[Tensor, "k batch"]) -> None:
        """Add the weights of k more samples."""
        log_w = log_w.to(self.log_w.dtype)
        self.log_w = torch.logaddexp(self.log_w, torch.logsumexp(log_w, 0))
        self.log_w2 = torch.logaddexp(self.log_w2, torch.logsumexp(2 * log_w, 0))
        self.n += len(log_w)

    def log_mean(self) -> Float[Tensor, " batch"]:
        """Log of the mean weight."""
        return self.log_w - math.log(self.n)

    def effective_sample_size(self) -> Float[Tensor, " batch"]:
        """(sum w)^2 / sum w^2."""
        return torch.exp(2 * self.log_w - self.log_w2)

    def standard_error(self) -> Float[Tensor, " batch"]:
        """Monte Carlo standard error of :meth:`log_mean`, by the delta method."""
        if self.n < 2:
            return torch.full_like(self.log_w, math.nan)
        relative_variance = self.n / self.effective_sample_size() - 1
        return torch.sqrt(relative_variance.clamp(min=0) / (self.n - 1))

    def summary(self) -> list[Tensor]:
        """Log mean, its standard error, effective sample size."""
        return [self.log_mean(), self.standard_error(), self.effective_sample_size()]


class ChunkResults:
    """What chunks of rows came to, kept in a checkpoint from time to time and at an interrupt.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        Where to keep it; chunks that are there already count as done.

    Examples
    --------
    >>> with ChunkResults() as found:
    ...     found.add([torch.zeros(4)] * 3, n_rows=3)
    >>> found.n_done, found.result(n_samples=1).values
    (1, array([0., 0., 0.], dtype=float32))
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.checkpoint = checkpoint
        snapshot = None if checkpoint is None else checkpoint.load()
        self._n_before = 0 if snapshot is None else int(snapshot.facts["n_done"])
        self._before = [] if snapshot is None else [snapshot.tensors["found"]]
        self._parts: list[Tensor] = []  # grows by whole chunks, so an interrupt finds it whole

    @property
    def n_done(self) -> int:
        """How many chunks are done."""
        return self._n_before + len(self._parts)

    def add(self, summary: list[Tensor], n_rows: int) -> None:
        """Add the next chunk: log mean, standard error, effective sample size of its rows."""
        self._parts.append(torch.stack(summary)[:, :n_rows].cpu())
        if self.checkpoint is not None and self.checkpoint.is_due():
            self._keep(self.checkpoint)

    def _keep(self, checkpoint: Checkpoint) -> None:
        found = torch.cat([*self._before, *self._parts], 1)
        checkpoint.save(Snapshot({"found": found}, {"n_done": self.n_done}))

    def __enter__(self) -> ChunkResults:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what is done, if the user stops here."""
        if kind is KeyboardInterrupt and self.checkpoint is not None and self._parts:
            self._keep(self.checkpoint)

    def result(self, n_samples: int, estimator: str = "L") -> LogLikelihood:
        """Return all rows; the checkpoint is no longer needed."""
        if self.checkpoint is not None:
            self.checkpoint.remove()
        values, errors, sizes = torch.cat([*self._before, *self._parts], 1).numpy()
        return LogLikelihood(values, errors, sizes, n_samples, estimator)


@torch.no_grad()
def log_likelihood(
    model: LatentModel,
    data: Data,
    n_samples: int = 5000,
    *,
    seed: int = 0,
    rows_per_chunk: int = 100,
    samples_per_chunk: int | None = None,
    compile: CompileChoice = "auto",
    precision: Precision = "float32",
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> LogLikelihood:
    """Estimate log p(x) of every row by L_S with S = ``n_samples``, in chunks.

    The sum over samples is streamed, so memory does not grow with S; the mean over rows is taken
    of logarithms.

    Parameters
    ----------
    model : LatentModel
        In evaluation mode.
    data : Data
        The rows; missing entries are integrated out.
    n_samples : int
        S; the bias is about -Var(w) / (2 S p(x)^2).
    seed : int
        Of the samples. The user's random stream is untouched.
    rows_per_chunk, samples_per_chunk : int
        How much is held at once; by default 100 samples, which stay in a processor's cache, or
        1,000 on a GPU, which has to be filled.
    compile : "auto" or bool
        Whether a chunk becomes one compiled graph; see :func:`ancestral.engine.plan`.
    precision : {"auto", "float32", "bfloat16"}
        Of matrix products. Numbers to be published are float32.
    checkpoint : Checkpoint, optional
        Keeps the rows that are done, from time to time and at an interrupt: the same call goes on
        there.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        If ``n_samples`` or a chunk is not positive.
    """
    if samples_per_chunk is None:
        samples_per_chunk = 1000 if data.device.type == "cuda" else 100
    sizes = {
        "n_samples": n_samples,
        "rows_per_chunk": rows_per_chunk,
        "samples_per_chunk": samples_per_chunk,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}={size}: expected at least 1")
    work = float(len(data) * n_samples * sum(p.numel() for p in model.parameters()))
    plan = engine.plan(model, data.device, work, compile, precision)
    log_w = engine.Graph(lambda batch, k: model.run(batch, k).log_w, compiled=plan.compiled)
    with (
        ChunkResults(checkpoint) as found,
        engine.private_randomness(data.device),
        engine.memory_kept(),
        engine.inference(model, plan),
    ):
        chunks = data.chunks(min(rows_per_chunk, len(data)))
        n_chunks = -(-len(data) // rows_per_chunk)
        bar = tqdm(chunks, f"L_{n_samples}", n_chunks, disable=not progress, unit="chunk")
        for number, (batch, n_rows) in enumerate(bar):
            if number < found.n_done:
                continue
            engine.seed(seed, number)
            total = ImportanceSum(len(batch.x), data.device)
            while total.n < n_samples:
                total.add(log_w(batch, min(samples_per_chunk, n_samples - total.n)))
            found.add(total.summary(), n_rows)
    return found.result(n_samples)


@torch.no_grad()
def exact_log_likelihood(
    model: ExactModel, data: Data, *, rows_per_chunk: int = 100
) -> LogLikelihood:
    """Return log p(x) of every row under a model that knows it.

    A single sample from an exact posterior has the weight p(x): this is L_1, without an error.

    Parameters
    ----------
    model : ExactModel
        In evaluation mode.
    data : Data
        The rows; missing entries are integrated out.
    rows_per_chunk : int
        How many rows are held at once.
    """
    chunks = data.chunks(min(rows_per_chunk, len(data)))
    parts = [model.log_marginal(batch)[:n_rows].double().cpu() for batch, n_rows in chunks]
    values = torch.cat(parts).numpy()
    return LogLikelihood(values, np.zeros_like(values), np.ones_like(values), 1, "exact")


@torch.no_grad()
def unit_variances(
    model: LatentModel, data: Data, *, n_samples: int = 100, seed: int = 0
) -> np.ndarray:
    """How much each latent unit's posterior mean varies over rows: Var_x(E_q[z | x]), [n_latents].

    A unit that the model does not use has a posterior that ignores x, and a variance of zero;
    units above 0.01 are called active (Burda et al., 2016, section 5.2).

    Parameters
    ----------
    model : LatentModel
        In evaluation mode.
    data : Data
        The rows.
    n_samples : int
        Draws of z for each row. The posterior mean is estimated twice, by half of them each; the
        covariance of the two is unbiased, however few there are and whatever the posterior.
    seed : int
        Of the draws. The user's random stream is untouched.

    Raises
    ------
    ValueError
        If there are fewer than two rows or draws.
    """
    if len(data) < 2 or n_samples < 2:
        raise ValueError(f"{len(data)} rows, n_samples={n_samples}: expected at least 2 of each")
    halves: list[list[Tensor]] = [[], []]
    with engine.private_randomness(data.device):
        for number, (batch, n_rows) in enumerate(data.chunks(min(100, len(data)))):
            engine.seed(seed, number)
            z = draw(model.encode(batch), (2 * (n_samples // 2),))
            for means, half in zip(halves, z.to(engine.widest(data.device)).chunk(2), strict=True):
                means.append(half.mean(0)[:n_rows])
    first, second = (torch.cat(means) for means in halves)
    covariance = ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)
    return covariance.cpu().numpy()
