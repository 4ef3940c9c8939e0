"""Task, command line, clock and output shared by all workers.

Imports only the standard library and NumPy, because workers run in different environments.
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
BATCH_SIZE, LEARNING_RATE = 100, 1e-3
SETTLING_SECONDS = 2.0
EVALUATION_ROWS = 1000


@dataclass(frozen=True)
class Workload:
    """Number of importance samples and lengths of the measurement.

    Attributes
    ----------
    k : int
        Number of importance samples; for 1 the bound is the ELBO.
    warm_up : int
        Number of steps before the measurement. The loss is evaluated right after them, so that
        all libraries are compared after the same number of steps.
    block : int
        Number of steps per measured block.
    """

    k: int
    warm_up: int
    block: int


WORKLOADS = {
    "W1": Workload(k=1, warm_up=300, block=100),
    "W2": Workload(k=5, warm_up=100, block=50),
    "W3": Workload(k=50, warm_up=20, block=10),
}


class MeasurementComplete(Exception):  # noqa: N818
    """Raised inside the training loop of a library to end the training."""


class Clock:
    """Timer of a training run: first step, warm-up, then measured blocks.

    Parameters
    ----------
    workload : Workload
        Lengths of warm-up and blocks.
    seconds : float
        Minimum duration of the measurement; at least two blocks are measured.
    evaluate : callable
        Function () -> current loss; its time is excluded.
    synchronise : callable
        Function that waits for all pending steps, for libraries with asynchronous execution.
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
        """Start, immediately before the first step."""
        self.start_time = self.mark = perf_counter()

    @property
    def steps_to_goal(self) -> int:
        """Number of steps until the next call of ``tick`` is required."""
        return self.goal - self.steps

    def tick(self, n: int = 1) -> bool:
        """Count ``n`` completed steps; return whether to continue."""
        self.steps += n
        if self.steps < self.goal:
            return True
        self.synchronise()
        is_continued = self._reach_goal(perf_counter() - self.mark)
        self.mark = perf_counter()
        return is_continued

    def tick_or_stop(self) -> None:
        """Count a completed step; raise :class:`MeasurementComplete` at the end."""
        if not self.tick():
            raise MeasurementComplete

    def _reach_goal(self, seconds: float) -> bool:
        """Store the time since the last goal and set the next one; return whether to continue."""
        warm_up, block = self.workload.warm_up, self.workload.block
        if self.steps == 1:
            self.first_step_seconds = seconds
            self.goal = warm_up
            return True
        self.goal += block
        if self.steps == warm_up:
            self.warm_up_seconds = seconds
            self.loss = self.evaluate()
        elif self.rates or self.mark - self.start_time > SETTLING_SECONDS + self.first_step_seconds:
            self.rates.append(block * BATCH_SIZE / seconds)
            self.measured += seconds
        is_continued = self.measured < self.seconds or len(self.rates) < 2
        if not is_continued:
            self.final_loss = self.evaluate()
        return is_continued


@dataclass(frozen=True)
class Task:
    """Workload, data and options of a worker; ``rows`` [n, d] are bits or bytes."""

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
        """Clock of this task; ``loss_of`` maps rows [batch, d] to their mean loss in nats."""
        rows = self.rows[:EVALUATION_ROWS]
        batches = rows.reshape(-1, BATCH_SIZE, rows.shape[1])

        def evaluate() -> float:
            return float(np.mean([loss_of(batch) for batch in batches]))

        return Clock(self.workload, self.seconds, evaluate, synchronise)

    def batches(self) -> Iterator[np.ndarray]:
        """Yield row indices [batch] without end, shuffled in every epoch."""
        rng = np.random.default_rng(self.seed)
        while True:
            yield from rng.permutation(len(self.rows)).reshape(-1, BATCH_SIZE)


def parse_task(
    configure: Callable[[argparse.ArgumentParser], object] = lambda _parser: None,
    workloads: dict[str, Workload] = WORKLOADS,
) -> Task:
    """Parse the command line; ``configure`` adds the options of a worker."""
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
    """Log-odds of every pixel, the initial output bias of the decoder in all workers.

    All workers use the same initialisation (Glorot-uniform weights, zero biases except this one,
    zero weights of the log-variances), so that losses after equal numbers of steps are comparable.
    """
    p = bits.mean(0, dtype=np.float64).clip(1e-3, 1 - 1e-3)
    return np.log(p / (1 - p)).astype(np.float32)


IMPORT_MEMORY = 0.0


def record_import_memory() -> None:
    """Store the memory used by the imported libraries, before data are loaded."""
    global IMPORT_MEMORY
    IMPORT_MEMORY = peak_memory()


def peak_memory() -> float:
    """Peak resident memory of this process, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage includes the parent process
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def report(
    library: str, variant: str, task: Task, clock: Clock, distributions: list[str], **more: Any
) -> None:
    """Print the line of JSON that the driver parses."""
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
        "imported_rss_mb": IMPORT_MEMORY,
        "peak_rss_mb": peak_memory(),
        "versions": {name: metadata.version(name) for name in distributions},
    }
    print(json.dumps(line | more), flush=True)
