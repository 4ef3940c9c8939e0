"""Training speed of ancestral, of peer libraries and of plain PyTorch loops.

Usage:  make bench     or     python benchmarks/run.py --help

Every worker is a separate process. Workers run interleaved in several rounds, and medians over all
blocks of steps are compared. Requires an idle machine: timings that use all cores are meaningless
beside other load. The complete benchmark writes ``results/speed.json`` and ``docs/speed.md``; a
part of it writes to ``.bench/``.
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
import self_comparison
import speed_page
import summary
from implementations import NAMES, PEERS, PYTORCH, Implementation, parse_names
from runner import Runner

from ancestral.experiments import provenance
from ancestral.utils.files import write_file
from ancestral.utils.serialization import versions

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("W1", "W2", "W3")
IMPLEMENTATIONS = {each.name: each for each in (*PEERS, *PYTORCH)}


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="number of rounds (%(default)s)")
    add("--seconds", type=float, default=10.0, help="measured seconds per worker (%(default)s)")
    add("--workloads", default=",".join(WORKLOADS), help="workloads of the peers (%(default)s)")
    add("--only", metavar="NAME,...", help=f"peers, self, or some of {', '.join(NAMES)}")
    add("--threads", type=int, default=len(provenance.cores()), help="threads (%(default)s)")
    add("--all-rows", action="store_true", help="evaluate all test rows instead of a part: slow")
    add("--python", default=sys.executable, help="interpreter of the project")
    add("--folder", type=Path, default=ROOT / ".bench", help="folder of environments and data")
    add("--record", type=Path, help="path of the record to write")
    add("--page", type=Path, help="path of the page to write")
    options = parser.parse_args(arguments)
    try:
        options.names = parse_names(options.only)
    except ValueError as error:
        parser.error(str(error))
    options.workloads = tuple(options.workloads.split(","))
    if options.rounds < 1 or not set(options.workloads) <= set(WORKLOADS):
        parser.error(f"expected at least one round, and workloads of {', '.join(WORKLOADS)}")
    is_complete = options.names == NAMES and options.workloads == WORKLOADS
    results, pages = (ROOT / "results", ROOT / "docs") if is_complete else (options.folder,) * 2
    options.record = options.record or results / "speed.json"
    options.page = options.page or pages / "speed.md"
    return options


def schedule(options: argparse.Namespace) -> Iterator[tuple[Implementation, str, bool]]:
    """Training runs of one round: implementation, workload, whether denormals are flushed."""
    for name in options.names:
        implementation = IMPLEMENTATIONS.get(name)
        if implementation is None:
            continue
        for workload in implementation.workloads:
            if workload in options.workloads or workload not in WORKLOADS:
                for flush in implementation.flush:
                    yield implementation, workload, flush


def run_round(options: argparse.Namespace, runner: Runner) -> Iterator[dict[str, Any]]:
    """Run every selected measurement once."""
    for implementation, workload, flush in schedule(options):
        yield runner.measure(implementation, workload, flush)
    for name, measure in self_comparison.MEASUREMENTS.items():
        if name in options.names:
            yield from measure(runner)


def run_rounds(options: argparse.Namespace, runner: Runner) -> Iterator[list[dict[str, Any]]]:
    """Yield the list of all runs after every round; print progress to standard error."""
    runs: list[dict[str, Any]] = []
    for number in range(1, options.rounds + 1):
        for run in run_round(options, runner):
            runs.append(run | {"round": number})
            flushed = " flushed" if run.get("flush_denormals") else ""
            name = run.get("measurement") or run["implementation"]
            head = f"{number}/{options.rounds} {name} {run['workload']}{flushed}"
            print(f"{head:36} {summary.format_run(run)}", file=sys.stderr, flush=True)
        yield runs


def prepare(options: argparse.Namespace) -> Runner:
    """Create the environments and the data."""
    selected = [each for each in IMPLEMENTATIONS.values() if each.name in options.names]
    for name in dict.fromkeys(each.environment for each in selected):
        if name is not None:
            environments.interpreter(name, options.folder, sys.executable)
    arrays = data.prepare(options.folder)
    machine.limit_cores(options.threads)
    common = (options.seconds, options.threads, options.all_rows)
    return Runner(options.python, options.folder, arrays, *common)


def make_record(
    options: argparse.Namespace, conditions: dict[str, Any], runs: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Record of conditions, settings, summary and runs."""
    peer_versions = {name: v for run in runs for name, v in run.get("versions", {}).items()}
    config = {
        "rounds": max(run["round"] for run in runs),
        "seconds": options.seconds,
        "threads": options.threads,
        "names": list(options.names),
        "workloads": list(options.workloads),
    }
    others = (run.get("cores_used_by_others") or 0.0 for run in runs)
    return {
        **conditions,
        "config": config,
        "cores_used_by_others": max(others, default=0.0),
        "versions": peer_versions | versions(),
        **summary.summarize(runs),
        "runs": list(runs),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the record and the page; return the number of failures."""
    options = parse_arguments(arguments)
    conditions = {
        "date": provenance.today(),
        "commit": provenance.commit(ROOT),
        "processor": provenance.processor(),
        "load_before": machine.warn_if_busy(),
    }
    runner = prepare(options)
    record: dict[str, Any] = {}
    for runs in run_rounds(options, runner):
        record = make_record(options, conditions, runs)
        write_file(options.record, json.dumps(record, indent=1) + "\n")
    write_file(options.page, speed_page.page(record))
    print(options.record, options.page, sep="\n")
    return len(record.get("failures", []))


if __name__ == "__main__":
    sys.exit(main())
