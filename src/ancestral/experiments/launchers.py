"""Launchers of jobs: sequential, parallel, and on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ancestral.experiments import provenance
from ancestral.experiments.jobs import Job
from ancestral.experiments.reproduce import run_job

Submit = Callable[[Sequence[Job]], list[Path]]


def run_serial(runs: Path, results: Path) -> Submit:
    """Launcher that executes jobs one after the other in this process."""
    return lambda jobs: [run_job(job, runs, results) for job in jobs]


def run_parallel(runs: Path, results: Path, n_jobs: int) -> Submit:
    """Launcher that executes ``n_jobs`` jobs at a time in local processes that share the cores."""
    from joblib import Parallel, delayed

    n_threads = max(1, len(provenance.cores()) // n_jobs)
    parallel = Parallel(n_jobs=n_jobs, batch_size=1)
    return lambda jobs: parallel(delayed(run_job)(job, runs, results, n_threads) for job in jobs)


def run_on_cluster(runs: Path, results: Path, cluster: str, **options: Any) -> Submit:
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
        submitted = [executor.submit(run_job, job, runs, results) for job in jobs]
        return [job.result() for job in submitted]

    return submit


def schedule(jobs: Sequence[Job]) -> list[list[Job]]:
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
