"""What the slots of a memory stand for: a shipped model's, beside published ones.

Run it:  python benchmarks/slots.py     (the record goes to ``results/slots.json``)

Attention of the 10,000 test images, averaged within each class: the three largest of every class as
Jun Zhu's lecture (Tsinghua, 2017) prints them, a picture of every slot, and how much worse
reconstructions are when memories answer ones whatever they are asked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from turns import RESULTS, write

from ancestral import MemoryVAE, datasets
from ancestral.evaluation import memory_analysis
from ancestral.experiments.report.figures import tiles
from ancestral.experiments.run import open_run

MODEL = Path("zoo/memory-controls-softmax-plus")
PICTURE = RESULTS.parent / "docs" / "images" / "slots.png"
PAPER, INK, ACROSS, REBUILT = "#fbfaf7", "#22303c", 10, 2000
PUBLISHED = [
    [0.27, 0.82, 0.33, 0.11, 0.34, 0.15, 0.49, 0.27, 0.09, 0.28],
    [0.24, 0.09, 0.06, 0.11, 0.30, 0.13, 0.12, 0.27, 0.09, 0.21],
    [0.18, 0.05, 0.06, 0.11, 0.07, 0.07, 0.05, 0.11, 0.09, 0.18],
]
"""The lecture's, the three largest averages of the digits 0 to 9, of 70 slots next to the data."""


def errors(model: MemoryVAE, x: np.ndarray) -> dict[str, float]:
    """Return the squared error of a pixel when rows are rebuilt with and without memories."""

    def error(*which: int) -> float:
        with model.ablate_memories(*which):
            return float(np.square(x - model.reconstruct(x)).mean())

    low, high = min(model.memories_), max(model.memories_)
    return {
        "whole": float(np.square(x - model.reconstruct(x)).mean()),
        "the one next to the pixels": error(low),
        "the one next to the latent variables": error(high),
        "both": error(low, high),
    }


def sheet(model: MemoryVAE, n: int, order: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pictures of all slots in one, the most alike classes' together."""
    pictures = np.array(tiles(model.decode_slots(n)[order], shape, (0.0, 1.0)))
    count, height, width, _ = pictures.shape
    lines = -(-count // ACROSS)
    page = np.full((lines * (height + 1), ACROSS * (width + 1), 3), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = k // ACROSS * (height + 1), k % ACROSS * (width + 1)
        page[top : top + height, left : left + width] = picture
    return page


def draw(model: MemoryVAE, asked: dict[int, np.ndarray], data: datasets.Dataset) -> Figure:
    """Draw every memory: its slots on the left, which class asks for which on the right."""
    assert data.image_shape is not None
    figure = Figure(figsize=(11, 3.1 * len(asked) + 0.6), facecolor=PAPER, layout="constrained")
    grid = figure.subplots(len(asked), 2, width_ratios=(1, 1.25), squeeze=False)
    for (n, preferences), (left, right) in zip(asked.items(), grid, strict=True):
        order = memory_analysis.slots_by_class(preferences)
        left.imshow(sheet(model, n, order, data.image_shape))
        left.set(xticks=[], yticks=[])
        where = "the pixels" if n == min(asked) else "the latent variables"
        left.set_title(f"{len(order)} slots next to {where}", color=INK)
        shades = right.imshow(preferences[:, order], aspect="auto", cmap="viridis", vmin=0)
        right.set(xticks=[], yticks=range(len(preferences)))
        right.set_title("share of its attention that a class gives to each slot", color=INK)
        right.tick_params(length=0, labelcolor=INK)
        figure.colorbar(shades, ax=right, shrink=0.9).outline.set_visible(False)
        for axes in (left, right):
            axes.spines[:].set_visible(False)
    return figure


def main(folder: str = str(MODEL)) -> None:
    """Ask every test image, write the record and the picture."""
    model, config = open_run(folder)
    assert isinstance(model, MemoryVAE)
    assert config is not None
    data = config.dataset()
    x, y = np.asarray(data.x_test) / 255, np.asarray(data.y_test)
    asked = {
        n: memory_analysis.class_mean_attention(model.attend(x, n), y) for n in model.memories_
    }
    memories: list[dict[str, Any]] = []
    for n, preferences in asked.items():
        which, sizes = memory_analysis.largest_slots(preferences)
        memories.append({
            "layer": n, "n_slots": preferences.shape[1], "slots": which.T.tolist(),
            "largest": sizes.T.tolist(), "favourites": len(set(which[:, 0].tolist())),
        })  # fmt: skip
    record = {
        "model": "/".join(Path(folder).parts[-3:]),
        "metric": "mean attention of the test images of each class, its three largest shares",
        "classes": [str(c) for c in range(len(asked[min(asked)]))],
        "memories": memories,
        "published": PUBLISHED,
        "rebuilt": errors(model, x[:REBUILT]),
        "seed": model.seed_,
        "data_checksum": data.checksum,
    }
    write("slots", record)
    with mpl.rc_context({"font.family": "sans-serif"}):
        draw(model, asked, data).savefig(PICTURE, dpi=110, metadata={"Software": None})
    for memory in memories:
        for line in memory["largest"]:
            print(memory["layer"], " ".join(f"{share:.2f}" for share in line))


if __name__ == "__main__":
    main(*sys.argv[1:])
