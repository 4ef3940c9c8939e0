"""The scikit-learn face of every system: fields that are checked, and ``fit``, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, dataclass_transform

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ancestral import engine, parallel, storage
from ancestral.batching import Labelled, Shuffle
from ancestral.callbacks import ProgressBar, curve_log
from ancestral.checkpoint import Checkpoint
from ancestral.data import Data
from ancestral.descent import Descent
from ancestral.docstrings import with_inherited
from ancestral.fields import Count, Fraction, RandomState, check, draw_seed, hints
from ancestral.labels import ClassLearner
from ancestral.networks import calibrate
from ancestral.saving import Saved
from ancestral.train import Callback, Player, Progress, train


@dataclass_transform(kw_only_default=True, eq_default=False)
@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(Descent, Saved, ABC):
    """A system with scikit-learn manners: its fields are the hyper-parameters.

    A subclass lists its fields (they become the constructor: every subclass is made a dataclass)
    and implements ``_prepare``, ``_build`` and ``_players``. Fields are checked at ``fit``
    against their type hints, and the command line reads its options off them.

    Parameters
    ----------
    validation_fraction : float
        Part of the training rows held out, for a held-out curve in ``history_``.
    patience : int, optional
        Stop early: when the held-out loss has not fallen for so many epochs; the model of the best
        epoch is kept. Needs a ``validation_fraction``. Games look at the squared MMD of samples
        to held-out rows.
    device : str
        ``auto`` (CUDA where there is some, else MPS, else the CPU), ``cpu``, ``cuda`` or ``mps``.
    precision : {"auto", "float32", "bfloat16"}
        Of the matrix products of training; parameters and sums stay in float32. ``"auto"`` is
        bfloat16 where it has hardware of its own (GPUs, and CPUs with AMX or
        AVX-512's bfloat16).
    compile : "auto" or bool
        Make training steps one compiled graph; ``"auto"`` does so when there is enough to do, by a
        fixed rule. Results agree within rounding.
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

    validation_fraction: Fraction = 0.0
    patience: Count | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    start: str | None = None
    random_state: RandomState = None
    log: str | None = None
    checkpoint: str | None = None
    verbose: Literal[0, 1] = 0

    _shuffle: ClassVar[Shuffle] = True
    _criterion: ClassVar[str] = "loss"
    _fewest_held_out: ClassVar[int] = 1
    """Rows, by which something is to be seen."""

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
    def _players(self) -> Player | Mapping[str, Player]:
        """Say who moves which parameters of ``model_``, by which objective."""

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
        data = self._prepare(X, y, device)
        self.seed_, self._left_out = draw_seed(self.random_state), ()
        self._as_described = False
        with engine.private_randomness(device):
            engine.seed(self.seed_)
            with engine.single_precision():
                self._adopt(self._build())
            self._initialise(data)
        if self.start is not None:
            self._start_from(self.start)
        checkpoint = self._checkpoint(data)
        training, validation = self._split(data)
        self.n_rows_ = len(training)
        self._move(device)
        makeup = training.makeup(self.batch_size, self._labelled_rows)
        self.history_ = train(
            self.model_,
            self._players(),
            training,
            max_epochs=self._n_epochs(makeup.n_batches),
            batch_size=self.batch_size,
            random_state=self.seed_,
            validation=validation,
            patience=self.patience,
            criterion=self._criterion,
            watch=self._look if isinstance(self, Watched) else None,
            callbacks=self._callbacks(),
            checkpoint=checkpoint,
            compile=self.compile,
            precision=self.precision,
            shuffle=self._shuffle,
            n_labelled=self._labelled_rows,
        )
        self._calibrate(training)
        if isinstance(self, ClassLearner):
            self._learn_scores(training)
            self._learn_temperature(training, validation)
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
        if self.patience is not None and self.validation_fraction == 0:
            raise ValueError(
                f"patience={self.patience} looks at held-out rows: set validation_fraction too"
            )
        self._check_descent()

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

    @property
    def _labelled_rows(self) -> Labelled:
        """How many rows of a step have a label, for those that learn from others too."""
        return self.n_labelled if isinstance(self, PartlyLabelled) else None

    def _split(self, data: Data) -> tuple[Data, Data | None]:
        n_held_out = round(self.validation_fraction * len(data))
        if self.validation_fraction == 0:
            return data, None
        if not 0 < n_held_out < len(data):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(data)} rows leaves "
                "nothing to train on or nothing to hold out"
            )
        if n_held_out < self._fewest_held_out:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves {n_held_out} rows, and "
                f"{type(self).__name__} is compared with {self._fewest_held_out} or more"
            )
        order = np.random.default_rng(self.seed_).permutation(len(data))
        # held-out rows as drawn: the first of them stand for all, however the rows were sorted
        return data.subset(np.sort(order[n_held_out:])), data.subset(order[:n_held_out])

    def _calibrate(self, data: Data) -> None:
        def passes() -> None:
            how: dict[str, Any] = {"seed": self.seed_, "n_labelled": self._labelled_rows}
            with engine.private_randomness(data.device):
                for number, index in enumerate(data.batches(self.batch_size, **how)):
                    engine.seed(self.seed_, number)
                    self.model_.run(data.take(index))

        calibrate(self.model_, passes)


class Watched(ABC):
    """An estimator whose model is looked at after every epoch."""

    @abstractmethod
    def _look(self, progress: Progress, held_out: Data | None) -> Mapping[str, float]:
        """Return what is seen, for the record; see ``watch`` of :func:`ancestral.train.train`."""


class PartlyLabelled(Estimator, ABC):
    """An estimator of classes that learns from rows without a label (-1) too.

    Parameters
    ----------
    n_labelled : int or "share"
        Where some rows are unlabelled: how many of the ``batch_size`` rows of a step have a label,
        or their share of the rows, rounded up. What is learnt of labels is a mean over the labelled
        rows of a step, so it counts as its weight says however few they are. They go round in an
        order of their own; with more than their share they also count for more in the bound. An
        epoch is over when every row was visited.
    """

    n_labelled: Count | Literal["share"] = "share"
