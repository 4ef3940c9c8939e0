"""What the commands do, one function each, called with the parsed options."""

from __future__ import annotations

import io
import json
import math
import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ancestral import (
    datasets,
    experiment,
    methods,
    provenance,
    recipes,
    records,
    scoring,
    storage,
)
from ancestral.ais import Annealing, Sandwich
from ancestral.damage import Damage, Repair
from ancestral.damage import repair as repair_rows
from ancestral.engine import denormals_flushed, show_notices
from ancestral.evaluate import Difference
from ancestral.evaluate import compare as compare_rows
from ancestral.experiment import Config
from ancestral.fields import Count, Natural, Sizes, check, hints, parse, suggest
from ancestral.labels import ClassLearner
from ancestral.parallel import is_main
from ancestral.recipes import Recipe
from ancestral.records import standing_table
from ancestral.reproduce import BEFORE, Job, in_order, on_cluster, one_by_one, side_by_side
from ancestral.scoring import Metric, Scoring
from ancestral.train import NonFiniteError
from ancestral.zoo import ship

STRIP = 14
"""Images in a row of a strip."""
WRITERS = (".npy", ".npz", ".csv", ".parquet", ".png")


def fit(options: Namespace) -> None:
    """``ancestral fit METHOD DATA``."""
    config = _config(options)
    name = f"{config.method}-{Path(config.data).stem}"
    out = options.out or Path("runs") / name
    if (state := experiment.checkpoint_of(out)).exists():
        print(f"going on from {state}")
    config = replace(config, options={"verbose": 1, "random_state": 0} | config.options)
    folder = experiment.run(config, out, overwrite=options.overwrite, report=not options.no_report)
    if not is_main():
        return
    _print_likelihood(experiment.open_run(folder)[0].likelihood_)
    _print_metric(scoring.read_metrics(folder)[-1])
    print(f"run folder: {out}")
    if not options.no_report:
        print(f"report:     {out / 'report.html'}")
    print(f"to quote:   ancestral evaluate {shlex.quote(str(out))}")


def evaluate(options: Namespace) -> None:
    """``ancestral evaluate RUN``."""
    estimator, config = experiment.open_run(options.run)
    if options.two_sided is not None:
        _print_sandwich(estimator.sandwich(options.two_sided, _annealing(options), progress=True))
        return
    dataset = experiment.aligned(_dataset(options, config), estimator)
    if options.out is not None:
        _check_folder(options.out)
    if isinstance(estimator, ClassLearner):
        _print_errors(options, estimator, dataset)
    metrics = []
    for how in _scorings(options):
        metric, result = scoring.scored(
            options.run, estimator, dataset, how, again=True, progress=True
        )
        _print_metric(metric)
        metrics.append(metric["value"])
    if len(metrics) > 1:
        spread = np.std(metrics, ddof=1)
        print(
            f"mean over {len(metrics)} binarisations: {np.mean(metrics):.3f}, spread {spread:.3f}"
        )
    if (options.run / storage.RECORD).is_file():
        print(records.summary(options.run / storage.RECORD))
    if options.out is not None:
        storage.write_file(options.out, scoring.rows_csv(result))


def _print_errors(options: Namespace, estimator: Any, dataset: datasets.Dataset) -> None:
    rows = Scoring(split=options.split, n_rows=options.rows)
    metric, found = scoring.classify(estimator, dataset, rows)
    print(f"{metric['split']} error: {found} ({metric['n_rows']} rows)")
    if (options.run / storage.MODEL).is_dir():
        scoring.add_metric(options.run, metric)


def compare(options: Namespace) -> None:
    """``ancestral compare FIRST SECOND``."""
    if options.out is not None:
        _check_folder(options.out)
    found = []
    for path in (options.run, options.second):
        estimator, config = experiment.open_run(path)
        dataset = experiment.aligned(_dataset(options, config), estimator)
        for how in _scorings(options):
            found.append(scoring.scored(path, estimator, dataset, how, progress=True))
    for metric, _ in found:
        _print_metric(metric)
    half, differences = len(found) // 2, []
    for (metric, first), (other, second) in zip(found[:half], found[half:], strict=True):
        for key in ("data_checksum", "split", "binarize_seed"):
            if metric[key] != other[key]:
                raise ValueError(
                    f"{options.run} and {options.second} are not about the same rows: "
                    f"{key} {metric[key]} and {other[key]}; name the data"
                )
        difference = compare_rows(first, second)
        print(f"{options.run} less {options.second}: {difference}")
        differences.append(_difference(metric, difference))
    if options.out is not None:
        about = {"first": str(options.run), "second": str(options.second)}
        when = {"date": provenance.today(), "commit": provenance.commit()}
        text = json.dumps(about | {"differences": differences} | when, indent=1)
        storage.write_file(options.out, text + "\n")


def _difference(metric: Metric, difference: Difference) -> dict[str, Any]:
    """Say what was compared on what, and how it came out."""
    same = ("metric", "split", "n_rows", "binarize_seed", "data", "data_checksum")
    return {k: metric[k] for k in same} | {
        "difference": difference.mean,
        "standard_error": difference.standard_error,
        "share_better": difference.share,
    }


def units(options: Namespace) -> None:
    """``ancestral units RUN``."""
    estimator, config = experiment.open_run(options.run)
    dataset = experiment.aligned(_dataset(options, config), estimator)
    check("rows", options.rows, Count)
    active = estimator.active_units(dataset.x_train[: options.rows])
    sizes = estimator._latent_sizes()
    print(f"active units: {' + '.join(map(str, active))} of {' + '.join(map(str, sizes))}")


def sample(options: Namespace) -> None:
    """``ancestral sample RUN``."""
    _check_suffix(options.out)
    estimator, _ = experiment.open_run(options.run)
    rows = estimator.sample(options.n, mean=options.mean, random_state=options.random_state)
    _write_rows(options.out, rows, estimator.image_shape, _column_names(estimator))


def repair(options: Namespace) -> None:
    """``ancestral repair RUN``."""
    ways = [Damage.parse(way) for way in options.damage.split(",")]
    if options.out is not None and options.out.suffix != ".png":
        raise ValueError(f"out={options.out}: expected a name ending in .png")
    estimator, config = experiment.open_run(options.run)
    dataset = experiment.aligned(_dataset(options, config), estimator)
    how = Repair(options.n_iter, options.n_chains, options.batch_statistics, options.seed)
    rows = Scoring(split=options.split, n_rows=options.rows)
    strips = []
    for way in ways:
        found = repair_rows(estimator, dataset, way, how, rows)
        about = found.metric
        print(f"{about['split']} mean {about['metric']}: {found.errors} ({about['n_rows']} rows)")
        if (options.run / storage.MODEL).is_dir():
            scoring.add_metric(options.run, about)
        strips += [part[:STRIP] for part in (found.truth, found.damaged, found.filled)]
    if options.out is not None:
        shape = dataset.image_shape or estimator.image_shape
        _write_rows(options.out, np.concatenate(strips), shape, None, n_columns=STRIP)


def predict(options: Namespace) -> None:
    """``ancestral predict RUN DATA``."""
    if options.out.suffix not in (".csv", ".npy"):
        raise ValueError(f"out={options.out}: expected a name ending in .csv or .npy")
    _check_folder(options.out)
    estimator, config = experiment.open_run(options.run)
    if not isinstance(estimator, ClassLearner):
        raise ValueError(f"{options.run} holds a {type(estimator).__name__}, which has no classes")
    dataset = experiment.aligned(_load_like(config, options), estimator)
    if options.out.suffix == ".npy":
        _write_rows(options.out, estimator.predict(dataset.x_train), None, None)
    else:
        shares = estimator.predict_proba(dataset.x_train)
        names = getattr(estimator, "class_names_", estimator.classes_.tolist())
        heads = [f"p({name})" for name in names]
        rows = [
            {"class": names[row.argmax()]} | dict(zip(heads, row.round(6).tolist(), strict=True))
            for row in shares
        ]
        storage.write_file(options.out, storage.to_csv(rows))
    print(f"classes of {len(dataset.x_train)} rows: {options.out}")


def impute(options: Namespace) -> None:
    """``ancestral impute RUN DATA``."""
    _check_suffix(options.out)
    estimator, config = experiment.open_run(options.run)
    dataset = experiment.aligned(_load_like(config, options), estimator)
    rows = estimator.impute(dataset.x_train, n_iter=options.n_iter, fill=options.fill)
    _write_rows(options.out, rows, estimator.image_shape, dataset.feature_names)
    n_missing = int(np.isnan(dataset.x_train).sum()) if dataset.x_train.dtype.kind == "f" else 0
    print(f"filled in {n_missing} missing entries of {len(rows)} rows: {options.out}")


def report(options: Namespace) -> None:
    """``ancestral report RUN``."""
    estimator, config = experiment.open_run(options.run)
    if config is None:
        raise ValueError(f"{options.run} has no {experiment.CONFIG}: the page needs the run's data")
    dataset = config.dataset()
    _, result = scoring.evaluate(estimator, dataset, Scoring(options.n_importance_samples))
    print(experiment.write_report(options.run, estimator, dataset, result, config))


def reproduce(options: Namespace) -> None:
    """``ancestral reproduce TARGET``."""
    targets = list(recipes.tables()) if options.target is None else [options.target]
    rows = [recipe for target in targets for recipe in recipes.find(target)]
    if options.list:
        print(standing_table(rows))
        return
    if options.target is None:
        raise ValueError(f"reproduce needs a TARGET: a table ({', '.join(targets)}) or TABLE/ROW")
    for name in ("seeds", "jobs"):
        check(name, getattr(options, name), Count)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    jobs = [
        Job(row, options.size, seed, options.select, _changes(row, options))
        for row in rows
        for seed in seeds
    ]
    places = (options.runs, options.results)
    if options.cluster is not None:
        how = {"slurm_partition": options.partition} if options.partition else {}
        submit = on_cluster(*places, options.cluster, **how)
    else:
        submit = side_by_side(*places, options.jobs) if options.jobs > 1 else one_by_one(*places)
    for jobs_of_a_round in in_order(jobs):
        for job, path in zip(jobs_of_a_round, submit(jobs_of_a_round), strict=True):
            print(f"record: {path}")
            if options.ship is not None and job.seed == seeds[0]:
                out = options.ship / job.recipe.row.replace("/", "-")
                change = ship(job.folder(options.runs), path, out, overwrite=True)
                print(f"shipped: {out}; rounding changed {change}")
    print(standing_table(rows, records.read([options.results]), jobs[0].split))


def _changes(row: Recipe, options: Namespace) -> tuple[tuple[str, Any], ...]:
    """Read the ``--set name=value`` of a command, for the options of a row's method."""
    row.size(options.size)
    if options.set and not options.select:
        raise ValueError("--set is for choosing settings: give --select too")
    return tuple(_change(row, options.size, change) for change in options.set)


def _change(row: Recipe, size: str, change: str) -> tuple[str, Any]:
    """Read one ``name=value``; ``start.name=value`` is for the row that this one starts from."""
    if change.startswith(BEFORE):
        start = row.size(size).start
        if start is None:
            raise ValueError(f"--set {change}: {row.row} starts from no other row")
        name, value = _change(recipes.find(start)[0], size, change.removeprefix(BEFORE))
        return BEFORE + name, value
    name, _, text = change.partition("=")
    known = hints(methods.find(row.method).load())
    if name not in known:
        raise ValueError(f"--set {change}: no option {name!r}{suggest(name, known)}")
    return name, parse(name, text, known[name])


def demo(options: Namespace) -> None:
    """``ancestral demo``."""
    from ancestral.demo import run

    print(f"\nopen this page: {run(options.out)}")


COMMANDS = {
    "fit": fit,
    "evaluate": evaluate,
    "compare": compare,
    "units": units,
    "sample": sample,
    "predict": predict,
    "repair": repair,
    "impute": impute,
    "report": report,
    "reproduce": reproduce,
    "demo": demo,
}

__all__ = ["COMMANDS", "FOR_THE_USER", "denormals_flushed", "show_notices"]

FOR_THE_USER = (ValueError, OSError, NonFiniteError)
"""Errors whose messages are written for the user: no traceback is shown."""


def _config(options: Namespace) -> Config:
    config = experiment.read_config(options.config) if options.config else Config("", "")
    method, data = options.method or config.method, options.data or config.data
    if not method or not data:
        raise ValueError("fit needs a METHOD and DATA: `ancestral fit vae digits`, or --config")
    known = hints(methods.find(method).load())
    given = {
        name: parse(name, text, known[name])
        for key, text in vars(options).items()
        if key.startswith("field.") and text is not None
        for name in [key.removeprefix("field.")]
    }
    return Config(
        method, data, config.options | given, config.data_options | _data_options(options)
    )


def _data_options(options: Namespace) -> dict[str, Any]:
    size = parse("size", options.size, Sizes) if options.size else None
    given = {
        "target": options.target,
        "separator": options.separator,
        "header": False if options.no_header else None,
        "test_fraction": getattr(options, "test_fraction", None),
        "n_valid": getattr(options, "n_valid", None),
        "n_train": getattr(options, "n_train", None),
        "grayscale": options.grayscale or None,
        "size": size,
    }
    return {k: v for k, v in given.items() if v is not None}


def _load_like(config: Config | None, options: Namespace) -> datasets.Dataset:
    """Load other data as the run's own were read; its target column may be absent from them."""
    given, own = _data_options(options), _how_to_read(config)
    try:
        return datasets.load(options.data, **(own | given))
    except datasets.DataError:
        if "target" in given or own.pop("target", None) is None:
            raise
    return datasets.load(options.data, **(own | given))


def _how_to_read(config: Config | None) -> dict[str, Any]:
    """Return how the run's own data were read, for other data of the kind."""
    known = {} if config is None else config.data_options
    aside = ("test_fraction", "n_valid", "n_train", "split")
    return {k: v for k, v in known.items() if k not in aside}


def _dataset(options: Namespace, config: Config | None) -> datasets.Dataset:
    if options.data:
        return _load_like(config, options)
    if config is None:
        raise ValueError(f"{options.run} does not say what data it is about: name them")
    return config.dataset()


def _print_likelihood(kinds: Sequence[str]) -> None:
    counts = {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds)}
    parts = [f"{kind} ({n} column{'s' * (n > 1)})" for kind, n in counts.items()]
    print(f"likelihood: {', '.join(parts)}")


def _print_metric(metric: dict[str, Any]) -> None:
    size = metric["median_effective_sample_size"]
    print(
        f"{metric['split']} {metric['metric']}: "
        f"{metric['value']:.3f} +- {metric['standard_error']:.3f} "
        f"({metric['n_rows']} rows, median effective sample size {size:.1f}, "
        f"{metric['seconds']:.0f} s)"
    )


def _column_names(estimator: Any) -> tuple[str, ...] | None:
    names = getattr(estimator, "column_names_", getattr(estimator, "feature_names_in_", None))
    return None if names is None else tuple(names)


def _scorings(options: Namespace) -> list[Scoring]:
    """One for each binarisation asked for."""
    common = Scoring(
        n_importance_samples=options.n_importance_samples,
        split=options.split,
        n_rows=options.rows,
        precision=options.precision,
        annealing=_annealing(options) if options.annealed else None,
    )
    seeds = parse("binarize_seed", f"{options.binarize_seed},", tuple[Natural, ...])
    return [replace(common, binarize_seed=seed) for seed in seeds]


def _annealing(options: Namespace) -> Annealing:
    return Annealing(n_steps=options.n_steps, n_chains=options.n_chains, start=options.start)


def _print_sandwich(found: Sandwich) -> None:
    print(f"{len(found.lower.values)} rows drawn from the model, log-likelihood")
    print(f"  from below: {found.lower}")
    print(f"  from above: {found.upper}")
    print(f"  gap: {found.gap:.3f} nats")


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out={path}: the folder {path.parent} is not there")


def _check_suffix(path: Path) -> None:
    if path.suffix not in WRITERS:
        raise ValueError(f"out={path}: expected a name ending in {' '.join(WRITERS)}")
    _check_folder(path)


def _write_rows(
    path: Path,
    rows: np.ndarray,
    image_shape: tuple[int, ...] | None,
    names: tuple[str, ...] | None,
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
            frame = pl.DataFrame(rows, schema=[str(c) for c in columns])
            (frame.write_csv if path.suffix == ".csv" else frame.write_parquet)(file)
    storage.write_file(path, file.getvalue())
