"""Trained models small enough to ship: half-precision weights that give the same numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ancestral import experiment, methods, storage
from ancestral.evaluate import Difference, compare

LARGEST, COSTLIEST = 3 * 2**20, 0.01
"""Bytes of a model's weights, and nats its rounding may cost."""

N_ROWS, N_SAMPLES = 1000, 500
"""On what the cost of rounding is measured: the first training rows, L_S."""


def ship(run: Path, record: Path, out: Path, *, overwrite: bool = False) -> Difference:
    """Write a run's model in half precision, with its configuration and record.

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
    Difference
        What rounding the weights changed, on the same rows with the same samples.

    Raises
    ------
    ValueError
        If rounding costs 0.01 nats or more, or the weights take more than 3 MiB.
    """
    storage.check_writable(out, overwrite=overwrite)
    estimator, config = experiment.open_run(run)
    if config is None:
        raise ValueError(f"{run} has no {experiment.CONFIG}: it is not a run folder")
    rows = config.dataset().x_train[:N_ROWS]
    with TemporaryDirectory() as temporary:
        small = Path(temporary) / "model"
        estimator.save(small, half=True)
        size = (small / storage.WEIGHTS).stat().st_size
        if size > LARGEST:
            most = f"at most {LARGEST / 2**20:g} MiB"
            raise ValueError(f"{run}: {size / 2**20:.2f} MiB of weights; {most}")
        rounded = methods.load(small).log_likelihood(rows, N_SAMPLES)
    change = compare(rounded, estimator.log_likelihood(rows, N_SAMPLES))
    if abs(change.mean) >= COSTLIEST:
        raise ValueError(f"{run}: half precision changes the log-likelihood by {change}")
    aside = ("start", "verbose", "checkpoint", "log")
    plain = replace(config, options={k: v for k, v in config.options.items() if k not in aside})

    def fill(folder: Path) -> None:
        estimator._write(folder, half=True)
        storage.write_file(folder / experiment.CONFIG, plain.to_toml())
        storage.write_file(folder / storage.RECORD, record.read_text())

    storage.write_folder(out, fill, overwrite=overwrite)
    return change
