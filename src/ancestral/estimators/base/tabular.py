"""Rows as an estimator reads them: validation, columns of known kinds, and batches on a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import validate_data
from torch import Tensor

from ancestral.data.columns import (
    Columns,
    bytes_as_counts,
    check_columns,
    has_missing,
    infer_columns,
    is_binary,
    value_range,
)
from ancestral.data.device_data import DeviceData, sample_bernoulli
from ancestral.data.preprocessing import binarize
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.nn import batch_statistics
from ancestral.training import engine
from ancestral.utils.random import exclusive

if TYPE_CHECKING:
    from ancestral.estimators.base.estimator import Estimator


CHUNK = 256
"""Rows per padded chunk of inference."""


def validate(estimator: Estimator, X: Any, *, fit: bool) -> np.ndarray:
    """Return X as an array [n_samples, n_features] of float64, float32, uint8 or bool.

    Parameters
    ----------
    estimator : Estimator
        Estimator whose number and names of features are set (``fit``) or compared.
    X : array-like, Tensor, masked array or data frame
        Rows.
    fit : bool
        Whether these are the training rows.

    Raises
    ------
    ValueError
        If X is not a table of numbers, or its values do not suit the columns.
    """
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    if np.ma.isMaskedArray(X):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    try:
        checked = validate_data(
            estimator,
            X,
            reset=fit,
            dtype=[np.float64, np.float32, np.uint8, np.bool_],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if fit else 1,
        )
    except ValueError as error:
        raise ValueError(f"{error}{_hint(str(error))}") from None
    if not estimator._supports_missing and has_missing(checked):
        raise ValueError(
            f"X contains NaN. {type(estimator).__name__} does not support missing values: impute "
            "them first (for example with VAE.impute) or drop the rows"
        )
    if not fit:
        _check_byte_scale(checked, estimator.unit_)
        checked = bytes_as_counts(checked, set(estimator.likelihood_))
        check_columns(checked, estimator.columns_, estimator.unit_, names=estimator.column_names)
    # validation returns a view that no longer has the type of an array on disk
    return X if isinstance(X, np.memmap) and X.dtype == checked.dtype else checked


def fit_columns(
    estimator: Estimator, X: np.ndarray, targets: np.ndarray | None, device: torch.device
) -> DeviceData:
    """Set the fitted attributes that describe the columns; return the training data.

    Parameters
    ----------
    estimator : Estimator
        Estimator to set ``columns_``, ``likelihood_``, ``unit_``, ``range_`` and others of.
    X : array [n_samples, n_features]
        Validated training rows.
    targets : array [n_samples, ...], optional
        Encoded labels or targets.
    device : torch.device
        Device of the data.
    """
    _check_image_shape(estimator)
    likelihood = estimator.likelihood
    X = bytes_as_counts(X, {likelihood} if isinstance(likelihood, str) else set(likelihood))
    unit = 1 / 255 if X.dtype == np.uint8 and X.max() > 1 else 1.0
    columns = infer_columns(
        X,
        likelihood,
        unit,
        density=estimator._has_density,
        standardize=estimator._standardizes,
        names=estimator.column_names,
    )
    bits = set(columns.kinds) == {"bernoulli"}
    estimator.unit_ = unit
    estimator.columns_ = columns
    estimator.likelihood_ = list(columns.kinds)
    estimator.location_, estimator.scale_ = columns.loc.numpy(), columns.scale.numpy()
    estimator.n_categories_ = list(columns.n_categories)
    estimator.range_ = None if bits else np.stack(value_range(X, unit))
    engine.move_to(columns, device)
    estimator.draws_bits_ = _has_grey(X, columns, estimator.binarize)
    if not estimator.draws_bits_:
        return as_data(X, unit, device, y=targets, batch_transform=columns.to_model_units)
    if estimator.binarize == "once":
        return as_data(binarize(X, 0), unit, device, y=targets)
    key = "epoch_transform" if estimator.binarize == "epoch" else "batch_transform"
    return as_data(X, unit, device, y=targets, **{key: sample_bernoulli})


def as_data(X: np.ndarray, unit: float, device: torch.device, **options: Any) -> DeviceData:
    """Return rows as data on a device; bytes are multiplied by ``unit``."""
    scale = unit if X.dtype == np.uint8 else 1.0
    return DeviceData(X, unit=scale, missing=has_missing(X), device=device, **options)


def evaluation_data(estimator: Estimator, X: np.ndarray, binarize_seed: int) -> DeviceData:
    """Return validated rows as the model scores them, grey values binarised once."""
    if estimator.draws_bits_ and not is_binary(X):
        X = binarize(X, binarize_seed)
    return estimator._data(
        X, estimator._device(), batch_transform=estimator.columns_.to_model_units
    )


@exclusive()
@torch.no_grad()
def map_chunks(estimator: Estimator, X: np.ndarray, function: Any) -> np.ndarray:
    """Apply ``function`` to padded chunks of one size; results have the float type of X.

    A row's result does not depend on its neighbours.
    """
    data = estimator._data(
        X, estimator._device(), batch_transform=estimator.columns_.to_model_units
    )
    parts = [function(batch)[:n].cpu().numpy() for batch, n in data.padded_chunks(CHUNK)]
    return _concatenate(parts, X)


@exclusive()
@torch.no_grad()
def map_batches(estimator: Estimator, X: np.ndarray, function: Any, size: int) -> np.ndarray:
    """Apply ``function`` to batches of about ``size`` rows, with their batch statistics."""
    data = estimator._data(
        X, estimator._device(), batch_transform=estimator.columns_.to_model_units
    )
    with batch_statistics(estimator.model_):
        return _concatenate([function(batch).cpu().numpy() for batch in data.even_chunks(size)], X)


def in_user_units(estimator: Estimator, result: LogLikelihood, data: DeviceData) -> LogLikelihood:
    """Convert log-densities of standardised rows to those of the rows in the units of the user."""
    volumes = [
        estimator.columns_.log_volume(batch.mask).expand(len(batch.x))[:n]
        for batch, n in data.padded_chunks(CHUNK)
    ]
    return replace(result, values=result.values - torch.cat(volumes).cpu().numpy())


def _has_grey(X: np.ndarray, columns: Columns, mode: str) -> bool:
    """Return whether values between the bits of a Bernoulli likelihood are to be binarised."""
    bits = columns.column_indices("bernoulli")
    if mode == "none":
        return False
    if len(bits) == len(columns.kinds):
        return not is_binary(X)
    if bits and not is_binary(X[:, bits]):
        raise ValueError(
            "X: a Bernoulli column of a mixed table holds values between 0 and 1: "
            "preprocess.binarize them first, or set binarize='none'"
        )
    return False


def _check_byte_scale(X: np.ndarray, unit: float) -> None:
    """Refuse bits stored as bytes if the model was fitted to bytes 0..255, where 1 means 1/255.

    A few dark images may have the maximum 1; more than ``MAX_DARK_ROWS`` such rows that are not
    constant, and no greater value, are bits. A model fitted to bytes 0 and 1 reads 255 as 255,
    which its columns refuse.
    """
    if X.dtype != np.uint8 or unit == 1.0 or X.max() != 1:
        return
    n = int((X.min(1) != X.max(1)).sum())
    if n > MAX_DARK_ROWS:
        raise ValueError(
            f"X: {n} uint8 rows of zeros and ones, and the model was fitted to bytes of 0 to 255, "
            "where 1 means 1/255. Multiply bits by 255, or pass them as bool or float"
        )


MAX_DARK_ROWS = 10
"""Greatest number of uint8 rows of zeros and ones that are read as dark images."""


def _check_image_shape(estimator: Estimator) -> None:
    shape, n = estimator.image_shape, estimator.n_features_in_
    if shape is not None and (len(shape) not in (2, 3) or np.prod(shape) != n):
        raise ValueError(
            f"image_shape={shape}: expected (height, width) or (channels, height, width) "
            f"with {n} entries, the number of features"
        )
    if (
        shape is not None
        and len(shape) == 3
        and shape[2] in (1, 3, 4)
        and shape[2] < min(shape[:2])
    ):
        height, width, channels = shape
        raise ValueError(
            f"image_shape={tuple(shape)} has its channels last: expected (channels, height, width)"
            f" = {(channels, height, width)}, and rows in that order: "
            "images.transpose(0, 3, 1, 2).reshape(len(images), -1)"
        )


def _concatenate(parts: Sequence[np.ndarray], X: np.ndarray) -> np.ndarray:
    return np.concatenate(parts).astype(X.dtype if X.dtype.kind == "f" else np.float32)


ERROR_HINTS = {
    "could not convert string": " Encode text as codes 0, 1, ... and name them 'categorical'.",
    "array with dim": " Give images as rows, X.reshape(len(X), -1), and their image_shape.",
    "contains infinity": " Mark missing values by NaN.",
}
"""Advice added to the messages of scikit-learn's validation, by a part of the message."""


def _hint(message: str) -> str:
    return next((hint for key, hint in ERROR_HINTS.items() if key in message), "")
