"""Data sets: a catalogue with declared splits and checksums, and the user's own files."""

from ancestral.datasets.catalogue import Description, describe, names
from ancestral.datasets.core import DataError, Dataset, content_checksum
from ancestral.datasets.loading import load, read_table
from ancestral.datasets.tables import filled

__all__ = [
    "DataError",
    "Dataset",
    "Description",
    "content_checksum",
    "describe",
    "filled",
    "load",
    "names",
    "read_table",
]
