"""Markdown tables, and the formats of their cells that several pages share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ancestral.experiments.records import ResultSummary


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table with one line per row; bars in cells are escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines
    )


def collapsed(summary: str, content: str) -> str:
    """Part of a page that is collapsed at first."""
    head = f'<details markdown="1">\n<summary>{summary}</summary>\n\n'
    return f"{head}{content.rstrip()}\n\n</details>\n"


def row_label(result: ResultSummary) -> str:
    """Title of a row, with its size unless that is ``fast``."""
    return result.recipe.title + ("" if result.size == "fast" else f", {result.size}")


def model_label(result: ResultSummary) -> str:
    """Title of the model of a row, without the metric or the variant after the first comma."""
    return result.recipe.title.split(",")[0] + ("" if result.size == "fast" else f", {result.size}")


def duration(seconds: float) -> str:
    """Duration in minutes, or in seconds up to 90."""
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
