"""Data and cache folders, and download of missing files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ancestral.datasets.dataset import DataError, file_error

DATA_VARIABLE = "ANCESTRAL_DATA"


@dataclass(frozen=True)
class RemoteFile:
    """File of a data set.

    Parameters
    ----------
    name : str
        File name in the data set's folder.
    url : str, optional
        Public address; None without a stable address.
    checksum : str, optional
        Published checksum of the file as ``"md5:..."`` or ``"sha256:..."``; None if unpublished.
    """

    name: str
    url: str | None = None
    checksum: str | None = None


def data_folder() -> Path | None:
    """Return the folder given by the environment variable ANCESTRAL_DATA, or None if unset.

    Raises
    ------
    DataError
        If the value is not an existing folder.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{DATA_VARIABLE}={value!r} is not a folder; set it to the folder that contains the "
            "data sets, or unset it."
        )
    return folder


def cache_folder() -> Path:
    """Return the user's cache folder for downloaded data."""
    import pooch

    return Path(pooch.os_cache("ancestral"))


def download(file: RemoteFile, folder: Path) -> Path:
    """Download a file into a folder, atomically and with its checksum verified.

    Parameters
    ----------
    file : RemoteFile
        File with its address.
    folder : Path
        Target folder, created if missing.

    Returns
    -------
    Path
        Path of the downloaded file.

    Raises
    ------
    DataError
        If the download fails, or the checksum differs.
    """
    import pooch

    cache = pooch.create(
        folder, base_url="", registry={file.name: file.checksum}, urls={file.name: file.url}
    )
    # The client does not close the connection of a failed download; the hook collects responses
    # to be closed here.
    responses: list[Any] = []
    hooks = {"response": lambda response, **_: responses.append(response)}
    client = pooch.HTTPDownloader(progressbar=True, hooks=hooks)
    # All exceptions of the HTTP libraries are subclasses of OSError or ValueError.
    try:
        return Path(cache.fetch(file.name, downloader=client))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file.name}: the download from {file.url} failed ({error}). Try again later, or "
            f"put a valid copy into {folder}."
        ) from None
    finally:
        for response in responses:
            response.close()


def verify_checksum(file: RemoteFile, path: Path) -> None:
    """Verify the published checksum of a file on disk; no check without a published checksum.

    Raises
    ------
    DataError
        If the checksum differs.
    """
    import pooch

    if file.checksum is None:
        return
    algorithm, expected = file.checksum.split(":")
    actual = pooch.file_hash(str(path), alg=algorithm)
    if actual != expected:
        raise file_error(
            path, f"{algorithm} is {actual}, expected {expected}: damaged or another version"
        )
