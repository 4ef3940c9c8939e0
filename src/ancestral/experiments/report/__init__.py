"""A page about a fitted model: how good it is, and what it has learnt, with words for a student.

The page is one file of HTML that needs nothing from outside: figures are part of it, it works
offline, on small screens, by day and by night.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from ancestral._version import __version__
from ancestral.estimators.autoencoder import Autoencoder
from ancestral.estimators.base.implicit import ImplicitEstimator
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.experiments.report import (
    classification,
    images,
    imputation,
    latent_space,
    latent_structure,
    regression,
    samples,
    summary,
    tabular,
)
from ancestral.experiments.report.context import Subject, choose
from ancestral.experiments.report.curves import curves
from ancestral.experiments.report.details import details
from ancestral.experiments.report.elements import Section
from ancestral.experiments.report.memory import memory
from ancestral.utils.files import write_file
from ancestral.utils.random import draw_seed
from ancestral.utils.validation import RandomState

if TYPE_CHECKING:
    from ancestral.datasets import Dataset
    from ancestral.estimators.base.estimator import Estimator


__all__ = ["page", "write"]


def page(
    estimator: Estimator,
    dataset: Dataset,
    *,
    title: str,
    evaluation: LogLikelihood | None = None,
    command: str | None = None,
    random_state: RandomState = 0,
) -> str:
    """Make a self-contained HTML page about a fitted estimator.

    Parameters
    ----------
    estimator : Estimator
        Fitted on the training rows of ``dataset``.
    dataset : Dataset
        The test rows are shown; the training rows, marked as such, where there is no test split.
    title : str
        Of the page.
    evaluation : LogLikelihood, optional
        Of the test rows, from ``estimator.log_likelihood``. Without it the page makes a quick
        estimate (500 rows, 200 samples) and says so.
    command : str, optional
        What to type to make the same again.
    random_state : int, RandomState, Generator or None
        Of the choice of rows, the samples and the damages: the same seed makes the same page.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the rows of ``dataset`` are not those of the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    estimator._check_fitted()
    with warnings.catch_warnings():
        # an estimator fitted on a frame is shown the same columns as an array
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        subject = choose(estimator, dataset, draw_seed(random_state))
        result, quick = evaluation, evaluation is None
        if quick and isinstance(estimator, LatentEstimator):
            result = summary.quick_evaluation(subject)
        figures = [] if result is None else summary.figures(subject, result)
        if isinstance(estimator, ImplicitEstimator):
            figures = samples.figures(subject)
        environment = Environment(
            loader=PackageLoader("ancestral.experiments.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html").render(
            title=title,
            standfirst=summary.standfirst(subject),
            figures=classification.error_figure(subject)
            + regression.target_figure(subject)
            + figures,
            sections=_sections(subject, result, quick=quick),
            details=details(subject),
            command=command,
            version=__version__,
        )


def write(
    path: Path | str,
    estimator: Estimator,
    dataset: Dataset,
    *,
    title: str,
    evaluation: LogLikelihood | None = None,
    command: str | None = None,
    random_state: RandomState = 0,
) -> None:
    """Write :func:`page` to a file, whole or not at all.

    Parameters
    ----------
    path : path
        The file; one that is there is replaced.
    estimator, dataset, title, evaluation, command, random_state
        See :func:`page`.
    """
    html = page(
        estimator,
        dataset,
        title=title,
        evaluation=evaluation,
        command=command,
        random_state=random_state,
    )
    write_file(path, html)


def _sections(subject: Subject, result: LogLikelihood | None, *, quick: bool) -> list[Section]:
    if result is None:
        implicit = isinstance(subject.estimator, ImplicitEstimator)
        drawn = samples.samples(subject) if implicit else []
        known = [*classification.classes(subject), *regression.targets(subject)]
        rebuilt = [_rows(subject).reconstructions(subject)] if _is_coder(subject) else []
        return [*known, *drawn, *rebuilt, curves(subject)]
    rows, missing = _rows(subject), imputation if subject.image_shape is None else images
    return [
        summary.likelihood(subject, result, quick=quick),
        *classification.classes(subject),
        curves(subject),
        rows.samples(subject),
        rows.reconstructions(subject),
        latent_space.latent_map(subject),
        *latent_structure.causes(subject),
        *memory(subject),
        missing.imputation(subject),
    ]


def _rows(subject: Subject) -> ModuleType:
    """Return what shows rows of the kind."""
    return tabular if subject.image_shape is None else images


def _is_coder(subject: Subject) -> bool:
    return isinstance(subject.estimator, Autoencoder)
