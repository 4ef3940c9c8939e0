"""Make the README's picture from the run that `make demo` leaves.

Run it:  make demo && python docs/pictures.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

import ancestral
from ancestral.preprocess import corrupt
from ancestral.report.drawing import tiles

RUN = Path("demo/iwae-digits")
SHAPE, LIMITS, GAP, ZOOM = (8, 8), (0.0, 1.0), 1, 6


def grid(rows: np.ndarray, n_columns: int) -> np.ndarray:
    pictures = tiles(rows, SHAPE, LIMITS)
    height, width = SHAPE[0] + GAP, SHAPE[1] + GAP
    n_rows = -(-len(pictures) // n_columns)
    page = np.full((n_rows * height - GAP, n_columns * width - GAP, 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = (k // n_columns) * height, (k % n_columns) * width
        page[top : top + SHAPE[0], left : left + SHAPE[1]] = picture
    return page


def picture() -> np.ndarray:
    model = ancestral.load(RUN / "model")
    rows = ancestral.datasets.load("digits").x_test[:8]
    damaged = corrupt(rows, "half", image_shape=SHAPE)
    drawn = grid(model.sample(80, mean=True), 16)
    repairs = np.concatenate([rows, damaged, model.impute(damaged)])
    rebuilt = np.concatenate([rows, model.reconstruct(rows)])
    panels = [drawn, grid(np.concatenate([rebuilt, repairs]), 8)]
    height = max(p.shape[0] for p in panels)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 6), (0, 0)), constant_values=255)
              for p in panels]  # fmt: skip
    return np.concatenate(padded, 1)[:, :-6].repeat(ZOOM, 0).repeat(ZOOM, 1)


if __name__ == "__main__":
    target = Path(__file__).parent / "images" / "digits.png"
    Image.fromarray(picture()).save(target, optimize=True)
    print(target)
