"""What a run folder keeps of a scoring: ``metrics.json``, and likelihoods row by row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ancestral import datasets, storage
from ancestral.density import LatentEstimator
from ancestral.evaluate import LogLikelihood
from ancestral.protocol import Metric, Scoring
from ancestral.scoring import evaluate

METRICS, LIKELIHOODS = "metrics.json", "likelihoods"


def scored(
    folder: Path,
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    scoring: Scoring,
    *,
    again: bool = False,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Evaluate the model of a folder, or recall it if the run has done so (not ``again``).

    A run folder keeps the metric, and the values row by row.
    """
    what = scoring.describe_likelihood(estimator, dataset)
    if not again and dataset.checksum:
        for metric in read_metrics(folder):
            if what.items() <= metric.items() and "rows" in metric:
                return metric, _read_rows(folder / metric["rows"], scoring)
    if not (folder / storage.MODEL).is_dir():
        return evaluate(estimator, dataset, scoring, progress=progress)
    rows = folder / LIKELIHOODS / f"{_name(what, scoring)}.csv"
    rows.parent.mkdir(exist_ok=True)
    state = str(rows.with_suffix(".checkpoint"))
    metric, result = evaluate(estimator, dataset, scoring, checkpoint=state, progress=progress)
    storage.write_file(rows, rows_csv(result))
    add_metric(folder, metric | {"rows": str(rows.relative_to(folder))})
    return metric, result


def _name(what: Metric, scoring: Scoring) -> str:
    """Return a file's name for an evaluation."""
    parts = [what["data"], what["split"], *str(scoring).replace(",", "").split()]
    parts += [str(what["n_rows"])]
    seed = what["binarize_seed"]
    return "-".join(parts if seed is None else [*parts, f"bits{seed}"])


ROW_VALUES = ("log_likelihood", "monte_carlo_error", "effective_sample_size")


def rows_csv(result: LogLikelihood) -> str:
    """Write an evaluation row by row, as CSV."""
    columns = (result.values, result.monte_carlo_errors, result.effective_sample_sizes)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return storage.to_csv([dict(zip(ROW_VALUES, row, strict=True)) for row in rows])


def _read_rows(path: Path, scoring: Scoring) -> LogLikelihood:
    columns = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T
    how = scoring.annealing
    n, kind = (scoring.n_importance_samples, "L") if how is None else (how.n_chains, "AIS")
    return LogLikelihood(columns[0], columns[1], columns[2], n, kind)


def read_metrics(folder: Path) -> list[Metric]:
    """Read ``metrics.json``: one record per evaluation."""
    path = folder / METRICS
    return json.loads(path.read_text()) if path.is_file() else []


def add_metric(folder: Path, metric: Metric) -> None:
    """Append to ``metrics.json``."""
    add_metrics(folder, [metric])


def add_metrics(folder: Path, metrics: list[Metric]) -> None:
    """Append to ``metrics.json``, all or none; what is not a number is null there."""
    plain = [{k: None if v != v else v for k, v in metric.items()} for metric in metrics]
    content = json.dumps([*read_metrics(folder), *plain], indent=1)
    storage.write_file(folder / METRICS, content)
