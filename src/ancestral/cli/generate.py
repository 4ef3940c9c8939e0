"""Commands that write rows: sample, predict, impute."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ancestral.cli.common import (
    check_folder,
    check_image_output,
    check_suffix,
    load_with_run_options,
    read_table_with_run_options,
    require_classifier,
    require_likelihood,
    split_rows,
    write_rows,
    write_table,
)
from ancestral.datasets import fill_missing
from ancestral.estimators.base.implicit import ImplicitEstimator
from ancestral.estimators.base.supervised import ClassifierBase, RegressorBase, class_names
from ancestral.evaluation.class_fidelity import is_class_conditional
from ancestral.experiments import alignment
from ancestral.experiments.run_folder import open_run
from ancestral.utils.validation import Count, check_field

if TYPE_CHECKING:
    import polars as pl


def sample(options: Namespace) -> None:
    """Run ``ancestral sample RUN``."""
    check_field("n", options.n, Count)
    check_suffix(options.out)
    estimator, _ = open_run(options.run)
    check_image_output(options.out, estimator.image_shape)
    kwargs = {"random_state": options.random_state}
    if isinstance(estimator, ImplicitEstimator):
        if options.mean:
            raise ValueError(f"--mean requires a model with a likelihood: {options.run} has none")
        rows = estimator.sample(options.n, _label(options.run, estimator, options.label), **kwargs)
    elif not hasattr(estimator, "sample"):
        hint = (
            f": use `ancestral predict {options.run} DATA` for predictions"
            if isinstance(estimator, ClassifierBase | RegressorBase)
            else ""
        )
        raise ValueError(
            f"{options.run} contains a {type(estimator).__name__}, which does not generate "
            f"samples{hint}"
        )
    else:
        require_likelihood(options.run, estimator)
        label = _label(options.run, estimator, options.label)
        rows = estimator.sample(options.n, label, mean=options.mean, **kwargs)
    write_rows(options.out, rows, estimator.image_shape, estimator.column_names)


def _label(run: Path, estimator: Any, label: str | None) -> Any:
    """Class with the name given on the command line; None if no label is given."""
    if label is None:
        return None
    if not is_class_conditional(estimator):
        raise ValueError(
            f"label={label}: {run} contains a {type(estimator).__name__}, which is not "
            "class-conditional: omit the label"
        )
    names = class_names(estimator)
    if label not in names:
        raise ValueError(f"label={label}: the classes of {run} are {', '.join(names)}")
    return estimator.classes_[names.index(label)]


def predict(options: Namespace) -> None:
    """Run ``ancestral predict RUN DATA``."""
    if options.out.suffix not in (".csv", ".npy"):
        raise ValueError(f"out={options.out}: expected a name ending in .csv or .npy")
    check_folder(options.out)
    estimator, config = open_run(options.run)
    if not isinstance(estimator, RegressorBase):
        require_classifier(options.run, estimator)
    dataset = alignment.align_columns(
        load_with_run_options(config, options, labelled=False), estimator
    )
    description, x = split_rows(options, dataset)
    if options.out.suffix == ".npy":
        predicted = estimator.predict(x)
        if estimator.target_kind == "classes" and hasattr(estimator, "class_names_"):
            codes = np.searchsorted(estimator.classes_, predicted)
            predicted = np.array(estimator.class_names_)[codes]
        write_rows(options.out, predicted, None, None)
    elif isinstance(estimator, RegressorBase):
        write_table(options.out, _target_table(estimator, x))
    else:
        write_table(options.out, _probability_table(estimator, x))
    print(f"predictions for {len(x)} {description}: {options.out}")


def _probability_table(estimator: Any, x: np.ndarray) -> pl.DataFrame:
    """Predicted classes and the probabilities of all classes."""
    import polars as pl

    probabilities, names = estimator.predict_proba(x), class_names(estimator)
    predicted = pl.Series("class", [names[j] for j in probabilities.argmax(1)], pl.String)
    table = pl.DataFrame(probabilities.round(6), [f"p({name})" for name in names])
    return table.insert_column(0, predicted)


def _target_table(estimator: Any, x: np.ndarray) -> pl.DataFrame:
    """Predicted targets and their standard deviations."""
    import polars as pl

    mean, std = (v.reshape(len(x), -1) for v in estimator.predict(x, return_std=True))
    numbers = [""] if mean.shape[1] == 1 else range(mean.shape[1])
    columns = [f"target{n}" for n in numbers] + [f"standard_deviation{n}" for n in numbers]
    return pl.DataFrame(np.concatenate([mean, std], axis=1), columns)


def impute(options: Namespace) -> None:
    """Run ``ancestral impute RUN DATA``."""
    check_suffix(options.out)
    if options.out.resolve() == Path(options.data).resolve():
        raise ValueError(f"out={options.out}: this is the input file: choose another name")
    estimator, config = open_run(options.run)
    estimator = require_likelihood(options.run, estimator)
    check_image_output(options.out, estimator.image_shape)
    dataset = alignment.align_columns(
        load_with_run_options(config, options, labelled=False), estimator
    )
    description, x = split_rows(options, dataset)
    names = ("method", "n_iter", "n_chains", "init", "batch_statistics", "random_state")
    settings = {name: getattr(options, name) for name in names}
    rows = estimator.impute(x, return_mean=options.result == "mean", **settings)
    table = (
        read_table_with_run_options(config, options)
        if options.out.suffix in (".csv", ".parquet")
        else None
    )
    if table is None or dataset.feature_names is None:
        write_rows(options.out, rows, estimator.image_shape, dataset.feature_names)
    else:
        write_table(options.out, fill_missing(table, dataset.feature_names, rows))
    n_missing = int(np.isnan(x).sum()) if x.dtype.kind == "f" else 0
    print(f"imputed {n_missing} missing entries of {len(rows)} {description}: {options.out}")
