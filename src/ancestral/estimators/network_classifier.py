"""Discriminative network classifier, the baseline of the generative classifiers."""

from __future__ import annotations

from typing import Literal

from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.data.columns import ColumnFeatures
from ancestral.estimators.base.network import RegularizedNetworkEstimator
from ancestral.estimators.base.supervised import LinearClassifierBase, make_linear_classifier
from ancestral.models.deterministic import FeatureModel
from ancestral.objectives import Objective, gaussian_weight_prior, hinge
from ancestral.training import Player
from ancestral.utils.validation import Positive, Weight


class NetworkClassifier(ClassifierMixin, LinearClassifierBase, RegularizedNetworkEstimator):
    """Dense or convolutional network with a multi-class hinge: the CNN of the max-margin tables.

    Minimises hinge + lambda / (2 N) * (squared norm of all parameters) per sample, with the hinge
    of Crammer and Singer. It has no density of the data; grey values are not binarised.

    Parameters
    ----------
    margin : float
        Cost of a wrong class in the hinge.
    weight_prior_precision : float
        lambda: precision of the Gaussian prior on every parameter.

    Attributes
    ----------
    classes_ : array [n_classes]
        Sorted class labels.
    temperature_ : float
        Divisor of the scores in ``predict_proba``, which calibrates the probabilities.

    References
    ----------
    Max-margin Deep Generative Models, https://arxiv.org/abs/1504.06787

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> settings = {"learning_rate": 5e-3, "max_epochs": 10, "random_state": 0}
    >>> NetworkClassifier(hidden=(50,), **settings).fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    margin: Positive = 1.0
    weight_prior_precision: Weight = 1.0
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        body, n = self._regularized_layers(columns.n_features)
        model = FeatureModel(
            nn.Sequential(ColumnFeatures(columns), body),
            make_linear_classifier(n, len(self.classes_)),
        )
        return {"columns_": columns, "model_": model}

    def _players(self) -> Player:
        objective: Objective = hinge(1.0, self.margin, lambda run: run.features)
        if self.weight_prior_precision > 0:
            objective = objective + gaussian_weight_prior(
                self.weight_prior_precision / self.n_rows_
            )
        return Player(self.model_, objective, self._optimizer())

    def _features(self, batch: Batch) -> Tensor:
        return self.model_.features(batch)  # type: ignore[operator]
