"""Networks: what maps a context to parameters."""

from ancestral.networks.layers import (
    ACTIVATIONS,
    MLP,
    Constant,
    Heads,
    Read,
    Take,
    dense,
    linear,
    logit,
    n_parameters,
    one_hot,
    set_output_bias,
)
from ancestral.networks.memory import Memory
from ancestral.networks.normalise import BatchNorm, calibrate
from ancestral.networks.taps import Tap, Taps

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "BatchNorm",
    "Constant",
    "Heads",
    "Memory",
    "Read",
    "Take",
    "Tap",
    "Taps",
    "calibrate",
    "dense",
    "linear",
    "logit",
    "n_parameters",
    "one_hot",
    "set_output_bias",
]
