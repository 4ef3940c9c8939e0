"""Students: regressors that learn what another one, uncertain of its weights, would predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_regressor

from ancestral import storage
from ancestral.fields import Count, Weight
from ancestral.methods import load
from ancestral.rows import Taught


@dataclass(kw_only=True, eq=False, repr=False)
class Student(Taught):
    """A regressor that may learn from a teacher: Bayesian dark knowledge.

    Asked about rows near those given, the teacher draws targets from its p(y | x), all its weights
    integrated out; one network that has learnt these predicts as the whole posterior does
    (Korattikara et al., 2015). A student by ``form="unbiased"`` is as unsure as its teacher.

    Parameters
    ----------
    teacher : str, optional
        A saved regressor with a spread, a :class:`~ancestral.methods.pbp.PBP` say, or the folder of
        its run, fitted to rows of the same columns. Its draws take the place of ``y``, of which
        nothing is learnt then.
    n_questions : int
        Rows the teacher is asked about: rows given, drawn with replacement, and noise.
    question_spread : float
        Standard deviation of that noise, in those of the columns.
    """

    teacher: str | None = None
    n_questions: Count = 3000
    question_spread: Weight = 0.05

    def _asked(self, X: np.ndarray, y: Any) -> tuple[np.ndarray, Any]:
        if self.teacher is None:
            return X, y
        named = f"teacher={self.teacher!r}"
        with storage.named(named):
            teacher: Any = load(storage.model_folder(self.teacher))
        if not is_regressor(teacher):
            raise ValueError(f"{named} is of the class {type(teacher).__name__}: no regressor")
        if X.dtype.kind != "f":
            raise ValueError(f"X: {named} is asked about numbers near these: give them as floats")
        if teacher.n_features_in_ != X.shape[1]:
            raise ValueError(
                f"{named} was fitted to {teacher.n_features_in_} columns and there are {X.shape[1]}"
            )
        noise = np.random.default_rng([self.seed_, 7])
        rows = X[noise.integers(0, len(X), self.n_questions)].astype(np.float64)
        rows += self.question_spread * X.std(0) * noise.normal(size=rows.shape)
        mean, std = teacher.predict(rows, return_std=True)
        return rows, mean + std * noise.normal(size=mean.shape)

    if TYPE_CHECKING:
        seed_: int
