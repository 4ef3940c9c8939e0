"""Run folders: the configuration, the results and the fitted model of one run.

A run folder contains ``config.toml`` (input of ``ancestral fit --config``), ``versions.json``,
``history.csv`` (the learning curves), ``metrics.json``, ``likelihoods/`` (row by row, one file per
evaluation), ``repairs/`` (imputed rows, written by recipes), ``model/`` and ``report.html``.
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

from ancestral import datasets, kept, methods, parallel, provenance, scoring, storage
from ancestral.estimator import Estimator
from ancestral.evaluate import LogLikelihood
from ancestral.fields import as_tuples, check, hints, suggest
from ancestral.labels import (
    UNLABELLED,
    RegressorBase,
    class_name,
    class_names,
    has_label,
)
from ancestral.likeness import FEWEST
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.protocol import Metric, Scoring
from ancestral.tables import has_missing

QUICK_SAMPLES, QUICK_ROWS = 100, 500
"""Numbers of importance samples and of rows of the likelihood estimate at the end of a run."""

WAYS = ("start", "autoencoder", "codes", "teacher", "verbose", "checkpoint", "log")
"""Options for paths of other files and for output. They do not change the fitted model."""

CONFIG, VERSIONS, REPORT = "config.toml", "versions.json", "report.html"


@dataclass
class Config:
    """Configuration of a run.

    Attributes
    ----------
    method : str
        Name of the estimator in the registry.
    data : str
        Name of a data set, or the path of a file or folder.
    options : dict
        Estimator parameters that differ from their defaults.
    data_options : dict
        Keyword arguments of :func:`ancestral.datasets.load`.
    """

    method: str
    data: str
    options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def to_toml(self) -> str:
        """Configuration as TOML text."""
        lines = [f"method = {json.dumps(self.method)}", f"data = {json.dumps(self.data)}"]
        for title, table in (("options", self.options), ("data_options", self.data_options)):
            lines += ["", f"[{title}]"]
            lines += [f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None]
        return "\n".join(lines) + "\n"

    def estimator(self) -> Estimator:
        """Create the estimator.

        Raises
        ------
        ValueError
            If an option is unknown or its value is invalid.
        """
        cls = methods.find(self.method).load()
        fields = hints(cls)
        for name, value in self.options.items():
            if name not in fields:
                raise ValueError(f"{cls.__name__} has no option {name!r}{suggest(name, fields)}")
            check(name, value, fields[name])
        return cls(**self.options)

    def plain(self) -> Config:
        """Configuration without paths of other files and without output options."""
        return replace(self, options={k: v for k, v in self.options.items() if k not in WAYS})

    def trains_as(self, other: Config) -> bool:
        """Whether both configurations train the same model."""
        return bool(as_tuples(vars(self.plain())) == as_tuples(vars(other.plain())))

    def dataset(self) -> datasets.Dataset:
        """Load the data."""
        return datasets.load(self.data, **self.data_options)


def read_config(path: Path | str) -> Config:
    """Read a configuration from a TOML file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not TOML, or has an unknown key or an invalid value.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path}: the file does not exist")
    try:
        table = as_tuples(tomllib.loads(Path(path).read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is not valid TOML: {error}") from None
    keys = ("method", "data", "options", "data_options")
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"config {path}: unknown key {key!r}{suggest(key, keys)}")
        expected = str if key in ("method", "data") else dict
        if not isinstance(value, expected):
            raise ValueError(f"config {path}: {key}={value!r}: expected a {expected.__name__}")
    return Config(**{"method": "", "data": "", **table})


def aligned(dataset: datasets.Dataset, estimator: Estimator) -> datasets.Dataset:
    """Reorder the columns of a table to the order in which the model was fitted.

    Raises
    ------
    ValueError
        If the sets of column names differ.
    """
    model_columns, columns = estimator.column_names, dataset.feature_names
    if model_columns is None or columns is None or list(columns) == model_columns:
        return dataset
    if sorted(columns) != sorted(model_columns):
        raise ValueError(
            f"{dataset.name}: its columns are {', '.join(columns)}; "
            f"the model was fitted on {', '.join(model_columns)}"
        )
    order = [columns.index(name) for name in model_columns]
    splits: dict[str, Any] = {
        k: v[:, order] for k, v in dataset.arrays().items() if k.startswith("x_")
    }
    return replace(dataset, feature_names=tuple(model_columns), **splits)


def comparable(dataset: datasets.Dataset, estimator: Estimator) -> datasets.Dataset:
    """Convert the columns of a table to the model's order and the labels to the model's classes.

    Classes are matched by name; the name of a numeric class is the number.

    Raises
    ------
    ValueError
        If the sets of column names differ, or the data contain classes unknown to the model.
    """
    dataset = aligned(dataset, estimator)
    if estimator.target_kind != "classes":
        return dataset
    classes, names = np.asarray(estimator.classes_), dataset.class_names
    model_names = class_names(estimator)
    labels: dict[str, Any] = {}
    for split, y in dataset.arrays().items():
        if not split.startswith("y_"):
            continue
        labelled = has_label(y)
        values, codes = np.unique(y[labelled], return_inverse=True)
        data_names = [class_name(v) if names is None else names[int(v)] for v in values]
        if unknown := [name for name in data_names if name not in model_names]:
            raise ValueError(
                f"{dataset.name}: unknown classes {', '.join(unknown)}; the model was fitted on "
                f"{', '.join(model_names)}"
            )
        model_classes = classes[[model_names.index(name) for name in data_names]]
        numeric = model_classes.dtype.kind in "iuf"
        dtype = model_classes.dtype if numeric else object
        labels[split] = np.full(len(y), UNLABELLED, dtype=dtype)
        labels[split][labelled] = model_classes[codes]
    return replace(dataset, class_names=None, **labels)


def run(
    config: Config,
    out: Path,
    *,
    overwrite: bool = False,
    report: bool = True,
    split: Literal["valid"] | None = None,
) -> Path:
    """Fit a model, estimate its metrics on a few evaluation rows and write a run folder.

    The evaluation rows are the test rows, or the validation rows if ``split`` is ``"valid"``. An
    interrupted run is resumed: from its training checkpoint, or after training if the metrics or
    the report are missing.

    Parameters
    ----------
    config : Config
        Configuration of the run.
    out : Path
        Path of the run folder.
    overwrite : bool
        Whether to replace an existing run folder.
    report : bool
        Whether to write the report page.
    split : {"valid"}, optional
        Split of the evaluation rows; by default the test rows.

    Returns
    -------
    Path
        The absolute path of the run folder.

    Raises
    ------
    FileExistsError
        If ``out`` exists and ``overwrite`` is false; checked before anything is computed.
    ValueError
        If the data do not suit the model, for fitting or for evaluation.
    """
    out = out.resolve()
    if not overwrite and _stopped_after_training(out, config, report):
        estimator, dataset = open_run(out)[0], config.dataset()
    else:
        storage.check_writable(out, overwrite=overwrite)
        estimator, dataset = config.estimator(), config.dataset()
        _check_suitable(estimator, dataset, _rows_to_look_at(config, split))
        _train(estimator, dataset, config, out, overwrite)
    if not parallel.is_main():
        return out  # only the main process evaluates and writes the report
    metrics, quick = look(estimator, dataset, config, split)
    if not (out / kept.METRICS).is_file():
        kept.add_metrics(out, [m | {"fit_seconds": estimator.fit_seconds_} for m in metrics])
    if report:
        write_report(out, estimator, dataset, quick, config)
    return out


def _stopped_after_training(out: Path, config: Config, report: bool) -> bool:
    """Whether a run folder contains the trained model but not all of its evaluation files."""
    evaluation_files = [kept.METRICS, *([REPORT] if report else [])]
    complete = all((out / name).is_file() for name in evaluation_files)
    if complete or not (out / CONFIG).is_file() or not (out / storage.MODEL).is_dir():
        return False
    return read_config(out / CONFIG).trains_as(config)


def _check_suitable(estimator: Estimator, dataset: datasets.Dataset, rows: Scoring) -> None:
    """Raise an error for data whose fault would otherwise be detected only after training."""
    name = type(estimator).__name__
    if dataset.y_train is None and estimator.target_kind is not None:
        kind = "class labels" if estimator.target_kind == "classes" else "targets"
        raise ValueError(
            f"{name} requires {kind}, but {dataset.name} has none: name their column by "
            "target='...'"
        )
    if isinstance(estimator, RegressorBase) and dataset.class_names is not None:
        raise ValueError(
            f"{name} requires numeric targets, but {dataset.name} has classes "
            f"({', '.join(dataset.class_names[:3])}, ...): fit the classifier "
            f"{methods.find(estimator._for_classes).name} instead"
        )
    if isinstance(estimator, ImplicitEstimator):
        split, X = rows.rows(dataset)
        if has_missing(X):
            raise ValueError(
                f"{name} is evaluated by comparing samples with complete rows, but some {split} "
                f"rows of {dataset.name} have missing entries: impute them or drop the rows"
            )
        if len(X) < FEWEST:
            raise ValueError(
                f"{name} is evaluated by comparing samples with at least {FEWEST} real rows, but "
                f"{dataset.name} has {len(X)} {split} rows: set a larger test_fraction=..., or "
                "none to score on training rows"
            )


def _train(
    estimator: Estimator, dataset: datasets.Dataset, config: Config, out: Path, overwrite: bool
) -> None:
    """Fit the model and write the run folder, before any evaluation."""
    if dataset.image_shape is not None and estimator.image_shape is None:
        estimator.image_shape = dataset.image_shape
    if dataset.feature_names is not None:
        estimator.column_names_ = list(dataset.feature_names)
    checkpoint = estimator.checkpoint
    estimator.checkpoint = checkpoint or str(checkpoint_of(out))
    start = perf_counter()
    estimator.fit(dataset.x_train, dataset.y_train)
    estimator.fit_seconds_ = perf_counter() - start
    estimator.checkpoint = checkpoint
    if not parallel.is_main():
        return
    device = next(estimator.model_.parameters()).device
    if dataset.class_names is not None and estimator.target_kind == "classes":
        estimator.class_names_ = [dataset.class_names[c] for c in estimator.classes_]

    def write(folder: Path) -> None:
        storage.write_file(folder / CONFIG, config.to_toml())
        environment = {"commit": provenance.commit(), "device": provenance.device_name(device)}
        versions = storage.versions() | environment
        storage.write_file(folder / VERSIONS, json.dumps(versions, indent=1))
        storage.write_file(folder / "history.csv", storage.to_csv(estimator.history_))
        estimator.save(folder / storage.MODEL)

    storage.write_folder(out, write, overwrite=overwrite)


def _rows_to_look_at(
    config: Config, split: Literal["valid"] | None, n_importance_samples: int = QUICK_SAMPLES
) -> Scoring:
    """Evaluation settings of a run: validation rows if the run has some, else test rows."""
    return Scoring(n_importance_samples, "valid" if "n_valid" in config.data_options else split)


def look(
    estimator: Estimator,
    dataset: datasets.Dataset,
    config: Config,
    split: Literal["valid"] | None = None,
    n_importance_samples: int = QUICK_SAMPLES,
) -> tuple[list[Metric], LogLikelihood | None]:
    """Compute the metrics that a run's report shows, on validation rows if there are some.

    Returns
    -------
    (list of dict, LogLikelihood or None)
        The metrics, and the log-likelihood of at most 500 rows where the model has one.
    """
    rows = _rows_to_look_at(config, split, n_importance_samples)
    return scoring.look(estimator, dataset, rows, n_likelihoods=QUICK_ROWS)


def checkpoint_of(out: Path) -> Path:
    """Path of the training checkpoint, which exists until the run folder is written."""
    return out.with_name(f".{out.name}.checkpoint")


def write_report(
    folder: Path,
    estimator: Estimator,
    dataset: datasets.Dataset,
    evaluation: LogLikelihood | None,
    config: Config,
) -> Path:
    """Write the report page of a run; return its path."""
    from ancestral import report

    path = folder / REPORT
    title = f"{type(estimator).__name__} on {dataset.name}"
    command = ["ancestral", "fit", config.method, config.data]
    for name, value in (config.options | config.data_options).items():
        if name in ("grayscale", "contrast", "halves"):
            command.append(f"--{name}")
        elif name != "verbose":
            command += [f"--{name.replace('_', '-')}", _as_argument(value)]
    report.write(
        path, estimator, dataset, title=title, evaluation=evaluation, command=shlex.join(command)
    )
    return path


def open_run(path: Path | str) -> tuple[Estimator, Config | None]:
    """Load the model and the configuration of a run folder or a saved model.

    Returns
    -------
    (estimator, Config or None)
        The fitted estimator; None for a saved model without ``config.toml``.

    Raises
    ------
    ancestral.storage.ModelFileError
        If the folder does not exist, or contains no readable model.
    """
    path = Path(path)
    if not path.exists():
        raise storage.ModelFileError(f"{path} does not exist: expected a run folder")
    config = read_config(path / CONFIG) if (path / CONFIG).is_file() else None
    return methods.load(storage.model_folder(path)), config


def _as_argument(value: Any) -> str:
    """Value of an option as a command-line argument."""
    return json.dumps(value).replace(" ", "") if isinstance(value, tuple | list) else str(value)
