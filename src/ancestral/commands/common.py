"""What commands share: which data, which model, and how rows are written."""

from __future__ import annotations

import io
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ancestral import datasets, experiment, storage
from ancestral.density import LatentEstimator
from ancestral.engine.notices import notice
from ancestral.experiment import Config
from ancestral.fields import Sizes, parse
from ancestral.labels import ClassLearner
from ancestral.rows import RowEstimator
from ancestral.scoring import LIKENESS, Metric, read_metrics

if TYPE_CHECKING:
    import polars as pl

WRITERS = (".npy", ".npz", ".csv", ".parquet", ".png")


def data_options(options: Namespace) -> dict[str, Any]:
    """Return how data are to be read, as far as the command says."""
    size = parse("size", options.size, Sizes) if options.size else None
    given = {
        "target": options.target,
        "drop": options.drop.split(",") if options.drop else None,
        "separator": options.separator,
        "header": False if options.no_header else None,
        "test_fraction": getattr(options, "test_fraction", None),
        "n_valid": getattr(options, "n_valid", None),
        "n_train": getattr(options, "n_train", None),
        "grayscale": options.grayscale or None,
        "contrast": options.contrast or None,
        "halves": options.halves or None,
        "size": size,
    }
    return {k: v for k, v in given.items() if v is not None}


def load_like(config: Config | None, options: Namespace) -> datasets.Dataset:
    """Load other data as the run's own were read; its target column may be absent from them."""
    given, own = data_options(options), _how_to_read(config)
    try:
        return datasets.load(options.data, **(own | given))
    except datasets.DataError:
        if "target" in given or own.pop("target", None) is None:
            raise
    return datasets.load(options.data, **(own | given))


def table_like(config: Config | None, options: Namespace) -> pl.DataFrame | None:
    """Read a table with all its columns, as :func:`load_like` does; None of other data."""
    how = _how_to_read(config) | data_options(options)
    return datasets.read_table(options.data, how.get("separator", ","), how.get("header", True))


def _how_to_read(config: Config | None) -> dict[str, Any]:
    """Return how the run's own data were read, for other data of the kind."""
    known = {} if config is None else config.data_options
    aside = ("test_fraction", "n_valid", "n_train", "split")
    return {k: v for k, v in known.items() if k not in aside}


def dataset_of(
    options: Namespace, config: Config | None, estimator: RowEstimator
) -> datasets.Dataset:
    """Load the data that a command names, as the model knows columns and classes, or its own."""
    if options.data:
        return experiment.comparable(load_like(config, options), estimator)
    if config is None:
        raise ValueError(f"{options.run} does not say what data it is about: name them")
    dataset = config.dataset()
    learnt = {metric["data_checksum"] for metric in read_metrics(options.run)[:1]}
    if dataset.checksum and learnt and dataset.checksum not in learnt:
        notice(f"{config.data} is not what it was when {options.run} was fitted to it", warn=True)
    return dataset


def print_metric(metric: Metric) -> None:
    """Print what was measured, with its standard error."""
    if metric["metric"] == LIKENESS:
        _print_likeness(metric)
        return
    size = metric.get("median_effective_sample_size")
    sampling = "" if size is None else f", median effective sample size {size:.1f}"
    digits = 3 if abs(metric["value"]) >= 0.1 else 5
    print(
        f"{metric['split']} {metric['metric']}: "
        f"{metric['value']:.{digits}f} +- {metric['standard_error']:.{digits}f} "
        f"({metric['n_rows']} rows{sampling}, {metric['seconds']:.0f} s)"
    )


def _print_likeness(metric: Metric) -> None:
    print(
        f"{metric['split']} {metric['metric']}: {metric['mmd2']:.3g} +- "
        f"{metric['standard_error']:.2g} (halves of real rows {metric['real_mmd2']:.3g}; "
        f"p = {metric['p_value']:.2g}; {metric['n_rows']} rows, {metric['seconds']:.0f} s)\n"
        f"  told apart {metric['told_apart']:.1%} +- {metric['told_apart_error']:.1%}, precision "
        f"{metric['precision']:.1%}, recall {metric['recall']:.1%}\n"
        f"  nearest training row {metric['nearest']:.3g} from samples, "
        f"{metric['real_nearest']:.3g} from real rows"
    )


def classifier(path: Path, estimator: Any) -> Any:
    """Return the estimator, if it tells classes apart."""
    if not isinstance(estimator, ClassLearner):
        raise ValueError(f"{path} holds a {type(estimator).__name__}, which has no classes")
    return estimator


def explicit(path: Path, estimator: Any) -> LatentEstimator:
    """Return the estimator, if it models how likely rows are."""
    if not isinstance(estimator, LatentEstimator):
        raise ValueError(
            f"{path} holds a {type(estimator).__name__}, which has no latent variables and no "
            "likelihood"
        )
    return estimator


def check_folder(path: Path) -> None:
    """Refuse to compute what could not be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out={path}: the folder {path.parent} is not there")


def check_suffix(path: Path) -> None:
    """Refuse names of files that rows can't be written to."""
    if path.suffix not in WRITERS:
        raise ValueError(f"out={path}: expected a name ending in {' '.join(WRITERS)}")
    check_folder(path)


def write_rows(
    path: Path,
    rows: np.ndarray,
    image_shape: tuple[int, ...] | None,
    names: Sequence[str] | None,
    n_columns: int | None = None,
) -> None:
    """Write rows in the format that the file's name asks for; pictures in so many columns."""
    file = io.BytesIO()
    match path.suffix:
        case ".npy":
            np.save(file, rows)
        case ".npz":
            np.savez_compressed(file, x=rows)
        case ".png":
            from ancestral.report.drawing import sheet_png, tiles

            if image_shape is None:
                raise ValueError(f"out={path}: the model is not one of images; try .csv")
            limits = (min(0.0, float(np.nanmin(rows))), max(1.0, float(np.nanmax(rows))))
            n_columns = n_columns or math.ceil(len(rows) ** 0.5)
            file.write(sheet_png(tiles(rows, image_shape, limits), n_columns))
        case _:
            import polars as pl

            columns = names if names is not None else [f"x{j}" for j in range(rows.shape[1])]
            write_table(path, pl.DataFrame(rows, schema=[str(c) for c in columns]))
            return
    storage.write_file(path, file.getvalue())


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as .csv or .parquet."""
    file = io.BytesIO()
    (table.write_csv if path.suffix == ".csv" else table.write_parquet)(file)
    storage.write_file(path, file.getvalue())
