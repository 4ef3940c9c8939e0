"""Random seeds and private random streams."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ancestral.utils.validation import RandomState


def mix_seed(*parts: int) -> int:
    """Hash integers to one seed in [0, 2^63), so that similar inputs give independent streams.

    >>> mix_seed(0, 1) != mix_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


_lock = threading.RLock()


@contextmanager
def exclusive() -> Iterator[None]:
    """Run the context in one thread at a time; usable as a decorator.

    Torch's random generators and default dtype belong to the process, and the layers of a model
    have state during a call. Training and inference hold this lock, so that their results with
    threads are those without.
    """
    with _lock:
        yield


def _reset_lock() -> None:
    """Replace the lock in a forked process, where its owner may not exist."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_lock)


@contextmanager
def fork_rng(device: torch.device | str = "cpu") -> Iterator[None]:
    """Save torch's random states and restore them after the context, in one thread at a time."""
    with exclusive():
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
def seeded_rng(*parts: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch inside the context and restore the user's random states afterwards."""
    with fork_rng(device):
        seed(*parts)
        yield


def draw_seed(random_state: RandomState) -> int:
    """Return an integer seed from a random state, without using NumPy's global stream.

    An integer is returned unchanged; a generator is advanced; None gives an unpredictable seed.

    Raises
    ------
    ValueError
        If the seed is negative.

    Examples
    --------
    >>> draw_seed(3)
    3
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    if random_state < 0:
        raise ValueError(f"random_state={random_state}: expected a seed of at least 0")
    return int(random_state)
