"""What moment-matching generators share: a kernel that compares rows, or their codes."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ancestral.data import Batch, Data
from ancestral.methods.autoencoder import LAST, Autoencoder
from ancestral.methods.deep import NetworkEstimator
from ancestral.methods.diary import Diary
from ancestral.methods.implicit import WIDTHS, ImplicitEstimator, Variances, kernel_of_rows
from ancestral.methods.part import part
from ancestral.models import Coded, Generator
from ancestral.networks import Maps
from ancestral.preprocess import Columns

CODERS = (Autoencoder, NetworkEstimator)
"""What makes codes of rows, and rows of codes."""


class MomentMatcher(ImplicitEstimator, ABC):
    """A generator whose samples are compared with rows by a kernel, as they are or by their codes.

    Parameters
    ----------
    variances : list of float, or "auto"
        Of the Gaussians whose sum is the kernel, in the units of the model: numbers in [0, 1] as
        they are, others standardised. ``"auto"`` takes five around the median heuristic's.
    autoencoder : str, optional
        A saved :class:`~ancestral.methods.autoencoder.Autoencoder` of these rows, or a variational
        one (of any kind with networks), or the folder of its run. Moments are then matched among
        codes, E_q[z | x] of a variational one, and what is drawn is a code, decoded. It becomes
        part of the model, saved with it.

    Attributes
    ----------
    variances_ : list of float
        Those in use.
    """

    variances: Variances = "auto"
    autoencoder: str | None = None

    _trained_against = tuple(f"model_.coder.{of}." for of in ("encoder", "posterior", "classifier"))

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        model = self._make_model(columns)
        model.diary = Diary(len(columns.kinds))
        return {"columns_": columns, "model_": model}

    def _make_model(self, columns: Columns) -> Generator | Coded:
        """Make a generator of rows, or of codes with what decodes them."""
        if self.autoencoder is None:
            return self._make_generator(columns)
        coder = part(self, "autoencoder", CODERS, "a saved autoencoder, plain or variational")
        last = LAST[coder.code if isinstance(coder, Autoencoder) else "linear"]
        return Coded(self._generator_of(Maps(coder._n_features_out), last()), coder.model_)

    def _learn_kernel(self, data: Data) -> None:
        """Choose the kernel by the rows, if it is not given."""
        seen_as = self._codes if isinstance(self.model_, Coded) else None
        self.variances_ = kernel_of_rows(
            "variances", self.variances, data, self.batch_size, WIDTHS, seen_as
        )

    def _codes(self, batch: Batch) -> Tensor:
        assert isinstance(self.model_, Coded)
        device, mask = self._device(), batch.mask
        there = Batch(batch.x.to(device), mask=None if mask is None else mask.to(device))
        return self.model_.codes(there)

    @property
    def _learner(self) -> nn.Module:
        """What of the model learns."""
        return self.model_.generator if isinstance(self.model_, Coded) else self.model_

    if TYPE_CHECKING:
        autoencoder_: dict[str, Any]
