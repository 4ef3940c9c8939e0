"""What a model of images has learnt: samples, reconstructions, repaired images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ancestral.data.preprocessing import corrupt
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import TIMES, Plate, Section, Table, count, short
from ancestral.experiments.report.figures import sheet, tiles

SHEET_SIDE = 10

STRIP = 14

REPAIRED_ROWS, ROUNDS, REPAIRS = 200, 25, 4

DROPPED = 0.6


def samples(subject: Subject) -> Section:
    """Show what the model draws beside real images."""
    n = SHEET_SIDE**2
    drawn = subject.estimator.sample(n, mean=True, random_state=subject.seed)
    real = _some(subject, n, purpose=1)
    shape = subject.image_shape
    words = [
        "First, images the model made up: latent variables drawn from the prior, decoded, "
        "and shown as their mean, without pixel noise.",
        f"Then {subject.split} images for comparison. Good samples are hard to tell apart "
        "from them and as varied; blurred ones are the usual sign that the model averages over "
        "what it could not tell apart.",
    ]
    plates = [
        Plate(
            alt=f"A sheet of {count(n, 'image')} drawn from the model, {_pixels(shape)} each.",
            caption="Drawn from the model",
            png=_sheet(subject, drawn, SHEET_SIDE),
            size="half",
        ),
        Plate(
            alt=f"A sheet of {count(len(real), 'real image')} of the {subject.split} rows.",
            caption=f"Real: {subject.split} images",
            png=_sheet(subject, real, SHEET_SIDE),
            size="half",
        ),
    ]
    return Section("samples", "Samples", words, plates)


def reconstructions(subject: Subject) -> Section:
    """Show images above what the model makes of their codes."""
    chosen = _some(subject, STRIP, purpose=2)
    rebuilt = subject.estimator.reconstruct(subject.x[:REPAIRED_ROWS])
    error = np.nanmean(np.square(subject.x[:REPAIRED_ROWS] - rebuilt))
    strip = np.concatenate([chosen, subject.estimator.reconstruct(chosen)])
    words = [
        f"Above, {subject.split} images; below, what comes out when each is encoded to its "
        f"{subject.code} and decoded again. What the latent variables do not hold is lost: strokes "
        "get smoother, rare details disappear.",
    ]
    plate = Plate(
        alt=f"Two rows of {len(chosen)} images: originals above, reconstructions below.",
        caption=f"Mean squared error {short(error)} a pixel, over "
        f"{count(min(REPAIRED_ROWS, len(subject.x)), 'image')}.",
        png=_sheet(subject, strip, len(chosen)),
        labels=("original", "rebuilt"),
    )
    return Section("reconstructions", "Reconstructions", words, [plate])


def imputation(subject: Subject) -> Section:
    """Damage images in three ways, let the model repair them, and measure how well."""
    x = subject.x[:REPAIRED_ROWS]
    means = np.nanmean(subject.reference, axis=0)
    rng = subject.noise(3)
    shown = np.sort(rng.permutation(len(x))[:STRIP])
    plates, rows = [], []
    for name, gaps in damages(len(x), subject.image_shape or (), subject.seed).items():
        damaged = np.where(gaps, np.nan, x)
        n_repairs = 1 if subject.is_exact else REPAIRS
        repairs = [_repair(subject, damaged, number) for number in range(n_repairs)]
        together = [np.mean(repairs, axis=0)] if n_repairs > 1 else []
        guesses = (repairs[0], *together, means[None])
        errors = [_error(x, guess, gaps & ~np.isnan(x)) for guess in guesses]
        rows.append((name, f"{gaps.mean():.0%}", *map(short, errors)))
        strip = np.concatenate([x[shown], damaged[shown], repairs[0][shown]])
        plates.append(
            Plate(
                alt=f"Three rows of {len(shown)} images: originals, the same with {name} missing, "
                "and the model's repair.",
                caption=f"Missing: {name}",
                png=_sheet(subject, strip, len(shown)),
                labels=("original", "damaged", "repaired"),
            )
        )
    words = [
        f"Parts of {subject.split} images are taken away (orange) and the model fills them in: "
        f"{_how_filled(subject)} What was left is not touched.",
        "The table has the mean squared error over the missing pixels of "
        f"{count(len(x), 'image')}; the baseline puts the training mean of a pixel in its place."
        + _how_varied(subject),
    ]
    repaired = ("repair",) if subject.is_exact else ("one repair", f"mean of {REPAIRS} repairs")
    head = ("missing", "share", *repaired, "training mean")
    table = Table("Mean squared error on missing pixels (lower is better)", head, rows)
    return Section("imputation", "Filling in what is missing", words, plates, table)


def _how_filled(subject: Subject) -> str:
    if subject.is_exact:
        return "by what it expects there given the rest."
    return (
        f"it encodes, draws latent variables, decodes into the gap, and so on for {ROUNDS} rounds "
        "(pseudo-Gibbs sampling)."
    )


def _how_varied(subject: Subject) -> str:
    if subject.is_exact:
        return ""
    return (
        " A single repair is one guess among many, and can be plausible and still differ from the "
        f"original; the mean of {REPAIRS} is less sharp and closer to it."
    )


def _repair(subject: Subject, damaged: np.ndarray, number: int) -> np.ndarray:
    seed = int(subject.noise(200 + number).integers(2**31))
    return subject.estimator.impute(damaged, n_iter=ROUNDS, random_state=seed)


def damages(n: int, image_shape: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """Return what is taken away of n images in each way, [n, d]: whole pixels, in all colours."""
    plane = tuple(image_shape[-2:])
    side = max(1, min(plane) * 3 // 7)
    blank = np.zeros((n, plane[0] * plane[1]), dtype=np.float32)
    ways = {
        f"a square of {side} {TIMES} {side}": corrupt(blank, "square", side, image_shape=plane),
        "the left half": corrupt(blank, "half", image_shape=plane),
        f"{DROPPED:.0%} of the pixels": corrupt(blank, "random", DROPPED, seed=seed),
    }
    n_colours = int(np.prod(image_shape[:-2]))
    return {name: np.tile(np.isnan(gaps), n_colours) for name, gaps in ways.items()}


def _error(x: np.ndarray, guess: np.ndarray, where: np.ndarray) -> float:
    squares = np.square(x - guess)[where]
    return float(squares.mean()) if len(squares) else float("nan")


def _some(subject: Subject, n: int, *, purpose: int) -> np.ndarray:
    order = subject.noise(purpose).permutation(len(subject.x))
    return subject.x[order[:n]]


def _sheet(subject: Subject, rows: np.ndarray, n_columns: int) -> str:
    return sheet(tiles(rows, subject.image_shape or (), subject.limits), n_columns)


def _pixels(shape: Sequence[int] | None) -> str:
    return " by ".join(map(str, (shape or ())[-2:])) + " pixels"
