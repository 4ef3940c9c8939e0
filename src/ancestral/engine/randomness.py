"""Random streams that belong to a step, and leave the user's alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ancestral.data import mix_seed


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
    elif torch.backends.mps.is_available():
        torch.mps.manual_seed(value)


@contextmanager
def seeded(*parts: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw from a stream of its own inside, and leave the user's as they were."""
    with private_randomness(device):
        seed(*parts)
        yield
