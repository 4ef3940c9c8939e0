"""Log-likelihood estimates with standard errors, paired comparisons and latent-unit variances."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.evaluation.estimate import Estimate, Measurement, mean_estimate
from ancestral.evaluation.pareto import pareto_k, tail_size
from ancestral.evaluation.posterior_sampling import gap_proposal
from ancestral.models.exact import ExactModel
from ancestral.models.latent import LatentModel
from ancestral.training import engine
from ancestral.training.checkpoint import Checkpoint, Snapshot
from ancestral.training.engine import CompileChoice, Precision

MIN_EFFECTIVE_SAMPLE_SIZE = 50
"""Effective sample size below which an estimate L_S and its error are flagged as unreliable."""


@dataclass(frozen=True, repr=False)
class LogLikelihood(Measurement):
    """Log-likelihoods of rows, in nats.

    Attributes
    ----------
    values : array [n]
        Estimate L_S of each row, a stochastic lower bound on log p(x), or log p(x) if exact.
    monte_carlo_errors : array [n]
        Monte Carlo standard error of each value (delta method), multiplied by 1 + k^2 for a
        Pareto tail index k in [0, 1] of the weights, whose sample variance is too small. It is
        not valid where ``reliable`` is False.
    effective_sample_sizes : array [n]
        (sum w)^2 / sum w^2, between 1 and the number of samples. Near 1, a single sample dominates
        and the value is too low.
    n_samples : int
        Number of importance samples S, or of chains.
    estimator : {"L", "AIS", "exact"}
        Importance sampling, annealed importance sampling or the exact log-likelihood.
    pareto_k : array [n], optional
        Tail index of the weights of each row (:mod:`ancestral.evaluation.pareto`); NaN for too few
        samples.
    """

    values: np.ndarray
    monte_carlo_errors: np.ndarray
    effective_sample_sizes: np.ndarray
    n_samples: int
    estimator: str = "L"
    pareto_k: np.ndarray | None = None

    @property
    def reliable(self) -> np.ndarray:
        """Whether each value and its error can be trusted, bool [n].

        False if Pareto k is above min(0.7, 1 - 1 / log10 S) (Vehtari et al., 2024), or the
        effective sample size of L_S is below 50 (below 2 for annealing): then the value is too low
        and its Monte Carlo error cannot be estimated from the weights.
        """
        if self.is_exact:
            return np.ones(len(self.values), bool)
        if self.estimator == "AIS":
            return self.effective_sample_sizes >= min(2, self.n_samples)
        enough = self.effective_sample_sizes >= min(MIN_EFFECTIVE_SAMPLE_SIZE, self.n_samples / 2)
        if self.pareto_k is None:
            return enough
        limit = min(0.7, 1 - 1 / math.log10(max(self.n_samples, 10)))
        return enough & ~(self.pareto_k > (limit or 0.7))

    @property
    def n_unreliable(self) -> int:
        """Number of rows whose estimate is not :attr:`reliable`."""
        return int((~self.reliable).sum())

    @property
    def estimate(self) -> Estimate:
        """Mean over the rows, in nats, with its standard error."""
        return mean_estimate(self.values)

    @property
    def mean(self) -> float:
        """Mean over the rows, in nats."""
        return self.estimate.value

    def __str__(self) -> str:
        estimator = self.estimator if self.is_exact else f"{self.estimator}_{self.n_samples}"
        n = self.n_unreliable
        flag = f", {n} of {len(self.values)} rows unreliable" if n else ""
        return f"{self.estimate:.2f} nats ({estimator}{flag})"

    @property
    def is_exact(self) -> bool:
        """Whether the values are exact log-likelihoods instead of estimates."""
        return self.estimator == "exact"


@dataclass(frozen=True)
class PairedDifference(Measurement):
    """Paired difference of the log-likelihoods of two models, in nats.

    Attributes
    ----------
    values : array [n]
        First model minus second model, for each row.
    """

    values: np.ndarray

    @property
    def estimate(self) -> Estimate:
        """Mean over the rows with its standard error; variation common to both models cancels."""
        return mean_estimate(self.values)

    @property
    def mean(self) -> float:
        """Mean over the rows, positive if the first model is better."""
        return self.estimate.value

    @property
    def fraction_better(self) -> float:
        """Fraction of rows with a higher log-likelihood under the first model, in [0, 1]."""
        return float((self.values > 0).mean())

    def __str__(self) -> str:
        return (
            f"{self.estimate:+.3f} nats, "
            f"better on {self.fraction_better:.0%} of {len(self.values)} rows"
        )


def compare(first: LogLikelihood, second: LogLikelihood) -> PairedDifference:
    """Compare two models by their log-likelihoods of the same rows.

    Parameters
    ----------
    first, second : LogLikelihood
        Log-likelihoods of the same rows in the same order; greyscale images binarised with the
        same seed.

    Returns
    -------
    PairedDifference
        First minus second.

    Raises
    ------
    ValueError
        If the numbers of rows differ or are below two.

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
            f"first and second: got log-likelihoods of {n} and {m} rows, expected the same rows, "
            "at least 2; evaluate both models on the same rows"
        )
    return PairedDifference(first.values - second.values)


MAX_TAIL = 300
"""Maximum number of tail weights of a row that are kept for the fit of its tail index."""


class ImportanceSum:
    """Streaming sums of importance weights, on the log scale, in float64 where supported.

    Examples
    --------
    >>> total = ImportanceSum(1)
    >>> total.add(torch.tensor([[0.0], [0.0]]))
    >>> total.add(torch.tensor([[0.0]]))
    >>> round(total.effective_sample_size().item(), 6)
    3.0
    """

    def __init__(self, n_rows: int, device: torch.device | str = "cpu") -> None:
        self.log_w = torch.full(
            (n_rows,), -math.inf, dtype=engine.widest_float_dtype(device), device=device
        )
        self.log_w2 = self.log_w.clone()
        self._largest = self.log_w.new_empty(0, n_rows)
        self.n = 0

    def add(self, log_w: Float[Tensor, "k batch"]) -> None:
        """Add the log weights of k more samples, [k, batch]."""
        log_w = log_w.to(self.log_w.dtype)
        self.log_w = torch.logaddexp(self.log_w, torch.logsumexp(log_w, 0))
        self.log_w2 = torch.logaddexp(self.log_w2, torch.logsumexp(2 * log_w, 0))
        self.n += len(log_w)
        largest = torch.cat([self._largest, log_w])
        n_kept = min(len(largest), MAX_TAIL + 1)
        self._largest = largest.topk(n_kept, 0).values

    def pareto_k(self) -> Float[Tensor, " batch"]:
        """Tail index k of the weights, [batch]; NaN for fewer than 25 samples."""
        return pareto_k(self._largest[: min(tail_size(self.n), MAX_TAIL) + 1])

    def log_mean(self) -> Float[Tensor, " batch"]:
        """Log of the mean weight, [batch]."""
        return self.log_w - math.log(self.n)

    def effective_sample_size(self) -> Float[Tensor, " batch"]:
        """Effective sample size (sum w)^2 / sum w^2, [batch]."""
        return torch.exp(2 * self.log_w - self.log_w2)

    def standard_error(self) -> Float[Tensor, " batch"]:
        """Monte Carlo standard error of :meth:`log_mean`, [batch]; NaN for one sample.

        The delta method, multiplied by 1 + k^2 for a tail index k in [0, 1]: with a heavy tail the
        sample variance of the weights is usually too small.
        """
        if self.n < 2:
            return torch.full_like(self.log_w, math.nan)
        relative_variance = self.n / self.effective_sample_size() - 1
        factor = 1 + self.pareto_k().nan_to_num(0.0, neginf=0.0).clamp(0, 1).square()
        return factor * torch.sqrt(relative_variance.clamp(min=0) / (self.n - 1))

    def summary(self) -> list[Tensor]:
        """Log mean, its standard error, effective sample size and tail index, [batch] each."""
        size = self.effective_sample_size()
        return [self.log_mean(), self.standard_error(), size, self.pareto_k()]


class ChunkResults:
    """Results of successive chunks of rows, saved periodically and on an interrupt.

    Parameters
    ----------
    checkpoint : Checkpoint, optional
        Checkpoint to save to. Chunks that it already contains count as done.

    Examples
    --------
    >>> with ChunkResults() as results:
    ...     results.add([torch.zeros(4)] * 4, n_rows=3)
    >>> results.n_done, results.result(n_samples=1).values
    (1, array([0., 0., 0.], dtype=float32))
    """

    def __init__(self, checkpoint: Checkpoint | None = None) -> None:
        self.checkpoint = checkpoint
        snapshot = None if checkpoint is None else checkpoint.load()
        self._n_loaded = 0 if snapshot is None else int(snapshot.metadata["n_done"])
        self._loaded = [] if snapshot is None else [snapshot.tensors["found"]]
        self._chunks: list[Tensor] = []  # extended by complete chunks, consistent at an interrupt

    @property
    def n_done(self) -> int:
        """Number of finished chunks."""
        return self._n_loaded + len(self._chunks)

    def add(self, summary: list[Tensor], n_rows: int) -> None:
        """Add the :meth:`ImportanceSum.summary` of the next chunk, of its first ``n_rows`` rows."""
        self._chunks.append(torch.stack(summary)[:, :n_rows].cpu())
        if self.checkpoint is not None and self.checkpoint.is_due():
            self._save(self.checkpoint)

    def _save(self, checkpoint: Checkpoint) -> None:
        results = torch.cat([*self._loaded, *self._chunks], 1)
        checkpoint.save(Snapshot({"found": results}, {"n_done": self.n_done}))

    def __enter__(self) -> ChunkResults:
        """Return the results themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Save the finished chunks on a KeyboardInterrupt."""
        if kind is KeyboardInterrupt and self.checkpoint is not None and self._chunks:
            self._save(self.checkpoint)

    def result(self, n_samples: int, estimator: str = "L") -> LogLikelihood:
        """Combine all chunks into one result and delete the checkpoint."""
        if self.checkpoint is not None:
            self.checkpoint.remove()
        values, errors, sizes, k = torch.cat([*self._loaded, *self._chunks], 1).numpy()
        return LogLikelihood(values, errors, sizes, n_samples, estimator, k)


@torch.no_grad()
def log_likelihood(
    model: LatentModel,
    data: DeviceData,
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
    """Estimate log p(x) of every row by importance sampling (Burda et al., 2016).

    Samples are from q(z | x); for rows with missing entries, which q does not know, from
    :func:`ancestral.evaluation.posterior_sampling.gap_proposal`.

    The estimate is L_S = log (1 / S) sum_s w_s with w_s = p(x, z_s) / q(z_s | x) and S =
    ``n_samples``, a lower bound in expectation. The sum over samples is streamed: memory does not
    grow with S.

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode.
    data : Data
        Rows to evaluate; missing entries are integrated out.
    n_samples : int
        Number of importance samples S; the bias is about -Var(w) / (2 S p(x)^2).
    seed : int
        Seed of the samples. The global random state is not changed.
    rows_per_chunk, samples_per_chunk : int
        Numbers of rows and of samples per model evaluation. By default 100 samples, which fit the
        cache of a CPU, or 1,000 on a GPU.
    compile : "auto" or bool
        Whether to compile the evaluation of a chunk; see
        :func:`ancestral.training.engine.make_plan`.
    precision : {"auto", "float32", "bfloat16"}
        Precision of the matrix products. Use float32 for published numbers.
    checkpoint : Checkpoint, optional
        Checkpoint of the finished rows, written periodically and on an interrupt. The same call
        resumes from it.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    LogLikelihood
        Estimates in nats, with Monte Carlo errors.

    Raises
    ------
    ValueError
        If ``n_samples``, ``rows_per_chunk`` or ``samples_per_chunk`` is not positive.
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
    plan = engine.make_plan(model, data.device, work, compile, precision)
    log_w = engine.CompiledFunction(
        lambda batch, k: model.run(batch, k).log_w, compiled=plan.compiled
    )
    with (
        ChunkResults(checkpoint) as results,
        engine.fork_rng(data.device),
        engine.retain_freed_memory(),
        engine.inference_mode(model, plan),
    ):
        chunks = data.padded_chunks(min(rows_per_chunk, len(data)))
        n_chunks = -(-len(data) // rows_per_chunk)
        bar = tqdm(chunks, f"L_{n_samples}", n_chunks, disable=not progress, unit="chunk")
        for chunk, (batch, n_rows) in enumerate(bar):
            if chunk < results.n_done:
                continue
            engine.seed(seed, chunk)
            total = ImportanceSum(len(batch.x), data.device)
            while total.n < n_samples:
                total.add(log_w(batch, min(samples_per_chunk, n_samples - total.n)))
            results.add(_with_gap_proposal(model, batch, total, samples_per_chunk), n_rows)
    return results.result(n_samples)


def _with_gap_proposal(
    model: LatentModel, batch: Batch, total: ImportanceSum, samples_per_chunk: int
) -> list[Tensor]:
    """Summary of a chunk in which rows with gaps have the estimate of their own proposal.

    Complete rows keep the sums over samples of q(z | x); their noise does not depend on the gaps of
    other rows.
    """
    summary = total.summary()
    if batch.mask is None:
        return summary
    gaps = (batch.mask == 0).any(-1).nonzero().flatten()
    if len(gaps) == 0:
        return summary
    rows = Batch(*(None if value is None else value[gaps] for value in batch))  # type: ignore[arg-type]
    with engine.differentiable_products(model):
        proposal = gap_proposal(model, rows)
    refined = ImportanceSum(len(gaps), batch.x.device)
    while refined.n < total.n:
        n = min(samples_per_chunk, total.n - refined.n)
        refined.add(proposal.weigh(model, rows, n)[1])
    for values, better in zip(summary, refined.summary(), strict=True):
        values[gaps] = better
    return summary


@torch.no_grad()
def exact_log_likelihood(
    model: ExactModel, data: DeviceData, *, rows_per_chunk: int = 100
) -> LogLikelihood:
    """Compute log p(x) of every row in double precision, for a model with a closed form.

    An importance sample from the exact posterior has weight p(x): the result is L_1 with zero
    Monte Carlo error.

    Parameters
    ----------
    model : ExactModel
        Model in evaluation mode.
    data : Data
        Rows to evaluate; missing entries are integrated out.
    rows_per_chunk : int
        Number of rows per model evaluation.

    Returns
    -------
    LogLikelihood
        Exact values in nats.
    """
    wide = engine.widest_float_dtype(data.device)
    model = copy.deepcopy(model).to(wide)
    chunks = data.with_dtype(wide).padded_chunks(min(rows_per_chunk, len(data)))
    parts = [model.log_marginal(batch)[:n_rows].double().cpu() for batch, n_rows in chunks]
    values = torch.cat(parts).numpy()
    return LogLikelihood(values, np.zeros_like(values), np.ones_like(values), 1, "exact")
