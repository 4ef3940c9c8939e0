"""Run folders: the configuration, the results and the fitted model of one run.

A run folder contains ``config.toml`` (input of ``ancestral fit --config``), ``versions.json``,
``history.csv`` (the learning curves), ``metrics.json``, ``likelihoods/`` (row by row, one file per
evaluation), ``imputations/`` (imputed rows, written by recipes), ``model/`` and ``report.html``.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from ancestral import datasets
from ancestral.data.columns import has_missing
from ancestral.estimators import registry
from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.base.implicit import ImplicitEstimator
from ancestral.estimators.base.supervised import RegressorBase
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.evaluation.sample_quality import MIN_SAMPLES
from ancestral.experiments import metrics_file, provenance, scoring
from ancestral.experiments.config import Config, read_config
from ancestral.experiments.evaluation_settings import EvaluationSettings, Metric
from ancestral.utils import distributed, files, serialization

QUICK_SAMPLES, QUICK_ROWS = 100, 500
"""Numbers of importance samples and of rows of the likelihood estimate at the end of a run."""

CONFIG, VERSIONS, REPORT = "config.toml", "versions.json", "report.html"


def run_experiment(
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
    if not overwrite and _needs_evaluation(out, config, report):
        estimator, dataset = open_run(out)[0], config.dataset()
    else:
        files.check_writable(out, overwrite=overwrite)
        estimator, dataset = config.estimator(), config.dataset()
        _check_data(estimator, dataset, _evaluation_settings(config, split))
        _train(estimator, dataset, config, out, overwrite)
    if not distributed.is_main():
        return out  # only the main process evaluates and writes the report
    metrics, quick = estimate_metrics(estimator, dataset, config, split)
    if not (out / metrics_file.METRICS).is_file():
        metrics_file.add_metrics(
            out, [m | {"fit_seconds": estimator.fit_seconds_} for m in metrics]
        )
    if report:
        write_report(out, estimator, dataset, quick, config)
    return out


def _needs_evaluation(out: Path, config: Config, report: bool) -> bool:
    """Whether a run folder contains the trained model but not all of its evaluation files."""
    evaluation_files = [metrics_file.METRICS, *([REPORT] if report else [])]
    complete = all((out / name).is_file() for name in evaluation_files)
    if complete or not (out / CONFIG).is_file() or not (out / files.MODEL).is_dir():
        return False
    return read_config(out / CONFIG).trains_same_model_as(config)


def _check_data(estimator: Estimator, dataset: datasets.Dataset, rows: EvaluationSettings) -> None:
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
            f"{registry.find(estimator._classifier_name).name} instead"
        )
    if isinstance(estimator, ImplicitEstimator):
        split, X = rows.rows(dataset)
        if has_missing(X):
            raise ValueError(
                f"{name} is evaluated by comparing samples with complete rows, but some {split} "
                f"rows of {dataset.name} have missing entries: impute them or drop the rows"
            )
        if len(X) < MIN_SAMPLES:
            raise ValueError(
                f"{name} is evaluated by comparing samples with at least {MIN_SAMPLES} real "
                "rows, but "
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
    checkpoint = estimator.checkpoint_path
    estimator.checkpoint_path = checkpoint or str(training_checkpoint_path(out))
    start = perf_counter()
    estimator.fit(dataset.x_train, dataset.y_train)
    estimator.fit_seconds_ = perf_counter() - start
    estimator.checkpoint_path = checkpoint
    if not distributed.is_main():
        return
    device = next(estimator.model_.parameters()).device
    if dataset.class_names is not None and estimator.target_kind == "classes":
        estimator.class_names_ = [dataset.class_names[c] for c in estimator.classes_]

    def write(folder: Path) -> None:
        files.write_file(folder / CONFIG, config.to_toml())
        environment = {"commit": provenance.commit(), "device": provenance.device_name(device)}
        versions = serialization.versions() | environment
        files.write_file(folder / VERSIONS, json.dumps(versions, indent=1))
        files.write_file(folder / "history.csv", files.to_csv(estimator.history_))
        estimator.save(folder / files.MODEL)

    files.write_folder(out, write, overwrite=overwrite)


def _evaluation_settings(
    config: Config, split: Literal["valid"] | None, n_importance_samples: int = QUICK_SAMPLES
) -> EvaluationSettings:
    """Evaluation settings of a run: validation rows if the run has some, else test rows."""
    return EvaluationSettings(
        n_importance_samples, "valid" if "n_valid" in config.data_options else split
    )


def estimate_metrics(
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
    rows = _evaluation_settings(config, split, n_importance_samples)
    return scoring.score_all(estimator, dataset, rows, n_likelihoods=QUICK_ROWS)


def training_checkpoint_path(out: Path) -> Path:
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
    from ancestral.experiments import report

    path = folder / REPORT
    title = f"{type(estimator).__name__} on {dataset.name}"
    command = ["ancestral", "fit", config.method, config.data]
    for name, value in (config.options | config.data_options).items():
        if name in ("grayscale", "contrast", "halves"):
            command.append(f"--{name}")
        elif name != "verbose":
            command += [f"--{name.replace('_', '-')}", _format_argument(value)]
    report.write_page(
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
    ancestral.utils.serialization.ModelFileError
        If the folder does not exist, or contains no readable model.
    """
    path = Path(path)
    if not path.exists():
        raise serialization.ModelFileError(f"{path} does not exist: expected a run folder")
    config = read_config(path / CONFIG) if (path / CONFIG).is_file() else None
    return registry.load(serialization.model_folder(path)), config


def _format_argument(value: Any) -> str:
    """Value of an option as a command-line argument."""
    return json.dumps(value).replace(" ", "") if isinstance(value, tuple | list) else str(value)
