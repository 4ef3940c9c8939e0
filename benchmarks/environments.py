"""Virtual environments of the peer libraries, created from pinned requirements."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "environments"


def interpreter(name: str, folder: Path, python: str) -> str:
    """Path of the interpreter of an environment, which is created if missing or outdated.

    Parameters
    ----------
    name : str
        Name of the environment: a file in ``environments/`` without its suffix.
    folder : Path
        Parent folder of the environments.
    python : str
        Interpreter that creates the environment.

    Raises
    ------
    subprocess.CalledProcessError
        If a requirement cannot be installed; pip prints the reason.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    environment = (folder / name).resolve()
    executable, stamp = environment / "bin" / "python", environment / ".ready"
    checksum = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != checksum:
        print(f"creating the environment {name}", file=sys.stderr)
        subprocess.run([python, "-m", "venv", "--clear", str(environment)], check=True)
        pip = [str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        stamp.write_text(checksum)
    return str(executable)
