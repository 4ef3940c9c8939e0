"""Fill in what is missing: pseudo-Gibbs sampling."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ancestral.data import Batch
from ancestral.distributions import centre, draw
from ancestral.models import LatentModel


@torch.no_grad()
def pseudo_gibbs(
    model: LatentModel,
    x: Float[Tensor, "batch d"],
    mask: Float[Tensor, "batch d"],
    start: Float[Tensor, "batch d"],
    *,
    n_iter: int = 100,
    fill: Literal["mean", "sample"] = "mean",
    y: Tensor | None = None,
    within: Float[Tensor, "2 d"] | None = None,
) -> Float[Tensor, "batch d"]:
    """Alternate z ~ q(z | x) and x_missing given z (Rezende, Mohamed and Wierstra, 2014, app. F).

    Parameters
    ----------
    model : LatentModel
        In evaluation mode.
    x, mask : Tensor [batch, d]
        Rows and what of them is observed (1) or missing (0).
    start : Tensor [batch, d]
        What the missing entries are at first.
    n_iter : int
        Rounds.
    fill : {"mean", "sample"}
        Put E[x | z] where something is missing, as the papers do, or a draw from p(x | z): only
        then can the chain have the conditional distribution for its stationary law.
    y : Tensor [batch], optional
        Labels, for a model that sees them.
    within : Tensor [2, d], optional
        Least and greatest value of every entry: what would be filled in beyond is held there. A
        model that exaggerates what it has hardly learnt can't carry the rounds away then.

    Returns
    -------
    Tensor [batch, d]
        The rows after the last round; observed entries are untouched. Noise comes from torch's
        current stream.
    """
    observed = mask > 0
    filled = torch.where(observed, x, start)
    for _ in range(n_iter):
        p = model.decode(draw(model.encode(Batch(filled, y))), y)
        guess = centre(p) if fill == "mean" else p.sample()
        guess = guess if within is None else guess.clamp(*within)
        filled = torch.where(observed, x, guess)
    return filled
