"""What moment-matching generators share: a kernel that compares rows, or their codes."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ancestral import storage
from ancestral.data import Batch, Data
from ancestral.methods.autoencoder import LAST, Autoencoder
from ancestral.methods.diary import Diary
from ancestral.methods.implicit import WIDTHS, ImplicitEstimator, Variances, kernel_of_rows
from ancestral.models import Coded, Generator
from ancestral.networks import Maps
from ancestral.preprocess import Columns


class MomentMatcher(ImplicitEstimator, ABC):
    """A generator whose samples are compared with rows by a kernel, as they are or by their codes.

    Parameters
    ----------
    variances : list of float, or "auto"
        Of the Gaussians whose sum is the kernel, in the units of the model: numbers in [0, 1] as
        they are, others standardised. ``"auto"`` takes five around the median heuristic's.
    autoencoder : str, optional
        A saved :class:`~ancestral.methods.autoencoder.Autoencoder` of these rows, or the folder of
        its run. Moments are then matched among codes, and what is drawn is a code, decoded. It
        becomes part of the model, saved with it.

    Attributes
    ----------
    variances_ : list of float
        Those in use.
    """

    variances: Variances = "auto"
    autoencoder: str | None = None

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        model = self._make_model(columns)
        model.diary = Diary(len(columns.kinds))
        return {"columns_": columns, "model_": model}

    def _make_model(self, columns: Columns) -> Generator | Coded:
        """Make a generator of rows, or of codes with what decodes them."""
        if self.autoencoder is None:
            return self._make_generator(columns)
        loading = hasattr(self, "autoencoder_") and not hasattr(self, "model_")
        coder = self._described_autoencoder() if loading else self._read_autoencoder()
        generator = self._generator_of(Maps(coder.n_latents), LAST[coder.code]())
        self.autoencoder_ = coder._description()
        return Coded(generator, coder.model_)

    def _described_autoencoder(self) -> Autoencoder:
        """Return the autoencoder of a saved model, its weights to follow."""
        coder = Autoencoder._described(self.autoencoder_)
        coder._adopt(coder._build())
        return coder

    def _read_autoencoder(self) -> Autoencoder:
        """Return the autoencoder that was asked for, if it is one of such rows."""
        assert self.autoencoder is not None
        coder = Autoencoder.load(storage.model_folder(self.autoencoder))
        kinds, theirs = list(self.likelihood_), list(coder.likelihood_)
        if kinds != theirs or self.n_categories_ != coder.n_categories_:
            raise ValueError(
                f"autoencoder={self.autoencoder!r} was fitted to {len(theirs)} columns "
                f"({', '.join(dict.fromkeys(theirs))}) and there are {len(kinds)} "
                f"({', '.join(dict.fromkeys(kinds))}): fit one to these rows"
            )
        ours = np.stack([self.location_, self.scale_])
        if not np.allclose(ours, np.stack([coder.location_, coder.scale_]), rtol=1e-3):
            raise ValueError(
                f"autoencoder={self.autoencoder!r} was fitted to columns of other means and "
                "scales: fit one to these rows"
            )
        return coder

    def _learn_kernel(self, data: Data) -> None:
        """Choose the kernel by the rows, if it is not given."""
        seen_as = self._codes if isinstance(self.model_, Coded) else None
        self.variances_ = kernel_of_rows(self.variances, data, self.batch_size, WIDTHS, seen_as)

    @torch.no_grad()
    def _codes(self, batch: Batch) -> Tensor:
        assert isinstance(self.model_, Coded)
        device, mask = self._device(), batch.mask
        there = Batch(batch.x.to(device), mask=None if mask is None else mask.to(device))
        return self.model_.coder.encode(there)

    @property
    def _learner(self) -> nn.Module:
        """What of the model learns."""
        return self.model_.generator if isinstance(self.model_, Coded) else self.model_

    if TYPE_CHECKING:
        autoencoder_: dict[str, Any]
        n_categories_: list[int]
        location_: np.ndarray
        scale_: np.ndarray
