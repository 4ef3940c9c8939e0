"""Write files and folders whole or not at all; models as safetensors plus JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ancestral._version import __version__
from ancestral.rounding import restored

FORMAT = 1
MODEL, REPAIRS = "model", "repairs"
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
RUN_PARTS = {
    *("config.toml", "versions.json", "history.csv", "metrics.json"),
    *("likelihoods", MODEL, REPAIRS, "report.html"),
}
RECORD = "record.json"
OURS = RUN_PARTS | {WEIGHTS, DESCRIPTION, RECORD}


class ModelFileError(ValueError):
    """A saved model is missing, damaged, or of a format this version can't read."""


@contextmanager
def named(argument: str) -> Iterator[None]:
    """Name the argument that says where a model lies in whatever is wrong with its files."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{argument}: {error}") from None


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file under a temporary name, then rename it: it is there whole or not at all."""
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
    """Check, before any work is done, that a folder can be made at ``path``.

    Raises
    ------
    FileExistsError
        If it is there and ``overwrite`` false, or is a file, or holds something else than a run
        or a model.
    PermissionError
        If the folder it would lie in can't be written to.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file: a folder can't be put in its place")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} is already there: choose another name, or add overwrite=True"
        )
    if path.exists() and not _is_replaceable(path):
        raise FileExistsError(f"{path} holds files that are not a run or a model: not replaced")
    above = next(p for p in path.absolute().parents if p.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{path}: {above} is a file, not a folder")
    try:
        os.rmdir(tempfile.mkdtemp(dir=above, prefix=f".{path.name}.", suffix=".part"))
    except OSError as error:
        raise PermissionError(f"{path}: can't write in {above} ({error.strerror})") from None


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder holds nothing but what a saved model or a run consists of."""
    return {p.name for p in folder.iterdir()} <= OURS


def write_folder(path: Path | str, fill: Callable[[Path], None], *, overwrite: bool) -> None:
    """Make a folder whole or not at all: ``fill`` works on a temporary one beside it.

    Raises
    ------
    FileExistsError, NotADirectoryError, PermissionError
        As :func:`check_writable`.
    """
    path = Path(path).resolve()
    check_writable(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    work.chmod(0o755)
    try:
        fill(work)
        if path.exists():
            old = work.with_suffix(".old")
            os.replace(path, old)  # the old folder goes only once the new one stands in its place
            try:
                os.replace(work, path)
            except BaseException:
                os.replace(old, path)
                raise
            shutil.rmtree(old)
        else:
            os.replace(work, path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def versions() -> dict[str, str]:
    """Return the versions a result depends on."""
    libraries = {name: metadata.version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"ancestral": __version__, "python": platform.python_version(), **libraries}


def digest(value: Any) -> str:
    """Return a hash of anything that JSON can hold.

    >>> digest([1, {"a": (2,)}])[:12]
    '06aa400d8346'
    """
    text = json.dumps(value, sort_keys=True, default=_to_json)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(model: nn.Module) -> str:
    """Return a hash of a model's parameters and buffers."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def save_model(path: Path, weights: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write weights and a description into the folder ``path``, which exists."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    save_file(tensors, path / WEIGHTS)
    os.chmod(path / WEIGHTS, 0o644)
    checksum = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    head = {"library": "ancestral", "format": FORMAT, "weights_sha256": checksum}
    write_file(path / DESCRIPTION, json.dumps(head | description, indent=1, default=_to_json))


def load_model(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_model` wrote; no code is executed.

    Raises
    ------
    ModelFileError
        If something is missing, damaged, altered, or of another format.
    """
    path = Path(path)
    for name in (DESCRIPTION, WEIGHTS):
        if not (path / name).is_file():
            raise ModelFileError(f"{path} holds no saved model: {name} is missing")
    try:
        description = json.loads((path / DESCRIPTION).read_text())
        format_ = description["format"]
        if description["library"] != "ancestral" or not isinstance(format_, int):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise ModelFileError(
            f"{path / DESCRIPTION} is damaged: it does not describe a model"
        ) from None
    if format_ != FORMAT:
        written = description.get("versions", {}).get("ancestral", "another version")
        raise ModelFileError(
            f"{path} was written by ancestral {written} in format {format_}; this is ancestral "
            f"{__version__}, which reads format {FORMAT}: load it with that version, or refit"
        )
    checksum = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    if checksum != description.get("weights_sha256"):
        raise ModelFileError(
            f"{path / WEIGHTS} is not the file that was saved (its checksum differs): "
            "it was damaged or altered; restore it or refit"
        )
    try:
        return restored(load_file(path / WEIGHTS)), _from_json(description)
    except SafetensorError as error:
        raise ModelFileError(f"{path / WEIGHTS} can't be read: {error}") from None


def model_folder(path: Path | str) -> Path:
    """Return where the model lies: in the folder of a run, or the folder itself."""
    path = Path(path)
    inside = path / MODEL
    return inside if inside.is_dir() else path


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str if value.dtype != object else "O"}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        return _to_json(value.numpy())
    raise TypeError(f"{type(value).__name__} can't be saved")


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array", "dtype"}:
            return np.array(value["array"], dtype=np.dtype(value["dtype"]))
        return {k: _from_json(v) for k, v in value.items()}
    return [_from_json(v) for v in value] if isinstance(value, list) else value


def to_csv(records: Sequence[Mapping[str, Any]]) -> str:
    r"""Write records as CSV, a column for every name that occurs.

    >>> to_csv([{"epoch": 1, "loss": 2.5}])
    'epoch,loss\n1,2.5\n'
    """
    names = list(dict.fromkeys(k for record in records for k in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
