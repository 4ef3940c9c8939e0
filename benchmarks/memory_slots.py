"""Attention of each class to the memory slots of a shipped model, compared with published values.

Usage:  python benchmarks/memory_slots.py     (writes ``results/slots.json`` and a figure,
``docs/images/slots.png``)

Attention is averaged over the 10,000 test images of each class. The record contains the three
largest averages of every class, as printed in Jun Zhu's lecture (Tsinghua, 2017), and the
reconstruction error with and without each memory. The figure shows the decoded slots.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from interleave import RESULTS, write_record
from matplotlib.figure import Figure

from ancestral import MemoryVAE, datasets
from ancestral.evaluation import memory_analysis
from ancestral.experiments.report.figures import to_rgb
from ancestral.experiments.run_folder import open_run

MODEL = Path("zoo/memory-controls-softmax-plus")
FIGURE = RESULTS.parent / "docs" / "images" / "slots.png"
PAPER, INK, N_COLUMNS, N_RECONSTRUCTED = "#fbfaf7", "#22303c", 10, 2000
PUBLISHED = [
    [0.27, 0.82, 0.33, 0.11, 0.34, 0.15, 0.49, 0.27, 0.09, 0.28],
    [0.24, 0.09, 0.06, 0.11, 0.30, 0.13, 0.12, 0.27, 0.09, 0.21],
    [0.18, 0.05, 0.06, 0.11, 0.07, 0.07, 0.05, 0.11, 0.09, 0.18],
]
"""Three largest averages of the digits 0 to 9, of 70 slots next to the pixels, in the lecture."""


def reconstruction_errors(model: MemoryVAE, x: np.ndarray) -> dict[str, float]:
    """Mean squared error per pixel of reconstructions, by name of the ablated memories."""

    def error(*layers: int) -> float:
        with model.ablate_memories(*layers):
            return float(np.square(x - model.reconstruct(x)).mean())

    low, high = min(model.memories_), max(model.memories_)
    return {
        "none": float(np.square(x - model.reconstruct(x)).mean()),
        "the one next to the pixels": error(low),
        "the one next to the latent variables": error(high),
        "both": error(low, high),
    }


def draw_slots(
    model: MemoryVAE, layer: int, order: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Grid of the decoded slots of one memory, bytes [height, width, 3]."""
    images = np.array(to_rgb(model.decode_slots(layer)[order], shape, (0.0, 1.0)))
    n, height, width, _ = images.shape
    n_rows = -(-n // N_COLUMNS)
    grid = np.full((n_rows * (height + 1), N_COLUMNS * (width + 1), 3), 255, np.uint8)
    for k, image in enumerate(images):
        top, left = k // N_COLUMNS * (height + 1), k % N_COLUMNS * (width + 1)
        grid[top : top + height, left : left + width] = image
    return grid


def draw(model: MemoryVAE, attention: dict[int, np.ndarray], data: datasets.Dataset) -> Figure:
    """Figure with a row per memory: decoded slots, and mean attention of each class to them."""
    assert data.image_shape is not None
    size = (11, 3.1 * len(attention) + 0.6)
    figure = Figure(figsize=size, facecolor=PAPER, layout="constrained")
    grid = figure.subplots(len(attention), 2, width_ratios=(1, 1.25), squeeze=False)
    for (layer, weights), (left, right) in zip(attention.items(), grid, strict=True):
        order = memory_analysis.slots_by_class(weights)
        left.imshow(draw_slots(model, layer, order, data.image_shape))
        left.set(xticks=[], yticks=[])
        place = "the pixels" if layer == min(attention) else "the latent variables"
        left.set_title(f"{len(order)} slots next to {place}", color=INK)
        heat_map = right.imshow(weights[:, order], aspect="auto", cmap="viridis", vmin=0)
        right.set(xticks=[], yticks=range(len(weights)))
        right.set_title("mean attention of each class to each slot", color=INK)
        right.tick_params(length=0, labelcolor=INK)
        figure.colorbar(heat_map, ax=right, shrink=0.9).outline.set_visible(False)
        for axes in (left, right):
            axes.spines[:].set_visible(False)
    return figure


def summarize(layer: int, weights: np.ndarray) -> dict[str, Any]:
    """Entry of the record for one memory: the three largest slots of every class."""
    slots, largest = memory_analysis.largest_slots(weights)
    return {
        "layer": layer,
        "n_slots": weights.shape[1],
        "slots": slots.T.tolist(),
        "largest": largest.T.tolist(),
        "n_distinct_first": len(set(slots[:, 0].tolist())),
    }


def main(folder: str = str(MODEL)) -> None:
    """Compute the attention of the test images, and write the record and the figure."""
    model, config = open_run(folder)
    assert isinstance(model, MemoryVAE)
    assert config is not None
    data = config.dataset()
    x, y = np.asarray(data.x_test) / 255, np.asarray(data.y_test)
    attention = {
        layer: memory_analysis.class_mean_attention(model.attend(x, layer), y)
        for layer in model.memories_
    }
    memories = [summarize(layer, weights) for layer, weights in attention.items()]
    record = {
        "model": "/".join(Path(folder).parts[-3:]),
        "metric": "mean attention of the test images of each class, three largest slots",
        "classes": [str(c) for c in range(len(attention[min(attention)]))],
        "memories": memories,
        "published": PUBLISHED,
        "reconstruction_errors": reconstruction_errors(model, x[:N_RECONSTRUCTED]),
        "seed": model.seed_,
        "data_checksum": data.checksum,
    }
    write_record("slots", record)
    with mpl.rc_context({"font.family": "sans-serif"}):
        draw(model, attention, data).savefig(FIGURE, dpi=110, metadata={"Software": None})
    for memory in memories:
        for weights in memory["largest"]:
            print(memory["layer"], " ".join(f"{weight:.2f}" for weight in weights))


if __name__ == "__main__":
    main(*sys.argv[1:])
