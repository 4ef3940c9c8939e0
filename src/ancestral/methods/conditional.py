"""M2: a deep generative model with the class as a latent variable, observed in labelled rows."""

from __future__ import annotations

from typing import Literal

import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral import engine
from ancestral.classes import Classes, ClassFirst, Same, equal_classes
from ancestral.conditional import Gaussian
from ancestral.data import Batch, Data, mix_seed
from ancestral.density import LatentEstimator
from ancestral.distributions import Ancestral, log_prob
from ancestral.fields import Count, Weight
from ancestral.labels import ClassLearner
from ancestral.methods.deep import decoder, start_at_means
from ancestral.methods.networked import Networked
from ancestral.models import LatentModel
from ancestral.networks import MLP
from ancestral.objectives import Objective, class_bound, log_mean_exp
from ancestral.preprocess import Features
from ancestral.train import Player

PIECE = 50
"""Latent samples a row and class that are decoded at once."""


class ClassConditionalVAE(ClassifierMixin, ClassLearner, Networked, LatentEstimator):
    """M2 of Kingma, Rezende, Mohamed and Welling (2014): p(y) p(z) p(x | y, z).

    Labelled rows are explained by their class, the others (label -1) by all classes, weighed by
    the network q(y | x). Densities are of x: the class is summed out by importance sampling. On
    the codes of another model in place of pixels it is in the manner of their M1+M2.

    Parameters
    ----------
    n_latents : int
        Width of z.
    alpha : float
        How much -log q(y | x) of the labels counts beside the bound.
    decision : {"likelihood", "network"}
        A row's class is the one of the greatest log p(x, y), estimated by importance sampling from
        q(z | x, y), or of the greatest q(y | x).
    n_decision_samples : int
        Samples a class in that estimate.

    Attributes
    ----------
    classes_ : array [n_classes]
        What ``predict`` answers.
    temperature_ : float
        Of ``predict_proba``.

    References
    ----------
    Semi-supervised Learning with Deep Generative Models, https://arxiv.org/abs/1406.5298

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> how = {"hidden": (50,), "max_epochs": 20, "learning_rate": 5e-3, "random_state": 0}
    >>> m2 = ClassConditionalVAE(n_latents=5, n_decision_samples=10, **how).fit(X / 16, y)
    >>> m2.score(X / 16, y) > 0.9, m2.sample(2, y=7).shape
    (True, (2, 64))
    """

    n_latents: Count = 50
    alpha: Weight = 0.1
    decision: Literal["likelihood", "network"] = "likelihood"
    n_decision_samples: Count = 100

    def _build(self) -> dict[str, nn.Module]:
        if self.network != "dense":
            raise ValueError(f"network={self.network!r}: ClassConditionalVAE has a dense one")
        columns, style, widths = self._columns(), self._style(), tuple(self.hidden)
        sizes = n_classes, n_latents = self._latent_sizes()
        n = columns.n_features
        label = Classes(MLP(n, widths, n_classes, **style))
        rest = Gaussian(MLP(n + n_classes, widths, heads=(n_latents, n_latents), **style))
        model = LatentModel(
            prior=ClassFirst(equal_classes(n_classes), Same(n_latents), sizes),
            likelihood=decoder(columns, (sum(sizes),), widths[::-1], style),
            posterior=ClassFirst(label, rest, sizes, look=Features(columns)),
        )
        return {"columns_": columns, "model_": model}

    def _initialise(self, data: Data) -> None:
        assert data.y is not None
        start_at_means(self.model_.likelihood, self.columns_, data)
        self.all_labelled_ = bool((data.y >= 0).all())
        shares = data.y[data.y >= 0].bincount(minlength=len(self.classes_))
        prior = self.model_.prior
        assert isinstance(prior, ClassFirst)
        prior.label.logits.copy_((shares / shares.sum()).log())  # type: ignore[operator]

    def _objective(self) -> Objective:
        return class_bound(self.alpha, everywhere=not self.all_labelled_)

    def _players(self) -> Player:
        return Player(self.model_, self._objective(), self._optimizer())

    def _latent_sizes(self) -> tuple[int, ...]:
        return len(self.classes_), self.n_latents

    def _learn_scores(self, data: Data) -> None:
        """Scores are the model's own."""

    def _scores(self, batch: Batch) -> Tensor:
        q = self.model_.encode(batch)
        assert isinstance(q, Ancestral)
        log_qy = q.first.logits  # type: ignore[attr-defined]
        if self.decision == "network":
            return log_qy
        with engine.seeded(mix_seed(self.seed_, 4), device=batch.x.device):
            shape = (self.n_decision_samples, 1, self.n_latents)
            noise = torch.randn(shape, device=batch.x.device)  # the same for all rows and classes
        each = torch.eye(len(self.classes_), device=batch.x.device)
        joint = [self._log_joint(batch, q, y.expand(len(batch.x), -1), noise) for y in each]
        return torch.stack(joint, -1)

    def _log_joint(self, batch: Batch, q: Ancestral, y: Tensor, noise: Tensor) -> Tensor:
        """Log p(x, y) at one class of every row [batch, n_classes]; [batch]."""
        q_z = q.after(y)
        log_w = []
        for piece in noise.split(PIECE):
            z = q_z.mean + q_z.stddev * piece
            given = torch.cat([y.expand(len(piece), *y.shape), z], -1)
            log_pz, log_px = self.model_.score(given, batch)
            log_w.append(log_px + log_pz - log_prob(q_z, z))
        return log_mean_exp(torch.cat(log_w))
