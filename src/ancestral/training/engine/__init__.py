"""Hardware-dependent code: devices, precision, compiled steps, flat parameters, random streams."""

from ancestral.training.engine.compilation import Graph
from ancestral.training.engine.devices import (
    denormals_flushed,
    moved,
    resolve_device,
    single_precision,
    widest,
)
from ancestral.training.engine.flat_parameters import FlatParameters, lay_out
from ancestral.training.engine.linear import inference
from ancestral.training.engine.memory import memory_kept
from ancestral.training.engine.messages import notice, show_notices
from ancestral.training.engine.plan import CompileChoice, Plan, Precision, convolves, plan
from ancestral.utils.random import private_randomness, seed, seeded

__all__ = [
    "CompileChoice",
    "FlatParameters",
    "Graph",
    "Plan",
    "Precision",
    "convolves",
    "denormals_flushed",
    "inference",
    "lay_out",
    "memory_kept",
    "moved",
    "notice",
    "plan",
    "private_randomness",
    "resolve_device",
    "seed",
    "seeded",
    "show_notices",
    "single_precision",
    "widest",
]
