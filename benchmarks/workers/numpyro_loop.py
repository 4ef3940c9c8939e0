"""Worker: NumPyro, many updates in one jitted lax.fori_loop, as its VAE example trains."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import BATCH, note_imports, read_task, report
from numpyro_model import evaluator, make_svi


def main() -> None:
    """Train, measure, report."""
    note_imports()
    task = read_task()
    svi = make_svi(task)
    rows = jnp.asarray(task.rows, jnp.float32)
    state = svi.init(jax.random.PRNGKey(task.seed), rows[:BATCH])

    @jax.jit
    def train(state: Any, rows: jax.Array, order: jax.Array, start: int, stop: int) -> Any:
        def body(i: int, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            total, state = carry
            index = jax.lax.dynamic_slice_in_dim(order, i * BATCH, BATCH)
            state, loss = svi.update(state, jnp.take(rows, index, axis=0))
            return total + loss, state

        return jax.lax.fori_loop(start, stop, body, (jnp.zeros(()), state))[1]

    clock = task.clock(evaluator(svi, lambda: state), lambda: jax.block_until_ready(state))
    rng = np.random.default_rng(task.seed)
    n_batches = len(task.rows) // BATCH
    order, done, more = jnp.asarray(rng.permutation(len(task.rows))), 0, True
    clock.start()
    while more:
        if done == n_batches:
            order, done = jnp.asarray(rng.permutation(len(task.rows))), 0
        n = min(clock.ahead, n_batches - done)
        state = train(state, rows, order, done, done + n)
        done += n
        more = clock.tick(n)
    # XLA's CPU backend takes denormals as zero, whatever it is told
    libraries = ["numpyro", "jax"]
    report("NumPyro", "fori_loop in one jit", task, clock, libraries, flush_denormals=True)


if __name__ == "__main__":
    main()
