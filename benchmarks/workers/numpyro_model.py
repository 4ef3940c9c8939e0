"""The task in NumPyro as in its VAE example: stax networks, numpyro.module, SVI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from common import BATCH_SIZE, HIDDEN, LEARNING_RATE, N_LATENTS, N_PIXELS, Task, log_odds
from jax.example_libraries import stax
from jax.nn.initializers import glorot_uniform, zeros
from numpyro.infer import SVI, RenyiELBO, Trace_ELBO
from numpyro.optim import Adam

Layer = tuple[Callable[..., Any], Callable[..., Any]]


def dense(n_out: int, weights: Any = None, bias: Any = zeros) -> Layer:
    """Dense layer, by default with Glorot-uniform weights and zero biases."""
    return stax.Dense(n_out, W_init=weights or glorot_uniform(), b_init=bias)


def encoder() -> Layer:
    """Encoder, pixels to mean and standard deviation."""
    heads = stax.parallel(dense(N_LATENTS), stax.serial(dense(N_LATENTS, zeros), scale()))
    hidden = [dense(HIDDEN), stax.Tanh, dense(HIDDEN), stax.Tanh]
    return stax.serial(*hidden, stax.FanOut(2), heads)


def scale() -> Layer:
    """Layer from log-variance to standard deviation."""
    return stax.elementwise(lambda log_var: jnp.exp(0.5 * log_var))


def decoder(bias: np.ndarray) -> Layer:
    """Decoder, latents to logits."""
    last = dense(N_PIXELS, bias=lambda _key, _shape: jnp.asarray(bias))
    return stax.serial(dense(HIDDEN), stax.Tanh, dense(HIDDEN), stax.Tanh, last)


def make_svi(task: Task) -> SVI:
    """Inference object whose model and guide take a batch [100, 784].

    All sites are inside the plate of the images. The importance weighted bound (a Renyi bound
    of order zero) therefore treats that axis as independent: it averages weights over the samples
    of each image and then sums over the images. The encoder is not vectorised over the samples, so
    that it runs once per image.
    """
    bias = log_odds(task.rows)

    def model(batch: jax.Array) -> None:
        decode = numpyro.module("decoder", decoder(bias), (BATCH_SIZE, N_LATENTS))
        with numpyro.plate("images", BATCH_SIZE):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([N_LATENTS]).to_event(1))
            pixels = dist.Bernoulli(logits=decode(z)).to_event(1)
            numpyro.sample("pixels", pixels, obs=batch)

    def guide(batch: jax.Array) -> None:
        encode = numpyro.module("encoder", encoder(), (BATCH_SIZE, N_PIXELS))
        mean, std = encode(batch)
        with numpyro.plate("images", BATCH_SIZE):
            numpyro.sample("z", dist.Normal(mean, std).to_event(1))

    k = task.workload.k
    loss = Trace_ELBO() if k == 1 else RenyiELBO(alpha=0, num_particles=k)
    return SVI(model, guide, Adam(LEARNING_RATE), loss)


def evaluator(svi: SVI, state: Callable[[], Any]) -> Callable[[np.ndarray], float]:
    """Function from rows to their mean loss at the current state."""
    evaluate = jax.jit(svi.evaluate)

    def loss_of(rows: np.ndarray) -> float:
        return float(evaluate(state(), jnp.asarray(rows, jnp.float32))) / len(rows)

    return loss_of
