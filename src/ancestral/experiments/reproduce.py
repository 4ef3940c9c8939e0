"""Execution of recipes: fit, evaluate and write records, reusing completed work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.experiments import provenance, records, run_folder, zoo
from ancestral.experiments.config import Config
from ancestral.experiments.evaluation_settings import EvaluationSettings
from ancestral.experiments.jobs import Job
from ancestral.experiments.metrics import EvaluationTask, evaluate_task
from ancestral.experiments.records import Record
from ancestral.utils import files


def run_job(job: Job, runs: Path, results: Path, n_threads: int | None = None) -> Path:
    """Execute a job, reusing completed or interrupted work, and write its record.

    Parameters
    ----------
    job : Job
        Job to execute.
    runs : Path
        Folder of run folders: models, learning curves, checkpoints.
    results : Path
        Folder of records.
    n_threads : int, optional
        Number of compute threads; by default torch's setting.

    Returns
    -------
    Path
        Path of the record.
    """
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    folder = ensure_fitted(job, runs)
    estimator, config = run_folder.open_run(folder)
    assert config is not None
    estimator.to(estimator.device)
    dataset, protocol = config.dataset(), job.recipe.protocol_of(job.size, select=job.select)
    classifier = job.classifier()
    task = EvaluationTask(
        name=f"{job.recipe.row}, {job.size}, seed {job.seed}",
        folder=folder,
        estimator=estimator,
        dataset=dataset,
        protocol=protocol,
        rows=EvaluationSettings(protocol.n_importance_samples, job.split, n_rows=protocol.n_rows),
        classifier=None
        if classifier is None
        else run_folder.open_run(ensure_fitted(classifier, runs))[0],
    )
    metrics = evaluate_task(task)
    record = _record(job, runs, estimator, config, metrics)
    if isinstance(estimator, LatentEstimator):
        active = estimator.active_units(dataset.x_train[: protocol.n_training_rows])
        record["active_units"] = list(active)
    return records.write(record, results)


def ensure_fitted(job: Job, runs: Path) -> Path:
    """Run folder of a job, after training its model and the models it requires if necessary."""
    job = job.training()
    folder, config = job.folder(runs), job.config(runs)
    if (folder / files.MODEL).is_dir():
        _check_same(run_folder.open_run(folder)[1], config, folder)
    else:
        for part in job.parts().values():
            ensure_fitted(part, runs)
        print(f"{job.recipe.row}, {job.size}, seed {job.seed}: training")
        split: Literal["valid"] | None = "valid" if job.select else None
        run_folder.run_experiment(config, folder, report=not job.select, split=split)
    return folder


def reuse_shipped_models(jobs: Sequence[Job], runs: Path, shipped: Path) -> dict[Path, Path]:
    """Create run folders of required models from shipped models with the same settings.

    Parameters
    ----------
    jobs : sequence of Job
        Jobs to be executed. Their own models are not taken from the shipped ones.
    runs : Path
        Folder of run folders.
    shipped : Path
        Folder of models written by ``zoo.ship``.

    Returns
    -------
    dict
        From the path of each created run folder to the path of its shipped model.

    Raises
    ------
    FileNotFoundError
        If the folder of shipped models does not exist.
    """
    if not shipped.is_dir():
        raise FileNotFoundError(f"reuse={shipped}: the folder of shipped models does not exist")
    required = {model for job in jobs for model in job.models() if model != job}
    created: dict[Path, Path] = {}
    for model in required - set(jobs):
        folder, source = model.folder(runs), shipped / zoo.zoo_name(model.recipe.row)
        fits = [(fit.recipe.row, _fit_options(fit, runs)) for fit in model.models()]
        if not folder.exists() and zoo.unpack(source, model.config(runs), fits, folder):
            created[folder] = source
    return created


def _check_same(existing: Config | None, required: Config, folder: Path) -> None:
    """Check that an existing run folder has the current settings of the recipe."""
    if existing is not None and existing.trains_same_model_as(required):
        return
    raise ValueError(
        f"{folder} was created with other settings than the recipe's current ones: remove it, or "
        "choose another folder by --runs"
    )


def _record(
    job: Job, runs: Path, estimator: Estimator, config: Config, metrics: list[Any]
) -> Record:
    """Record of a job: results, environment, cost and learning curves."""
    values = [m["value"] for m in metrics]
    models = job.training().models()  # a shipped model lacks the run folders of its parts
    fits = [_fit(model, runs) for model in models if model.folder(runs).is_dir()]
    return {
        "row": job.recipe.row,
        "size": job.size,
        "seed": job.seed,
        "split": job.split,
        "changes": dict(job.changes),
        "published": job.recipe.published,
        "metric": metrics[0]["metric"],
        "value": float(np.mean(values)),
        "standard_error": float(np.mean([m["standard_error"] for m in metrics])),
        "binarisation_spread": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "evaluations": [{k: v for k, v in m.items() if k != "rows"} for m in metrics],
        "method": config.method,
        "data": config.data,
        "data_options": config.data_options,
        "data_checksum": metrics[0]["data_checksum"],
        "n_parameters": sum(p.numel() for p in estimator.model_.parameters()),
        "fit_seconds": sum(fit["seconds"] for fit in fits),
        "evaluation_seconds": sum(m["seconds"] for m in metrics),
        "threads": torch.get_num_threads(),
        "processor": provenance.processor(),
        "device": provenance.device_name(next(estimator.model_.parameters()).device),
        "versions": _versions(job.folder(runs)),
        "date": provenance.today(),
        "fits": fits,
    }


def _versions(folder: Path) -> dict[str, Any]:
    """Content of ``versions.json`` of a run folder."""
    return dict(json.loads((folder / run_folder.VERSIONS).read_text()))


def _fit(job: Job, runs: Path) -> dict[str, Any]:
    """Options, training time and learning curve of one fit, for a record."""
    history = run_folder.open_run(job.folder(runs))[0].history_
    return {
        "row": job.recipe.row,
        "shipped": (job.folder(runs) / files.RECORD).is_file(),
        "device": _versions(job.folder(runs)).get("device"),
        "options": _fit_options(job, runs),
        "seconds": history[-1]["seconds"],
        "curve": {name: [epoch.get(name) for epoch in history] for name in history[-1]},
    }


def _fit_options(job: Job, runs: Path) -> dict[str, Any]:
    """Options of a fit, without paths of other models."""
    excluded = ("verbose", *job.parts())
    return {k: v for k, v in job.config(runs).options.items() if k not in excluded}
