"""How many of eight modes a GAN covers: a ring of narrow Gaussians, ten seeds.

Run it:  python benchmarks/ring.py     (writes ``results/ring.json`` and ``docs/images/ring.svg``)

A mode counts as covered if one in a hundred samples, an eighth of its fair share, lies within three
standard deviations of its centre. Rate and length were found by looking at seeds 2, 4 and 6.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from turns import RESULTS, write

from ancestral import GAN
from ancestral.evaluation.sample_quality import count_covered_modes, nearest_neighbors

PICTURE = RESULTS.parent / "docs" / "images" / "ring.svg"
RADIUS, WIDTH, N_ROWS, N_DRAWN = 2.0, 0.05, 2560, 2000
HOW: dict[str, Any] = {
    "n_noise": 8,
    "noise": "normal",
    "hidden": (128, 128),
    "critic": (128, 128),
    "batch_size": 256,
    "learning_rate": 2e-3,
    "penalty": 0.1,
    "schedule": "cosine",
    "max_epochs": 250,
}


def ring(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres and rows around them."""
    rng, angles = np.random.default_rng(seed), 2 * np.pi * np.arange(8) / 8
    centres = RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)
    return centres, centres[rng.integers(0, 8, N_ROWS)] + WIDTH * rng.normal(size=(N_ROWS, 2))


def play(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Play one game, and say what its samples cover."""
    centres, rows = ring(seed)
    gan = GAN(**HOW, random_state=seed).fit(rows)
    drawn = gan.sample(N_DRAWN, random_state=seed)
    distance, _ = nearest_neighbors(drawn, centres)
    found = {
        "seed": seed,
        "modes": count_covered_modes(drawn, centres, 3 * WIDTH),
        "share_within": float((distance <= 3 * WIDTH).mean()),
        "seconds": gan.history_[-1]["seconds"],
    }
    return found, drawn


def drawing(found: list[dict[str, Any]], drawn: list[np.ndarray]) -> Figure:
    """Draw every game's samples on the ring."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, game, points in zip(figure.subplots(2, 5).flat, found, drawn, strict=False):
        centres = ring(0)[0]
        axes.plot(*centres.T, "o", ms=11, mfc="none", mec="#7d8ba0", mew=0.8)
        axes.plot(*points[:1000].T, ".", ms=1.5, color="#b5652a", rasterized=True)
        axes.set(title=f"seed {game['seed']}: {game['modes']} of 8", aspect="equal")
        axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
        axes.axis("off")
    return figure


def main(n_seeds: str = "10") -> None:
    """Play, and write the record and the picture."""
    found, drawn = [], []
    for seed in range(int(n_seeds)):
        game, points = play(seed)
        found.append(game)
        drawn.append(points)
        print(f"seed {seed}: {game['modes']} of 8 modes, {game['share_within']:.0%} within")
    record = {
        "metric": "modes of a ring of eight Gaussians that a GAN covers",
        "config": HOW,
        "covered_all": sum(game["modes"] == 8 for game in found),
        "games": found,
    }
    write("ring", record)
    with rc_context({"svg.hashsalt": "ring"}):
        drawing(found, drawn).savefig(PICTURE, dpi=150, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
