"""Dense layers by oneDNN's product in single precision, where nothing is differentiated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ancestral.engine.flat import reduced
from ancestral.engine.planning import Plan


def affine(u: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return u W^T + b; torch's usual product leaves half of AVX-512 idle on AMD's processors."""
    return torch.ops.mkldnn._linear_pointwise(u, weight, bias, "none", [], "")


whole_affine = torch.library.custom_op("ancestral::affine", affine, mutates_args=())
"""The same as an operator of its own, which stays whole in a compiled graph. Outside of one it
would load the compiler, for seconds."""


@whole_affine.register_fake
def _(u: Tensor, weight: Tensor, _bias: Tensor | None) -> Tensor:
    return u.new_empty(*u.shape[:-1], len(weight))


@contextmanager
def inference(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Compute a model's products as planned inside, where nothing may be differentiated.

    Parameters
    ----------
    model : Module
        Called inside; given back as it was.
    plan : Plan
        In single precision on a CPU, dense layers take oneDNN's product.
    """
    layers = [m for m in model.modules() if type(m) is nn.Linear and _is_single(m.weight)]
    if plan.reduced is not None or not torch.backends.mkldnn.is_available():
        layers = []
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        with reduced(model, plan):
            yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(layer: nn.Linear, u: Tensor) -> Tensor:
    product = whole_affine if torch.compiler.is_compiling() else affine
    return product(u, layer.weight, layer.bias)


def _is_single(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
