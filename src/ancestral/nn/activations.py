"""Recorded activations: hidden values that an objective can read after a forward pass."""

from __future__ import annotations

from torch import Tensor, nn


class ActivationTap(nn.Module):
    """Identity layer that records its input during a forward pass.

    Insert one where an objective needs a hidden activation, for example the features of a
    classifier or the signals of a local reconstruction error. :meth:`LatentModel.run` collects
    the recorded values in its ``Run``.

    Parameters
    ----------
    name : str
        Key of the recorded value in the run.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.value: Tensor | None = None

    def forward(self, u: Tensor) -> Tensor:
        """Record and return ``u``."""
        self.value = u
        return u


class ActivationCollector:
    """Collector of the activations recorded in a model.

    Parameters
    ----------
    *modules : Module
        Modules whose recording layers are listed once, at construction.

    Examples
    --------
    >>> network = nn.Sequential(nn.Identity(), ActivationTap("h"))
    >>> taps, _ = ActivationCollector(network), network(torch.ones(1))
    >>> taps.collect()
    {'h': tensor([1.])}
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.taps = [
            m for module in modules for m in module.modules() if isinstance(m, ActivationTap)
        ]

    def collect(self) -> dict[str, Tensor]:
        """Return the recorded values by name and clear them."""
        values = {tap.name: tap.value for tap in self.taps if tap.value is not None}
        for tap in self.taps:
            tap.value = None
        return values
