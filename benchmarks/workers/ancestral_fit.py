"""Worker: the estimators VAE and IWAE of ancestral."""

from __future__ import annotations

import contextlib

import torch
from ancestral_timer import Timer
from common import (
    BATCH_SIZE,
    HIDDEN,
    LEARNING_RATE,
    N_LATENTS,
    MeasurementComplete,
    Task,
    parse_task,
    record_import_memory,
    report,
)

from ancestral import IWAE, VAE
from ancestral.objectives import elbo, iwae
from ancestral.training import Callback

NETWORKS = {
    "tanh": {"activation": "tanh", "batch_norm": False},
    "batch-norm ReLU": {"activation": "relu", "batch_norm": True},
}


def timed_estimator(task: Task, timer: Timer) -> VAE | IWAE:
    """Estimator with the timer as a callback."""
    k = task.workload.k
    estimator = VAE if k == 1 else IWAE

    class Timed(estimator):  # type: ignore[misc, valid-type]
        def _callbacks(self) -> list[Callback]:
            return [timer]

    return Timed(
        n_latents=N_LATENTS,
        hidden=(HIDDEN, HIDDEN),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        binarize="none",
        max_epochs=1_000_000,
        device="cpu",
        random_state=task.seed,
        **({} if k == 1 else {"n_importance_samples": k}),
        **NETWORKS[task.options.network],
    )


def main() -> None:
    """Measure training, and report."""
    record_import_memory()
    task = parse_task(
        lambda parser: parser.add_argument("--network", choices=list(NETWORKS), default="tanh")
    )
    torch.set_flush_denormal(task.flush_denormals)
    k = task.workload.k
    timer = Timer(task, elbo() if k == 1 else iwae(k))
    with contextlib.suppress(MeasurementComplete):
        timed_estimator(task, timer).fit(task.rows)
    report("ancestral", f"estimator, {task.options.network}", task, timer.clock, ["torch"])


if __name__ == "__main__":
    main()
