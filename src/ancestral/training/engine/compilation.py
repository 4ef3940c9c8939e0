"""Execution of training steps: the plan (precision, compilation) and compiled functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

import torch
from torch import nn
from torch.distributions import Distribution

from ancestral.training.engine.cuda_graphs import CUDAGraphFunction
from ancestral.training.engine.devices import has_fast_bfloat16, log_once


class CompiledFunction:
    """Function of tensors, compiled as one graph at its first call.

    One graph lets the compiler fuse forward pass, backward pass and optimiser. Noise is drawn by
    the same kernels and from the same stream as in eager execution. A function that can't be
    compiled runs eagerly, after one warning with the reason.

    Parameters
    ----------
    function : callable
        Function to compile; it may change tensors that it holds in place and call
        ``torch.autograd.grad``.
    compiled : bool
        Whether to compile.
    cuda_graph : bool
        Whether to capture the kernels of a call, compiled or eager, as a CUDA graph.
    """

    def __init__(
        self, function: Callable[..., Any], *, compiled: bool, cuda_graph: bool = False
    ) -> None:
        self.function = function
        self._compiled = _compile(function) if compiled else None
        self._call = CUDAGraphFunction(self._call_compiled) if cuda_graph else self._call_compiled

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._call(*args)

    def _call_compiled(self, *args: Any) -> Any:
        if self._compiled is None:
            return self.function(*args)
        try:
            with _trace_autograd():
                return self._compiled(*args)
        except Exception as error:
            if not type(error).__module__.startswith("torch._"):
                raise
            reason = _reason(error)
        # nothing has been executed yet; an error of the function itself is raised again here
        result = self.function(*args)
        self._compiled = None
        log_once(
            f"a training step could not be compiled ({reason}); it runs uncompiled: slower, with "
            "the same results",
            warn=True,
        )
        return result


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    kwargs: dict[str, Any] = {
        "fullgraph": True,
        "dynamic": False,
        "options": {"fallback_random": True, "guard_filter_fn": _guard_filter},
    }
    if "isolate_recompiles" in signature(torch.compile).parameters:  # torch 2.11 has none
        kwargs["isolate_recompiles"] = True  # do not check the guards of earlier fits' graphs
    with _preserve_validate_args():
        return torch.compile(function, **kwargs)


SKIPPED_GUARDS = {
    "BUILTIN_MATCH",
    "CLASS_MATCH",
    "EMPTY_NN_MODULE_HOOKS_DICT",
    "MODULE_MATCH",
    "NOT_PRESENT_IN_GENERIC_DICT",
    "TYPE_MATCH",
}
"""Guard types omitted from the checks before each call: program structure, which training does not
change. Guards on numbers, shapes and flags remain."""


def _guard_filter(guards: Sequence[Any]) -> list[bool]:
    return [guard.guard_type not in SKIPPED_GUARDS for guard in guards]


@contextmanager
def _trace_autograd() -> Iterator[None]:
    with _preserve_validate_args(), torch._dynamo.config.patch(trace_autograd_ops=True):
        yield


@contextmanager
def _preserve_validate_args() -> Iterator[None]:
    """Restore the default of ``Distribution`` validation, which torch's compiler turns off."""
    previous = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(previous)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


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
