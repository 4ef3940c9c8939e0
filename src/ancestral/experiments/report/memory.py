"""Section on the memories of a MemoryVAE: slots, attention by class, and ablations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.estimators.memory_vae import MemoryVAE
from ancestral.evaluation import memory_analysis
from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import (
    Chart,
    HtmlTable,
    Section,
    format_count,
    format_number,
    format_significant,
    join_words,
)
from ancestral.experiments.report.figures import INK, draw_svg, image_row_grid

GRID_COLUMNS, MAX_EVALUATED, SLOT_COLUMNS = 14, 500, 10

COLOUR_MAP = "viridis"


def sections(context: ReportContext) -> list[Section]:
    """Section on the memories of a :class:`MemoryVAE`; empty for other models."""
    estimator = context.estimator
    if not isinstance(estimator, MemoryVAE) or not estimator.memories_:
        return []
    paragraphs = [
        "Hidden layers of the decoder read from memories. The slots of a memory are parameters "
        "shared by all rows; each row computes attention weights over the slots.",
    ]
    charts, table = [], None
    labels = _labels(context)
    if context.image_shape is not None:
        charts += [_slot_images(context, n) for n in estimator.memories_]
        paragraphs.append(
            "Slot images: the decoder output for a single slot, with the input of the layer set "
            "to zero."
        )
    if labels is not None:
        attention = {n: _class_attention(context, n, labels) for n in estimator.memories_}
        charts += [_attention_chart(context, n, a) for n, a in attention.items()]
        charts.append(_similarity_chart(context, attention, labels))
        table = _largest_weights(context, attention)
        paragraphs.append(
            "Mean attention by class: slots are sorted by the class with the largest weight, so "
            "bright cells along the diagonal are slots specific to a class. A column with several "
            "bright cells is shared by classes. The last heat maps compare the similarity of "
            "classes in attention and in the data."
        )
    if context.image_shape is not None:
        charts.append(_ablation_images(context))
    paragraphs.append(_ablation_errors(context))
    return [Section("memory", "Memory", paragraphs, charts, table)]


def _labels(context: ReportContext) -> np.ndarray | None:
    """Class indices of the rows; None if there are none."""
    y = context.y
    return y if y is not None and y.dtype.kind == "i" and (y >= 0).any() else None


def _memory_name(estimator: MemoryVAE, n: int) -> str:
    """Name of the memory of hidden layer n, by its neighbour in the network."""
    last = len(estimator._values_per_layer("n_slots")) - 1
    if n == 0:
        return "memory next to the data"
    return "memory next to the latent variables" if n == last else f"memory of layer {n}"


def _slot_images(context: ReportContext, n: int) -> Chart:
    estimator = context.estimator
    assert isinstance(estimator, MemoryVAE)
    decoded, labels = estimator.decode_slots(n), _labels(context)
    if labels is not None:
        decoded = decoded[memory_analysis.slots_by_class(_class_attention(context, n, labels))]
    name, n_slots = _memory_name(estimator, n), format_count(len(decoded), "slot")
    return Chart(
        alt=f"Grid of the decoded images of {n_slots} of the {name}.",
        caption=f"{n_slots} of the {name}",
        png=image_row_grid(context, decoded, SLOT_COLUMNS),
        size="half",
    )


def _class_attention(context: ReportContext, n: int, labels: np.ndarray) -> np.ndarray:
    assert isinstance(context.estimator, MemoryVAE)
    return memory_analysis.class_mean_attention(context.estimator.attend(context.x, n), labels)


def _attention_chart(context: ReportContext, n: int, attention: np.ndarray) -> Chart:
    assert isinstance(context.estimator, MemoryVAE)
    ordered = attention[:, memory_analysis.slots_by_class(attention)]
    class_names = context.class_names(np.arange(len(attention)))
    name = _memory_name(context.estimator, n)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        image = axes.imshow(
            ordered, aspect="auto", cmap=COLOUR_MAP, vmin=0, interpolation="nearest"
        )
        axes.set_yticks(range(len(class_names)), class_names, fontsize=8)
        axes.set_xticks([])
        axes.set_ylabel("class")
        axes.set_xlabel(f"{ordered.shape[1]} slots, sorted by class")
        _hide_spines(axes)
        bar = figure.colorbar(image, label="attention weight", shrink=0.9)
        bar.outline.set_visible(False)

    uniform = 1 / attention.shape[1]
    return Chart(
        alt=f"Heat map of the mean attention by class and slot, {name}.",
        caption=f"Mean attention by class, {name}. Uniform attention is "
        f"{format_significant(uniform)}.",
        svg=draw_svg(f"attention{n}", 7.5, 0.9 + 0.2 * len(class_names), paint),
    )


def _similarity_chart(
    context: ReportContext, attention: dict[int, np.ndarray], labels: np.ndarray
) -> Chart:
    assert isinstance(context.estimator, MemoryVAE)
    x = np.nan_to_num(context.x)
    n_classes = len(next(iter(attention.values())))
    panels = {_memory_name(context.estimator, n): a for n, a in attention.items()}
    panels["data"] = np.stack(
        [x[labels == c].mean(0) if (labels == c).any() else np.zeros(x.shape[1])
         for c in range(n_classes)]
    )  # fmt: skip
    names = context.class_names(np.arange(n_classes))

    def paint(figure: Any) -> None:
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, averages) in zip(grid, panels.items(), strict=True):
            covariance = memory_analysis.class_covariance(np.nan_to_num(averages))
            axes.imshow(covariance, cmap=COLOUR_MAP)
            axes.set_title(title, fontsize=8)
            rotation = 0 if max(map(len, names)) <= 2 else 90
            axes.set_xticks(range(len(names)), names, fontsize=7, rotation=rotation)
            axes.set_yticks(range(len(names)), names, fontsize=7)
            _hide_spines(axes)

    return Chart(
        alt="Heat maps of the covariance between classes of their mean attention and mean rows.",
        caption="Covariance between classes of their mean attention weights, for each memory, and "
        "of their mean rows. Each heat map has its own scale; bright is similar.",
        svg=draw_svg("similarity", 7.5, 0.4 + 7.0 / len(panels), paint),
    )


def _hide_spines(axes: Any) -> None:
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _largest_weights(context: ReportContext, attention: dict[int, np.ndarray]) -> HtmlTable:
    """Three largest mean attention weights of each class and memory (Jun Zhu's lecture, 2017)."""
    assert isinstance(context.estimator, MemoryVAE)
    rows, n_classes = [], 0
    for n, weights in sorted(attention.items()):
        name, n_classes = _memory_name(context.estimator, n), len(weights)
        slots, largest = memory_analysis.largest_slots(weights)
        for rank, slot, weight in zip(("1st", "2nd", "3rd"), slots.T, largest.T, strict=False):
            cells = [f"{format_number(w)} ({k})" for w, k in zip(weight, slot, strict=True)]
            rows.append([f"{name}, {rank}", *cells])
    return HtmlTable(
        caption="Largest mean attention weights of each class, with the index of the slot.",
        header=("class", *context.class_names(np.arange(n_classes))),
        rows=rows,
    )


def _ablation_images(context: ReportContext) -> Chart:
    estimator = context.estimator
    assert isinstance(estimator, MemoryVAE)
    images = context.x[np.sort(context.rng(7).permutation(len(context.x))[:GRID_COLUMNS])]
    rows = {"original": images, "reconstructed": estimator.reconstruct(images)}
    for memories in _ablations(estimator):
        with estimator.ablate_memories(*memories):
            rows[_ablation_name(estimator, memories)] = estimator.reconstruct(images)
    return Chart(
        alt=f"Rows of {len(images)} images: originals, reconstructions, and reconstructions with "
        "ablated memories.",
        caption="Reconstructions with ablated memories: their output is replaced by ones",
        png=image_row_grid(context, np.concatenate(list(rows.values())), len(images)),
        labels=tuple(rows),
    )


def _ablations(estimator: MemoryVAE) -> list[tuple[int, ...]]:
    """Each memory alone, and all together if there are several."""
    single: list[tuple[int, ...]] = [(n,) for n in estimator.memories_]
    return [*single, *([estimator.memories_] if len(single) > 1 else [])]


def _ablation_name(estimator: MemoryVAE, memories: tuple[int, ...]) -> str:
    if len(memories) == len(estimator.memories_):
        return "without memory" if len(memories) == 1 else "without memories"
    names = {
        "memory next to the data": "without data side",
        "memory next to the latent variables": "without latent side",
    }
    return names.get(_memory_name(estimator, memories[0]), f"without layer {memories[0]}")


def _ablation_errors(context: ReportContext) -> str:
    """Sentence with the reconstruction errors with and without memories."""
    estimator = context.estimator
    assert isinstance(estimator, MemoryVAE)
    x = context.x[:MAX_EVALUATED]

    def error() -> str:
        return format_significant(float(np.nanmean(np.square(x - estimator.reconstruct(x)))))

    errors = []
    for memories in _ablations(estimator):
        with estimator.ablate_memories(*memories):
            errors.append(f"{error()} ({_ablation_name(estimator, memories)})")
    return (
        f"Ablation: the mean squared reconstruction error per entry is {error()}, and "
        f"{join_words(errors)} if the output of memories is replaced by ones."
    )
