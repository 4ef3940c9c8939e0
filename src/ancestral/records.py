"""Records of runs of recipes, and how they stand beside the published numbers.

A record is one JSON file: what was asked (row, size, seed, configuration), on what (data checksum,
versions, commit, processor), what it cost, what came out (every evaluation with its standard
error, active units) and the learning curve.
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

from ancestral import storage
from ancestral.recipes import Recipe, shipped

Record = dict[str, Any]

RESULTS = Path("results")
"""Where records are written, from where the command runs."""
PLAIN = str.maketrans(dict.fromkeys('" ') | dict.fromkeys(":|<>?*/\\", "_"))
"""Takes what a file's name should not hold out of a setting."""


def name_of(size: str, seed: int, split: str, changes: Mapping[str, Any]) -> str:
    """Return the name of a run within its row.

    >>> name_of("fast", 0, "valid", {"batch_size": 250})
    'fast-0-valid-batch_size=250'
    >>> name_of("fast", 0, "test", {"network": "5:8 | 50"})
    'fast-0-network=5_8_50'
    """
    changed = [f"{k}={json.dumps(v)}".translate(PLAIN) for k, v in changes.items()]
    return "-".join([size, str(seed), *([] if split == "test" else [split]), *changed])


def path_of(record: Record, folder: Path) -> Path:
    """Return the file of a record below a folder of results."""
    name = name_of(record["size"], record["seed"], record["split"], record["changes"])
    return folder / record["row"] / f"{name}.json"


def write(record: Record, folder: Path) -> Path:
    """Write a record; return its file."""
    path = path_of(record, folder)
    storage.write_file(path, json.dumps(record, indent=1) + "\n")
    return path


def everywhere(own: Path = RESULTS) -> list[Path]:
    """Return where records are: those that come with the package, and one's own."""
    return [shipped("results"), own]


def read(folders: Iterable[Path] | None = None) -> list[Record]:
    """Read all records below some folders; of two of one name the one of the later folder counts.

    Parameters
    ----------
    folders : list of path, optional
        By default those that come with the package, then ``results/`` where the command runs.
    """
    folders = everywhere() if folders is None else folders
    found = {
        str(path.relative_to(folder)): path
        for folder in folders
        for path in sorted(folder.glob("*/*/*.json"))
    }
    return [json.loads(path.read_text()) for path in found.values()]


def summary(path: Path) -> str:
    """Say what a record says, on one line for each evaluation."""
    record = json.loads(path.read_text())
    about = f"record of {record['row']}, {record['size']}, seed {record['seed']}"
    return "\n".join(
        f"{about}: {e['split']} {e['metric']}: {e['value']:.3f} +- {e['standard_error']:.3f}"
        + ("" if e.get("binarize_seed") is None else f" (bits drawn with {e['binarize_seed']})")
        for e in record["evaluations"]
    )


@dataclass(frozen=True)
class Standing:
    """What the records of one row and size say together.

    Attributes
    ----------
    recipe : Recipe
        The row.
    size : str
        Its size.
    records : list of dict
        One for each seed, all of one split and with the same changes.
    """

    recipe: Recipe
    size: str
    records: Sequence[Record]

    @property
    def value(self) -> float:
        """Mean over seeds (and, inside each record, over binarisations)."""
        return float(np.mean([r["value"] for r in self.records]))

    @property
    def standard_error(self) -> float:
        """Standard error of a record's mean over the rows that were scored."""
        return float(np.mean([r["standard_error"] for r in self.records]))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; not a number for one seed."""
        values = [r["value"] for r in self.records]
        return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan

    @property
    def gap(self) -> float:
        """Ours less the published number; not a number where there is none."""
        published = self.recipe.published
        return math.nan if published is None else self.value - published

    @property
    def written_gap(self) -> str:
        """The gap with its sign, or nothing."""
        sign = "+" if self.gap >= 0 else ""
        return "" if math.isnan(self.gap) else sign + self.recipe.written(self.gap)

    @property
    def seconds(self) -> float:
        """Mean seconds of training, that of the models it started from included."""
        return float(np.mean([r["fit_seconds"] for r in self.records]))

    @property
    def command(self) -> str:
        """What runs it again: every seed up to the last, or a later one by itself."""
        seeds = sorted(r["seed"] for r in self.records)
        words = ["ancestral", "reproduce", self.recipe.row, "--size", self.size]
        alone = len(seeds) == 1 and seeds[0] > 0
        words += ["--seed", str(seeds[0])] if alone else ["--seeds", str(seeds[-1] + 1)]
        words += ["--select"] * (self.records[0]["split"] == "valid")
        for change in self.changes:
            words += ["--set", change]
        return shlex.join(words)

    @property
    def changes(self) -> list[str]:
        """What differs from the recipe, as ``name=value``."""
        return [f"{name}={value}" for name, value in self.records[0]["changes"].items()]

    @property
    def n_seeds(self) -> int:
        """How many seeds there are."""
        return len(self.records)

    @property
    def active_units(self) -> str:
        """Units in use by stochastic layer, of the first record."""
        return "+".join(map(str, self.records[0]["active_units"]))


def standings(
    recipes: Iterable[Recipe], records: Sequence[Record], split: str = "test"
) -> list[Standing]:
    """Group the records of rows by size and changes; a row without records has none."""
    found: list[Standing] = []
    for recipe in recipes:
        mine = [r for r in records if (r["row"], r["split"]) == (recipe.row, split)]
        groups: dict[tuple[int, str], list[Record]] = {}
        for record in sorted(mine, key=lambda r: r["seed"]):
            changes = json.dumps(record["changes"], sort_keys=True)
            key = (list(recipe.sizes).index(record["size"]), changes)
            groups.setdefault(key, []).append(record)
        sizes = list(recipe.sizes)
        found += [Standing(recipe, sizes[n], groups[n, c]) for n, c in sorted(groups)]
    return found


def standing_table(
    recipes: Sequence[Recipe], records: Sequence[Record] | None = None, split: str = "test"
) -> str:
    """Return published values, ours, the gap and the command of every row, as text.

    Parameters
    ----------
    recipes : list of Recipe
        The rows.
    records : list of dict, optional
        By default all there are.
    split : {"test", "valid"}
        Which records count: those of the test rows, or those by which settings were chosen.
    """
    found = standings(recipes, read() if records is None else records, split)
    lines: list[tuple[str, ...]] = [
        ("row", "size", "published", "ours", "", "gap", "seeds", "command")
    ]
    for recipe in recipes:
        mine = [s for s in found if s.recipe is recipe]
        lines += [_line(s) for s in mine] or [_line_without(recipe)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _line(standing: Standing) -> tuple[str, ...]:
    recipe = standing.recipe
    return (
        recipe.row,
        standing.size,
        recipe.written(recipe.published),
        recipe.written(standing.value),
        f"+- {recipe.written(standing.standard_error)}",
        standing.written_gap,
        str(standing.n_seeds),
        standing.command,
    )


def _line_without(recipe: Recipe) -> tuple[str, ...]:
    size = "fast" if "fast" in recipe.sizes else next(iter(recipe.sizes))
    command = f"ancestral reproduce {recipe.row} --size {size}"
    return (recipe.row, size, recipe.written(recipe.published), "-", "", "", "0", command)
