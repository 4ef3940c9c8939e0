"""Max-margin deep generative models: a latent model that also tells classes apart by a margin."""

from __future__ import annotations

import math
from typing import Literal

import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral.data import Batch, Data
from ancestral.distributions import centre
from ancestral.fields import Count, Positive, Weight
from ancestral.gradients import PartlyLabelled
from ancestral.labels import LinearScores, linear_scores
from ancestral.methods.deep import Modules, NetworkEstimator
from ancestral.methods.pegasos import linear_svm
from ancestral.models import Run
from ancestral.networks import Tap, Taps, parse_encoder, shape_after, start_normal
from ancestral.networks.precision import at_least_single
from ancestral.objectives import Objective, elbo, gaussian_prior, hinge, sparse_units

ROWS = 1024
"""Whose features are computed at once."""


class MaxMarginVAE(ClassifierMixin, LinearScores, PartlyLabelled, NetworkEstimator):
    """Max-margin deep generative model (Li, Zhu, Shi and Zhang, 2015): MMVA, and CMMVA on images.

    Minimises, per row, D * (negative ELBO) + C * hinge + lambda / (2 N) * (squared length of all
    parameters), where the hinge is Crammer and Singer's on scores linear in features of the
    encoder. Rows whose label is -1 are unlabelled and count in the bound only. With ``c=0`` it is
    the VAE that the two-stage baselines start from; the joint classifier then learns no class.

    Parameters
    ----------
    c : float
        C: how much the hinge counts. Only C / D matters to Adam, but for the prior.
    bound_weight : float
        D: how much the bound counts.
    margin : float
        The cost of a wrong class.
    features : {"hidden", "mean"}
        What scores are linear in: the encoder's hidden layers, all of a dense network's and the
        last of a convolutional one's, as in the authors' code and their tables, or E_q[z | x], as
        the model is written down.
    prior : float
        lambda: precision of the Gaussian prior on every parameter.
    classifier : {"joint", "pegasos", "adagrad"}
        Scores are learned with the features, or afterwards on features of a model without a
        hinge, the papers' two-stage baselines: by Pegasos, or by the authors' variant of it.
    regularization : float
        lambda of a second stage.
    n_latent_samples : int
        Draws of z per row and step.
    sparsity : float
        Weight, a batch, of keeping the hidden units of a dense encoder inactive most of the time,
        as the authors' code does with 3 and their paper does not say. 0 for none.
    dense_start : {"glorot", "normal"}
        Where dense layers of the networks start: Glorot's uniform weights and biases of zero, or as
        in the authors' code weights from N(0, 1 / n_in) and biases from N(0, 0.01^2). Read-outs of
        log-variances start at zero either way, and the output biases of a dense decoder at the
        means of the data.
    classifier_scale : float
        Standard deviation with which the classifier's parameters start, around zero: nothing by
        default, 0.01 in the authors' convolutional models.

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
    >>> how = {"hidden": (50,), "max_epochs": 20, "learning_rate": 5e-3, "random_state": 0}
    >>> mmva = MaxMarginVAE(n_latents=5, **how)
    >>> mmva.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    c: Weight = 15.0
    bound_weight: Weight = 1.0
    margin: Positive = 3.0
    features: Literal["hidden", "mean"] = "hidden"
    prior: Weight = 1.0
    classifier: Literal["joint", "pegasos", "adagrad"] = "joint"
    regularization: Positive = 1e-4
    n_latent_samples: Count = 1
    sparsity: Weight = 0.0
    dense_start: Literal["glorot", "normal"] = "glorot"
    classifier_scale: Weight = 0.0

    def _build(self) -> Modules:
        def furnish(depth: int, _: int, layer: list[nn.Module]) -> list[nn.Module]:
            return [*layer, Tap(f"feature{depth}")]

        found = self._networks(up=furnish)
        if self.dense_start == "normal":
            start_normal(found["model_"])
        sizes = self._n_features(), len(self.classes_)
        found["model_"].classifier = linear_scores(*sizes, self.classifier_scale)
        return found

    def _objective(self) -> Objective:
        one_layer = len(self._latent_sizes()) == 1
        bound = elbo(self.n_latent_samples, "analytic" if one_layer else "sampled")
        found = self.bound_weight * bound
        if self.c == 0 and self.classifier == "joint":
            raise ValueError(
                "c=0 leaves the classifier of classifier='joint' untrained: expected c > 0, or "
                "classifier='pegasos', which learns it afterwards"
            )
        if self.c > 0 and self.classifier == "joint":
            found = found + hinge(self.c, self.margin, self._features_in)
        if self.sparsity > 0:
            self._check_sparse()
            found = found + sparse_units(self.sparsity)
        return found if self.prior == 0 else found + gaussian_prior(self.prior / self.n_rows_)

    def _check_sparse(self) -> None:
        recoded = self.columns_.recodes
        if self.network != "dense" or len(self._latent_sizes()) > 1 or recoded:
            raise ValueError(
                f"sparsity={self.sparsity} is for dense networks with one layer of latent "
                "variables, on bits or real values"
            )

    def _learn_scores(self, data: Data) -> None:
        if self.classifier == "joint":
            return
        rows = data.seen_as(self.columns_.to_model)
        with torch.no_grad():
            parts = [self._features(batch)[:n] for batch, n in rows.chunks(ROWS)]
        assert data.y is not None
        labelled = data.y >= 0
        learned = linear_svm(
            torch.cat(parts)[labelled],
            data.y[labelled],
            len(self.classes_),
            rule=self.classifier,
            regularization=self.regularization,
            margin=self.margin,
            random_state=self.seed_,
        )
        with torch.no_grad():
            self._linear.weight.copy_(learned)
            self._linear.bias.zero_()

    def _features(self, batch: Batch) -> Tensor:
        taps = Taps(self.model_.posterior)
        q = self.model_.encode(batch)
        return self._features_in(Run(batch, q, taps=taps.take()))

    def _features_in(self, run: Run) -> Tensor:
        if self.features == "mean":
            assert run.q is not None
            return centre(run.q)
        names = sorted(name for name in run.taps if name.startswith("feature"))
        # in single precision: side by side in that of products, a layer would lie among columns
        # not written yet when the next layer's product reads it, and torch 2.13's reads, times
        # zero, beyond the end of a row where there are matrix units: nan, if that is what is there
        return torch.cat([at_least_single(run.taps[name]) for name in names], -1)

    def _n_features(self) -> int:
        if self.features == "mean":
            return sum(self._latent_sizes())
        if self.network == "dense":
            if not (hidden := self._hidden_sizes()[0]):
                raise ValueError(
                    f"features='hidden' and hidden={self.hidden!r} has no layer next to the data: "
                    "give one, or features='mean'"
                )
            return sum(hidden)
        return math.prod(shape_after(parse_encoder(self.network), self._maps()))
