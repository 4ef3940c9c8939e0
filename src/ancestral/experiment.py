"""Run folders: what was asked, what came out, and everything needed to ask again.

A run folder holds ``config.toml`` (feed it back to ``ancestral fit --config``), ``versions.json``,
``history.csv`` (the learning curves), ``metrics.json``, ``likelihoods/`` (row by row, one file for
each evaluation), ``model/`` and ``report.html``.
"""

from __future__ import annotations

import json
import shlex
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from ancestral import datasets, methods, parallel, provenance, storage
from ancestral.ais import Annealing
from ancestral.density import LatentEstimator
from ancestral.engine import Precision
from ancestral.evaluate import LogLikelihood
from ancestral.fields import Count, Natural, as_tuples, check, hints, suggest

QUICK_SAMPLES = 100
"""Importance samples of the look at the test rows that every run takes."""

CONFIG, METRICS, VERSIONS = "config.toml", "metrics.json", "versions.json"
LIKELIHOODS = "likelihoods"

Metric = dict[str, Any]


@dataclass
class Config:
    """What a run is made of.

    Attributes
    ----------
    method : str
        A name of the registry.
    data : str
        A data set's name, or the path of a file or folder.
    options : dict
        Fields of the estimator that differ from its defaults.
    data_options : dict
        What :func:`ancestral.datasets.load` is told besides.
    """

    method: str
    data: str
    options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def to_toml(self) -> str:
        """Write as TOML."""
        lines = [f"method = {json.dumps(self.method)}", f"data = {json.dumps(self.data)}"]
        for title, table in (("options", self.options), ("data_options", self.data_options)):
            lines += ["", f"[{title}]"]
            lines += [f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None]
        return "\n".join(lines) + "\n"

    def estimator(self) -> LatentEstimator:
        """Make the estimator, its options checked."""
        cls = methods.find(self.method).load()
        known = hints(cls)
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(f"{cls.__name__} has no option {name!r}{suggest(name, known)}")
            check(name, value, known[name])
        return cls(**self.options)

    def dataset(self) -> datasets.Dataset:
        """Load the data."""
        return datasets.load(self.data, **self.data_options)


def read_config(path: Path | str) -> Config:
    """Read what :meth:`Config.to_toml` wrote, or a person did.

    Raises
    ------
    ValueError
        If the file is not TOML, or has keys or values that are not what they should be.
    """
    try:
        table = as_tuples(tomllib.loads(Path(path).read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is not valid TOML: {error}") from None
    known = ("method", "data", "options", "data_options")
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"config {path}: unknown key {key!r}{suggest(key, known)}")
        expected = str if key in ("method", "data") else dict
        if not isinstance(value, expected):
            raise ValueError(f"config {path}: {key}={value!r} should be a {expected.__name__}")
    return Config(**{"method": "", "data": "", **table})


def aligned(dataset: datasets.Dataset, estimator: LatentEstimator) -> datasets.Dataset:
    """Bring the columns of a table into the order in which the model knows them.

    Raises
    ------
    ValueError
        If the names of the columns differ.
    """
    known, given = getattr(estimator, "column_names_", None), dataset.feature_names
    if known is None or given is None or list(given) == list(known):
        return dataset
    if sorted(given) != sorted(known):
        raise ValueError(
            f"{dataset.name}: its columns are {', '.join(given)}; "
            f"the model was fitted on {', '.join(known)}"
        )
    order = [given.index(name) for name in known]
    splits: dict[str, Any] = {
        k: v[:, order] for k, v in dataset.arrays().items() if k.startswith("x_")
    }
    return replace(dataset, feature_names=tuple(known), **splits)


def run(config: Config, out: Path, *, overwrite: bool = False, report: bool = True) -> Path:
    """Fit, take a quick look at the test rows (held-out ones, if asked for), leave a run folder.

    Raises
    ------
    FileExistsError
        If ``out`` is there and ``overwrite`` false; checked before anything is computed.
    """
    out = out.resolve()
    storage.check_writable(out, overwrite=overwrite)
    estimator, dataset = config.estimator(), config.dataset()
    if dataset.image_shape is not None and estimator.image_shape is None:
        estimator.image_shape = dataset.image_shape
    if estimator.checkpoint is None:
        estimator.checkpoint = str(checkpoint_of(out))
    began = perf_counter()
    estimator.fit(dataset.x_train, dataset.y_train)
    seconds = perf_counter() - began
    if not parallel.is_main():
        return out  # the first of several processes does the rest
    if dataset.feature_names is not None:
        estimator.column_names_ = list(dataset.feature_names)

    def fill(folder: Path) -> None:
        storage.write_file(folder / CONFIG, config.to_toml())
        versions = storage.versions() | {"commit": provenance.commit()}
        storage.write_file(folder / VERSIONS, json.dumps(versions, indent=1))
        storage.write_file(folder / "history.csv", storage.to_csv(estimator.history_))
        estimator.save(folder / storage.MODEL)

    # the model is safe before anything else is tried
    storage.write_folder(out, fill, overwrite=overwrite)
    split: Literal["valid"] | None = "valid" if "n_valid" in config.data_options else None
    metric, quick = evaluate(estimator, dataset, Scoring(QUICK_SAMPLES, split))
    add_metric(out, metric | {"fit_seconds": seconds})
    if report:
        write_report(out, estimator, dataset, quick, config)
    return out


def checkpoint_of(out: Path) -> Path:
    """Where a run keeps the state of its training until its folder is there."""
    return out.with_name(f".{out.name}.checkpoint")


def write_report(
    folder: Path,
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    evaluation: LogLikelihood | None,
    config: Config,
) -> Path:
    """Write the report page of a run."""
    from ancestral import report

    path = folder / "report.html"
    title = f"{type(estimator).__name__} on {dataset.name}"
    command = ["ancestral", "fit", config.method, config.data]
    for name, value in (config.options | config.data_options).items():
        if name == "grayscale":
            command.append("--grayscale")
        elif name != "verbose":
            command += [f"--{name.replace('_', '-')}", _as_argument(value)]
    report.write(
        path, estimator, dataset, title=title, evaluation=evaluation, command=shlex.join(command)
    )
    return path


def open_run(path: Path | str) -> tuple[LatentEstimator, Config | None]:
    """Load the model of a run folder, or of a folder that is just a saved model.

    Raises
    ------
    ancestral.storage.ModelFileError
        If there is none, or it can't be read.
    """
    path = Path(path)
    if not path.exists():
        raise storage.ModelFileError(f"{path} is not there: expected the folder of a run")
    config = read_config(path / CONFIG) if (path / CONFIG).is_file() else None
    return methods.load(storage.model_folder(path)), config


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
        return f"AIS_{how.n_chains}, {how.n_steps} steps from the {how.start}"


def evaluate(
    estimator: LatentEstimator,
    dataset: datasets.Dataset,
    scoring: Scoring,
    *,
    progress: bool = False,
) -> tuple[Metric, LogLikelihood]:
    """Estimate the log-likelihood of one split.

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
        progress=progress,
    )
    found = {
        "value": result.mean,
        "standard_error": result.standard_error,
        "median_effective_sample_size": float(np.median(result.effective_sample_sizes)),
        "seconds": perf_counter() - began,
    }
    return _what(estimator, dataset, scoring) | found, result


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
    if not again:
        for metric in read_metrics(folder):
            if what.items() <= metric.items() and "rows" in metric:
                return metric, _read_rows(folder / metric["rows"], scoring)
    metric, result = evaluate(estimator, dataset, scoring, progress=progress)
    if (folder / storage.MODEL).is_dir():
        parts = [dataset.name, metric["split"], *str(scoring).replace(",", "").split()]
        parts += [str(metric["n_rows"])]
        parts += [f"bits{scoring.binarize_seed}"] if estimator.draws_bits_ else []
        metric["rows"] = f"{LIKELIHOODS}/{'-'.join(parts)}.csv"
        storage.write_file(folder / metric["rows"], rows_csv(result))
        add_metric(folder, metric)
    return metric, result


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
    metrics = [*read_metrics(folder), metric]
    storage.write_file(folder / METRICS, json.dumps(metrics, indent=1))


def _as_argument(value: Any) -> str:
    return json.dumps(value).replace(" ", "") if isinstance(value, tuple | list) else str(value)
