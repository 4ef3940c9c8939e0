"""Worker: NumPyro with many updates in one jitted lax.fori_loop, as in its VAE example."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import BATCH_SIZE, parse_task, record_import_memory, report
from numpyro_model import evaluator, make_svi


def main() -> None:
    """Measure training, and report."""
    record_import_memory()
    task = parse_task()
    svi = make_svi(task)
    rows = jnp.asarray(task.rows, jnp.float32)
    state = svi.init(jax.random.PRNGKey(task.seed), rows[:BATCH_SIZE])

    @jax.jit
    def train(state: Any, rows: jax.Array, order: jax.Array, start: int, stop: int) -> Any:
        def body(i: int, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
            total, state = carry
            index = jax.lax.dynamic_slice_in_dim(order, i * BATCH_SIZE, BATCH_SIZE)
            state, loss = svi.update(state, jnp.take(rows, index, axis=0))
            return total + loss, state

        return jax.lax.fori_loop(start, stop, body, (jnp.zeros(()), state))[1]

    clock = task.clock(evaluator(svi, lambda: state), lambda: jax.block_until_ready(state))
    rng = np.random.default_rng(task.seed)
    n_batches = len(task.rows) // BATCH_SIZE
    order, done, is_continued = jnp.asarray(rng.permutation(len(task.rows))), 0, True
    clock.start()
    while is_continued:
        if done == n_batches:
            order, done = jnp.asarray(rng.permutation(len(task.rows))), 0
        n = min(clock.steps_to_goal, n_batches - done)
        state = train(state, rows, order, done, done + n)
        done += n
        is_continued = clock.tick(n)
    # XLA's CPU backend always flushes denormals
    libraries = ["numpyro", "jax"]
    report("NumPyro", "fori_loop in one jit", task, clock, libraries, flush_denormals=True)


if __name__ == "__main__":
    main()
