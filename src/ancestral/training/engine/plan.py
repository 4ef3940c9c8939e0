"""Execution plan of training steps, chosen by fixed rules (no timing) before the first step."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ancestral.training.engine.devices import has_fast_bfloat16
from ancestral.training.engine.messages import log_once

CompileChoice = Literal["auto"] | bool

Precision = Literal["auto", "float32", "bfloat16"]

MIN_COMPILE_WORK = 3e11
"""Minimal work for compilation: steps x batch size x importance samples x parameters.

Equals four epochs of MNIST for two hidden layers of 500 units and one importance sample."""


@dataclass(frozen=True)
class Plan:
    """Execution plan of training steps; stored in the checkpoint and reused when resuming.

    Attributes
    ----------
    compiled : bool
        Whether a step is compiled into one graph.
    cuda_graph : bool
        Whether a step is captured as a CUDA graph (CUDA only).
    precision : {"float32", "bfloat16"}
        Precision of matrix products; parameters, optimiser state and sums have full precision.
    """

    compiled: bool = False
    cuda_graph: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def reduced_dtype(self) -> torch.dtype | None:
        """Dtype of matrix products, or None if it is that of the parameters."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return an autocast context with the planned precision of matrix products."""
        enabled = self.reduced_dtype is not None
        return torch.autocast(device.type, self.reduced_dtype, enabled=enabled, cache_enabled=False)


def make_plan(
    model: nn.Module,
    device: torch.device,
    work: float,
    compile: CompileChoice = "auto",
    precision: Precision = "auto",
) -> Plan:
    """Choose the execution plan of a training run.

    Parameters
    ----------
    model : Module
        Model to train.
    device : device
        Device of the model and the data.
    work : float
        Steps x batch size x importance samples x parameters.
    compile : "auto" or bool
        Whether to compile steps. ``"auto"`` compiles if ``work`` is at least
        :data:`MIN_COMPILE_WORK`, except models with convolutions on a CPU, which gain little.
    precision : {"auto", "float32", "bfloat16"}
        Precision of matrix products. ``"auto"`` is bfloat16 on hardware that supports it (GPUs,
        and CPUs with AMX or AVX-512 bfloat16) if all parameters are float32, else float32.
    """
    cuda_graph = device.type == "cuda" and compile is not False
    if precision == "auto":
        is_float32 = all(p.dtype == torch.float32 for p in model.parameters())
        precision = "bfloat16" if is_float32 and has_fast_bfloat16(device) else "float32"
    if compile == "auto":
        is_cpu_convolution = device.type == "cpu" and has_convolutions(model)
        compile = work >= MIN_COMPILE_WORK and not is_cpu_convolution and can_compile(device)
    return Plan(bool(compile), cuda_graph, precision)


def has_convolutions(model: nn.Module) -> bool:
    """Whether the model contains a convolution."""
    layer_types = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
    return any(isinstance(m, layer_types) for m in model.modules())


def can_compile(device: torch.device) -> bool:
    """Whether the requirements of compilation are met; logs a missing one once."""
    problem = _unmet_requirement(device)
    if problem:
        log_once(f"training runs uncompiled: slower, with the same results ({problem})", warn=True)
    return not problem


def _unmet_requirement(device: torch.device) -> str:
    """Return the requirement of compilation that is not met, or an empty string."""
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        return f"torch {torch.__version__} can't compile training steps; install a newer version"
    if device.type == "cuda":
        return "" if torch.utils._triton.has_triton() else "triton is not installed"
    if device.type != "cpu":
        return f"training steps can't be compiled on {device.type}"
    from torch._inductor import config

    configured = [c for c in (config.cpp.cxx if isinstance(config.cpp.cxx, tuple) else ()) if c]
    has_compiler = any(shutil.which(c) for c in [*configured, "c++", "g++", "clang++", "cl"])
    return "" if has_compiler else "no C++ compiler was found"
