"""Max-margin deep generative models: a latent-variable model with a large-margin classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from sklearn.base import ClassifierMixin
from torch import Tensor
from torch.distributions import Distribution

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import DeepLatentEstimator, Layer
from ancestral.estimators.base.supervised import LinearClassifierBase, make_linear_classifier
from ancestral.estimators.pegasos import fit_linear_svm
from ancestral.models.latent import LatentModel
from ancestral.nn import (
    ActivationCollector,
    ActivationTap,
    init_normal_,
    network_output_shape,
    parse_encoder,
)
from ancestral.nn.numerics import at_least_float32
from ancestral.objectives import Objective, elbo, gaussian_weight_prior, hinge, sparsity_penalty
from ancestral.probability.distributions import mean_or_mode
from ancestral.utils.validation import Count, Positive, Weight

FEATURE_CHUNK = 1024
"""Number of samples whose features are computed at once."""


class MaxMarginVAE(ClassifierMixin, LinearClassifierBase, DeepLatentEstimator):
    """Max-margin deep generative model (Li, Zhu, Shi and Zhang, 2015): MMVA, and CMMVA on images.

    Minimises, per sample, D * (negative ELBO) + C * hinge + lambda / (2 N) * (squared norm of all
    parameters), with the hinge of Crammer and Singer on scores that are linear in features of the
    encoder. Samples with label -1 are unlabelled and enter only the bound. With ``C=0`` the model
    is the VAE of the two-stage baselines, and the joint classifier is not trained.

    Parameters
    ----------
    C : float
        C: weight of the hinge. Up to the prior, only C / D matters with Adam.
    elbo_weight : float
        D: weight of the negative ELBO.
    margin : float
        Cost of a wrong class in the hinge.
    classifier_features : {"hidden", "mean"}
        Features of the classifier: hidden units of the encoder (all layers of a dense network, the
        last one of a convolutional network), as in the authors' code and tables; or E_q[z | x], as
        in the paper's equations.
    weight_prior_precision : float
        lambda: precision of the Gaussian prior on every parameter.
    classifier : {"joint", "pegasos", "adagrad"}
        Fit of the classifier: jointly with the features, or in a second stage on the features of a
        model without a hinge (the papers' two-stage baselines), by Pegasos or by the authors'
        variant of it with AdaGrad.
    regularization : float
        lambda > 0 of the second stage.
    n_latent_samples : int
        Number of samples of z per data point and step.
    sparsity_weight : float
        Weight, per batch, of a penalty on the mean activation of the hidden units of a dense
        encoder. The authors' code uses 3; the paper does not mention the term. 0 omits it.
    init : {"glorot", "normal"}
        Initialisation of dense layers: Glorot's uniform weights and zero biases, or, as in the
        authors' code, weights from N(0, 1 / n_in) and biases from N(0, 0.01^2). In both cases the
        output layers of log-variances start at zero, and the output biases of a dense decoder at
        the means of the data.
    classifier_init_std : float
        Standard deviation of the normal initialisation of the classifier's parameters; the authors'
        convolutional models use 0.01. 0 initialises with zeros.
    n_labelled : int or "proportional"
        Number of labelled rows per batch, if some rows are unlabelled; ``"proportional"`` is their
        share of the training rows, rounded up. Supervised terms average over the labelled rows of a
        batch, so their weight does not depend on this number. Labelled rows are visited in a
        separate order; with more than their share they also count more in the bound. An epoch
        visits every row at least once.

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
    >>> settings = {"hidden": (50,), "max_epochs": 20, "learning_rate": 5e-3, "random_state": 0}
    >>> mmva = MaxMarginVAE(n_latents=5, **settings)
    >>> mmva.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    C: Weight = 15.0
    elbo_weight: Weight = 1.0
    margin: Positive = 3.0
    classifier_features: Literal["hidden", "mean"] = "hidden"
    weight_prior_precision: Weight = 1.0
    classifier: Literal["joint", "pegasos", "adagrad"] = "joint"
    regularization: Positive = 1e-4
    n_latent_samples: Count = 1
    sparsity_weight: Weight = 0.0
    init: Literal["glorot", "normal"] = "glorot"
    classifier_init_std: Weight = 0.0
    n_labelled: Count | Literal["proportional"] = "proportional"

    @property
    def _n_labelled_per_batch(self) -> int | Literal["proportional"]:
        return self.n_labelled

    def _encoder_layer(self, depth: int, width: int, layer: Layer) -> Layer:  # noqa: ARG002
        return [*layer, ActivationTap(f"feature{depth}")]

    def _extend_model(self, model: LatentModel) -> None:
        if self.init == "normal":
            init_normal_(model)
        sizes = self._n_features(), len(self.classes_)
        model.classifier = make_linear_classifier(*sizes, self.classifier_init_std)

    def _objective(self) -> Objective:
        one_layer = len(self._latent_sizes()) == 1
        bound = elbo(self.n_latent_samples, "analytic" if one_layer else "sampled")
        objective = self.elbo_weight * bound
        if self.C == 0 and self.classifier == "joint":
            raise ValueError(
                "C=0 leaves the classifier of classifier='joint' untrained: expected c > 0, or "
                "classifier='pegasos', which is fitted in a second stage"
            )
        if self.C > 0 and self.classifier == "joint":
            objective = objective + hinge(
                self.C, self.margin, lambda run: self._features_from(run.q, run.activations)
            )
        if self.sparsity_weight > 0:
            self._check_sparsity()
            objective = objective + sparsity_penalty(self.sparsity_weight)
        if self.weight_prior_precision == 0:
            return objective
        return objective + gaussian_weight_prior(self.weight_prior_precision / self.n_rows_)

    def _check_sparsity(self) -> None:
        recodes = self.columns_.needs_encoding
        if self.network != "dense" or len(self._latent_sizes()) > 1 or recodes:
            raise ValueError(
                f"sparsity_weight={self.sparsity_weight} requires network='dense', a single "
                "stochastic layer, "
                "and bernoulli or gaussian columns"
            )

    def _fit_classifier(self, data: DeviceData) -> None:
        if self.classifier == "joint":
            return
        rows = data.with_transform(self.columns_.to_model_units)
        with torch.no_grad():
            parts = [self._features(batch)[:n] for batch, n in rows.padded_chunks(FEATURE_CHUNK)]
        assert data.y is not None
        labelled = data.y >= 0
        weights = fit_linear_svm(
            torch.cat(parts)[labelled],
            data.y[labelled],
            len(self.classes_),
            rule=self.classifier,
            regularization=self.regularization,
            margin=self.margin,
            random_state=self.seed_,
        )
        with torch.no_grad():
            self._linear.weight.copy_(weights)
            self._linear.bias.zero_()

    def _features(self, batch: Batch) -> Tensor:
        activations = ActivationCollector(self.model_.posterior)
        q = self.model_.encode(batch)
        return self._features_from(q, activations.collect())

    def _features_from(self, q: Distribution, activations: Mapping[str, Tensor]) -> Tensor:
        """Return the features of a batch from its q(z | x) and the activations of the encoder."""
        if self.classifier_features == "mean":
            return mean_or_mode(q)
        names = sorted(name for name in activations if name.startswith("feature"))
        # Concatenate in float32. In the reduced precision of matrix products, the compiled step
        # writes a layer into a slice of the concatenation while other columns are uninitialised.
        # The product of the next layer (torch 2.13, with matrix units) reads past the end of a row
        # of that slice and multiplies by zero, which gives NaN if the memory holds NaN.
        return torch.cat([at_least_float32(activations[name]) for name in names], -1)

    def _n_features(self) -> int:
        if self.classifier_features == "mean":
            return sum(self._latent_sizes())
        if self.network == "dense":
            if not (hidden := self._hidden_sizes()[0]):
                raise ValueError(
                    "classifier_features='hidden' requires a hidden layer next to the data, got "
                    f"hidden={self.hidden!r}: add one, or set features='mean'"
                )
            return sum(hidden)
        return math.prod(network_output_shape(parse_encoder(self.network), self._image_maps()))
