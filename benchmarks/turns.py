"""Timing several sides in one run, in turn, and what a record says of the machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import Others

from ancestral.experiments import provenance
from ancestral.utils.files import write_file
from ancestral.utils.serialization import versions

RESULTS = Path(__file__).resolve().parent.parent / "results"


def in_turn(sides: Mapping[str, Callable[[], float]], n_rounds: int) -> dict[str, Any]:
    """Measure every side once a round; return medians over rounds, and all there was."""
    others, found = Others(), []
    for number in range(n_rounds):
        for name, seconds_of in sides.items():
            found.append({"round": number, "side": name, "seconds": seconds_of()})
            print(f"round {number}, {name}: {1000 * found[-1]['seconds']:.2f} ms")
    medians = {side: median(f["seconds"] for f in found if f["side"] == side) for side in sides}
    return {
        "medians": medians,
        "measurements": found,
        "cores_used_by_others": others.cores_used(),
    }


def write(name: str, record: dict[str, Any]) -> None:
    """Write a record, with the conditions under which it was made."""
    conditions = {
        "threads": torch.get_num_threads(),
        "processor": provenance.processor(),
        "versions": versions(),
        "commit": provenance.commit(),
        "date": provenance.today(),
    }
    write_file(RESULTS / f"{name}.json", json.dumps(record | conditions, indent=1) + "\n")
