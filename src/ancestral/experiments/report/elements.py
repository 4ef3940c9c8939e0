"""Elements of a report page (sections, charts, tables, headline numbers) and formats of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUS, TIMES, INFINITY = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{INFINITY}"


@dataclass(frozen=True)
class Chart:
    """Drawing or image with a caption.

    Attributes
    ----------
    alt : str
        Alternative text for screen readers.
    caption : str
        Caption below the chart.
    svg, png : str
        A drawing as SVG markup, or an image as a data URI.
    labels : sequence of str
        Labels to the left of the lines of an image grid.
    size : {"wide", "half"}
        Width: the whole column, or half of it.
    legend : sequence of (colour, name)
        Legend below the chart.
    """

    alt: str
    caption: str = ""
    svg: str = ""
    png: str = ""
    labels: Sequence[str] = ()
    size: str = "wide"
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class HtmlTable:
    """Table of text cells; the first cell of a row is its heading."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """Section of the page.

    Attributes
    ----------
    key : str
        Anchor of the section, unique in the page.
    title : str
        Heading.
    paragraphs : sequence of str
        Explanation of the charts and the table.
    charts : sequence of Chart
        Charts, in order.
    table : HtmlTable, optional
        Table below the charts.
    """

    key: str
    title: str
    paragraphs: Sequence[str]
    charts: Sequence[Chart] = ()
    table: HtmlTable | None = None


@dataclass(frozen=True)
class HeadlineNumber:
    """Number at the top of the page: value, formatted value, label and a note below it."""

    value: float
    text: str
    label: str
    note: str = ""


def format_number(value: float, digits: int = 2) -> str:
    """Format a number with a fixed number of decimals, a typographic minus sign, and n/a for NaN.

    >>> format_number(-1234.5), format_number(float("nan"))
    ('−1,234.50', 'n/a')
    """
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return INFINITY if value > 0 else MINUS + INFINITY
    return f"{value:,.{digits}f}".replace("-", MINUS)


def format_significant(value: float) -> str:
    """Format a number with three significant digits.

    >>> format_significant(0.012345), format_significant(1234.5)
    ('0.0123', '1,230')
    """
    if value == 0 or not math.isfinite(value):
        return format_number(value, 0)
    exponent = math.floor(math.log10(abs(value)))
    if exponent <= -5:
        return f"{value:.2e}".replace("-", MINUS)
    return format_number(round(value, 2 - exponent), max(0, 2 - exponent))


def format_count(n: int, noun: str, plural: str = "") -> str:
    """Format a count with its noun in the singular or plural.

    >>> format_count(1, "row"), format_count(1500, "row")
    ('1 row', '1,500 rows')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def join_words(words: Sequence[str]) -> str:
    """Join words with commas and a final "and".

    >>> join_words(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), *words[-1:]])
