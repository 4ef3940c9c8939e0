"""Worker processes of the speed benchmark, each of which prints one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import machine
from implementations import Implementation

WORKERS = Path(__file__).parent / "workers"
TIMEOUT_SECONDS = 3600.0
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")


@dataclass(frozen=True)
class Runner:
    """Settings shared by all workers.

    Attributes
    ----------
    python : str
        Interpreter of the project.
    folder : Path
        Folder of environments, data and caches.
    data : mapping of str to Path
        Paths of the arrays.
    seconds : float
        Measured time per worker.
    n_threads : int
        Number of threads per worker.
    all_rows : bool
        Whether to evaluate all test rows instead of extrapolating from a part.
    """

    python: str
    folder: Path
    data: Mapping[str, Path]
    seconds: float
    n_threads: int
    all_rows: bool = False

    def measure(
        self,
        implementation: Implementation,
        workload: str,
        flush: bool,
        variables: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run an implementation on a workload, with additional environment variables.

        Returns
        -------
        dict
            Output of the worker, or an ``error``, with implementation, workload and
            ``flush_denormals``.
        """
        arguments = ["--workload", workload, "--data", str(self.data[implementation.data])]
        arguments += [*implementation.arguments, *(["--flush-denormals"] if flush else [])]
        result = self.call(implementation.script, arguments, implementation.environment, variables)
        return {
            "implementation": implementation.name,
            "workload": workload,
            "flush_denormals": flush,
            **result,
        }

    def call(
        self,
        script: str,
        arguments: list[str],
        environment: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run a script of ``workers/``; return its last line of output, or an ``error``."""
        python = self.python
        if environment is not None:
            python = environments.interpreter(environment, self.folder, sys.executable)
        command = [python, str(WORKERS / script), "--seconds", str(self.seconds), *arguments]
        variables = self._variables(environment) | dict(variables or {})
        others = machine.OtherProcesses()
        try:
            process = subprocess.run(
                command, env=variables, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took more than {TIMEOUT_SECONDS:.0f} seconds"}
        lines = process.stdout.strip().splitlines()
        if process.returncode or not lines:
            messages = process.stderr.strip().splitlines()
            return {"error": messages[-1] if messages else f"exit status {process.returncode}"}
        return json.loads(lines[-1]) | {"cores_used_by_others": others.mean_cores_used()}

    def _variables(self, environment: str | None) -> dict[str, str]:
        """Environment variables of a worker; without PYTHONPATH for a peer library."""
        variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.n_threads))}
        variables["TORCHINDUCTOR_CACHE_DIR"] = str((self.folder / "inductor").resolve())
        if environment is not None:
            variables.pop("PYTHONPATH", None)
        return variables
