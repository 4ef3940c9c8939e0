"""The scikit-learn face of every system: fields that are checked, and ``fit``, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, Self, dataclass_transform

import torch
from sklearn.utils.validation import check_is_fitted

from ancestral import engine, parallel, storage
from ancestral.callbacks import ProgressBar, curve_log
from ancestral.checkpoint import Checkpoint
from ancestral.data import Data
from ancestral.docstrings import with_inherited
from ancestral.fields import RandomState, check, draw_seed, hints
from ancestral.saving import Saved
from ancestral.train import Callback


@dataclass_transform(kw_only_default=True, eq_default=False)
@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(Saved, ABC):
    """A system with scikit-learn manners: its fields are the hyper-parameters.

    A subclass lists its fields (they become the constructor: every subclass is made a dataclass)
    and implements ``_prepare``, ``_build``, ``_initialise`` and ``_learn``. Fields are checked at
    ``fit`` against their type hints, and the command line reads its options off them.

    Parameters
    ----------
    device : str
        ``auto`` (CUDA where there is some, else MPS, else the CPU), ``cpu``, ``cuda`` or ``mps``.
    start : str, optional
        A saved model, or the folder of a run, of the same shape: training starts from its
        parameters, not from fresh ones.
    random_state : int, RandomState, Generator or None
        Seeds everything random; with ``None`` every fit differs.
    log : str, optional
        Where to write the learning curves after every epoch: a file ending in ``.csv``, or a folder
        for TensorBoard (``pip install ancestral[tensorboard]``).
    checkpoint : str, optional
        A file in which the state of training is kept while ``fit`` runs. If ``fit`` is killed, the
        same call goes on from there and ends with the same model to the bit, given a fixed
        ``random_state``; once it is done, the file is removed.
    verbose : int
        0 is silent, 1 shows a progress bar.

    Attributes
    ----------
    model_ : torch.nn.Module
        The fitted model, in evaluation mode.
    history_ : list of dict
        A record per epoch.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    device: str = "auto"
    start: str | None = None
    random_state: RandomState = None
    log: str | None = None
    checkpoint: str | None = None
    verbose: Literal[0, 1] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the subclass a dataclass, so that no field can be lost, and its help complete."""
        super().__init_subclass__(**kwargs)
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        cls.__doc__ = with_inherited(cls)

    # ---- what a system implements

    @abstractmethod
    def _prepare(self, X: Any, y: Any, device: torch.device) -> Data:
        """Validate training rows, learn what they look like, put them on the device."""

    @abstractmethod
    def _initialise(self, data: Data) -> None:
        """Start parameters at values read off the training data, where that helps."""

    @abstractmethod
    def _learn(self, data: Data, checkpoint: Checkpoint | None) -> None:
        """Fit ``model_``, on the device, to the training data; leave ``history_``."""

    # ---- what a user calls

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from rows, afresh.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; ``NaN`` marks a missing entry. uint8 is read as pixels: 255 stands for one.
        y : array-like [n_samples], optional
            Labels, for systems that use them; -1 = unlabelled.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a field or the input is not what it should be; the message names it.
        NonFiniteError
            If training diverges.
        CheckpointError
            If ``checkpoint`` is damaged, or of another training.
        """
        self._check_fields()
        if self.verbose:
            engine.show_notices()
        device = engine.resolve_device(self.device)
        parallel.join(device)
        self.seed_, self._left_out = draw_seed(self.random_state), ()
        data = self._prepare(X, y, device)
        self._as_described = False
        with engine.private_randomness(device):
            engine.seed(self.seed_)
            with engine.single_precision():
                self._adopt(self._build())
            self._initialise(data)
        if self.start is not None:
            self._start_from(self.start)
        checkpoint = self._checkpoint(data)
        self._move(device)
        self._learn(data, checkpoint)
        if checkpoint is not None and parallel.is_main():
            checkpoint.remove()
        return self

    def to(self, device: str) -> Self:
        """Move the fitted model: what it computes next, it computes there.

        A model that was loaded is on the CPU.

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
            If there is no such device here.
        sklearn.exceptions.NotFittedError
            If there is nothing to move yet.
        """
        self._check_fitted()
        self._move(engine.resolve_device(device))
        return self

    # ---- how it is done

    def _move(self, device: torch.device) -> None:
        for module in self._modules().values():
            engine.moved(module, device)

    def _check_fields(self) -> None:
        for name, hint in hints(type(self)).items():
            check(name, getattr(self, name), hint)
        self._check_combination()

    @abstractmethod
    def _check_combination(self) -> None:
        """Refuse fields that contradict one another."""

    def _check_fitted(self) -> None:
        check_is_fitted(self, "model_")

    def _callbacks(self) -> list[Callback]:
        bar: list[Callback] = [ProgressBar(type(self).__name__)] if self.verbose else []
        return bar if self.log is None else [*bar, curve_log(self.log)]

    def _checkpoint(self, data: Data) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        aside = ("checkpoint", "verbose", "random_state", "log")
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in aside}
        training = [type(self).__name__, params, self.seed_, data.fingerprint(), storage.versions()]
        return Checkpoint(self.checkpoint, identity=storage.digest(training))

    def _start_from(self, path: str) -> None:
        """Take the parameters of a saved model of the same shape."""
        with storage.named(f"start={path!r}"):
            weights, description = storage.load_model(storage.model_folder(path))
        prefix = "model_."
        theirs = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        try:
            self.model_.load_state_dict(theirs)
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip()
            raise ValueError(
                f"start={path!r} holds a {description['method']} of another shape than this one: "
                f"{reason}"
            ) from None
