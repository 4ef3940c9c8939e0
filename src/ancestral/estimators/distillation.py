"""Distillation of a Bayesian regressor into another regressor (Bayesian dark knowledge)."""

from __future__ import annotations

from abc import ABC
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.registry import load
from ancestral.utils import serialization
from ancestral.utils.validation import Count, Weight


class DistillationMixin(Estimator, ABC):
    """Mixin of regressors that can be fitted to a teacher: Bayesian dark knowledge.

    The teacher draws targets from its posterior predictive p(y | x) at inputs near the training
    data. A single network fitted to them approximates the posterior predictive (Korattikara et al.,
    2015). With ``objective="unbiased"`` it reproduces the teacher's predictive variance too.

    Parameters
    ----------
    teacher : str, optional
        Folder of a saved regressor with predictive standard deviations, such as
        :class:`~ancestral.estimators.pbp.PBP`, or of its run, fitted to the same columns. Its draws
        replace ``y``, which is then ignored.
    n_teacher_queries : int
        Number of inputs at which the teacher draws targets: training inputs, sampled with
        replacement, plus noise.
    query_noise_std : float
        Standard deviation of that noise, in units of the standard deviations of the columns.
    """

    teacher: str | None = None
    n_teacher_queries: Count = 3000
    query_noise_std: Weight = 0.05

    def _training_rows(self, X: np.ndarray, y: Any) -> tuple[np.ndarray, Any]:
        if self.teacher is None:
            return X, y
        argument = f"teacher={self.teacher!r}"
        with serialization.prefix_errors(argument):
            teacher: Any = load(serialization.model_folder(self.teacher))
        if not is_regressor(teacher):
            raise ValueError(f"{argument} holds a {type(teacher).__name__}: expected a regressor")
        if X.dtype.kind != "f":
            raise ValueError(
                f"X: {argument} adds noise to the inputs: expected floats, got {X.dtype}"
            )
        if teacher.n_features_in_ != X.shape[1]:
            raise ValueError(
                f"{argument} was fitted to {teacher.n_features_in_} columns, but X has {X.shape[1]}"
            )
        rng = np.random.default_rng([self.seed_, 7])
        inputs = X[rng.integers(0, len(X), self.n_teacher_queries)].astype(np.float64)
        inputs += self.query_noise_std * X.std(0) * rng.normal(size=inputs.shape)
        mean, std = teacher.predict(inputs, return_std=True)
        return inputs, mean + std * rng.normal(size=mean.shape)
