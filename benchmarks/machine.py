"""Load of the machine, and restriction of a measurement to some of its cores."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from ancestral.experiments.provenance import cores

MAX_LOAD_PER_CORE = 0.25
"""Largest load average per core at which timings are reliable."""


def limit_cores(n_cores: int) -> None:
    """Restrict this process and its children to ``n_cores`` cores, where the system supports it."""
    if hasattr(os, "sched_setaffinity") and n_cores < len(cores()):
        os.sched_setaffinity(0, cores()[:n_cores])


def has_bfloat16_products(processor: dict[str, Any]) -> bool:
    """Whether the processor has instructions for bfloat16 matrix products."""
    return any(flag.endswith("bf16") for flag in processor["flags"])


def load_average() -> float:
    """Load average of the last minute."""
    return os.getloadavg()[0]


def warn_if_busy() -> float:
    """Return the load average; print a warning if it is too high for reliable timings."""
    load = load_average()
    if load > MAX_LOAD_PER_CORE * len(cores()):
        print(
            f"warning: the load average is {load:.2f}, too high for reliable timings: stop other "
            "processes, wait a minute and start again.",
            file=sys.stderr,
        )
    return load


class OtherProcesses:
    """Processor time used by other processes since this object was created (Linux only)."""

    def __init__(self) -> None:
        self.start_time, self.start_seconds = perf_counter(), _seconds_of_others()

    def mean_cores_used(self) -> float | None:
        """Mean number of cores used by other processes; None on systems other than Linux."""
        seconds = _seconds_of_others()
        if seconds is None or self.start_seconds is None:
            return None
        return max(0.0, (seconds - self.start_seconds) / (perf_counter() - self.start_time))


def _seconds_of_others() -> float | None:
    """Core-seconds used since boot, without those of this process and its finished children."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _wait, *rest = map(int, path.read_text().split("\n")[0].split()[1:])
    busy = (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in own)
