"""The only module that knows hardware: devices, random streams, parameters in one flat vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ancestral.data import mix_seed


def resolve_device(name: str) -> torch.device:
    """Return the device that ``name`` stands for; ``"auto"`` takes CUDA where there is some.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "mps":
        raise ValueError("device='mps' can't be used: likelihoods are summed in double precision")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={name!r} can't be used here ({reason}); device='auto' picks one that can"
        ) from None


@contextmanager
def private_randomness(device: torch.device | str = "cpu") -> Iterator[None]:
    """Leave the user's torch random streams as they were, whatever is drawn inside."""
    on_cuda = torch.device(device).type == "cuda" or torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if on_cuda else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed(*parts: int) -> None:
    """Seed torch from integers, say (random state, step): a resume needs only the step number."""
    value = mix_seed(*parts)
    # torch.manual_seed would, on a machine without CUDA, remember a traceback at every call
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)


@contextmanager
def seeded(*parts: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw from a stream of its own inside, and leave the user's as they were."""
    with private_randomness(device):
        seed(*parts)
        yield


@contextmanager
def single_precision() -> Iterator[None]:
    """Make modules in float32 inside, whatever the user's default dtype, which is given back."""
    theirs = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(theirs)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers too small for full precision as zero inside: they cost time and change nothing.

    A setting of the whole process: for the command line, which owns its process, alone.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class FlatParameters:
    """Parameters laid side by side in one vector, of which they are views.

    Parameters
    ----------
    parameters : iterable of Parameter
        Tied ones count once; they keep their identity, so the model needs no change.

    Examples
    --------
    >>> layer = nn.Linear(2, 1)
    >>> flat = FlatParameters(list(layer.parameters()))
    >>> with torch.no_grad(): _ = flat.vector.zero_()
    >>> layer.weight
    Parameter containing:
    tensor([[0., 0.]], requires_grad=True)
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(dict.fromkeys(p for p in parameters if p.requires_grad))
        if not self.parameters:
            raise ValueError("params: a player needs at least one parameter to move")
        self.vector = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self._bind(self._views())

    def _views(self) -> list[Tensor]:
        sizes = [p.numel() for p in self.parameters]
        pieces = self.vector.split(sizes)
        return [piece.view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]

    def _bind(self, tensors: Sequence[Tensor]) -> None:
        for parameter, tensor in zip(self.parameters, tensors, strict=True):
            parameter.data = tensor

    def gradient(self, loss: Tensor) -> Tensor:
        """Return the gradient of ``loss`` as one vector; a parameter it ignores gets zeros."""
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return torch.cat(
            [
                torch.zeros_like(p).reshape(-1) if g is None else g.reshape(-1)
                for g, p in zip(gradients, self.parameters, strict=True)
            ]
        )

    def release(self) -> None:
        """Give every parameter memory of its own again."""
        self._bind([p.detach().clone() for p in self.parameters])
