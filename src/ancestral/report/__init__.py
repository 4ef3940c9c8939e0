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
from ancestral.density import LatentEstimator
from ancestral.evaluate import LogLikelihood
from ancestral.fields import RandomState, draw_seed
from ancestral.methods.autoencoder import Autoencoder
from ancestral.methods.implicit import ImplicitEstimator
from ancestral.report import (
    causes,
    classes,
    columns,
    gaps,
    headline,
    images,
    latents,
    learning,
    likeness,
    memories,
    targets,
)
from ancestral.report.details import details
from ancestral.report.parts import Section
from ancestral.report.subject import Subject, choose
from ancestral.storage import write_file

if TYPE_CHECKING:
    from ancestral.datasets import Dataset
    from ancestral.estimator import Estimator

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
            result = headline.quick_evaluation(subject)
        figures = [] if result is None else headline.figures(subject, result)
        if isinstance(estimator, ImplicitEstimator):
            figures = likeness.figures(subject)
        environment = Environment(
            loader=PackageLoader("ancestral.report", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template("page.html").render(
            title=title,
            standfirst=headline.standfirst(subject),
            figures=classes.error_figure(subject) + targets.target_figure(subject) + figures,
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
        drawn = likeness.samples(subject) if implicit else []
        known = [*classes.classes(subject), *targets.targets(subject)]
        rebuilt = [_rows(subject).reconstructions(subject)] if _is_coder(subject) else []
        return [*known, *drawn, *rebuilt, learning.curves(subject)]
    rows, missing = _rows(subject), gaps if subject.image_shape is None else images
    return [
        headline.likelihood(subject, result, quick=quick),
        *classes.classes(subject),
        learning.curves(subject),
        rows.samples(subject),
        rows.reconstructions(subject),
        latents.latent_map(subject),
        *causes.causes(subject),
        *memories.memory(subject),
        missing.imputation(subject),
    ]


def _rows(subject: Subject) -> ModuleType:
    """Return what shows rows of the kind."""
    return columns if subject.image_shape is None else images


def _is_coder(subject: Subject) -> bool:
    return isinstance(subject.estimator, Autoencoder)
