"""Data of the speed benchmark, as byte arrays on disk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ancestral import datasets
from ancestral.data.preprocessing import binarize
from ancestral.utils.files import write_file

N_COLOUR_IMAGES = 2000


def prepare(folder: Path) -> dict[str, Path]:
    """Write the arrays that the workers read, unless they exist.

    Returns
    -------
    dict
        Paths of ``train`` [60000, 784] and ``test`` [10000, 784], the bits of MNIST binarised
        once, and of ``colour_images`` [2000, 3072], synthetic images as bytes.
    """
    paths = {name: folder / f"{name}.npy" for name in ("train", "test", "colour_images")}
    if not all(path.exists() for path in paths.values()):
        mnist = datasets.load("mnist")
        for split in ("train", "test"):
            bits = binarize(getattr(mnist, f"x_{split}"), seed=0)
            _write(paths[split], bits.astype(np.uint8))
        _write(paths["colour_images"], synthetic_images(N_COLOUR_IMAGES))
    return paths


def synthetic_images(n: int) -> np.ndarray:
    """Coarse coloured patches with Gaussian noise: bytes [n, 3 * 32 * 32], channels first."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.2, 0.8, (n, 3, 4, 4))
    fine = np.kron(coarse, np.ones((8, 8))) + rng.normal(0, 0.05, (n, 3, 32, 32))
    return (255 * fine.clip(0, 1)).astype(np.uint8).reshape(n, -1)


def _write(path: Path, array: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, array)
    write_file(path, content.getvalue())
