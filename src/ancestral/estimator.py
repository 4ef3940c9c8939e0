"""The scikit-learn face: fit, save and load, written once for every system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, dataclass_transform

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ancestral import engine, parallel, storage
from ancestral.batching import Labelled, Shuffle
from ancestral.callbacks import ProgressBar, curve_log
from ancestral.checkpoint import Checkpoint
from ancestral.data import Data
from ancestral.docstrings import with_inherited
from ancestral.fields import (
    Count,
    Fraction,
    Natural,
    Positive,
    RandomState,
    Weight,
    as_tuples,
    check,
    draw_seed,
    hints,
)
from ancestral.labels import ClassLearner
from ancestral.networks import calibrate
from ancestral.optim import (
    RULES,
    SCHEDULES,
    Optimizer,
    averaged,
    clipped,
    dropped,
    in_turn,
    shrunk,
    warmed_up,
)
from ancestral.rounding import Bits, rounded
from ancestral.train import Callback, History, Player, Progress, train

LEAST_EPOCHS, MOST_EPOCHS, ENOUGH_STEPS = 20, 100, 1000

SECOND_MOMENTS = 0.999
"""Adam's decay of second moments, where that of the first is chosen."""


@dataclass_transform(kw_only_default=True, eq_default=False)
@dataclass(kw_only=True, eq=False, repr=False)
class Estimator(BaseEstimator, ABC):
    """A system with scikit-learn manners: its fields are the hyper-parameters.

    A subclass lists its fields (they become the constructor: every subclass is made a dataclass)
    and implements ``_prepare``, ``_build`` and ``_players``. Fields are checked at ``fit``
    against their type hints, and the command line reads its options off them.

    Parameters
    ----------
    max_epochs : int or "auto"
        Passes over the training rows; ``"auto"`` makes 20, or more on small data: as many as
        1,000 steps take, up to 100.
    batch_size : int
        Rows a step.
    optimizer : {"adam", "stale_adam", "adagrad", "sgd"}
        The update rule; ``"stale_adam"`` is Adam as the IWAE authors' code has it.
    learning_rate : float
        At the start.
    epsilon : float, optional
        What the rule adds to the root of its second moments; by default its own value.
    schedule : {"cosine", "constant", "late", "stages"}
        How the learning rate goes on: down to zero along half a cosine, not at all, down to a
        fiftieth in the last two thirds as in the memory networks' code, or down to a tenth in the
        eight stages of the IWAE paper.
    drops : list of int
        Epochs after which the learning rate is divided by ``drop_factor``, on top of its schedule,
        as the max-margin models' code does.
    drop_factor : float
        What each of them divides it by.
    momentum : float or list of float, optional
        How much of the last direction goes into the next: the friction of ``"sgd"``, which by
        default has none, or the decay of Adam's first moments, by default the rule's own. A list,
        for ``"sgd"``, has one number up to the first of the ``drops`` and one after each, as the
        schedule of the moment-matching paper does.
    warmup : int
        Steps over which the learning rate rises at the start.
    weight_decay : float
        The share of themselves that weights lose in a step, beside the update rule, over the
        learning rate (Loshchilov and Hutter, 2019); biases and scales lose nothing.
    clip_norm : float, optional
        Gradients longer than this are scaled down to it.
    clip_value : float, optional
        Then their entries are held between minus this and this.
    validation_fraction : float
        Part of the training rows held out, for a held-out curve in ``history_``.
    patience : int, optional
        Stop early: when the held-out loss has not fallen for so many epochs; the model of the best
        epoch is kept. Needs a ``validation_fraction``. Games look at the squared MMD of samples
        to held-out rows.
    averaging : float, optional
        Evaluate with an exponential moving average of the parameters with this decay, say 0.999.
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

    max_epochs: Count | Literal["auto"] = "auto"
    batch_size: Count = 100
    optimizer: Literal["adam", "stale_adam", "adagrad", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    epsilon: Positive | None = None
    schedule: Literal["cosine", "constant", "late", "stages"] = "cosine"
    drops: tuple[Count, ...] = ()
    drop_factor: Positive = 3.0
    momentum: Fraction | tuple[Fraction, ...] | None = None
    warmup: Natural = 0
    weight_decay: Weight = 0.0
    clip_norm: Positive | None = None
    clip_value: Positive | None = None
    validation_fraction: Fraction = 0.0
    patience: Count | None = None
    averaging: Fraction | None = None
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
    _trained_against: ClassVar[tuple[str, ...]] = ()
    """Weights that training alone needs, by how their names begin."""

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
    def _build(self) -> dict[str, nn.Module]:
        """Make the modules (``model_`` among them) from fields and what ``_prepare`` learnt."""

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
        self.history_ = train(
            self.model_,
            self._players(),
            training,
            max_epochs=self._n_epochs(training),
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

    def save(
        self, path: Path | str, *, overwrite: bool = False, bits: Bits = 32, whole: bool = True
    ) -> None:
        """Save the fitted estimator as a folder of safetensors and JSON, whole or not at all.

        Under ``torchrun``, where all processes hold the same model, the first one writes it.

        Parameters
        ----------
        path : path
            The folder to make.
        overwrite : bool
            Put it in the place of a folder that is there.
        bits : {32, 16, 12, 8}
            Of the numbers in matrices and kernels; see :func:`ancestral.rounding.rounded`. Fewer
            are for shipping; loading makes them float32 again.
        whole : bool
            Or without what only training needs, as the critic of a game: a model loaded from it
            answers the same, and no training can start from it.

        Raises
        ------
        FileExistsError
            If ``path`` is there and ``overwrite`` false.
        sklearn.exceptions.NotFittedError
            If there is nothing to save yet.
        """
        self._check_fitted()
        check("bits", bits, Bits)
        if parallel.is_main():
            storage.write_folder(path, lambda f: self._write(f, bits, whole), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Load what :meth:`save` wrote, on the CPU; no code is executed.

        Raises
        ------
        ancestral.storage.ModelFileError
            If it is missing, damaged, altered, of another format, or of another system.
        """
        weights, description = storage.load_model(path)
        if description["method"] != cls.__name__:
            raise storage.ModelFileError(
                f"{path} holds a {description['method']}, not a {cls.__name__}: "
                "ancestral.load(path) finds the right class by itself"
            )
        try:
            estimator = cls._described(description)
            estimator.history_ = History(description["history"])
            with engine.single_precision():
                estimator._adopt(estimator._build())
            estimator._left_out = tuple(description.get("left_out", ()))
            for name, module in estimator._modules().items():
                prefix = f"{name}."
                own = {f"{prefix}{k}": v for k, v in module.state_dict().items()}
                untold = {k: v for k, v in own.items() if k.startswith(estimator._left_out)}
                there = {k: v for k, v in (untold | weights).items() if k.startswith(prefix)}
                module.load_state_dict({k.removeprefix(prefix): v for k, v in there.items()})
                module.eval()
        except (KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise storage.ModelFileError(
                f"{path}: its description does not fit its weights ({reason})"
            ) from None
        return estimator

    # ---- how it is done

    def _description(self) -> dict[str, Any]:
        """Return all that is known of the fitted estimator but its weights."""
        fitted = {
            k: v
            for k, v in vars(self).items()
            if k.endswith("_") and k != "history_" and not isinstance(v, nn.Module)
        }
        here = {"random_state": self.seed_, "checkpoint": None, "log": None, "start": None}
        params = self.get_params(deep=False) | here
        return {"method": type(self).__name__, "params": params, "fitted": fitted}

    @classmethod
    def _described(cls, description: Mapping[str, Any]) -> Self:
        """Return the estimator of a description, its modules yet to be made."""
        estimator = cls(**{k: as_tuples(v) for k, v in description["params"].items()})
        estimator.__dict__.update(description["fitted"])
        estimator.seed_ = int(estimator.seed_)
        estimator._as_described = True
        return estimator

    def _write(self, folder: Path, bits: Bits, whole: bool = True) -> None:
        left_out = self._left_out if whole else self._trained_against
        weights = {
            f"{name}.{key}": value
            for name, module in self._modules().items()
            for key, value in module.state_dict().items()
            if not f"{name}.{key}".startswith(left_out)
        }
        about = {"history": list(self.history_), "versions": storage.versions()}
        about |= {"left_out": list(left_out)} if left_out else {}
        storage.save_model(folder, rounded(weights, bits), self._description() | about)

    def _modules(self) -> dict[str, nn.Module]:
        return {k: v for k, v in vars(self).items() if isinstance(v, nn.Module)}

    def _adopt(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

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
        if self.drops and (self.max_epochs == "auto" or max(self.drops) >= self.max_epochs):
            raise ValueError(f"drops={self.drops}: epochs before max_epochs={self.max_epochs}")
        if self.epsilon is not None and self.optimizer == "sgd":
            raise ValueError(f"epsilon={self.epsilon}: optimizer='sgd' has no second moments")
        self._check_momentum()

    def _check_momentum(self) -> None:
        """Refuse a momentum that the update rule has no place for."""
        told = f"momentum={self.momentum}"
        if self.momentum is not None and self.optimizer == "adagrad":
            raise ValueError(f"{told}: optimizer='adagrad' has none; leave it out")
        if not isinstance(self.momentum, tuple | list):
            return
        if self.optimizer != "sgd":
            raise ValueError(f"{told}: expected one number, or optimizer='sgd'")
        if len(self.momentum) != len(self.drops) + 1:
            raise ValueError(
                f"{told}: expected {len(self.drops) + 1}, one before and after each of "
                f"drops={self.drops}"
            )

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

    def _optimizer(self, learning_rate: float | None = None) -> Optimizer:
        """Make the optimiser of the fields; of several players, each has its own rate."""
        rate = SCHEDULES[self.schedule](learning_rate or self.learning_rate)
        if self.drops:
            rate = dropped(rate, self._drop_shares(), self.drop_factor)
        if self.warmup:
            rate = warmed_up(rate, self.warmup)
        how: dict[str, Any] = {} if self.epsilon is None else {"eps": self.epsilon}
        optimizer = RULES[self.optimizer](rate, **how | self._inertia())
        if self.clip_norm is not None or self.clip_value is not None:
            optimizer = clipped(optimizer, self.clip_norm, self.clip_value)
        if self.weight_decay:
            optimizer = shrunk(optimizer, lambda step, n: self.weight_decay * rate(step, n))
        return optimizer if self.averaging is None else averaged(optimizer, self.averaging)

    def _drop_shares(self) -> list[float]:
        """Return the shares of training after which the learning rate drops."""
        assert self.max_epochs != "auto"
        return [epoch / self.max_epochs for epoch in self.drops]

    def _inertia(self) -> dict[str, Any]:
        """Return what the update rule is told of momentum, if anything."""
        if self.momentum is None:
            return {}
        if isinstance(self.momentum, tuple | list):
            turn, rise = in_turn(self.momentum, self._drop_shares()), self.warmup
            # with the drops, which a warm-up puts off
            return {"momentum": lambda step, n: turn(max(0, step - rise), n - rise)}
        if self.optimizer == "sgd":
            return {"momentum": self.momentum}
        return {"betas": (self.momentum, SECOND_MOMENTS)}

    def _start_from(self, path: str) -> None:
        """Take the parameters of a saved model of the same shape."""
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

    def _n_epochs(self, data: Data) -> int:
        if self.max_epochs != "auto":
            return self.max_epochs
        steps_an_epoch = data.makeup(self.batch_size, self._labelled_rows).n_batches
        return min(max(LEAST_EPOCHS, -(-ENOUGH_STEPS // steps_an_epoch)), MOST_EPOCHS)

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
