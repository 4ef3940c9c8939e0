"""A virtual environment for every peer, made once from its pinned requirements."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "environments"


def interpreter(name: str, folder: Path, python: str) -> str:
    """Return the interpreter of an environment; make it if it is not there or out of date.

    Parameters
    ----------
    name : str
        Of a file in ``environments/``, without its suffix.
    folder : Path
        Under which it is made.
    python : str
        The interpreter that makes it.

    Raises
    ------
    subprocess.CalledProcessError
        If something can't be installed; pip has said what.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    home = (folder / name).resolve()
    within, stamp = home / "bin" / "python", home / ".ready"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the environment {name}", file=sys.stderr)
        subprocess.run([python, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(within), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(requirements)], check=True)
        stamp.write_text(wanted)
    return str(within)
