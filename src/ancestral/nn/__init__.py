"""Neural-network modules that map a context to distribution parameters."""

from ancestral.nn.batch_norm import (
    BatchNorm,
    batch_statistics,
    calibrate,
    shared_statistics,
    standardise,
)
from ancestral.nn.context import Constant, Lookup, ReadContext, Slice, one_hot
from ancestral.nn.conv_spec import (
    MapShape,
    network_output_shape,
    parse_encoder,
    parse_layers,
    parse_network,
)
from ancestral.nn.convolution import ClassMaps, ConvNet, TwoHeadConvNet
from ancestral.nn.dropout import Dropout, GaussianNoise
from ancestral.nn.ladder import Ladder
from ancestral.nn.memory import Attention, Composition, Memory, ablate_memories, memories
from ancestral.nn.mlp import (
    ACTIVATIONS,
    MLP,
    ActivationCollector,
    ActivationTap,
    Heads,
    LayerTransform,
    dense_layers,
    init_normal_,
    linear,
    logit,
    n_parameters,
    set_output_bias,
)
from ancestral.nn.spectral_norm import SpectralNorm, apply_spectral_norm

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "ActivationCollector",
    "ActivationTap",
    "Attention",
    "BatchNorm",
    "ClassMaps",
    "Composition",
    "Constant",
    "ConvNet",
    "Dropout",
    "GaussianNoise",
    "Heads",
    "Ladder",
    "LayerTransform",
    "Lookup",
    "MapShape",
    "Memory",
    "ReadContext",
    "Slice",
    "SpectralNorm",
    "TwoHeadConvNet",
    "ablate_memories",
    "apply_spectral_norm",
    "batch_statistics",
    "calibrate",
    "dense_layers",
    "init_normal_",
    "linear",
    "logit",
    "memories",
    "n_parameters",
    "network_output_shape",
    "one_hot",
    "parse_encoder",
    "parse_layers",
    "parse_network",
    "set_output_bias",
    "shared_statistics",
    "standardise",
]
