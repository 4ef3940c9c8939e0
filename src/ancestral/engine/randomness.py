"""Random streams seeded per step, separate from the user's streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ancestral.data import mix_seed


@contextmanager
def private_randomness(device: torch.device | str = "cpu") -> Iterator[None]:
    """Save torch's random states and restore them after the context."""
    on_cuda = torch.device(device).type == "cuda" or torch.cuda.is_initialized()
    devices = list(range(torch.cuda.device_count())) if on_cuda else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed(*parts: int) -> None:
    """Seed torch from integers, for example (random state, step).

    Because each step is seeded, resuming needs only the step number.
    """
    value = mix_seed(*parts)
    # without CUDA, each call of torch.manual_seed would store a traceback
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(value)


@contextmanager
def seeded(*parts: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch inside the context and restore the user's random states afterwards."""
    with private_randomness(device):
        seed(*parts)
        yield
