"""Checkpoints of training: one file per training run, replaced atomically."""

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

from ancestral.utils.files import write_file


class CheckpointError(ValueError):
    """Raised when a checkpoint is corrupt or belongs to another training run."""


class Snapshot(NamedTuple):
    """State from which training resumes: tensors and JSON-serialisable metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


class DeferredInterrupt:
    """Context that defers Ctrl-C to the end of a step, so that a consistent state is saved.

    A second Ctrl-C interrupts at once. Outside the main thread Ctrl-C is not deferred.

    Attributes
    ----------
    requested : bool
        Whether Ctrl-C was pressed.
    """

    def __init__(self) -> None:
        self.active = threading.current_thread() is threading.main_thread()
        self.requested = False

    def __enter__(self) -> Self:
        if self.active:
            self._previous_handler = signal.signal(signal.SIGINT, self._defer)
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            signal.signal(signal.SIGINT, self._previous_handler)

    def _defer(self, *_: object) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self._previous_handler)


class Checkpoint:
    """Checkpoint file with the latest snapshot of a training run.

    A snapshot is written to a temporary file, flushed to disk and renamed, so that a crash or a
    full disk leaves the previous snapshot intact.

    Parameters
    ----------
    path : path
        Checkpoint file.
    identity : str
        Identifier of the training run (data, settings and seed); loading a file with another
        identity raises an error.
    every : float
        Minimal interval between snapshots, seconds.

    Examples
    --------
    >>> import tempfile, torch
    >>> folder = Path(tempfile.mkdtemp())
    >>> checkpoint = Checkpoint(folder / "a.checkpoint", identity="first try")
    >>> checkpoint.save(Snapshot({"x": torch.ones(2)}, {"step": 3}))
    >>> checkpoint.load().metadata
    {'step': 3}
    >>> checkpoint.remove()
    """

    def __init__(self, path: Path | str, *, identity: str, every: float = 30.0) -> None:
        self.path, self.identity, self.every = Path(path), identity, every
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether at least ``every`` seconds have passed since the last snapshot."""
        return time.monotonic() - self._saved_at >= self.every

    def save(self, snapshot: Snapshot) -> None:
        """Replace the stored snapshot; on an I/O error, warn and leave the previous one."""
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in snapshot.tensors.items()}
        metadata = {"identity": self.identity, "facts": json.dumps(snapshot.metadata)}
        try:
            write_file(self.path, save(tensors, metadata))
        except OSError as error:
            warnings.warn(
                f"{self.path}: the checkpoint could not be written ({error}); the previous one "
                "remains",
                stacklevel=2,
            )
        self._saved_at = time.monotonic()

    def load(self) -> Snapshot | None:
        """Return the stored snapshot, or None if the file does not exist.

        Raises
        ------
        CheckpointError
            If the file is corrupt or belongs to another training run.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            identity, state = metadata["identity"], json.loads(metadata["facts"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise CheckpointError(
                f"{self.path} is not a readable checkpoint ({error}): delete it to start again"
            ) from None
        if identity != self.identity:
            raise CheckpointError(
                f"{self.path} is the checkpoint of another training run (different data, settings "
                "or seed): use the original data and settings to resume, or delete it to start "
                "again"
            )
        return Snapshot(tensors, state)

    def remove(self) -> None:
        """Delete the file and temporary files of interrupted writes."""
        self.path.unlink(missing_ok=True)
        for part in self.path.parent.glob(f".{self.path.name}.*.part"):
            part.unlink(missing_ok=True)
