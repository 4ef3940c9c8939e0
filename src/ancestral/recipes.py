"""Recipes: rows of published tables as TOML files, in sizes from seconds to the published setting.

A folder of ``recipes/`` is a table: ``table.toml`` describes it and its evaluation protocol, every
other file is a row. The file of a row gives its architecture and objective once; each size adds
the training length and settings. A row may score the model of another row (``of``) under another
protocol, or under several (``variants``, each of which becomes a row); ``also`` in the file of a
row adds rows that score its model under further protocols.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ancestral.damage import Damage
from ancestral.experiment import Config
from ancestral.fields import Count, Natural, as_tuples, check, hints, suggest
from ancestral.methods.pegasos import Solver

HEAD = "table.toml"
SIZES = ("smoke", "fast", "paper")
Metric = Literal[
    "log_likelihood",
    "error",
    "target_error",
    "target_density",
    "repair",
    "reconstruction",
    "resemblance",
    "parzen",
    "label_error",
    "smallest_share",
    "retrained_error",
]

JUDGED = ("label_error", "smallest_share", "retrained_error")
"""Metrics that require a classifier of generated samples."""

DIGITS = {
    **dict.fromkeys(("repair", "target_error", "reconstruction"), 4),
    **{"target_density": 3, "resemblance": 5, "parzen": 0},
}
"""Number of decimals of a metric in tables, where it is not two."""


@dataclass(frozen=True)
class Protocol:
    """Evaluation protocol of a fitted model.

    Attributes
    ----------
    metric : str
        ``log_likelihood``: L_S in nats, higher is better. ``error``: error rate of a classifier in
        per cent. ``target_error``: root mean squared error of predicted targets.
        ``target_density``: their log-likelihood in nats, higher is better. ``repair``: mean squared
        error of imputed entries. ``reconstruction``: mean squared reconstruction error of an
        autoencoder. ``resemblance``: squared MMD between samples and real rows. ``parzen``:
        log-likelihood by a Parzen window on 10,000 samples, in nats, for comparison with older
        work. With a ``judge``, a classifier of generated samples: ``label_error``, per cent of
        class-conditional samples that it assigns to another class; ``smallest_share``, frequency of
        the rarest predicted class among unconditional samples in per cent; ``retrained_error``,
        error rate in per cent on real rows after training on samples alone.
    n_importance_samples : int
        Number S of importance samples of L_S, in float32.
    binarize_seeds : list of int
        Seeds of the binarisations of the test images; each is scored once.
    n_rows : int, optional
        Number of scored rows, from the first; by default all.
    n_training_rows : int
        Number of training rows for counting active units.
    judge : str, optional
        Row whose model, of the same size and seed, classifies generated samples.
    damage : str, optional
        Corruption of the rows, parsed by :class:`~ancestral.damage.Damage`. A classifier that
        supports imputation imputes the rows first; others receive noise for missing entries.
    n_iter : int
        Number of imputation iterations.
    batch_statistics : bool
        Whether batch normalisation uses the statistics of the imputed rows during imputation, as in
        the paper on memory-augmented models.
    second_stage : {"pegasos", "adagrad", "liblinear"}, optional
        Solver of a linear SVM fitted to features of the training rows, which then predicts the
        classes instead of the model; see ``methods.pegasos.svm``.
    """

    metric: Metric = "log_likelihood"
    n_importance_samples: Count = 5000
    binarize_seeds: tuple[Natural, ...] = (0, 1, 2)
    n_rows: Count | None = None
    n_training_rows: Count = 500
    judge: str | None = None
    damage: str | None = None
    n_iter: Count = 100
    batch_statistics: bool = False
    second_stage: Solver | None = None

    def __post_init__(self) -> None:
        """Check that the fields are consistent with the metric."""
        if self.damage is not None:
            Damage.parse(self.damage)
        if (self.metric in JUDGED) != (self.judge is not None):
            raise ValueError(
                f"metric={self.metric!r}, judge={self.judge!r}: a judge is required for, and only "
                f"allowed with, the metrics {', '.join(JUDGED)}"
            )
        needs = {"repair": True, "error": self.damage is not None}
        if needs.get(self.metric, False) != (self.damage is not None):
            raise ValueError(
                f"metric={self.metric!r}, damage={self.damage!r}: damage is required for "
                "metric='repair', optional for metric='error' and not allowed otherwise"
            )
        if self.second_stage is not None and self.metric != "error":
            raise ValueError(
                f"second_stage={self.second_stage!r}: requires metric='error', not {self.metric!r}"
            )


@dataclass(frozen=True, eq=False)
class Size:
    """Training settings of a row for one budget.

    Attributes
    ----------
    options, data_options : dict
        Options added to those of the row.
    stages : list of dict
        Options of successive fits, each initialised from the previous model; empty for one fit.
    protocol : dict
        Fields of the protocol that this size overrides.
    start : str, optional
        Row whose model, of the same size and seed, initialises this one.
    n_valid : int
        Number of training rows held out for model selection; 0 if the data set has validation rows.
    note : str
        Note on how the settings were chosen.
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
    """A row of a published table, or a control experiment.

    Attributes
    ----------
    row : str
        Name of the row, ``TABLE/ROW``.
    title : str
        Title of the row in the table.
    method, data : str
        Estimator and data set, as in :class:`~ancestral.experiment.Config`.
    published : float, optional
        Published value of the metric, if there is one.
    published_active_units : list of int, optional
        Published numbers of active units, by stochastic layer.
    parts : dict
        Options whose values are models of other rows of the same size and seed (for example an
        autoencoder): from the name of the option to the name of the row.
    seeded : str, optional
        Data option that is set to the seed of a run, for example the index of a split.
    of : str, optional
        Row whose model this one scores. It then shares that row's sizes, and no model is trained.
    options, data_options : dict
        Architecture and objective, the same in every size.
    sizes : dict of str to Size
        Training settings by name of the size.
    protocol : Protocol
        Evaluation protocol.
    selection : dict
        Fields of the protocol that are overridden during model selection.
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
    parts: dict[str, str] = field(default_factory=dict)
    seeded: str | None = None
    of: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def size(self, name: str) -> Size:
        """Size with the given name.

        Raises
        ------
        ValueError
            If the row has no such size.
        """
        if name not in self.sizes:
            names = ", ".join(self.sizes)
            raise ValueError(f"size={name!r}: the recipe {self.row} has the sizes {names}")
        return self.sizes[name]

    def config(self, size: str, seed: int, *, select: bool = False) -> Config:
        """Configuration of one run; with ``select``, validation rows are held out."""
        settings = self.size(size)
        held_out = {"n_valid": settings.n_valid} if select and settings.n_valid else {}
        split = {} if self.seeded is None else {self.seeded: seed}
        return Config(
            self.method,
            self.data,
            self.options | settings.options | {"random_state": seed},
            self.data_options | settings.data_options | held_out | split,
        )

    def written(self, value: float | None) -> str:
        """Format a value of the row's metric; a dash for None."""
        digits = DIGITS.get(self.protocol.metric, 2)
        return "-" if value is None else f"{value:.{digits}f}"

    def scored(self, size: str, *, select: bool = False) -> Protocol:
        """Evaluation protocol of a size, for testing or for model selection."""
        selection = self.selection if select else {}
        return Protocol(**(vars(self.protocol) | selection | self.size(size).protocol))


@dataclass(frozen=True, eq=False)
class Table:
    """A published table.

    Attributes
    ----------
    name : str
        Name of its folder.
    title, source : str
        Title of the table, and the publication it is from.
    note : str
        Remarks on the protocol.
    rows : list of Recipe
        Rows in the order of the table.
    place : int
        Sort key among the tables, in ascending order.
    """

    name: str
    title: str
    source: str
    rows: tuple[Recipe, ...]
    note: str = ""
    place: int = 100


def folder() -> Path:
    """Folder of the recipes."""
    return shipped("recipes")


def shipped(name: str) -> Path:
    """Folder distributed with the package, or in the root of its repository."""
    package = Path(__file__).resolve().parent
    return package / name if (package / name).is_dir() else package.parents[1] / name


def tables(where: Path | None = None) -> Mapping[str, Table]:
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
    return _tables(where or folder())


@cache
def _tables(where: Path) -> Mapping[str, Table]:
    unresolved = [_read_table(head.parent) for head in sorted(where.glob(f"*/{HEAD}"))]
    trained = {row.row: row for table in unresolved for row in table.rows if row.of is None}
    unresolved.sort(key=lambda table: (table.place, table.name))
    return {table.name: _resolved(table, trained, where) for table in unresolved}


def _resolved(table: Table, trained: Mapping[str, Recipe], where: Path) -> Table:
    """Copy of a table in which rows with ``of`` have the model settings of the row named there."""
    rows = []
    for row in table.rows:
        if row.of is not None and row.of not in trained:
            hint = suggest(row.of, trained)
            raise ValueError(f"{where / row.row}: of={row.of!r} is not a row with a model{hint}")
        shared = ("method", "data", "options", "data_options", "seeded", "sizes", "parts")
        settings = {} if row.of is None else {k: getattr(trained[row.of], k) for k in shared}
        rows.append(replace(row, **settings))
    return replace(table, rows=tuple(rows))


def find(target: str, where: Path | None = None) -> tuple[Recipe, ...]:
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
    >>> [recipe.title for recipe in find("mnist-density/vae")]
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


def _read_table(place: Path) -> Table:
    """Table of a folder, with ``of`` not yet resolved."""
    head = _read(place / HEAD)
    order = head.pop("rows", ())
    protocol, selection = head.pop("protocol", {}), head.pop("selection", {})
    files = {path.stem: path for path in place.glob("*.toml") if path.name != HEAD}
    if set(order) != set(files):
        raise ValueError(f"{place / HEAD}: rows={order} must name the files {sorted(files)}")
    groups = (_read_rows(files[name], place.name, protocol, selection) for name in order)
    rows = tuple(row for group in groups for row in group)
    return _make(Table, place / HEAD, {"name": place.name, "rows": rows} | head)


def _read_rows(
    path: Path, table: str, protocol: dict[str, Any], selection: dict[str, Any]
) -> list[Recipe]:
    """Rows of one file: one row, or one per variant, each followed by its ``also`` rows.

    A variant adds to the options and the protocol of the file. An ``also`` entry adds a row that
    scores the same model under another protocol.
    """
    text = _read(path)
    variants, also = text.pop("variants", {"": {}}), text.pop("also", {})
    recipes = []
    for name, variant in variants.items():
        row = _varied(text, name, variant, protocol)
        row_name = f"{table}/{'-'.join(filter(None, [path.stem, name]))}"
        same_model = {"title": row.get("title", ""), "of": row_name}
        row_also = row.pop("also", {})
        all_also = {k: also.get(k, {}) | row_also.get(k, {}) for k in also | row_also}
        recipes.append(_read_row(path, row_name, row, selection))
        for suffix, changes in all_also.items():
            row = _varied(same_model, suffix, changes, protocol)
            recipes.append(_read_row(path, f"{row_name}-{suffix}", row, selection))
    return recipes


def _varied(
    text: dict[str, Any], name: str, variant: dict[str, Any], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Keys of a row: those of its file, overridden by a variant, with the complete protocol."""
    merged = {k: text.get(k, {}) | variant.get(k, {}) for k in ("options", "protocol")}
    row = text | {"title": " ".join([text.get("title", ""), name]).strip()} | variant | merged
    return row | {"protocol": protocol | merged["protocol"]}


def _read_row(path: Path, name: str, row: dict[str, Any], selection: dict[str, Any]) -> Recipe:
    """Recipe made of the keys of a row, with all values checked."""
    if "of" in row:
        row = {"method": "", "data": ""} | row
    sizes = {k: _make(Size, path, v) for k, v in row.pop("sizes", {}).items()}
    for size in sizes:
        if size not in SIZES:
            raise ValueError(f"{path}: size {size!r}{suggest(size, SIZES)}")
    protocol = _make(Protocol, path, row.pop("protocol"))
    values = {"row": name, "sizes": sizes, "protocol": protocol}
    recipe = _make(Recipe, path, {"selection": selection} | row | values)
    for overrides in (recipe.selection, *(size.protocol for size in sizes.values())):
        _make(Protocol, path, vars(protocol) | overrides)
    return recipe


def _read(path: Path) -> dict[str, Any]:
    """Content of a TOML file, with lists as tuples."""
    try:
        return as_tuples(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None


def _make(cls: type, path: Path, values: dict[str, Any]) -> Any:
    """Create a dataclass from a TOML table, with keys and value types checked."""
    keys = hints(cls)
    for key, value in values.items():
        if key not in keys:
            raise ValueError(f"{path}: unknown key {key!r}{suggest(key, keys)}")
        check(f"{path}: {key}", value, keys[key])
    absent = [f.name for f in fields(cls) if f.name in keys and f.name not in values]
    try:
        return cls(**values)
    except TypeError:
        raise ValueError(f"{path}: some of {', '.join(absent)} are missing") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
