"""Recipes: rows of published tables as TOML files, in sizes from seconds to the published setting.

A folder of ``recipes/`` is a table: ``table.toml`` describes it and its evaluation protocol, every
other file is a row. The file of a row gives its architecture and objective once; each size adds the
training length and settings. A row may score the model of another row (``model_from``) under
another protocol, or under several (``variants``, each of which becomes a row); ``also_score`` in
the file of a row adds rows that score its model under further protocols.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ancestral.estimators.pegasos import Solver
from ancestral.experiments.config import Config
from ancestral.experiments.corruption import Corruption
from ancestral.utils.validation import Count, Natural

Metric = Literal[
    "log_likelihood",
    "error",
    "target_error",
    "target_density",
    "imputation_error",
    "reconstruction",
    "mmd2",
    "parzen",
    "class_consistency_error",
    "rarest_class_frequency",
    "train_on_generated_error",
]

CLASSIFIER_METRICS = (
    "class_consistency_error",
    "rarest_class_frequency",
    "train_on_generated_error",
)
"""Metrics that require a classifier of generated samples."""

DECIMALS = {
    **dict.fromkeys(("imputation_error", "target_error", "reconstruction"), 4),
    **{"target_density": 3, "mmd2": 5, "parzen": 0},
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
        ``target_density``: their log-likelihood in nats, higher is better. ``imputation_error``:
        mean squared error of imputed entries. ``reconstruction``: mean squared reconstruction error
        of an autoencoder. ``mmd2``: squared MMD between samples and real rows. ``parzen``:
        log-likelihood by a Parzen window on 10,000 samples, in nats, for comparison with older
        work. With a ``classifier`` of generated samples: ``class_consistency_error``, per
        cent of class-conditional samples that it assigns to another class;
        ``rarest_class_frequency``, frequency of the rarest predicted class among unconditional
        samples in per cent; ``train_on_generated_error``, error rate in per cent on real rows after
        training on samples alone.
    n_importance_samples : int
        Number S of importance samples of L_S, in float32.
    binarize_seeds : list of int
        Seeds of the binarisations of the test images; each is scored once.
    n_rows : int, optional
        Number of scored rows, from the first; by default all.
    n_training_rows : int
        Number of training rows for counting active units.
    classifier : str, optional
        Row whose model, of the same size and seed, classifies generated samples.
    corruption : str, optional
        Corruption of the rows, parsed by :class:`~ancestral.experiments.corruption.Corruption`. A
        classifier that supports imputation imputes the rows first; others receive noise for missing
        entries.
    n_iter : int
        Number of imputation iterations.
    batch_statistics : bool
        Whether batch normalisation uses the statistics of the imputed rows during imputation, as in
        the paper on memory-augmented models.
    linear_classifier : {"pegasos", "adagrad", "liblinear"}, optional
        Solver of a linear SVM fitted to features of the training rows, which then predicts the
        classes instead of the model; see ``methods.pegasos.svm``.
    """

    metric: Metric = "log_likelihood"
    n_importance_samples: Count = 5000
    binarize_seeds: tuple[Natural, ...] = (0, 1, 2)
    n_rows: Count | None = None
    n_training_rows: Count = 500
    classifier: str | None = None
    corruption: str | None = None
    n_iter: Count = 100
    batch_statistics: bool = False
    linear_classifier: Solver | None = None

    def __post_init__(self) -> None:
        """Check that the fields are consistent with the metric."""
        if self.corruption is not None:
            Corruption.parse(self.corruption)
        if (self.metric in CLASSIFIER_METRICS) != (self.classifier is not None):
            raise ValueError(
                f"metric={self.metric!r}, classifier={self.classifier!r}: a classifier is required "
                f"for, and only allowed with, the metrics {', '.join(CLASSIFIER_METRICS)}"
            )
        needs = {"imputation_error": True, "error": self.corruption is not None}
        if needs.get(self.metric, False) != (self.corruption is not None):
            raise ValueError(
                f"metric={self.metric!r}, corruption={self.corruption!r}: corruption is required "
                "for "
                "metric='imputation_error', optional for metric='error' and not allowed otherwise"
            )
        if self.linear_classifier is not None and self.metric != "error":
            raise ValueError(
                f"linear_classifier={self.linear_classifier!r}: requires metric='error', not "
                f"{self.metric!r}"
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
    init_from : str, optional
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
    init_from: str | None = None
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
        Estimator and data set, as in :class:`~ancestral.experiments.config.Config`.
    published : float, optional
        Published value of the metric, if there is one.
    published_active_units : list of int, optional
        Published numbers of active units, by stochastic layer.
    submodels : dict
        Options whose values are models of other rows of the same size and seed (for example an
        autoencoder): from the name of the option to the name of the row.
    seed_option : str, optional
        Data option that is set to the seed of a run, for example the index of a split.
    model_from : str, optional
        Row whose model this one scores. It then shares that row's sizes, and no model is trained.
    options, data_options : dict
        Architecture and objective, the same in every size.
    sizes : dict of str to Size
        Training settings by name of the size.
    protocol : Protocol
        Evaluation protocol.
    validation_protocol : dict
        Fields of the protocol that are overridden during model selection.
    """

    row: str
    title: str
    method: str
    data: str
    sizes: dict[str, Size]
    protocol: Protocol
    validation_protocol: dict[str, Any] = field(default_factory=dict)
    published: float | None = None
    published_active_units: tuple[Natural, ...] | None = None
    submodels: dict[str, str] = field(default_factory=dict)
    seed_option: str | None = None
    model_from: str | None = None
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
        split = {} if self.seed_option is None else {self.seed_option: seed}
        return Config(
            self.method,
            self.data,
            self.options | settings.options | {"random_state": seed},
            self.data_options | settings.data_options | held_out | split,
        )

    def format_value(self, value: float | None) -> str:
        """Format a value of the row's metric; a dash for None."""
        digits = DECIMALS.get(self.protocol.metric, 2)
        return "-" if value is None else f"{value:.{digits}f}"

    def protocol_of(self, size: str, *, select: bool = False) -> Protocol:
        """Evaluation protocol of a size, for testing or for model selection."""
        selection = self.validation_protocol if select else {}
        return Protocol(**(vars(self.protocol) | selection | self.size(size).protocol))


@dataclass(frozen=True, eq=False)
class ResultTable:
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
    order : int
        Sort key among the tables, in ascending order.
    """

    name: str
    title: str
    source: str
    rows: tuple[Recipe, ...]
    note: str = ""
    order: int = 100
