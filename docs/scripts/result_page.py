"""Write docs/results.md, its pictures of learning curves, and the README's table from the records.

Run it:  python docs/results.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import alike
import beside
import margin
from matplotlib import rc_context
from matplotlib.figure import Figure

from ancestral.experiments import recipe_files, records
from ancestral.experiments.recipes import ResultTable
from ancestral.experiments.records import Record, ResultSummary, summarize_results
from ancestral.experiments.scoring import ERROR
from ancestral.utils.files import write_file

DOCS = Path(__file__).resolve().parent
SOURCE = DOCS.parent / "results"
README, MARK = DOCS.parent / "README.md", "<!-- written by docs/results.py -->\n"
EFFECT = "mnist-margin"
"""The table whose rows differ in C, drawn over it."""
HEADLINES = (
    "mnist-density",
    "ocr-density",
    "mnist-iwae",
    "mnist-belief",
    "mnist-classes",
    "mnist-labels",
    "boston-housing",
)
UNITS = {"log_likelihood": "nats", "target_density": "nats", "error": "%"}
COLOURS = ("#22303c", "#b5652a", "#4a7a6a", "#8a5a83", "#7a7a4a", "#4f6d9c", "#b03a48", "#9a9a9a")
HEAD = """\
# Results

Every number on this page comes from a record below `results/` and is written by
`python docs/results.py`; every row names the command that runs it again. *Ours* is the mean over
seeds and over the binarisations of the test images, with the standard error of one model's mean
over those images; *seeds* and *bits* are the standard deviations over seeds, and over
binarisations of the same images. The gap is ours less the published number: of a log-likelihood
above zero is better, of an error below.

    ancestral reproduce --list                         # these tables, in the terminal
    ancestral evaluate zoo/mnist-density-vae           # a number again, from shipped weights
"""


def page(found: Sequence[Record]) -> str:
    """Return the page, in Markdown."""
    tables = recipe_files.tables().values()
    recorded = {record["row"].split("/")[0] for record in found if record["size"] != "smoke"}
    sections = [section(table, found) for table in tables if table.name in recorded]
    others = [table for table in tables if table.name not in recorded]
    return "\n".join([HEAD, *sections, *beside.sections(), *waiting(others)])


def headlines(found: Sequence[Record]) -> str:
    """Return the README's table: rows of the main tables that have a published number and ours."""
    lines = ["| | published | ours |", "| --- | --- | --- |"]
    for name in HEADLINES:
        table = recipe_files.tables()[name]
        rows = [row for row in table.rows if row.published and row.protocol.metric in UNITS]
        stand = [s for s in summarize_results(rows, found) if s.size == "fast"]
        unit = UNITS[rows[0].protocol.metric]
        lines += [f"| **{table.title}** | {unit} | {unit} |"]
        for s in stand:
            row = cells(s)
            ours = row["ours"].removesuffix(" %")
            lines.append(f"| {s.recipe.title} | {row['published']} | {ours} |")
    return "\n".join(lines) + "\n"


def write_readme(found: Sequence[Record]) -> None:
    """Put the table between its marks."""
    before, _, after = README.read_text().split(MARK)
    write_file(README, MARK.join([before, headlines(found), after]))


def waiting(others: Sequence[ResultTable]) -> list[str]:
    """Return which tables there are recipes of and no records."""
    if not others:
        return []
    lines = [f"- `ancestral reproduce {table.name}`: {table.title}" for table in others]
    return ["\n".join(["## Recipes without records yet\n", *lines, ""])]


def section(table: ResultTable, found: Sequence[Record]) -> str:
    """Return what is known of one published table."""
    measured = [s for s in summarize_results(table.rows, found) if s.size != "smoke"]
    chosen = [s for s in summarize_results(table.rows, found, "valid") if s.size != "smoke"]
    parts = [f"## {table.title}\n\n{table.source}.\n\n{table.note.strip()}\n"]
    if measured:
        parts.append(grid(measured))
    missing = [r.title for r in table.rows if r.row not in {s.recipe.row for s in measured}]
    if missing:
        parts.append(f"Without a record: {'; '.join(missing)}.\n")
    parts += [found for found in [alike.samples(measured)] if found]
    if measured and table.name == EFFECT:
        parts.append(f"![Errors and bounds over C](images/effect-{table.name}.svg)\n")
    if trains(measured):
        parts.append(f"![Learning curves](images/curves-{table.name}.svg)\n")
    if measured:
        parts.append(how(measured))
    if chosen:
        parts.append(selection(chosen))
    return "\n".join(parts)


def grid(measured: Iterable[ResultSummary]) -> str:
    """Return the table of standings."""
    rows = [cells(s) for s in measured]
    if len({row["measure"] for row in rows}) == 1:
        rows = [row | {"measure": ""} for row in rows]
    heads = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(row[name] for name in heads) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cells(s: ResultSummary) -> dict[str, str]:
    """Return what the table says of one row, by column; a column without any entry is left out."""
    first, metric, written = s.records[0], s.recipe.protocol.metric, s.recipe.format_value
    unit = " %" if first["metric"].endswith("%") else ""
    return {
        "row": f"{s.recipe.title}, {s.size}",
        "measure": first["metric"].removesuffix(", %"),
        "published": written(s.recipe.published),
        "ours": f"{written(s.value)} ± {written(s.standard_error)}{unit}",
        "gap": s.formatted_gap,
        "seeds": f"{len(s.records)}" + (f" (± {s.spread:.2f})" if len(s.records) > 1 else ""),
        "bits": f"± {first['binarisation_spread']:.2f}" if first["binarisation_spread"] else "",
        "active units": s.active_units + published_units(s) if metric == "log_likelihood" else "",
        "parameters": f"{first['n_parameters']:,}",
        "training": duration(s.seconds),
    }


def duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def trains(measured: Iterable[ResultSummary]) -> list[ResultSummary]:
    """Return the standings of rows with models of their own."""
    return [s for s in measured if s.recipe.model_from is None]


def published_units(s: ResultSummary) -> str:
    units = s.recipe.published_active_units
    return "" if units is None else f" (published {'+'.join(map(str, units))})"


def how(measured: Iterable[ResultSummary]) -> str:
    """Return the commands, the conditions and the notes of rows, those of one model together."""
    together: dict[str, list[ResultSummary]] = {}
    for s in measured:
        together.setdefault(conditions(s), []).append(s)
    lines = []
    for made, rows in together.items():
        titles = "; ".join(f"{s.recipe.title}, {s.size}" for s in rows)
        lines.append(f"- **{titles}**: {commands(rows)}. {made}")
    return "\n".join(lines) + "\n"


def commands(rows: Sequence[ResultSummary]) -> str:
    """Return the command of the first row, and the names that take its row's place in it."""
    first, *others = rows
    own = first.recipe.row
    alike = [s for s in others if s.command == first.command.replace(own, s.recipe.row)]
    names = ", ".join(f"`{s.recipe.row}`" for s in alike)
    told = [f"`{first.command}`" + (f"; likewise {names}" if names else "")]
    return ". ".join([*told, *(f"`{s.command}`" for s in others if s not in alike)])


def conditions(s: ResultSummary) -> str:
    """Return how a row was made."""
    r, note = s.records[0], s.recipe.size(s.size).note
    if any(fit.get("shipped") for fit in r["fits"]):
        note += " Models of other rows are the shipped ones (`--reuse zoo`)."
    note = f"{' '.join(note.split())} " if note else ""
    return (
        f"{note}Seeds {', '.join(str(x['seed']) for x in s.records)}; {machines(s.records)}; torch "
        f"{r['versions']['torch']}; commit `{r['versions']['commit'][:7]}`; {r['date']}."
    )


def machines(made: Sequence[Record]) -> str:
    """Return what computed; where it was not the same for all seeds, with the seeds."""
    seeds: dict[str, list[str]] = {}
    for r in made:
        seeds.setdefault(machine(r), []).append(str(r["seed"]))
    if len(seeds) == 1:
        return next(iter(seeds))
    return ", ".join(f"{what} (seed {' and '.join(which)})" for what, which in seeds.items())


def machine(r: Record) -> str:
    """Return what trained the model of a record, and what scored it, if that was another."""
    own = r["processor"]["model"]
    threads = f"{r['threads']} thread{'s' * (r['threads'] > 1)} of {own}"
    trained, scored = (at.get("device", own) for at in (r["versions"], r))
    trained, scored = (threads if name == own else name for name in (trained, scored))
    return trained if trained == scored else f"trained by {trained}, scored by {scored}"


def selection(chosen: Sequence[ResultSummary]) -> str:
    """Return what settings reached on the held-out training images."""
    first = chosen[0].records[0]
    what = "error, %" if first["metric"] == ERROR else "log-likelihood"
    lines = [
        "Settings were chosen on held-out training rows "
        f"({first['metric']}, {first['evaluations'][0]['n_rows']:,} rows):\n",
        f"| row | changed in the recipe | held-out {what} | seeds | training |",
        "|" + " --- |" * 5,
    ]
    for s in chosen:
        changes = ", ".join(f"`{change}`" for change in s.changes).replace("|", r"\|") or "nothing"
        found = " ± ".join(s.recipe.format_value(v) for v in (s.value, s.standard_error))
        lines.append(
            f"| {s.recipe.title}, {s.size} | {changes} | {found} | {s.n_seeds} | "
            f"{duration(s.seconds)} |"
        )
    command = f"`{chosen[0].command}`"
    return "\n".join([*lines, f"\nEach is a command like {command}.\n"])


def curves(measured: Sequence[ResultSummary]) -> Figure:
    """Draw the training loss of every fit over the minutes it took; of two players, one dashed."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    fits = [fit for s in measured for fit in s.records[0]["fits"]]
    lowest = min(min(loss) for fit in fits for loss in losses(fit))
    for s, colour in zip(measured, COLOURS * len(measured), strict=False):
        for number, record in enumerate(s.records):
            began = 0.0
            for part in record["fits"]:
                minutes = [began + seconds / 60 for seconds in part["curve"]["seconds"]]
                label = f"{s.recipe.title}, {s.size}" if number == 0 and began == 0.0 else None
                for loss, style in zip(losses(part), ("-", "--"), strict=False):
                    axes.plot(minutes, loss, style, color=colour, lw=1.2, label=label)
                    label = None
                began = minutes[-1]
    axes.set(xlabel="minutes of training", ylabel="training loss per row")
    if measured[0].recipe.protocol.metric == "log_likelihood":
        axes.set_ylim(lowest - 0.5, lowest + 15)
    elif lowest > 0:  # losses of other kinds, far from one another
        axes.set_yscale("log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def losses(fit: dict[str, Any]) -> list[list[float]]:
    """Return the loss of every player of a fit, the generator's first."""
    names = [name for name in fit["curve"] if name in ("loss", "generator.loss", "critic.loss")]
    return [fit["curve"][name] for name in sorted(names, reverse=True)]


def draw(kind: str, table: ResultTable, figure: Figure) -> None:
    """Write a table's picture; the same records make the same file."""
    with rc_context({"svg.hashsalt": table.name}):
        figure.savefig(DOCS / "images" / f"{kind}-{table.name}.svg", metadata={"Date": None})


def main() -> None:
    """Write the page, its pictures, and the README's table."""
    found = records.read([SOURCE])
    for table in recipe_files.tables().values():
        measured = [s for s in summarize_results(table.rows, found) if s.size != "smoke"]
        if trains(measured):
            draw("curves", table, curves(trains(measured)))
        if measured and table.name == EFFECT:
            draw("effect", table, margin.effect(measured))
    write_file(DOCS / "results.md", page(found))
    write_readme(found)


if __name__ == "__main__":
    main()
