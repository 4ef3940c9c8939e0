"""Memory networks: a decoder whose layers read a memory by attention (Li, Zhu and Zhang, 2016)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from torch import nn

from ancestral.fields import Count, Natural, Naturals, Weight, Weights
from ancestral.methods.deep import Modules, NetworkEstimator
from ancestral.networks import Attention, Composition, Memory, Tap
from ancestral.objectives import Objective, elbo, iwae, local_reconstruction


class MemoryVAE(NetworkEstimator):
    """Variational autoencoder with memory and attention: MEM-VAE, and MEM-IWAE for K > 1.

    An encoder throws away details to become invariant; here the decoder keeps them, in a memory
    beside each hidden layer, shared by all rows and learned by gradient. A local reconstruction
    error asks each decoder layer to rebuild what the encoder layer of its height saw. With several
    stochastic layers, memories stand between the lowest one and the data.

    Parameters
    ----------
    n_importance_samples : int
        K: 1 maximises the ELBO, more the bound L_K.
    n_slots : int or list of int
        Slots of the memories, from the data upward as ``hidden``; 0 is no memory.
    attention : {"sigmoid", "softmax"}
        Each slot by itself, or shares that sum to one.
    composition : {"ladder", "plus"}
        Of a layer with what its memory answers. With a ladder and ReLU, training starts from the
        network without memory.
    local_weight : float or list of float
        lambda: how much the local reconstruction errors count, from the data upward; 0 is not.
    gradient : {"reparameterised", "doubly"}
        As in the paper, or an estimator whose signal for the encoder does not fade as K grows
        (Tucker et al., 2018); for K = 1 that of Roeder et al. (2017).

    References
    ----------
    Learning to Generate with Memory, https://arxiv.org/abs/1602.07416

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> memory = MemoryVAE(n_latents=5, hidden=(50,), n_slots=10, max_epochs=5, random_state=0)
    >>> memory.fit(X).sample(3).shape
    (3, 64)
    """

    n_importance_samples: Count = 1
    n_slots: Natural | Naturals = 50
    attention: Attention = "sigmoid"
    composition: Composition = "ladder"
    local_weight: Weight | Weights = 0.1
    gradient: Literal["reparameterised", "doubly"] = "reparameterised"

    def _build(self) -> Modules:
        slots = self._per_layer("n_slots")
        how: dict[str, Any] = {
            "attention": self.attention,
            "composition": self.composition,
            "activation": self.activation,
        }

        def up(depth: int, _: int, layer: list[nn.Module]) -> list[nn.Module]:
            product, *rest = layer
            return [product, Tap(f"up{depth}"), *rest]

        def down(depth: int, width: int, layer: list[nn.Module]) -> list[nn.Module]:
            height = len(slots) - 1 - depth  # the decoder runs from the latents to the data
            name, n = f"memory{height}", slots[height]
            memory = [Memory(width, n, **how, name=name)] if n else []
            return [*layer, *memory, Tap(f"down{height}")]

        return self._networks(up, down)

    def _objective(self) -> Objective:
        weights = self._per_layer("local_weight")
        pairs = [(f"up{n}", f"down{n}", float(weight)) for n, weight in enumerate(weights)]
        return self._bound() + local_reconstruction(pairs)

    def _bound(self) -> Objective:
        doubly, one_layer = self.gradient == "doubly", len(self._latent_sizes()) == 1
        if doubly and not one_layer:
            raise ValueError("gradient='doubly' is for a single stochastic layer: n_latents=int")
        if self.n_importance_samples > 1:
            return iwae(self.n_importance_samples, self.gradient)
        return elbo(1, "path" if doubly else "analytic" if one_layer else "sampled")

    def _per_layer(self, name: str) -> tuple[Any, ...]:
        """Return a field's value for every hidden layer next to the data."""
        value, hidden = getattr(self, name), self._hidden_sizes()[0]
        if np.ndim(value) == 0:
            return (value,) * len(hidden)
        if len(value) != len(hidden):
            raise ValueError(
                f"{name}={value!r} is for {len(value)} hidden layers and hidden={self.hidden!r} "
                f"has {len(hidden)}: give one for each, or a single number for all"
            )
        return tuple(value)
