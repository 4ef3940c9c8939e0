"""What every worker shares: the task, its start, its clock, and its one line of JSON.

Only the standard library and NumPy are imported here: every worker has an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

N_PIXELS, HIDDEN, N_LATENTS = 784, 500, 50
BATCH, RATE = 100, 1e-3
SETTLING_SECONDS = 2.0
EVALUATION_ROWS = 1000


@dataclass(frozen=True)
class Workload:
    """A task and how it is measured.

    Attributes
    ----------
    k : int
        Importance samples; with one, the bound is the ELBO.
    warm_up : int
        Steps before the clock counts; after exactly these the loss is evaluated, so that all
        libraries are compared at the same number of steps.
    block : int
        Steps in one measured block.
    """

    k: int
    warm_up: int
    block: int


WORKLOADS = {
    "W1": Workload(k=1, warm_up=300, block=100),
    "W2": Workload(k=5, warm_up=100, block=50),
    "W3": Workload(k=50, warm_up=20, block=10),
}


class Enough(Exception):  # noqa: N818
    """Raised inside a library's own training loop once there is nothing left to measure."""


class Clock:
    """Follows a training run step by step: first step, warm-up, then measured blocks.

    Parameters
    ----------
    workload : Workload
        Which steps count.
    seconds : float
        How long to measure, at least two blocks.
    evaluate : callable
        () -> current loss; called with the clock stopped.
    synchronise : callable
        Waits until all steps are really done, for libraries that run ahead of Python.
    """

    def __init__(
        self,
        workload: Workload,
        seconds: float,
        evaluate: Callable[[], float],
        synchronise: Callable[[], object] = lambda: None,
    ) -> None:
        self.workload, self.seconds = workload, seconds
        self.evaluate, self.synchronise = evaluate, synchronise
        self.steps, self.goal = 0, 1
        self.rates: list[float] = []
        self.first_step_seconds = self.warm_up_seconds = self.measured = 0.0
        self.loss = self.final_loss = float("nan")

    def start(self) -> None:
        """Begin, right before the first step."""
        self.began = self.mark = perf_counter()

    @property
    def ahead(self) -> int:
        """How many steps may be taken before the clock must be told."""
        return self.goal - self.steps

    def tick(self, n: int = 1) -> bool:
        """Count ``n`` steps done; return whether more are wanted."""
        self.steps += n
        if self.steps < self.goal:
            return True
        self.synchronise()
        more = self._reached(perf_counter() - self.mark)
        self.mark = perf_counter()
        return more

    def tick_or_stop(self) -> None:
        """Count a step done; raise :class:`Enough` unless more are wanted."""
        if not self.tick():
            raise Enough

    def _reached(self, seconds: float) -> bool:
        """Note what has passed since the last goal, and set the next one."""
        warm_up, block = self.workload.warm_up, self.workload.block
        if self.steps == 1:
            self.first_step_seconds = seconds
            self.goal = warm_up
            return True
        self.goal += block
        if self.steps == warm_up:
            self.warm_up_seconds = seconds
            self.loss = self.evaluate()
        elif self.rates or self.mark - self.began > SETTLING_SECONDS + self.first_step_seconds:
            self.rates.append(block * BATCH / seconds)
            self.measured += seconds
        more = self.measured < self.seconds or len(self.rates) < 2
        if not more:
            self.final_loss = self.evaluate()
        return more


@dataclass(frozen=True)
class Task:
    """What a worker was asked to do; ``rows`` [n, d] are bits or bytes."""

    name: str
    workload: Workload
    rows: np.ndarray
    seconds: float
    seed: int
    flush_denormals: bool
    options: argparse.Namespace

    def clock(
        self,
        loss_of: Callable[[np.ndarray], float],
        synchronise: Callable[[], object] = lambda: None,
    ) -> Clock:
        """Make the clock; ``loss_of`` takes rows [batch, d] to their mean loss in nats."""
        rows = self.rows[:EVALUATION_ROWS]
        parts = rows.reshape(-1, BATCH, rows.shape[1])

        def evaluate() -> float:
            return float(np.mean([loss_of(part) for part in parts]))

        return Clock(self.workload, self.seconds, evaluate, synchronise)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield row numbers [batch] for ever, every epoch in a new order."""
        rng = np.random.default_rng(self.seed)
        while True:
            yield from rng.permutation(len(self.rows)).reshape(-1, BATCH)


def read_task(
    configure: Callable[[argparse.ArgumentParser], object] = lambda _parser: None,
    workloads: dict[str, Workload] = WORKLOADS,
) -> Task:
    """Read the command line; ``configure`` adds a worker's own options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", choices=list(workloads), default=next(iter(workloads)))
    parser.add_argument("--data", type=Path, required=True, help="rows [n, d], uint8, .npy")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--flush-denormals", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    configure(parser)
    options = parser.parse_args()
    return Task(
        name=options.workload,
        workload=workloads[options.workload],
        rows=np.load(options.data),
        seconds=options.seconds,
        seed=options.seed,
        flush_denormals=options.flush_denormals,
        options=options,
    )


def log_odds(bits: np.ndarray) -> np.ndarray:
    """Log-odds of every pixel, where all workers start the output bias of the decoder.

    All start alike (Glorot-uniform weights, biases at zero but for this one, log-variances at
    zero), so that their losses after the same number of steps can be compared.
    """
    p = bits.mean(0, dtype=np.float64).clip(1e-3, 1 - 1e-3)
    return np.log(p / (1 - p)).astype(np.float32)


IMPORTED = 0.0


def note_imports() -> None:
    """Remember the memory that the libraries take before there are any data."""
    global IMPORTED
    IMPORTED = peak_memory()


def peak_memory() -> float:
    """Return the largest resident set so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process that started this one
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def report(
    library: str, variant: str, task: Task, clock: Clock, distributions: list[str], **more: Any
) -> None:
    """Print the one line of JSON that the driver reads."""
    line = {
        "library": library,
        "variant": variant,
        "workload": task.name,
        "flush_denormals": task.flush_denormals,
        "images_per_second": clock.rates,
        "first_step_seconds": clock.first_step_seconds,
        "warm_up_seconds": clock.warm_up_seconds,
        "warm_up_steps": task.workload.warm_up,
        "loss": clock.loss,
        "steps": clock.steps,
        "final_loss": clock.final_loss,
        "imported_rss_mb": IMPORTED,
        "peak_rss_mb": peak_memory(),
        "versions": {name: metadata.version(name) for name in distributions},
    }
    print(json.dumps(line | more), flush=True)
