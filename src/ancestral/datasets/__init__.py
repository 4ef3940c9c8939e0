"""Data sets: a catalogue with fixed splits and checksums, and readers of user files."""

from ancestral.datasets.catalogue_loading import Description, describe, names
from ancestral.datasets.dataset import DataError, Dataset, content_checksum
from ancestral.datasets.load import load, read_table
from ancestral.datasets.tables import fill_missing

__all__ = [
    "DataError",
    "Dataset",
    "Description",
    "content_checksum",
    "describe",
    "fill_missing",
    "load",
    "names",
    "read_table",
]
