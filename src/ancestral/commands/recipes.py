"""Commands about published rows: reproduce."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from ancestral import methods, recipes, records
from ancestral.experiment import WAYS
from ancestral.fields import Count, Natural, check, hints, parse, suggest
from ancestral.recipes import Recipe
from ancestral.records import standing_table
from ancestral.reproduce import Job, in_order, on_cluster, one_by_one, reuse, side_by_side
from ancestral.zoo import name_of, ship

OF_THE_RUN = (*WAYS, "random_state", "device")
"""Options of an estimator that a recipe leaves to the run."""


def reproduce(options: Namespace) -> None:
    """``ancestral reproduce TARGET``."""
    targets = list(recipes.tables()) if options.target is None else [options.target]
    rows = [recipe for target in targets for recipe in recipes.find(target)]
    if options.list:
        found = records.read(records.everywhere(options.results))
        print(standing_table(rows, found, "valid" if options.select else "test"))
        return
    if options.target is None:
        raise ValueError(f"reproduce needs a TARGET: a table ({', '.join(targets)}) or TABLE/ROW")
    for name in ("seeds", "jobs"):
        check(name, getattr(options, name), Count)
    check("seed", options.seed, Natural | None)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    jobs = [
        Job(row, options.size, seed, options.select, _changes(row, options))
        for row in rows
        for seed in seeds
    ]
    places = (options.runs, options.results)
    if options.cluster is not None:
        how = {"slurm_partition": options.partition} if options.partition else {}
        submit = on_cluster(*places, options.cluster, **how)
    else:
        submit = side_by_side(*places, options.jobs) if options.jobs > 1 else one_by_one(*places)
    if options.reuse is not None:
        for folder, model in reuse(jobs, options.runs, options.reuse).items():
            print(f"{folder}: taken from {model}")
    for jobs_of_a_round in in_order(jobs):
        for job, path in zip(jobs_of_a_round, submit(jobs_of_a_round), strict=True):
            print(f"record: {path}")
            if options.ship is not None and job.seed == seeds[0]:
                out = options.ship / name_of(job.recipe.row)
                change = ship(job.folder(options.runs), path, out, overwrite=True)
                print(f"shipped: {out}; rounding changed {change}")
    print(standing_table(rows, records.read([options.results]), jobs[0].split))


def _changes(row: Recipe, options: Namespace) -> tuple[tuple[str, Any], ...]:
    """Read the ``--set name=value`` of a command, for the options of a row's method."""
    row.size(options.size)
    if options.set and not options.select:
        raise ValueError("--set is for choosing settings: give --select too")
    return tuple(_change(row, options.size, change) for change in options.set)


def _change(row: Recipe, size: str, change: str) -> tuple[str, Any]:
    """Read one ``name=value``; ``start.name=value`` is for the fit that this one starts from."""
    name, _, text = change.partition("=")
    part, dot, rest = name.partition(".")
    if dot:
        start = row.row if len(row.size(size).stages) > 1 else row.size(size).start
        parts = row.parts | ({} if start is None else {"start": start})
        if part not in parts or (parts[part] == row.row and "." in rest):
            raise ValueError(f"--set {change}: {row.row} has no other row as its {part}")
        name, value = _change(recipes.find(parts[part])[0], size, f"{rest}={text}")
        return f"{part}.{name}", value
    known = hints(methods.find(row.method).load())
    if not text:
        raise ValueError(f"--set {change}: expected NAME=VALUE, as max_epochs=20")
    if name in OF_THE_RUN:
        by_seed = ": the seed goes by --seed" if name == "random_state" else ""
        raise ValueError(f"--set {change}: {name} is left to the run{by_seed}")
    if name not in known:
        raise ValueError(f"--set {change}: no option {name!r}{suggest(name, known)}")
    return name, parse(name, text, known[name])
