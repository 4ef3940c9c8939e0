"""Values of parameters that are ``"auto"``: a function of the size and kinds of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

SMALL_ROWS = 5000
"""Number of rows from which a table is large."""

MIN_SPLIT_ROWS = 10
"""Smallest number of rows of which some are held out."""

PATIENCE_STEPS = 200
"""Steps without a lower held-out loss after which training of a small table stops."""

MIN_LOG_VAR = -14.0
"""Lower limit of log-variances of Gaussian columns where data do not call for a higher one."""

MIN_LOG_VAR_SMALL = -6.0
"""The same on small tables, in standardised units: a standard deviation of 0.05."""

MIN_ROWS_PER_COLUMN = 3
"""Smallest number of rows per column for which ``"auto"`` selects a covariance matrix."""


def covariance_type(n_rows: int, kinds: Sequence[str]) -> Literal["diag", "tied"]:
    """Return the covariance of a mixture for a data set.

    Real-valued tables of fewer than 5,000 rows get one matrix for all components: it models
    correlations, which a few components with a variance for each column don't.

    Parameters
    ----------
    n_rows : int
        Number of training rows.
    kinds : sequence of str
        Kind of each column.

    Examples
    --------
    >>> covariance_type(100, ["gaussian"] * 4), covariance_type(10, ["gaussian"] * 4)
    ('tied', 'diag')
    """
    is_real = set(kinds) == {"gaussian"}
    enough = MIN_ROWS_PER_COLUMN * len(kinds) <= n_rows < SMALL_ROWS
    return "tied" if is_real and enough else "diag"


@dataclass(frozen=True)
class NetworkDefaults:
    """Parameters of a latent-variable model and its training that follow from the data.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    batch_norm : bool
        Batch normalisation of the hidden layers.
    learning_rate : float
        Initial learning rate.
    validation_fraction : float
        Fraction of the rows held out.
    patience : int or None
        Epochs without a lower held-out loss after which training stops; None for no limit.
    min_log_var : float
        Lower limit of the log-variances of Gaussian columns, in standardised units.
    """

    hidden: tuple[int, ...] = (500, 500)
    batch_norm: bool = True
    learning_rate: float = 1e-3
    validation_fraction: float = 0.0
    patience: int | None = None
    min_log_var: float = MIN_LOG_VAR


def network_defaults(
    n_rows: int,
    kinds: Sequence[str],
    *,
    is_image: bool = False,
    has_targets: bool = False,
    batch_size: int = 100,
) -> NetworkDefaults:
    """Return the parameters for a data set.

    Images, bits, rows with targets and tables of 5,000 rows or more have wide networks with batch
    normalisation and train on all rows. On smaller tables such networks overfit: learnt variances
    shrink onto training rows. Those have narrow networks, a higher limit of variances, held-out
    rows and early stopping.

    Parameters
    ----------
    n_rows : int
        Number of training rows.
    kinds : sequence of str
        Kind of each column.
    is_image : bool
        Whether a row is an image.
    has_targets : bool
        Whether rows have labels or targets.
    batch_size : int
        Rows per step.

    Examples
    --------
    >>> network_defaults(100, ["gaussian"] * 4).validation_fraction
    0.15
    >>> network_defaults(100, ["bernoulli"] * 4) == NetworkDefaults()
    True
    """
    if is_image or has_targets or n_rows >= SMALL_ROWS or set(kinds) <= {"bernoulli"}:
        return NetworkDefaults()
    narrow = NetworkDefaults((50,), False, 3e-3, min_log_var=MIN_LOG_VAR_SMALL)
    if n_rows < MIN_SPLIT_ROWS:
        return narrow
    fraction = 0.15
    n_batches = -(-round((1 - fraction) * n_rows) // batch_size)
    patience = -(-PATIENCE_STEPS // n_batches)
    return replace(narrow, validation_fraction=fraction, patience=patience)
