"""Base class of estimators that generate rows: explicit latent-variable models and generators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.estimator import Estimator
from ancestral.evaluation import ais, log_likelihood
from ancestral.evaluation.ais import Annealing, BidirectionalBounds
from ancestral.models.exact import ExactModel
from ancestral.models.latent import LatentModel
from ancestral.training import engine
from ancestral.utils.hooks import hook
from ancestral.utils.random import draw_seed, mix_seed
from ancestral.utils.validation import Count, RandomState, check_field

MAX_SAMPLES = 10_000
"""Rows generated at once."""


class GenerativeEstimator(Estimator, ABC):
    """An estimator that generates rows.

    A subclass implements ``_sample_batch`` and ``_density_model``.
    """

    def sample(
        self,
        n_samples: int = 1,
        y: Any = None,
        *,
        mean: bool = False,
        random_state: RandomState = None,
    ) -> np.ndarray:
        """Generate rows, [n_samples, n_features], in the units of the training rows.

        Bytes are returned as fractions of 255.

        Parameters
        ----------
        n_samples : int
            Number of rows.
        y : array-like [n_samples], or a single label, optional
            Classes of the rows, for a class-conditional model; by default drawn from the class
            frequencies of the training rows.
        mean : bool
            Return E[x | z] of the sampled latent variables instead of a sample of x, as pictures
            of samples show. The samples of an implicit generator have no such noise and are the
            same either way.
        random_state : int, RandomState, Generator or None
            Seed; by default derived from that of the fit, so that a call can be repeated.

        Raises
        ------
        ValueError
            If a class is unknown, the number of classes is not the number of samples, or the model
            is not class-conditional.
        """
        self._check_fitted()
        check_field("n_samples", n_samples, Count)
        if y is not None and not self.is_class_conditional_:
            raise ValueError(f"y={y!r}: {type(self).__name__} does not generate rows of a class")
        with self._seeded_rng(random_state), torch.no_grad():
            conditions = self._sample_conditions(n_samples, y)
            parts = []
            for index in torch.arange(n_samples).split(MAX_SAMPLES):
                c = None if conditions is None else conditions[index]
                parts.append(
                    self.columns_.to_data_units(self._sample_batch(len(index), c, mean))
                    .cpu()
                    .numpy()
                )
        return np.concatenate(parts)

    def bidirectional_bounds(
        self,
        n_rows: int = 100,
        annealing: Annealing | None = None,
        *,
        variance: float | None = None,
        random_state: RandomState = None,
        progress: bool = False,
    ) -> BidirectionalBounds:
        """Bound the log-likelihood of generated rows from below and above.

        Bidirectional Monte Carlo (Grosse, Ghahramani and Adams, 2015): a small gap shows that
        ``annealing`` is long enough for rows like those of the model.

        Parameters
        ----------
        n_rows : int
            Number of rows to generate, of all classes in turn for a class-conditional generator.
        annealing : Annealing, optional
            Settings; by default 1,000 distributions and 16 chains from the prior.
        variance : float, optional
            Variance of Gaussian noise added to the samples of an implicit generator, as in its
            ``log_likelihood``; not for models that have a density.
        random_state : int, RandomState, Generator or None
            Seed; by default derived from that of the fit.
        progress : bool
            Show a progress bar.

        Returns
        -------
        BidirectionalBounds
            ``lower`` and ``upper`` bounds for the same rows, in nats and in the units of the
            training rows, and their ``gap``.

        Raises
        ------
        ValueError
            If ``variance`` is missing or not applicable, or ``annealing`` is not applicable.
        """
        self._check_fitted()
        model = self._density_model(variance, annealing)
        check_field("n_rows", n_rows, Count)
        seed = mix_seed(self.seed_, 2) if random_state is None else draw_seed(random_state)
        if isinstance(model, ExactModel):
            bounds = _exact_bounds(model, n_rows, seed, self._device())
        else:
            y = self._class_cycle(n_rows)
            bounds = ais.bidirectional_bounds(
                model, n_rows, annealing, y=y, seed=seed, progress=progress
            )
        volume = float(self.columns_.log_volume(None))
        return BidirectionalBounds(
            *(replace(bound, values=bound.values - volume) for bound in bounds)
        )

    @property
    @hook
    def is_class_conditional_(self) -> bool:
        """Whether rows of a given class can be generated."""
        return False

    @hook
    def _sample_conditions(self, n: int, y: Any) -> Tensor | None:  # noqa: ARG002
        """Return the conditions of n rows to generate, [n, ...], of classes ``y`` if given."""
        return None

    @hook
    def _class_cycle(self, n: int) -> Tensor | None:  # noqa: ARG002
        """Return class codes of n rows, all classes in turn, for a class-conditional generator."""
        return None

    @abstractmethod
    def _sample_batch(self, n: int, conditions: Tensor | None, mean: bool) -> Tensor:
        """Generate n rows as the model has them, [n, d]."""

    @abstractmethod
    def _density_model(self, variance: float | None, annealing: Annealing | None) -> LatentModel:
        """Return the model whose likelihood is estimated, after checking the arguments."""


def _exact_bounds(
    model: ExactModel, n_rows: int, seed: int, device: torch.device
) -> BidirectionalBounds:
    """Return log p(x) itself as both bounds."""
    with engine.seeded_rng(seed, device=device), torch.no_grad():
        rows = DeviceData(model.sample(n_rows).cpu().numpy(), device=device)
    exact = log_likelihood.exact_log_likelihood(model, rows)
    return BidirectionalBounds(exact, exact)
