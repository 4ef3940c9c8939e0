"""A map of the latent space: where the rows lie, and what lies where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import MINUS, Plate, Section, count, number
from ancestral.experiments.report.figures import (
    DATA_PIXELS,
    INK,
    PAPER,
    UNLABELLED,
    colours,
    draw,
    sheet,
    tiles,
)
from ancestral.probability import distributions

EMBEDDED_ROWS, LEAST_EMBEDDED = 1000, 50

MOST_CLASSES = 40

ACTIVE = 0.01

MANIFOLD_SIDE = 15


@dataclass(frozen=True)
class Map:
    """Points in one or two dimensions, what the axes are, and how they were found in words."""

    points: np.ndarray
    y: np.ndarray | None
    axes: tuple[str, ...]
    how: str


def latent_map(subject: Subject) -> Section:
    """Draw the posterior means of the rows, and in two dimensions what the decoder makes of z."""
    found = flatten(subject)
    active = int((subject.latents.var(0) > ACTIVE).sum())
    n_latents = subject.latents.shape[1]
    words = [
        f"A point is the posterior mean of the latent variables of a {subject.split} row: rows the "
        f"model finds alike lie close together. {found.how}",
    ]
    if found.y is not None:
        words.append(
            "Colours are labels: where they keep apart, the latent variables tell the classes "
            "from one another."
        )
    words.append(
        f"{active} of {count(n_latents, 'latent variable')} {'is' if active == 1 else 'are'} "
        f"active: the posterior mean varies from row to row (by a variance above {ACTIVE})."
        + (" The others carry nothing." if active < n_latents else "")
    )
    beside = n_latents == 2 and subject.image_shape is not None and _has_plane(subject)
    plates = [_plate(subject, found, "half" if beside else "wide")]
    if beside:
        plates.append(_manifold(subject))
        words.append(
            "The sheet shows what the decoder makes of a grid of points, spaced so that each "
            "stands for as much of the prior as any other: rightward and upward as in the map."
        )
    return Section("latents", "The latent space", words, plates)


def flatten(subject: Subject) -> Map:
    """Bring the posterior means to at most two dimensions."""
    z, y = subject.latents, subject.y
    if z.shape[1] <= 2:
        drawn = ("There is one, drawn from left to right.", "There are two, drawn as they are.")
        return Map(z, y, ("z₁", "z₂")[: z.shape[1]], drawn[z.shape[1] - 1])
    if y is not None and y.dtype.kind == "i" and len(z) >= LEAST_EMBEDDED:
        return _embed(subject)
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full").fit(z)
    first, second = pca.explained_variance_ratio_
    how = (
        f"Of the {z.shape[1]} dimensions one sees the two in which the points spread most "
        f"(principal components, {first + second:.0%} of the variance)."
    )
    labels = (f"first component ({first:.0%})", f"second component ({second:.0%})")
    return Map(pca.transform(z), y, labels, how)


def _embed(subject: Subject) -> Map:
    from sklearn.manifold import TSNE

    order = np.sort(subject.noise(4).permutation(len(subject.x))[:EMBEDDED_ROWS])
    z = subject.latents[order]
    tsne = TSNE(
        2,
        perplexity=min(30.0, len(z) / 4),
        init="pca",
        max_iter=500,
        random_state=subject.seed % 2**32,
    )
    assert subject.y is not None
    how = (
        f"The {z.shape[1]} dimensions are flattened by t-SNE ({count(len(z), 'row')}), which keeps "
        "neighbours together; distances between groups, and the axes, mean nothing."
    )
    return Map(tsne.fit_transform(z), subject.y[order], (), how)


def _plate(subject: Subject, found: Map, size: str) -> Plate:
    groups = _groups(subject, found.y)
    flat = found.points.shape[1] == 1
    targets = found.y if found.y is not None and found.y.dtype.kind == "f" else None

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        x, height = _coordinates(found, subject)
        if targets is not None:
            shades = axes.scatter(x, height, c=targets, s=9, cmap="viridis", rasterized=True)
            shades.set_linewidth(0)
            figure.colorbar(shades, label="target", shrink=0.7).outline.set_visible(False)
        for label, colour, name in groups:
            mine = np.full(len(x), True) if label is None else found.y == label
            area = 9 if len(x) > 400 else 14
            axes.scatter(
                x[mine], height[mine], s=area, color=colour, lw=0, alpha=0.85, rasterized=True
            )
            if label is not None and label >= 0 and not flat:
                _write(axes, name, np.median(x[mine]), np.median(height[mine]))
        _frame(axes, found)

    coloured = "coloured by label" if groups and groups[0][0] is not None else "of one colour"
    legend = [(colour, name) for label, colour, name in groups if label is not None]
    inches = {"half": (4.0, 3.9), "wide": (5.6, 2.6 if flat else 4.6)}[size]
    return Plate(
        alt=f"Scatter plot of the posterior means of {len(found.points)} {subject.split} rows, "
        f"{'shaded by target' if targets is not None else coloured}.",
        caption=f"{count(len(found.points), 'row')} of the {subject.split} split"
        + ("" if found.axes else ", flattened by t-SNE"),
        svg=draw("map", *inches, paint),
        size=size,
        legend=legend,
    )


def _coordinates(found: Map, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    if found.points.shape[1] == 2:
        return found.points[:, 0], found.points[:, 1]
    jitter = subject.noise(5).uniform(-0.35, 0.35, len(found.points))
    classes = found.y if found.y is not None and found.y.dtype.kind == "i" else 0
    return found.points[:, 0], jitter - classes


def _groups(subject: Subject, y: np.ndarray | None) -> list[tuple[int | None, str, str]]:
    """Return (label, colour, name) of what is drawn in one colour; nothing for real targets."""
    if y is not None and y.dtype.kind == "f":
        return []
    labels = [] if y is None else [int(c) for c in np.unique(y[y >= 0])]
    if not 0 < len(labels) <= MOST_CLASSES:
        return [(None, DATA_PIXELS, "")]
    names = subject.dataset.class_names
    named = [names[c] if names is not None and c < len(names) else str(c) for c in labels]
    found: list[tuple[int | None, str, str]] = list(
        zip(labels, colours(len(labels)), named, strict=True)
    )
    assert y is not None
    return [*([(-1, UNLABELLED, "no label")] if (y < 0).any() else []), *found]


def _write(axes: Any, name: str, x: float, y: float) -> None:
    from matplotlib import patheffects

    halo = patheffects.withStroke(linewidth=3, foreground=PAPER)
    axes.text(x, y, name, ha="center", va="center", color=INK, fontsize=10, weight="bold",
              path_effects=[halo], clip_on=True)  # fmt: skip


def _frame(axes: Any, found: Map) -> None:
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(bool(found.axes))
    if not found.axes:
        axes.set_xticks([])
    if len(found.axes) < 2:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    else:
        upright = len(found.axes[1]) < 4
        axes.set_ylabel(found.axes[1], rotation=0 if upright else 90)
        axes.set_aspect("equal", "datalim")
    if found.axes:
        axes.set_xlabel(found.axes[0])


def _has_plane(subject: Subject) -> bool:
    """Whether z is one layer of two variables (and not two layers of one)."""
    return np.size(subject.estimator.get_params().get("n_latents", 2)) == 1


@torch.no_grad()
def _manifold(subject: Subject) -> Plate:
    estimator = subject.estimator
    steps = norm.ppf(np.linspace(0.03, 0.97, MANIFOLD_SIDE))
    grid = np.array([(a, b) for b in steps[::-1] for a in steps])
    device = next(estimator.model_.parameters()).device
    z = torch.as_tensor(grid, dtype=torch.float32, device=device)
    mean = distributions.mean_or_mode(estimator.model_.decode(z))
    rows = estimator.columns_.to_data_units(mean).cpu().numpy()
    edge = number(float(steps[-1]), 1)
    return Plate(
        alt=f"A sheet of {len(grid)} images decoded from a grid of latent points.",
        caption=f"Decoded: z₁ from {MINUS}{edge} to {edge} rightward, z₂ likewise upward",
        png=sheet(tiles(rows, subject.image_shape or (), subject.limits), MANIFOLD_SIDE),
        size="half",
    )
