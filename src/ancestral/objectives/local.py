"""The local reconstruction error: does the decoder rebuild, layer by layer, what the encoder saw.

Li, Zhu and Zhang (2016) add it to the bound, so that a decoder layer with a memory puts back the
details that the encoder layer beside it took away.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ancestral.models import Run
from ancestral.networks import standardise
from ancestral.objectives.base import Objective, Term

Pair = tuple[str, str, float]
"""Names of the tap in the encoder and of the one in the decoder, and the weight of their error."""


def local_reconstruction(pairs: Sequence[Pair]) -> Objective:
    """sum_l lambda_l R_l, R_l the mean over units and rows of (n_enc - n_dec)^2.

    Both signals are normalised over the batch, without scale or shift: n_enc [batch, n] from the
    encoder layer before its activation, n_dec from the decoder layer's output [k, batch, n], then
    averaged over the k latent samples. For k = 1, R = 2 (1 - correlation). Gradients flow into
    both.

    Parameters
    ----------
    pairs : sequence of (str, str, float)
        For every layer the two taps and lambda; those with lambda = 0 are left out.

    Returns
    -------
    Objective
        Term ``local``; no term at all if every lambda is 0.

    Examples
    --------
    >>> list(local_reconstruction([("up", "down", 0.1)]).terms)
    ['local']
    """
    counted = [pair for pair in pairs if pair[2] > 0]
    terms: dict[str, Term] = {"local": lambda _, run: _weighted_error(run, counted)}
    return Objective(terms if counted else {})


def _weighted_error(run: Run, pairs: Sequence[Pair]) -> Tensor:
    errors = [w * local_error(run.taps[up], run.taps[down]) for up, down, w in pairs]
    return sum(errors[1:], errors[0])


def local_error(up: Tensor, down: Tensor) -> Tensor:
    """R of an encoder's signal [batch, n] and a decoder's [k, batch, n] or [batch, n]; a scalar.

    >>> import torch
    >>> u = torch.randn(100, 3)
    >>> local_error(u, 5 * u + 1) < 1e-9
    tensor(True)
    """
    rebuilt = standardise(down, average=down.ndim > up.ndim)
    return nn.functional.mse_loss(rebuilt, standardise(up))
