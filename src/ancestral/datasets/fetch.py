"""Where files lie, and how a missing one is downloaded."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ancestral.datasets.core import DataError, damaged

DATA_VARIABLE = "ANCESTRAL_DATA"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a data set.

    Parameters
    ----------
    name : str
        File name in the data set's folder.
    url : str, optional
        Public address; None where no stable one is known.
    checksum : str, optional
        Published checksum of the file as ``"md5:..."`` or ``"sha256:..."``; None where none
        was published.
    """

    name: str
    url: str | None = None
    checksum: str | None = None


def data_folder() -> Path | None:
    """Return the folder that the environment variable ANCESTRAL_DATA names, if any.

    Raises
    ------
    DataError
        If the variable is set but names no folder.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{DATA_VARIABLE}={value!r} is not a folder; set it to the folder that holds the "
            "data sets, or unset it."
        )
    return folder


def cache_folder() -> Path:
    """Return the user's cache folder for downloaded data."""
    import pooch

    return Path(pooch.os_cache("ancestral"))


def download(file: RemoteFile, folder: Path) -> Path:
    """Download a file into a folder; it appears there whole and checked, or not at all.

    Parameters
    ----------
    file : RemoteFile
        The file, with its address.
    folder : Path
        Made if missing.

    Raises
    ------
    DataError
        If the server does not answer with the file, or the checksum differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".part-")
    os.close(handle)
    part = Path(name)
    try:
        _transfer(file, part, folder)
        problem = _difference(file, part)
        if problem:
            raise DataError(
                f"{file.name}: what {file.url} sent is refused, its {problem}. Nothing was kept. "
                f"Load again, or put a good copy into {folder} by hand."
            )
        return part.replace(folder / file.name)
    finally:
        part.unlink(missing_ok=True)


def _transfer(file: RemoteFile, part: Path, folder: Path) -> None:
    import pooch

    # The client leaves the connection open when a download fails; the hook lets us close it.
    answers: list[Any] = []
    hooks = {"response": lambda answer, **_: answers.append(answer)}
    client = pooch.HTTPDownloader(progressbar=find_spec("tqdm") is not None, hooks=hooks)
    # HTTP libraries raise their own families of errors, all of them OSError or ValueError.
    try:
        client(file.url, str(part), None)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file.name}: the download from {file.url} failed ({error}). Try again later, or "
            f"put the file into {folder} by hand."
        ) from None
    finally:
        for answer in answers:
            answer.close()


def verify(file: RemoteFile, path: Path) -> None:
    """Check a file on disk against its published checksum, where there is one.

    Raises
    ------
    DataError
        If they differ.
    """
    problem = _difference(file, path)
    if problem:
        raise damaged(path, problem)


def _difference(file: RemoteFile, path: Path) -> str:
    import pooch

    if file.checksum is None:
        return ""
    algorithm, expected = file.checksum.split(":")
    found = pooch.file_hash(str(path), alg=algorithm)
    same = found == expected
    return (
        "" if same else f"{algorithm} is {found}, expected {expected}: damaged or another version"
    )
