"""Details for reproduction: hyper-parameters, data, training and versions."""

from __future__ import annotations

from typing import Any

from ancestral.experiments.report.context import ReportContext
from ancestral.experiments.report.elements import format_number
from ancestral.utils import serialization

Pairs = list[tuple[str, str]]


def details(context: ReportContext) -> list[tuple[str, Pairs]]:
    """Named groups of (name, value) pairs; empty groups are left out."""
    estimator = context.estimator
    params = [(k, _format(v)) for k, v in estimator.get_params(deep=False).items()]
    groups = [
        ("Hyper-parameters", params),
        ("Data", _data(context)),
        ("Training", _training(context)),
        ("Versions", list(serialization.versions().items())),
    ]
    return [(name, pairs) for name, pairs in groups if pairs]


def _data(context: ReportContext) -> Pairs:
    data = context.dataset
    rows = ", ".join(f"{len(v):,} {k[2:]}" for k, v in data.arrays().items() if k[0] == "x")
    likelihoods = dict.fromkeys(context.likelihoods)
    pairs = [
        ("name", data.name),
        ("rows", rows),
        ("columns", f"{context.x.shape[1]:,} ({', '.join(likelihoods)})"),
        ("rows of this page", f"{len(context.x):,} {context.split} rows"),
        ("source", data.source),
        ("licence", data.licence),
        ("checksum", data.checksum),
        ("note", data.note),
    ]
    return [(name, value) for name, value in pairs if value]


def _training(context: ReportContext) -> Pairs:
    estimator, last = context.estimator, (context.estimator.history_ or [{}])[-1]
    n_parameters = sum(p.numel() for p in estimator.model_.parameters())
    values: dict[str, Any] = {
        "seed": estimator.seed_,
        "epochs": last.get("epoch"),
        "steps": last.get("step"),
        "wall time": f"{format_number(last['seconds'], 1)} s" if "seconds" in last else None,
        "parameters": f"{n_parameters:,}",
        "seed of this page": context.seed,
    }
    return [(name, str(value)) for name, value in values.items() if value is not None]


def _format(value: Any) -> str:
    """Value as text; sequences are joined by commas."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_format, value)) or "none"
    return str(value)
