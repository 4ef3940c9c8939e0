"""Evaluation results of a run folder: ``metrics.json`` and row-wise likelihoods as CSV."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ancestral import datasets
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.experiments.evaluation_settings import EvaluationSettings, Metric
from ancestral.experiments.scoring import score_log_likelihood
from ancestral.utils import files

METRICS, LIKELIHOODS = "metrics.json", "likelihoods"


def evaluate_cached(
    folder: Path,
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    scoring: EvaluationSettings,
    *,
    recompute: bool = False,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the log-likelihood, with results cached in the run folder.

    Parameters
    ----------
    folder : Path
        Run folder. Results are cached only if it contains the model.
    estimator : LatentEstimator
        Fitted model.
    dataset : Dataset
        Data set of the scored rows.
    scoring : EvaluationSettings
        Evaluation settings.
    recompute : bool
        Whether to recompute a cached result.
    progress : bool
        Whether to print progress.

    Returns
    -------
    (dict, LogLikelihood)
        The record in ``metrics.json``, and the row-wise values in nats.
    """
    identity = scoring.likelihood_identity(estimator, dataset)
    if not recompute and dataset.checksum:
        for metric in read_metrics(folder):
            if identity.items() <= metric.items() and "rows" in metric:
                return metric, _read_likelihoods(folder / metric["rows"], scoring)
    if not (folder / files.MODEL).is_dir():
        return score_log_likelihood(estimator, dataset, scoring, progress=progress)
    rows = folder / LIKELIHOODS / f"{_file_stem(identity, scoring)}.csv"
    rows.parent.mkdir(exist_ok=True)
    checkpoint = str(rows.with_suffix(".checkpoint"))
    metric, result = score_log_likelihood(
        estimator, dataset, scoring, checkpoint=checkpoint, progress=progress
    )
    files.write_file(rows, likelihoods_to_csv(result))
    add_metric(folder, metric | {"rows": str(rows.relative_to(folder))})
    return metric, result


def _file_stem(identity: Metric, scoring: EvaluationSettings) -> str:
    """File name of an evaluation, without suffix."""
    parts = [identity["data"], identity["split"], *str(scoring).replace(",", "").split()]
    parts += [str(identity["n_rows"])]
    seed = identity["binarize_seed"]
    return "-".join(parts if seed is None else [*parts, f"bits{seed}"])


LIKELIHOOD_COLUMNS = ("log_likelihood", "monte_carlo_error", "effective_sample_size")


def likelihoods_to_csv(result: LogLikelihood) -> str:
    """Row-wise log-likelihoods as CSV text, one line per row."""
    import polars as pl

    columns = (result.values, result.monte_carlo_errors, result.effective_sample_sizes)
    table = dict(zip(LIKELIHOOD_COLUMNS, columns, strict=True))
    if result.pareto_k is not None:
        table["pareto_k"] = result.pareto_k
    return pl.DataFrame(table).cast(pl.Float64).write_csv()


def _read_likelihoods(path: Path, scoring: EvaluationSettings) -> LogLikelihood:
    """Row-wise log-likelihoods read from the CSV file of an evaluation."""
    columns = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T
    annealing = scoring.annealing
    if annealing is None:
        n, kind = scoring.n_importance_samples, "L"
    else:
        n, kind = annealing.n_chains, "AIS"
    pareto_k = columns[3] if len(columns) > 3 else None
    return LogLikelihood(columns[0], columns[1], columns[2], n, kind, pareto_k)


def read_metrics(folder: Path) -> list[Metric]:
    """Read the records of ``metrics.json``, one per evaluation; empty if there is no such file."""
    path = folder / METRICS
    return json.loads(path.read_text()) if path.is_file() else []


def add_metric(folder: Path, metric: Metric) -> None:
    """Append one record to ``metrics.json``."""
    add_metrics(folder, [metric])


def add_metrics(folder: Path, metrics: list[Metric]) -> None:
    """Append records to ``metrics.json`` in one atomic write; NaN is written as null."""
    records = [{k: None if v != v else v for k, v in metric.items()} for metric in metrics]
    content = json.dumps([*read_metrics(folder), *records], indent=1)
    files.write_file(folder / METRICS, content)
