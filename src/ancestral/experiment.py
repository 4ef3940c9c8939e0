"""Run folders: what was asked, what came out, and everything needed to ask again.

A run folder holds ``config.toml`` (feed it back to ``ancestral fit --config``), ``versions.json``,
``history.csv`` (the learning curves), ``metrics.json``, ``likelihoods/`` (row by row, one file for
each evaluation), ``repairs/`` (what was filled in for rows of tables), ``model/`` and
``report.html``.
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
from ancestral.evaluate import LogLikelihood
from ancestral.fields import as_tuples, check, hints, suggest
from ancestral.labels import (
    UNLABELLED,
    LabelLearner,
    TargetLearner,
    class_name,
    class_names,
    has_label,
)
from ancestral.likeness import FEWEST
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.protocol import Metric, Scoring
from ancestral.rows import RowEstimator
from ancestral.tables import has_missing

QUICK_SAMPLES, QUICK_ROWS = 100, 500
"""Importance samples and rows of the first look at the likelihood that every run takes."""

WAYS = ("start", "autoencoder", "codes", "teacher", "verbose", "checkpoint", "log")
"""Options that say where other files are, or how a run shows itself: they change no model."""

CONFIG, VERSIONS, REPORT = "config.toml", "versions.json", "report.html"


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

    def estimator(self) -> RowEstimator:
        """Make the estimator, its options checked."""
        cls = methods.find(self.method).load()
        known = hints(cls)
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(f"{cls.__name__} has no option {name!r}{suggest(name, known)}")
            check(name, value, known[name])
        return cls(**self.options)

    def plain(self) -> Config:
        """Return it without places of other files, and without how a run shows itself."""
        return replace(self, options={k: v for k, v in self.options.items() if k not in WAYS})

    def trains_as(self, other: Config) -> bool:
        """Whether both make the same model."""
        return bool(as_tuples(vars(self.plain())) == as_tuples(vars(other.plain())))

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
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path}: there is no such file")
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


def aligned(dataset: datasets.Dataset, estimator: RowEstimator) -> datasets.Dataset:
    """Bring the columns of a table into the order in which the model knows them.

    Raises
    ------
    ValueError
        If the names of the columns differ.
    """
    known, given = estimator.column_names, dataset.feature_names
    if known is None or given is None or list(given) == known:
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


def comparable(dataset: datasets.Dataset, estimator: RowEstimator) -> datasets.Dataset:
    """Bring the columns of a table into the model's order, and its classes into the model's own.

    Classes are the same if they have the same name; a number is its own name.

    Raises
    ------
    ValueError
        If the names of the columns differ, or there are classes that the model does not know.
    """
    dataset = aligned(dataset, estimator)
    if not isinstance(estimator, LabelLearner):
        return dataset
    classes, names = np.asarray(estimator.classes_), dataset.class_names
    known = class_names(estimator)
    found: dict[str, Any] = {}
    for split, y in dataset.arrays().items():
        if not split.startswith("y_"):
            continue
        there = has_label(y)
        values, codes = np.unique(y[there], return_inverse=True)
        given = [class_name(v) if names is None else names[int(v)] for v in values]
        if unknown := [name for name in given if name not in known]:
            raise ValueError(
                f"{dataset.name}: unknown classes {', '.join(unknown)}; the model was fitted on "
                f"{', '.join(known)}"
            )
        own = classes[[known.index(name) for name in given]]
        found[split] = np.full(
            len(y), UNLABELLED, dtype=own.dtype if own.dtype.kind in "iuf" else object
        )
        found[split][there] = own[codes]
    return replace(dataset, class_names=None, **found)


def run(
    config: Config,
    out: Path,
    *,
    overwrite: bool = False,
    report: bool = True,
    split: Literal["valid"] | None = None,
) -> Path:
    """Fit, take a quick look at the test rows (held-out ones, if asked for), leave a run folder.

    A run that was stopped goes on: in its training, or after it, where the look or the page is
    missing.

    Raises
    ------
    FileExistsError
        If ``out`` is there and ``overwrite`` false; checked before anything is computed.
    ValueError
        If the model could not be fitted to the data, or not be scored on them.
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
        return out  # the first of several processes does the rest
    metrics, quick = look(estimator, dataset, config, split)
    if not (out / kept.METRICS).is_file():
        kept.add_metrics(out, [m | {"fit_seconds": estimator.fit_seconds_} for m in metrics])
    if report:
        write_report(out, estimator, dataset, quick, config)
    return out


def _stopped_after_training(out: Path, config: Config, report: bool) -> bool:
    """Whether the model of a run is there, and what should follow is not."""
    wanted = [kept.METRICS, *([REPORT] if report else [])]
    done = all((out / name).is_file() for name in wanted)
    if done or not (out / CONFIG).is_file() or not (out / storage.MODEL).is_dir():
        return False
    return read_config(out / CONFIG).trains_as(config)


def _check_suitable(estimator: RowEstimator, dataset: datasets.Dataset, rows: Scoring) -> None:
    """Refuse data that would be found unfit only after training."""
    name = type(estimator).__name__
    if dataset.y_train is None and isinstance(estimator, LabelLearner | TargetLearner):
        what = "classes" if isinstance(estimator, LabelLearner) else "targets"
        raise ValueError(
            f"{name} learns {what}, and {dataset.name} has none: name their column by target='...'"
        )
    if isinstance(estimator, TargetLearner) and dataset.class_names is not None:
        raise ValueError(
            f"{name} learns numbers, and {dataset.name} has classes "
            f"({', '.join(dataset.class_names[:3])}, ...): fit "
            f"{methods.find(estimator._for_classes).name}, which learns classes"
        )
    if isinstance(estimator, ImplicitEstimator):
        split, X = rows.rows(dataset)
        if has_missing(X):
            raise ValueError(
                f"{name} is scored by its samples beside whole rows, and some {split} rows of "
                f"{dataset.name} have missing entries: fill the gaps, or leave such rows out"
            )
        if len(X) < FEWEST:
            raise ValueError(
                f"{name} is scored by its samples beside real rows, {FEWEST} or more, and "
                f"{dataset.name} has {len(X)} {split} rows: set a larger test_fraction=..., or "
                "none to score on training rows"
            )


def _train(
    estimator: RowEstimator, dataset: datasets.Dataset, config: Config, out: Path, overwrite: bool
) -> None:
    """Fit, and save the model before anything else is tried."""
    if dataset.image_shape is not None and estimator.image_shape is None:
        estimator.image_shape = dataset.image_shape
    if dataset.feature_names is not None:
        estimator.column_names_ = list(dataset.feature_names)
    asked = estimator.checkpoint
    estimator.checkpoint = asked or str(checkpoint_of(out))
    began = perf_counter()
    estimator.fit(dataset.x_train, dataset.y_train)
    estimator.fit_seconds_ = perf_counter() - began
    estimator.checkpoint = asked
    if not parallel.is_main():
        return
    device = next(estimator.model_.parameters()).device
    if dataset.class_names is not None and isinstance(estimator, LabelLearner):
        estimator.class_names_ = [dataset.class_names[c] for c in estimator.classes_]

    def fill(folder: Path) -> None:
        storage.write_file(folder / CONFIG, config.to_toml())
        made = {"commit": provenance.commit(), "device": provenance.device_name(device)}
        versions = storage.versions() | made
        storage.write_file(folder / VERSIONS, json.dumps(versions, indent=1))
        storage.write_file(folder / "history.csv", storage.to_csv(estimator.history_))
        estimator.save(folder / storage.MODEL)

    storage.write_folder(out, fill, overwrite=overwrite)


def _rows_to_look_at(
    config: Config, split: Literal["valid"] | None, n_importance_samples: int = QUICK_SAMPLES
) -> Scoring:
    """Return the test rows, or held-out ones, if some are, as a run's page shows them."""
    return Scoring(n_importance_samples, "valid" if "n_valid" in config.data_options else split)


def look(
    estimator: RowEstimator,
    dataset: datasets.Dataset,
    config: Config,
    split: Literal["valid"] | None = None,
    n_importance_samples: int = QUICK_SAMPLES,
) -> tuple[list[Metric], LogLikelihood | None]:
    """Take the quick look at test rows (held-out ones, if some are) that a run's page shows."""
    rows = _rows_to_look_at(config, split, n_importance_samples)
    return scoring.look(estimator, dataset, rows, n_likelihoods=QUICK_ROWS)


def checkpoint_of(out: Path) -> Path:
    """Where a run keeps the state of its training until its folder is there."""
    return out.with_name(f".{out.name}.checkpoint")


def write_report(
    folder: Path,
    estimator: RowEstimator,
    dataset: datasets.Dataset,
    evaluation: LogLikelihood | None,
    config: Config,
) -> Path:
    """Write the report page of a run."""
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


def open_run(path: Path | str) -> tuple[RowEstimator, Config | None]:
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


def _as_argument(value: Any) -> str:
    return json.dumps(value).replace(" ", "") if isinstance(value, tuple | list) else str(value)
