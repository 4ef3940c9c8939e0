"""Loading data sets by name: find or fetch the files, read, split, verify."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ancestral.datasets.core import PARTS, DataError, Dataset, content_checksum, damaged
from ancestral.datasets.entries import ENTRIES
from ancestral.datasets.entry import Entry, Form
from ancestral.datasets.fetch import (
    DATA_VARIABLE,
    cache_folder,
    data_folder,
    download,
    verify,
)


@dataclass(frozen=True)
class Description:
    """What is known of a data set without loading it; `str` gives one line."""

    name: str
    summary: str
    size: str
    licence: str
    source: str
    note: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.summary} | size: {self.size} | licence: {self.licence} | "
            f"source: {self.source}"
        )


def names() -> list[str]:
    """Return the names of the catalogue.

    Examples
    --------
    >>> "mnist" in names()
    True
    """
    return list(ENTRIES)


def describe(name: str) -> Description:
    """Describe a data set of the catalogue without loading it.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    Description
        Summary, size, licence, source and note; printed as one line.

    Raises
    ------
    DataError
        If there is no such name.

    Examples
    --------
    >>> describe("digits").summary
    'handwritten digits, 8x8 grey; 1,500 train, 297 test, 10 classes'
    """
    entry = find(name)
    known = (entry.name, entry.summary, entry.size, entry.licence, entry.source, entry.note)
    return Description(*known)


def find(name: str) -> Entry:
    """Return a catalogue entry, or raise an error that lists the names."""
    if name in ENTRIES:
        return ENTRIES[name]
    close = get_close_matches(name.lower().replace("-", "_"), ENTRIES, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(
        f"there is no data set or file {name!r}.{guess} Names: {', '.join(ENTRIES)}. A path ends "
        "in .npy, .npz, .csv or .parquet, or is a folder of images."
    )


def check_options(function: Callable[..., Any], options: dict[str, Any], what: str) -> None:
    """Raise an error if a function does not take all of these keyword options."""
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = [name for name in options if name not in known]
    if unknown:
        offered = f"its options are {', '.join(known)}" if known else "it has no options"
        raise DataError(f"{what} does not take {', '.join(unknown)}; {offered}.")


def load_entry(entry: Entry, cache: Path | None = None, **options: Any) -> Dataset:
    """Load a data set from its files; fetch what is missing into the cache.

    Parameters
    ----------
    entry : Entry
        What to load.
    cache : Path, optional
        Folder of downloads; the user's cache folder if None.
    **options
        Passed to the entry's `build`.

    Raises
    ------
    DataError
        If files are missing, damaged or cannot be fetched.
    """
    check_options(entry.build, options, entry.name)
    form, folder = _locate(entry, cache)
    fresh = [f for f in form.files if not (folder / f.name).exists()]
    for file in fresh:
        download(file, folder)
    try:
        return _assemble(entry, form, folder, options)
    except DataError:
        # What was fetched just now and proved wrong must not wait there for the next call.
        for file in fresh:
            (folder / file.name).unlink(missing_ok=True)
        raise


def _assemble(entry: Entry, form: Form, folder: Path, options: dict[str, Any]) -> Dataset:
    paths = [folder / file.name for file in form.files]
    if not entry.checksums:
        for file, path in zip(form.files, paths, strict=True):
            verify(file, path)
    try:
        fields = entry.build(form.read(*paths), **options)
    except DataError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        files = ", ".join(map(str, paths))
        raise damaged(files, f"holds arrays of the wrong shape or kind ({error})") from None
    checksum = content_checksum({part: fields.get(part) for part in PARTS})
    _check_content(entry, paths, checksum, options)
    about: dict[str, Any] = {"source": entry.source, "licence": entry.licence, "note": entry.note}
    return Dataset(name=entry.name, checksum=checksum, **about, **fields)


def _check_content(entry: Entry, paths: list[Path], checksum: str, options: dict[str, Any]) -> None:
    if not entry.checksums:
        return
    expected = entry.checksums[int(options.get("split", 0))]
    if checksum != expected:
        files = ", ".join(map(str, paths)) or "the installed package"
        raise DataError(
            f"{entry.name}: the content of {files} is not the expected one (checksum "
            f"{checksum}, expected {expected}): damaged or another version. Delete it and load "
            "again, or put a good copy in its place."
        )


def _locate(entry: Entry, cache: Path | None) -> tuple[Form, Path]:
    if not entry.forms[0].files:
        return entry.forms[0], Path()
    name, data = entry.folder or entry.name, data_folder()
    if data:
        form = _in_place(entry, data / name)
        if form:
            return form, data / name
    cached = (cache or cache_folder()) / name
    form = _complete(entry, cached) or _downloadable(entry)
    if form is None:
        raise DataError(_what_to_put_where(entry, data, cached))
    return form, cached


def _complete(entry: Entry, folder: Path) -> Form | None:
    forms = (f for f in entry.forms if all((folder / file.name).is_file() for file in f.files))
    return next(forms, None)


def _in_place(entry: Entry, folder: Path) -> Form | None:
    form = _complete(entry, folder)
    if form:
        return form
    for form in entry.forms:
        missing = [file.name for file in form.files if not (folder / file.name).is_file()]
        if len(missing) < len(form.files):
            raise DataError(
                f"{entry.name}: {', '.join(missing)} is missing in {folder}. Put it there beside "
                f"the others, or unset {DATA_VARIABLE} to download the data set."
            )
    if entry.part and _complete(ENTRIES[entry.part], folder):
        raise DataError(
            f"{entry.name}: {folder} holds only a part of it. Load {entry.part!r}, or put "
            f"{', '.join(file.name for file in entry.forms[0].files)} there, or unset "
            f"{DATA_VARIABLE} to download {entry.size}."
        )
    return None


def _downloadable(entry: Entry) -> Form | None:
    return next((form for form in entry.forms if all(file.url for file in form.files)), None)


def _what_to_put_where(entry: Entry, data: Path | None, cached: Path) -> str:
    files = " and ".join(file.name for file in entry.forms[0].files)
    place = data / (entry.folder or entry.name) if data else cached
    return (
        f"{entry.name}: no public download of this data set is known. Put {files} into {place}, "
        f"or set the environment variable {DATA_VARIABLE} to the folder that holds "
        f"{entry.folder or entry.name}/{entry.forms[0].files[0].name}."
    )
