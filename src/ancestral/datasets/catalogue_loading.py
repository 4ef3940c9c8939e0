"""Loading of catalogue data sets: locate or download files, read, split and verify them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ancestral.datasets.catalogue import ENTRIES, Entry, FileLayout
from ancestral.datasets.dataset import ARRAY_NAMES, DataError, Dataset, content_checksum, file_error
from ancestral.datasets.download import (
    DATA_VARIABLE,
    cache_folder,
    data_folder,
    download,
    verify_checksum,
)


@dataclass(frozen=True)
class Description:
    """Metadata of a catalogue data set; `str` returns one line.

    Attributes
    ----------
    name, summary, size, licence, source, note : str
        Name, contents and splits, download size, terms of use, origin, and remarks.
    """

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
    """Return the names of the catalogue data sets.

    Examples
    --------
    >>> "mnist" in names()
    True
    """
    return list(ENTRIES)


def describe(name: str) -> Description:
    """Return the metadata of a catalogue data set without loading it.

    Parameters
    ----------
    name : str
        One of `names()`.

    Returns
    -------
    Description
        Summary, size, licence, source and note.

    Raises
    ------
    DataError
        If the name is unknown.

    Examples
    --------
    >>> describe("digits").summary
    'handwritten digits, 8x8 grey; 1,500 train, 297 test, 10 classes'
    """
    entry = find_entry(name)
    return Description(
        entry.name, entry.summary, entry.size, entry.licence, entry.source, entry.note
    )


def find_entry(name: str) -> Entry:
    """Return the catalogue entry of a name.

    Raises
    ------
    DataError
        If the name is unknown; the message lists the names.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    close = get_close_matches(name.lower().replace("-", "_"), ENTRIES, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    raise DataError(
        f"unknown data set or file {name!r}.{suggestion} Names: {', '.join(ENTRIES)}. A path must "
        "end in .npy, .npz, .csv or .parquet, or be a folder of images."
    )


def check_options(function: Callable[..., Any], options: dict[str, Any], source: str) -> None:
    """Check that a function accepts the given keyword options.

    Parameters
    ----------
    function : callable
        Function whose keyword-only parameters are the valid options.
    options : dict
        Options by name.
    source : str
        Name of the data set or file for the error message.

    Raises
    ------
    DataError
        If an option is unknown.
    """
    parameters = inspect.signature(function).parameters.values()
    valid = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = [name for name in options if name not in valid]
    if unknown:
        hint = f"valid options: {', '.join(valid)}" if valid else "it takes no options"
        raise DataError(f"{source} has no option {', '.join(unknown)}; {hint}.")


def load_entry(entry: Entry, cache: Path | None = None, **options: Any) -> Dataset:
    """Load a catalogue data set from its files; download missing files into the cache.

    Parameters
    ----------
    entry : Entry
        Catalogue entry of the data set.
    cache : Path, optional
        Folder of downloads; the user's cache folder if None.
    **options
        Keyword options of the entry's `build`.

    Returns
    -------
    Dataset
        The data set, verified by its checksum.

    Raises
    ------
    DataError
        If an option is unknown, or files are missing, damaged or cannot be downloaded.
    """
    check_options(entry.build, options, entry.name)
    layout, folder = _select_layout(entry, cache)
    missing = [f for f in layout.files if not (folder / f.name).exists()]
    for file in missing:
        download(file, folder)
    try:
        return _build_dataset(entry, layout, folder, options)
    except DataError:
        # Delete invalid downloads, so that the next call does not load them from the cache.
        for file in missing:
            (folder / file.name).unlink(missing_ok=True)
        raise


def _build_dataset(
    entry: Entry, layout: FileLayout, folder: Path, options: dict[str, Any]
) -> Dataset:
    paths = [folder / file.name for file in layout.files]
    if not entry.checksums:
        for file, path in zip(layout.files, paths, strict=True):
            verify_checksum(file, path)
    try:
        fields = entry.build(layout.read(*paths), **options)
    except DataError:
        raise
    except (TypeError, ValueError, IndexError) as error:
        files = ", ".join(map(str, paths))
        raise file_error(files, f"contains arrays of the wrong shape or type ({error})") from None
    checksum = content_checksum({name: fields.get(name) for name in ARRAY_NAMES})
    _check_content(entry, paths, checksum, options)
    metadata: dict[str, Any] = {
        "source": entry.source,
        "licence": entry.licence,
        "note": entry.note,
    }
    return Dataset(name=entry.name, checksum=checksum, **metadata, **fields)


def _check_content(entry: Entry, paths: list[Path], checksum: str, options: dict[str, Any]) -> None:
    if not entry.checksums:
        return
    expected = entry.checksums[int(options.get("split", 0))]
    if checksum != expected:
        files = ", ".join(map(str, paths)) or "the installed package"
        raise DataError(
            f"{entry.name}: the content of {files} has checksum {checksum}, expected {expected}: "
            "it is damaged or another version. Replace it by a valid copy, or delete it and load "
            "again."
        )


def _select_layout(entry: Entry, cache: Path | None) -> tuple[FileLayout, Path]:
    if not entry.layouts[0].files:
        return entry.layouts[0], Path()
    name, data = entry.folder or entry.name, data_folder()
    if data:
        layout = _layout_in_data_folder(entry, data / name)
        if layout:
            return layout, data / name
    cached = (cache or cache_folder()) / name
    layout = _complete_layout(entry, cached) or _downloadable_layout(entry)
    if layout is None:
        raise DataError(_missing_files_message(entry, data, cached))
    return layout, cached


def _complete_layout(entry: Entry, folder: Path) -> FileLayout | None:
    layouts = (f for f in entry.layouts if all((folder / file.name).is_file() for file in f.files))
    return next(layouts, None)


def _layout_in_data_folder(entry: Entry, folder: Path) -> FileLayout | None:
    layout = _complete_layout(entry, folder)
    if layout:
        return layout
    for layout in entry.layouts:
        missing = [file.name for file in layout.files if not (folder / file.name).is_file()]
        if len(missing) < len(layout.files):
            raise DataError(
                f"{entry.name}: {', '.join(missing)} is missing in {folder}. Add the missing "
                f"files, or unset {DATA_VARIABLE} to download the data set."
            )
    if entry.subset and _complete_layout(ENTRIES[entry.subset], folder):
        raise DataError(
            f"{entry.name}: {folder} contains only a subset of the data set. Load "
            f"{entry.subset!r}, add {', '.join(file.name for file in entry.layouts[0].files)}, or "
            f"unset {DATA_VARIABLE} to download {entry.size}."
        )
    return None


def _downloadable_layout(entry: Entry) -> FileLayout | None:
    return next(
        (layout for layout in entry.layouts if all(file.url for file in layout.files)), None
    )


def _missing_files_message(entry: Entry, data: Path | None, cached: Path) -> str:
    files = " and ".join(file.name for file in entry.layouts[0].files)
    folder = data / (entry.folder or entry.name) if data else cached
    return (
        f"{entry.name}: this data set has no public download. Put {files} into {folder}, or set "
        f"the environment variable {DATA_VARIABLE} to the folder that contains "
        f"{entry.folder or entry.name}/{entry.layouts[0].files[0].name}."
    )
