"""The state of a training, kept from time to time in one file that is whole or not there."""

from __future__ import annotations

import json
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ancestral.storage import write_file


class CheckpointError(ValueError):
    """A checkpoint is damaged, or of another training."""


class Snapshot(NamedTuple):
    """What a training can go on from: tensors, and facts that JSON can hold."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class HeldInterrupt:
    """Holds Ctrl-C back until a step is done, so that the state that is kept is a whole one.

    A second Ctrl-C is not held back. Outside the main thread, or with ``active`` false, nothing is.

    Attributes
    ----------
    asked : bool
        Whether Ctrl-C was pressed.
    """

    def __init__(self, *, active: bool) -> None:
        self.active = active and threading.current_thread() is threading.main_thread()
        self.asked = False

    def __enter__(self) -> Self:
        if self.active:
            self._before = signal.signal(signal.SIGINT, self._hold)
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            signal.signal(signal.SIGINT, self._before)

    def _hold(self, *_: object) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._before)


class Checkpoint:
    """Keeps the latest snapshot of a training in a file.

    It is written under a temporary name, flushed to the disk and renamed, so that a crash or a
    full disk leaves the one before as it was.

    Parameters
    ----------
    path : path
        The file.
    identity : str
        Says which training this is, exactly; a file of another one is refused.
    every : float
        Seconds between snapshots.

    Examples
    --------
    >>> import tempfile, torch
    >>> folder = Path(tempfile.mkdtemp())
    >>> checkpoint = Checkpoint(folder / "a.checkpoint", identity="first try")
    >>> checkpoint.save(Snapshot({"x": torch.ones(2)}, {"step": 3}))
    >>> checkpoint.load().facts
    {'step': 3}
    >>> checkpoint.remove()
    """

    def __init__(self, path: Path | str, *, identity: str, every: float = 30.0) -> None:
        self.path, self.identity, self.every = Path(path), identity, every
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time for a snapshot."""
        return time.monotonic() - self._saved_at >= self.every

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the one before; if that can't be, warn and keep the old."""
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in snapshot.tensors.items()}
        about = {"identity": self.identity, "facts": json.dumps(snapshot.facts)}
        try:
            write_file(self.path, save(tensors, about))
        except OSError as error:
            warnings.warn(
                f"no checkpoint was written ({error}); the last one is kept", stacklevel=2
            )
        self._saved_at = time.monotonic()

    def load(self) -> Snapshot | None:
        """Return the snapshot that is kept, if there is one.

        Raises
        ------
        CheckpointError
            If the file is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            identity, facts = about["identity"], json.loads(about["facts"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{self.path} is not a checkpoint that can be read ({error}): delete it"
            ) from None
        if identity != self.identity:
            raise CheckpointError(
                f"{self.path} is the checkpoint of another training (other data, settings or "
                "seed): delete it to start afresh, or go on with what it was made with"
            )
        return Snapshot(tensors, facts)

    def remove(self) -> None:
        """Delete the file: training is over."""
        self.path.unlink(missing_ok=True)
        for part in self.path.parent.glob(f".{self.path.name}.*.part"):  # of a crash while saving
            part.unlink(missing_ok=True)
