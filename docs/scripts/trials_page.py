"""Page of the trials on held-out rows by which settings were chosen, docs/trials.md."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_tables import duration, markdown_table, row_label

from ancestral.experiments import recipe_files
from ancestral.experiments.recipes import ResultTable
from ancestral.experiments.records import Record, ResultSummary, summarize_results
from ancestral.experiments.scoring import ERROR

INTRODUCTION = """\
# Trials

The trials by which the settings of the [results](results.md) were chosen, written from the records
of validation runs below `results/` by `python docs/scripts/result_page.py`. Values are means over
seeds with the standard error over the held-out rows: training rows that are excluded from the fit,
or the validation split of the data set. *Changed options* are relative to the recipe of the row.
Trials without a record, which some notes on the results page mention, are not listed.
"""


def trials_page(records: Sequence[Record]) -> str:
    """The page, in Markdown."""
    sections = [_section(table, records) for table in recipe_files.tables().values()]
    return "\n".join([INTRODUCTION, *(section for section in sections if section)])


def _section(table: ResultTable, records: Sequence[Record]) -> str:
    """Section of one table; empty if it has no trials."""
    trials = [t for t in summarize_results(table.rows, records, "valid") if t.size != "smoke"]
    if not trials:
        return ""
    metric, n_rows = (
        trials[0].records[0]["metric"],
        trials[0].records[0]["evaluations"][0]["n_rows"],
    )
    value = "error, %" if metric == ERROR else "log-likelihood"
    heads = ["row", "changed options", f"held-out {value}", "seeds", "training"]
    return (
        f"## {table.title}\n\n"
        f"Metric: {metric}, on {n_rows:,} held-out rows.\n\n"
        f"{markdown_table(heads, map(_cells, trials))}\n"
        f"Command of the first trial: `{trials[0].command}`.\n"
    )


def _cells(trial: ResultSummary) -> list[str]:
    """Cells of one trial."""
    value, error = map(trial.recipe.format_value, (trial.value, trial.standard_error))
    return [
        row_label(trial),
        ", ".join(f"`{change}`" for change in trial.changes) or "none",
        f"{value} ± {error}",
        str(trial.n_seeds),
        duration(trial.seconds),
    ]
