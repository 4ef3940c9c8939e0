"""How busy the machine is, and keeping a measurement to some of its cores."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from ancestral.experiments.provenance import cores

BUSY = 0.25
"""Load a core above which a machine is not quiet."""


def keep_to(n_threads: int) -> None:
    """Let this process, and all it starts, use only so many cores, where that can be said."""
    if hasattr(os, "sched_setaffinity") and n_threads < len(cores()):
        os.sched_setaffinity(0, cores()[:n_threads])


def multiplies_bfloat16(facts: dict[str, Any]) -> bool:
    """Whether the processor has instructions for bfloat16 matrix products."""
    return any(flag.endswith("bf16") for flag in facts["flags"])


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def warn_if_busy() -> float:
    """Return the load; say so if it is too high for timings to mean anything."""
    now = load()
    if now > BUSY * len(cores()):
        print(
            f"warning: the load average is {now:.2f}: something else is running, and timings "
            "on a busy machine mean nothing. Stop it, wait a minute, start again.",
            file=sys.stderr,
        )
    return now


class Others:
    """How much the machine computes for other processes while ours run, where Linux tells."""

    def __init__(self) -> None:
        self.began, self.before = perf_counter(), _seconds_of_others()

    def cores_used(self) -> float | None:
        """Return how many cores other processes have used on average, since this was made."""
        now = _seconds_of_others()
        if now is None or self.before is None:
            return None
        return max(0.0, (now - self.before) / (perf_counter() - self.began))


def _seconds_of_others() -> float | None:
    """Seconds of all cores spent so far, less those of this process and of what it ran."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _idle, _wait, *rest = map(int, path.read_text().split("\n")[0].split()[1:])
    busy = (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")
    mine = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy - sum(usage.ru_utime + usage.ru_stime for usage in mine)
