"""Semi-supervised VAE with a latent class (M2), and the same on the codes of a VAE (M1+M2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.data.columns import ColumnFeatures
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import decoder, init_output_bias
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.network import NetworkEstimator
from ancestral.estimators.base.supervised import ClassifierBase, one_hot_classes
from ancestral.estimators.submodel import load_submodel
from ancestral.models.latent import LatentModel
from ancestral.models.run import Run
from ancestral.models.stacked import StackedLatentModel
from ancestral.nn import MLP
from ancestral.objectives import Objective, log_mean_exp, semi_supervised_bound
from ancestral.probability.class_conditional import (
    ClassThenLatent,
    OneHotConditional,
    StandardNormalLike,
    uniform_classes,
)
from ancestral.probability.conditionals import Conditional, Gaussian
from ancestral.probability.distributions import ChainDistribution, log_prob, mean_or_mode
from ancestral.training import Player, engine
from ancestral.utils.random import mix_seed
from ancestral.utils.validation import Count, Weight

LATENT_CHUNK = 10
"""Latent samples per data point and class that are decoded at once; they fit in the CPU cache."""

MAX_STD_SAMPLES = 1000
"""Maximum number of samples from which the standard deviations of the codes are estimated."""


class ClassConditionalVAE(ClassifierMixin, ClassifierBase, NetworkEstimator, LatentEstimator):
    """Semi-supervised VAE with a latent class: M2 of Kingma, Rezende, Mohamed and Welling (2014).

    The joint distribution is p(y) p(z) p(x | y, z). The bound of a labelled sample is conditioned
    on its class; that of an unlabelled sample (label -1) sums over all classes, weighted by q(y |
    x). Likelihoods are those of x: the class is summed out by importance sampling. With
    ``base_model`` the model is M1+M2, p(y) p(z) p(c | y, z) p(x | c), where p(x | c) and q(c | x)
    are fitted beforehand.

    Parameters
    ----------
    n_latents : int
        Dimension of z.
    alpha : float
        Weight of -log q(y | x) at the labels, relative to the bound.
    decision_rule : {"likelihood", "network"}
        Decision rule: the class of the largest log p(x, y), estimated by importance sampling from
        q(z | x, y), or of the largest q(y | x).
    n_decision_samples : int
        Number of importance samples per class in that estimate.
    base_model : str, optional
        Folder of a saved VAE of the same data (M1), or of its run. The class-conditional model then
        describes codes c drawn from its q(c | x), with q(y | c) and q(z | c, y) on top. The VAE
        becomes part of the model and is saved with it.
    min_code_std : float
        Minimum standard deviation of E_q[c | x], over at most 1,000 samples, of a code that is
        modelled; the authors' code uses 0.1. The other codes carry no information about x and keep
        their prior N(0, 1). 0 models all codes.
    n_labelled : int or "proportional"
        Number of labelled rows per batch, if some rows are unlabelled; ``"proportional"`` is their
        share of the training rows, rounded up. Supervised terms average over the labelled rows of a
        batch, so their weight does not depend on this number. Labelled rows are visited in a
        separate order; with more than their share they also count more in the bound. An epoch
        visits every row at least once.

    Attributes
    ----------
    active_codes_ : list of int
        Indices of the modelled codes, with ``min_code_std``.
    classes_ : array [n_classes]
        Sorted class labels.
    temperature_ : float
        Divisor of the scores in ``predict_proba``, which calibrates the probabilities.

    References
    ----------
    Semi-supervised Learning with Deep Generative Models, https://arxiv.org/abs/1406.5298

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> settings = {"hidden": (50,), "max_epochs": 20, "learning_rate": 5e-3, "random_state": 0}
    >>> m2 = ClassConditionalVAE(n_latents=5, n_decision_samples=10, **settings).fit(X / 16, y)
    >>> m2.score(X / 16, y) > 0.9, m2.sample(2, y=7).shape
    (True, (2, 64))
    """

    n_latents: Count = 50
    alpha: Weight = 0.1
    decision_rule: Literal["likelihood", "network"] = "likelihood"
    n_decision_samples: Count = 100
    base_model: str | None = None
    min_code_std: Weight = 0.0
    n_labelled: Count | Literal["proportional"] = "proportional"

    @property
    def is_class_conditional_(self) -> bool:
        """Whether rows of a given class can be generated."""
        return True

    @property
    def _n_labelled_per_batch(self) -> int | Literal["proportional"]:
        return self.n_labelled

    def _sample_conditions(self, n: int, y: Any) -> Tensor | None:
        return None if y is None else one_hot_classes(y, n, self.classes_, self._device())

    def _build(self) -> dict[str, nn.Module]:
        if self.network != "dense":
            raise ValueError(
                f"network={self.network!r}: ClassConditionalVAE supports only network='dense'"
            )
        if self.min_code_std > 0 and self.base_model is None:
            raise ValueError(
                f"min_code_std={self.min_code_std} requires codes: give the folder of a saved VAE"
            )
        columns, widths = self._columns(), tuple(self.hidden)[::-1]
        n, sizes = columns.n_features, (len(self.classes_), self.n_latents)
        if self.base_model is None:
            likelihood = decoder(columns, (sum(sizes),), widths, self._layer_options())
            model = self._make_class_model(n, likelihood, ColumnFeatures(columns))
        else:
            base = load_submodel(
                self, "base_model", LatentEstimator, "a saved model with latent variables"
            )
            if not base.model_.prior().has_rsample:
                raise ValueError(
                    f"base_model={self.base_model!r} has discrete latent variables: expected a "
                    "model with "
                    "continuous ones, such as a VAE"
                )
            n = sum(base._latent_sizes())
            moments: nn.Module = MLP(sum(sizes), widths, heads=(n, n), **self._layer_options())
            encoder: nn.Module = nn.Identity()
            if self.min_code_std > 0:
                moments, encoder = nn.Sequential(moments, MaskEntries(n)), MaskEntries(n)
            top = self._make_class_model(n, Gaussian(moments), encoder)
            model = StackedLatentModel(top, base.model_, (sum(sizes), n))
        return {"columns_": columns, "model_": model}

    def _make_class_model(self, n: int, likelihood: Conditional, encoder: nn.Module) -> LatentModel:
        """Build the class-conditional model; its encoder reads n features of the input."""
        sizes = n_classes, n_latents = len(self.classes_), self.n_latents
        style, widths = self._layer_options(), tuple(self.hidden)
        q_y = OneHotConditional(MLP(n, widths, n_classes, **style))
        q_z = Gaussian(MLP(n + n_classes, widths, heads=(n_latents, n_latents), **style))
        prior = ClassThenLatent(uniform_classes(n_classes), StandardNormalLike(n_latents), sizes)
        return LatentModel(prior, likelihood, ClassThenLatent(q_y, q_z, sizes, encoder=encoder))

    @property
    def _class_model(self) -> LatentModel:
        """Class-conditional model, of the data or of the codes: the part that is trained."""
        return self.model_.top if isinstance(self.model_, StackedLatentModel) else self.model_

    def _init_parameters(self, data: DeviceData) -> None:
        assert data.y is not None
        if self.base_model is None:
            init_output_bias(self.model_.likelihood, self.columns_, data)
        elif self.min_code_std > 0:
            self._select_active_codes(data)
        self.all_labelled_ = bool((data.y >= 0).all())
        shares = data.y[data.y >= 0].bincount(minlength=len(self.classes_))
        prior = self._class_model.prior
        assert isinstance(prior, ClassThenLatent)
        prior.label.logits.copy_((shares / shares.sum()).log())  # type: ignore[operator]

    def _select_active_codes(self, data: DeviceData) -> None:
        """Select the codes whose posterior means vary between samples."""
        index = torch.linspace(0, len(data) - 1, min(len(data), MAX_STD_SAMPLES))
        rows = data.with_transform(self.columns_.to_model_units)
        batch = rows.batch_at(index.long().to(data.device))
        cpu_batch = Batch(batch.x.cpu(), mask=None if batch.mask is None else batch.mask.cpu())
        assert isinstance(self.model_, StackedLatentModel)
        with torch.no_grad():
            std = mean_or_mode(self.model_.bottom.encode(cpu_batch)).std(0, correction=0)
        selection = std > self.min_code_std
        if not selection.any():
            raise ValueError(
                f"min_code_std={self.min_code_std} exceeds the standard deviation of every code of "
                f"base_model={self.base_model!r} (largest: {std.max():.3g}): decrease min_code_std"
            )
        self.active_codes_ = selection.nonzero().flatten().tolist()
        for module in self._class_model.modules():
            if isinstance(module, MaskEntries):
                module.mask.copy_(selection)

    def _objective(self) -> Objective:
        bound = semi_supervised_bound(self.alpha, all_classes=not self.all_labelled_)
        if not self.all_labelled_:
            bound = replace(bound, n_samples=len(self.classes_))
        return bound if self.base_model is None else objective_on_codes(bound)

    def _players(self) -> Player:
        return Player(self._class_model, self._objective(), self._optimizer())

    def _latent_sizes(self) -> tuple[int, ...]:
        n_codes = self.model_.sizes[1:] if isinstance(self.model_, StackedLatentModel) else ()
        return len(self.classes_), self.n_latents, *n_codes

    def _scores(self, batch: Batch) -> Tensor:
        if isinstance(self.model_, StackedLatentModel):
            batch = Batch(mean_or_mode(self.model_.bottom.encode(batch)))
        q = self._class_model.encode(batch)
        assert isinstance(q, ChainDistribution)
        log_qy = q.first.logits  # type: ignore[attr-defined]
        if self.decision_rule == "network":
            return log_qy
        with engine.seeded_rng(mix_seed(self.seed_, 4), device=batch.x.device):
            shape = (self.n_decision_samples, 1, self.n_latents)
            noise = torch.randn(shape, device=batch.x.device)  # shared by all rows and classes
        classes = torch.eye(len(self.classes_), device=batch.x.device)
        log_pxy = [self._log_joint(batch, q, y.expand(len(batch.x), -1), noise) for y in classes]
        return torch.stack(log_pxy, -1)

    def _log_joint(self, batch: Batch, q: ChainDistribution, y: Tensor, noise: Tensor) -> Tensor:
        """Estimate log p(x, y) [batch] at one-hot classes y [batch, n_classes]."""
        q_z = q.condition_on_first(y)
        log_w = []
        for chunk in noise.split(LATENT_CHUNK):
            z = q_z.mean + q_z.stddev * chunk
            latent = torch.cat([y.expand(len(chunk), *y.shape), z], -1)
            log_pz, log_px = self._class_model.score(latent, batch)
            log_w.append(log_px + log_pz - log_prob(q_z, z))
        return log_mean_exp(torch.cat(log_w))


class MaskEntries(nn.Module):
    """Mask that replaces unselected entries of a vector, or of a tuple of moments, by zeros.

    As mean and log-variance, zeros are the moments of N(0, 1).

    Parameters
    ----------
    n : int
        Number of entries. All are selected until the buffer ``mask`` [n] is set.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(n))
        self.mask: Tensor

    def forward(self, u: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Return the masked input, of the same shape."""
        return u * self.mask if isinstance(u, Tensor) else tuple(v * self.mask for v in u)


def objective_on_codes(objective: Objective) -> Objective:
    """Return the objective of the top model on codes, sampled from q(c | x) for every batch."""

    def run(model: nn.Module, batch: Batch) -> Run:
        assert isinstance(model, StackedLatentModel)
        return objective.run(model.top, model.codes(batch))

    return replace(objective, run=run)
