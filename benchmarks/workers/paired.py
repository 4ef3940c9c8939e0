"""Workers that train the same PyTorch modules on two sides: by ancestral, and by a plain loop."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from common import Clock, Task, note_imports, read_task, report
from torch import Tensor


def add_side(parser: argparse.ArgumentParser) -> None:
    """Add the option that says which side is measured."""
    parser.add_argument("--side", choices=["ancestral", "plain"], required=True)


def step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One gradient step."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def measure_loop(
    task: Task, unit: float, loss_of: Callable[[Tensor], Tensor], move: Callable[[Tensor], None]
) -> Clock:
    """Run a plain loop over minibatches of floats.

    Parameters
    ----------
    task : Task
        What is measured.
    unit : float
        What the stored number one stands for.
    loss_of : callable
        Minibatch to loss, for the evaluation.
    move : callable
        Minibatch to nothing: a training step.
    """

    @torch.no_grad()
    def evaluate(part: np.ndarray) -> float:
        return loss_of(torch.from_numpy(part).float() * unit).item()

    rows = torch.from_numpy(task.rows).float() * unit
    clock = task.clock(evaluate)
    clock.start()
    for index in task.batches():
        move(rows[torch.from_numpy(index)])
        if not clock.tick():
            break
    return clock


def run_sides(workloads: dict[str, Any], sides: dict[str, Callable[[Task], Clock]]) -> None:
    """Read the command line, measure the side it names, report."""
    note_imports()
    task = read_task(add_side, workloads)
    torch.set_flush_denormal(task.flush_denormals)
    torch.manual_seed(task.seed)
    clock = sides[task.options.side](task)
    names = {"ancestral": ("ancestral", "train"), "plain": ("PyTorch", "plain eager loop")}
    report(*names[task.options.side], task, clock, ["torch"])


def parameters(*modules: torch.nn.Module) -> Iterable[torch.nn.Parameter]:
    """All parameters of several modules."""
    return [p for module in modules for p in module.parameters()]
