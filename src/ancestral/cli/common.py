"""Shared parts of the commands: loading of data, checks of models, output of rows."""

from __future__ import annotations

import csv
import io
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ancestral import datasets
from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.supervised import ClassifierBase
from ancestral.experiments import alignment
from ancestral.experiments.config import Config
from ancestral.experiments.evaluation_settings import EvaluationSettings, Metric
from ancestral.experiments.metrics_file import read_metrics
from ancestral.experiments.run_folder import CONFIG
from ancestral.experiments.scoring import SAMPLE_QUALITY
from ancestral.training.engine.devices import log_once
from ancestral.utils import files
from ancestral.utils.validation import Sizes, parse_field

if TYPE_CHECKING:
    import polars as pl


OUTPUT_SUFFIXES = (".npy", ".npz", ".csv", ".parquet", ".png")


def data_options(options: Namespace) -> dict[str, Any]:
    """Keyword arguments of ``datasets.load`` given on the command line."""
    size = parse_field("size", options.size, Sizes) if options.size else None
    values = {
        "target": options.target,
        "drop": next(csv.reader([options.drop])) if options.drop else None,
        "separator": options.separator,
        "header": False if options.no_header else None,
        "test_fraction": getattr(options, "test_fraction", None),
        "n_valid": getattr(options, "n_valid", None),
        "n_train": getattr(options, "n_train", None),
        "n_labels": getattr(options, "n_labels", None),
        "label_seed": getattr(options, "label_seed", None),
        "grayscale": options.grayscale or None,
        "contrast": options.contrast or None,
        "halves": options.halves or None,
        "size": size,
    }
    return {k: v for k, v in values.items() if v is not None}


def load_with_run_options(
    config: Config | None, options: Namespace, *, labelled: bool = True
) -> datasets.Dataset:
    """Load data with the options of the run's own data.

    The target and dropped columns of the run may be absent. With ``labelled=False``, for commands
    that need no labels, the target column is dropped.
    """
    given, own = data_options(options), _reading_options(config)
    table = read_table_with_run_options(config, options)
    columns = () if table is None else table.columns
    target, drop = own.pop("target", None), own.pop("drop", ())
    dropped = [name for name in ([drop] if isinstance(drop, str) else drop) if name in columns]
    own |= {"target": target} if target in columns and target not in given.get("drop", ()) else {}
    own |= {"drop": dropped} if dropped else {}
    kwargs = own | given
    if not labelled and kwargs.get("target") in columns:
        kwargs["drop"] = [*kwargs.get("drop", ()), kwargs.pop("target")]
    return datasets.load(options.data, **kwargs)


def read_table_with_run_options(config: Config | None, options: Namespace) -> pl.DataFrame | None:
    """Read all columns of a table with the options of the run's data; None for other data."""
    kwargs = _reading_options(config) | data_options(options)
    separator, header = kwargs.get("separator", ","), kwargs.get("header", True)
    return datasets.read_table(options.data, separator, header)


def _reading_options(config: Config | None) -> dict[str, Any]:
    """Options of the run's own data, without those that define splits and labelled rows."""
    options = {} if config is None else config.data_options
    excluded = ("test_fraction", "n_valid", "n_train", "n_labels", "label_seed", "split")
    return {k: v for k, v in options.items() if k not in excluded}


def load_dataset(
    run: Path, options: Namespace, config: Config | None, estimator: Estimator
) -> datasets.Dataset:
    """Load the data named on the command line, or else the run's own.

    Columns and classes of named data are converted to those of the model.

    Parameters
    ----------
    run : Path
        Run folder.
    options : Namespace
        Parsed options of the command.
    config, estimator
        Configuration and fitted model of the run folder.

    Raises
    ------
    ValueError
        If no data are named and the folder has no configuration, or the columns or classes differ
        from those of the model.
    """
    if options.data:
        return alignment.align_columns_and_classes(
            load_with_run_options(config, options), estimator
        )
    if config is None:
        raise ValueError(f"{run} has no {CONFIG} that names its data: name the data")
    return _load_run_data(run, config)


def training_data(
    run: Path, options: Namespace, config: Config | None, dataset: datasets.Dataset
) -> datasets.Dataset:
    """Data set with the training rows of a run's model.

    For a saved model without configuration, the data named on the command line.
    """
    return dataset if config is None or not options.data else _load_run_data(run, config)


def _load_run_data(run: Path, config: Config) -> datasets.Dataset:
    """Load a run's own data; warn if they have changed since the fit."""
    dataset = config.dataset()
    checksums = {metric["data_checksum"] for metric in read_metrics(run)[:1]}
    if dataset.checksum and checksums and dataset.checksum not in checksums:
        log_once(f"{config.data} has changed since {run} was fitted to it", warn=True)
    return dataset


def split_rows(options: Namespace, dataset: datasets.Dataset) -> tuple[str, np.ndarray]:
    """Description and rows [n, n_features] of the split named on the command line.

    The description names the split if the data have several.
    """
    split, x = EvaluationSettings(split=options.split).rows(dataset)
    has_splits = dataset.x_test is not None or dataset.x_valid is not None
    return f"{split} rows" if has_splits else "rows", x


def print_metric(metric: Metric) -> None:
    """Print a metric with its standard error."""
    if metric["metric"] == SAMPLE_QUALITY:
        _print_sample_quality(metric)
        return
    size = metric.get("median_effective_sample_size")
    sampling = "" if size is None else f", median effective sample size {size:.1f}"
    digits = 3 if abs(metric["value"]) >= 0.1 else 5
    print(
        f"{metric['split']} {metric['metric']}: "
        f"{metric['value']:.{digits}f} +- {metric['standard_error']:.{digits}f} "
        f"({metric['n_rows']} rows{sampling}, {metric['seconds']:.0f} s)"
    )
    if "n_unreliable" in metric:
        print(
            f"  of {metric['n_rows']} rows, {metric['n_unreliable']} have unreliable estimates "
            "(heavy-tailed weights or a small effective sample size): use --annealed, or more "
            "importance samples"
        )


def _print_sample_quality(metric: Metric) -> None:
    """Print the metrics of sample quality."""
    print(
        f"{metric['split']} {metric['metric']}: {metric['mmd2']:.3g} +- "
        f"{metric['standard_error']:.2g} (halves of real rows {metric['real_mmd2']:.3g}; "
        f"p = {metric['p_value']:.2g}; {metric['n_rows']} rows, {metric['seconds']:.0f} s)\n"
        f"  C2ST accuracy {metric['c2st_accuracy']:.1%} +- {metric['c2st_accuracy_error']:.1%}, "
        f"precision {metric['precision']:.1%}, recall {metric['recall']:.1%}\n"
        f"  nearest training row {metric['nearest']:.3g} from samples, "
        f"{metric['real_nearest']:.3g} from real rows"
    )


def require_classifier(path: Path, estimator: Any) -> Any:
    """Estimator itself, if it is a classifier.

    Raises
    ------
    ValueError
        If it is not a classifier.
    """
    if not isinstance(estimator, ClassifierBase):
        name = type(estimator).__name__
        raise ValueError(f"{path} contains a {name}, which is not a classifier")
    return estimator


def require_likelihood(path: Path, estimator: Any) -> LatentEstimator:
    """Estimator itself, if it is a latent-variable model with a likelihood.

    Raises
    ------
    ValueError
        If it is not such a model.
    """
    if not isinstance(estimator, LatentEstimator):
        raise ValueError(
            f"{path} contains a {type(estimator).__name__}, which has no latent variables and no "
            "likelihood"
        )
    return estimator


def check_folder(path: Path) -> None:
    """Raise an error if the folder of an output file does not exist."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out={path}: the folder {path.parent} does not exist")


def check_suffix(path: Path) -> None:
    """Raise an error if the suffix of an output file of rows is not supported."""
    if path.suffix not in OUTPUT_SUFFIXES:
        raise ValueError(f"out={path}: expected a name ending in {' '.join(OUTPUT_SUFFIXES)}")
    check_folder(path)


def write_rows(
    path: Path,
    rows: np.ndarray,
    image_shape: tuple[int, ...] | None,
    names: Sequence[str] | None,
    n_columns: int | None = None,
) -> None:
    """Write rows in the format given by the suffix of the file.

    Parameters
    ----------
    path : Path
        Output file, with one of the suffixes ``OUTPUT_SUFFIXES``.
    rows : array [n, d]
        Rows to write.
    image_shape : tuple of int, optional
        Shape of the images, required for a .png file.
    names : sequence of str, optional
        Column names of a table; by default x0, x1, ...
    n_columns : int, optional
        Number of images per line of a .png file; by default about the square root of n.
    """
    file = io.BytesIO()
    match path.suffix:
        case ".npy":
            np.save(file, rows)
        case ".npz":
            np.savez_compressed(file, x=rows)
        case ".png":
            from ancestral.experiments.report.figures import image_grid_png, to_rgb

            check_image_output(path, image_shape)
            assert image_shape is not None
            limits = (min(0.0, float(np.nanmin(rows))), max(1.0, float(np.nanmax(rows))))
            n_columns = n_columns or math.ceil(len(rows) ** 0.5)
            file.write(image_grid_png(to_rgb(rows, image_shape, limits), n_columns))
        case _:
            import polars as pl

            columns = names if names is not None else [f"x{j}" for j in range(rows.shape[1])]
            write_table(path, pl.DataFrame(rows, schema=[str(c) for c in columns]))
            return
    files.write_file(path, file.getvalue())


def check_image_output(path: Path, image_shape: tuple[int, ...] | None) -> None:
    """Raise an error if a .png file is requested for rows that are not images."""
    if path.suffix == ".png" and image_shape is None:
        raise ValueError(f"out={path}: the rows are not images: choose another suffix than .png")


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as .csv or .parquet."""
    file = io.BytesIO()
    (table.write_csv if path.suffix == ".csv" else table.write_parquet)(file)
    files.write_file(path, file.getvalue())
