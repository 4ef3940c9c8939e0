"""Demonstration: a VAE and an IWAE on the digits data of scikit-learn, with report pages."""

from __future__ import annotations

from pathlib import Path

from ancestral.experiments import metrics_file, run_folder
from ancestral.experiments.config import Config

COMMON = {
    "n_latents": 20,
    "hidden": (200, 200),
    "max_epochs": 300,
    "learning_rate": 2e-3,
    "validation_fraction": 0.1,
    "random_state": 0,
    "verbose": 1,
}


def run_demo(out: Path) -> Path:
    """Fit a VAE and an IWAE in run folders below ``out``; return the path of the last report."""
    for method, options in (("vae", {}), ("iwae", {"n_importance_samples": 5})):
        config = Config(method, "digits", COMMON | options)
        folder = run_folder.run_experiment(config, out / f"{method}-digits", overwrite=True)
        metric = metrics_file.read_metrics(folder)[-1]
        print(
            f"{method}: test {metric['metric']}: {metric['value']:.2f} "
            f"+- {metric['standard_error']:.2f}"
        )
    return folder / "report.html"
