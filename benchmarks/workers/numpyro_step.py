"""Worker: NumPyro, one jitted update a step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
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
    def update(state: Any, rows: jax.Array, index: jax.Array) -> tuple[Any, jax.Array]:
        return svi.update(state, jnp.take(rows, index, axis=0))

    clock = task.clock(evaluator(svi, lambda: state), lambda: jax.block_until_ready(state))
    clock.start()
    for index in task.batches():
        state, _loss = update(state, rows, index)
        if not clock.tick():
            break
    # XLA's CPU backend takes denormals as zero, whatever it is told
    libraries = ["numpyro", "jax"]
    report("NumPyro", "a jitted update a step", task, clock, libraries, flush_denormals=True)


if __name__ == "__main__":
    main()
