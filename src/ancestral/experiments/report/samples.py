"""A model that can only be drawn from: its samples beside real rows, in pictures and numbers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ancestral.estimators.base.supervised import class_names
from ancestral.evaluation.sample_quality import SampleQuality, nearest_neighbors, sample_quality
from ancestral.experiments.report import tabular
from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import (
    Figure,
    Plate,
    Section,
    Table,
    count,
    listed,
    number,
    short,
)
from ancestral.experiments.report.figures import sheet, tiles
from ancestral.experiments.scoring import to_model_units

SIDE, STRIP = 10, 14


@lru_cache(maxsize=1)  # the page at hand: no more is held
def _found(subject: Subject) -> tuple[np.ndarray, SampleQuality]:
    """Draw as many samples as there are whole rows, and compare them: once for a page."""
    real, training = _whole(subject.x), _whole(subject.reference)
    drawn = subject.estimator.sample(len(real), random_state=subject.seed)
    compared = (to_model_units(subject.estimator, rows) for rows in (drawn, real, training))
    return drawn, sample_quality(*compared, random_state=subject.seed)


def _whole(rows: np.ndarray) -> np.ndarray:
    """Leave out rows with missing entries."""
    return rows[~np.isnan(rows).any(1)]


def figures(subject: Subject) -> list[Figure]:
    """Return the numbers of the headline."""
    found = _found(subject)[1]
    real = f"{short(found.real_mmd2)} for two halves of real rows"
    return [
        Figure(found.mmd2.value, short(found.mmd2.value), "MMD\N{SUPERSCRIPT TWO}", real),
        Figure(
            found.c2st_accuracy.value,
            f"{found.c2st_accuracy.value:.1%}",
            "told apart",
            f"± {found.c2st_accuracy.standard_error:.1%} by neighbours; 50 % is perfect",
        ),
        Figure(found.precision, f"{found.precision:.0%}", "precision", "samples like real rows"),
        Figure(found.recall, f"{found.recall:.0%}", "recall", "real rows like samples"),
    ]


def samples(subject: Subject) -> list[Section]:
    """Show what the model draws, and how far that is from real rows."""
    if subject.image_shape is None:
        return [tabular.samples(subject), _comparison(subject)]
    drawn, _ = _found(subject)
    n = SIDE**2
    real = subject.x[subject.noise(1).permutation(len(subject.x))[:n]]
    plates = [
        Plate(
            alt=f"A sheet of {count(n, 'image')} drawn from the model.",
            caption="Drawn from the model",
            png=_sheet(subject, drawn[:n], SIDE),
            size="half",
        ),
        Plate(
            alt=f"A sheet of {count(len(real), 'real image')}.",
            caption=f"Real: {subject.split} images",
            png=_sheet(subject, real, SIDE),
            size="half",
        ),
    ]
    words = [
        "The model turns noise into images; nothing else is known of it. Good samples are hard to "
        "tell apart from real ones and as varied.",
    ]
    if subject.estimator.target_kind == "classes":
        plates.append(_classes(subject))
        words.append("It can be asked for a class: each row of the third sheet is one.")
    drawn_now = [Section("samples", "Samples", words, plates), _comparison(subject)]
    return [*drawn_now, _sample_log(subject)]


def _sample_log(subject: Subject) -> Section:
    """Show what the same noise became while training went on."""
    epochs, pages = subject.estimator.sample_log()
    words = [
        "Every column is the same noise, after ever more epochs. Where nothing changes any more, "
        "more training brings nothing; where samples turn into others for good, the game goes on "
        "in circles."
    ]
    held_out = subject.estimator.history_.curve("validation.mmd2")
    if held_out:
        best = 1 + int(np.argmin(held_out))
        words.append(
            "On rows held out from training, the squared MMD was least after "
            f"{count(best, 'epoch')} of {len(held_out)}: {short(held_out[best - 1])}, and "
            f"{short(held_out[-1])} at the end. Training on for long after the least is in vain "
            "(patience stops there)."
        )
    plate = Plate(
        alt=f"Images of the same noise after {listed([str(e) for e in epochs])} epochs.",
        caption="The same noise as training goes on; beside the rows, the epochs",
        png=_sheet(subject, np.concatenate(pages), pages.shape[1]),
        labels=[str(epoch) for epoch in epochs],
    )
    return Section("diary", "As training went on", words, [plate])


def _classes(subject: Subject) -> Plate:
    estimator = subject.estimator
    names = class_names(estimator)
    y = np.repeat(estimator.classes_, STRIP)
    drawn = estimator.sample(len(y), y, random_state=subject.seed)
    return Plate(
        alt=f"Rows of images drawn of the classes {', '.join(names)}.",
        caption="Drawn of a class",
        png=_sheet(subject, drawn, STRIP),
        labels=names,
    )


def _comparison(subject: Subject) -> Section:
    drawn, found = _found(subject)
    rows = [
        ("MMD\N{SUPERSCRIPT TWO} to real rows", short(found.mmd2.value), short(found.real_mmd2)),
        ("p of the permutation test", short(found.p_value), ""),
        ("told apart by neighbours", f"{found.c2st_accuracy.value:.1%}", "50 %"),
        ("precision", f"{found.precision:.0%}", ""),
        ("recall", f"{found.recall:.0%}", ""),
        ("distance to the nearest training row", short(found.nearest), short(found.real_nearest)),
    ]
    words = [
        "No likelihood can be computed, so samples are compared with rows that the model has not "
        "seen. The squared maximum mean discrepancy (MMD) is nought where both have the same "
        "moments; a classifier that tells them apart in half of all cases knows nothing; precision "
        "is the share of samples that look like real rows, recall the share of real rows that "
        "look like samples.",
        "Samples much closer to a training row than real rows are would be remembered, not made: "
        f"{number(found.nearest)} against {number(found.real_nearest)} here.",
    ]
    table = Table("Samples beside real rows", ("", "samples", "real rows"), rows)
    plates = []
    if subject.image_shape is not None:
        training = _whole(subject.reference)
        _, index = nearest_neighbors(drawn[:STRIP], training)
        pair = np.concatenate([drawn[:STRIP], training[index]])
        plates.append(
            Plate(
                alt=f"{STRIP} samples, and beneath each the training image nearest to it.",
                caption="Samples, and the nearest training images",
                png=_sheet(subject, pair, STRIP),
                labels=("sample", "nearest"),
            )
        )
    return Section("likeness", "How like the data?", words, plates, table)


def _sheet(subject: Subject, rows: np.ndarray, n_columns: int) -> str:
    return sheet(tiles(rows, subject.image_shape or (), subject.limits), n_columns)
