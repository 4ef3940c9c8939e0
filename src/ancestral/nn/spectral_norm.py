"""Normalisation of layers by the spectral norm of their weights (Miyato et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.nn.convolution import Conv
from ancestral.nn.numerics import at_least_float32


class SpectralNorm(nn.Module):
    """Dense layer or convolution with its weights divided by their largest singular value.

    The weights of a convolution are treated as a matrix [n_out, n_in * pixels]. In training each
    call makes one step of power iteration; its vector ``u`` is a buffer that persists between
    calls and is saved with the model.

    Parameters
    ----------
    layer : Linear or Conv
        Dense layer or convolution to normalise; its bias is not normalised.

    References
    ----------
    Miyato, Kataoka, Koyama and Yoshida, 2018, https://arxiv.org/abs/1802.05957

    Examples
    --------
    >>> layer = SpectralNorm(nn.Linear(3, 2))
    >>> for _ in range(50):
    ...     _ = layer(torch.zeros(1, 3))
    >>> torch.linalg.matrix_norm(layer.weight, 2).allclose(torch.ones(1))
    True
    """

    def __init__(self, layer: nn.Linear | Conv) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("u", _normalize(torch.randn(len(layer.weight))))
        self.u: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the layer with normalised weights."""
        out = self.layer(x)
        bias = self.layer.bias.view(-1, *[1] * (out.ndim - 2))
        return (out - bias) / self._spectral_norm().to(out.dtype) + bias

    @property
    def weight(self) -> Tensor:
        """Normalised weights, in the shape of ``layer.weight``."""
        return self.layer.weight / self._spectral_norm()

    def _spectral_norm(self) -> Tensor:
        """Return the power-iteration estimate of the largest singular value, a scalar."""
        matrix = at_least_float32(self.layer.weight).flatten(1)
        detached = matrix.detach()
        u = self.u.to(detached.dtype)
        # elementwise products and sums run in float32; matrix products may use reduced precision
        v = _normalize((u.unsqueeze(1) * detached).sum(0))
        if self.training:
            u = _normalize((detached * v).sum(1))
            with torch.no_grad():
                self.u.copy_(u)
        return (u * (matrix * v).sum(1)).sum()


def _normalize(vector: Tensor) -> Tensor:
    return nn.functional.normalize(vector, dim=0, eps=1e-12)


def apply_spectral_norm(network: nn.Module) -> nn.Module:
    """Wrap every dense layer and convolution of a network in :class:`SpectralNorm`, in place.

    Examples
    --------
    >>> apply_spectral_norm(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))[0].weight.shape
    torch.Size([2, 3])
    """
    if isinstance(network, nn.Linear | Conv):
        return SpectralNorm(network)
    for name, child in list(network.named_children()):
        setattr(network, name, apply_spectral_norm(child))
    return network
