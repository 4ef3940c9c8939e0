"""Semi-supervised bound of model M2 (Kingma et al., 2014), with labels for some samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.models.latent import LatentModel
from ancestral.models.run import LatentRun
from ancestral.nn import one_hot
from ancestral.objectives.base import Objective
from ancestral.probability.distributions import ChainDistribution, kl, rsample_or_sample
from ancestral.utils import distributed


@dataclass(eq=False)
class ClassRun(LatentRun):
    """Record of a forward pass at one or all classes of every sample.

    Attributes
    ----------
    kl : Tensor [n_classes, batch]
        KL(q(z | x, y) || p(z | y)), in nats.
    log_py : Tensor [n_classes, batch]
        log p(y), in nats.
    weights, log_weights : Tensor [n_classes, batch]
        Weight of each class in the bound, and its logarithm.
    """

    kl: Tensor = field(kw_only=True)
    log_py: Tensor = field(kw_only=True)
    weights: Tensor = field(kw_only=True)
    log_weights: Tensor = field(kw_only=True)


def semi_supervised_bound(alpha: float = 0.1, *, all_classes: bool = False) -> Objective:
    """Negative semi-supervised bound of model M2 and the cross-entropy of q(y | x).

    The bound of a labelled sample, on log p(x, y), is B(x, y) = E_q(z | x, y)[log p(x | y, z)]
    + log p(y) - KL(q(z | x, y) || p(z | y)). That of an unlabelled sample, on log p(x), is the
    exact sum sum_y q(y | x) B(x, y) + H(q(y | x)) (Kingma, Rezende, Mohamed and Welling, 2014,
    equations 6, 7 and 9).

    Parameters
    ----------
    alpha : float
        Weight of -log q(y | x), a mean over labelled samples (zero in a batch without labels),
        relative to the bound, a mean over all samples.
    all_classes : bool
        Whether to run the model at all classes, as unlabelled samples require, and not at the
        labels only.

    Returns
    -------
    Objective
        Terms ``reconstruction``, ``kl``, ``class_kl`` (-log p(y), minus H(q(y | x)) for unlabelled
        samples) and ``classes`` (weighted cross-entropy of the labels). The layout of the latent
        vector is that of :class:`~ancestral.probability.class_conditional.ClassThenLatent`.

    Raises
    ------
    ValueError
        At the first step, if a batch has no ``y``.
    """

    def run(model: nn.Module, batch: Batch) -> ClassRun:
        return _run_at_classes(model, batch, all_classes)

    def reconstruction(_: nn.Module, run: ClassRun) -> Tensor:
        return -(run.weights * run.log_px).sum(0).mean()

    def divergence(_: nn.Module, run: ClassRun) -> Tensor:
        return (run.weights * run.kl).sum(0).mean()

    def class_divergence(_: nn.Module, run: ClassRun) -> Tensor:
        return (run.weights * (run.log_weights - run.log_py)).sum(0).mean()

    def classes(_: nn.Module, run: ClassRun) -> Tensor:
        assert isinstance(run.q, ChainDistribution)
        labels = _labels(run.batch, run.q.sizes[0])
        # data-parallel processes divide by the mean number of labelled samples per process
        n_labelled = distributed.all_reduce_mean(labels.sum())
        losses = -(labels * _log_qy(run.q)).sum()
        return alpha * losses / torch.where(n_labelled > 0, n_labelled, 1.0)

    return Objective(
        {
            "reconstruction": reconstruction,
            "kl": divergence,
            "class_kl": class_divergence,
            "classes": classes,
        },
        run,
    )


def _run_at_classes(model: nn.Module, batch: Batch, all_classes: bool) -> ClassRun:
    """Run the model at the labels of a batch, or at all classes."""
    assert isinstance(model, LatentModel)
    q = model.encode(batch)
    assert isinstance(q, ChainDistribution)
    labels = _labels(batch, q.sizes[0])
    n, n_classes = labels.shape
    y = labels.unsqueeze(0)
    if all_classes:
        identity = torch.eye(n_classes, dtype=labels.dtype, device=labels.device)
        y = identity.unsqueeze(1).expand(n_classes, n, n_classes)
    q_z = q.condition_on_first(y)
    latent_run = model.run_at(torch.cat([y, rsample_or_sample(q_z)], -1), batch, q)
    prior = latent_run.prior
    assert isinstance(prior, ChainDistribution)
    divergence = kl(q_z, prior.condition_on_first(y))
    log_py = prior.first.log_prob(y)
    if all_classes:
        weights, log_weights = _weights(labels, q)
    else:
        weights, log_weights = torch.ones_like(y[..., 0]), torch.zeros_like(y[..., 0])
    return ClassRun(
        batch,
        q,
        prior,
        latent_run.z,
        latent_run.log_px,
        activations=latent_run.activations,
        kl=divergence,
        log_py=log_py,
        weights=weights,
        log_weights=log_weights,
    )


def _labels(batch: Batch, n_classes: int) -> Tensor:
    if batch.y is None:
        raise ValueError(
            "semi_supervised_bound needs labels: the batch has y=None; pass y, with -1 for "
            "unlabelled samples"
        )
    return one_hot(batch.y, n_classes)


def _log_qy(q: ChainDistribution) -> Tensor:
    """Return log q(y | x) of each class, [batch, n_classes]."""
    return q.first.logits  # type: ignore[attr-defined]


def _weights(labels: Tensor, q: ChainDistribution) -> tuple[Tensor, Tensor]:
    """Return the weight of each class and its logarithm, [n_classes, batch] each.

    The weights are the one-hot label of a labelled sample and q(y | x) of an unlabelled one. The
    logarithm is finite where a weight underflows to zero in single precision; for a labelled
    sample it is set to zero, its value at the label, at all classes.
    """
    is_labelled, log_qy = labels.sum(-1, keepdim=True) > 0, _log_qy(q)
    weights = torch.where(is_labelled, labels, log_qy.exp())
    return weights.T, torch.where(is_labelled, 0.0, log_qy).T
