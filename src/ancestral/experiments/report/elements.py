"""What a page is made of, and how numbers are written on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUS, TIMES, INFINITY = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{INFINITY}"


@dataclass(frozen=True)
class Plate:
    """A picture in its frame.

    Attributes
    ----------
    alt : str
        What it shows, for who can't see it.
    caption : str
        A line beneath it.
    svg, png : str
        A drawing as markup, or an image as a data URI.
    labels : sequence of str
        Beside the rows of a strip.
    size : {"wide", "half"}
        How much of the column it takes.
    legend : sequence of (colour, name)
        Shown beneath.
    """

    alt: str
    caption: str = ""
    svg: str = ""
    png: str = ""
    labels: Sequence[str] = ()
    size: str = "wide"
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Table:
    """Numbers in rows; the first cell of a row is its name."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page: its title, what one sees and how to read it, and what there is to see."""

    key: str
    title: str
    words: Sequence[str]
    plates: Sequence[Plate] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Figure:
    """A number in the headline: the value itself, as it is written, and what it is."""

    value: float
    shown: str
    label: str
    note: str = ""


def number(value: float, digits: int = 2) -> str:
    """Write a number with a true minus sign, and in words where it is none.

    >>> number(-1234.5), number(float("nan"))
    ('−1,234.50', 'n/a')
    """
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return INFINITY if value > 0 else MINUS + INFINITY
    return f"{value:,.{digits}f}".replace("-", MINUS)


def short(value: float) -> str:
    """Write a number with three digits that count.

    >>> short(0.012345), short(1234.5)
    ('0.0123', '1,230')
    """
    if value == 0 or not math.isfinite(value):
        return number(value, 0)
    size = math.floor(math.log10(abs(value)))
    rounded = round(value, 2 - size)
    return number(rounded, max(0, 2 - size)) if size > -5 else f"{value:.2e}".replace("-", MINUS)


def count(n: int, noun: str, plural: str = "") -> str:
    """Write how many there are.

    >>> count(1, "row"), count(1500, "row")
    ('1 row', '1,500 rows')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])
