"""Neural-network modules that map a context to distribution parameters."""

from ancestral.nn.activations import Tap, Taps
from ancestral.nn.batch_norm import (
    BatchNorm,
    batch_statistics,
    calibrate,
    shared_statistics,
    standardise,
)
from ancestral.nn.context import Constant, Lookup, Read, Take, logit, one_hot
from ancestral.nn.conv_spec import Maps, parse_encoder, parse_layers, parse_network, shape_after
from ancestral.nn.convolution import ClassMaps, Stack, TwoHeaded
from ancestral.nn.dropout import Dropout, Jitter
from ancestral.nn.ladder import Ladder
from ancestral.nn.memory import Attention, Composition, Memory, memories, silenced
from ancestral.nn.mlp import (
    ACTIVATIONS,
    MLP,
    Furnish,
    Heads,
    dense,
    linear,
    n_parameters,
    set_output_bias,
    start_normal,
)
from ancestral.nn.spectral_norm import Spectral, spectrally_normalised

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
