"""Numpy-style docstrings: inheritance of parameter entries and help texts of the command line."""

# Libraries parse these docstrings to the same entries but do not write them back: of the 35 of
# estimators and their bases, docstring_parser 0.18 changes all (a default "that" from the words
# "default: that", References after Examples) and numpydoc 1.11, which requires Sphinx, the 12 with
# Attributes after Other Parameters. Parsing takes four times as long, their import 26 and 64 ms.

from __future__ import annotations

import inspect
import re

HEADING = re.compile(r"^(\S[^\n]*)\n-{3,}\n", re.MULTILINE)

ENTRY = re.compile(r"^(\w+(?:, \w+)*) : .*\n(?: .*\n|\n(?= ))*", re.MULTILINE)

ROLE = re.compile(r":[a-z:]+:`(?:~[\w.]+\.)?([^`]+)`")

OTHER_PARAMETERS = "Other Parameters"


def parse_parameters(docstring: str) -> dict[str, str]:
    r"""Return the raw entries of a docstring's parameter sections, by parameter name.

    >>> parse_parameters("Draw.\n\nParameters\n----------\nn : int\n    Number of samples.\n")
    {'n': 'n : int\n    Number of samples.\n'}
    """
    entries: dict[str, str] = {}
    for title, text in _sections(docstring):
        if title in ("Parameters", OTHER_PARAMETERS):
            for entry in ENTRY.finditer(text):
                entries |= dict.fromkeys(entry[1].split(", "), entry[0])
    return entries


def inherit_parameters(cls: type) -> str:
    """Return the docstring of a class with the entries of inherited parameters added.

    Inherited parameters form numpydoc's section "Other Parameters" after "Parameters", those of
    the nearest base class first.
    """
    docstring = inspect.cleandoc(cls.__doc__ or "")
    own, inherited = parse_parameters(docstring), dict[str, str]()
    for base in cls.__mro__[1:]:
        entries = parse_parameters(base.__dict__.get("__doc__") or "") if base is not object else {}
        inherited |= {k: v for k, v in entries.items() if k not in own and k not in inherited}
    if not inherited:
        return docstring
    text = "".join(dict.fromkeys(inherited.values()))
    section = f"{OTHER_PARAMETERS}\n{'-' * len(OTHER_PARAMETERS)}\n{text}"
    sections = _sections(docstring)
    position = next((i for i, (title, _) in enumerate(sections) if title == "Parameters"), 0)
    texts = [text.rstrip("\n") for _, text in sections]
    return "\n\n".join([*texts[: position + 1], section.rstrip("\n"), *texts[position + 1 :]])


def field_help(cls: type) -> dict[str, str]:
    """Return the description of each parameter of an estimator as one line without markup.

    >>> from ancestral import VAE
    >>> field_help(VAE)["n_latent_samples"]
    'L: number of samples of z per data point and step, over which the bound is averaged.'
    """
    descriptions = {}
    for name, entry in parse_parameters(cls.__doc__ or "").items():
        _, _, text = entry.partition("\n")
        descriptions[name] = ROLE.sub(r"\1", " ".join(text.split())).replace("``", "")
    return descriptions


def _sections(docstring: str) -> list[tuple[str, str]]:
    """Return (title, text with heading) of each section; the first section has an empty title."""
    text = inspect.cleandoc(docstring) + "\n"
    headings = list(HEADING.finditer(text))
    starts = [0, *(h.start() for h in headings)]
    titles = ["", *(h[1] for h in headings)]
    ends = [*starts[1:], len(text)]
    return [(t, text[i:j]) for t, i, j in zip(titles, starts, ends, strict=True)]
