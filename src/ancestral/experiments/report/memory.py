"""What a memory has learnt: its slots, which classes ask for them, and what is lost without it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.estimators.memory_vae import MemoryVAE
from ancestral.evaluation import memory_analysis
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import (
    Plate,
    Section,
    Table,
    count,
    listed,
    number,
    short,
)
from ancestral.experiments.report.figures import INK, draw, sheet, tiles

STRIP, MEASURED, SLOT_COLUMNS = 14, 500, 10

SHADES = "viridis"


def memory(subject: Subject) -> list[Section]:
    """Return the section about the memories of a :class:`MemoryVAE`; nothing for other models."""
    estimator = subject.estimator
    if not isinstance(estimator, MemoryVAE) or not estimator.memories_:
        return []
    words = [
        "Beside its hidden layers the decoder reads memories: each slot is a pattern, learned "
        "once and shared by all rows, and each row asks for the slots it needs.",
    ]
    plates, table = [], None
    labels = _labels(subject)
    if subject.image_shape is not None:
        plates += [_slots(subject, n) for n in estimator.memories_]
        words.append(
            "A tile is what the decoder makes of one slot when the layer's own input is taken "
            "away: what that slot alone says."
        )
    if labels is not None:
        asked = {n: _preferences(subject, n, labels) for n in estimator.memories_}
        plates += [_preference_plate(subject, n, found) for n, found in asked.items()]
        plates.append(_similarity_plate(subject, asked, labels))
        table = _largest(subject, asked)
        words.append(
            "The charts show how much of its attention a class gives to each slot, slots ordered "
            "by the class that asks most for them. Bright cells along a staircase are slots of one "
            "class; a column with several bright cells is shared by classes that look alike, as "
            "the similarity of the classes, by attention and by pixels, shows beside each other."
        )
    if subject.image_shape is not None:
        plates.append(_silenced_strip(subject))
    words.append(_losses(subject))
    return [Section("memory", "What the memory learnt", words, plates, table)]


def _labels(subject: Subject) -> np.ndarray | None:
    y = subject.y
    return y if y is not None and y.dtype.kind == "i" and (y >= 0).any() else None


def _where(estimator: MemoryVAE, n: int) -> str:
    last = len(estimator._values_per_layer("n_slots")) - 1
    if n == 0:
        return "the data"
    return "the latent variables" if n == last else f"layer {n}"


def _slots(subject: Subject, n: int) -> Plate:
    estimator = subject.estimator
    assert isinstance(estimator, MemoryVAE)
    decoded, labels = estimator.decode_slots(n), _labels(subject)
    if labels is not None:
        decoded = decoded[memory_analysis.slots_by_class(_preferences(subject, n, labels))]
    pictures = tiles(decoded, subject.image_shape or (), subject.limits)
    where = _where(estimator, n)
    return Plate(
        alt=f"A sheet of {count(len(pictures), 'image')}, one for each slot of the memory next "
        f"to {where}.",
        caption=f"{count(len(pictures), 'slot')} next to {where}",
        png=sheet(pictures, SLOT_COLUMNS),
        size="half",
    )


def _preferences(subject: Subject, n: int, labels: np.ndarray) -> np.ndarray:
    assert isinstance(subject.estimator, MemoryVAE)
    return memory_analysis.class_mean_attention(subject.estimator.attend(subject.x, n), labels)


def _names(subject: Subject, n_classes: int) -> list[str]:
    names = subject.dataset.class_names
    return [names[c] if names is not None and c < len(names) else str(c) for c in range(n_classes)]


def _preference_plate(subject: Subject, n: int, preferences: np.ndarray) -> Plate:
    assert isinstance(subject.estimator, MemoryVAE)
    ordered = preferences[:, memory_analysis.slots_by_class(preferences)]
    names, where = _names(subject, len(preferences)), _where(subject.estimator, n)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        shades = axes.imshow(ordered, aspect="auto", cmap=SHADES, vmin=0, interpolation="nearest")
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_xticks([])
        axes.set_xlabel(f"{ordered.shape[1]} slots next to {where}")
        _bare(axes)
        figure.colorbar(shades, label="share of attention", shrink=0.9).outline.set_visible(False)

    even = 1 / preferences.shape[1]
    return Plate(
        alt=f"Heat map of attention by class and slot, memory next to {where}.",
        caption=f"Attention of each class to the slots next to {where}; evenly spread it would be "
        f"{short(even)}.",
        svg=draw(f"slots{n}", 7.5, 0.7 + 0.17 * len(names), paint),
    )


def _similarity_plate(subject: Subject, asked: dict[int, np.ndarray], labels: np.ndarray) -> Plate:
    assert isinstance(subject.estimator, MemoryVAE)
    x = np.nan_to_num(subject.x)
    pixels = np.stack(
        [x[labels == c].mean(0) if (labels == c).any() else np.zeros(x.shape[1])
         for c in range(len(next(iter(asked.values()))))]
    )  # fmt: skip
    panels = {f"attention next to {_where(subject.estimator, n)}": p for n, p in asked.items()}
    panels["the rows themselves"] = pixels
    names = _names(subject, len(pixels))

    def paint(figure: Any) -> None:
        for axes, (title, averages) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            axes.imshow(memory_analysis.class_covariance(np.nan_to_num(averages)), cmap=SHADES)
            axes.set_title(title, fontsize=8)
            axes.set_xticks(range(len(names)), names, fontsize=7)
            axes.set_yticks(range(len(names)), names, fontsize=7)
            _bare(axes)

    return Plate(
        alt="Heat maps of the similarity of classes, by attention and by the rows.",
        caption="Covariance of class averages: how alike two classes are to each memory, and as "
        "rows. Each chart has its own scale.",
        svg=draw("similarity", 7.5, 0.4 + 7.0 / len(panels), paint),
    )


def _bare(axes: Any) -> None:
    axes.tick_params(length=0, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _largest(subject: Subject, asked: dict[int, np.ndarray]) -> Table:
    """The three largest averages of each class, memory by memory (Jun Zhu's lecture, 2017)."""
    assert isinstance(subject.estimator, MemoryVAE)
    rows, n_classes = [], 0
    for memory, preferences in sorted(asked.items()):
        where, n_classes = _where(subject.estimator, memory), len(preferences)
        which, sizes = memory_analysis.largest_slots(preferences)
        for rank, slot, size in zip(("first", "second", "third"), which.T, sizes.T, strict=False):
            cells = [f"{number(v)} ({k})" for v, k in zip(size, slot, strict=True)]
            rows.append([f"next to {where}, {rank}", *cells])
    return Table(
        caption="Largest shares of attention (and whose slot), memory by memory.",
        head=("", *_names(subject, n_classes)),
        rows=rows,
    )


def _silenced_strip(subject: Subject) -> Plate:
    estimator = subject.estimator
    assert isinstance(estimator, MemoryVAE)
    chosen = subject.x[np.sort(subject.noise(7).permutation(len(subject.x))[:STRIP])]
    rows = {"original": chosen, "rebuilt": estimator.reconstruct(chosen)}
    for which in _ablations(estimator):
        with estimator.ablate_memories(*which):
            rows[_name(estimator, which)] = estimator.reconstruct(chosen)
    pictures = tiles(np.concatenate(list(rows.values())), subject.image_shape or (), subject.limits)
    return Plate(
        alt=f"Rows of {len(chosen)} images: originals, reconstructions, and reconstructions with "
        "memories silenced.",
        caption="Silenced, a memory answers with ones whatever it is asked",
        png=sheet(pictures, len(chosen)),
        labels=tuple(rows),
    )


def _ablations(estimator: MemoryVAE) -> list[tuple[int, ...]]:
    alone: list[tuple[int, ...]] = [(n,) for n in estimator.memories_]
    return [*alone, *([estimator.memories_] if len(alone) > 1 else [])]


def _name(estimator: MemoryVAE, which: tuple[int, ...]) -> str:
    if len(which) == len(estimator.memories_):
        return "memory off" if len(which) == 1 else "all off"
    sides = {"the data": "data side", "the latent variables": "latent side"}
    where = _where(estimator, which[0])
    return f"{sides.get(where, where)} off"


def _losses(subject: Subject) -> str:
    estimator = subject.estimator
    assert isinstance(estimator, MemoryVAE)
    x = subject.x[:MEASURED]

    def error() -> float:
        return float(np.nanmean(np.square(x - estimator.reconstruct(x))))

    parts = []
    for which in _ablations(estimator):
        with estimator.ablate_memories(*which):
            parts.append(f"{short(error())} ({_name(estimator, which)})")
    return (
        "What the memory contributes: the mean squared error of reconstructions is "
        f"{short(error())}, and with memories that answer ones whatever they are asked "
        f"{listed(parts)}."
    )
