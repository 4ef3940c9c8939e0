"""Recipes: the rows of published tables as files, each in sizes from seconds to the paper's own.

A folder of ``recipes/`` is a table: ``table.toml`` says what it is and how it is measured, every
other file is a row. What a row is (architecture, objective) is said once; a size says for how long
and with which settings it learns. A row may also be the model of another row (``of``), scored in
another way, or in several (``variants``, which become rows of their own); ``also`` in a row's own
file scores its model in further ways.
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
"""Metrics that need a classifier of drawn rows."""

DIGITS = {
    **dict.fromkeys(("repair", "target_error", "reconstruction"), 4),
    **{"target_density": 3, "resemblance": 5, "parzen": 0},
}
"""Of a metric's numbers, where they are not two."""


@dataclass(frozen=True)
class Protocol:
    """How a fitted model is scored.

    Attributes
    ----------
    metric : str
        ``log_likelihood``: L_S in nats, higher is better. ``error``: how many of a hundred rows are
        told wrong. ``target_error``: root mean squared error of predicted targets.
        ``target_density``: their log-likelihood, in nats, higher is better. ``repair``: mean
        squared error of what is filled in where something was taken away. ``reconstruction``: that
        of an autoencoder. ``resemblance``: squared MMD of samples and real rows. ``parzen``:
        log-likelihood by a Parzen window on 10,000 samples, in nats, for history. By a ``judge``
        that classifies samples: ``label_error``, of a hundred rows of a class, how many it takes
        for another; ``smallest_share``, of a hundred rows of any class, those of the rarest;
        ``retrained_error``, how many of a hundred real rows it tells wrong after training on
        samples alone.
    n_importance_samples : int
        S of L_S, in float32.
    binarize_seeds : list of int
        The test images are binarised once with each of these.
    n_rows : int, optional
        Score the first so many rows only (a smoke test's).
    n_training_rows : int
        Training rows on which active units are counted.
    judge : str, optional
        The row whose model classifies samples; of the same size and seed.
    damage : str, optional
        What is taken away of the rows, as :class:`~ancestral.damage.Damage` reads it. A classifier
        that can fill it in does so first; another sees noise there.
    n_iter : int
        Rounds of filling in.
    batch_statistics : bool
        Batch normalisation uses the rows at hand while it is filled in, as the memory paper does.
    second_stage : {"pegasos", "adagrad", "liblinear"}, optional
        Classes are told by a linear SVM learned afresh on features of the training rows, not by the
        model's own scores; see ``methods.pegasos.svm``.
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
        """Refuse what can't be scored."""
        if self.damage is not None:
            Damage.parse(self.damage)
        if (self.metric in JUDGED) != (self.judge is not None):
            raise ValueError(
                f"metric={self.metric!r}, judge={self.judge!r}: a judge classifies samples, for "
                f"{', '.join(JUDGED)}"
            )
        needs = {"repair": True, "error": self.damage is not None}
        if needs.get(self.metric, False) != (self.damage is not None):
            raise ValueError(
                f"metric={self.metric!r}, damage={self.damage!r}: repairs need a damage, errors "
                "may have one, and all else is of whole rows"
            )
        if self.second_stage is not None and self.metric != "error":
            raise ValueError(f"second_stage={self.second_stage!r} tells classes: metric='error'")


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
    parts : dict
        Options whose values are models of other rows, of the same size and seed: by the name of the
        option, the row. An autoencoder is one.
    seeded : str, optional
        A data option that is the seed of a run: which of several splits, say.
    of : str, optional
        The row whose model this one scores; it then has that row's sizes, and trains nothing new.
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
    parts: dict[str, str] = field(default_factory=dict)
    seeded: str | None = None
    of: str | None = None
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
        split = {} if self.seeded is None else {self.seeded: seed}
        return Config(
            self.method,
            self.data,
            self.options | chosen.options | {"random_state": seed},
            self.data_options | chosen.data_options | held_out | split,
        )

    def written(self, value: float | None) -> str:
        """Write a number of the row's metric, or a dash where there is none."""
        digits = DIGITS.get(self.protocol.metric, 2)
        return "-" if value is None else f"{value:.{digits}f}"

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
    place : int
        Where it comes among the tables: the lowest first.
    """

    name: str
    title: str
    source: str
    rows: tuple[Recipe, ...]
    note: str = ""
    place: int = 100


def folder() -> Path:
    """Return where the recipes lie."""
    return shipped("recipes")


def shipped(name: str) -> Path:
    """Return a folder that comes with the package: inside it, or beside its sources."""
    here = Path(__file__).resolve().parent
    return here / name if (here / name).is_dir() else here.parents[1] / name


def tables(where: Path | None = None) -> Mapping[str, Table]:
    """Read all tables, by name, in the order in which they are shown.

    Raises
    ------
    ValueError
        If a file is not a recipe; the message names the file and the key.
    """
    return _tables(where or folder())


@cache
def _tables(where: Path) -> Mapping[str, Table]:
    found = [_read_table(head.parent) for head in sorted(where.glob(f"*/{HEAD}"))]
    trained = {row.row: row for table in found for row in table.rows if row.of is None}
    found.sort(key=lambda table: (table.place, table.name))
    return {table.name: _resolved(table, trained, where) for table in found}


def _resolved(table: Table, trained: Mapping[str, Recipe], where: Path) -> Table:
    """Give rows that score the model of another row what that row has."""
    rows = []
    for row in table.rows:
        if row.of is not None and row.of not in trained:
            known = suggest(row.of, trained)
            raise ValueError(f"{where / row.row}: of={row.of!r} is no row that is trained{known}")
        shared = ("method", "data", "options", "data_options", "seeded", "sizes", "parts")
        theirs = {} if row.of is None else {k: getattr(trained[row.of], k) for k in shared}
        rows.append(replace(row, **theirs))
    return replace(table, rows=tuple(rows))


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
        close = get_close_matches(target, [*known, *rows], n=1)
        guess = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"there is no recipe {target!r}: {guess}tables are {', '.join(known)}; "
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
    rows = (_read_rows(files[name], place.name, protocol, selection) for name in order)
    found = tuple(row for several in rows for row in several)
    return _make(Table, place / HEAD, {"name": place.name, "rows": found} | head)


def _read_rows(
    path: Path, table: str, protocol: dict[str, Any], selection: dict[str, Any]
) -> list[Recipe]:
    """Read a file that is one row, or has a variant for each of several; each may be scored anew.

    A variant adds to the options and the protocol of the file; what ``also`` scores is a row too.
    """
    text = _read(path)
    variants, also = text.pop("variants", {"": {}}), text.pop("also", {})
    found = []
    for name, variant in variants.items():
        row = _varied(text, name, variant, protocol)
        called = "-".join(filter(None, [path.stem, name]))
        again = {"title": row.get("title", ""), "of": f"{table}/{called}"}
        ours = row.pop("also", {})
        others = {k: also.get(k, {}) | ours.get(k, {}) for k in also | ours}
        found.append(_read_row(path, f"{table}/{called}", row, selection))
        for other, scored in others.items():
            row = _varied(again, other, scored, protocol)
            found.append(_read_row(path, f"{table}/{called}-{other}", row, selection))
    return found


def _varied(
    text: dict[str, Any], name: str, variant: dict[str, Any], protocol: dict[str, Any]
) -> dict[str, Any]:
    """Return a row: what its file says, what a variant adds, and how it is scored."""
    both = {k: text.get(k, {}) | variant.get(k, {}) for k in ("options", "protocol")}
    row = text | {"title": " ".join([text.get("title", ""), name]).strip()} | variant | both
    return row | {"protocol": protocol | both["protocol"]}


def _read_row(path: Path, name: str, row: dict[str, Any], selection: dict[str, Any]) -> Recipe:
    if "of" in row:
        row = {"method": "", "data": ""} | row
    sizes = {k: _make(Size, path, v) for k, v in row.pop("sizes", {}).items()}
    for size in sizes:
        if size not in SIZES:
            raise ValueError(f"{path}: size {size!r}{suggest(size, SIZES)}")
    scored = _make(Protocol, path, row.pop("protocol"))
    about = {"row": name, "sizes": sizes, "protocol": scored}
    recipe = _make(Recipe, path, {"selection": selection} | row | about)
    for part in (recipe.selection, *(size.protocol for size in sizes.values())):
        _make(Protocol, path, vars(scored) | part)
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
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
