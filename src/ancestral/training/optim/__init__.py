"""Optimisers as pure functions on one flat parameter vector, and learning-rate schedules.

The parameters of a player are stored in one vector. An optimiser consists of its initial state
(``init``), the scalars of each step (``rates``) and an in-place update (``update``).
"""

from ancestral.training.optim.optimizer import Optimizer, Rates, Shapes, State
from ancestral.training.optim.rules import RULES, adagrad, adam, sgd, sgld, stale_adam
from ancestral.training.optim.schedules import (
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
from ancestral.training.optim.transforms import (
    averaged,
    clipped,
    decayed,
    everything,
    scaled,
    shrunk,
    weights_only,
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
