"""Run a worker in a process of its own and read its line of JSON."""

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
from sides import Side

WORKERS = Path(__file__).parent / "workers"
PATIENCE = 3600.0
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")


@dataclass(frozen=True)
class Runner:
    """What all workers have in common.

    Attributes
    ----------
    python : str
        The project's own interpreter.
    folder : Path
        Where environments, data and caches lie.
    data : mapping of str to Path
        The rows.
    seconds : float
        How long each worker measures.
    n_threads : int
        How many it may use.
    all_rows : bool
        Score every test row, in place of extrapolating from a part.
    """

    python: str
    folder: Path
    data: Mapping[str, Path]
    seconds: float
    n_threads: int
    all_rows: bool = False

    def measure(
        self, side: Side, workload: str, flush: bool, variables: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Run a side on a workload; with ``variables``, in a changed environment.

        Returns
        -------
        dict
            What the worker printed, with the side's name; or an ``error``.
        """
        arguments = ["--workload", workload, "--data", str(self.data[side.data]), *side.arguments]
        arguments += ["--flush-denormals"] if flush else []
        asked = {"side": side.name, "workload": workload, "flush_denormals": flush}
        return asked | self.call(side.script, arguments, side.environment, variables)

    def call(
        self,
        script: str,
        arguments: list[str],
        environment: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Run a script of ``workers/`` and return its last line, or an ``error``."""
        python = self.python
        if environment is not None:
            python = environments.interpreter(environment, self.folder, sys.executable)
        command = [python, str(WORKERS / script), "--seconds", str(self.seconds), *arguments]
        variables = self._variables(environment) | dict(variables or {})
        others = machine.Others()
        try:
            done = subprocess.run(
                command, env=variables, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took more than {PATIENCE:.0f} seconds"}
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            said = done.stderr.strip().splitlines()
            return {"error": said[-1] if said else f"ended with code {done.returncode}"}
        return json.loads(lines[-1]) | {"others_cores": others.cores_used()}

    def _variables(self, environment: str | None) -> dict[str, str]:
        """The process's environment; a peer gets nothing of the project's own."""
        found = {**os.environ, **dict.fromkeys(THREADS, str(self.n_threads))}
        found["TORCHINDUCTOR_CACHE_DIR"] = str((self.folder / "inductor").resolve())
        if environment is not None:
            found.pop("PYTHONPATH", None)
        return found
