"""Spectral normalisation: layers that stretch nothing by more than one (Miyato et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ancestral.networks.convolution import Conv
from ancestral.networks.precision import at_least_single


class Spectral(nn.Module):
    """A dense layer or a convolution whose weights are divided by their greatest singular value.

    The weights of a convolution count as a matrix [n_out, n_in * pixels]. In training every call
    takes one step of power iteration from where the last one ended; its vector is a buffer, saved
    with the model.

    Parameters
    ----------
    layer : Linear or Conv
        Its own bias stays as it is.

    References
    ----------
    Spectral Normalization for Generative Adversarial Networks, https://arxiv.org/abs/1802.05957

    Examples
    --------
    >>> layer = Spectral(nn.Linear(3, 2))
    >>> for _ in range(50):
    ...     _ = layer(torch.zeros(1, 3))
    >>> torch.linalg.matrix_norm(layer.weight, 2).allclose(torch.ones(1))
    True
    """

    def __init__(self, layer: nn.Linear | Conv) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("u", _unit(torch.randn(len(layer.weight))))
        self.u: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer with the divided weights makes of x."""
        out = self.layer(x)
        bias = self.layer.bias.view(-1, *[1] * (out.ndim - 2))
        return (out - bias) / self._size().to(out.dtype) + bias

    @property
    def weight(self) -> Tensor:
        """The divided weights."""
        return self.layer.weight / self._size()

    def _size(self) -> Tensor:
        """Return the greatest singular value as power iteration has it."""
        matrix = at_least_single(self.layer.weight).flatten(1)
        fixed = matrix.detach()
        u = self.u.to(fixed.dtype)
        v = _unit((u.unsqueeze(1) * fixed).sum(0))  # sums stay in single precision, products not
        if self.training:
            u = _unit((fixed * v).sum(1))
            with torch.no_grad():
                self.u.copy_(u)
        return (u * (matrix * v).sum(1)).sum()


def _unit(vector: Tensor) -> Tensor:
    return nn.functional.normalize(vector, dim=0, eps=1e-12)


def spectrally_normalised(network: nn.Module) -> nn.Module:
    """Put every dense layer and convolution of a network into a :class:`Spectral`, in place.

    Examples
    --------
    >>> spectrally_normalised(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))[0].weight.shape
    torch.Size([2, 3])
    """
    if isinstance(network, nn.Linear | Conv):
        return Spectral(network)
    for name, child in list(network.named_children()):
        setattr(network, name, spectrally_normalised(child))
    return network
