"""Measure how fast ancestral trains, against its peers and against plain loops.

Run it:  make bench     or     python benchmarks/run.py --help

Every worker is a process of its own; all take turns, in several rounds, and medians over all
blocks are compared within the run. A quiet machine is needed: on a busy one, timings that use
all cores mean nothing. Results go to ``results/speed.json`` and ``docs/speed.md``; those of a
part of the benchmark go to ``.bench/``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import data
import environments
import machine
import own
import summary
import table
from runner import Runner
from sides import NAMES, OWN, PEERS, Side, chosen

from ancestral.experiments import provenance
from ancestral.utils.files import write_file
from ancestral.utils.serialization import versions

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("W1", "W2", "W3")
SIDES = {side.name: side for side in (*PEERS, *OWN)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="times everybody has a turn (%(default)s)")
    add("--seconds", type=float, default=10.0, help="measured a turn (%(default)s)")
    add("--workloads", default=",".join(WORKLOADS), help="of the peers (%(default)s)")
    add("--only", metavar="NAME,...", help=f"peers, own, or some of {', '.join(NAMES)}")
    add("--threads", type=int, default=len(provenance.cores()), help="all cores: %(default)s")
    add("--all-rows", action="store_true", help="score all test rows, not a part: takes long")
    add("--python", default=sys.executable, help="the project's own interpreter")
    add("--folder", type=Path, default=ROOT / ".bench", help="of environments and data")
    add("--record", type=Path, help="the record to write")
    add("--page", type=Path, help="the page to write")
    options = parser.parse_args(arguments)
    try:
        options.names = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    options.workloads = tuple(options.workloads.split(","))
    if options.rounds < 1 or not set(options.workloads) <= set(WORKLOADS):
        parser.error(f"expected at least one round, and workloads of {', '.join(WORKLOADS)}")
    whole = options.names == NAMES and options.workloads == WORKLOADS
    results, pages = (ROOT / "results", ROOT / "docs") if whole else (options.folder,) * 2
    options.record = options.record or results / "speed.json"
    options.page = options.page or pages / "speed.md"
    return options


def turns(options: argparse.Namespace) -> Iterator[tuple[Side, str, bool]]:
    """Everything that is measured in one round: side, workload, denormals flushed or not."""
    for name in options.names:
        side = SIDES.get(name)
        if side is None:
            continue
        for workload in side.workloads:
            if workload in options.workloads or workload not in WORKLOADS:
                for flush in side.flush:
                    yield side, workload, flush


def one_round(options: argparse.Namespace, runner: Runner) -> Iterator[dict[str, Any]]:
    """Give everybody a turn."""
    for side, workload, flush in turns(options):
        yield runner.measure(side, workload, flush)
    for name, measure in own.SINGLE.items():
        if name in options.names:
            yield from measure(runner)


def all_rounds(options: argparse.Namespace, runner: Runner) -> Iterator[list[dict[str, Any]]]:
    """Yield all runs so far after every round, and say on standard error how it goes."""
    runs: list[dict[str, Any]] = []
    for number in range(1, options.rounds + 1):
        for run in one_round(options, runner):
            runs.append(run | {"round": number})
            flushed = " flushed" if run.get("flush_denormals") else ""
            head = f"{number}/{options.rounds} {run['side']} {run['workload']}{flushed}"
            print(f"{head:36} {summary.progress(run)}", file=sys.stderr, flush=True)
        yield runs


def prepare(options: argparse.Namespace) -> Runner:
    """Make the environments and the data."""
    for name in dict.fromkeys(s.environment for s in SIDES.values() if s.name in options.names):
        if name is not None:
            environments.interpreter(name, options.folder, sys.executable)
    rows = data.prepare(options.folder)
    machine.keep_to(options.threads)
    common = (options.seconds, options.threads, options.all_rows)
    return Runner(options.python, options.folder, rows, *common)


def record_of(
    options: argparse.Namespace, facts: dict[str, Any], runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Put what was found beside what it depends on."""
    found = {name: v for run in runs for name, v in run.get("versions", {}).items()}
    config = {
        "rounds": max(run["round"] for run in runs),
        "seconds": options.seconds,
        "threads": options.threads,
        "sides": list(options.names),
        "workloads": list(options.workloads),
    }
    return {
        **facts,
        "config": config,
        "others_cores": max((run.get("others_cores") or 0.0 for run in runs), default=0.0),
        "versions": found | versions(),
        **summary.summarise(runs),
        "runs": list(runs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the record and the page; return the number of failures."""
    options = parse(arguments)
    facts = {
        "date": provenance.today(),
        "commit": provenance.commit(ROOT),
        "processor": provenance.processor(),
        "load_before": machine.warn_if_busy(),
    }
    runner = prepare(options)
    record: dict[str, Any] = {}
    for runs in all_rounds(options, runner):
        record = record_of(options, facts, runs)
        write_file(options.record, json.dumps(record, indent=1) + "\n")
    write_file(options.page, table.page(record))
    print(options.record, options.page, sep="\n")
    return len(record.get("failures", []))


if __name__ == "__main__":
    sys.exit(main())
