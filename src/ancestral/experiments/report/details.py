"""All that is needed to make the same again."""

from __future__ import annotations

from typing import Any

from ancestral.experiments.report.context import Subject
from ancestral.experiments.report.elements import number
from ancestral.utils import serialization

Pairs = list[tuple[str, str]]


def details(subject: Subject) -> list[tuple[str, Pairs]]:
    """Return what there is to know, in named groups of (name, value)."""
    estimator = subject.estimator
    params = [(k, _written(v)) for k, v in estimator.get_params(deep=False).items()]
    groups = [
        ("Hyper-parameters", params),
        ("Data", _data(subject)),
        ("Training", _training(subject)),
        ("Versions", list(serialization.versions().items())),
    ]
    return [(name, pairs) for name, pairs in groups if pairs]


def _data(subject: Subject) -> Pairs:
    data = subject.dataset
    rows = ", ".join(f"{k[2:]} {len(v):,}" for k, v in data.arrays().items() if k[0] == "x")
    kinds = dict.fromkeys(subject.kinds)
    found = [
        ("name", data.name),
        ("rows", rows),
        ("columns", f"{subject.x.shape[1]:,} ({', '.join(kinds)})"),
        ("shown", f"{len(subject.x):,} {subject.split} rows"),
        ("source", data.source),
        ("licence", data.licence),
        ("checksum", data.checksum),
        ("note", data.note),
    ]
    return [(name, value) for name, value in found if value]


def _training(subject: Subject) -> Pairs:
    estimator, last = subject.estimator, (subject.estimator.history_ or [{}])[-1]
    n_parameters = sum(p.numel() for p in estimator.model_.parameters())
    found: dict[str, Any] = {
        "seed": estimator.seed_,
        "epochs": last.get("epoch"),
        "steps": last.get("step"),
        "wall time": f"{number(last['seconds'], 1)} s" if "seconds" in last else None,
        "parameters": f"{n_parameters:,}",
        "seed of this page": subject.seed,
    }
    return [(name, str(value)) for name, value in found.items() if value is not None]


def _written(value: Any) -> str:
    return ", ".join(map(_written, value)) if isinstance(value, list | tuple) else str(value)
