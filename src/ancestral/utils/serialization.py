"""Serialisation of models as safetensors plus JSON."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
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
from ancestral.utils.files import DESCRIPTION, MODEL, WEIGHTS, write_file
from ancestral.utils.quantization import dequantize

FORMAT = 1


class ModelFileError(ValueError):
    """Raised when a saved model is missing, corrupt or in an unsupported format."""


@contextmanager
def prefix_errors(argument: str) -> Iterator[None]:
    """Prefix a :class:`ModelFileError` raised inside the context with the name of an argument."""
    try:
        yield
    except ModelFileError as error:
        raise ModelFileError(f"{argument}: {error}") from None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that affect results."""
    libraries = {name: metadata.version(name) for name in ("torch", "numpy", "scikit-learn")}
    return {"ancestral": __version__, "python": platform.python_version(), **libraries}


def digest(value: Any) -> str:
    """Return the SHA-256 hash of a JSON-serialisable value.

    >>> digest([1, {"a": (2,)}])[:12]
    '06aa400d8346'
    """
    text = json.dumps(value, sort_keys=True, default=_to_json)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 hash of a model's parameters and buffers."""
    sha256 = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sha256.update(name.encode())
        sha256.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha256.hexdigest()


def save_model(path: Path, weights: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write weights and a description into the existing folder ``path``."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
    save_file(tensors, path / WEIGHTS)
    os.chmod(path / WEIGHTS, 0o644)
    checksum = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    header = {"library": "ancestral", "format": FORMAT, "weights_sha256": checksum}
    write_file(path / DESCRIPTION, json.dumps(header | description, indent=1, default=_to_json))


def load_model(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load weights and description saved by :func:`save_model`, without executing code.

    Raises
    ------
    ModelFileError
        If a file is missing, corrupt or modified, or has an unsupported format.
    """
    path = Path(path)
    for name in (DESCRIPTION, WEIGHTS):
        if not (path / name).is_file():
            raise ModelFileError(f"{path} contains no saved model: {name} is missing")
    try:
        description = json.loads((path / DESCRIPTION).read_text())
        format_version = description["format"]
        if description["library"] != "ancestral" or not isinstance(format_version, int):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise ModelFileError(
            f"{path / DESCRIPTION} is corrupt: expected the JSON description of a model; restore "
            "the file or refit"
        ) from None
    if format_version != FORMAT:
        version = description.get("versions", {}).get("ancestral", "another version")
        raise ModelFileError(
            f"{path} was written by ancestral {version} in format {format_version}; ancestral "
            f"{__version__} reads format {FORMAT}: load the model with that version, or refit"
        )
    checksum = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    if checksum != description.get("weights_sha256"):
        raise ModelFileError(
            f"{path / WEIGHTS} is corrupt or was modified (its checksum differs from "
            f"{DESCRIPTION}): restore the file or refit"
        )
    try:
        return dequantize(load_file(path / WEIGHTS)), _from_json(description)
    except SafetensorError as error:
        raise ModelFileError(
            f"{path / WEIGHTS} can't be read ({error}): restore the file or refit"
        ) from None


def model_folder(path: Path | str) -> Path:
    """Return the model folder of a run folder, or ``path`` itself if it has none."""
    path = Path(path)
    subfolder = path / MODEL
    return subfolder if subfolder.is_dir() else path


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str if value.dtype != object else "O"}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        return _to_json(value.numpy())
    raise TypeError(
        f"a value of type {type(value).__name__} can't be saved as JSON: expected an array, a "
        "NumPy scalar, a tensor or a JSON type"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array", "dtype"}:
            return np.array(value["array"], dtype=np.dtype(value["dtype"]))
        return {k: _from_json(v) for k, v in value.items()}
    return [_from_json(v) for v in value] if isinstance(value, list) else value
