"""Base class of every estimator: hyper-parameters as fields, ``fit``, ``save`` and ``load``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, dataclass_transform

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ancestral.data.columns import Columns
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base import persistence, tabular
from ancestral.training import Callback, History, engine
from ancestral.training.callbacks import ProgressBar, curve_logger
from ancestral.training.checkpoint import Checkpoint
from ancestral.utils import distributed
from ancestral.utils.docstrings import inherit_parameters
from ancestral.utils.hooks import hook
from ancestral.utils.quantization import Bits
from ancestral.utils.random import draw_seed
from ancestral.utils.validation import Natural, RandomState, Sizes, check_field, field_hints


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(BaseEstimator, ABC):
    """A scikit-learn estimator of rows whose columns have known kinds.

    The fields of a subclass are its hyper-parameters: they become the constructor (every subclass
    is made a dataclass), are checked against their type hints by ``fit`` and are the options of the
    command line. A subclass implements ``_build`` and ``_fit_model``; methods marked with ``hook``
    do nothing by default and may be overridden; all other methods are final.

    Parameters
    ----------
    likelihood : {"auto", "bernoulli", "gaussian", "categorical", "poisson"} or a list of these
        Distribution of every column, or one for each. ``"auto"`` is Bernoulli if all values
        lie in [0, 1], otherwise Gaussian.
    binarize : {"batch", "epoch", "once", "none"}
        Conversion of values between 0 and 1 to the bits of a Bernoulli likelihood in training:
        sampled for every batch, for every epoch, once, or not at all (the values then count as
        fractions of a bit and likelihoods are not those of any data). Evaluation binarises once,
        with a separate seed.
    image_shape : (height, width) or (channels, height, width), optional
        Shape of the image that a row holds.
    device : str
        ``auto`` (CUDA if available, otherwise MPS, otherwise the CPU), ``cpu``, ``cuda`` or
        ``mps``.
    init_from : str, optional
        Folder of a saved model or run of the same architecture whose parameters initialise
        training.
    random_state : int, RandomState, Generator or None
        Seed of all random numbers; with ``None`` every fit differs.
    log_path : str, optional
        Destination of the learning curves, written after every epoch: a file ending in ``.csv``,
        or a folder for TensorBoard (``pip install ancestral[tensorboard]``).
    checkpoint_path : str, optional
        File that stores the training state during ``fit``. After an interruption the same call
        resumes from it and, with a fixed ``random_state``, returns the same model to the bit. The
        file is removed when training ends.
    verbose : int or bool
        0 is silent, larger numbers show a progress bar.

    Attributes
    ----------
    model_ : torch.nn.Module
        The fitted model, in evaluation mode.
    history_ : list of dict
        One record per epoch.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    likelihood: str | tuple[str, ...] = "auto"
    binarize: Literal["batch", "epoch", "once", "none"] = "batch"
    image_shape: Sizes | None = None
    device: str = "auto"
    init_from: str | None = None
    random_state: RandomState = None
    log_path: str | None = None
    checkpoint_path: str | None = None
    verbose: Natural | bool = 0

    target_kind: ClassVar[Literal["classes", "values"] | None] = None
    """Kind of ``y`` that the estimator reads: class labels, real values, or none."""

    _supports_missing: ClassVar[bool] = True
    """Whether X may contain NaN."""

    _has_density: ClassVar[bool] = False
    """Whether the likelihood of rows is maximised, so that no column may be constant."""

    _standardizes: ClassVar[bool] = True
    """Whether Gaussian columns are standardised for the model."""

    _training_only_prefixes: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the weights that only training needs."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the subclass a dataclass and add the inherited parameters to its docstring.

        An inherited field has the default of the nearest class that declares it, as Python's
        attributes have. (``dataclass`` alone takes all fields of the nearest base, so that a mixin
        would restore defaults that other bases have changed.)
        """
        super().__init_subclass__(**kwargs)
        own = inspect.get_annotations(cls)
        bases = [base for base in reversed(cls.__mro__[1:]) if is_dataclass(base)]
        inherited = {f.name: f.type for base in bases for f in fields(base)}
        cls.__annotations__ = inherited | own
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        cls.__annotations__ = own
        cls.__doc__ = inherit_parameters(cls)

    # ---- implemented by a system

    @abstractmethod
    def _build(self) -> dict[str, nn.Module]:
        """Return new modules by attribute name, ``model_`` among them.

        Called by ``fit`` and by ``load``, with the hyper-parameters and the fitted attributes that
        :meth:`_prepare_data` sets.
        """

    @abstractmethod
    def _fit_model(self, data: DeviceData, checkpoint: Checkpoint | None) -> None:
        """Fit ``model_`` to the training data on its device and set ``history_``."""

    # ---- hooks

    @hook
    def _check_params(self) -> None:
        """Raise ``ValueError`` for hyper-parameters that contradict one another."""

    @hook
    def _training_rows(self, X: np.ndarray, y: Any) -> tuple[np.ndarray, Any]:
        """Return the rows and targets to train on, in place of those given to ``fit``."""
        return X, y

    @hook
    def _encode_targets(self, y: Any, n_rows: int) -> np.ndarray | None:  # noqa: ARG002
        """Return targets as the model reads them, [n_rows, ...]; None if it reads none."""
        return None

    @hook
    def _resolve_defaults(self, data: DeviceData) -> None:
        """Set the fitted attributes of parameters that are ``"auto"``: their names with ``_``."""

    @hook
    def _init_parameters(self, data: DeviceData) -> None:
        """Initialise parameters from the training data."""

    @hook
    def _after_training(self, training: DeviceData, held_out: DeviceData | None) -> None:
        """Fit what is fitted after the model's parameters, such as a temperature."""

    # ---- public methods

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the model to rows, from new parameters.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry. Values of type uint8 are pixels: 255 is one.
        y : array-like [n_samples], optional
            Labels or targets, for systems that use them; -1 = unlabelled.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a hyper-parameter or the input is invalid; the message names it.
        NonFiniteError
            If training diverges.
        CheckpointError
            If ``checkpoint_path`` is damaged or belongs to another training.
        """
        self._check_fields()
        if self.verbose:
            engine.log_to_stderr()
        device = engine.resolve_device(self.device)
        distributed.init_process_group(device)
        self.seed_, self._omitted_weights = draw_seed(self.random_state), ()
        data = self._prepare_data(X, y, device)
        self._is_loaded = False
        self._resolve_defaults(data)
        with engine.fork_rng(device):
            engine.seed(self.seed_)
            with engine.single_precision():
                self._set_modules(self._build())
            self._init_parameters(data)
        if self.init_from is not None:
            persistence.load_parameters(self, self.init_from)
        checkpoint = self._checkpoint(data)
        self._move_modules(device)
        self._fit_model(data, checkpoint)
        if checkpoint is not None and distributed.is_main():
            checkpoint.remove()
        return self

    def save(
        self, path: Path | str, *, overwrite: bool = False, bits: Bits = 32, whole: bool = True
    ) -> None:
        """Save the fitted estimator as a folder of safetensors and JSON.

        The folder appears complete or not at all. Under ``torchrun``, where all processes hold the
        same model, the first process writes it.

        Parameters
        ----------
        path : path
            Folder to create.
        overwrite : bool
            Replace an existing folder.
        bits : {32, 16, 12, 8}
            Bits per number of matrices and kernels; see
            :func:`ancestral.utils.quantization.quantize`. Fewer bits are for shipping; loading
            returns float32.
        whole : bool
            With False, weights that only training needs (the critic of a GAN, the encoder whose
            codes a generator samples) are left out: the loaded model gives the same results, but
            cannot initialise a training.

        Raises
        ------
        FileExistsError
            If ``path`` exists and ``overwrite`` is false.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        self._check_fitted()
        check_field("bits", bits, Bits)
        persistence.save(self, path, overwrite=overwrite, bits=bits, whole=whole)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Load a folder written by :meth:`save`, on the CPU; no code is executed.

        Raises
        ------
        ancestral.utils.serialization.ModelFileError
            If it is missing, damaged, altered, of another format, or of another estimator.
        """
        return persistence.load(cls, path)

    def to(self, device: str) -> Self:
        """Move the fitted model to a device. A loaded model is on the CPU.

        Parameters
        ----------
        device : str
            As the field of this name.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the device is not available.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        self._check_fitted()
        self._move_modules(engine.resolve_device(device))
        return self

    @property
    def column_names(self) -> list[str] | None:
        """Column names of the data frame or table given to ``fit``; None if it had none."""
        names = getattr(self, "feature_names_in_", getattr(self, "column_names_", None))
        return list(names) if names is not None and len(names) == self.n_features_in_ else None

    # ---- internals

    def _prepare_data(self, X: Any, y: Any, device: torch.device) -> DeviceData:
        """Validate the training rows, fit the columns to them and move them to the device."""
        X, y = self._training_rows(self._validate(X, fit=True), y)
        targets = self._encode_targets(y, len(X))
        return tabular.fit_columns(self, X, targets, device)

    def _check_fields(self) -> None:
        for name, hint in field_hints(type(self)).items():
            check_field(name, getattr(self, name), hint)
        self._check_params()

    def _resolved(self, name: str) -> Any:
        """Return the value of a parameter; if it is ``"auto"``, the one chosen by ``fit``."""
        value = getattr(self, name)
        return getattr(self, f"{name}_") if value == "auto" else value

    def _check_fitted(self) -> None:
        check_is_fitted(self, "model_")

    def _callbacks(self) -> list[Callback]:
        bar: list[Callback] = [ProgressBar(type(self).__name__)] if self.verbose else []
        return bar if self.log_path is None else [*bar, curve_logger(self.log_path)]

    def _checkpoint(self, data: DeviceData) -> Checkpoint | None:
        if self.checkpoint_path is None:
            return None
        return Checkpoint(self.checkpoint_path, identity=persistence.training_identity(self, data))

    def _modules(self) -> dict[str, nn.Module]:
        return {k: v for k, v in vars(self).items() if isinstance(v, nn.Module)}

    def _set_modules(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

    def _move_modules(self, device: torch.device) -> None:
        for module in self._modules().values():
            engine.move_to(module, device)

    def _device(self) -> torch.device:
        return next(self.model_.parameters()).device

    def _seeded_rng(self, random_state: RandomState) -> Any:
        """Return a context in which random numbers have the given seed, or that of the fit."""
        check_field("random_state", random_state, RandomState)
        seed = self.seed_ if random_state is None else draw_seed(random_state)
        return engine.seeded_rng(seed, device=self._device())

    def _columns(self) -> Columns:
        return Columns(self.likelihood_, self.location_, self.scale_, self.n_categories_)

    def _validate(self, X: Any, *, fit: bool) -> np.ndarray:
        return tabular.validate(self, X, fit=fit)

    def _data(self, X: np.ndarray, device: torch.device, **options: Any) -> DeviceData:
        return tabular.as_data(X, self.unit_, device, **options)

    def _map_rows(self, X: Any, function: Any) -> np.ndarray:
        """Validate rows and apply ``function`` to batches of them, one result per row."""
        self._check_fitted()
        return tabular.map_chunks(self, self._validate(X, fit=False), function)

    def __sklearn_tags__(self) -> Tags:
        """NaN is allowed where the model handles it, and float32 input gives float32 output."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._supports_missing
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    if TYPE_CHECKING:  # attributes set by fit; as plain annotations they would be parameters
        model_: nn.Module = field(init=False)
        columns_: Columns = field(init=False)
        history_: History = field(init=False)
        seed_: int = field(init=False)
        likelihood_: list[Any] = field(init=False)
        location_: np.ndarray = field(init=False)
        scale_: np.ndarray = field(init=False)
        n_categories_: list[int] = field(init=False)
        unit_: float = field(init=False)
        draws_bits_: bool = field(init=False)
        range_: np.ndarray | None = field(init=False)
        n_features_in_: int = field(init=False)
        classes_: np.ndarray = field(init=False)
        class_names_: list[str] = field(init=False)
        _omitted_weights: tuple[str, ...] = field(init=False)
        _is_loaded: bool = field(init=False)
