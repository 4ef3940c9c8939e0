"""Local reconstruction error between corresponding encoder and decoder layers.

Li, Zhu and Zhang (2016) add it to the bound, so that a decoder layer with a memory recovers the
details that the corresponding encoder layer removes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ancestral.models.run import Run
from ancestral.nn import standardise
from ancestral.objectives.base import Objective, Term

LayerPair = tuple[str, str, float]
"""Names of the encoder and decoder activations, and weight lambda of their error."""


def local_reconstruction(pairs: Sequence[LayerPair]) -> Objective:
    """Weighted local reconstruction error sum_l lambda_l R_l (Li, Zhu and Zhang, 2016).

    R_l is the mean over units and samples of (n_enc - n_dec)^2. Both signals are normalised over
    the batch, without scale and shift: n_enc [batch, n] is the encoder layer before its
    activation; n_dec is the output of the decoder layer [k, batch, n], averaged over the k latent
    samples after normalisation. For k = 1, R = 2 (1 - correlation). Gradients flow into both.

    Parameters
    ----------
    pairs : sequence of (str, str, float)
        Encoder tap, decoder tap and lambda >= 0 of each layer; pairs with lambda = 0 are ignored.

    Returns
    -------
    Objective
        Term ``local``; no terms if every lambda is 0.

    Examples
    --------
    >>> list(local_reconstruction([("encoder_signal", "decoder_signal", 0.1)]).terms)
    ['local']
    """
    active = [pair for pair in pairs if pair[2] > 0]
    terms: dict[str, Term] = {"local": lambda _, run: _weighted_error(run, active)}
    return Objective(terms if active else {})


def _weighted_error(run: Run, pairs: Sequence[LayerPair]) -> Tensor:
    errors = [
        weight * local_error(run.activations[encoder], run.activations[decoder])
        for encoder, decoder, weight in pairs
    ]
    return sum(errors[1:], errors[0])


def local_error(encoder_signal: Tensor, decoder_signal: Tensor) -> Tensor:
    """Mean squared error of two batch-normalised signals, a scalar.

    Parameters
    ----------
    encoder_signal : Tensor [batch, n]
        Signal of an encoder layer.
    decoder_signal : Tensor [k, batch, n] or [batch, n]
        Signal of the corresponding decoder layer; averaged over k after normalisation.

    Examples
    --------
    >>> import torch
    >>> u = torch.randn(100, 3)
    >>> local_error(u, 5 * u + 1) < 1e-9
    tensor(True)
    """
    reconstruction = standardise(decoder_signal, average=decoder_signal.ndim > encoder_signal.ndim)
    return nn.functional.mse_loss(reconstruction, standardise(encoder_signal))
