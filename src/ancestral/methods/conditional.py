"""M2: the class as a latent variable, observed in labelled rows; and M1+M2, M2 of a VAE's codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral import engine
from ancestral.classes import Classes, ClassFirst, Same, equal_classes
from ancestral.conditional import Conditional, Gaussian
from ancestral.data import Batch, Data, mix_seed
from ancestral.density import LatentEstimator
from ancestral.distributions import Ancestral, centre, log_prob
from ancestral.fields import Count, Weight
from ancestral.gradients import PartlyLabelled
from ancestral.labels import ClassLearner
from ancestral.methods.deep import decoder, start_at_means
from ancestral.methods.networked import Networked
from ancestral.methods.part import part
from ancestral.models import LatentModel, Run, Stacked
from ancestral.networks import MLP
from ancestral.objectives import Objective, class_bound, log_mean_exp
from ancestral.preprocess import Features
from ancestral.train import Player

PIECE = 10
"""Latent samples a row and class that are decoded at once: few enough to stay in the cache."""

SPREAD_ROWS = 1000
"""Rows, at most, by which it is seen how far codes spread."""


class ClassConditionalVAE(
    ClassifierMixin, ClassLearner, PartlyLabelled, Networked, LatentEstimator
):
    """M2 of Kingma, Rezende, Mohamed and Welling (2014): p(y) p(z) p(x | y, z).

    Labelled rows are explained by their class, the others (label -1) by all classes, weighed by
    the network q(y | x). Densities are of x: the class is summed out by importance sampling. With
    ``codes`` it is their M1+M2: p(y) p(z) p(c | y, z) p(x | c), where p(x | c) and q(c | x) have
    learnt before.

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
    codes : str, optional
        A saved VAE of these rows (M1), or the folder of its run: what is modelled, and told by its
        class, is then a code drawn from its q(c | x), and q(y | c) and q(z | c, y) are on top. It
        becomes part of the model, saved with it.
    code_spread : float
        Of the codes only those are modelled whose E_q[c | x] has a standard deviation above this
        over 1,000 rows: with 0.1, as in the authors' code. The others, which tell nothing of rows,
        keep their prior N(0, 1). 0 models all of them.

    Attributes
    ----------
    codes_kept_ : list of int
        With ``code_spread``: which codes are modelled.
    classes_ : array [n_classes]
        The classes, sorted, as ``predict`` returns them.
    temperature_ : float
        What scores are divided by in ``predict_proba``, so that probabilities are calibrated.

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
    codes: str | None = None
    code_spread: Weight = 0.0

    def _build(self) -> dict[str, nn.Module]:
        if self.network != "dense":
            raise ValueError(f"network={self.network!r}: ClassConditionalVAE has a dense one")
        if self.code_spread > 0 and self.codes is None:
            raise ValueError(f"code_spread={self.code_spread} is for a model on codes: give codes")
        columns, widths = self._columns(), tuple(self.hidden)[::-1]
        n, sizes = columns.n_features, (len(self.classes_), self.n_latents)
        if self.codes is None:
            likelihood = decoder(columns, (sum(sizes),), widths, self._style())
            model = self._with_classes(n, likelihood, Features(columns))
        else:
            below = part(self, "codes", LatentEstimator, "a saved model with latent variables")
            if not below.model_.prior().has_rsample:
                raise ValueError(
                    f"codes={self.codes!r} has bits or a class among its latent variables, and the "
                    "model on top is of real ones: a VAE's, say"
                )
            n = sum(below._latent_sizes())
            moments: nn.Module = MLP(sum(sizes), widths, heads=(n, n), **self._style())
            look: nn.Module = nn.Identity()
            if self.code_spread > 0:
                moments, look = nn.Sequential(moments, Chosen(n)), Chosen(n)
            top = self._with_classes(n, Gaussian(moments), look)
            model = Stacked(top, below.model_, (sum(sizes), n))
        return {"columns_": columns, "model_": model}

    def _with_classes(self, n: int, likelihood: Conditional, look: nn.Module) -> LatentModel:
        """Make the model of what has n features in the eyes of ``look``."""
        sizes = n_classes, n_latents = len(self.classes_), self.n_latents
        style, widths = self._style(), tuple(self.hidden)
        label = Classes(MLP(n, widths, n_classes, **style))
        rest = Gaussian(MLP(n + n_classes, widths, heads=(n_latents, n_latents), **style))
        prior = ClassFirst(equal_classes(n_classes), Same(n_latents), sizes)
        return LatentModel(prior, likelihood, ClassFirst(label, rest, sizes, look=look))

    @property
    def _top(self) -> LatentModel:
        """The model that learns: of rows, or of codes."""
        return self.model_.top if isinstance(self.model_, Stacked) else self.model_

    def _initialise(self, data: Data) -> None:
        assert data.y is not None
        if self.codes is None:
            start_at_means(self.model_.likelihood, self.columns_, data)
        elif self.code_spread > 0:
            self._choose_codes(data)
        self.all_labelled_ = bool((data.y >= 0).all())
        shares = data.y[data.y >= 0].bincount(minlength=len(self.classes_))
        prior = self._top.prior
        assert isinstance(prior, ClassFirst)
        prior.label.logits.copy_((shares / shares.sum()).log())  # type: ignore[operator]

    def _choose_codes(self, data: Data) -> None:
        """Model those codes alone that tell rows apart."""
        evenly = torch.linspace(0, len(data) - 1, min(len(data), SPREAD_ROWS))
        seen = data.seen_as(self.columns_.to_model)
        batch = seen.take(evenly.long().to(data.device))
        on_cpu = Batch(batch.x.cpu(), mask=None if batch.mask is None else batch.mask.cpu())
        assert isinstance(self.model_, Stacked)
        with torch.no_grad():
            spread = centre(self.model_.bottom.encode(on_cpu)).std(0, correction=0)
        chosen = spread > self.code_spread
        if not chosen.any():
            raise ValueError(
                f"code_spread={self.code_spread}: no code of codes={self.codes!r} varies more, the "
                f"most by {spread.max():.3g}: take less"
            )
        self.codes_kept_ = chosen.nonzero().flatten().tolist()
        for module in self._top.modules():
            if isinstance(module, Chosen):
                module.chosen.copy_(chosen)

    def _objective(self) -> Objective:
        bound = class_bound(self.alpha, everywhere=not self.all_labelled_)
        if not self.all_labelled_:
            bound = replace(bound, n_samples=len(self.classes_))
        return bound if self.codes is None else of_codes(bound)

    def _players(self) -> Player:
        return Player(self._top, self._objective(), self._optimizer())

    def _latent_sizes(self) -> tuple[int, ...]:
        n_codes = self.model_.sizes[1:] if isinstance(self.model_, Stacked) else ()
        return len(self.classes_), self.n_latents, *n_codes

    def _learn_scores(self, data: Data) -> None:
        """Scores are the model's own."""

    def _scores(self, batch: Batch) -> Tensor:
        if isinstance(self.model_, Stacked):
            batch = Batch(centre(self.model_.bottom.encode(batch)))
        q = self._top.encode(batch)
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
            log_pz, log_px = self._top.score(given, batch)
            log_w.append(log_px + log_pz - log_prob(q_z, z))
        return log_mean_exp(torch.cat(log_w))


class Chosen(nn.Module):
    """Chosen entries of a vector, or of moments side by side; zeros in the place of the others.

    As moments, mean and log-variance, zeros are those of N(0, 1).

    Parameters
    ----------
    n : int
        Entries; all of them, until ``chosen`` [n] says otherwise.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.ones(n))
        self.chosen: Tensor

    def forward(self, u: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        """Return the same shape."""
        return u * self.chosen if isinstance(u, Tensor) else tuple(v * self.chosen for v in u)


def of_codes(objective: Objective) -> Objective:
    """Have the model on top learn by the codes of the one below, drawn afresh for every batch."""

    def run(model: nn.Module, batch: Batch) -> Run:
        assert isinstance(model, Stacked)
        return objective.run(model.top, model.codes(batch))

    return replace(objective, run=run)
