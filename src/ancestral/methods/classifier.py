"""A network that only tells classes apart: what generative classifiers are compared with."""

from __future__ import annotations

from typing import Literal

from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral.data import Batch, Data
from ancestral.fields import Positive, Weight
from ancestral.labels import LinearScores, linear_scores
from ancestral.methods.networked import Disturbed
from ancestral.models import FeatureModel
from ancestral.objectives import Objective, gaussian_prior, hinge
from ancestral.preprocess import Features
from ancestral.train import Player


class NetworkClassifier(ClassifierMixin, LinearScores, Disturbed):
    """Dense or convolutional network with a multi-class hinge: the CNN of the max-margin tables.

    Minimises hinge + lambda / (2 N) * (squared length of all parameters) per row, with the hinge
    of Crammer and Singer. It has no model of its rows: grey values stay as they are.

    Parameters
    ----------
    margin : float
        The cost of a wrong class.
    prior : float
        lambda: precision of the Gaussian prior on every parameter.

    Attributes
    ----------
    classes_ : array [n_classes]
        The classes, sorted, as ``predict`` returns them.
    temperature_ : float
        What scores are divided by in ``predict_proba``, so that probabilities are calibrated.

    References
    ----------
    Max-margin Deep Generative Models, https://arxiv.org/abs/1504.06787

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> how = {"learning_rate": 5e-3, "max_epochs": 10, "random_state": 0}
    >>> NetworkClassifier(hidden=(50,), **how).fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    margin: Positive = 1.0
    prior: Weight = 1.0
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        body, n = self._disturbed(columns.n_features)
        model = FeatureModel(
            nn.Sequential(Features(columns), body), linear_scores(n, len(self.classes_))
        )
        return {"columns_": columns, "model_": model}

    def _initialise(self, data: Data) -> None:
        """Nothing is known before training."""

    def _players(self) -> Player:
        objective: Objective = hinge(1.0, self.margin, lambda run: run.taps["features"])
        if self.prior > 0:
            objective = objective + gaussian_prior(self.prior / self.n_rows_)
        return Player(self.model_, objective, self._optimizer())

    def _learn_scores(self, data: Data) -> None:
        """Scores are learned with the network."""

    def _features(self, batch: Batch) -> Tensor:
        return self.model_.features(batch)  # type: ignore[operator]
