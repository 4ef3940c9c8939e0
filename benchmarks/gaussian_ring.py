"""Mode coverage of a GAN on a ring of eight narrow Gaussians, for ten seeds.

Usage:  python benchmarks/gaussian_ring.py     (writes ``results/ring.json`` and a figure,
``docs/images/ring.svg``)

A mode counts as covered if 1 % of the samples, an eighth of its share, lie within three standard
deviations of its centre. The learning rate and the number of epochs were chosen on seeds 2, 4 and
6.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from interleave import RESULTS, write_record
from matplotlib import rc_context
from matplotlib.figure import Figure

from ancestral import GAN
from ancestral.evaluation.sample_quality import count_covered_modes, nearest_neighbors

FIGURE = RESULTS.parent / "docs" / "images" / "ring.svg"
RADIUS, STD, N_ROWS, N_SAMPLES = 2.0, 0.05, 2560, 2000
OPTIONS: dict[str, Any] = {
    "n_noise": 8,
    "noise_distribution": "normal",
    "hidden": (128, 128),
    "critic": (128, 128),
    "batch_size": 256,
    "learning_rate": 2e-3,
    "gradient_penalty": 0.1,
    "schedule": "cosine",
    "max_epochs": 250,
}


def ring(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres [8, 2] of the components, and training rows [2560, 2]."""
    rng, angles = np.random.default_rng(seed), 2 * np.pi * np.arange(8) / 8
    centres = RADIUS * np.stack([np.cos(angles), np.sin(angles)], 1)
    return centres, centres[rng.integers(0, 8, N_ROWS)] + STD * rng.normal(size=(N_ROWS, 2))


def fit_and_sample(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Mode coverage of a GAN fitted with one seed, and its samples [2000, 2]."""
    centres, rows = ring(seed)
    gan = GAN(**OPTIONS, random_state=seed).fit(rows)
    samples = gan.sample(N_SAMPLES, random_state=seed)
    distances, _ = nearest_neighbors(samples, centres)
    coverage = {
        "seed": seed,
        "modes": count_covered_modes(samples, centres, 3 * STD),
        "share_within": float((distances <= 3 * STD).mean()),
        "seconds": gan.history_[-1]["seconds"],
    }
    return coverage, samples


def draw(runs: list[dict[str, Any]], samples: list[np.ndarray]) -> Figure:
    """Scatter plot of the samples of every run and the centres of the components."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axes, run, points in zip(figure.subplots(2, 5).flat, runs, samples, strict=False):
        centres = ring(0)[0]
        axes.plot(*centres.T, "o", ms=11, mfc="none", mec="#7d8ba0", mew=0.8)
        axes.plot(*points[:1000].T, ".", ms=1.5, color="#b5652a", rasterized=True)
        axes.set(title=f"seed {run['seed']}: {run['modes']} of 8", aspect="equal")
        axes.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
        axes.axis("off")
    return figure


def main(n_seeds: str = "10") -> None:
    """Fit a GAN per seed, and write the record and the figure."""
    runs, samples = [], []
    for seed in range(int(n_seeds)):
        run, points = fit_and_sample(seed)
        runs.append(run)
        samples.append(points)
        print(f"seed {seed}: {run['modes']} of 8 modes, {run['share_within']:.0%} within")
    record = {
        "metric": "number of modes of a ring of eight Gaussians covered by a GAN",
        "config": OPTIONS,
        "n_full_coverage": sum(run["modes"] == 8 for run in runs),
        "runs": runs,
    }
    write_record("ring", record)
    with rc_context({"svg.hashsalt": "ring"}):
        draw(runs, samples).savefig(FIGURE, dpi=150, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
