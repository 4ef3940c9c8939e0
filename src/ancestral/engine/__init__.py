"""Hardware-dependent code: devices, precision, compiled steps, flat parameters, random streams."""

from ancestral.engine.devices import (
    denormals_flushed,
    moved,
    resolve_device,
    single_precision,
    widest,
)
from ancestral.engine.flat import FlatParameters, lay_out
from ancestral.engine.graphs import Graph
from ancestral.engine.memory import memory_kept
from ancestral.engine.notices import notice, show_notices
from ancestral.engine.planning import CompileChoice, Plan, Precision, convolves, plan
from ancestral.engine.products import inference
from ancestral.engine.randomness import private_randomness, seed, seeded

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
