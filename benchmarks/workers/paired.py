"""Functions shared by workers that compare ancestral with a plain loop on the same modules."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from common import Clock, Task, parse_task, record_import_memory, report
from torch import Tensor


def add_implementation(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--implementation``."""
    parser.add_argument("--implementation", choices=["ancestral", "plain"], required=True)


def gradient_step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Compute gradients and update the parameters."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def measure_loop(
    task: Task,
    unit: float,
    loss_of: Callable[[Tensor], Tensor],
    train_step: Callable[[Tensor], None],
) -> Clock:
    """Measure a plain loop over minibatches of floats.

    Parameters
    ----------
    task : Task
        Measured task.
    unit : float
        Factor from the stored to the model's values.
    loss_of : callable
        Function from a minibatch to its loss, for the evaluation.
    train_step : callable
        Function that performs a training step on a minibatch.
    """

    @torch.no_grad()
    def evaluate(batch: np.ndarray) -> float:
        return loss_of(torch.from_numpy(batch).float() * unit).item()

    rows = torch.from_numpy(task.rows).float() * unit
    clock = task.clock(evaluate)
    clock.start()
    for index in task.batches():
        train_step(rows[torch.from_numpy(index)])
        if not clock.tick():
            break
    return clock


def run(workloads: dict[str, Any], implementations: dict[str, Callable[[Task], Clock]]) -> None:
    """Parse the command line, measure the selected implementation, and report."""
    record_import_memory()
    task = parse_task(add_implementation, workloads)
    torch.set_flush_denormal(task.flush_denormals)
    torch.manual_seed(task.seed)
    clock = implementations[task.options.implementation](task)
    names = {"ancestral": ("ancestral", "train"), "plain": ("PyTorch", "plain eager loop")}
    report(*names[task.options.implementation], task, clock, ["torch"])


def parameters(*modules: torch.nn.Module) -> Iterable[torch.nn.Parameter]:
    """Parameters of several modules."""
    return [p for module in modules for p in module.parameters()]
