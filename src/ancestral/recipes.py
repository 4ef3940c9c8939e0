"""Recipes: the rows of published tables as files, each in sizes from seconds to the paper's own.

A folder of ``recipes/`` is a table: ``table.toml`` says what it is and how it is measured, every
other file is a row. What a row is (architecture, objective) is said once; a size says for how long
and with which settings it learns.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ancestral.experiment import Config
from ancestral.fields import Count, Natural, as_tuples, check, hints, suggest

HEAD = "table.toml"
SIZES = ("smoke", "fast", "paper")
Metric = Literal["log_likelihood", "error"]


@dataclass(frozen=True)
class Protocol:
    """How a fitted model is scored.

    Attributes
    ----------
    metric : {"log_likelihood", "error"}
        L_S in nats, higher is better, or how many of a hundred rows are told wrong.
    n_importance_samples : int
        S of L_S, in float32.
    binarize_seeds : list of int
        The test images are binarised once with each of these.
    n_rows : int, optional
        Score the first so many rows only (a smoke test's).
    n_training_rows : int
        Training rows on which active units are counted.
    """

    metric: Metric = "log_likelihood"
    n_importance_samples: Count = 5000
    binarize_seeds: tuple[Natural, ...] = (0, 1, 2)
    n_rows: Count | None = None
    n_training_rows: Count = 500


@dataclass(frozen=True, eq=False)
class Size:
    """For how long, and with which settings, a row learns.

    Attributes
    ----------
    options, data_options : dict
        What this size adds to the row's.
    stages : list of dict
        Options of one fit after the other, each from the model of the one before; none for a
        single fit.
    protocol : dict
        What this size changes in the protocol.
    start : str, optional
        A row from whose model, of the same size and seed, this one starts.
    n_valid : int
        Training rows held out when settings are chosen; 0 where the data set declares some.
    note : str
        How the settings were found.
    """

    options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)
    stages: tuple[dict[str, Any], ...] = ()
    protocol: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    n_valid: Natural = 10_000
    note: str = ""


@dataclass(frozen=True, eq=False)
class Recipe:
    """A row of a published table, or a control beside one.

    Attributes
    ----------
    row : str
        Its name, ``TABLE/ROW``.
    title : str
        What the table calls it.
    method, data : str
        As in a run's configuration.
    published : float, optional
        The published number, in the table's metric, if there is one.
    published_active_units : list of int
        Likewise, where published.
    options, data_options : dict
        Architecture and objective: the same in every size.
    sizes : dict
        By name.
    protocol : Protocol
        How the row is scored.
    selection : dict
        What differs in that when settings are chosen.
    """

    row: str
    title: str
    method: str
    data: str
    sizes: dict[str, Size]
    protocol: Protocol
    selection: dict[str, Any] = field(default_factory=dict)
    published: float | None = None
    published_active_units: tuple[Natural, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def size(self, name: str) -> Size:
        """Return the size of that name.

        Raises
        ------
        ValueError
            If the row has none.
        """
        if name not in self.sizes:
            known = ", ".join(self.sizes)
            raise ValueError(f"size={name!r}: the recipe {self.row} has the sizes {known}")
        return self.sizes[name]

    def config(self, size: str, seed: int, *, select: bool = False) -> Config:
        """Return the configuration of one run; to ``select`` settings, rows are held out."""
        chosen = self.size(size)
        held_out = {"n_valid": chosen.n_valid} if select and chosen.n_valid else {}
        return Config(
            self.method,
            self.data,
            self.options | chosen.options | {"random_state": seed},
            self.data_options | chosen.data_options | held_out,
        )

    def scored(self, size: str, *, select: bool = False) -> Protocol:
        """Return how a size is scored."""
        selection = self.selection if select else {}
        return Protocol(**(vars(self.protocol) | selection | self.size(size).protocol))


@dataclass(frozen=True, eq=False)
class Table:
    """A published table.

    Attributes
    ----------
    name : str
        Of its folder.
    title, source : str
        What it shows, and where it was published.
    note : str
        What a reader should know of the protocol.
    rows : list of Recipe
        In the order of the table.
    """

    name: str
    title: str
    source: str
    rows: tuple[Recipe, ...]
    note: str = ""


def folder() -> Path:
    """Return where the recipes lie."""
    return shipped("recipes")


def shipped(name: str) -> Path:
    """Return a folder that comes with the package: inside it, or beside its sources."""
    here = Path(__file__).resolve().parent
    return here / name if (here / name).is_dir() else here.parents[1] / name


def tables(where: Path | None = None) -> Mapping[str, Table]:
    """Read all tables, by name.

    Raises
    ------
    ValueError
        If a file is not a recipe; the message names the file and the key.
    """
    return _tables(where or folder())


@cache
def _tables(where: Path) -> Mapping[str, Table]:
    found = (_read_table(head.parent) for head in sorted(where.glob(f"*/{HEAD}")))
    return {table.name: table for table in found}


def find(target: str, where: Path | None = None) -> tuple[Recipe, ...]:
    """Return the row, or the rows of the table, of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.

    Examples
    --------
    >>> [recipe.title for recipe in find("mnist-density/vae")]
    ['VAE']
    """
    known = tables(where)
    if target in known:
        return known[target].rows
    rows = {recipe.row: recipe for table in known.values() for recipe in table.rows}
    if target not in rows:
        names = [*known, *rows]
        raise ValueError(
            f"there is no recipe {target!r}{suggest(target, names)} Tables: {', '.join(known)}; "
            "`ancestral reproduce --list` shows their rows"
        )
    return (rows[target],)


def _read_table(place: Path) -> Table:
    head = _read(place / HEAD)
    order = head.pop("rows", ())
    protocol, selection = head.pop("protocol", {}), head.pop("selection", {})
    files = {path.stem: path for path in place.glob("*.toml") if path.name != HEAD}
    if set(order) != set(files):
        raise ValueError(f"{place / HEAD}: rows={order} should name the files {sorted(files)}")
    rows = tuple(_read_row(files[name], place.name, protocol, selection) for name in order)
    return _make(Table, place / HEAD, {"name": place.name, "rows": rows} | head)


def _read_row(
    path: Path, table: str, protocol: dict[str, Any], selection: dict[str, Any]
) -> Recipe:
    row = _read(path)
    sizes = {k: _make(Size, path, v) for k, v in row.pop("sizes", {}).items()}
    for name in sizes:
        if name not in SIZES:
            raise ValueError(f"{path}: size {name!r}{suggest(name, SIZES)}")
    scored = _make(Protocol, path, protocol | row.pop("protocol", {}))
    about = {"row": f"{table}/{path.stem}", "sizes": sizes, "protocol": scored}
    recipe = _make(Recipe, path, {"selection": selection} | about | row)
    for size in sizes.values():
        for part in (size.protocol, recipe.selection):
            _make(Protocol, path, part)
    return recipe


def _read(path: Path) -> dict[str, Any]:
    try:
        return as_tuples(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def _make(cls: type, path: Path, values: dict[str, Any]) -> Any:
    """Make a dataclass from a TOML table, its keys and plain values checked."""
    known = hints(cls)
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"{path}: unknown key {key!r}{suggest(key, known)}")
        check(f"{path}: {key}", value, known[key])
    required = [f.name for f in fields(cls) if f.name in known and f.name not in values]
    try:
        return cls(**values)
    except TypeError:
        raise ValueError(f"{path}: some of {', '.join(required)} are missing") from None
