"""Optimisers as plain functions on one flat vector, and learning-rate schedules.

A player's parameters live side by side in one vector; an optimiser is what to keep beside it
(``init``), what changes from step to step (``rates``) and how to move it (``update``, in place).
"""

from ancestral.optim.around import (
    averaged,
    clipped,
    decayed,
    everything,
    scaled,
    shrunk,
    weights_only,
)
from ancestral.optim.base import Optimizer, Rates, Shapes, State
from ancestral.optim.rules import RULES, adagrad, adam, sgd, sgld, stale_adam
from ancestral.optim.schedules import (
    SCHEDULES,
    Schedule,
    as_schedule,
    constant,
    cosine,
    dropped,
    in_turn,
    inverse,
    late,
    stages,
    warmed_up,
)

__all__ = [
    "RULES",
    "SCHEDULES",
    "Optimizer",
    "Rates",
    "Schedule",
    "Shapes",
    "State",
    "adagrad",
    "adam",
    "as_schedule",
    "averaged",
    "clipped",
    "constant",
    "cosine",
    "decayed",
    "dropped",
    "everything",
    "in_turn",
    "inverse",
    "late",
    "scaled",
    "sgd",
    "sgld",
    "shrunk",
    "stages",
    "stale_adam",
    "warmed_up",
    "weights_only",
]
