"""Write docs/results.md, docs/trials.md, their figures, and the README's table from the records.

Usage:  python docs/scripts/result_page.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import benchmark_sections
from effect_of_c import plot_effect_of_c
from learning_curves import learning_curves
from markdown_tables import markdown_table
from matplotlib import rc_context
from matplotlib.figure import Figure
from result_tables import result_cells, results_table, row_notes, runs_table
from sample_tables import sample_tables
from trials_page import trials_page

from ancestral.experiments import recipe_files, records
from ancestral.experiments.recipes import ResultTable
from ancestral.experiments.records import Record, ResultSummary, summarize_results
from ancestral.utils.files import write_file

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent
README_MARK = "<!-- written by docs/scripts/result_page.py -->\n"
EFFECT_OF_C = "mnist-effect-of-c"
"""Table whose rows differ in C, with a figure against C."""
README_TABLES = (
    "mnist-density",
    "ocr-density",
    "mnist-iwae",
    "mnist-sbn",
    "mnist-classes",
    "mnist-few-labels",
    "boston-housing",
)
UNITS = {"log_likelihood": "nats", "target_density": "nats", "error": "%"}
INTRODUCTION = """\
# Results

Published values beside those of the recipes, written from the records below `results/` by
`python docs/scripts/result_page.py`. Below each table are notes on its rows and, collapsed, the
command that reproduces each row. Rows without a size are of the size `fast`.

- *ours*: mean over seeds and over binarisations of the test images, ± the standard error of one
  model's mean over these images.
- *gap*: ours minus the published value; positive is better for log-likelihoods, negative for
  errors.
- *seeds*: number of seeds and the standard deviation over seeds.
- *binarisations*: standard deviation over binarisations of the same test images.
- *training*: training time, including the models that a row is initialised from.

The [trials](trials.md) by which settings were chosen on held-out rows have a page of their own.

    ancestral reproduce --list                         # these tables in the terminal
    ancestral evaluate zoo/mnist-density-vae           # evaluate a shipped model again
"""


def results_page(all_records: Sequence[Record]) -> str:
    """The results page, in Markdown."""
    tables = recipe_files.tables().values()
    recorded = {record["row"].split("/")[0] for record in all_records if record["size"] != "smoke"}
    sections = [table_section(table, all_records) for table in tables if table.name in recorded]
    missing = [table for table in tables if table.name not in recorded]
    return "\n".join(
        [INTRODUCTION, *sections, *benchmark_sections.sections(), *missing_section(missing)]
    )


def table_section(table: ResultTable, all_records: Sequence[Record]) -> str:
    """Section of one published table."""
    results = table_results(table, all_records)
    parts = [f"## {table.title}\n\n{table.source}.\n\n{table.note.strip()}\n"]
    if results:
        parts.append(results_table(results))
    recorded = {result.recipe.row for result in results}
    without = [recipe.title for recipe in table.rows if recipe.row not in recorded]
    if without:
        parts.append(f"Rows without a record: {'; '.join(without)}.\n")
    parts += [sample_tables(results), *figure_links(table, results)]
    if results:
        parts += [row_notes(results), runs_table(results)]
    return "\n".join(part for part in parts if part)


def figure_links(table: ResultTable, results: Sequence[ResultSummary]) -> list[str]:
    """Links to the figures of a table."""
    links = []
    if results and table.name == EFFECT_OF_C:
        links.append("![Errors and bounds against C](images/effect-of-c.svg)\n")
    if trained(results):
        links.append(f"![Learning curves](images/curves-{table.name}.svg)\n")
    return links


def missing_section(tables: Sequence[ResultTable]) -> list[str]:
    """Section of the tables that have recipes and no records, if there are any."""
    if not tables:
        return []
    lines = [f"- `ancestral reproduce {table.name}`: {table.title}" for table in tables]
    return ["\n".join(["## Recipes without records\n", *lines, ""])]


def table_results(table: ResultTable, all_records: Sequence[Record]) -> list[ResultSummary]:
    """Results of a table on test rows, without those of the size ``smoke``."""
    return [r for r in summarize_results(table.rows, all_records) if r.size != "smoke"]


def trained(results: Sequence[ResultSummary]) -> list[ResultSummary]:
    """Results of the rows that train a model."""
    return [result for result in results if result.recipe.model_from is None]


def readme_table(all_records: Sequence[Record]) -> str:
    """Table of the README: rows of the main tables with a published and a measured value."""
    rows = []
    for table in (recipe_files.tables()[name] for name in README_TABLES):
        published = [r for r in table.rows if r.published and r.protocol.metric in UNITS]
        unit = UNITS[published[0].protocol.metric]
        rows.append([f"**{table.title}**", unit, unit])
        for result in summarize_results(published, all_records):
            if result.size == "fast":
                cells = result_cells(result)
                ours = cells["ours"].removesuffix(" %")
                rows.append([result.recipe.title, cells["published"], ours])
    return markdown_table(["", "published", "ours"], rows)


def write_readme(all_records: Sequence[Record]) -> None:
    """Replace the table between the marks of the README."""
    readme = ROOT / "README.md"
    before, _, after = readme.read_text().split(README_MARK)
    write_file(readme, README_MARK.join([before, readme_table(all_records), after]))


def save_figure(figure: Figure, name: str) -> None:
    """Save a figure as SVG; the same records give the same file."""
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(DOCS / "images" / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    """Write the pages, their figures and the README's table."""
    all_records = records.read([ROOT / "results"])
    for table in recipe_files.tables().values():
        results = table_results(table, all_records)
        if trained(results):
            save_figure(learning_curves(trained(results)), f"curves-{table.name}")
        if results and table.name == EFFECT_OF_C:
            save_figure(plot_effect_of_c(results), "effect-of-c")
    write_file(DOCS / "results.md", results_page(all_records))
    write_file(DOCS / "trials.md", trials_page(all_records))
    write_readme(all_records)


if __name__ == "__main__":
    main()
