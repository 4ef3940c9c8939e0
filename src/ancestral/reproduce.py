"""Run recipes: fit, score by the protocol, leave a record. What is done is not done again."""

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
from ancestral.experiment import Config
from ancestral.measures import Subject, measure
from ancestral.protocol import Scoring
from ancestral.recipes import Recipe
from ancestral.records import Record
from ancestral.rows import RowEstimator


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
        option of the run that this one starts from, and likewise of its other parts. Of a size with
        several fits it is one of the fits before the last, and the rest are options of all.
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

    def parts(self) -> dict[str, Job]:
        """Return the jobs that train what this one's model is made of, by option."""
        stage = self.stage % len(self.stages)
        if stage > 0:
            return {"start": replace(self, stage=stage - 1)}
        start = self.recipe.size(self.size).start
        named = self.recipe.parts | ({} if start is None else {"start": start})
        return {option: self._part(option, row) for option, row in named.items()}

    def _part(self, option: str, row: str) -> Job:
        """Return the job of another row, changed as this one's changes say: ``option.name``."""
        theirs = tuple(self._changed(option).items())
        return Job(recipes.find(row)[0], self.size, self.seed, self.select, theirs)

    def _changed(self, part: str) -> dict[str, Any]:
        """Return the changes of a part: those called ``part.name``."""
        prefix = f"{part}."
        return {k.removeprefix(prefix): v for k, v in self.changes if k.startswith(prefix)}

    def judge(self) -> Job | None:
        """Return the job that trains the classifier of samples, if there is one."""
        judge = self.recipe.protocol.judge
        return None if judge is None else self._part("judge", judge)

    def models(self) -> list[Job]:
        """Return the jobs that train what this one needs, each after what it needs itself."""
        if (training := self.training()) != self:
            found = training.models()
        else:
            found = [model for part in self.parts().values() for model in part.models()] + [self]
        if (judge := self.judge()) is not None:
            found = judge.models() + found
        return list(dict.fromkeys(found))

    def config(self, runs: Path) -> Config:
        """Return the configuration, with the places of the models it is made of."""
        recipe, more = self.recipe, self.stages[self.stage]
        config = recipe.config(self.size, self.seed, select=self.select)
        ours = {k: v for k, v in self.changes if "." not in k}
        if self.stage % len(self.stages) < len(self.stages) - 1:
            ours |= self._changed("start")
        config.options |= more | ours | {"verbose": 1}
        config.options |= {option: str(part.folder(runs)) for option, part in self.parts().items()}
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
    """Return the run folder of a job, after training what is not trained yet."""
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
    """Take what jobs need of other rows from shipped models with the same settings.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be run; the models of their own rows are not taken.
    runs : Path
        Folder of run folders.
    shipped : Path
        Folder of models that ``zoo.ship`` wrote.

    Returns
    -------
    dict
        From run folders made to the models they were made of.

    Raises
    ------
    FileNotFoundError
        If there is no such folder of models.
    """
    if not shipped.is_dir():
        raise FileNotFoundError(f"reuse={shipped}: there is no such folder of shipped models")
    others = {model for job in jobs for model in job.models() if model != job}
    made: dict[Path, Path] = {}
    for model in others - set(jobs):
        folder, there = model.folder(runs), shipped / zoo.name_of(model.recipe.row)
        fits = [(fit.recipe.row, _told(fit, runs)) for fit in model.models()]
        if not folder.exists() and zoo.unpack(there, model.config(runs), fits, folder):
            made[folder] = there
    return made


def _check_same(done: Config | None, asked: Config, folder: Path) -> None:
    """Refuse a run folder that a recipe has left behind by changing."""
    if done is not None and done.trains_as(asked):
        return
    raise ValueError(
        f"{folder} was made by other settings than the recipe has now: remove it, or name other "
        "--runs"
    )


def _record(
    job: Job, runs: Path, estimator: RowEstimator, config: Config, metrics: list[Any]
) -> Record:
    values = [m["value"] for m in metrics]
    models = job.training().models()  # parts of a shipped model may be gone
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
    """Return what a run was made with."""
    return dict(json.loads((folder / experiment.VERSIONS).read_text()))


def _fit(job: Job, runs: Path) -> dict[str, Any]:
    """Say what a fit was told, how long it took and how it went."""
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
    """Return the options of a fit, without places of other models."""
    aside = ("verbose", *job.parts())
    return {k: v for k, v in job.config(runs).options.items() if k not in aside}


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
    """Put jobs into rounds, so that what several need is trained in a round before.

    No two jobs of one round train the same model.
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
