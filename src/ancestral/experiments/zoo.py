"""Shipped models: small files with quantised weights that reproduce the recorded results."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from ancestral.estimators import registry
from ancestral.estimators.autoencoder import Autoencoder
from ancestral.estimators.base import persistence
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.evaluation.log_likelihood import compare
from ancestral.experiments.config import Config
from ancestral.experiments.run_folder import CONFIG, VERSIONS, open_run
from ancestral.experiments.scoring import ERROR
from ancestral.utils import files
from ancestral.utils.quantization import Bits
from ancestral.utils.validation import as_tuples

MAX_BYTES, MAX_NLL_CHANGE, MAX_DECISION_CHANGE, MAX_VALUE_CHANGE = 3_000_000, 0.01, 2e-4, 1e-3
"""Maximum size of the weights in bytes, and tolerances of quantisation: change of the mean
log-likelihood in nats; fraction of changed decisions; mean absolute change of samples,
reconstructions or predictions as a fraction of their range."""

MAX_ERROR_CHANGE = 0.1
"""Change of an error rate, in its standard errors, that quantisation may always cause."""

BIT_WIDTHS: tuple[Bits, ...] = (16, 12, 8)
"""Bits per weight, in order of preference."""

N_ROWS, N_SAMPLES, N_DECISIONS = 1000, 500, 10_000
"""Numbers of training rows, of importance samples and of decisions for measuring the effect of
quantisation."""


def zoo_name(row: str) -> str:
    """Folder name of the model of a row: ``mnist-density-vae`` for ``mnist-density/vae``."""
    return row.replace("/", "-")


def ship(run: Path, record: Path, out: Path, *, overwrite: bool = False) -> str:
    """Write the model of a run with quantised weights, with its configuration and record.

    Modules used in training only, such as the critic of a GAN, are omitted.

    Parameters
    ----------
    run : Path
        Run folder.
    record : Path
        Record of the run.
    out : Path
        Folder to create.
    overwrite : bool
        Whether to replace an existing folder.

    Returns
    -------
    str
        Description of the change caused by quantisation: of the log-likelihood of the same rows
        with the same samples; of the decisions, if the metric of the record is an error rate; or,
        for a model without a likelihood, of its samples, reconstructions or predicted targets.

    Raises
    ------
    ValueError
        If quantisation changes the log-likelihood by 0.01 nats or more, values by a thousandth of
        their range or more, or more than 2 of 10,000 decisions (or a tenth of the standard error of
        the recorded error rate, if larger); or if the weights exceed 3 MB at 8 bits.
    """
    files.check_writable(out, overwrite=overwrite)
    estimator, config = open_run(run)
    if config is None:
        raise ValueError(f"{run} has no {CONFIG}: expected a run folder")
    measure_change: Callable[..., tuple[bool, str]] = (
        _likelihood_change if isinstance(estimator, LatentEstimator) else _value_change
    )
    content = json.loads(record.read_text())
    if content["metric"] == ERROR:
        limit = max(MAX_DECISION_CHANGE, MAX_ERROR_CHANGE * content["standard_error"] / 100)
        measure_change = partial(_decision_change, most=limit)
    with TemporaryDirectory() as temporary:
        quantized = Path(temporary) / "model"
        bits = _save_within_limit(estimator, quantized, run)
        x_train = config.dataset().x_train
        tolerable, change = measure_change(registry.load(quantized), estimator, x_train)
    if not tolerable:
        raise ValueError(f"{run}: weights in {bits} bits change {change}")
    model_config = config.without_run_options()

    def write(folder: Path) -> None:
        persistence.write_model(estimator, folder, bits, whole=False)
        files.write_file(folder / CONFIG, model_config.to_toml())
        files.write_file(folder / files.RECORD, record.read_text())

    files.write_folder(out, write, overwrite=overwrite)
    return f"{change} ({bits} bits)"


def unpack(
    shipped: Path, config: Config, fits: list[tuple[str, dict[str, Any]]], out: Path
) -> bool:
    """Create a run folder from a shipped model, if it was trained with the same settings.

    Parameters
    ----------
    shipped : Path
        Folder of the model, written by :func:`ship`.
    config : Config
        Required configuration of the model.
    fits : list of (row, options)
        Required options of its fit and of the fits that it depends on.
    out : Path
        Run folder to create.

    Returns
    -------
    bool
        Whether the model exists with these settings; if not, no folder is created.
    """
    if not (shipped / files.RECORD).is_file():
        return False
    record = json.loads((shipped / files.RECORD).read_text())
    estimator, shipped_config = open_run(shipped)
    if shipped_config is None:
        return False
    if as_tuples(vars(shipped_config)) != as_tuples(vars(config.without_run_options())):
        return False
    if as_tuples([(fit["row"], fit["options"]) for fit in record["fits"]]) != as_tuples(fits):
        return False

    def write(folder: Path) -> None:
        files.write_file(folder / CONFIG, config.to_toml())
        versions = json.dumps(record["versions"], indent=1)
        files.write_file(folder / VERSIONS, versions)
        files.write_file(folder / files.RECORD, json.dumps(record, indent=1))
        estimator.save(folder / files.MODEL)

    files.write_folder(out, write, overwrite=False)
    return True


def _save_within_limit(estimator: Any, quantized: Path, run: Path) -> Bits:
    """Save a model at the largest bit width within the size limit; return the bit width."""
    size = 0
    for bits in BIT_WIDTHS:
        estimator.save(quantized, bits=bits, overwrite=True, whole=False)
        size = (quantized / files.WEIGHTS).stat().st_size
        if size <= MAX_BYTES:
            return bits
    raise ValueError(
        f"{run}: {size / 1e6:.2f} MB of weights at {bits} bits: expected at most "
        f"{MAX_BYTES / 1e6:g} MB"
    )


def _likelihood_change(quantized: Any, original: Any, x: np.ndarray) -> tuple[bool, str]:
    """Whether the change of the log-likelihood by quantisation is tolerable; its description."""
    results = [e.log_likelihood(x[:N_ROWS], N_SAMPLES) for e in (quantized, original)]
    change = compare(*results)
    return abs(change.mean) < MAX_NLL_CHANGE, f"the log-likelihood by {change}"


def _decision_change(
    quantized: Any, original: Any, x: np.ndarray, *, most: float
) -> tuple[bool, str]:
    """Whether the number of decisions changed by quantisation is tolerable; its description."""
    x = x[:N_DECISIONS]
    n = int((quantized.predict(x) != original.predict(x)).sum())
    return n <= most * len(x), f"{n} of {len(x):,} decisions"


def _value_change(quantized: Any, original: Any, x: np.ndarray) -> tuple[bool, str]:
    """Whether the change of model outputs by quantisation is tolerable; its description."""
    after, before = (_outputs(estimator, x[:N_ROWS]) for estimator in (quantized, original))
    change = float(np.abs(after - before).mean() / (np.ptp(before) or 1.0))
    return change < MAX_VALUE_CHANGE, f"values by {change:.1e} of their range"


def _outputs(estimator: Any, x: np.ndarray) -> np.ndarray:
    """Outputs of a model without a likelihood: reconstructions, predicted targets or samples."""
    if isinstance(estimator, Autoencoder):
        return estimator.reconstruct(x)
    if is_regressor(estimator):
        return estimator.predict(x)
    return estimator.sample(N_ROWS, random_state=0)
