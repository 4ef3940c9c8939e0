"""Scoring a fitted model by a stated protocol, and what a run folder keeps of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from sklearn.base import clone

from ancestral import datasets, storage
from ancestral.ais import Annealing
from ancestral.density import LatentEstimator
from ancestral.engine import Precision
from ancestral.errors import Errors, errors, squared_errors
from ancestral.evaluate import LogLikelihood, standard_error_of_mean
from ancestral.fields import Count, Natural, check, hints
from ancestral.labels import ClassLearner, LabelLearner, LinearScores, TargetLearner, has_label
from ancestral.likeness import likeness
from ancestral.methods.autoencoder import Autoencoder
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.methods.pegasos import Solver, name_of, svm
from ancestral.rows import RowEstimator

METRICS, LIKELIHOODS = "metrics.json", "likelihoods"

Metric = dict[str, Any]

ERROR, LIKENESS = "error, %", "MMD^2 of samples"

SAMPLES = 2000
"""Most samples that are compared with real rows."""


@dataclass(frozen=True)
class Scoring:
    """Which rows are scored, and how.

    Attributes
    ----------
    n_importance_samples : int
        S of L_S.
    split : {"test", "valid", "train"}, optional
        By default the test rows, if there are some.
    binarize_seed : int
        Of the one binarisation of grey values.
    n_rows : int, optional
        The first so many rows only.
    precision : {"float32", "bfloat16", "auto"}
        Of matrix products.
    annealing : Annealing, optional
        Annealed importance sampling in place of L_S.
    """

    n_importance_samples: Count = 5000
    split: Literal["test", "valid", "train"] | None = None
    binarize_seed: Natural = 0
    n_rows: Count | None = None
    precision: Precision = "float32"
    annealing: Annealing | None = None

    def rows(self, dataset: datasets.Dataset) -> tuple[str, np.ndarray]:
        """Return the name of the split, and its rows."""
        split = self.split or ("train" if dataset.x_test is None else "test")
        X = getattr(dataset, f"x_{split}")
        if X is None:
            raise ValueError(f"split={split!r}: the data set {dataset.name} has no such rows")
        return split, X[: self.n_rows]

    def __str__(self) -> str:
        if self.annealing is None:
            return f"L_{self.n_importance_samples}"
        how = self.annealing
        words = f"AIS_{how.n_chains}, {how.n_steps} steps from the {how.start}"
        usual = Annealing(how.n_steps, how.n_chains, start=how.start)
        moves = f", {how.n_leapfrog} leapfrogs, at first of {how.first_step_size:g}"
        return words if how == usual else words + moves


def measured(
    name: str,
    split: str,
    n_rows: int,
    dataset: datasets.Dataset,
    value: tuple[float, float],
    began: float,
    **more: Any,
) -> Metric:
    """Return what is kept of a measurement.

    Parameters
    ----------
    name, split : str
        Which metric, with its unit, of which rows.
    n_rows : int
        How many these are.
    dataset : Dataset
        Of which data.
    value : (float, float)
        The number and its standard error.
    began : float
        When, by ``perf_counter``.
    **more
        What else there is to say.
    """
    return {
        "metric": name,
        "split": split,
        "n_rows": n_rows,
        **more,
        "data": dataset.name,
        "data_checksum": dataset.checksum,
        "value": value[0],
        "standard_error": value[1],
        "seconds": perf_counter() - began,
    }


def evaluate(
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    scoring: Scoring,
    *,
    checkpoint: str | None = None,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the log-likelihood of one split; with a checkpoint, it can be interrupted.

    Returns
    -------
    (dict, LogLikelihood)
        What goes into ``metrics.json``, and the values themselves.
    """
    for name, hint in hints(Scoring).items():
        check(name, getattr(scoring, name), hint)
    _, X = scoring.rows(dataset)
    began = perf_counter()
    result = estimator.log_likelihood(
        X,
        scoring.n_importance_samples,
        annealing=scoring.annealing,
        binarize_seed=scoring.binarize_seed,
        precision=scoring.precision,
        checkpoint=checkpoint,
        progress=progress,
    )
    found = {
        "value": result.mean,
        "standard_error": result.standard_error,
        "median_effective_sample_size": float(np.median(result.effective_sample_sizes)),
        "seconds": perf_counter() - began,
    }
    return _what(estimator, dataset, scoring) | found, result


def look(
    estimator: RowEstimator,
    dataset: datasets.Dataset,
    rows: Scoring,
    *,
    n_likelihoods: int | None = None,
) -> tuple[list[Metric], LogLikelihood | None]:
    """Score an estimator by all that it can be scored by: a first look, after training.

    The likelihood, which takes by far the longest, may be of the first ``n_likelihoods`` rows only.

    Returns
    -------
    (list of dict, LogLikelihood or None)
        Likelihood first, then errors; the likelihood row by row.
    """
    metrics, likelihoods = [], None
    if isinstance(estimator, LatentEstimator):
        fewer = rows if n_likelihoods is None else replace(rows, n_rows=n_likelihoods)
        metric, likelihoods = evaluate(estimator, dataset, fewer)
        metrics.append(metric)
    if isinstance(estimator, ClassLearner) and labels(dataset, rows) is not None:
        metrics.append(classify(estimator, dataset, rows)[0])
    if isinstance(estimator, TargetLearner) and labels(dataset, rows) is not None:
        metrics.append(regress(estimator, dataset, rows))
    if isinstance(estimator, Autoencoder):
        metrics.append(rebuild(estimator, dataset, rows))
    if isinstance(estimator, ImplicitEstimator):
        metrics.append(resemble(estimator, dataset, rows))
    return metrics, likelihoods


def regress(estimator: Any, dataset: datasets.Dataset, rows: Scoring) -> Metric:
    """Compare predicted targets with the true ones of one split, in the targets' units."""
    split, X = rows.rows(dataset)
    y = labels(dataset, rows)
    if y is None:
        raise ValueError(f"the data set {dataset.name} has no targets of its {split} rows")
    began = perf_counter()
    squares = np.square(estimator.predict(X) - y[: len(X)]).reshape(len(X), -1).mean(1)
    root = float(np.sqrt(squares.mean()))
    value = root, standard_error_of_mean(squares) / (2 * root or 1.0)
    return measured("root mean squared error", split, len(X), dataset, value, began)


def rebuild(estimator: Autoencoder, dataset: datasets.Dataset, rows: Scoring) -> Metric:
    """Compare rows of one split with what their codes are decoded to, entry by entry."""
    split, X = rows.rows(dataset)
    began = perf_counter()
    truth = X.astype(np.float64) * (estimator.unit_ if X.dtype == np.uint8 else 1.0)
    found = squared_errors(truth, estimator.reconstruct(X), ~np.isnan(truth))
    value = found.mean, found.standard_error
    name = "mean squared error of reconstructions"
    return measured(name, split, len(X), dataset, value, began)


def resemble(
    estimator: ImplicitEstimator, dataset: datasets.Dataset, rows: Scoring, *, seed: int = 0
) -> Metric:
    """Compare samples of an implicit model with rows of one split, at most 2,000 of each.

    If there are more, rows are chosen at random, the same ones every time, for a table may be
    sorted. All are compared in the units in which the model sees columns: real values standardised
    as it has learnt to, bits and pixels as they are.

    Raises
    ------
    ValueError
        If a row of the split, or a training row, has missing entries.
    """
    split, X = rows.rows(dataset)
    real = as_values(X, estimator.unit_, f"{dataset.name}, {split} rows")
    real = real[np.random.default_rng(0).permutation(len(X))[:SAMPLES]]
    training = as_values(dataset.x_train, estimator.unit_, f"{dataset.name}, training rows")
    began = perf_counter()
    drawn = estimator.sample(len(real), random_state=seed)
    found = likeness(*(as_seen(estimator, rows) for rows in (drawn, real, training)))
    value = found.mmd2, found.mmd2_error
    return measured(LIKENESS, split, len(real), dataset, value, began, **asdict(found))


def observe(
    estimator: ImplicitEstimator,
    dataset: datasets.Dataset,
    rows: Scoring,
    variance: float,
    *,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the likelihood of rows under a generator with normal noise on top.

    Returns
    -------
    (dict, LogLikelihood)
        What goes into ``metrics.json``, and the values themselves.
    """
    split, X = rows.rows(dataset)
    y = labels(dataset, rows) if isinstance(estimator, LabelLearner) else None
    began = perf_counter()
    told = None if y is None else y[: len(X)]
    how: dict[str, Any] = {"annealing": rows.annealing, "progress": progress}
    found = estimator.log_likelihood(X, told, variance=variance, **how)
    name = f"log-likelihood {rows} with noise of variance {variance:g}, nats"
    value = found.mean, found.standard_error
    return measured(name, split, len(X), dataset, value, began), found


def as_seen(estimator: RowEstimator, rows: np.ndarray) -> np.ndarray:
    """Return rows in the units in which the model sees columns: bits and pixels as they are."""
    return (np.asarray(rows, np.float64) - estimator.location_) / estimator.scale_


def as_values(x: np.ndarray, unit: float, what: str = "rows") -> np.ndarray:
    """Return rows as floats in the estimator's units.

    Raises
    ------
    ValueError
        If entries are missing; ``what`` says of what.
    """
    values = np.asarray(x)
    values = values.astype(np.float64) * (unit if values.dtype == np.uint8 else 1.0)
    gaps = np.flatnonzero(~np.isfinite(values).all(1))
    if len(gaps):
        raise ValueError(
            f"{what}: {len(gaps)} of {len(values)} have missing or infinite entries, the first of "
            f"them row {gaps[0]} (counted from 0), and rows are compared whole: fill the gaps (a "
            "VAE's impute, say), or leave such rows out"
        )
    return values


def labels(dataset: datasets.Dataset, rows: Scoring) -> np.ndarray | None:
    """Return the labels of the rows that are scored, if the data set has some."""
    return getattr(dataset, f"y_{rows.rows(dataset)[0]}")


def classify(
    estimator: ClassLearner,
    dataset: datasets.Dataset,
    rows: Scoring,
    *,
    second_stage: Any = None,
    training: datasets.Dataset | None = None,
) -> tuple[Metric, Errors]:
    """Count how many labelled rows of one split a classifier gets wrong.

    With a second stage, that one tells them, on the features of the first: see
    :func:`learned_afresh`. It learns the training rows of ``training``, by default those of the
    data that are scored.

    Raises
    ------
    ValueError
        If the data set has no labels.
    """
    split, X = rows.rows(dataset)
    y = labels(dataset, rows)
    if y is None:
        raise ValueError(f"the data set {dataset.name} has no labels of its {split} rows")
    began, name = perf_counter(), ERROR
    predict: Callable[[np.ndarray], np.ndarray] = estimator.predict
    if second_stage is not None:
        predict = learned_afresh(estimator, training or dataset, second_stage)
        name = f"error by {name_of(second_stage)}, %"
    found = errors(predict(X), y[: len(X)])
    value = found.percent, found.standard_error
    return measured(name, split, len(found.wrong), dataset, value, began), found


def learned_afresh(
    estimator: ClassLearner, dataset: datasets.Dataset, classifier: Any
) -> Callable[[np.ndarray], np.ndarray]:
    """Learn classes afresh on features of the training rows, and return how they are told.

    Raises
    ------
    ValueError
        If the estimator has no features, or the data no classes.
    """
    first, x, y = _lessons(name_of(classifier), estimator, dataset)
    fitted = clone(classifier).fit(first.features_of(x), y)
    return lambda rows: fitted.predict(first.features_of(rows))


def second_stage(solver: Solver | None, estimator: ClassLearner, training: datasets.Dataset) -> Any:
    """Return the linear machine that is to tell classes in a model's place, if one is asked for.

    Raises
    ------
    ValueError
        If the estimator has no features to learn from, or the training rows have no classes.
    """
    if solver is None:
        return None
    _, _, y = _lessons(solver, estimator, training)
    return svm(solver, len(y))


def _lessons(
    named: str, estimator: ClassLearner, dataset: datasets.Dataset
) -> tuple[LinearScores, np.ndarray, np.ndarray]:
    """Return what a second stage learns from: the features' model, labelled rows, their classes."""
    if not isinstance(estimator, LinearScores):
        raise ValueError(
            f"second_stage={named!r}: {type(estimator).__name__} has no features to learn from: "
            "expected a model whose scores are linear in features, as MaxMarginVAE"
        )
    y = dataset.y_train
    known = np.flatnonzero(has_label(y)) if y is not None else np.empty(0, np.int64)
    if y is None or not len(known):
        raise ValueError(
            f"second_stage={named!r}: the training rows of {dataset.name} have no classes to learn"
        )
    return estimator, dataset.x_train[known], y[known]


def _what(estimator: LatentEstimator, dataset: datasets.Dataset, scoring: Scoring) -> Metric:
    """Say what an evaluation is of: two that agree in this give the same values."""
    split, X = scoring.rows(dataset)
    return {
        "metric": f"log-likelihood {scoring}, nats",
        "split": split,
        "n_rows": len(X),
        "precision": scoring.precision,
        "binarize_seed": scoring.binarize_seed if estimator.draws_bits_ else None,
        "data": dataset.name,
        "data_checksum": dataset.checksum,
    }


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
    what = _what(estimator, dataset, scoring)
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
