"""Models that are part of another, from where they were saved, or as they were saved with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ancestral import storage
from ancestral.methods import find, load
from ancestral.rows import RowEstimator


def part(whole: RowEstimator, option: str, kinds: type | tuple[type, ...], called: str) -> Any:
    """Return the model that an option names, and describe it as ``option_`` of the whole.

    When the whole is loaded, the part is made as described, its weights to follow.

    Parameters
    ----------
    whole : RowEstimator
        Whose columns are known and whose networks are about to be made.
    option : str
        Of the whole: the folder of a saved model, or of its run.
    kinds : type or tuple of type
        What the part must be one of.
    called : str
        The same in words.

    Raises
    ------
    ValueError
        If the saved model is of another kind, or of other columns.
    """
    described = f"{option}_"
    if whole._as_described:
        found = _described(getattr(whole, described), kinds)
    else:
        found = _read(whole, option, kinds, called)
    setattr(whole, described, found._description())
    return found


def _described(description: dict[str, Any], kinds: type | tuple[type, ...]) -> RowEstimator:
    made = find(description["method"]).load()._described(description)
    assert isinstance(made, kinds)
    made._adopt(made._build())
    return made


def _read(
    whole: RowEstimator, option: str, kinds: type | tuple[type, ...], called: str
) -> RowEstimator:
    """Return a saved model, if it is one of such rows."""
    named = f"{option}={getattr(whole, option)!r}"
    with storage.named(named):
        found = load(storage.model_folder(getattr(whole, option)))
    if not isinstance(found, kinds):
        raise ValueError(f"{named} is of the class {type(found).__name__}: expected {called}")
    ours, theirs = list(whole.likelihood_), list(found.likelihood_)
    if ours != theirs or whole.n_categories_ != found.n_categories_:
        raise ValueError(
            f"{named} was fitted to {len(theirs)} columns ({', '.join(dict.fromkeys(theirs))}) and "
            f"there are {len(ours)} ({', '.join(dict.fromkeys(ours))}): fit one to these rows"
        )
    units = np.stack([whole.location_, whole.scale_])
    if not np.allclose(units, np.stack([found.location_, found.scale_]), rtol=1e-3):
        raise ValueError(
            f"{named} was fitted to columns of other means and scales: fit one to these rows"
        )
    return found
