"""Trained models small enough to ship: weights in few bits that give the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from ancestral import experiment, methods, storage
from ancestral.classification import ERROR
from ancestral.density import LatentEstimator
from ancestral.evaluate import compare
from ancestral.experiment import Config
from ancestral.fields import as_tuples
from ancestral.methods.autoencoder import Autoencoder
from ancestral.rounding import Bits

LARGEST, COSTLIEST, MOST_FLIPS, FARTHEST = 3_000_000, 0.01, 2e-4, 1e-3
"""Bytes of a model's weights; what its rounding may change: nats, the share of decisions, and what
is drawn, rebuilt or predicted, on average over entries and as a share of their range."""

UNSEEN = 0.1
"""Standard errors of a recorded error that rounding may always change: no one would see it."""

FEWER: tuple[Bits, ...] = (16, 12, 8)
"""Bits of weights, the first of them that fit."""

N_ROWS, N_SAMPLES, N_DECISIONS = 1000, 500, 10_000
"""On what rounding is measured: the first training rows, by L_S; or so many decisions."""


def name_of(row: str) -> str:
    """Return the name of a row's model in a zoo: ``mnist-density/vae`` is ``mnist-density-vae``."""
    return row.replace("/", "-")


def ship(run: Path, record: Path, out: Path, *, overwrite: bool = False) -> str:
    """Write a run's model in half precision or fewer bits, with its configuration and record.

    What only its training needed, as the critic of a game, stays behind.

    Parameters
    ----------
    run : Path
        Run folder.
    record : Path
        Its record.
    out : Path
        The folder to make.
    overwrite : bool
        Put it in the place of one that is there.

    Returns
    -------
    str
        What rounding the weights changed: log-likelihoods of the same rows with the same samples,
        or decisions, if the record counts errors; of a model without a likelihood the rows that it
        draws or rebuilds, or the targets that it predicts.

    Raises
    ------
    ValueError
        If rounding costs 0.01 nats or more, moves values by a thousandth of their range or changes
        more than two decisions in 10,000 (or a tenth of the recorded error's standard error, if
        that is more), or the weights take more than 3 MB in eight bits.
    """
    storage.check_writable(out, overwrite=overwrite)
    estimator, config = experiment.open_run(run)
    if config is None:
        raise ValueError(f"{run} has no {experiment.CONFIG}: it is not a run folder")
    changed: Callable[..., tuple[bool, str]] = (
        _likelihoods if isinstance(estimator, LatentEstimator) else _values
    )
    told = json.loads(record.read_text())
    if told["metric"] == ERROR:
        most = max(MOST_FLIPS, UNSEEN * told["standard_error"] / 100)
        changed = partial(_decisions, most=most)
    with TemporaryDirectory() as temporary:
        small = Path(temporary) / "model"
        bits = _bits_that_fit(estimator, small, run)
        cheap, change = changed(methods.load(small), estimator, config.dataset().x_train)
    if not cheap:
        raise ValueError(f"{run}: weights in {bits} bits change {change}")
    plain = config.plain()

    def fill(folder: Path) -> None:
        estimator._write(folder, bits, whole=False)
        storage.write_file(folder / experiment.CONFIG, plain.to_toml())
        storage.write_file(folder / storage.RECORD, record.read_text())

    storage.write_folder(out, fill, overwrite=overwrite)
    return f"{change} ({bits} bits)"


def unpack(
    shipped: Path, config: Config, fits: list[tuple[str, dict[str, Any]]], out: Path
) -> bool:
    """Make a run folder of a shipped model, if it was made by the same settings.

    Parameters
    ----------
    shipped : Path
        The model, as ``ship`` wrote it.
    config : Config
        The settings that are asked for.
    fits : list of (row, options)
        What its fit and those it started from are told.
    out : Path
        The run folder to make.

    Returns
    -------
    bool
        Whether there is such a model; if not, nothing is made.
    """
    if not (shipped / storage.RECORD).is_file():
        return False
    record = json.loads((shipped / storage.RECORD).read_text())
    estimator, theirs = experiment.open_run(shipped)
    if theirs is None or as_tuples(vars(theirs)) != as_tuples(vars(config.plain())):
        return False
    if as_tuples([(fit["row"], fit["options"]) for fit in record["fits"]]) != as_tuples(fits):
        return False

    def unpacked(folder: Path) -> None:
        storage.write_file(folder / experiment.CONFIG, config.to_toml())
        versions = json.dumps(record["versions"], indent=1)
        storage.write_file(folder / experiment.VERSIONS, versions)
        storage.write_file(folder / storage.RECORD, json.dumps(record, indent=1))
        estimator.save(folder / storage.MODEL)

    storage.write_folder(out, unpacked, overwrite=False)
    return True


def _bits_that_fit(estimator: Any, small: Path, run: Path) -> Bits:
    """Save a model in as many bits as are small enough to ship, and say how many."""
    size = 0
    for bits in FEWER:
        estimator.save(small, bits=bits, overwrite=True, whole=False)
        size = (small / storage.WEIGHTS).stat().st_size
        if size <= LARGEST:
            return bits
    most = f"at most {LARGEST / 1e6:g} MB"
    raise ValueError(f"{run}: {size / 1e6:.2f} MB of weights; {most}")


def _likelihoods(rounded: Any, whole: Any, x: np.ndarray) -> tuple[bool, str]:
    """Say whether rounding is cheap, and what it changes."""
    found = [e.log_likelihood(x[:N_ROWS], N_SAMPLES) for e in (rounded, whole)]
    change = compare(*found)
    return abs(change.mean) < COSTLIEST, f"the log-likelihood by {change}"


def _decisions(rounded: Any, whole: Any, x: np.ndarray, *, most: float) -> tuple[bool, str]:
    """Say whether rounding is cheap, and what it changes."""
    x = x[:N_DECISIONS]
    n = int((rounded.predict(x) != whole.predict(x)).sum())
    return n <= most * len(x), f"{n} of {len(x):,} decisions"


def _values(rounded: Any, whole: Any, x: np.ndarray) -> tuple[bool, str]:
    """Say whether rounding is cheap, and what it changes."""
    first, second = (_answers(estimator, x[:N_ROWS]) for estimator in (rounded, whole))
    change = float(np.abs(first - second).mean() / (np.ptp(second) or 1.0))
    return change < FARTHEST, f"values by {change:.1e} of their range"


def _answers(estimator: Any, x: np.ndarray) -> np.ndarray:
    """Return what a model without a likelihood is for: rows rebuilt, targets, or rows drawn."""
    if isinstance(estimator, Autoencoder):
        return estimator.reconstruct(x)
    if is_regressor(estimator):
        return estimator.predict(x)
    return estimator.sample(N_ROWS, random_state=0)
