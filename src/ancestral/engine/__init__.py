"""The only room that knows hardware: devices, precision, compiled graphs, flat state, streams."""

from ancestral.engine.devices import (
    denormals_flushed,
    moved,
    resolve_device,
    single_precision,
    widest,
)
from ancestral.engine.flat import FlatParameters
from ancestral.engine.graphs import Graph
from ancestral.engine.notices import notice, show_notices
from ancestral.engine.planning import Plan, plan
from ancestral.engine.randomness import private_randomness, seed, seeded

__all__ = [
    "FlatParameters",
    "Graph",
    "Plan",
    "denormals_flushed",
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
