"""Dense layers by oneDNN's float32 matrix product, for inference without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from ancestral.training.engine.compilation import Plan
from ancestral.training.engine.flat_parameters import reduced_precision


def affine(u: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return u W^T + b by oneDNN; torch's default product uses half of AVX-512 on AMD CPUs.

    Parameters
    ----------
    u : Tensor [..., n_in]
        Inputs.
    weight : Tensor [n_out, n_in]
        Weights W.
    bias : Tensor [n_out] or None
        Biases b.
    """
    return torch.ops.mkldnn._linear_pointwise(u, weight, bias, "none", [], "")


affine_op = torch.library.custom_op("ancestral::affine", affine, mutates_args=())
""":func:`affine` as a custom operator, which the compiler does not decompose. Outside a compiled
graph its call would import the compiler, which takes seconds."""


@affine_op.register_fake
def _(u: Tensor, weight: Tensor, _bias: Tensor | None) -> Tensor:
    return u.new_empty(*u.shape[:-1], len(weight))


@contextmanager
def inference_mode(model: nn.Module, plan: Plan) -> Iterator[None]:
    """Compute a model's matrix products as planned inside the context, without gradients.

    Parameters
    ----------
    model : Module
        Model to call inside the context; restored afterwards.
    plan : Plan
        Execution plan. For float32 on a CPU, dense layers use oneDNN's matrix product.
    """
    layers = [m for m in model.modules() if type(m) is nn.Linear and _is_single(m.weight)]
    if plan.reduced_dtype is not None or not torch.backends.mkldnn.is_available():
        layers = []
    for layer in layers:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    try:
        with reduced_precision(model, plan):
            yield
    finally:
        for layer in layers:
            del layer.forward


@contextmanager
def differentiable_products(model: nn.Module) -> Iterator[None]:
    """Use torch's differentiable matrix products inside the context of :func:`inference_mode`."""
    replaced = [(m, m.__dict__.pop("forward")) for m in model.modules() if "forward" in m.__dict__]
    try:
        yield
    finally:
        for layer, forward in replaced:
            layer.forward = forward


def _forward(layer: nn.Linear, u: Tensor) -> Tensor:
    product = affine_op if torch.compiler.is_compiling() else affine
    return product(u, layer.weight, layer.bias)


def _is_single(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
