"""Optimisers as pure functions on one flat parameter vector, and learning-rate schedules.

The parameters of a player are stored in one vector. An optimiser consists of its initial state
(``init``), the scalars of each step (``rates``) and an in-place update (``update``).
"""

from ancestral.training.optim.optimizer import (
    RULES,
    Optimizer,
    Rates,
    Shapes,
    State,
    adagrad,
    adam,
    iwae_adam,
    sgd,
    sgld,
)
from ancestral.training.optim.schedules import (
    SCHEDULES,
    Schedule,
    as_schedule,
    constant,
    cosine,
    delayed_exponential,
    inverse,
    iwae_stages,
    piecewise_constant,
    step_decay,
    with_warmup,
)
from ancestral.training.optim.transforms import (
    all_parameters,
    clip,
    ema,
    l2_decay,
    matrices_only,
    scale_per_parameter,
    weight_decay,
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
    "all_parameters",
    "as_schedule",
    "clip",
    "constant",
    "cosine",
    "delayed_exponential",
    "ema",
    "inverse",
    "iwae_adam",
    "iwae_stages",
    "l2_decay",
    "matrices_only",
    "piecewise_constant",
    "scale_per_parameter",
    "sgd",
    "sgld",
    "step_decay",
    "weight_decay",
    "with_warmup",
]
