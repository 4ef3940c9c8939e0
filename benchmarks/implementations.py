"""Who is measured: the peers and ancestral on the workloads, and ancestral against plain loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """A worker with its options: one column of a comparison.

    Attributes
    ----------
    name : str
        For the command line and the record.
    script : str
        In ``workers/``.
    environment : str, optional
        Whose interpreter runs it; the project's own if not given.
    arguments : tuple of str
        Options of the script.
    workloads : tuple of str
        What it is measured on.
    data : str
        Which rows it reads.
    flush : tuple of bool
        Whether denormals are flushed: both ways, or the only one there is.
    """

    name: str
    script: str
    environment: str | None = None
    arguments: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ("W1", "W2", "W3")
    data: str = "train"
    flush: tuple[bool, ...] = (False, True)


OURS = "ancestral"
PEERS = (
    Side("numpyro-loop", "numpyro_loop.py", "numpyro", flush=(True,)),
    Side("numpyro-step", "numpyro_step.py", "numpyro", flush=(True,)),
    Side("pyro", "pyro_svi.py", "pyro"),
    Side("pyro-lean", "pyro_svi.py", "pyro", ("--lean",)),
    Side("pythae", "pythae_trainer.py", "pythae"),
    Side("plain", "plain_torch.py"),
    Side(OURS, "ancestral_fit.py"),
)


def _pair(name: str, script: str, workload: str, data: str) -> Iterator[Side]:
    for side in ("ancestral", "plain"):
        options = ("--side", side)
        yield Side(f"{name}-{side}", script, None, options, (workload,), data, (False,))


BATCH_NORM = Side(
    "batch-norm",
    "ancestral_fit.py",
    arguments=("--network", "batch-norm ReLU"),
    workloads=("W1",),
    flush=(False,),
)
OWN = (
    BATCH_NORM,
    *_pair("convolution", "convolution.py", "convolution", "pictures"),
    *_pair("gan", "adversarial.py", "GAN", "train"),
)
FIRST_STEP, LIKELIHOOD, PRODUCTS = "first-step", "likelihood", "products"
SINGLE = (FIRST_STEP, LIKELIHOOD, PRODUCTS)
"""Measurements of another form; see ``own.py``."""

GROUPS = {
    "peers": tuple(side.name for side in PEERS),
    "own": (OURS, *(side.name for side in OWN), *SINGLE),
}
NAMES = tuple(dict.fromkeys([*GROUPS["peers"], *GROUPS["own"]]))


def chosen(text: str | None) -> tuple[str, ...]:
    """Return the names that a comma-separated list of names and groups means.

    Raises
    ------
    ValueError
        If one is unknown.
    """
    if text is None:
        return NAMES
    wanted: list[str] = []
    for word in text.split(","):
        if word not in GROUPS and word not in NAMES:
            raise ValueError(f"{word!r}: expected some of {', '.join([*GROUPS, *NAMES])}")
        wanted += GROUPS.get(word, (word,))
    return tuple(name for name in NAMES if name in wanted)
