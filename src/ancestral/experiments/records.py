"""Records of recipe runs, and their comparison with the published values.

A record is one JSON file: the job (row, size, seed, configuration), its environment (data checksum,
versions, commit, processor), its cost, its results (every evaluation with its standard error,
active units) and the learning curve.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ancestral.experiments.recipe_files import package_folder
from ancestral.experiments.recipes import Recipe
from ancestral.utils import files

Record = dict[str, Any]

RESULTS = Path("results")
"""Folder of new records, relative to the working directory."""

FILE_NAME_CHARACTERS = str.maketrans(dict.fromkeys('" ') | dict.fromkeys(":|<>?*/\\", "_"))
"""Translation of a setting to characters allowed in file names."""


def record_name(size: str, seed: int, split: str, changes: Mapping[str, Any]) -> str:
    """Name of a run within its row.

    >>> record_name("fast", 0, "valid", {"batch_size": 250})
    'fast-0-valid-batch_size=250'
    >>> record_name("fast", 0, "test", {"network": "5:8 | 50"})
    'fast-0-network=5_8_50'
    """
    suffixes = [f"{k}={json.dumps(v)}".translate(FILE_NAME_CHARACTERS) for k, v in changes.items()]
    return "-".join([size, str(seed), *([] if split == "test" else [split]), *suffixes])


def record_path(record: Record, folder: Path) -> Path:
    """Path of a record below a folder of results."""
    name = record_name(record["size"], record["seed"], record["split"], record["changes"])
    return folder / record["row"] / f"{name}.json"


def write(record: Record, folder: Path) -> Path:
    """Write a record; return its path."""
    path = record_path(record, folder)
    files.write_file(path, json.dumps(record, indent=1) + "\n")
    return path


def record_folders(own: Path = RESULTS) -> list[Path]:
    """Folders of records: the one distributed with the package, and the user's own."""
    return [package_folder("results"), own]


def read(folders: Iterable[Path] | None = None) -> list[Record]:
    """Read all records below some folders.

    Parameters
    ----------
    folders : list of path, optional
        Folders in ascending priority: of records with the same name the last is returned. By
        default the folder distributed with the package, then ``results/`` in the working directory.
    """
    folders = record_folders() if folders is None else folders
    paths = {
        str(path.relative_to(folder)): path
        for folder in folders
        for path in sorted(folder.glob("*/*/*.json"))
    }
    return [json.loads(path.read_text()) for path in paths.values()]


def summary(path: Path) -> str:
    """Summary of a record, one line per evaluation."""
    record = json.loads(path.read_text())
    head = f"record of {record['row']}, {record['size']}, seed {record['seed']}"
    return "\n".join(
        f"{head}: {e['split']} {e['metric']}: {e['value']:.3f} +- {e['standard_error']:.3f}"
        + ("" if e.get("binarize_seed") is None else f" (binarisation seed {e['binarize_seed']})")
        for e in record["evaluations"]
    )


@dataclass(frozen=True)
class ResultSummary:
    """Result of one row and size, summarised over seeds.

    Attributes
    ----------
    recipe : Recipe
        Recipe of the row.
    size : str
        Name of the size.
    records : list of dict
        Records, one per seed, of one split and with the same changes.
    """

    recipe: Recipe
    size: str
    records: Sequence[Record]

    @property
    def value(self) -> float:
        """Mean over seeds and, within each record, over binarisations."""
        return float(np.mean([r["value"] for r in self.records]))

    @property
    def standard_error(self) -> float:
        """Standard error over the scored rows, averaged over seeds."""
        return float(np.mean([r["standard_error"] for r in self.records]))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for one seed."""
        values = [r["value"] for r in self.records]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    @property
    def gap(self) -> float:
        """Difference from the published value; NaN if there is none."""
        published = self.recipe.published
        return math.nan if published is None else self.value - published

    @property
    def formatted_gap(self) -> str:
        """Difference from the published value with its sign; empty if there is none."""
        sign = "+" if self.gap >= 0 else ""
        return "" if math.isnan(self.gap) else sign + self.recipe.format_value(self.gap)

    @property
    def seconds(self) -> float:
        """Mean training time in seconds, including the models it was initialised from."""
        return float(np.mean([r["fit_seconds"] for r in self.records]))

    @property
    def command(self) -> str:
        """Command that reproduces the result: all seeds up to the last, or a single later seed."""
        seeds = sorted(r["seed"] for r in self.records)
        arguments = ["ancestral", "reproduce", self.recipe.row, "--size", self.size]
        single = len(seeds) == 1 and seeds[0] > 0
        arguments += ["--seed", str(seeds[0])] if single else ["--seeds", str(seeds[-1] + 1)]
        arguments += ["--select"] * (self.records[0]["split"] == "valid")
        for change in self.changes:
            arguments += ["--set", change]
        return shlex.join(arguments)

    @property
    def changes(self) -> list[str]:
        """Options that differ from the recipe, as ``name=value``."""
        return [f"{name}={value}" for name, value in self.records[0]["changes"].items()]

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len(self.records)

    @property
    def active_units(self) -> str:
        """Active units by stochastic layer, of the first record."""
        return "+".join(map(str, self.records[0]["active_units"]))


def summarize_results(
    recipes: Iterable[Recipe], records: Sequence[Record], split: str = "test"
) -> list[ResultSummary]:
    """Summarise records by row, size and changes; rows without records are omitted."""
    summaries: list[ResultSummary] = []
    for recipe in recipes:
        of_row = [r for r in records if (r["row"], r["split"]) == (recipe.row, split)]
        groups: dict[tuple[int, str], list[Record]] = {}
        for record in sorted(of_row, key=lambda r: r["seed"]):
            changes = json.dumps(record["changes"], sort_keys=True)
            key = (list(recipe.sizes).index(record["size"]), changes)
            groups.setdefault(key, []).append(record)
        sizes = list(recipe.sizes)
        summaries += [ResultSummary(recipe, sizes[n], groups[n, c]) for n, c in sorted(groups)]
    return summaries


def results_table(
    recipes: Sequence[Recipe], records: Sequence[Record] | None = None, split: str = "test"
) -> str:
    """Text table of published and reproduced values, their difference and the command of each row.

    Parameters
    ----------
    recipes : list of Recipe
        Rows of the table.
    records : list of dict, optional
        Records; by default all that exist.
    split : {"test", "valid"}
        Split of the records: test rows, or the validation rows of model selection.
    """
    summaries = summarize_results(recipes, read() if records is None else records, split)
    lines: list[tuple[str, ...]] = [
        ("row", "size", "published", "reproduced", "", "difference", "seeds", "command")
    ]
    for recipe in recipes:
        of_row = [s for s in summaries if s.recipe is recipe]
        lines += [_cells(s) for s in of_row] or [_cells_without_records(recipe)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(summary: ResultSummary) -> tuple[str, ...]:
    """Cells of a row with records."""
    recipe = summary.recipe
    return (
        recipe.row,
        summary.size,
        recipe.format_value(recipe.published),
        recipe.format_value(summary.value),
        f"+- {recipe.format_value(summary.standard_error)}",
        summary.formatted_gap,
        str(summary.n_seeds),
        summary.command,
    )


def _cells_without_records(recipe: Recipe) -> tuple[str, ...]:
    """Cells of a row without records."""
    size = "fast" if "fast" in recipe.sizes else next(iter(recipe.sizes))
    command = f"ancestral reproduce {recipe.row} --size {size}"
    return (recipe.row, size, recipe.format_value(recipe.published), "-", "", "", "0", command)
