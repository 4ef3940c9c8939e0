"""The bound of a model whose class is observed in some rows: M2 of Kingma et al. (2014)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral import parallel
from ancestral.data import Batch
from ancestral.distributions import Ancestral, draw, kl
from ancestral.models import LatentModel, Run
from ancestral.networks import one_hot
from ancestral.objectives.base import Objective


def class_bound(alpha: float = 0.1, *, everywhere: bool = False) -> Objective:
    """Bound on log p(x, y) of labelled rows and on log p(x) of others, and log q(y | x) of labels.

    A labelled row counts with B(x, y) = E_q(z | x, y)[log p(x | y, z)] + log p(y)
    - KL(q(z | x, y) || p(z | y)), another one with sum_y q(y | x) B(x, y) + H(q(y | x)), exactly
    (Kingma, Rezende, Mohamed and Welling, 2014, equations 6, 7 and 9).

    Parameters
    ----------
    alpha : float
        Weight of -log q(y | x), a mean over labelled rows (zero in a batch without), against the
        bound, a mean over all.
    everywhere : bool
        Run at all classes, as rows without a label need; otherwise at the labels only.

    Returns
    -------
    Objective
        Terms ``reconstruction``, ``kl``, ``class_kl`` = -log p(y), less H(q(y | x)) where y is
        unknown, and ``classes``. The latent vector is laid out as
        :class:`~ancestral.classes.ClassFirst` says.
    """

    def run(model: nn.Module, batch: Batch) -> Run:
        assert isinstance(model, LatentModel)
        q = model.encode(batch)
        assert isinstance(q, Ancestral)
        known = _labels(batch, q.sizes[0])
        n, n_classes = known.shape
        given = known.unsqueeze(0)
        if everywhere:
            each = torch.eye(n_classes, dtype=known.dtype, device=known.device)
            given = each.unsqueeze(1).expand(n_classes, n, n_classes)
        q_z = q.after(given)
        found = model.run_at(torch.cat([given, draw(q_z)], -1), batch, q)
        assert isinstance(found.prior, Ancestral)
        found.taps["kl"] = kl(q_z, found.prior.after(given))
        found.taps["log_py"] = found.prior.first.log_prob(given)
        if everywhere:
            found.taps["weights"], found.taps["log_weights"] = _weights(known, q)
        else:
            found.taps["weights"] = torch.ones_like(given[..., 0])
            found.taps["log_weights"] = torch.zeros_like(given[..., 0])
        return found

    def reconstruction(_: nn.Module, run: Run) -> Tensor:
        assert run.log_px is not None
        return -(run.taps["weights"] * run.log_px).sum(0).mean()

    def divergence(_: nn.Module, run: Run) -> Tensor:
        return (run.taps["weights"] * run.taps["kl"]).sum(0).mean()

    def class_divergence(_: nn.Module, run: Run) -> Tensor:
        log_ratio = run.taps["log_weights"] - run.taps["log_py"]
        return (run.taps["weights"] * log_ratio).sum(0).mean()

    def classes(_: nn.Module, run: Run) -> Tensor:
        assert isinstance(run.q, Ancestral)
        known = _labels(run.batch, run.q.sizes[0])
        # a share of a batch divides by the mean number of labelled rows of all shares
        n_labelled = parallel.mean(known.sum())
        losses = -(known * _log_qy(run.q)).sum()
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


def _labels(batch: Batch, n_classes: int) -> Tensor:
    if batch.y is None:
        raise ValueError("the bound with classes needs labels: the batch has y=None")
    return one_hot(batch.y, n_classes)


def _log_qy(q: Ancestral) -> Tensor:
    """Log q(y | x) of every class, [batch, n_classes]."""
    return q.first.logits  # type: ignore[attr-defined]


def _weights(known: Tensor, q: Ancestral) -> tuple[Tensor, Tensor]:
    """How much each class counts, the label or q(y | x), and its logarithm; [n_classes, batch].

    The logarithm of a weight that is no more than zero in single precision is still finite; that of
    a label counts once, at the label, where it is zero.
    """
    labelled, log_qy = known.sum(-1, keepdim=True) > 0, _log_qy(q)
    weights = torch.where(labelled, known, log_qy.exp())
    return weights.T, torch.where(labelled, 0.0, log_qy).T
