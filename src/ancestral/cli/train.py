"""Commands that fit and report: fit, report, demo."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ancestral import datasets
from ancestral.cli.common import data_options, print_metric
from ancestral.estimators import registry
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.experiments import metrics_file
from ancestral.experiments.config import Config, read_config
from ancestral.experiments.run_folder import (
    CONFIG,
    estimate_metrics,
    open_run,
    run_experiment,
    training_checkpoint_path,
    write_report,
)
from ancestral.utils.distributed import is_main
from ancestral.utils.validation import field_hints, parse_field


def fit(options: Namespace) -> None:
    """Run ``ancestral fit METHOD DATA``."""
    config = _read_config(options)
    module, _, method = config.method.rpartition(":")
    name = f"{method}-{Path(config.data).stem}"
    out = options.out or Path("runs") / name
    if (checkpoint := training_checkpoint_path(out)).exists():
        print(f"resuming from {checkpoint}")
    config = replace(config, options={"verbose": 1, "random_state": 0} | config.options)
    folder = run_experiment(config, out, overwrite=options.overwrite, report=not options.no_report)
    if not is_main():
        return
    estimator, _ = open_run(folder)
    if isinstance(estimator, LatentEstimator):
        _print_likelihood(estimator.likelihood_)
    for metric in metrics_file.read_metrics(folder):
        print_metric(metric)
    print(f"run folder: {out}")
    if not options.no_report:
        print(f"report:     {out / 'report.html'}")
    imported = f" --import {module}" if module else ""
    print(f"evaluate:   ancestral evaluate {shlex.quote(str(out))}{imported}")


def _read_config(options: Namespace) -> Config:
    """Configuration of the run: the --config file, overridden by command-line options."""
    config = read_config(options.config) if options.config else Config("", "")
    method, data = options.method or config.method, _absolute_path(options.data) or config.data
    if not method or not data:
        raise ValueError(
            "missing METHOD or DATA: expected both, for example `ancestral fit vae digits`, or "
            "--config"
        )
    fields = field_hints(registry.find(method).load())
    values = {
        name: parse_field(name, text, fields[name])
        for key, text in vars(options).items()
        if key.startswith("field.") and text is not None
        for name in [key.removeprefix("field.")]
    }
    for_data = config.data_options | data_options(options)
    return Config(method, data, config.options | values, for_data)


def _absolute_path(data: str | None) -> str | None:
    """Name of a data set unchanged; a path of a file or folder as an absolute path."""
    if data is None or data in datasets.names() or not Path(data).expanduser().exists():
        return data
    return str(Path(data).expanduser().resolve())


def _print_likelihood(kinds: Sequence[str]) -> None:
    """Print the number of columns of each likelihood."""
    counts = {kind: list(kinds).count(kind) for kind in dict.fromkeys(kinds)}
    parts = [f"{kind} ({n} column{'s' * (n > 1)})" for kind, n in counts.items()]
    print(f"likelihood: {', '.join(parts)}")


def report(options: Namespace) -> None:
    """Run ``ancestral report RUN``."""
    estimator, config = open_run(options.run)
    if config is None:
        raise ValueError(
            f"{options.run} has no {CONFIG}: expected a run folder, since the report "
            "requires the data of the run"
        )
    dataset = config.dataset()
    samples = options.n_importance_samples
    _, result = estimate_metrics(estimator, dataset, config, n_importance_samples=samples)
    print(write_report(options.run, estimator, dataset, result, config))


def demo(options: Namespace) -> None:
    """Run ``ancestral demo``."""
    from ancestral.experiments.demo import run_demo

    print(f"\nreport: {run_demo(options.out)}")
