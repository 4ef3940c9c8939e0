"""What docstrings say of parameters: carried over to subclasses, and told by the command line."""

from __future__ import annotations

import inspect
import re

HEADING = re.compile(r"^(\S[^\n]*)\n-{3,}\n", re.MULTILINE)
ENTRY = re.compile(r"^(\w+(?:, \w+)*) : .*\n(?: .*\n|\n(?= ))*", re.MULTILINE)
ROLE = re.compile(r":[a-z:]+:`(?:~[\w.]+\.)?([^`]+)`")
OTHER = "Other Parameters"


def parameters(docstring: str) -> dict[str, str]:
    r"""Return the entries of a docstring's parameter sections, as they are written, by name.

    >>> parameters("Draw.\n\nParameters\n----------\nn : int\n    How many.\n")
    {'n': 'n : int\n    How many.\n'}
    """
    found: dict[str, str] = {}
    for title, text in _sections(docstring):
        if title in ("Parameters", OTHER):
            for entry in ENTRY.finditer(text):
                found |= dict.fromkeys(entry[1].split(", "), entry[0])
    return found


def with_inherited(cls: type) -> str:
    """Return the docstring of a class, completed by what its bases say of inherited parameters.

    They follow the class's own as numpydoc's section "Other Parameters", those of the nearest base
    first.
    """
    own = inspect.cleandoc(cls.__doc__ or "")
    known, inherited = parameters(own), dict[str, str]()
    for base in cls.__mro__[1:]:
        theirs = parameters(base.__dict__.get("__doc__") or "") if base is not object else {}
        inherited |= {k: v for k, v in theirs.items() if k not in known and k not in inherited}
    if not inherited:
        return own
    entries = "".join(dict.fromkeys(inherited.values()))
    section = f"{OTHER}\n{'-' * len(OTHER)}\n{entries}"
    parts = _sections(own)
    after = next((n for n, (title, _) in enumerate(parts) if title == "Parameters"), 0)
    texts = [text.rstrip("\n") for _, text in parts]
    return "\n\n".join([*texts[: after + 1], section.rstrip("\n"), *texts[after + 1 :]])


def field_help(cls: type) -> dict[str, str]:
    """Say in one line what each parameter of an estimator is, without markup.

    >>> from ancestral import VAE
    >>> field_help(VAE)["n_latent_samples"]
    'L: draws of z per row and step, over which the bound is averaged.'
    """
    found = {}
    for name, entry in parameters(cls.__doc__ or "").items():
        _, _, text = entry.partition("\n")
        found[name] = ROLE.sub(r"\1", " ".join(text.split())).replace("``", "")
    return found


def _sections(docstring: str) -> list[tuple[str, str]]:
    """Return the titles and texts of a docstring, each with its heading; the first has none."""
    text = inspect.cleandoc(docstring) + "\n"
    headings = list(HEADING.finditer(text))
    starts = [0, *(h.start() for h in headings)]
    titles = ["", *(h[1] for h in headings)]
    ends = [*starts[1:], len(text)]
    return [(t, text[i:j]) for t, i, j in zip(titles, starts, ends, strict=True)]
