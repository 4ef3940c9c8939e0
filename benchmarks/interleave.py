"""Interleaved timing of several functions, and benchmark records with their conditions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import OtherProcesses

from ancestral.experiments import provenance
from ancestral.utils.files import write_file
from ancestral.utils.serialization import versions

RESULTS = Path(__file__).resolve().parent.parent / "results"


def interleave(functions: Mapping[str, Callable[[], float]], n_rounds: int) -> dict[str, Any]:
    """Call every function once per round, so that a change of load affects all of them.

    Parameters
    ----------
    functions : mapping of str to callable
        Functions () -> measured seconds, by name.
    n_rounds : int
        Number of rounds.

    Returns
    -------
    dict
        ``medians``: median seconds over rounds, by name. ``measurements``: list with round, name
        and seconds of each call. ``cores_used_by_others``: mean number of cores used by other
        processes, or None where it cannot be measured.
    """
    others = OtherProcesses()
    measurements: list[dict[str, Any]] = []
    for number in range(n_rounds):
        for name, function in functions.items():
            seconds = function()
            measurements.append({"round": number, "name": name, "seconds": seconds})
            print(f"round {number}, {name}: {1000 * seconds:.2f} ms")
    medians = {
        name: median(m["seconds"] for m in measurements if m["name"] == name) for name in functions
    }
    return {
        "medians": medians,
        "measurements": measurements,
        "cores_used_by_others": others.mean_cores_used(),
    }


def write_record(name: str, record: dict[str, Any]) -> None:
    """Write ``results/<name>.json``: a record with threads, processor, versions, commit, date."""
    conditions = {
        "threads": torch.get_num_threads(),
        "processor": provenance.processor(),
        "versions": versions(),
        "commit": provenance.commit(),
        "date": provenance.today(),
    }
    write_file(RESULTS / f"{name}.json", json.dumps(record | conditions, indent=1) + "\n")
