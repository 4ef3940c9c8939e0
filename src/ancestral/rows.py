"""Estimators of rows: what a user's rows look like to a model, and what it answers to them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from ancestral import engine
from ancestral.ais import Sandwich
from ancestral.data import Data
from ancestral.estimator import Estimator
from ancestral.evaluate import LogLikelihood
from ancestral.fields import RandomState, Sizes, check, draw_seed
from ancestral.labels import LabelLearner, TargetLearner
from ancestral.networks import batch_statistics
from ancestral.preprocess import Columns, bernoulli_draw, binarize
from ancestral.tables import (
    as_numbers,
    check_columns,
    has_missing,
    is_binary,
    learn_columns,
    value_range,
)

CHUNK = 256


class RowEstimator(Estimator, ABC):
    """An estimator whose rows have columns of known kinds: bits, numbers, codes, counts, pixels.

    Parameters
    ----------
    likelihood : {"auto", "bernoulli", "gaussian", "categorical", "poisson"} or a list of these
        Distribution of every column, or one for each. ``"auto"`` is Bernoulli when all values
        lie in [0, 1], else Gaussian.
    binarize : {"batch", "epoch", "once", "none"}
        How values between 0 and 1 become the bits of a Bernoulli likelihood in training: drawn
        afresh whenever a row is visited, once per epoch, once for all, or not at all (they then
        count as fractions of a bit, and likelihoods are not those of any data). Evaluation draws
        the bits once, with a seed of its own.
    image_shape : (height, width) or (channels, height, width), optional
        What a row is a picture of.
    """

    likelihood: str | tuple[str, ...] = "auto"
    binarize: Literal["batch", "epoch", "once", "none"] = "batch"
    image_shape: Sizes | None = None

    _learns_from_gaps: ClassVar[bool] = True
    _has_density: ClassVar[bool] = False

    def _prepare(self, X: Any, y: Any, device: torch.device) -> Data:
        X = self._validate(X, fit=True)
        if isinstance(self, Taught):
            X, y = self._asked(X, y)
        codes = self._learn_labels(y, len(X))
        self._check_image_shape()
        named = {self.likelihood} if isinstance(self.likelihood, str) else set(self.likelihood)
        X = as_numbers(X, named)
        self.unit_ = 1 / 255 if X.dtype == np.uint8 and X.max() > 1 else 1.0
        how: dict[str, Any] = {"density": self._has_density, "names": self.column_names}
        self.columns_ = learn_columns(X, self.likelihood, self.unit_, **how)
        self.likelihood_ = list(self.columns_.kinds)
        self.location_, self.scale_ = self.columns_.loc.numpy(), self.columns_.scale.numpy()
        self.n_categories_ = list(self.columns_.n_categories)
        bits = set(self.likelihood_) == {"bernoulli"}
        self.range_ = None if bits else np.stack(value_range(X, self.unit_))
        engine.moved(self.columns_, device)
        self.draws_bits_ = self._has_grey(X) and self.binarize != "none"
        if not self.draws_bits_:
            return self._data(X, device, y=codes, on_batch=self.columns_.to_model)
        if self.binarize == "once":
            return self._data(self._bits(X, seed=0), device, y=codes)
        key = "on_epoch" if self.binarize == "epoch" else "on_batch"
        return self._data(X, device, y=codes, **{key: bernoulli_draw})

    def _learn_labels(self, y: Any, n_rows: int) -> np.ndarray | None:
        """Return what is to be learnt of rows: classes, targets, or nothing."""
        if isinstance(self, LabelLearner):
            return self._learn_classes(y, n_rows)
        return self._learn_targets(y, n_rows) if isinstance(self, TargetLearner) else None

    def _has_grey(self, X: np.ndarray) -> bool:
        """Whether there are values between the bits of a Bernoulli likelihood."""
        bits = self.columns_.columns_of("bernoulli")
        if len(bits) == len(self.likelihood_):
            return not is_binary(X)
        if bits and self.binarize != "none" and not is_binary(X[:, bits]):
            raise ValueError(
                "X: a Bernoulli column of a mixed table holds values between 0 and 1: "
                "preprocess.binarize them first, or set binarize='none'"
            )
        return False

    def _columns(self) -> Columns:
        return Columns(self.likelihood_, self.location_, self.scale_, self.n_categories_)

    def _validate(self, X: Any, *, fit: bool) -> np.ndarray:
        if isinstance(X, Tensor):
            X = X.detach().cpu().numpy()
        if np.ma.isMaskedArray(X):
            X = np.ma.filled(X.astype(np.float64), np.nan)
        try:
            checked = validate_data(
                self,
                X,
                reset=fit,
                dtype=[np.float64, np.float32, np.uint8, np.bool_],
                ensure_all_finite="allow-nan",
                ensure_min_samples=2 if fit else 1,
            )
        except ValueError as error:
            raise ValueError(f"{error}{_hint(str(error))}") from None
        if not self._learns_from_gaps and has_missing(checked):
            raise ValueError(
                f"X contains NaN, and {type(self).__name__} knows whole rows only: fill the gaps "
                "first (a VAE's impute, say), or leave such rows out"
            )
        if not fit:
            checked = as_numbers(checked, set(self.likelihood_))
            check_columns(checked, self.columns_, self.unit_, names=self.column_names)
        # validation hands back a view that has forgotten it lies on disk
        return X if isinstance(X, np.memmap) and X.dtype == checked.dtype else checked

    @property
    def column_names(self) -> list[str] | None:
        """Names of the columns, of a data frame or a table, if they had any."""
        names = getattr(self, "feature_names_in_", getattr(self, "column_names_", None))
        return list(names) if names is not None and len(names) == self.n_features_in_ else None

    def _check_image_shape(self) -> None:
        shape = self.image_shape
        if shape is not None and (
            len(shape) not in (2, 3) or np.prod(shape) != self.n_features_in_
        ):
            raise ValueError(
                f"image_shape={shape}: expected (height, width) or (channels, height, width) "
                f"of {self.n_features_in_} entries, as many as a row has"
            )

    def _bits(self, X: np.ndarray, seed: int) -> np.ndarray:
        """Draw the bits of grey values once; anything else stays as it is."""
        grey = self.draws_bits_ and not is_binary(X)
        return binarize(X, seed) if grey else X

    def _data(self, X: np.ndarray, device: torch.device, **how: Any) -> Data:
        return Data(
            X,
            unit=self.unit_ if X.dtype == np.uint8 else 1.0,
            missing=has_missing(X),
            device=device,
            **how,
        )

    def _device(self) -> torch.device:
        return next(self.model_.parameters()).device

    def _noise(self, random_state: RandomState) -> Any:
        check("random_state", random_state, RandomState)
        seed = self.seed_ if random_state is None else draw_seed(random_state)
        return engine.seeded(seed, device=self._device())

    def _in_user_units(self, found: LogLikelihood, data: Data) -> LogLikelihood:
        """Turn log-densities of rows as the model has them into those of the rows given."""
        volumes = [
            self.columns_.log_volume(batch.mask).expand(len(batch.x))[:rows]
            for batch, rows in data.chunks(CHUNK)
        ]
        return replace(found, values=found.values - torch.cat(volumes).cpu().numpy())

    def _bounds_in_user_units(self, bounds: Sandwich) -> Sandwich:
        """Turn bounds on the log-densities of whole rows into those in the units of the rows."""
        volume = float(self.columns_.log_volume(None))
        return Sandwich(*(replace(bound, values=bound.values - volume) for bound in bounds))

    def _map_rows(self, X: Any, function: Any) -> np.ndarray:
        self._check_fitted()
        return self._map_validated(self._validate(X, fit=False), function)

    @torch.no_grad()
    def _map_validated(self, X: np.ndarray, function: Any) -> np.ndarray:
        """Apply ``function`` to padded chunks of one size; rows in the precision of X."""
        data = self._data(X, self._device(), on_batch=self.columns_.to_model)
        parts = [function(batch)[:rows].cpu().numpy() for batch, rows in data.chunks(CHUNK)]
        return _joined(parts, X)

    @torch.no_grad()
    def _map_together(self, X: np.ndarray, function: Any, most: int) -> np.ndarray:
        """Apply ``function`` to batches in which rows are compared with one another."""
        data = self._data(X, self._device(), on_batch=self.columns_.to_model)
        with batch_statistics(self.model_):
            return _joined([function(batch).cpu().numpy() for batch in data.parts(most)], X)

    def __sklearn_tags__(self) -> Tags:
        """Missing values are mostly welcome, and single precision stays single."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._learns_from_gaps
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    if TYPE_CHECKING:  # fitted attributes; as plain annotations they would be fields
        model_: nn.Module
        columns_: Columns


def _joined(parts: Sequence[np.ndarray], X: np.ndarray) -> np.ndarray:
    return np.concatenate(parts).astype(X.dtype if X.dtype.kind == "f" else np.float32)


class Taught(ABC):
    """An estimator that may learn from what another one says, in the place of what was seen."""

    @abstractmethod
    def _asked(self, X: np.ndarray, y: Any) -> tuple[np.ndarray, Any]:
        """Return the rows to learn from, and what is said of them."""


HINTS = {
    "could not convert string": " Encode text as codes 0, 1, ... and name them 'categorical'.",
    "array with dim": " Give images as rows, X.reshape(len(X), -1), and their image_shape.",
    "contains infinity": " Mark missing values by NaN.",
}


def _hint(message: str) -> str:
    return next((hint for key, hint in HINTS.items() if key in message), "")
