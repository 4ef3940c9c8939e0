"""Base class of moment-matching generators: a kernel on samples or on their codes."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.data.columns import Columns
from ancestral.data.device_data import DeviceData
from ancestral.estimators.autoencoder import CODE_ACTIVATIONS, Autoencoder
from ancestral.estimators.base.deep_latent import DeepLatentEstimator
from ancestral.estimators.base.implicit import (
    VARIANCE_MULTIPLIERS,
    ImplicitEstimator,
    Variances,
    resolve_variances,
)
from ancestral.estimators.base.sample_log import SampleLog
from ancestral.estimators.submodel import load_submodel
from ancestral.models.implicit import Generator, LatentSpaceGenerator
from ancestral.nn import MapShape

AUTOENCODER_CLASSES = (Autoencoder, DeepLatentEstimator)
"""Estimator classes that encode samples and decode codes."""


class MomentMatchingEstimator(ImplicitEstimator, ABC):
    """Generator fitted by a kernel comparison of generated samples, or codes, with those of data.

    Parameters
    ----------
    kernel_variances : list of float, or "auto"
        Variances of the Gaussians whose sum is the kernel, in the units of the model: values in
        [0, 1] as given, other values standardised. ``"auto"`` selects five multiples, from a
        quarter to four times, of the variance of the median heuristic.
    autoencoder : str, optional
        Folder of a saved :class:`~ancestral.estimators.autoencoder.Autoencoder` or variational
        autoencoder (of any kind with networks) of the same data, or of its run. The moments of
        codes are then matched (of a variational autoencoder, E_q[z | x]), and generated codes are
        decoded. The autoencoder becomes part of the model and is saved with it.

    Attributes
    ----------
    kernel_variances_ : list of float
        Variances of the kernel in use.
    """

    kernel_variances: Variances = "auto"
    autoencoder: str | None = None

    _training_only_prefixes = tuple(
        f"model_.autoencoder.{m}." for m in ("encoder", "posterior", "classifier")
    )

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        model = self._make_model(columns)
        model.sample_log = SampleLog(len(columns.kinds))
        return {"columns_": columns, "model_": model}

    def _make_model(self, columns: Columns) -> Generator | LatentSpaceGenerator:
        """Build a generator of samples, or of codes with the decoder of the autoencoder."""
        if self.autoencoder is None:
            return self._build_row_generator(columns)
        coder = load_submodel(
            self, "autoencoder", AUTOENCODER_CLASSES, "a saved autoencoder, plain or variational"
        )
        output = CODE_ACTIVATIONS[
            coder.code_activation if isinstance(coder, Autoencoder) else "linear"
        ]
        return LatentSpaceGenerator(
            self._build_generator(MapShape(coder._n_features_out), output()), coder.model_
        )

    def _init_parameters(self, data: DeviceData) -> None:
        """Set the variances of the kernel, from the data if ``kernel_variances="auto"``."""
        transform = self._codes if isinstance(self.model_, LatentSpaceGenerator) else None
        self.kernel_variances_ = resolve_variances(
            "kernel_variances",
            self.kernel_variances,
            data,
            self.batch_size,
            VARIANCE_MULTIPLIERS,
            transform,
        )

    def _codes(self, batch: Batch) -> Tensor:
        assert isinstance(self.model_, LatentSpaceGenerator)
        device, mask = self._device(), batch.mask
        on_device = Batch(batch.x.to(device), mask=None if mask is None else mask.to(device))
        return self.model_.codes(on_device)

    @property
    def _trained_module(self) -> nn.Module:
        """Module that is trained: the generator, without an autoencoder."""
        return (
            self.model_.generator if isinstance(self.model_, LatentSpaceGenerator) else self.model_
        )

    if TYPE_CHECKING:
        autoencoder_: dict[str, Any]
