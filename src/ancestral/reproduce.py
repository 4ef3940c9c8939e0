"""Run recipes: fit, score by the protocol, leave a record. What is done is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ancestral import damage, experiment, provenance, recipes, records, scoring, storage
from ancestral.datasets import Dataset
from ancestral.density import LatentEstimator
from ancestral.experiment import Config
from ancestral.fields import as_tuples
from ancestral.methods.pegasos import svm
from ancestral.recipes import Protocol, Recipe
from ancestral.records import Record
from ancestral.rows import RowEstimator
from ancestral.scoring import Scoring

# Of a change to the run that another starts from.
BEFORE = "start."


@dataclass(frozen=True)
class Job:
    """One run of a recipe.

    Attributes
    ----------
    recipe : Recipe
        The row.
    size : str
        Its size.
    seed : int
        Of everything random.
    select : bool
        Choose settings: train without the held-out rows and score those, not the test rows.
    changes : tuple of (name, value)
        Options that differ from the recipe's, to see whether they should; ``start.NAME`` is an
        option of the run that this one starts from.
    stage : int
        Which of the fits of a size with several; negative numbers count from the last.
    """

    recipe: Recipe
    size: str
    seed: int
    select: bool = False
    changes: tuple[tuple[str, Any], ...] = ()
    stage: int = -1

    @property
    def name(self) -> str:
        """Of the run's folder and record, within its row's."""
        return records.name_of(self.size, self.seed, self.split, dict(self.changes))

    @property
    def split(self) -> Literal["test", "valid"]:
        """Which rows are scored."""
        return "valid" if self.select else "test"

    @property
    def stages(self) -> tuple[dict[str, Any], ...]:
        """What the size's fits differ in; one without stages is a single fit."""
        return self.recipe.size(self.size).stages or ({},)

    def folder(self, runs: Path) -> Path:
        """Return the run folder below ``runs``."""
        number = self.stage % len(self.stages) + 1
        last = number == len(self.stages)
        row = self.recipe.of or self.recipe.row
        return runs / row / (self.name if last else f"{self.name}-stage{number}")

    def training(self) -> Job:
        """Return the job that trains the model that this one scores: mostly itself."""
        if self.recipe.of is None:
            return self
        return replace(self, recipe=recipes.find(self.recipe.of)[0])

    def before(self) -> Job | None:
        """Return the job from whose model this one starts."""
        start, stage = self.recipe.size(self.size).start, self.stage % len(self.stages)
        if stage > 0:
            return replace(self, stage=stage - 1)
        if start is None:
            return None
        (recipe,) = recipes.find(start)
        theirs = [(k.removeprefix(BEFORE), v) for k, v in self.changes if k.startswith(BEFORE)]
        return replace(self, recipe=recipe, changes=tuple(theirs), stage=-1)

    def config(self, runs: Path) -> Config:
        """Return the configuration, with the place of the model it starts from."""
        recipe, more = self.recipe, self.stages[self.stage]
        config = recipe.config(self.size, self.seed, select=self.select)
        ours = {k: v for k, v in self.changes if not k.startswith(BEFORE)}
        config.options |= more | ours | {"verbose": 1}
        if (before := self.before()) is not None:
            config.options["start"] = str(before.folder(runs))
        return config


def run(job: Job, runs: Path, results: Path, n_threads: int | None = None) -> Path:
    """Do what is left to do of a job, and write its record.

    Parameters
    ----------
    job : Job
        What to run.
    runs : Path
        Folder of run folders: models, curves, checkpoints of what was interrupted.
    results : Path
        Folder of records.
    n_threads : int, optional
        Threads to compute with; by default torch's own choice.

    Returns
    -------
    Path
        The record.
    """
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    folder = fitted(job, runs)
    estimator, config = experiment.open_run(folder)
    assert config is not None
    dataset, protocol = config.dataset(), job.recipe.scored(job.size, select=job.select)
    metrics = _measured(job, folder, estimator, dataset)
    record = _record(job, runs, estimator, config, metrics)
    if isinstance(estimator, LatentEstimator):
        active = estimator.active_units(dataset.x_train[: protocol.n_training_rows])
        record["active_units"] = list(active)
    return records.write(record, results)


def _measured(job: Job, folder: Path, estimator: Any, dataset: Dataset) -> list[scoring.Metric]:
    """Score a model as its row says: by its errors, or once for each binarisation."""
    protocol = job.recipe.scored(job.size, select=job.select)
    common = Scoring(protocol.n_importance_samples, job.split, n_rows=protocol.n_rows)
    if protocol.damage is not None:
        return [_damaged(protocol, estimator, dataset, common)]
    if protocol.metric == "error":
        return [scoring.classify(estimator, dataset, common)[0]]
    metrics = []
    for seed in protocol.binarize_seeds if estimator.draws_bits_ else (0,):
        how = replace(common, binarize_seed=seed)
        print(f"{job.recipe.row}, {job.size}, seed {job.seed}: {how}, bits drawn with {seed}")
        metrics.append(scoring.scored(folder, estimator, dataset, how, progress=True)[0])
    return metrics


def _damaged(protocol: Protocol, estimator: Any, dataset: Dataset, rows: Scoring) -> scoring.Metric:
    """Score what is filled in, or the classes of rows: filled in, where the model can."""
    assert protocol.damage is not None
    what = damage.Damage.parse(protocol.damage)
    how = damage.Repair(protocol.n_iter, batch_statistics=protocol.batch_statistics)
    explicit = isinstance(estimator, LatentEstimator)
    repaired = damage.repair(estimator, dataset, what, how, rows) if explicit else None
    if protocol.metric == "error":
        stage = None if protocol.second_stage is None else svm(protocol.second_stage)
        told = damage.classify(estimator, dataset, what, how, rows, repaired, second_stage=stage)
        return told[-1][0]
    if repaired is None:
        raise ValueError(f"{type(estimator).__name__} has no model of its rows to fill gaps by")
    return repaired.metric


def fitted(job: Job, runs: Path) -> Path:
    """Return the run folder of a job, after training what is not trained yet."""
    job = job.training()
    folder, config = job.folder(runs), job.config(runs)
    if (folder / storage.MODEL).is_dir():
        _check_same(experiment.open_run(folder)[1], config, folder)
    else:
        if (before := job.before()) is not None:
            fitted(before, runs)
        print(f"{job.recipe.row}, {job.size}, seed {job.seed}: training")
        experiment.run(config, folder, report=not job.select)
    return folder


def _check_same(done: Config | None, asked: Config, folder: Path) -> None:
    """Refuse a run folder that a recipe has left behind by changing."""
    if done is not None and as_tuples(vars(done)) == as_tuples(vars(asked)):
        return
    raise ValueError(
        f"{folder} was made by other settings than the recipe has now: remove it, or name other "
        "--runs"
    )


def _record(
    job: Job, runs: Path, estimator: RowEstimator, config: Config, metrics: list[Any]
) -> Record:
    values = [m["value"] for m in metrics]
    fits = [_fit(part, runs) for part in _chain(job.training())]
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
        "versions": json.loads((job.folder(runs) / experiment.VERSIONS).read_text()),
        "date": provenance.today(),
        "fits": fits,
    }


def _chain(job: Job) -> list[Job]:
    """Return the fits that lead to a job's model, in order."""
    before = job.before()
    return [*([] if before is None else _chain(before)), job]


def _fit(job: Job, runs: Path) -> dict[str, Any]:
    """Say what a fit was told, how long it took and how it went."""
    history = experiment.open_run(job.folder(runs))[0].history_
    aside = ("start", "verbose")
    return {
        "row": job.recipe.row,
        "options": {k: v for k, v in job.config(runs).options.items() if k not in aside},
        "seconds": history[-1]["seconds"],
        "curve": {name: [epoch.get(name) for epoch in history] for name in history[-1]},
    }


Submit = Callable[[Sequence[Job]], list[Path]]


def one_by_one(runs: Path, results: Path) -> Submit:
    """Run jobs here, one after the other."""
    return lambda jobs: [run(job, runs, results) for job in jobs]


def side_by_side(runs: Path, results: Path, n_jobs: int) -> Submit:
    """Run jobs here in processes of their own, ``n_jobs`` at a time, which share the cores."""
    from joblib import Parallel, delayed

    n_threads = max(1, len(provenance.cores()) // n_jobs)
    how = Parallel(n_jobs=n_jobs, batch_size=1)
    return lambda jobs: how(delayed(run)(job, runs, results, n_threads) for job in jobs)


def on_cluster(runs: Path, results: Path, cluster: str, **options: Any) -> Submit:
    """Submit jobs to SLURM (or ``"local"`` processes) by submitit, and wait for them.

    Parameters
    ----------
    runs, results : Path
        On a file system that all machines see.
    cluster : {"slurm", "local"}
        Where to.
    **options
        Of submitit: ``slurm_partition``, ``cpus_per_task``, ``timeout_min`` and so on.

    Raises
    ------
    ValueError
        If submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(
            f"cluster={cluster!r} needs submitit: pip install 'ancestral[cluster]'"
        ) from None
    executor = submitit.AutoExecutor(folder=runs / "logs", cluster=cluster)
    executor.update_parameters(**({"timeout_min": 24 * 60} | options))

    def submit(jobs: Sequence[Job]) -> list[Path]:
        submitted = [executor.submit(run, job, runs, results) for job in jobs]
        return [job.result() for job in submitted]

    return submit


def in_order(jobs: Sequence[Job]) -> list[list[Job]]:
    """Put jobs into rounds, so that what one starts from is trained in a round before it.

    Jobs of one round do not depend on one another, and no two of them train the same model.
    """
    depth: dict[Job, int] = {}
    trained: set[Job] = set()
    for job in jobs:
        training = job.training()
        depth[job] = len(_chain(training)) + (training in trained)
        trained.add(training)
    return [[j for j in jobs if depth[j] == d] for d in sorted(set(depth.values()))]
