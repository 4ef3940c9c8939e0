"""Hardware-dependent code: devices, precision, compiled steps, flat parameters, random streams."""

from ancestral.training.engine.compilation import (
    CompileChoice,
    CompiledFunction,
    Plan,
    Precision,
    has_convolutions,
    make_plan,
)
from ancestral.training.engine.devices import (
    flush_denormals,
    log_once,
    log_to_stderr,
    move_to,
    resolve_device,
    retain_freed_memory,
    single_precision,
    widest_float_dtype,
)
from ancestral.training.engine.flat_parameters import FlatParameters, set_memory_format
from ancestral.training.engine.linear import differentiable_products, inference_mode
from ancestral.utils.random import fork_rng, seed, seeded_rng

__all__ = [
    "CompileChoice",
    "CompiledFunction",
    "FlatParameters",
    "Plan",
    "Precision",
    "differentiable_products",
    "flush_denormals",
    "fork_rng",
    "has_convolutions",
    "inference_mode",
    "log_once",
    "log_to_stderr",
    "make_plan",
    "move_to",
    "resolve_device",
    "retain_freed_memory",
    "seed",
    "seeded_rng",
    "set_memory_format",
    "single_precision",
    "widest_float_dtype",
]
