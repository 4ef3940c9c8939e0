"""Command reproduce: runs of recipes."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ancestral.estimators import registry
from ancestral.experiments import recipe_files, records
from ancestral.experiments.config import NON_MODEL_OPTIONS
from ancestral.experiments.jobs import Job
from ancestral.experiments.launchers import run_on_cluster, run_parallel, run_serial, schedule
from ancestral.experiments.recipes import Recipe
from ancestral.experiments.records import results_table
from ancestral.experiments.reproduce import reuse_shipped_models
from ancestral.experiments.zoo import ship, zoo_name
from ancestral.utils.validation import (
    Count,
    Natural,
    check_field,
    field_hints,
    parse_field,
    suggest,
)

RUN_OPTIONS = (*NON_MODEL_OPTIONS, "random_state", "device")
"""Estimator options that are set by the run and not by the recipe."""


def reproduce(options: Namespace) -> None:
    """Run ``ancestral reproduce TARGET``."""
    targets = list(recipe_files.tables()) if options.target is None else [options.target]
    rows = [recipe for target in targets for recipe in recipe_files.find_recipes(target)]
    if options.list:
        all_records = records.read(records.record_folders(options.results))
        print(results_table(rows, all_records, "valid" if options.select else "test"))
        return
    if options.target is None:
        raise ValueError(f"missing TARGET: expected a table ({', '.join(targets)}) or TABLE/ROW")
    for name in ("seeds", "jobs"):
        check_field(name, getattr(options, name), Count)
    check_field("seed", options.seed, Natural | None)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    jobs = [
        Job(row, options.size, seed, options.select, _parse_changes(row, options))
        for row in rows
        for seed in seeds
    ]
    folders = (options.runs, options.results)
    if options.cluster is not None:
        kwargs = {"slurm_partition": options.partition} if options.partition else {}
        submit = run_on_cluster(*folders, options.cluster, **kwargs)
    else:
        submit = run_parallel(*folders, options.jobs) if options.jobs > 1 else run_serial(*folders)
    if options.reuse is not None:
        for folder, model in reuse_shipped_models(jobs, options.runs, options.reuse).items():
            print(f"{folder}: created from {model}")
    for batch in schedule(jobs):
        for job, path in zip(batch, submit(batch), strict=True):
            print(f"record: {path}")
            if options.ship is not None and job.seed == seeds[0]:
                out = options.ship / zoo_name(job.recipe.row)
                change = ship(job.folder(options.runs), path, out, overwrite=True)
                print(f"shipped: {out}; quantisation changed {change}")
    print(results_table(rows, records.read([options.results]), jobs[0].split))


def _parse_changes(row: Recipe, options: Namespace) -> tuple[tuple[str, Any], ...]:
    """Parse the ``--set NAME=VALUE`` options of a command for the method of a row."""
    row.size(options.size)
    if options.set and not options.select:
        raise ValueError("--set is for model selection only: add --select")
    return tuple(_parse_change(row, options.size, change) for change in options.set)


def _parse_change(row: Recipe, size: str, change: str) -> tuple[str, Any]:
    """Parse one ``NAME=VALUE``; ``PART.NAME=VALUE`` is for another row."""
    name, _, text = change.partition("=")
    part, dot, part_name = name.partition(".")
    if dot:
        start = row.row if len(row.size(size).stages) > 1 else row.size(size).init_from
        parts = row.submodels | ({} if start is None else {"init_from": start})
        if part not in parts or (parts[part] == row.row and "." in part_name):
            raise ValueError(f"--set {change}: {row.row} has no other row as its {part}")
        name, value = _parse_change(
            recipe_files.find_recipes(parts[part])[0], size, f"{part_name}={text}"
        )
        return f"{part}.{name}", value
    fields = field_hints(registry.find(row.method).load())
    if not text:
        raise ValueError(f"--set {change}: expected NAME=VALUE, for example max_epochs=20")
    if name in RUN_OPTIONS:
        hint = ": use --seed" if name == "random_state" else ""
        raise ValueError(f"--set {change}: {name} is set by the run{hint}")
    if name not in fields:
        raise ValueError(f"--set {change}: no option {name!r}{suggest(name, fields)}")
    return name, parse_field(name, text, fields[name])
