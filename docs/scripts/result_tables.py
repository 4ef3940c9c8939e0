"""Parts of a table's section on the results page: results, notes, and how they were computed."""

from __future__ import annotations

from collections.abc import Sequence

from markdown_tables import collapsed, duration, markdown_table, row_label

from ancestral.experiments.records import Record, ResultSummary


def results_table(results: Sequence[ResultSummary]) -> str:
    """Table of published and measured values; columns without entries are left out."""
    rows = [result_cells(result) for result in results]
    if len({row["metric"] for row in rows}) == 1:
        rows = [row | {"metric": ""} for row in rows]
    heads = [name for name in rows[0] if any(row[name] for row in rows)]
    return markdown_table(heads, ([row[name] for name in heads] for row in rows))


def result_cells(result: ResultSummary) -> dict[str, str]:
    """Cells of one row, by column."""
    record, text = result.records[0], result.recipe.format_value
    is_likelihood = result.recipe.protocol.metric == "log_likelihood"
    binarisation_std = record["binarisation_spread"]
    n_seeds = f"{result.n_seeds}" + (f" (± {result.spread:.2f})" if result.n_seeds > 1 else "")
    return {
        "row": row_label(result),
        "metric": record["metric"].removesuffix(", %"),
        "published": text(result.recipe.published),
        "ours": f"{text(result.value)} ± {text(result.standard_error)}{unit_suffix(record)}",
        "gap": result.formatted_gap,
        "seeds": n_seeds,
        "binarisations": f"± {binarisation_std:.2f}" if binarisation_std else "",
        "active units": result.active_units + published_units(result) if is_likelihood else "",
        "parameters": f"{record['n_parameters']:,}",
        "training": duration(result.seconds),
    }


def unit_suffix(record: Record) -> str:
    """Unit after a value: per cent, or nothing."""
    return " %" if record["metric"].endswith("%") else ""


def published_units(result: ResultSummary) -> str:
    """Published numbers of active units in brackets, if there are any."""
    units = result.recipe.published_active_units
    return "" if units is None else f" (published {'+'.join(map(str, units))})"


def row_notes(results: Sequence[ResultSummary]) -> str:
    """List of the notes of the rows that train a model; rows with one note share an item."""
    labels: dict[str, list[str]] = {}
    for result in results:
        note = " ".join(result.recipe.size(result.size).note.split())
        if note and result.recipe.model_from is None:
            labels.setdefault(note, []).append(row_label(result))
    items = [f"- **{shared_label(of_note)}**: {note}\n" for note, of_note in labels.items()]
    return "".join([*items, *models_of_other_tables(results)])


def models_of_other_tables(results: Sequence[ResultSummary]) -> list[str]:
    """List item with the rows of other tables whose models these rows score, if there are any."""
    table = results[0].recipe.row.split("/")[0]
    sources = dict.fromkeys(r.recipe.model_from for r in results if r.recipe.model_from)
    others = [f"`{row}`" for row in sources if row.split("/")[0] != table]
    return [f"- Models, with notes in their tables: {', '.join(others)}.\n"] if others else []


def shared_label(labels: Sequence[str]) -> str:
    """Labels of rows joined; of more than three rows, the names of their models.

    >>> shared_label(["VA, C = 0", "VA, C = 1", "VA, C = 10", "VA, C = 100"])
    'VA, all rows'
    """
    models = dict.fromkeys(label.split(",")[0] for label in labels)
    return f"{'; '.join(models)}, all rows" if len(labels) > 3 else "; ".join(labels)


def runs_table(results: Sequence[ResultSummary]) -> str:
    """Collapsed table of the command and the environment of every row."""
    heads = ["row", "command", "seeds", "other models", "processor", "torch", "commit", "date"]
    rows = [run_cells(result) for result in results]
    shown = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    table = markdown_table([heads[n] for n in shown], ([row[n] for n in shown] for row in rows))
    return collapsed("Commands, seeds, processors, versions", table)


def run_cells(result: ResultSummary) -> list[str]:
    """Command and environment of one row."""
    record = result.records[0]
    shipped = any(fit.get("shipped") for fit in record["fits"])
    return [
        row_label(result),
        f"`{result.command}`",
        number_ranges(sorted(r["seed"] for r in result.records)),
        "shipped (`--reuse zoo`)" if shipped else "",
        machines(result.records),
        record["versions"]["torch"],
        f"`{record['versions']['commit'][:7]}`",
        record["date"],
    ]


def number_ranges(numbers: Sequence[int]) -> str:
    """Ascending integers as text, with runs abbreviated.

    >>> number_ranges([0, 1, 2, 5])
    '0-2, 5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def machines(records: Sequence[Record]) -> str:
    """Machine of the records, by seed if they differ."""
    seeds: dict[str, list[int]] = {}
    for record in records:
        seeds.setdefault(machine(record), []).append(record["seed"])
    if len(seeds) == 1:
        return next(iter(seeds))
    return ", ".join(
        f"{name} (seed{'s' * (len(of_name) > 1)} {number_ranges(of_name)})"
        for name, of_name in seeds.items()
    )


def machine(record: Record) -> str:
    """Machine that trained the model of a record, and the one that evaluated it, if different."""
    processor = record["processor"]["model"]
    threads = f"{record['threads']} thread{'s' * (record['threads'] > 1)} of {processor}"
    trained, evaluated = (at.get("device", processor) for at in (record["versions"], record))
    trained, evaluated = (threads if name == processor else name for name in (trained, evaluated))
    return trained if trained == evaluated else f"trained on {trained}, evaluated on {evaluated}"
