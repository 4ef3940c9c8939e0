"""Reader of folders of image files, based on pillow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ancestral.datasets.arrays import Fields
from ancestral.datasets.dataset import DataError, file_error
from ancestral.datasets.splits import train_test_split

if TYPE_CHECKING:
    from PIL import Image


SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, by the content of a file. Other readers of Pillow start programs, such as
Ghostscript for EPS."""

GREY_MODES = ("1", "L", "LA")

HIGH_DEPTH_MODES = ("I", "F")

EXIF_ORIENTATION = 0x0112

TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)


def load_images(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    grayscale: bool = False,
    test_fraction: float | None = None,
    seed: int = 0,
    shuffle: bool = True,
) -> Fields:
    """Read a folder of images as uint8 rows, in the order of the file names.

    Images are grey if all files are grey, else RGB (channels first). Sub-folders, if any, define
    the classes. Only the first frame of an animation is used, transparency is ignored, and the
    EXIF orientation is applied.

    Parameters
    ----------
    path : Path
        The folder.
    size : (int, int), optional
        (height, width) in pixels to resize to; if None, all images must have the same size.
    grayscale : bool
        Convert colour images to grey.
    test_fraction : float, optional
        Fraction of images in the test split, between 0 and 1; no test split if None.
    seed : int
        Seed of the split.
    shuffle : bool
        Random split (True), or the last images as the test split (False).

    Returns
    -------
    dict
        Fields of `Dataset`.

    Raises
    ------
    DataError
        If the folder has no images, an image is unreadable, sizes differ, or `size` is invalid.
    """
    _check_size(size)
    files, y, class_names = _list_files(path)
    sizes, modes = zip(*map(_size_and_mode, files), strict=True)
    height, width = size or _common_size(files, sizes)
    grey = grayscale or all(mode in GREY_MODES for mode in modes)
    shape = (height, width) if grey else (3, height, width)
    x = np.empty((len(files), int(np.prod(shape))), np.uint8)
    for row, file in zip(x, files, strict=True):
        row[:] = _read_pixels(file, "L" if grey else "RGB", (height, width))
    split: Fields = {"x_train": x, "y_train": y}
    if test_fraction is not None:
        split = train_test_split(x, y, test_fraction, seed, shuffle)
    return {**split, "image_shape": shape, "class_names": class_names}


def _check_size(size: tuple[int, int] | None) -> None:
    if size is None:
        return
    is_pair = isinstance(size, (tuple, list)) and len(size) == 2
    if not is_pair or not all(isinstance(n, int) and n > 0 for n in size):
        raise DataError(f"size={size!r}: expected (height, width), two positive integers.")


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _list_files(folder: Path) -> tuple[list[Path], np.ndarray | None, tuple[str, ...] | None]:
    images = _images_in(folder)
    classes = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not images and not classes:
        raise DataError(f"{folder}: contains no images ({', '.join(SUFFIXES)}).")
    if not classes:
        return images, None, None
    if images:
        raise DataError(
            f"{folder}: contains both images ({images[0].name}) and sub-folders "
            f"({classes[0].name}). Sub-folders are classes: move the images into them, or load one "
            "folder."
        )
    groups = [_images_in(subfolder) for subfolder in classes]
    for subfolder, group in zip(classes, groups, strict=True):
        if not group:
            raise DataError(
                f"{subfolder}: this class contains no images; add images or remove the folder."
            )
    y = np.repeat(np.arange(len(classes), dtype=np.int64), [len(group) for group in groups])
    return [file for group in groups for file in group], y, tuple(c.name for c in classes)


@contextmanager
def _open_image(file: Path) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise file_error(file, f"is not a readable image ({error})") from None


def _size_and_mode(file: Path) -> tuple[tuple[int, int], str]:
    """Return (height, width) and colour mode of an image from its header."""
    with _open_image(file) as image:
        if image.mode.split(";")[0] in HIGH_DEPTH_MODES:
            raise DataError(
                f"{file}: has more than 8 bits per channel (mode {image.mode}). Convert it to 8 "
                "bits, or load the images as an .npy file of floats."
            )
        width, height = image.size
        is_rotated = image.getexif().get(EXIF_ORIENTATION) in TRANSPOSED_ORIENTATIONS
        return (width, height) if is_rotated else (height, width), image.mode


def _common_size(files: list[Path], sizes: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    for file, size in zip(files, sizes, strict=True):
        if size != sizes[0]:
            raise DataError(
                f"images differ in size: {files[0]} is {sizes[0]} and {file} is {size} (height, "
                "width). Pass size=(height, width) to resize them."
            )
    return sizes[0]


def _read_pixels(file: Path, mode: str, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image, ImageOps

    with _open_image(file) as image:
        picture = ImageOps.exif_transpose(image).convert(mode)
    if picture.size != size[::-1]:
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture)
    return (pixels if mode == "L" else pixels.transpose(2, 0, 1)).reshape(-1)
