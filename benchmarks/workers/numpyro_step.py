"""Worker: NumPyro with one jitted update per step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
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
    def update(state: Any, rows: jax.Array, index: jax.Array) -> tuple[Any, jax.Array]:
        return svi.update(state, jnp.take(rows, index, axis=0))

    clock = task.clock(evaluator(svi, lambda: state), lambda: jax.block_until_ready(state))
    clock.start()
    for index in task.batches():
        state, _loss = update(state, rows, index)
        if not clock.tick():
            break
    # XLA's CPU backend always flushes denormals
    libraries = ["numpyro", "jax"]
    report("NumPyro", "one jitted update per step", task, clock, libraries, flush_denormals=True)


if __name__ == "__main__":
    main()
