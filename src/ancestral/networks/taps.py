"""Taps: what an objective may look at inside a network."""

from __future__ import annotations

from torch import Tensor, nn


class Tap(nn.Module):
    """Hands its input on and remembers it for the rest of the forward pass.

    Put one where an objective must look inside a network (a classifier on hidden features, a
    local reconstruction error); :meth:`LatentModel.run` gathers them into ``Run.taps``.

    Parameters
    ----------
    name : str
        Under which the value appears in ``Run.taps``.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.value: Tensor | None = None

    def forward(self, u: Tensor) -> Tensor:
        """Return ``u``."""
        self.value = u
        return u


class Taps:
    """All taps inside a model, found once.

    Examples
    --------
    >>> network = nn.Sequential(nn.Identity(), Tap("h"))
    >>> taps, _ = Taps(network), network(torch.ones(1))
    >>> taps.take()
    {'h': tensor([1.])}
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.taps = [m for module in modules for m in module.modules() if isinstance(m, Tap)]

    def take(self) -> dict[str, Tensor]:
        """Return what the taps saw, leaving them empty."""
        values = {tap.name: tap.value for tap in self.taps if tap.value is not None}
        for tap in self.taps:
            tap.value = None
        return values
