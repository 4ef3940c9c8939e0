"""Make a picture of every shipped model that draws rows; the README has one of them.

Run it:  python docs/pictures.py     (or with names of shipped models, for those alone)

On the left samples, a column for each class where the model draws rows of a class. On the right,
where it has latent variables: test rows and their reconstructions; others with half taken away,
filled in, and as they were.
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
from ancestral.experiments.report.figures import tiles
from ancestral.experiments.run import open_run

DOCS = Path(__file__).resolve().parent
IMAGES, ZOO = DOCS / "images", DOCS.parent / "zoo"
GAP, BETWEEN, DEEP, HEIGHT = 1, 8, 6, 350


class Sheet:
    """Lays rows of a data set out as pictures, a white line apart.

    Parameters
    ----------
    data : Dataset
        Of images, whose test rows say what is black and what is white.
    """

    def __init__(self, data: Dataset) -> None:
        assert data.image_shape is not None
        self.shape = data.image_shape
        self.rows = np.asarray(data.x_test[:20]) / (255 if data.x_test.dtype == np.uint8 else 1)
        within = self.rows.min() >= 0 and self.rows.max() <= 1
        low, high = (0.0, 1.0) if within else np.quantile(self.rows, (0.01, 0.99))
        self.limits = float(low), float(high)

    def grid(self, rows: np.ndarray, n_columns: int) -> np.ndarray:
        """Return a picture [height, width, 3] of rows, line by line."""
        pictures = tiles(rows, self.shape, self.limits)
        height, width = (side + GAP for side in self.shape[-2:])
        n_lines = -(-len(pictures) // n_columns)
        page = np.full((n_lines * height - GAP, n_columns * width - GAP, 3), 255, np.uint8)
        for k, picture in enumerate(pictures):
            top, left = (k // n_columns) * height, (k % n_columns) * width
            page[top : top + height - GAP, left : left + width - GAP] = picture
        return page

    def samples(self, model: Any) -> np.ndarray:
        """Draw samples, of every class or of none in particular."""
        how = {"mean": True} if isinstance(model, LatentEstimator) else {}
        if is_class_conditional(model):
            n, y = len(model.classes_), np.tile(model.classes_, DEEP)
            return self.grid(model.sample(len(y), y, random_state=0, **how), n)
        return self.grid(model.sample(10 * DEEP, random_state=0, **how), 10)

    def repairs(self, model: LatentEstimator) -> np.ndarray:
        """Draw rows and reconstructions; others damaged, filled in, and as they were."""
        first, second = self.rows[:10], self.rows[10:]
        damaged = corrupt(second, "half", image_shape=self.shape)
        filled = model.impute(damaged, random_state=0)
        blank = np.full_like(first, self.limits[1])
        parts = [first, model.reconstruct(first), blank, damaged, filled, second]
        return self.grid(np.concatenate(parts), 10)

    def sample_log(self, model: ImplicitEstimator) -> np.ndarray:
        """Draw what the same noise became, the last pages of it."""
        pages = model.sample_log()[1][-DEEP:]
        return self.grid(np.concatenate(pages), pages.shape[1])


def picture(model: Any, data: Dataset) -> np.ndarray:
    """Draw samples; beside them what the model makes of test rows, or how it came to learn."""
    sheet = Sheet(data)
    page = sheet.samples(model)
    beside = sheet.repairs if isinstance(model, LatentEstimator) else sheet.sample_log
    between = np.full((len(page), BETWEEN, 3), 255, np.uint8)
    page = np.concatenate([page, between, beside(model)], 1)
    zoom = max(1, round(HEIGHT / len(page)))
    return page.repeat(zoom, 0).repeat(zoom, 1)


def main(*names: str) -> None:
    """Draw the shipped models of these names, or all."""
    for folder in sorted(ZOO.glob("*/")):
        model, config = open_run(folder)
        if hasattr(model, "sample") and folder.name in (names or [folder.name]):
            assert config is not None
            target = IMAGES / f"zoo-{folder.name}.png"
            Image.fromarray(picture(model, config.dataset())).save(target, optimize=True)
            print(target.relative_to(DOCS.parent))


if __name__ == "__main__":
    main(*sys.argv[1:])
