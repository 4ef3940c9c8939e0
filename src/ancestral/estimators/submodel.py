"""Sub-models: fitted estimators that are part of another one and are saved with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral.estimators.base import persistence
from ancestral.estimators.base.estimator import Estimator
from ancestral.estimators.registry import find_saved, load
from ancestral.utils import serialization


def load_submodel(
    estimator: Estimator, option: str, kinds: type | tuple[type, ...], description: str
) -> Any:
    """Return the sub-model of an estimator and store its description as attribute ``option_``.

    In a fit the sub-model is read from the folder that the parameter ``option`` names. When the
    estimator is loaded, it is rebuilt from its description, and its weights are loaded later.

    Parameters
    ----------
    estimator : Estimator
        Estimator with fitted columns whose networks are being built.
    option : str
        Name of its parameter that holds the folder of a saved model or of a run.
    kinds : type or tuple of type
        Accepted classes of the sub-model.
    description : str
        Description of these classes for error messages.

    Raises
    ------
    ValueError
        If the saved model is of another class, or was fitted to other columns.
    """
    attribute = f"{option}_"
    if estimator._is_loaded:
        model = _from_description(getattr(estimator, attribute), kinds)
    else:
        model = _load_compatible(estimator, option, kinds, description)
    setattr(estimator, attribute, persistence.describe(model))
    return model


def _from_description(description: dict[str, Any], kinds: type | tuple[type, ...]) -> Estimator:
    cls = find_saved(description["method"])
    assert issubclass(cls, kinds)
    model = persistence.from_description(cls, description)
    model._set_modules(model._build())
    return model


def _load_compatible(
    estimator: Estimator, option: str, kinds: type | tuple[type, ...], description: str
) -> Estimator:
    """Load a saved model and check its class and its columns."""
    argument = f"{option}={getattr(estimator, option)!r}"
    with serialization.prefix_errors(argument):
        model = load(serialization.model_folder(getattr(estimator, option)))
    if not isinstance(model, kinds):
        raise ValueError(f"{argument} holds a {type(model).__name__}: expected {description}")
    expected, actual = list(estimator.likelihood_), list(model.likelihood_)
    if expected != actual or estimator.n_categories_ != model.n_categories_:
        raise ValueError(
            f"{argument} was fitted to {len(actual)} columns ({', '.join(dict.fromkeys(actual))}), "
            f"but X has {len(expected)} ({', '.join(dict.fromkeys(expected))}): give a model that "
            "was fitted to these columns"
        )
    units = np.stack([estimator.location_, estimator.scale_])
    if not np.allclose(units, np.stack([model.location_, model.scale_]), rtol=1e-3):
        raise ValueError(
            f"{argument} was fitted to columns with other means and scales: give a model that was "
            "fitted to these data"
        )
    return model
