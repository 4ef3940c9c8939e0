"""Figures of samples, reconstructions and imputations of the shipped models.

Usage:  python docs/scripts/sample_figures.py [name of a shipped model ...]     (default: all)

Left: samples, one column per class for class-conditional models. Right, for latent-variable models:
test images and their reconstructions; other test images with half of the pixels missing, imputed,
and original. Right, for generators: samples of the same noise during training.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ancestral.data.preprocessing import corrupt
from ancestral.datasets import Dataset
from ancestral.estimators.base.implicit import ImplicitEstimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.evaluation.class_fidelity import is_class_conditional
from ancestral.experiments.report.figures import to_rgb
from ancestral.experiments.run_folder import open_run

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES, ZOO = ROOT / "docs" / "images", ROOT / "zoo"
GAP, PANEL_GAP, N_ROWS, HEIGHT = 1, 8, 6, 350
"""Pixels between images and between panels, rows of images, approximate height of a figure."""


class ImageGrid:
    """Arranges rows of an image data set as images in a grid.

    Parameters
    ----------
    data : Dataset
        Image data; its test rows determine the values of black and white.
    """

    def __init__(self, data: Dataset) -> None:
        assert data.image_shape is not None
        self.shape = data.image_shape
        self.rows = np.asarray(data.x_test[:20]) / (255 if data.x_test.dtype == np.uint8 else 1)
        is_bounded = self.rows.min() >= 0 and self.rows.max() <= 1
        low, high = (0.0, 1.0) if is_bounded else np.quantile(self.rows, (0.01, 0.99))
        self.limits = float(low), float(high)

    def grid(self, rows: np.ndarray, n_columns: int) -> np.ndarray:
        """Image [height, width, 3] of rows, in reading order."""
        images = to_rgb(rows, self.shape, self.limits)
        height, width = (size + GAP for size in self.shape[-2:])
        n_rows = -(-len(images) // n_columns)
        grid = np.full((n_rows * height - GAP, n_columns * width - GAP, 3), 255, np.uint8)
        for k, image in enumerate(images):
            top, left = (k // n_columns) * height, (k % n_columns) * width
            grid[top : top + height - GAP, left : left + width - GAP] = image
        return grid

    def samples(self, model: Any) -> np.ndarray:
        """Samples, one column per class if the model is class-conditional."""
        options = {"mean": True} if isinstance(model, LatentEstimator) else {}
        if is_class_conditional(model):
            n, y = len(model.classes_), np.tile(model.classes_, N_ROWS)
            return self.grid(model.sample(len(y), y, random_state=0, **options), n)
        return self.grid(model.sample(10 * N_ROWS, random_state=0, **options), 10)

    def reconstructions(self, model: LatentEstimator) -> np.ndarray:
        """Test images and reconstructions; others with half missing, imputed, and original."""
        first, second = self.rows[:10], self.rows[10:]
        incomplete = corrupt(second, "half", image_shape=self.shape)
        imputed = model.impute(incomplete, random_state=0)
        blank = np.full_like(first, self.limits[1])
        parts = [first, model.reconstruct(first), blank, incomplete, imputed, second]
        return self.grid(np.concatenate(parts), 10)

    def sample_log(self, model: ImplicitEstimator) -> np.ndarray:
        """Samples of the same noise in the last logged epochs."""
        samples = model.sample_log()[1][-N_ROWS:]
        return self.grid(np.concatenate(samples), samples.shape[1])


def draw(model: Any, data: Dataset) -> np.ndarray:
    """Figure of a model, bytes [height, width, 3]."""
    grid = ImageGrid(data)
    left = grid.samples(model)
    panel = grid.reconstructions if isinstance(model, LatentEstimator) else grid.sample_log
    gap = np.full((len(left), PANEL_GAP, 3), 255, np.uint8)
    figure = np.concatenate([left, gap, panel(model)], 1)
    zoom = max(1, round(HEIGHT / len(figure)))
    return figure.repeat(zoom, 0).repeat(zoom, 1)


def main(*names: str) -> None:
    """Draw the shipped models with these names, by default all."""
    for folder in sorted(ZOO.glob("*/")):
        model, config = open_run(folder)
        if hasattr(model, "sample") and folder.name in (names or [folder.name]):
            assert config is not None
            path = IMAGES / f"zoo-{folder.name}.png"
            Image.fromarray(draw(model, config.dataset())).save(path, optimize=True)
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(*sys.argv[1:])
