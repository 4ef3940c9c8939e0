"""What commands share: which data, which model, and how rows are written."""

from __future__ import annotations

import csv
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
from ancestral.kept import read_metrics
from ancestral.labels import ClassLearner
from ancestral.protocol import Metric, Scoring
from ancestral.rows import RowEstimator
from ancestral.scoring import LIKENESS

if TYPE_CHECKING:
    import polars as pl

WRITERS = (".npy", ".npz", ".csv", ".parquet", ".png")


def data_options(options: Namespace) -> dict[str, Any]:
    """Return how data are to be read, as far as the command says."""
    size = parse("size", options.size, Sizes) if options.size else None
    given = {
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
    return {k: v for k, v in given.items() if v is not None}


def load_like(
    config: Config | None, options: Namespace, *, labelled: bool = True
) -> datasets.Dataset:
    """Load other data as the run's own were read.

    The columns that were no part of its rows, the target and what was left out, may be absent.
    For what needs no labels (``labelled=False``) a target that is there is left out too.
    """
    given, own, table = data_options(options), _how_to_read(config), table_like(config, options)
    there = () if table is None else table.columns
    target, drop = own.pop("target", None), own.pop("drop", ())
    kept = [name for name in ([drop] if isinstance(drop, str) else drop) if name in there]
    own |= {"target": target} if target in there and target not in given.get("drop", ()) else {}
    own |= {"drop": kept} if kept else {}
    how = own | given
    if not labelled and how.get("target") in there:
        how["drop"] = [*how.get("drop", ()), how.pop("target")]
    return datasets.load(options.data, **how)


def table_like(config: Config | None, options: Namespace) -> pl.DataFrame | None:
    """Read a table with all its columns, as :func:`load_like` does; None of other data."""
    how = _how_to_read(config) | data_options(options)
    return datasets.read_table(options.data, how.get("separator", ","), how.get("header", True))


def _how_to_read(config: Config | None) -> dict[str, Any]:
    """Return how the run's own data were read, for other data of the kind."""
    known = {} if config is None else config.data_options
    aside = ("test_fraction", "n_valid", "n_train", "n_labels", "label_seed", "split")
    return {k: v for k, v in known.items() if k not in aside}


def dataset_of(
    run: Path, options: Namespace, config: Config | None, estimator: RowEstimator
) -> datasets.Dataset:
    """Load the data that a command names, as a run's model knows columns and classes, or its own.

    Parameters
    ----------
    run : Path
        The folder of the run, of which a command may have several.
    options : Namespace
        Of the command.
    config, estimator
        What the folder holds.

    Raises
    ------
    ValueError
        If no data are named and the folder does not say which are its own.
    """
    if options.data:
        return experiment.comparable(load_like(config, options), estimator)
    if config is None:
        raise ValueError(f"{run} does not say what data it is about: name them")
    return _own(run, config)


def training_data(
    run: Path, options: Namespace, config: Config | None, dataset: datasets.Dataset
) -> datasets.Dataset:
    """Return the data whose training rows a run's model has learnt, of whatever data are named.

    A saved model alone does not say which they were: those of the named data stand for them.
    """
    return dataset if config is None or not options.data else _own(run, config)


def _own(run: Path, config: Config) -> datasets.Dataset:
    """Load a run's own data, and say so where they have changed."""
    dataset = config.dataset()
    learnt = {metric["data_checksum"] for metric in read_metrics(run)[:1]}
    if dataset.checksum and learnt and dataset.checksum not in learnt:
        notice(f"{config.data} is not what it was when {run} was fitted to it", warn=True)
    return dataset


def split_rows(options: Namespace, dataset: datasets.Dataset) -> tuple[str, np.ndarray]:
    """Return the rows of the split that a command names, and what they are called.

    The name says which split, where there are several.
    """
    split, x = Scoring(split=options.split).rows(dataset)
    several = dataset.x_test is not None or dataset.x_valid is not None
    return f"{split} rows" if several else "rows", x


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
        name = type(estimator).__name__
        raise ValueError(f"{path} holds a {name}, which does not tell the class of rows")
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

            check_picture(path, image_shape)
            assert image_shape is not None
            limits = (min(0.0, float(np.nanmin(rows))), max(1.0, float(np.nanmax(rows))))
            n_columns = n_columns or math.ceil(len(rows) ** 0.5)
            file.write(sheet_png(tiles(rows, image_shape, limits), n_columns))
        case _:
            import polars as pl

            columns = names if names is not None else [f"x{j}" for j in range(rows.shape[1])]
            write_table(path, pl.DataFrame(rows, schema=[str(c) for c in columns]))
            return
    storage.write_file(path, file.getvalue())


def check_picture(path: Path, image_shape: tuple[int, ...] | None) -> None:
    """Refuse to make a picture of rows that are none: to be asked before they are computed."""
    if path.suffix == ".png" and image_shape is None:
        raise ValueError(f"out={path}: the rows are not images, so no picture can be made of them")


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as .csv or .parquet."""
    file = io.BytesIO()
    (table.write_csv if path.suffix == ".csv" else table.write_parquet)(file)
    storage.write_file(path, file.getvalue())
