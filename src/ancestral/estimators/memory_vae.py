"""Memory-augmented VAE: decoder layers read a memory by attention (Li, Zhu and Zhang, 2016)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import DeepLatentEstimator, Layer
from ancestral.nn import ActivationTap, Attention, Composition, Memory, ablate_memories, memories
from ancestral.objectives import Objective, elbo, iwae, local_reconstruction
from ancestral.probability.distributions import mean_or_mode
from ancestral.utils.validation import Count, Natural, Naturals, Weight, Weights


class MemoryVAE(DeepLatentEstimator):
    """Variational autoencoder with memory and attention: MEM-VAE, and MEM-IWAE for K > 1.

    An encoder discards details to become invariant. Here each hidden layer of the decoder reads
    them from a memory, a parameter shared by all samples. A local reconstruction error
    compares each decoder layer with the encoder layer of the same height. With several stochastic
    layers, the memories lie between the lowest one and the data.

    Parameters
    ----------
    n_importance_samples : int
        K, the number of importance samples: 1 maximises the ELBO, K > 1 the bound L_K.
    n_slots : int or list of int
        Numbers of memory slots per hidden layer, in the order of ``hidden`` (from the data upward);
        0 omits the memory.
    attention : {"sigmoid", "softmax"}
        Attention weights: independent of one another, or normalised to sum to one.
    composition : {"ladder", "plus"}
        Combination of a layer with the output of its memory. With a ladder and ReLU, the initial
        network equals the one without memory.
    local_weight : float or list of float
        lambda: weight of the local reconstruction error, one for all hidden layers or one for
        each, from the data upward; 0 omits it.
    gradient_estimator : {"reparameterised", "doubly"}
        Gradient estimator: that of the paper, or one whose signal-to-noise ratio for the encoder
        does not decrease with K (Tucker et al., 2018; for K = 1, Roeder et al., 2017).
    n_resampled : int, optional
        For K > 1, number of the K samples to differentiate, resampled in proportion to their
        weights (Burda, Grosse and Salakhutdinov, 2016, section 3): less computation, noisier
        gradients. The local reconstruction error is then that of the resampled ones.

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
    gradient_estimator: Literal["reparameterised", "doubly"] = "reparameterised"
    n_resampled: Count | None = None

    def attend(self, X: Any, memory: int = 0) -> np.ndarray:
        """Attention weights of each sample over the memory slots, at the posterior mean of z.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data; ``NaN`` marks missing values.
        memory : int
            Index of the hidden layer of the memory; 0 is next to the data.

        Returns
        -------
        array [n_samples, n_slots]
            Weights in [0, 1]; with softmax attention they sum to one over the slots.

        Raises
        ------
        ValueError
            If the hidden layer has no memory.
        """
        self._check_fitted()
        tap = self._memory_layer(memory).attention

        def weights(batch: Batch) -> Tensor:
            self.model_.decode(mean_or_mode(self.model_.encode(batch)))
            assert tap.value is not None
            return tap.value

        return self._map_rows(X, weights)

    @torch.no_grad()
    def decode_slots(self, memory: int = 0) -> np.ndarray:
        """Decode each memory slot separately; return E[x], [n_slots, n_features].

        The input of the layer is replaced by zeros, the output of its memory by one slot.

        Parameters
        ----------
        memory : int
            Index of the hidden layer of the memory; 0 is next to the data.

        Raises
        ------
        ValueError
            If the hidden layer has no memory.
        """
        self._check_fitted()
        layer = self._memory_layer(memory)
        outputs = layer.combine(torch.zeros_like(layer.slots), layer.slots)
        hook = layer.register_forward_hook(lambda *_: outputs)
        try:
            z = outputs.new_zeros(len(outputs), sum(self._latent_sizes()))
            return self.columns_.to_data_units(mean_or_mode(self.model_.decode(z))).cpu().numpy()
        finally:
            hook.remove()

    def ablate_memories(self, *layers: int) -> AbstractContextManager[None]:
        """Context manager that replaces the outputs of the given memories by ones.

        Parameters
        ----------
        *layers : int
            Indices of the hidden layers of the memories; by default all memories.

        Examples
        --------
        >>> X = np.random.default_rng(0).integers(0, 2, (100, 6))
        >>> fitted = MemoryVAE(hidden=(8,), n_slots=4, max_epochs=2, random_state=0).fit(X)
        >>> with fitted.ablate_memories():
        ...     without = fitted.reconstruct(X)
        """
        self._check_fitted()
        return ablate_memories(*(self._memory_layer(n) for n in layers or self.memories_))

    @property
    def memories_(self) -> tuple[int, ...]:
        """Indices of the hidden layers that have a memory, from the data upward."""
        return tuple(n for n, slots in enumerate(self._values_per_layer("n_slots")) if slots)

    def _memory_layer(self, number: int) -> Memory:
        if number not in self.memories_:
            raise ValueError(
                f"memory={number!r}: expected one of {list(self.memories_)}, the hidden layers "
                f"with a memory (n_slots={self.n_slots!r}; 0 is next to the data)"
            )
        layers = memories(self.model_.likelihood)[::-1]
        return layers[self.memories_.index(number)]

    def _resolve_defaults(self, data: DeviceData) -> None:
        super()._resolve_defaults(data)
        if self.hidden == "auto" and len(self.hidden_) == 1:
            # one layer for each entry of a list of slots or weights
            self.hidden_ *= max(np.size(self.n_slots), np.size(self.local_weight))

    def _check_architecture(self) -> None:
        if not self._values_per_layer("n_slots") and np.any(self.n_slots):
            raise ValueError(
                f"n_slots={self.n_slots!r}: a memory belongs to a hidden layer of the decoder, and "
                f"hidden={self.hidden!r} has none next to the data"
            )
        if self.network != "dense":
            raise ValueError(f"network={self.network!r}: MemoryVAE supports only network='dense'")

    def _encoder_layer(self, depth: int, width: int, layer: Layer) -> Layer:  # noqa: ARG002
        linear, *rest = layer
        return [linear, ActivationTap(f"up{depth}"), *rest]

    def _decoder_layer(self, depth: int, width: int, layer: Layer) -> Layer:
        slots = self._values_per_layer("n_slots")
        number = len(slots) - 1 - depth  # the decoder runs from the latent variables to the data
        taps = [ActivationTap(f"down{number}")]
        if not slots[number]:
            return [*layer, *taps]
        memory = Memory(
            width,
            slots[number],
            attention=self.attention,
            composition=self.composition,
            activation=self.activation,
            name=f"memory{number}",
        )
        return [*layer, memory, *taps]

    def _objective(self) -> Objective:
        weights = self._values_per_layer("local_weight")
        pairs = [(f"up{n}", f"down{n}", float(weight)) for n, weight in enumerate(weights)]
        return self._bound() + local_reconstruction(pairs)

    def _bound(self) -> Objective:
        doubly, one_layer = self.gradient_estimator == "doubly", len(self._latent_sizes()) == 1
        if doubly and not one_layer:
            raise ValueError(
                "gradient_estimator='doubly' requires a single stochastic layer, got "
                f"n_latents={self.n_latents!r}"
            )
        if self.n_importance_samples > 1:
            return iwae(self.n_importance_samples, self.gradient_estimator, self.n_resampled)
        if self.n_resampled is not None:
            raise ValueError(
                f"n_resampled={self.n_resampled!r}: expected None, or a number below "
                f"n_importance_samples={self.n_importance_samples!r}"
            )
        return elbo(1, "path" if doubly else "analytic" if one_layer else "sampled")

    def _values_per_layer(self, name: str) -> tuple[Any, ...]:
        """Return the value of a field for every hidden layer next to the data."""
        value, hidden = getattr(self, name), self._hidden_sizes()[0]
        if np.ndim(value) == 0:
            return (value,) * len(hidden)
        if len(value) != len(hidden):
            raise ValueError(
                f"{name}={value!r}: expected {len(hidden)} entries, one per layer of "
                f"hidden={self.hidden!r}, or a single number"
            )
        return tuple(value)
