"""Implementations compared by the speed benchmark: ancestral, peer libraries, plain loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Implementation:
    """Worker script with its options.

    Attributes
    ----------
    name : str
        Name on the command line and in the record.
    script : str
        Script in ``workers/``.
    environment : str, optional
        Virtual environment of a peer library; by default that of the project.
    arguments : tuple of str
        Options of the script.
    workloads : tuple of str
        Workloads to measure.
    data : str
        Name of the array that the worker reads.
    flush : tuple of bool
        Settings of denormal flushing to measure.
    """

    name: str
    script: str
    environment: str | None = None
    arguments: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ("W1", "W2", "W3")
    data: str = "train"
    flush: tuple[bool, ...] = (False, True)


ANCESTRAL = "ancestral"
PEERS = (
    Implementation("numpyro-loop", "numpyro_loop.py", "numpyro", flush=(True,)),
    Implementation("numpyro-step", "numpyro_step.py", "numpyro", flush=(True,)),
    Implementation("pyro", "pyro_svi.py", "pyro"),
    Implementation("pyro-lean", "pyro_svi.py", "pyro", ("--lean",)),
    Implementation("pythae", "pythae_trainer.py", "pythae"),
    Implementation("plain", "plain_torch.py"),
    Implementation(ANCESTRAL, "ancestral_fit.py"),
)
"""Implementations of the workloads W1 to W3."""


def _pair(name: str, script: str, workload: str, data: str) -> Iterator[Implementation]:
    """The same PyTorch modules, trained by ancestral and by a plain loop."""
    for by in ("ancestral", "plain"):
        options = ("--implementation", by)
        yield Implementation(f"{name}-{by}", script, None, options, (workload,), data, (False,))


BATCH_NORM = Implementation(
    "batch-norm",
    "ancestral_fit.py",
    arguments=("--network", "batch-norm ReLU"),
    workloads=("W1",),
    flush=(False,),
)
PYTORCH = (
    BATCH_NORM,
    *_pair("convolution", "convolution.py", "convolution", "colour_images"),
    *_pair("gan", "adversarial.py", "GAN", "train"),
)
"""Implementations of other models in PyTorch."""

FIRST_STEP, LIKELIHOOD, PRODUCTS = "first-step", "likelihood", "products"
SINGLE_MEASUREMENTS = (FIRST_STEP, LIKELIHOOD, PRODUCTS)
"""Measurements other than training speed, by ``self_comparison.py``."""

GROUPS = {
    "peers": tuple(each.name for each in PEERS),
    "self": (ANCESTRAL, *(each.name for each in PYTORCH), *SINGLE_MEASUREMENTS),
}
NAMES = tuple(dict.fromkeys([*GROUPS["peers"], *GROUPS["self"]]))


def parse_names(text: str | None) -> tuple[str, ...]:
    """Names in a comma-separated list of names and groups; all names if None.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    if text is None:
        return NAMES
    selected: list[str] = []
    for word in text.split(","):
        if word not in GROUPS and word not in NAMES:
            raise ValueError(f"{word!r}: expected some of {', '.join([*GROUPS, *NAMES])}")
        selected += GROUPS.get(word, (word,))
    return tuple(name for name in NAMES if name in selected)
