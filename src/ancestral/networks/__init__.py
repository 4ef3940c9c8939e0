"""Networks: what maps a context to parameters."""

from ancestral.networks.convolution import (
    Maps,
    Stack,
    TwoHeaded,
    parse_encoder,
    parse_layers,
    parse_network,
    shape_after,
)
from ancestral.networks.layers import (
    ACTIVATIONS,
    MLP,
    Constant,
    Furnish,
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
from ancestral.networks.memory import Attention, Composition, Ladder, Memory, memories, silenced
from ancestral.networks.normalise import BatchNorm, batch_statistics, calibrate, standardise
from ancestral.networks.taps import Tap, Taps

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Attention",
    "BatchNorm",
    "Composition",
    "Constant",
    "Furnish",
    "Heads",
    "Ladder",
    "Maps",
    "Memory",
    "Read",
    "Stack",
    "Take",
    "Tap",
    "Taps",
    "TwoHeaded",
    "batch_statistics",
    "calibrate",
    "dense",
    "linear",
    "logit",
    "memories",
    "n_parameters",
    "one_hot",
    "parse_encoder",
    "parse_layers",
    "parse_network",
    "set_output_bias",
    "shape_after",
    "silenced",
    "standardise",
]
