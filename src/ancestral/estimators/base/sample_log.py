"""Log of generated samples during training, and validation metrics of generators."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.evaluation.sample_quality import c2st_accuracy
from ancestral.probability.mmd import mmd2

MAX_LOGGED_EPOCHS, N_LOGGED_SAMPLES = 8, 10
"""Number of logged epochs, and of samples per logged epoch."""

MAX_VALIDATION_SAMPLES, MIN_VALIDATION_SAMPLES = 500, 10
"""Maximum and minimum number of held-out samples used in the validation metrics."""


class SampleGenerator(Protocol):
    """Protocol of a generator: a map from noise to samples."""

    def generate(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Map noise, and one condition per sample, to samples."""

    def sample_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Draw the noise of n samples."""


class SampleLog(nn.Module):
    """Log of the samples that fixed noise generates during training, at up to 8 epochs.

    The log consists of buffers: it is part of checkpoints and of the saved model.

    Parameters
    ----------
    d : int
        Number of features.

    Attributes
    ----------
    epochs : Tensor [8]
        Logged epochs; 0 marks an empty page.
    pages : Tensor [8, 10, d]
        Samples of the logged epochs, in the units of the model.

    Examples
    --------
    >>> sample_log = SampleLog(3)
    >>> [sample_log.is_logged(epoch, 100) for epoch in (1, 2, 3, 4, 5, 100)]
    [True, True, False, True, False, True]
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("epochs", torch.zeros(MAX_LOGGED_EPOCHS))
        self.register_buffer("pages", torch.zeros(MAX_LOGGED_EPOCHS, N_LOGGED_SAMPLES, d))
        self.epochs: Tensor
        self.pages: Tensor

    def is_logged(self, epoch: int, n_epochs: int) -> bool:
        """Whether an epoch is logged: the first, the last and geometrically spaced ones between."""
        return epoch in _logged_epochs(n_epochs)

    def write(self, epoch: int, n_epochs: int, rows: Float[Tensor, "10 d"]) -> None:
        """Log the samples of an epoch that is due."""
        page = _logged_epochs(n_epochs).index(epoch)
        self.epochs[page], self.pages[page] = epoch, rows

    def clear(self) -> None:
        """Empty the log."""
        self.epochs.zero_()
        self.pages.zero_()

    def entries(self) -> tuple[list[int], Float[Tensor, "p 10 d"]]:
        """Return the logged epochs and their samples."""
        is_logged = self.epochs > 0
        return [int(epoch) for epoch in self.epochs[is_logged]], self.pages[is_logged]


def _logged_epochs(n_epochs: int) -> list[int]:
    """Return the logged epochs: up to 8, geometrically spaced from 1 to ``n_epochs``."""
    return sorted({round(epoch) for epoch in np.geomspace(1, n_epochs, MAX_LOGGED_EPOCHS)})


def validation_sample_metrics(
    source: SampleGenerator, x: Float[Tensor, "n d"], c: Tensor | None = None
) -> dict[str, float]:
    """Compare n held-out samples with n generated ones: a criterion for early stopping.

    Parameters
    ----------
    source : SampleGenerator
        Generator.
    x : Tensor [n, d]
        Held-out samples.
    c : Tensor [n, ...], optional
        Conditions of the held-out samples, used for the generated ones too.

    Returns
    -------
    dict
        ``mmd2``: unbiased MMD^2 with a Gaussian kernel whose variance is the sum of the variances
        of the features of ``x``. ``c2st_accuracy``: accuracy of a classifier two-sample test by
        nearest neighbours; 0.5 is best.
    """
    generated, x = source.generate(source.sample_noise(len(x)), c).cpu(), x.cpu()
    accuracy = c2st_accuracy(generated.numpy(), x.numpy()).value
    variance = float(x.var(0).sum()) or 1.0
    distance = mmd2(generated.double(), x.double(), [variance], "unbiased")
    return {"mmd2": float(distance), "c2st_accuracy": accuracy}
