"""Catalogue entry of a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ancestral.datasets.builders import Fields, Raw
from ancestral.datasets.fetch import RemoteFile


@dataclass(frozen=True)
class Form:
    """File layout of a data set: a set of files and their reader.

    Parameters
    ----------
    files : tuple of RemoteFile
        Files of the layout, all required.
    read : callable
        Function of one path per file that returns raw arrays by name.
    """

    files: tuple[RemoteFile, ...]
    read: Callable[..., Raw]


@dataclass(frozen=True)
class Entry:
    """Catalogue entry of a data set.

    Parameters
    ----------
    name, summary, size, source, licence, note : str
        Metadata returned by `describe`; name, source, licence and note are also fields of
        `Dataset`.
    forms : tuple of Form
        File layouts in order of preference.
    build : callable
        Function of raw arrays and keyword options that returns fields of `Dataset`.
    checksums : tuple of str
        Expected `content_checksum`, one per value of the option ``split``. If empty, the files are
        verified by their published checksums instead.
    folder : str
        Name of the folder of the files; ``name`` if empty.
    part : str
        Name of a data set that is a subset of this one, suggested if only its files are present.
    """

    name: str
    summary: str
    size: str
    source: str
    licence: str
    forms: tuple[Form, ...]
    build: Callable[..., Fields]
    note: str = ""
    checksums: tuple[str, ...] = ()
    folder: str = ""
    part: str = ""
