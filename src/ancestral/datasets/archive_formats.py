"""Readers of the file formats of the catalogue, with checks of the content."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ancestral.datasets.dataset import DataError, file_error

N_LETTERS = 26

LETTER_PIXELS = 128


def read_bytes(path: Path) -> bytearray:
    """Return the bytes of a file as a writable buffer, decompressed if its name ends in .gz."""
    try:
        raw = path.read_bytes()
        return bytearray(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, zlib.error) as error:
        raise file_error(path, f"cannot be read or decompressed ({error})") from None


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an idx file of unsigned bytes (the format of MNIST).

    Parameters
    ----------
    path : Path
        The file, optionally compressed (.gz).
    ndim : int
        Expected number of dimensions: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8
        Array of the shape in the header.

    Raises
    ------
    DataError
        If the magic number or the length is wrong.
    """
    raw = read_bytes(path)
    magic, expected = bytes(raw[:4]), bytes((0, 0, 8, ndim))
    if magic != expected:
        raise file_error(path, f"idx magic number is {magic.hex()}, expected {expected.hex()}")
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise file_error(path, f"has {len(raw)} bytes, fewer than the {start} of an idx header")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", ndim, 4))
    size = int(np.prod(shape, dtype=np.int64))
    if len(raw) - start != size:
        raise file_error(
            path, f"has {len(raw) - start} bytes of data, expected {size} from its header"
        )
    return np.frombuffer(raw, np.uint8, size, start).reshape(shape)


@contextmanager
def open_npz(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Open an .npz file without pickle support; raises `DataError` for a damaged file."""
    try:
        # np.load(path) would leave the file open if the archive is damaged.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            yield archive
    except DataError:
        raise
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error):
        raise file_error(path, "is not a readable .npz file of plain arrays") from None


def read_npz(path: Path, *keys: str) -> tuple[np.ndarray, ...]:
    """Read arrays of an .npz file.

    Raises
    ------
    DataError
        If the file cannot be read or an array is missing.
    """
    with open_npz(path) as archive:
        missing = [key for key in keys if key not in archive.files]
        if missing:
            raise file_error(path, f"has no array {missing}; it contains {archive.files}")
        return tuple(archive[key] for key in keys)


def read_mat(path: Path, *keys: str) -> tuple[np.ndarray, ...]:
    """Read arrays of a MATLAB file (version 7 or older).

    Raises
    ------
    DataError
        If the file cannot be read or an array is missing.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=keys)
    except Exception as error:  # the parser raises arbitrary exceptions on damaged files
        raise file_error(path, f"is not a readable .mat file ({error})") from None
    missing = [key for key in keys if key not in content]
    if missing:
        raise file_error(path, f"has no array {missing}")
    return tuple(content[key] for key in keys)


def read_bits(path: Path, width: int) -> np.ndarray:
    """Read a text file of zeros and ones separated by blanks, as a bool array [n, width]."""
    text = np.frombuffer(read_bytes(path), np.uint8)
    invalid = np.ones(256, np.bool_)
    invalid[list(b"01 \t\r\n")] = False
    if invalid[text].any():
        raise file_error(path, "contains characters other than 0, 1 and blanks")
    bits = text[text >= ord("0")] == ord("1")
    if bits.size == 0 or bits.size % width:
        raise file_error(path, f"has {bits.size} digits, expected a positive multiple of {width}")
    return bits.reshape(-1, width)


def read_numbers(path: Path, width: int) -> np.ndarray:
    """Read the numbers of a text file as an array [n, width]; skip lines with other words."""
    numbers: list[float] = []
    for line in read_bytes(path).decode("latin-1").splitlines():
        try:
            numbers += [float(word) for word in line.split()]
        except ValueError:
            continue
    if not numbers or len(numbers) % width:
        raise file_error(
            path, f"has {len(numbers)} numbers, expected a positive multiple of {width}"
        )
    return np.array(numbers).reshape(-1, width)


def read_letters(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read letter.data(.gz): tab-separated id, letter, next, word, position, fold, 128 bits.

    Returns
    -------
    x : ndarray of bool, shape (n, 128)
        Pixels.
    y : ndarray of int64, shape (n,)
        Letters, 0 to 25.

    Raises
    ------
    DataError
        If a line is malformed, or a pixel or letter is out of range.
    """
    rows = [line.split(b"\t") for line in bytes(read_bytes(path)).splitlines()]
    if any(len(row) < 6 + LETTER_PIXELS or len(row[1]) != 1 for row in rows):
        raise file_error(path, f"has a line without a letter and {LETTER_PIXELS} pixels")
    y = np.array([row[1][0] for row in rows], np.int64) - ord("a")
    digits = b"".join(b"".join(row[6 : 6 + LETTER_PIXELS]) for row in rows)
    x = np.frombuffer(digits, np.uint8) - np.uint8(ord("0"))
    if x.size != len(rows) * LETTER_PIXELS or np.any(x > 1) or np.any((y < 0) | (y >= N_LETTERS)):
        raise file_error(path, "has pixels other than 0 and 1, or letters outside a to z")
    return x.reshape(-1, LETTER_PIXELS).astype(bool), y


def read_drawings(path: Path) -> dict[tuple[int, int], np.ndarray]:
    """Read a zip file of black-on-white PNG images named ``<character>_<drawer>.png``.

    Returns
    -------
    dict
        Drawings by (character, drawer): uint8 arrays [28, 28], 255 for full ink.

    Raises
    ------
    DataError
        If the file is not a readable zip file of drawings.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if _is_drawing(name)]
            return {_drawing_key(name): _drawing(archive, name) for name in names}
    except (OSError, EOFError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise file_error(path, f"is not a readable zip file of drawings ({error})") from None


def _is_drawing(name: str) -> bool:
    # Archives created on macOS contain metadata entries in a folder __MACOSX.
    return name.endswith(".png") and "__MACOSX" not in name


def _drawing_key(name: str) -> tuple[int, int]:
    character, drawer = Path(name).stem.split("_")
    return int(character), int(drawer)


def _drawing(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    from PIL import Image

    with archive.open(name) as stream, Image.open(stream, formats=["PNG"]) as image:
        return downsample_drawing(np.asarray(image.convert("L")) < 128)


def downsample_drawing(ink: np.ndarray) -> np.ndarray:
    """Downsample a binary 105 x 105 drawing to 28 x 28 bytes by averaging areas of 3.75 x 3.75.

    In units of 1/15 of a target pixel all overlaps are integers, and no average lies half-way
    between two bytes, so the result is exact.

    Parameters
    ----------
    ink : bool array [105, 105]
        True for ink.

    Returns
    -------
    uint8 array [28, 28]
        255 for full ink.

    Raises
    ------
    ValueError
        If the shape is not (105, 105).
    """
    if ink.shape != (105, 105):
        raise ValueError(f"drawing has shape {ink.shape}; expected (105, 105)")
    left = np.maximum.outer(15 * np.arange(28), 4 * np.arange(105))
    right = np.minimum.outer(15 * np.arange(1, 29), 4 * np.arange(1, 106))
    overlap = np.maximum(right - left, 0).astype(np.float32)
    area = (overlap @ ink.astype(np.float32) @ overlap.T).astype(np.int64)  # 0 to 225
    return ((34 * area + 15) // 30).astype(np.uint8)
