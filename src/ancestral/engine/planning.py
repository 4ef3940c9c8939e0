"""How the steps of a training are carried out: decided once, by rules that look at no clock."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ancestral.engine.devices import has_fast_bfloat16
from ancestral.engine.notices import notice

CompileChoice = Literal["auto"] | bool
Precision = Literal["auto", "float32", "bfloat16"]

ENOUGH_WORK = 3e11
"""Steps times rows a step times samples of a row times parameters from which on compiling pays:
four passes over MNIST for two hidden layers of 500 and one sample."""


@dataclass(frozen=True)
class Plan:
    """How steps are carried out; kept in the checkpoint, so that a resume does the same.

    Attributes
    ----------
    compiled : bool
        Whether a step is compiled into one graph.
    captured : bool
        Whether the kernels of a step are recorded and replayed (CUDA only).
    precision : {"float32", "bfloat16"}
        Of matrix products. Parameters, optimiser and sums stay in full precision.
    """

    compiled: bool = False
    captured: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def reduced(self) -> torch.dtype | None:
        """The dtype of matrix products, if not the parameters' own."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def products(self, device: torch.device) -> torch.autocast:
        """Return a context in which matrix products are computed as planned."""
        on = self.reduced is not None
        return torch.autocast(device.type, self.reduced, enabled=on, cache_enabled=False)


def plan(
    model: nn.Module,
    device: torch.device,
    work: float,
    compile: CompileChoice = "auto",
    precision: Precision = "auto",
) -> Plan:
    """Decide how to carry out the steps of a training.

    Parameters
    ----------
    model : Module
        What is trained.
    device : device
        Where.
    work : float
        Steps times rows a step times samples of a row times parameters.
    compile : "auto" or bool
        ``"auto"`` compiles from :data:`ENOUGH_WORK` on, except convolutions on a CPU, for which
        it gains little.
    precision : {"auto", "float32", "bfloat16"}
        ``"auto"`` is bfloat16 where it has hardware of its own: GPUs, and CPUs with AMX or
        AVX-512's bfloat16.
    """
    captured = device.type == "cuda" and compile is not False
    if precision == "auto":
        single = all(p.dtype == torch.float32 for p in model.parameters())
        precision = "bfloat16" if single and has_fast_bfloat16(device) else "float32"
    if compile == "auto":
        on_cpu_convolves = device.type == "cpu" and convolves(model)
        compile = work >= ENOUGH_WORK and not on_cpu_convolves and can_compile(device)
    return Plan(bool(compile), captured, precision)


def convolves(model: nn.Module) -> bool:
    """Whether there is a convolution in the model."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
    return any(isinstance(m, kinds) for m in model.modules())


def can_compile(device: torch.device) -> bool:
    """Whether this machine has what compiling needs; says once what is missing."""
    missing = _missing(device)
    if missing:
        notice(f"training runs uncompiled, slower, with the same results: {missing}", warn=True)
    return not missing


def _missing(device: torch.device) -> str:
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return f"torch {torch.__version__} can't compile a whole step, newer versions can"
    if device.type == "cuda":
        return "" if torch.utils._triton.has_triton() else "triton is not installed"
    if device.type != "cpu":
        return f"whole steps are not compiled on {device.type}"
    from torch._inductor import config

    known = [c for c in (config.cpp.cxx if isinstance(config.cpp.cxx, tuple) else ()) if c]
    found = any(shutil.which(c) for c in [*known, "c++", "g++", "clang++", "cl"])
    return "" if found else "there is no C++ compiler"
