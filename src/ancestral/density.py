"""The scikit-learn face of explicit latent-variable models: density, sampling, imputation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data
from torch import Tensor

from ancestral import engine, evaluate
from ancestral.data import Data, mix_seed
from ancestral.distributions import centre
from ancestral.engine import Precision
from ancestral.estimator import Estimator, draw_seed
from ancestral.evaluate import LogLikelihood
from ancestral.fields import Count, RandomState, Sizes, check
from ancestral.impute import pseudo_gibbs
from ancestral.models import LatentModel
from ancestral.preprocess import Columns, bernoulli_draw, binarize
from ancestral.tables import as_numbers, check_columns, has_missing, is_binary, learn_columns

CHUNK = 256


class LatentEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, Estimator, ABC
):
    """What every explicit latent-variable model can do once it is fitted.

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
    n_evaluation_samples : int
        Importance samples per row in ``score_samples``.
    """

    likelihood: str | tuple[str, ...] = "auto"
    binarize: Literal["batch", "epoch", "once", "none"] = "batch"
    image_shape: Sizes | None = None
    n_evaluation_samples: Count = 1000

    def transform(self, X: Any) -> np.ndarray:
        """Return the posterior mean E_q[z | x] of every row, [n_samples, n_latents].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """
        return self._map_rows(X, lambda batch: centre(self.model_.encode(batch)))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Return E[x | z] at the posterior mean of z for every row, [n_samples, n_features]."""

        def mean(batch: Any) -> Tensor:
            z = centre(self.model_.encode(batch))
            return self.columns_.to_user(centre(self.model_.decode(z)))

        return self._map_rows(X, mean)

    def log_likelihood(
        self,
        X: Any,
        n_importance_samples: int | None = None,
        *,
        binarize_seed: int = 0,
        precision: Precision = "float32",
        progress: bool = False,
    ) -> LogLikelihood:
        """Estimate log p(x) of every row by importance sampling, with its errors.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; missing entries are integrated out. For a Bernoulli likelihood, values between
            0 and 1 are binarised once (unless ``binarize="none"``).
        n_importance_samples : int, optional
            S of the bound L_S; by default ``n_evaluation_samples``.
        binarize_seed : int
            Seeds that draw.
        precision : {"float32", "bfloat16", "auto"}
            Of matrix products; numbers to be published are float32.
        progress : bool
            Show a progress bar.

        Returns
        -------
        LogLikelihood
            Values in nats, in the units of ``X``, with standard errors and effective sample sizes.
        """
        self._check_fitted()
        n = self.n_evaluation_samples if n_importance_samples is None else n_importance_samples
        check("n_importance_samples", n, Count)
        check("binarize_seed", binarize_seed, int)
        check("precision", precision, Literal["float32", "bfloat16", "auto"])
        X = self._validate(X, fit=False)
        bits = self._bits(X, binarize_seed)
        data = self._data(bits, self._device(), on_batch=self.columns_.to_model)
        result = evaluate.log_likelihood(
            self.model_,
            data,
            n,
            seed=mix_seed(self.seed_, 1),
            precision=precision,
            progress=progress,
        )
        volumes = [
            self.columns_.log_volume(batch.mask).expand(len(batch.x))[:rows]
            for batch, rows in data.chunks(CHUNK)
        ]
        values = result.values - torch.cat(volumes).cpu().numpy()
        return LogLikelihood(
            values, result.monte_carlo_errors, result.effective_sample_sizes, result.n_samples
        )

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-likelihood of every row in nats, [n_samples]: L_S, a lower bound.

        See :meth:`log_likelihood` for its standard errors and effective sample sizes.
        """
        return self.log_likelihood(X).values

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Return the mean log-likelihood per row, in nats."""
        return self.log_likelihood(X).mean

    def sample(
        self, n_samples: int = 1, *, mean: bool = False, random_state: RandomState = None
    ) -> np.ndarray:
        """Draw rows from the model, [n_samples, n_features], in the units of the training rows.

        Parameters
        ----------
        n_samples : int
            How many.
        mean : bool
            Return E[x | z] of the drawn z in place of a draw: what pictures of samples show.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own, so that a call can be repeated.
        """
        self._check_fitted()
        check("n_samples", n_samples, Count)
        with self._noise(random_state), torch.no_grad():
            parts = [
                self.columns_.to_user(self.model_.sample(n, mean=mean)).cpu().numpy()
                for n in _pieces(n_samples)
            ]
        return np.concatenate(parts)

    def impute(
        self,
        X: Any,
        *,
        n_iter: int = 100,
        fill: Literal["mean", "sample"] = "mean",
        random_state: RandomState = None,
    ) -> np.ndarray:
        """Fill in the missing entries by pseudo-Gibbs sampling; the observed ones stay as they are.

        (Bytes, which can't be missing, come back as fractions of 255.)

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks what to fill in.
        n_iter : int
            Rounds of encoding, drawing z, and decoding into the gaps.
        fill : {"mean", "sample"}
            Put E[x | z] into the gaps, or a draw.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own.

        Returns
        -------
        array [n_samples, n_features]
        """
        self._check_fitted()
        check("n_iter", n_iter, Count)
        check("fill", fill, Literal["mean", "sample"])
        X = self._validate(X, fit=False)
        with self._noise(random_state):
            filled = self._map_validated(X, lambda batch: self._fill(batch, n_iter, fill))
        if X.dtype in (np.uint8, np.bool_):
            return filled
        return np.where(np.isnan(X), filled, X)

    def _fill(self, batch: Any, n_iter: int, fill: Literal["mean", "sample"]) -> Tensor:
        if batch.mask is None:
            return self.columns_.to_user(batch.x)
        bits = set(self.columns_.kinds) == {"bernoulli"}
        start = torch.rand_like(batch.x) if bits else self.model_.sample(len(batch.x))
        filled = pseudo_gibbs(self.model_, batch.x, batch.mask, start, n_iter=n_iter, fill=fill)
        return self.columns_.to_user(filled)

    # ---- from input to data

    def _prepare(self, X: Any, y: Any, device: torch.device) -> Data:  # noqa: ARG002
        X = self._validate(X, fit=True)
        self._check_image_shape()
        named = {self.likelihood} if isinstance(self.likelihood, str) else set(self.likelihood)
        X = as_numbers(X, named)
        self.unit_ = 1 / 255 if X.dtype == np.uint8 and X.max() > 1 else 1.0
        self.columns_ = learn_columns(X, self.likelihood, self.unit_)
        self.likelihood_ = list(self.columns_.kinds)
        self.location_, self.scale_ = self.columns_.loc.numpy(), self.columns_.scale.numpy()
        self.n_categories_ = list(self.columns_.n_categories)
        self.draws_bits_ = self._has_grey(X) and self.binarize != "none"
        if not self.draws_bits_:
            return self._data(X, device, on_batch=self.columns_.to_model)
        if self.binarize == "once":
            return self._data(self._bits(X, seed=0), device)
        key = "on_epoch" if self.binarize == "epoch" else "on_batch"
        return self._data(X, device, **{key: bernoulli_draw})

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
        if not fit:
            checked = as_numbers(checked, set(self.likelihood_))
            check_columns(checked, self.columns_, self.unit_)
        # validation hands back a view that has forgotten it lies on disk
        return X if isinstance(X, np.memmap) and X.dtype == checked.dtype else checked

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

    def _map_rows(self, X: Any, function: Any) -> np.ndarray:
        self._check_fitted()
        return self._map_validated(self._validate(X, fit=False), function)

    @torch.no_grad()
    def _map_validated(self, X: np.ndarray, function: Any) -> np.ndarray:
        """Apply ``function`` to padded chunks of one size; rows in the precision of X."""
        data = self._data(X, self._device(), on_batch=self.columns_.to_model)
        parts = [function(batch)[:rows].cpu().numpy() for batch, rows in data.chunks(CHUNK)]
        return np.concatenate(parts).astype(X.dtype if X.dtype.kind == "f" else np.float32)

    def __sklearn_tags__(self) -> Tags:
        """Missing values are welcome, and single precision stays single."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return sum(self._latent_sizes())

    @abstractmethod
    def _latent_sizes(self) -> tuple[int, ...]:
        """Return the width of every stochastic layer, from the data upward."""

    if TYPE_CHECKING:  # fitted attributes; as plain annotations they would be fields
        model_: LatentModel
        columns_: Columns


HINTS = {
    "could not convert string": " Encode text as codes 0, 1, ... and name them 'categorical'.",
    "array with dim": " Give images as rows, X.reshape(len(X), -1), and their image_shape.",
    "contains infinity": " Mark missing values by NaN.",
}


def _hint(message: str) -> str:
    return next((hint for key, hint in HINTS.items() if key in message), "")


def _pieces(n: int, size: int = 10_000) -> list[int]:
    return [min(size, n - start) for start in range(0, n, size)]
