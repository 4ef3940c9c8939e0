"""What the catalogue says about one data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ancestral.datasets.builders import Fields, Raw
from ancestral.datasets.fetch import RemoteFile


@dataclass(frozen=True)
class Form:
    """One way in which a data set's files may lie: the files, and their reader.

    Parameters
    ----------
    files : tuple of RemoteFile
        All of them are needed.
    read : callable
        Takes one path per file, returns raw arrays by name.
    """

    files: tuple[RemoteFile, ...]
    read: Callable[..., Raw]


@dataclass(frozen=True)
class Entry:
    """One data set of the catalogue.

    Parameters
    ----------
    name, summary, size, source, licence, note : str
        What `describe` and the loaded data set say.
    forms : tuple of Form
        In order of preference.
    build : callable
        Takes raw arrays and options, returns fields of `Dataset`.
    checksums : tuple of str
        Expected `content_checksum`, one for each value of the option ``split``. Empty where it
        is unknown; then the files are checked against their published checksums instead.
    folder : str
        Folder of the files; the name if empty.
    part : str
        Name of a data set that is a part of this one, to be offered where only it is in place.
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
