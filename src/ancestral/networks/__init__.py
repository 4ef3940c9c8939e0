"""Neural-network modules that map a context to distribution parameters."""

from ancestral.networks.convolution import ClassMaps, Stack, TwoHeaded
from ancestral.networks.disturb import Dropout, Jitter
from ancestral.networks.ladder import Ladder
from ancestral.networks.layers import (
    ACTIVATIONS,
    MLP,
    Constant,
    Furnish,
    Heads,
    Lookup,
    Read,
    Take,
    dense,
    linear,
    logit,
    n_parameters,
    one_hot,
    set_output_bias,
    start_normal,
)
from ancestral.networks.memory import Attention, Composition, Memory, memories, silenced
from ancestral.networks.normalise import (
    BatchNorm,
    batch_statistics,
    calibrate,
    shared_statistics,
    standardise,
)
from ancestral.networks.spectral import Spectral, spectrally_normalised
from ancestral.networks.taps import Tap, Taps
from ancestral.networks.written import Maps, parse_encoder, parse_layers, parse_network, shape_after

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "Attention",
    "BatchNorm",
    "ClassMaps",
    "Composition",
    "Constant",
    "Dropout",
    "Furnish",
    "Heads",
    "Jitter",
    "Ladder",
    "Lookup",
    "Maps",
    "Memory",
    "Read",
    "Spectral",
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
    "shared_statistics",
    "silenced",
    "spectrally_normalised",
    "standardise",
    "start_normal",
]
