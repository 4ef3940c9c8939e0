"""Base class of explicit latent-variable models: densities, posteriors and imputation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base import tabular
from ancestral.estimators.base.generative import GenerativeEstimator
from ancestral.evaluation import active_units as evaluation_active_units
from ancestral.evaluation import ais, posterior_sampling
from ancestral.evaluation import log_likelihood as evaluation_log_likelihood
from ancestral.evaluation.ais import Annealing
from ancestral.evaluation.imputation import pseudo_gibbs
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.models.exact import ExactModel
from ancestral.models.latent import LatentModel
from ancestral.probability.distributions import mean_or_mode, rsample_or_sample
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.engine import Precision
from ancestral.utils import serialization
from ancestral.utils.random import mix_seed
from ancestral.utils.validation import Count, Positive, RandomState, check_field, field_hints

BATCH_STATISTICS_SIZE = 1000
"""Rows per batch where batch normalisation uses the statistics of the batch."""


@dataclass(frozen=True)
class ImputationOptions:
    """Settings of :meth:`LatentEstimator.impute`, which describes them."""

    method: Literal["weighted", "pseudo-gibbs"]
    return_mean: bool
    n_importance_samples: Count
    n_iter: Count
    n_chains: Count
    init: Literal["noise", "zero"]
    batch_statistics: bool

    def __post_init__(self) -> None:
        for name, hint in field_hints(type(self)).items():
            check_field(name, getattr(self, name), hint)
        if self.batch_statistics and self.method != "pseudo-gibbs":
            raise ValueError(
                f"batch_statistics=True: expected method='pseudo-gibbs', got {self.method!r}; "
                "weighted latents of a row must not depend on other rows"
            )


class LatentEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, GenerativeEstimator, ABC
):
    """An explicit latent-variable model p(z) p(x | z) with a recognition model q(z | x).

    Parameters
    ----------
    n_evaluation_samples : int
        Importance samples per row in ``score_samples``.
    """

    n_evaluation_samples: Count = 1000

    _has_density = True

    def transform(self, X: Any) -> np.ndarray:
        """Return the posterior mean E_q[z | x] of every row, [n_samples, n_latents].

        For several stochastic layers: the mean of the first layer, and the mean of each further
        layer given that of the layer below.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """
        return self._map_rows(X, lambda batch: mean_or_mode(self.model_.encode(batch)))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Return E[x | z] at the posterior mean of z for every row, [n_samples, n_features].

        Values are in the units of the training rows; bytes are returned as fractions of 255.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """

        def mean(batch: Any) -> Tensor:
            z = mean_or_mode(self.model_.encode(batch))
            return self.columns_.to_data_units(mean_or_mode(self.model_.decode(z)))

        return self._map_rows(X, mean)

    def log_likelihood(
        self,
        X: Any,
        n_importance_samples: int | None = None,
        *,
        annealing: Annealing | None = None,
        binarize_seed: int = 0,
        precision: Precision = "float32",
        checkpoint: str | None = None,
        progress: bool = False,
    ) -> LogLikelihood:
        """Estimate log p(x) of every row, with Monte Carlo errors.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; missing entries are integrated out. For a Bernoulli likelihood, values between
            0 and 1 are binarised once (unless ``binarize="none"``).
        n_importance_samples : int, optional
            S of the bound L_S; by default ``n_evaluation_samples``. Ignored by a model with an
            exact likelihood.
        annealing : Annealing, optional
            Estimate by annealed importance sampling instead of L_S: slower by orders of magnitude,
            tighter where q is far from the posterior. See :meth:`bidirectional_bounds`.
        binarize_seed : int
            Seed of that binarisation.
        precision : {"float32", "bfloat16", "auto"}
            Precision of matrix products; published numbers use float32.
        checkpoint : str, optional
            File that stores finished rows: the same call resumes from it after an interruption.
            It is removed at the end.
        progress : bool
            Show a progress bar.

        Returns
        -------
        LogLikelihood
            Values in nats, in the units of ``X``, with standard errors, effective sample sizes and
            the tail indices of the weights. ``reliable`` is False where a value cannot be trusted.

        Raises
        ------
        ValueError
            If an argument is invalid, or ``annealing`` is given for an exact model.
        """
        self._check_fitted()
        n = self.n_evaluation_samples if n_importance_samples is None else n_importance_samples
        check_field("n_importance_samples", n, Count)
        check_field("precision", precision, Literal["float32", "bfloat16", "auto"])
        data, seed = self._evaluation_data(X, binarize_seed), mix_seed(self.seed_, 1)
        model = self._density_model(None, annealing)
        if isinstance(model, ExactModel):
            return tabular.in_user_units(
                self, evaluation_log_likelihood.exact_log_likelihood(model, data), data
            )
        options: dict[str, Any] = {"seed": seed, "progress": progress}
        if checkpoint is not None:
            settings = [
                n,
                annealing and asdict(annealing),
                seed,
                precision,
                data.fingerprint(),
                "k",
            ]
            identity = serialization.digest([*settings, serialization.fingerprint(model)])
            options["checkpoint"] = Checkpoint(checkpoint, identity=identity)
        if annealing is None:
            result = evaluation_log_likelihood.log_likelihood(
                model, data, n, precision=precision, **options
            )
        else:
            result = ais.annealed_marginal_log_likelihood(model, data, annealing, **options)
        return tabular.in_user_units(self, result, data)

    def unit_variances(self, X: Any, *, binarize_seed: int = 0) -> np.ndarray:
        """Return Var_x(E_q[z | x]) of every latent unit, [n_latents]; zero where q ignores x.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Two rows or more; the paper uses 500 training images.
        binarize_seed : int
            Seed of the binarisation of grey values.
        """
        self._check_fitted()
        data = self._evaluation_data(X, binarize_seed)
        return evaluation_active_units.unit_variances(
            self.model_, data, seed=mix_seed(self.seed_, 3)
        )

    def active_units(
        self, X: Any, *, threshold: float = 0.01, binarize_seed: int = 0
    ) -> tuple[int, ...]:
        """Count the active latent units of every stochastic layer, from the data upward.

        A unit is active when its :meth:`unit_variances` exceeds ``threshold`` (Burda et al., 2016).
        """
        check_field("threshold", threshold, Positive)
        active = self.unit_variances(X, binarize_seed=binarize_seed) > threshold
        layers = np.split(active, np.cumsum(self._latent_sizes())[:-1])
        return tuple(int(layer.sum()) for layer in layers)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-likelihood of every row in nats, [n_samples]: the lower bound L_S.

        See :meth:`log_likelihood` for standard errors and effective sample sizes.
        """
        return self.log_likelihood(X).values

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Return the mean log-likelihood per row, in nats."""
        return self.log_likelihood(X).mean

    @property
    def is_exact(self) -> bool:
        """Whether log p(x) and p(x_missing | x_observed) have a closed form."""
        return isinstance(self.model_, ExactModel)

    def impute(
        self,
        X: Any,
        *,
        method: Literal["weighted", "pseudo-gibbs"] = "weighted",
        return_mean: bool = True,
        n_importance_samples: int = 500,
        n_iter: int = 100,
        n_chains: int = 1,
        init: Literal["noise", "zero"] = "noise",
        batch_statistics: bool = False,
        random_state: RandomState = None,
    ) -> np.ndarray:
        """Impute missing entries by their conditional mean, or by draws; observed ones are kept.

        ``method="weighted"`` samples z from a proposal of each row and weights it by p(z)
        p(x_observed | z) / proposal(z): the result converges to E[x_missing | x_observed] under the
        model, or to draws of p(x_missing | x_observed), whatever the quality of q(z | x).
        ``method="pseudo-gibbs"`` is the procedure of the papers: z comes from q(z | x) without
        weights. A model with an exact posterior uses it with either method.

        Imputed numbers lie in the range of their column at fit. (Bytes cannot be missing and are
        returned as fractions of 255.)

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks an entry to impute.
        method : {"weighted", "pseudo-gibbs"}
            Importance-weighted latents, or chains of q(z | x) and p(x | z).
        return_mean : bool
            Impute the conditional mean (of a pseudo-Gibbs chain: E[x | z] at its last z); with
            False, a single draw per row. For categories the mean is the most probable code.
        n_importance_samples : int
            Weighted latents per row.
        n_iter : int
            Iterations of encoding, sampling z, and decoding into the missing entries. The weighted
            method starts its proposals at the results, and needs no more than about 20.
        n_chains : int
            Number of independent pseudo-Gibbs chains whose mean is returned (for categories their
            mode). The weighted method starts its proposals at this number of chains, at least 4.
        init : {"noise", "zero"}
            Initial values of missing entries: for bits uniform noise on [0, 1], for other columns
            rows sampled from the model; or zeros, as in the max-margin paper for images of
            normalised contrast.
        batch_statistics : bool
            Let batch normalisation use the mean and variance of the given rows, in batches of
            about a thousand, as the memory paper does for imputation: the result of a row then
            depends on the others. Only for ``method="pseudo-gibbs"``.
        random_state : int, RandomState, Generator or None
            Seed; by default derived from that of the fit.

        Returns
        -------
        array [n_samples, n_features]

        Raises
        ------
        ValueError
            If an argument is invalid, or ``batch_statistics`` is set for weighted latents.
        """
        self._check_fitted()
        settings = ImputationOptions(
            method, return_mean, n_importance_samples, n_iter, n_chains, init, batch_statistics
        )
        X = self._validate(X, fit=False)

        def impute_batch(batch: Batch) -> Tensor:
            return self._impute_batch(batch, settings)

        with self._seeded_rng(random_state):
            if batch_statistics:
                imputed = tabular.map_batches(self, X, impute_batch, BATCH_STATISTICS_SIZE)
            else:
                imputed = tabular.map_chunks(self, X, impute_batch)
        if X.dtype in (np.uint8, np.bool_):
            return imputed
        return np.where(np.isnan(X), imputed, X)

    def _impute_batch(self, batch: Batch, settings: ImputationOptions) -> Tensor:
        """Impute a batch; the result is in the units of the data."""
        if batch.mask is None:
            return self.columns_.to_data_units(batch.x)
        if isinstance(self.model_, ExactModel) and settings.return_mean:
            return self.columns_.to_data_units(self.model_.impute(batch))
        codes = self.columns_.column_indices("categorical")
        if settings.method == "weighted" and not isinstance(self.model_, ExactModel):
            return self._clip_to_range(self._impute_weighted(batch, settings, codes))
        chains = torch.stack(
            [self._impute_chain(batch, settings) for _ in range(settings.n_chains)]
        )
        imputed = chains.mean(0)
        imputed[:, codes] = chains[:, :, codes].mode(0).values
        if isinstance(self.model_, ExactModel):
            return self.columns_.to_data_units(imputed)
        return self._clip_to_range(imputed)

    def _impute_weighted(
        self, batch: Batch, settings: ImputationOptions, codes: list[int]
    ) -> Tensor:
        proposal = posterior_sampling.gap_proposal(
            self.model_,
            batch,
            self._initial_values(batch, settings.init),
            n_iter=settings.n_iter,
            n_chains=max(settings.n_chains, posterior_sampling.N_CHAINS),
            bounds=self._value_range(batch.x),
        )
        z, log_w = posterior_sampling.weighted_samples(
            self.model_, batch, proposal, settings.n_importance_samples
        )
        if settings.return_mean:
            return posterior_sampling.conditional_mean(
                self.model_, z, log_w, batch.y, categorical=codes
            )
        return posterior_sampling.conditional_draw(self.model_, z, log_w, batch.y)

    def _impute_chain(self, batch: Batch, settings: ImputationOptions) -> Tensor:
        assert batch.mask is not None
        if isinstance(self.model_, ExactModel):
            return self.model_.impute(batch, sample=True)
        return pseudo_gibbs(
            self.model_,
            batch.x,
            batch.mask,
            self._initial_values(batch, settings.init),
            n_iter=settings.n_iter,
            return_mean=settings.return_mean,
            bounds=self._value_range(batch.x),
        )

    def _initial_values(self, batch: Batch, init: str) -> Tensor:
        """Return initial values of missing entries in model units, [batch, d]."""
        if init == "zero":
            return self.columns_.to_model_units(torch.zeros_like(batch.x)).to(batch.x)
        if set(self.columns_.kinds) == {"bernoulli"}:
            return torch.rand_like(batch.x)
        return self.model_.sample(len(batch.x))

    def _value_range(self, like: Tensor) -> Tensor | None:
        """Return minimum and maximum of every column at fit, as the model has them, [2, d]."""
        if self.range_ is None:
            return None
        limits = torch.tensor(self.range_, dtype=torch.float64, device=self.columns_.loc.device)
        return self.columns_.to_model_units(limits).to(like)

    def _clip_to_range(self, x: Tensor) -> Tensor:
        """Convert to data units and clip to the range of each column at fit, in float64."""
        x = self.columns_.to_data_units(x)
        if self.range_ is None:
            return x
        low, high = torch.tensor(self.range_, dtype=torch.float64, device=x.device)
        low, high = low.nan_to_num(-torch.inf), high.nan_to_num(torch.inf)
        return x.double().clamp(low, high)

    def _evaluation_data(self, X: Any, binarize_seed: int) -> DeviceData:
        """Return rows as the model scores them, grey values binarised once."""
        check_field("binarize_seed", binarize_seed, int)
        return tabular.evaluation_data(self, self._validate(X, fit=False), binarize_seed)

    def _sample_batch(self, n: int, conditions: Tensor | None, mean: bool) -> Tensor:
        if conditions is None:
            return self.model_.sample(n, mean=mean)
        z = rsample_or_sample(self.model_.prior().condition_on_first(conditions))
        p = self.model_.decode(torch.cat([conditions, z], -1))
        return mean_or_mode(p) if mean else p.sample()

    def _density_model(self, variance: float | None, annealing: Annealing | None) -> LatentModel:
        if variance is not None:
            raise ValueError(
                f"variance={variance}: {type(self).__name__} has a density without added noise, "
                "leave it out"
            )
        if annealing is not None and isinstance(self.model_, ExactModel):
            raise ValueError(
                f"annealing={annealing}: log p(x) of a {type(self).__name__} is known exactly, "
                "leave it out"
            )
        return self.model_

    @property
    def _n_features_out(self) -> int:
        return sum(self._latent_sizes())

    @abstractmethod
    def _latent_sizes(self) -> tuple[int, ...]:
        """Return the widths of the stochastic layers, from the data upward."""

    if TYPE_CHECKING:  # a fitted attribute; as a plain annotation it would be a field
        model_: LatentModel
