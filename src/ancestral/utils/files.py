"""Atomic writing of files and folders, and the names of files in a run folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MODEL, IMPUTATIONS = "model", "imputations"

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"

RUN_PARTS = {
    *("config.toml", "versions.json", "history.csv", "metrics.json"),
    *("likelihoods", MODEL, IMPUTATIONS, "report.html"),
}

RECORD = "record.json"

KNOWN_FILES = RUN_PARTS | {WEIGHTS, DESCRIPTION, RECORD}


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file atomically: under a temporary name, flushed to disk, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_writable(path: Path | str, *, overwrite: bool) -> None:
    """Check that a folder can be created at ``path``, before its contents are computed.

    Raises
    ------
    FileExistsError
        If ``path`` exists and ``overwrite`` is False, is a file, or is a folder that contains
        anything but a run or a model.
    NotADirectoryError
        If a parent of ``path`` is a file.
    PermissionError
        If the parent folder is not writable.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file: expected the name of a folder; choose another")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} already exists: choose another name, or add overwrite=True")
    if path.exists() and not _is_replaceable(path):
        raise FileExistsError(
            f"{path} contains files that do not belong to a run or a model, and is not "
            "overwritten: choose another name"
        )
    parent = next(p for p in path.absolute().parents if p.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"{path}: {parent} is a file, not a folder; choose another name")
    try:
        os.rmdir(tempfile.mkdtemp(dir=parent, prefix=f".{path.name}.", suffix=".part"))
    except OSError as error:
        raise PermissionError(
            f"{path}: can't write in {parent} ({error.strerror}); choose a writable folder"
        ) from None


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder contains only files of a saved model or a run."""
    return {p.name for p in folder.iterdir()} <= KNOWN_FILES


def write_folder(
    path: Path | str, write_contents: Callable[[Path], None], *, overwrite: bool
) -> None:
    """Create a folder atomically: in a temporary folder beside it, which is then renamed.

    Parameters
    ----------
    path : path
        Folder to create.
    write_contents : callable
        Function that writes the contents into the folder that it receives.
    overwrite : bool
        Whether to replace an existing folder of a run or a model.

    Raises
    ------
    FileExistsError, NotADirectoryError, PermissionError
        As in :func:`check_writable`.
    """
    path = Path(path).resolve()
    check_writable(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    temporary.chmod(0o755)
    try:
        write_contents(temporary)
        if path.exists():
            backup = temporary.with_suffix(".old")
            os.replace(path, backup)  # deleted only after the new folder is in place
            try:
                os.replace(temporary, path)
            except BaseException:
                os.replace(backup, path)
                raise
            shutil.rmtree(backup)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    r"""Return records as CSV text, with one column for each name in any record.

    >>> to_csv([{"epoch": 1, "loss": 2.5}])
    'epoch,loss\n1,2.5\n'
    """
    import polars as pl

    return pl.from_dicts(records, infer_schema_length=None).write_csv()
