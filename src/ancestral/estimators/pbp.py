"""Probabilistic backpropagation: regression by a Bayesian neural network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import RegressorMixin

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import Modules
from ancestral.estimators.base.supervised import RegressorBase
from ancestral.models.bayesian_mlp import BayesianMLP
from ancestral.training import iterate
from ancestral.training.checkpoint import Checkpoint
from ancestral.utils.validation import Count, RandomState, Sizes


class PBP(RegressorMixin, RegressorBase):
    """Bayesian neural network by probabilistic backpropagation (Hernandez-Lobato and Adams, 2015).

    The model is y = f(x) + noise with a ReLU network f. The posteriors of the weights are
    approximated by Gaussians, those of the precisions of weights and noise by Gamma distributions.
    Assumed-density filtering visits the samples one by one and matches the moments of the
    posterior; the factors of the prior are refined after every pass. Predictions have a mean and a
    standard deviation, which grows away from the training data. There is no learning rate, and no
    validation set is needed.

    Parameters
    ----------
    hidden : list of int
        Widths of the hidden layers.
    max_epochs : int
        Number of passes over the training data.
    likelihood : {"gaussian"}
        Features are real-valued; features and target are standardised internally.

    References
    ----------
    Probabilistic Backpropagation for Scalable Learning of Bayesian Neural Networks,
    https://arxiv.org/abs/1502.05336

    Examples
    --------
    >>> x = np.linspace(-2, 2, 40)[:, None]
    >>> y = x[:, 0] ** 2
    >>> pbp = PBP(hidden=(20,), max_epochs=20, random_state=0).fit(x, y)
    >>> near, far = pbp.predict([[0.5], [8.0]], return_std=True)[1]
    >>> pbp.score(x, y) > 0.9, bool(far > near)
    (True, True)
    """

    hidden: Sizes = (50,)
    max_epochs: Count = 40
    likelihood: Literal["gaussian"] = "gaussian"

    _supports_missing = False
    _multi_output = False

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Mean of p(y | x) for each sample, [n_samples], in the units of the target.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data.
        return_std : bool
            Whether to return a pair: the mean, and the standard deviation of p(y | x), which
            includes the noise.
        """

        def moments(batch: Batch) -> torch.Tensor:
            mean, variance = self.model_(batch.x)
            return torch.stack([mean, (variance + self.model_.noise.variance).sqrt()], -1)

        values = self._map_rows(X, moments).astype(np.float64)
        (location,), (scale,) = self.target_location_, self.target_scale_
        mean, std = values[:, 0] * scale + location, values[:, 1] * scale
        return (mean, std) if return_std else mean

    def draw(self, X: Any, *, random_state: RandomState = None) -> np.ndarray:
        """Draw y from p(y | x) for each sample, [n_samples], in the units of the target.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data.
        random_state : int, RandomState, Generator or None
            Seed; by default the seed of the fit, so that calls are reproducible.
        """
        mean, std = self.predict(X, return_std=True)
        with self._seeded_rng(random_state):
            return mean + std * torch.randn(len(mean), dtype=torch.float64).numpy()

    def _build(self) -> Modules:
        columns = self._columns()
        return {"columns_": columns, "model_": BayesianMLP(columns.n_features, self.hidden)}

    def _fit_model(self, data: DeviceData, checkpoint: Checkpoint | None) -> None:
        self.n_rows_, model = len(data), self.model_.double()
        batch = data.with_dtype(torch.float64).batch_at(torch.arange(len(data), device=data.device))
        assert batch.y is not None
        x, y = batch.x, batch.y[:, 0].double()

        def run_epoch(epoch: int) -> float:
            order = np.random.default_rng([self.seed_, epoch]).permutation(len(x))
            total = sum(model.update(x[i], y[i]) for i in order)
            model.refine_prior()
            return -total / len(x)

        self.history_ = iterate(
            model,
            run_epoch,
            max_iter=self.max_epochs,
            callbacks=self._callbacks(),
            checkpoint=checkpoint,
        )
        model.float()

    if TYPE_CHECKING:
        model_: BayesianMLP
