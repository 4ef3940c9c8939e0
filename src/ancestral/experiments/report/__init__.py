"""HTML report of a fitted model: metrics, samples, reconstructions and learning curves.

A report is a single HTML file without external resources. It is responsive and has a light and a
dark mode.
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
    curves,
    images,
    imputation,
    latent_space,
    latent_structure,
    memory,
    regression,
    samples,
    summary,
    tabular,
)
from ancestral.experiments.report.context import ReportContext, make_context
from ancestral.experiments.report.details import details
from ancestral.experiments.report.elements import HeadlineNumber, Section
from ancestral.utils.files import write_file
from ancestral.utils.random import draw_seed
from ancestral.utils.validation import RandomState

if TYPE_CHECKING:
    from ancestral.datasets import Dataset
    from ancestral.estimators.base.estimator import Estimator


__all__ = ["render_page", "write_page"]


def render_page(
    estimator: Estimator,
    dataset: Dataset,
    *,
    title: str,
    evaluation: LogLikelihood | None = None,
    command: str | None = None,
    random_state: RandomState = 0,
) -> str:
    """Render the HTML report of a fitted estimator.

    Parameters
    ----------
    estimator : Estimator
        Estimator fitted on the training rows of ``dataset``.
    dataset : Dataset
        Data set. The report uses test rows, or training rows if there is no test split.
    title : str
        Title of the page.
    evaluation : LogLikelihood, optional
        Result of ``estimator.log_likelihood`` on the test rows. By default a quick estimate on 500
        rows with 200 importance samples, marked as such.
    command : str, optional
        Command that repeats the fit.
    random_state : int, RandomState, Generator or None
        Seed of the selected rows, the samples and the corruptions.

    Returns
    -------
    str
        HTML page.

    Raises
    ------
    ValueError
        If the number of features of ``dataset`` differs from that of the estimator.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    """
    estimator._check_fitted()
    with warnings.catch_warnings():
        # an estimator fitted on a data frame receives the same columns as an array
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        context = make_context(estimator, dataset, draw_seed(random_state))
        result, quick = evaluation, evaluation is None
        if quick and isinstance(estimator, LatentEstimator):
            result = summary.quick_evaluation(context)
        environment = Environment(
            loader=PackageLoader("ancestral.experiments.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html").render(
            title=title,
            description=summary.description(context),
            headline=_headline(context, result),
            sections=_sections(context, result, quick=quick),
            details=details(context),
            command=command,
            version=__version__,
        )


def write_page(
    path: Path | str,
    estimator: Estimator,
    dataset: Dataset,
    *,
    title: str,
    evaluation: LogLikelihood | None = None,
    command: str | None = None,
    random_state: RandomState = 0,
) -> None:
    """Write the page of :func:`render_page` to a file, atomically.

    Parameters
    ----------
    path : path
        Output file; an existing file is replaced.
    estimator, dataset, title, evaluation, command, random_state
        See :func:`render_page`.
    """
    html = render_page(
        estimator,
        dataset,
        title=title,
        evaluation=evaluation,
        command=command,
        random_state=random_state,
    )
    write_file(path, html)


def _headline(context: ReportContext, result: LogLikelihood | None) -> list[HeadlineNumber]:
    """Numbers at the top of the page: errors of predictions first, then metrics of the model."""
    numbers = classification.headline(context) + regression.headline(context)
    if isinstance(context.estimator, ImplicitEstimator):
        return numbers + samples.headline(context)
    return numbers if result is None else numbers + summary.headline(context, result)


def _sections(
    context: ReportContext, result: LogLikelihood | None, *, quick: bool
) -> list[Section]:
    """Sections of the page; those that do not apply to the model are left out."""
    predictions = [*classification.sections(context), *regression.sections(context)]
    rows = _row_module(context)
    if result is None:
        implicit = isinstance(context.estimator, ImplicitEstimator)
        generated = samples.sections(context) if implicit else []
        is_autoencoder = isinstance(context.estimator, Autoencoder)
        reconstructions = [rows.reconstructions_section(context)] if is_autoencoder else []
        return [*predictions, *generated, *reconstructions, curves.section(context)]
    imputation_section = (
        imputation.section if context.image_shape is None else images.imputation_section
    )
    return [
        summary.section(context, result, quick=quick),
        *predictions,
        curves.section(context),
        rows.samples_section(context),
        rows.reconstructions_section(context),
        latent_space.section(context),
        *latent_structure.sections(context),
        *memory.sections(context),
        imputation_section(context),
    ]


def _row_module(context: ReportContext) -> ModuleType:
    """Module with the charts of rows: of images or of tables."""
    return tabular if context.image_shape is None else images
