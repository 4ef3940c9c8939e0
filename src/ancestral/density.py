"""The scikit-learn face of explicit latent-variable models: density, sampling, imputation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from torch import Tensor

from ancestral import ais, engine, evaluate, storage, told
from ancestral.ais import Annealing, Sandwich
from ancestral.checkpoint import Checkpoint
from ancestral.classes import ClassFirst
from ancestral.conditional import Chain
from ancestral.data import Data, mix_seed
from ancestral.distributions import centre, draw
from ancestral.engine import Precision
from ancestral.evaluate import LogLikelihood
from ancestral.exact import ExactModel
from ancestral.fields import Count, Positive, RandomState, check, draw_seed
from ancestral.impute import pseudo_gibbs
from ancestral.labels import LabelLearner
from ancestral.models import LatentModel
from ancestral.rows import RowEstimator

PIECE = 10_000
"""Rows that are drawn at once."""

COMPARED = 1000
"""Rows that are compared with one another where batch normalisation uses the rows at hand."""


class LatentEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, RowEstimator, ABC
):
    """What every explicit latent-variable model can do once it is fitted.

    Parameters
    ----------
    n_evaluation_samples : int
        Importance samples per row in ``score_samples``.
    """

    n_evaluation_samples: Count = 1000

    _has_density = True

    def transform(self, X: Any) -> np.ndarray:
        """Return the posterior mean E_q[z | x] of every row, [n_samples, n_latents].

        Of several stochastic layers: the mean of the first, and of every other one given that.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """
        return self._map_rows(X, lambda batch: centre(self.model_.encode(batch)))

    def reconstruct(self, X: Any) -> np.ndarray:
        """Return E[x | z] at the posterior mean of z for every row, [n_samples, n_features].

        In the units of the training rows; bytes as fractions of 255.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        """

        def mean(batch: Any) -> Tensor:
            z = centre(self.model_.encode(batch))
            return self.columns_.to_user(centre(self.model_.decode(z)))

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
        """Estimate log p(x) of every row, by importance sampling or annealed, with its errors.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; missing entries are integrated out. For a Bernoulli likelihood, values between
            0 and 1 are binarised once (unless ``binarize="none"``).
        n_importance_samples : int, optional
            S of the bound L_S; by default ``n_evaluation_samples``. A model that knows its
            likelihood draws none.
        annealing : Annealing, optional
            Estimate by annealed importance sampling in place of L_S: slower by orders of magnitude,
            tighter where q is far from the posterior. See :meth:`sandwich`.
        binarize_seed : int
            Seeds that draw.
        precision : {"float32", "bfloat16", "auto"}
            Of matrix products; numbers to be published are float32.
        checkpoint : str, optional
            A file in which finished rows are kept meanwhile: the same call, made again after an
            interruption, goes on from there. Removed at the end.
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
        check("precision", precision, Literal["float32", "bfloat16", "auto"])
        data, seed = self._scored(X, binarize_seed), mix_seed(self.seed_, 1)
        if isinstance(self.model_, ExactModel):
            self._refuse_annealing(annealing)
            return self._in_user_units(evaluate.exact_log_likelihood(self.model_, data), data)
        how: dict[str, Any] = {"seed": seed, "progress": progress}
        if checkpoint is not None:
            what = [n, annealing and asdict(annealing), seed, precision, data.fingerprint()]
            identity = storage.digest([*what, storage.fingerprint(self.model_)])
            how["checkpoint"] = Checkpoint(checkpoint, identity=identity)
        if annealing is None:
            how["precision"] = precision
            result = evaluate.log_likelihood(self.model_, data, n, **how)
        else:
            result = told.annealed(self.model_, data, annealing, **how)
        return self._in_user_units(result, data)

    def sandwich(
        self,
        n_rows: int = 100,
        annealing: Annealing | None = None,
        *,
        random_state: RandomState = None,
        progress: bool = False,
    ) -> Sandwich:
        """Bound the log-likelihood of rows that the model draws from below and above.

        A small gap says that ``annealing`` is long enough for rows like the model's own.

        Parameters
        ----------
        n_rows : int
            How many rows to draw.
        annealing : Annealing, optional
            How; by default 1,000 distributions and 16 chains from the prior.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own.
        progress : bool
            Show a progress bar.

        Returns
        -------
        Sandwich
            ``lower`` and ``upper`` of the same rows, in nats and in the units of the training
            rows, and their ``gap``.
        """
        self._check_fitted()
        check("n_rows", n_rows, Count)
        seed = mix_seed(self.seed_, 2) if random_state is None else draw_seed(random_state)
        if isinstance(self.model_, ExactModel):
            self._refuse_annealing(annealing)
            bounds = self._exact_bounds(self.model_, n_rows, seed)
        else:
            bounds = ais.sandwich(self.model_, n_rows, annealing, seed=seed, progress=progress)
        return self._bounds_in_user_units(bounds)

    def unit_variances(self, X: Any, *, binarize_seed: int = 0) -> np.ndarray:
        """Return Var_x(E_q[z | x]) of every latent unit, [n_latents]: zero where q ignores x.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows, two or more; the paper takes 500 training images.
        binarize_seed : int
            Seeds the one binarisation of grey values.
        """
        self._check_fitted()
        data = self._scored(X, binarize_seed)
        return evaluate.unit_variances(self.model_, data, seed=mix_seed(self.seed_, 3))

    def active_units(
        self, X: Any, *, threshold: float = 0.01, binarize_seed: int = 0
    ) -> tuple[int, ...]:
        """Count the latent units the model uses, for every stochastic layer from the data upward.

        A unit is active when its :meth:`unit_variances` exceeds ``threshold`` (Burda et al., 2016).
        """
        check("threshold", threshold, Positive)
        active = self.unit_variances(X, binarize_seed=binarize_seed) > threshold
        layers = np.split(active, np.cumsum(self._latent_sizes())[:-1])
        return tuple(int(layer.sum()) for layer in layers)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-likelihood of every row in nats, [n_samples]: L_S, a lower bound.

        See :meth:`log_likelihood` for its standard errors and effective sample sizes.
        """
        return self.log_likelihood(X).values

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ARG002
        """Return the mean log-likelihood per row, in nats."""
        return self.log_likelihood(X).mean

    def sample(
        self,
        n_samples: int = 1,
        y: Any = None,
        *,
        mean: bool = False,
        random_state: RandomState = None,
    ) -> np.ndarray:
        """Draw rows from the model, [n_samples, n_features], in the units of the training rows.

        Bytes come as fractions of 255.

        Parameters
        ----------
        n_samples : int
            How many.
        y : array-like [n_samples], or a single label, optional
            Classes of the rows, for a model that draws a class first.
        mean : bool
            Return E[x | z] of the drawn z in place of a draw: what pictures of samples show.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own, so that a call can be repeated.

        Raises
        ------
        ValueError
            If a class is unknown, there are more or fewer than samples, or the model draws none.
        """
        self._check_fitted()
        check("n_samples", n_samples, Count)
        codes = None
        if y is not None:
            if not isinstance(self, LabelLearner) or not self.draws_classes_:
                raise ValueError(f"y={y!r}: {type(self).__name__} does not draw rows of a class")
            codes = self._one_hot(y, n_samples, self._device())
        with self._noise(random_state), torch.no_grad():
            parts = [
                self.columns_.to_user(self._drawn(rows, codes, mean)).cpu().numpy()
                for rows in torch.arange(n_samples).split(PIECE)
            ]
        return np.concatenate(parts)

    @property
    def is_exact(self) -> bool:
        """Whether log p(x) of the model is known in closed form, and so is what is missing."""
        return isinstance(self.model_, ExactModel)

    @property
    def draws_classes_(self) -> bool:
        """Whether a class is drawn first, so that rows of a class can be asked for."""
        prior = self.model_.prior
        return isinstance(prior.layers[0] if isinstance(prior, Chain) else prior, ClassFirst)

    def _drawn(self, rows: Tensor, codes: Tensor | None, mean: bool) -> Tensor:
        """Draw rows, of the classes that they are to have if ``codes`` says so."""
        if codes is None:
            return self.model_.sample(len(rows), mean=mean)
        y = codes[rows]
        p = self.model_.decode(torch.cat([y, draw(self.model_.prior().after(y))], -1))
        return centre(p) if mean else p.sample()

    def impute(
        self,
        X: Any,
        *,
        n_iter: int = 100,
        fill: Literal["mean", "sample"] = "mean",
        n_chains: int = 1,
        gaps: Literal["noise", "zero"] = "noise",
        batch_statistics: bool = False,
        random_state: RandomState = None,
    ) -> np.ndarray:
        """Fill in the missing entries by pseudo-Gibbs sampling; the observed ones stay as they are.

        A model that knows its posterior fills in E[x_missing | x_observed], or a draw, at once.
        Numbers are filled in within the range that their column had at fit. (Bytes, which can't be
        missing, come back as fractions of 255.)

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks what to fill in.
        n_iter : int
            Rounds of encoding, drawing z, and decoding into the gaps.
        fill : {"mean", "sample"}
            Put E[x | z] into the gaps, or a draw.
        n_chains : int
            Fill in so many times and return the mean (of codes the most frequent): one chain gives
            a plausible row, the mean of several is closer to what was there.
        gaps : {"noise", "zero"}
            What stands in the gaps at first: for bits uniform noise on [0, 1] and for anything
            else rows drawn from the model, or zeros, as the max-margin paper has them for images
            of normalised contrast.
        batch_statistics : bool
            Let batch normalisation use the mean and variance of the rows given, in batches of about
            a thousand, as the memory paper does for its imputations: a row's result then depends
            on the others.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own.

        Returns
        -------
        array [n_samples, n_features]
        """
        self._check_fitted()
        check("n_iter", n_iter, Count)
        check("fill", fill, Literal["mean", "sample"])
        check("n_chains", n_chains, Count)
        check("gaps", gaps, Literal["noise", "zero"])
        check("batch_statistics", batch_statistics, bool)
        X = self._validate(X, fit=False)

        def fill_in(batch: Any) -> Tensor:
            return self._fill(batch, n_chains, gaps, n_iter=n_iter, fill=fill)

        with self._noise(random_state):
            if batch_statistics:
                filled = self._map_together(X, fill_in, COMPARED)
            else:
                filled = self._map_validated(X, fill_in)
        if X.dtype in (np.uint8, np.bool_):
            return filled
        return np.where(np.isnan(X), filled, X)

    def _fill(self, batch: Any, n_chains: int, gaps: str, **how: Any) -> Tensor:
        if batch.mask is None:
            return self.columns_.to_user(batch.x)
        if isinstance(self.model_, ExactModel) and how["fill"] == "mean":
            return self.columns_.to_user(self.model_.fill(batch))
        chains = torch.stack([self._chain(batch, gaps, **how) for _ in range(n_chains)])
        filled, codes = chains.mean(0), self.columns_.columns_of("categorical")
        filled[:, codes] = chains[:, :, codes].mode(0).values
        return self.columns_.to_user(filled)

    def _chain(self, batch: Any, gaps: str, **how: Any) -> Tensor:
        if isinstance(self.model_, ExactModel):
            return self.model_.fill(batch, sample=True)
        if gaps == "zero":
            start = self.columns_.to_model(torch.zeros_like(batch.x)).to(batch.x)
        elif set(self.columns_.kinds) == {"bernoulli"}:
            start = torch.rand_like(batch.x)
        else:
            start = self.model_.sample(len(batch.x))
        how["within"] = self._seen(batch.x)
        return pseudo_gibbs(self.model_, batch.x, batch.mask, start, **how)

    def _seen(self, like: Tensor) -> Tensor | None:
        """Least and greatest value of every column at fit, as the model sees them, [2, d]."""
        seen = getattr(self, "range_", None)  # which models saved by earlier versions do not have
        return (
            None if seen is None else self.columns_.to_model(torch.tensor(seen).to(like)).to(like)
        )

    def _scored(self, X: Any, binarize_seed: int) -> Data:
        """Rows as the model scores them, grey values binarised once."""
        check("binarize_seed", binarize_seed, int)
        bits = self._bits(self._validate(X, fit=False), binarize_seed)
        return self._data(bits, self._device(), on_batch=self.columns_.to_model)

    def _exact_bounds(self, model: ExactModel, n_rows: int, seed: int) -> Sandwich:
        """Both bounds of drawn rows at log p(x) itself, where it is known."""
        with engine.seeded(seed, device=self._device()), torch.no_grad():
            rows = Data(model.sample(n_rows).cpu().numpy(), device=self._device())
        known = evaluate.exact_log_likelihood(model, rows)
        return Sandwich(known, known)

    def _refuse_annealing(self, annealing: Annealing | None) -> None:
        if annealing is not None:
            raise ValueError(
                f"annealing={annealing}: log p(x) of a {type(self).__name__} is known exactly, "
                "leave it out"
            )

    @property
    def _n_features_out(self) -> int:
        return sum(self._latent_sizes())

    @abstractmethod
    def _latent_sizes(self) -> tuple[int, ...]:
        """Return the widths of the parts of a latent vector: of layers, from the data upward."""

    if TYPE_CHECKING:  # a fitted attribute; as a plain annotation it would be a field
        model_: LatentModel
