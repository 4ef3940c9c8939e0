"""Hyper-parameter validation by type hints: checks, descriptions and parsing of text.

The constructor of an estimator is its configuration. The same hints are used for validation in
``fit``, for the options of the command line and for configuration files.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterable
from dataclasses import MISSING, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from annotated_types import Ge, Gt, Lt

Count = Annotated[int, Ge(1)]

Natural = Annotated[int, Ge(0)]

Positive = Annotated[float, Gt(0), Lt(math.inf)]

Weight = Annotated[float, Ge(0), Lt(math.inf)]

Fraction = Annotated[float, Ge(0), Lt(1)]

LogVariance = Annotated[float, Ge(-14), Lt(14)]

BelowHalf = Annotated[float, Ge(0), Lt(0.5)]

Sizes = tuple[Count, ...]

Naturals = tuple[Natural, ...]

Weights = tuple[Weight, ...]

RandomState = int | np.random.RandomState | np.random.Generator | None

Hint = Any

_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

_BOUNDS = {Ge: ("ge", "of at least"), Gt: ("gt", "above"), Lt: ("lt", "below")}


def field_hints(cls: type) -> dict[str, Hint]:
    """Return the type hint of every constructor field of a dataclass, by name."""
    all_hints = get_type_hints(cls, include_extras=True)
    return {f.name: all_hints[f.name] for f in fields(cls) if f.init}


def field_defaults(cls: type) -> dict[str, Any]:
    """Return the defaults of the constructor fields of a dataclass, by name."""
    return {f.name: f.default for f in fields(cls) if f.init and f.default is not MISSING}


def matches_hint(value: object, hint: Hint) -> bool:
    """Whether ``value`` has the type of ``hint``; NumPy scalars, and lists as tuples, are valid.

    >>> matches_hint((500, 0), Sizes)
    False
    """
    origin = get_origin(hint)
    if origin is Annotated:
        base, *bounds = get_args(hint)
        return matches_hint(value, base) and all(_satisfies_bound(value, b) for b in bounds)
    if origin in (Union, types.UnionType):
        return any(matches_hint(value, h) for h in get_args(hint))
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in get_args(hint))
    if origin is tuple:
        item = get_args(hint)[0]
        return isinstance(value, tuple | list) and all(matches_hint(v, item) for v in value)
    if origin is dict:
        return isinstance(value, dict)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    return value is None if hint in (None, type(None)) else isinstance(value, hint)


def _satisfies_bound(value: Any, bound: object) -> bool:
    match bound:
        case Ge(limit):
            return value >= limit
        case Gt(limit):
            return value > limit
        case Lt(limit):
            return value < limit
    raise TypeError(f"{bound!r} is not a supported bound: expected Ge, Gt or Lt")


def describe_hint(hint: Hint) -> str:
    """Return a readable description of the values that ``hint`` accepts.

    >>> describe_hint(Count | None)
    'a whole number of at least 1, or none'
    """
    origin = get_origin(hint)
    if origin is Annotated:
        base, *bounds = get_args(hint)
        names = [_BOUNDS[type(b)] for b in bounds]
        limits = [f"{w} {getattr(b, a)}" for b, (a, w) in zip(bounds, names, strict=True)]
        return f"{describe_hint(base)} {' and '.join(limits)}"
    if origin in (Union, types.UnionType):
        return ", or ".join(describe_hint(h) for h in get_args(hint))
    if origin is Literal:
        return " | ".join(str(option) for option in get_args(hint))
    if origin is tuple:
        return f"a list, each {describe_hint(get_args(hint)[0])}"
    if hint in (None, type(None)):
        return "none"
    if origin is dict:
        return "a table"
    return _TYPE_NAMES.get(hint, f"a {getattr(hint, '__name__', hint)}")


def check_field(name: str, value: object, hint: Hint) -> None:
    """Check that ``value`` has the type and range of ``hint``.

    Raises
    ------
    ValueError
        If it does not; the message contains the argument, its value and the expected values.

    Examples
    --------
    >>> check_field("n_latents", 0, Count)
    Traceback (most recent call last):
    ValueError: n_latents=0: expected a whole number of at least 1
    """
    if not matches_hint(value, hint):
        shown = value.item() if isinstance(value, np.generic) else value
        raise ValueError(f"{name}={shown!r}: expected {describe_hint(hint)}")


def parse_field(name: str, text: str, hint: Hint) -> Any:
    """Parse a value of type ``hint`` from command-line text; tuples as ``500,500`` or JSON.

    Raises
    ------
    ValueError
        If the text has no such value; the message contains the argument, the text and the
        expected values.

    Examples
    --------
    >>> parse_field("hidden", "500,500", Sizes)
    (500, 500)
    """
    for candidate in _candidate_values(text):
        if matches_hint(candidate, hint):
            return candidate
    raise ValueError(f"{name}={text!r}: expected {describe_hint(hint)}")


def _candidate_values(text: str) -> list[Any]:
    """Return possible values of a text, the most specific first."""
    constants = {"none": None, "true": True, "false": False}
    if text.lower() in constants:
        return [constants[text.lower()], text]
    candidates = []
    for json_text in (text, f"[{text.rstrip(',')}]"):
        try:
            candidates.append(as_tuples(json.loads(json_text)))
        except json.JSONDecodeError:
            continue
    return [*candidates, *([tuple(text.split(","))] if "," in text else []), text]


def as_tuples(value: Any) -> Any:
    """Convert nested lists to tuples."""
    if isinstance(value, dict):
        return {k: as_tuples(v) for k, v in value.items()}
    return tuple(as_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def suggest(name: str, valid_names: Iterable[str]) -> str:
    """Return the end of an error message for an unknown name: the closest valid name, or all.

    >>> suggest("n_latent", ["n_latents", "hidden"])
    ": did you mean 'n_latents'?"
    """
    names = list(valid_names)
    close = get_close_matches(name, names, n=1)
    return f": did you mean {close[0]!r}?" if close else f"; expected one of {', '.join(names)}"
