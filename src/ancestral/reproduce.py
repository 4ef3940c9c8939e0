"""Execution of recipes: fit, evaluate and write records, reusing completed work."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ancestral import experiment, provenance, recipes, records, storage, zoo
from ancestral.density import LatentEstimator
from ancestral.estimator import Estimator
from ancestral.experiment import Config
from ancestral.measures import Subject, measure
from ancestral.protocol import Scoring
from ancestral.recipes import Recipe
from ancestral.records import Record


@dataclass(frozen=True)
class Job:
    """One run of a recipe.

    Attributes
    ----------
    recipe : Recipe
        Recipe of the row.
    size : str
        Name of the size.
    seed : int
        Seed of all random numbers.
    select : bool
        Whether the run is for model selection: trained without the validation rows and scored on
        them instead of the test rows.
    changes : tuple of (name, value)
        Options that override the recipe's. ``PART.NAME`` is an option of another row's run, such as
        ``start.NAME`` of the run that initialises this one. In a size with several stages,
        ``start.NAME`` applies to the stages before the last and other options to all stages.
    stage : int
        Index of the stage in a size with several; negative indices count from the last.
    """

    recipe: Recipe
    size: str
    seed: int
    select: bool = False
    changes: tuple[tuple[str, Any], ...] = ()
    stage: int = -1

    @property
    def name(self) -> str:
        """Name of the run folder and of the record, within those of the row."""
        return records.name_of(self.size, self.seed, self.split, dict(self.changes))

    @property
    def split(self) -> Literal["test", "valid"]:
        """Split of the scored rows."""
        return "valid" if self.select else "test"

    @property
    def stages(self) -> tuple[dict[str, Any], ...]:
        """Options of each stage of the size; a single empty dict for a size without stages."""
        return self.recipe.size(self.size).stages or ({},)

    def folder(self, runs: Path) -> Path:
        """Run folder below ``runs``."""
        number = self.stage % len(self.stages) + 1
        last = number == len(self.stages)
        row = self.recipe.of or self.recipe.row
        return runs / row / (self.name if last else f"{self.name}-stage{number}")

    def training(self) -> Job:
        """Job that trains the scored model; the job itself unless the recipe has ``of``."""
        if self.recipe.of is None:
            return self
        return replace(self, recipe=recipes.find(self.recipe.of)[0])

    def parts(self) -> dict[str, Job]:
        """Jobs that train the models used by this one, by the option that receives each model."""
        stage = self.stage % len(self.stages)
        if stage > 0:
            return {"start": replace(self, stage=stage - 1)}
        start = self.recipe.size(self.size).start
        rows = self.recipe.parts | ({} if start is None else {"start": start})
        return {option: self._part(option, row) for option, row in rows.items()}

    def _part(self, option: str, row: str) -> Job:
        """Job of another row, with the changes named ``option.NAME``."""
        changes = tuple(self._changed(option).items())
        return Job(recipes.find(row)[0], self.size, self.seed, self.select, changes)

    def _changed(self, part: str) -> dict[str, Any]:
        """Changes named ``part.NAME``, by NAME."""
        prefix = f"{part}."
        return {k.removeprefix(prefix): v for k, v in self.changes if k.startswith(prefix)}

    def judge(self) -> Job | None:
        """Job that trains the classifier of generated samples; None if there is none."""
        judge = self.recipe.protocol.judge
        return None if judge is None else self._part("judge", judge)

    def models(self) -> list[Job]:
        """Jobs that train all models this one requires, in order of dependency."""
        if (training := self.training()) != self:
            jobs = training.models()
        else:
            jobs = [model for part in self.parts().values() for model in part.models()] + [self]
        if (judge := self.judge()) is not None:
            jobs = judge.models() + jobs
        return list(dict.fromkeys(jobs))

    def config(self, runs: Path) -> Config:
        """Configuration of the run, with paths of the models it uses."""
        recipe, stage_options = self.recipe, self.stages[self.stage]
        config = recipe.config(self.size, self.seed, select=self.select)
        changes = {k: v for k, v in self.changes if "." not in k}
        if self.stage % len(self.stages) < len(self.stages) - 1:
            changes |= self._changed("start")
        config.options |= stage_options | changes | {"verbose": 1}
        config.options |= {option: str(part.folder(runs)) for option, part in self.parts().items()}
        return config


def run(job: Job, runs: Path, results: Path, n_threads: int | None = None) -> Path:
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
    folder = fitted(job, runs)
    estimator, config = experiment.open_run(folder)
    assert config is not None
    estimator.to(estimator.device)
    dataset, protocol = config.dataset(), job.recipe.scored(job.size, select=job.select)
    judge = job.judge()
    subject = Subject(
        name=f"{job.recipe.row}, {job.size}, seed {job.seed}",
        folder=folder,
        estimator=estimator,
        dataset=dataset,
        protocol=protocol,
        rows=Scoring(protocol.n_importance_samples, job.split, n_rows=protocol.n_rows),
        judge=None if judge is None else experiment.open_run(fitted(judge, runs))[0],
    )
    metrics = measure(subject)
    record = _record(job, runs, estimator, config, metrics)
    if isinstance(estimator, LatentEstimator):
        active = estimator.active_units(dataset.x_train[: protocol.n_training_rows])
        record["active_units"] = list(active)
    return records.write(record, results)


def fitted(job: Job, runs: Path) -> Path:
    """Run folder of a job, after training its model and the models it requires if necessary."""
    job = job.training()
    folder, config = job.folder(runs), job.config(runs)
    if (folder / storage.MODEL).is_dir():
        _check_same(experiment.open_run(folder)[1], config, folder)
    else:
        for part in job.parts().values():
            fitted(part, runs)
        print(f"{job.recipe.row}, {job.size}, seed {job.seed}: training")
        split: Literal["valid"] | None = "valid" if job.select else None
        experiment.run(config, folder, report=not job.select, split=split)
    return folder


def reuse(jobs: Sequence[Job], runs: Path, shipped: Path) -> dict[Path, Path]:
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
        folder, source = model.folder(runs), shipped / zoo.name_of(model.recipe.row)
        fits = [(fit.recipe.row, _told(fit, runs)) for fit in model.models()]
        if not folder.exists() and zoo.unpack(source, model.config(runs), fits, folder):
            created[folder] = source
    return created


def _check_same(done: Config | None, asked: Config, folder: Path) -> None:
    """Check that an existing run folder has the current settings of the recipe."""
    if done is not None and done.trains_as(asked):
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
    return dict(json.loads((folder / experiment.VERSIONS).read_text()))


def _fit(job: Job, runs: Path) -> dict[str, Any]:
    """Options, training time and learning curve of one fit, for a record."""
    history = experiment.open_run(job.folder(runs))[0].history_
    return {
        "row": job.recipe.row,
        "shipped": (job.folder(runs) / storage.RECORD).is_file(),
        "device": _versions(job.folder(runs)).get("device"),
        "options": _told(job, runs),
        "seconds": history[-1]["seconds"],
        "curve": {name: [epoch.get(name) for epoch in history] for name in history[-1]},
    }


def _told(job: Job, runs: Path) -> dict[str, Any]:
    """Options of a fit, without paths of other models."""
    excluded = ("verbose", *job.parts())
    return {k: v for k, v in job.config(runs).options.items() if k not in excluded}


Submit = Callable[[Sequence[Job]], list[Path]]


def one_by_one(runs: Path, results: Path) -> Submit:
    """Launcher that executes jobs one after the other in this process."""
    return lambda jobs: [run(job, runs, results) for job in jobs]


def side_by_side(runs: Path, results: Path, n_jobs: int) -> Submit:
    """Launcher that executes ``n_jobs`` jobs at a time in local processes that share the cores."""
    from joblib import Parallel, delayed

    n_threads = max(1, len(provenance.cores()) // n_jobs)
    parallel = Parallel(n_jobs=n_jobs, batch_size=1)
    return lambda jobs: parallel(delayed(run)(job, runs, results, n_threads) for job in jobs)


def on_cluster(runs: Path, results: Path, cluster: str, **options: Any) -> Submit:
    """Launcher that submits jobs to SLURM, or to ``"local"`` processes, and waits for them.

    Parameters
    ----------
    runs, results : Path
        Folders of run folders and of records, on a file system shared by all machines.
    cluster : {"slurm", "local"}
        Cluster type of submitit.
    **options
        Parameters of submitit: ``slurm_partition``, ``cpus_per_task``, ``timeout_min`` and so on.

    Raises
    ------
    ValueError
        If submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError(
            f"cluster={cluster!r} requires submitit: pip install 'ancestral[cluster]'"
        ) from None
    executor = submitit.AutoExecutor(folder=runs / "logs", cluster=cluster)
    executor.update_parameters(**({"timeout_min": 24 * 60} | options))

    def submit(jobs: Sequence[Job]) -> list[Path]:
        submitted = [executor.submit(run, job, runs, results) for job in jobs]
        return [job.result() for job in submitted]

    return submit


def in_order(jobs: Sequence[Job]) -> list[list[Job]]:
    """Schedule jobs in rounds such that no two jobs of one round train the same model.

    A model required by several jobs is trained by the first of them, in an earlier round than the
    others.
    """
    trained: dict[Job, int] = {}
    rounds: dict[int, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: len(job.models())):
        models = job.models()
        number = 1 + max((trained[model] for model in models if model in trained), default=0)
        for model in models:
            trained.setdefault(model, number)
        rounds.setdefault(number, []).append(job)
    return [rounds[number] for number in sorted(rounds)]
