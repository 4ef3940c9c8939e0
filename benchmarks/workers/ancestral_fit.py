"""Worker: ancestral's VAE and IWAE estimators, fitted as a user fits them."""

from __future__ import annotations

import contextlib

import torch
from ancestral_timer import Timer
from common import BATCH, HIDDEN, N_LATENTS, RATE, Enough, Task, note_imports, read_task, report

from ancestral import IWAE, VAE
from ancestral.objectives import elbo, iwae
from ancestral.training import Callback

NETWORKS = {
    "tanh": {"activation": "tanh", "batch_norm": False},
    "batch-norm ReLU": {"activation": "relu", "batch_norm": True},
}


def timed(task: Task, timer: Timer) -> VAE | IWAE:
    """Return the estimator, with the timer listening to its training."""
    k = task.workload.k
    system = VAE if k == 1 else IWAE

    class Timed(system):  # type: ignore[misc, valid-type]
        def _callbacks(self) -> list[Callback]:
            return [timer]

    return Timed(
        n_latents=N_LATENTS,
        hidden=(HIDDEN, HIDDEN),
        batch_size=BATCH,
        learning_rate=RATE,
        schedule="constant",
        binarize="none",
        max_epochs=1_000_000,
        device="cpu",
        random_state=task.seed,
        **({} if k == 1 else {"n_importance_samples": k}),
        **NETWORKS[task.options.network],
    )


def main() -> None:
    """Train, measure, report."""
    note_imports()
    task = read_task(
        lambda parser: parser.add_argument("--network", choices=list(NETWORKS), default="tanh")
    )
    torch.set_flush_denormal(task.flush_denormals)
    k = task.workload.k
    timer = Timer(task, elbo() if k == 1 else iwae(k))
    with contextlib.suppress(Enough):
        timed(task, timer).fit(task.rows)
    report("ancestral", f"estimator, {task.options.network}", task, timer.clock, ["torch"])


if __name__ == "__main__":
    main()
