"""Memory networks: a decoder whose layers read a memory by attention (Li, Zhu and Zhang, 2016)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ancestral.data import Batch
from ancestral.distributions import centre
from ancestral.fields import Count, Natural, Naturals, Weight, Weights
from ancestral.methods.deep import Modules, NetworkEstimator
from ancestral.networks import Attention, Composition, Memory, Tap, memories, silenced
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
        lambda: weight of the local reconstruction error, one for all hidden layers or one for
        each, from the data upward; 0 leaves it out.
    gradient : {"reparameterised", "doubly"}
        As in the paper, or an estimator whose signal for the encoder does not fade as K grows
        (Tucker et al., 2018); for K = 1 that of Roeder et al. (2017).
    n_resampled : int, optional
        For K > 1, differentiate only so many of the K samples, drawn in proportion to their
        weights (Burda, Grosse and Salakhutdinov, 2016, section 3): less work, for a gradient that
        is noisier. The local reconstruction error is then that of the samples drawn.

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
    n_resampled: Count | None = None

    def attend(self, X: Any, memory: int = 0) -> np.ndarray:
        """Return how much every row asks of every slot, at the posterior mean of z.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry.
        memory : int
            Beside which hidden layer: 0 is next to the data.

        Returns
        -------
        array [n_samples, n_slots]
            Between 0 and 1; with softmax attention a row sums to one.

        Raises
        ------
        ValueError
            If there is no such memory.
        """
        self._check_fitted()
        tap = self._memory(memory).attention

        def ask(batch: Batch) -> Tensor:
            self.model_.decode(centre(self.model_.encode(batch)))
            assert tap.value is not None
            return tap.value

        return self._map_rows(X, ask)

    @torch.no_grad()
    def decode_slots(self, memory: int = 0) -> np.ndarray:
        """Return E[x] decoded from each slot alone, [n_slots, n_features].

        The layer's own input is replaced by zeros and its memory answers with one slot.

        Parameters
        ----------
        memory : int
            Beside which hidden layer: 0 is next to the data.

        Raises
        ------
        ValueError
            If there is no such memory.
        """
        self._check_fitted()
        asked = self._memory(memory)
        alone = asked.join(torch.zeros_like(asked.slots), asked.slots)
        hook = asked.register_forward_hook(lambda *_: alone)
        try:
            z = alone.new_zeros(len(alone), sum(self._latent_sizes()))
            return self.columns_.to_user(centre(self.model_.decode(z))).cpu().numpy()
        finally:
            hook.remove()

    def silenced(self, *which: int) -> AbstractContextManager[None]:
        """Within this context the named memories (by default all) answer with ones.

        Examples
        --------
        >>> X = np.random.default_rng(0).integers(0, 2, (100, 6))
        >>> fitted = MemoryVAE(hidden=(8,), n_slots=4, max_epochs=2, random_state=0).fit(X)
        >>> with fitted.silenced():
        ...     without = fitted.reconstruct(X)
        """
        self._check_fitted()
        return silenced(*(self._memory(n) for n in which or self.memories_))

    @property
    def memories_(self) -> tuple[int, ...]:
        """The hidden layers that have a memory, from the data upward."""
        return tuple(n for n, slots in enumerate(self._per_layer("n_slots")) if slots)

    def _memory(self, number: int) -> Memory:
        if number not in self.memories_:
            there = " or ".join(map(str, self.memories_)) or "none, there are no memories"
            raise ValueError(
                f"memory={number!r}: expected {there} (n_slots={self.n_slots!r}; hidden layers are "
                "counted from 0, next to the data)"
            )
        upward = memories(self.model_.likelihood)[::-1]
        return upward[self.memories_.index(number)]

    def _build(self) -> Modules:
        slots = self._per_layer("n_slots")
        if not slots and np.any(self.n_slots):
            raise ValueError(
                f"n_slots={self.n_slots!r}: memories stand beside hidden layers and "
                f"hidden={self.hidden!r} has none next to the data"
            )
        if self.network != "dense":
            raise ValueError(
                f"network={self.network!r}: memories stand beside dense layers: network='dense'"
            )
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
            return iwae(self.n_importance_samples, self.gradient, self.n_resampled)
        if self.n_resampled is not None:
            raise ValueError(
                f"n_resampled={self.n_resampled!r} needs more samples to draw from: "
                "set n_importance_samples above it, or leave n_resampled out"
            )
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
