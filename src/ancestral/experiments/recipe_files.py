"""Reading of recipe files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ancestral.experiments.recipes import Protocol, Recipe, ResultTable, Size
from ancestral.utils.validation import as_tuples, check_field, field_hints, suggest

TABLE_FILE = "table.toml"

SIZES = ("smoke", "fast", "paper")


def recipes_folder() -> Path:
    """Folder of the recipes."""
    return package_folder("recipes")


def package_folder(name: str) -> Path:
    """Folder distributed with the package, or in the root of its repository."""
    package = Path(str(resources.files("ancestral"))).resolve()
    return package / name if (package / name).is_dir() else package.parents[1] / name


def tables(where: Path | None = None) -> Mapping[str, ResultTable]:
    """Read all tables, by name and in display order.

    Parameters
    ----------
    where : Path, optional
        Folder of the recipes; by default those distributed with the package.

    Raises
    ------
    ValueError
        If a file is not a valid recipe; the message names the file and the key.
    """
    return _cached_tables(where or recipes_folder())


@cache
def _cached_tables(where: Path) -> Mapping[str, ResultTable]:
    unresolved = [_read_table(head.parent) for head in sorted(where.glob(f"*/{TABLE_FILE}"))]
    trained = {row.row: row for table in unresolved for row in table.rows if row.model_from is None}
    unresolved.sort(key=lambda table: (table.order, table.name))
    return {table.name: _resolve_references(table, trained, where) for table in unresolved}


def _resolve_references(
    table: ResultTable, trained: Mapping[str, Recipe], where: Path
) -> ResultTable:
    """Return a table whose rows with ``model_from`` have the model settings of that row."""
    rows = []
    for row in table.rows:
        if row.model_from is not None and row.model_from not in trained:
            hint = suggest(row.model_from, trained)
            raise ValueError(
                f"{where / row.row}: model_from={row.model_from!r} is not a row with a model{hint}"
            )
        shared = ("method", "data", "options", "data_options", "seed_option", "sizes", "submodels")
        settings = (
            {}
            if row.model_from is None
            else {k: getattr(trained[row.model_from], k) for k in shared}
        )
        rows.append(replace(row, **settings))
    return replace(table, rows=tuple(rows))


def find_recipes(target: str, where: Path | None = None) -> tuple[Recipe, ...]:
    """Recipes of a table, or the one recipe of a row.

    Parameters
    ----------
    target : str
        ``TABLE`` or ``TABLE/ROW``.
    where : Path, optional
        Folder of the recipes; by default those distributed with the package.

    Raises
    ------
    ValueError
        If there is no such table or row; the message lists the tables.

    Examples
    --------
    >>> [recipe.title for recipe in find_recipes("mnist-density/vae")]
    ['VAE']
    """
    by_name = tables(where)
    if target in by_name:
        return by_name[target].rows
    rows = {recipe.row: recipe for table in by_name.values() for recipe in table.rows}
    if target not in rows:
        close = get_close_matches(target, [*by_name, *rows], n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"unknown recipe {target!r}: {guess}the tables are {', '.join(by_name)}; "
            "`ancestral reproduce --list` lists their rows"
        )
    return (rows[target],)


def _read_table(place: Path) -> ResultTable:
    """Table of a folder, with ``model_from`` not yet resolved."""
    head = _read_toml(place / TABLE_FILE)
    order = head.pop("rows", ())
    protocol, selection = head.pop("protocol", {}), head.pop("validation_protocol", {})
    files = {path.stem: path for path in place.glob("*.toml") if path.name != TABLE_FILE}
    if set(order) != set(files):
        raise ValueError(f"{place / TABLE_FILE}: rows={order} must name the files {sorted(files)}")
    groups = (_read_rows(files[name], place.name, protocol, selection) for name in order)
    rows = tuple(row for group in groups for row in group)
    return _build(ResultTable, place / TABLE_FILE, {"name": place.name, "rows": rows} | head)


def _read_rows(
    path: Path, table: str, protocol: dict[str, Any], selection: dict[str, Any]
) -> list[Recipe]:
    """Rows of one file: one row, or one per variant, each followed by its ``also_score`` rows.

    A variant adds to the options and the protocol of the file. An ``also_score`` entry adds a row
    that scores the same model under another protocol.
    """
    text = _read_toml(path)
    variants, also = text.pop("variants", {"": {}}), text.pop("also_score", {})
    recipes = []
    for name, variant in variants.items():
        row = _merge_variant(text, name, variant, protocol)
        row_name = f"{table}/{'-'.join(filter(None, [path.stem, name]))}"
        same_model = {"title": row.get("title", ""), "model_from": row_name}
        row_also = row.pop("also_score", {})
        all_also = {k: also.get(k, {}) | row_also.get(k, {}) for k in also | row_also}
        recipes.append(_read_row(path, row_name, row, selection))
        for suffix, changes in all_also.items():
            row = _merge_variant(same_model, suffix, changes, protocol)
            recipes.append(_read_row(path, f"{row_name}-{suffix}", row, selection))
    return recipes


def _merge_variant(
    text: dict[str, Any], name: str, variant: dict[str, Any], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Keys of a row: those of its file, overridden by a variant, with the complete protocol."""
    merged = {k: text.get(k, {}) | variant.get(k, {}) for k in ("options", "protocol")}
    row = text | {"title": " ".join([text.get("title", ""), name]).strip()} | variant | merged
    return row | {"protocol": protocol | merged["protocol"]}


def _read_row(path: Path, name: str, row: dict[str, Any], selection: dict[str, Any]) -> Recipe:
    """Recipe made of the keys of a row, with all values checked."""
    if "model_from" in row:
        row = {"method": "", "data": ""} | row
    sizes = {k: _build(Size, path, v) for k, v in row.pop("sizes", {}).items()}
    for size in sizes:
        if size not in SIZES:
            raise ValueError(f"{path}: size {size!r}{suggest(size, SIZES)}")
    protocol = _build(Protocol, path, row.pop("protocol"))
    values = {"row": name, "sizes": sizes, "protocol": protocol}
    recipe = _build(Recipe, path, {"validation_protocol": selection} | row | values)
    for overrides in (recipe.validation_protocol, *(size.protocol for size in sizes.values())):
        _build(Protocol, path, vars(protocol) | overrides)
    return recipe


def _read_toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file, with lists as tuples."""
    try:
        return as_tuples(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def _build(cls: type, path: Path, values: dict[str, Any]) -> Any:
    """Create a dataclass from a TOML table, with keys and value types checked."""
    keys = field_hints(cls)
    for key, value in values.items():
        if key not in keys:
            raise ValueError(f"{path}: unknown key {key!r}{suggest(key, keys)}")
        check_field(f"{path}: {key}", value, keys[key])
    absent = [f.name for f in fields(cls) if f.name in keys and f.name not in values]
    try:
        return cls(**values)
    except TypeError:
        raise ValueError(f"{path}: some of {', '.join(absent)} are missing") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
