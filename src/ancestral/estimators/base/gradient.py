"""Base class of estimators trained by stochastic gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from ancestral.data.device_data import DeviceData
from ancestral.data.sampling import LabelledCount, Shuffle
from ancestral.estimators.base.estimator import Estimator
from ancestral.nn import calibrate
from ancestral.training import Player, Progress, engine, train
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.early_stopping import report_rise
from ancestral.training.optim import (
    RULES,
    SCHEDULES,
    Optimizer,
    clip,
    ema,
    piecewise_constant,
    step_decay,
    weight_decay,
    with_warmup,
)
from ancestral.utils.hooks import hook
from ancestral.utils.validation import Count, Fraction, Natural, Positive, Weight


class GradientEstimator(Estimator, ABC):
    """An estimator whose model is trained by :func:`ancestral.training.train`.

    A subclass implements ``_build`` and ``_players``.

    Parameters
    ----------
    max_epochs : int or "auto"
        Passes over the training rows; ``"auto"`` makes 20, or on small data the number that 2,000
        steps need, at most 1,000.
    batch_size : int
        Rows per step.
    optimizer : {"adam", "iwae_adam", "adagrad", "sgd"}
        Update rule; ``"iwae_adam"`` is Adam as in the IWAE authors' code.
    learning_rate : float
        Initial learning rate.
    eps : float, optional
        Constant added to the root of the second moments; by default that of the update rule.
    schedule : {"cosine", "constant", "delayed_exponential", "iwae_stages"}
        Learning-rate schedule: half a cosine to zero, constant, exponential decay to a fiftieth
        over the last two thirds as in the memory networks' code, or the eight stages of the IWAE
        paper down to a tenth.
    lr_milestones : list of int
        Epochs after which the learning rate is divided by ``lr_decay``, on top of the schedule,
        as in the max-margin models' code.
    lr_decay : float
        Divisor of the learning rate at each drop.
    momentum : float or list of float, optional
        Momentum of ``"sgd"``; by default none. A list has one value up to the first of the
        ``lr_milestones`` and one after each, as in the schedule of the moment-matching paper.
    beta1 : float, optional
        Decay of Adam's first moments; by default that of the update rule.
    warmup_steps : int
        Steps of linear increase of the learning rate at the start.
    weight_decay : float
        Decoupled weight decay, as in AdamW (Loshchilov and Hutter, 2019): every update multiplies
        weights by 1 - learning rate * weight_decay; biases and scales are exempt.
    clip_norm : float, optional
        Maximum norm of the gradient; longer gradients are rescaled.
    clip_value : float, optional
        Entries of the gradient are clipped to [-clip_value, clip_value], after ``clip_norm``.
    ema_decay : float, optional
        Decay of an exponential moving average of the parameters, used for evaluation; for example
        0.999.
    validation_fraction : float
        Fraction of the training rows held out for a validation curve in ``history_``.
    patience : int, optional
        Number of epochs without a lower validation loss after which training stops early; the
        model of the best epoch is restored. Requires a ``validation_fraction``. GANs use the
        squared MMD between samples and held-out rows.
    precision : {"auto", "float32", "bfloat16"}
        Precision of matrix products in training; parameters and sums are float32. ``"auto"`` is
        bfloat16 where the hardware has bfloat16 products (GPUs, CPUs with AMX or AVX-512
        bfloat16).
    compile : "auto" or bool
        Compile the training step to one graph; ``"auto"`` decides by a fixed rule from the amount
        of work. Results agree within rounding.
    """

    max_epochs: Count | Literal["auto"] = "auto"
    batch_size: Count = 100
    optimizer: Literal["adam", "iwae_adam", "adagrad", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    eps: Positive | None = None
    schedule: Literal["cosine", "constant", "delayed_exponential", "iwae_stages"] = "cosine"
    lr_milestones: tuple[Count, ...] = ()
    lr_decay: Positive = 3.0
    momentum: Fraction | tuple[Fraction, ...] | None = None
    beta1: Fraction | None = None
    warmup_steps: Natural = 0
    weight_decay: Weight = 0.0
    clip_norm: Positive | None = None
    clip_value: Positive | None = None
    ema_decay: Fraction | None = None
    validation_fraction: Fraction = 0.0
    patience: Count | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto"] | bool = "auto"

    _shuffle: ClassVar[Shuffle] = True
    """Order of rows: new for every epoch, or the same batches in every epoch (``"once"``)."""

    _criterion: ClassVar[str] = "loss"
    """Name of the validation record that early stopping minimises."""

    _min_held_out: ClassVar[int] = 1
    """Smallest number of held-out rows."""

    @abstractmethod
    def _players(self) -> Player | Mapping[str, Player]:
        """Return the players: parameters of ``model_`` with their objective and optimiser."""

    @hook
    def _epoch_metrics(
        self,
        progress: Progress,  # noqa: ARG002
        held_out: DeviceData | None,  # noqa: ARG002
    ) -> Mapping[str, float]:
        """Return metrics of the model after an epoch; see ``epoch_metrics`` of :func:`train`."""
        return {}

    @property
    @hook
    def _n_labelled_per_batch(self) -> LabelledCount:
        """Number of labelled rows per batch of a semi-supervised estimator."""
        return None

    def _optimizer(self, learning_rate: float | None = None) -> Optimizer:
        """Return a new optimiser; of several players, each has its own learning rate."""
        return build_optimizer(self, learning_rate)

    def _check_params(self) -> None:
        check_held_out(self.patience, self.validation_fraction)
        check_optimizer_params(self)

    def _fit_model(self, data: DeviceData, checkpoint: Checkpoint | None) -> None:
        patience = self._resolved("patience")
        check_held_out(patience, self._resolved("validation_fraction"))
        training, validation = self._split(data)
        self.n_rows_ = len(training)
        sampler = training.make_batch_sampler(self.batch_size, self._n_labelled_per_batch)
        watches = type(self)._epoch_metrics is not GradientEstimator._epoch_metrics
        self.history_ = train(
            self.model_,
            self._players(),
            training,
            max_epochs=n_epochs(self, sampler.n_batches),
            batch_size=self.batch_size,
            random_state=self.seed_,
            validation=validation,
            patience=patience,
            criterion=self._criterion,
            epoch_metrics=self._epoch_metrics if watches else None,
            callbacks=self._callbacks(),
            checkpoint=checkpoint,
            compile=self.compile,
            precision=self.precision,
            shuffle=self._shuffle,
            n_labelled=self._n_labelled_per_batch,
        )
        if validation is not None:
            report_rise(self.history_, type(self).__name__, self._criterion, patience)
        self._calibrate(training)
        self._after_training(training, validation)

    def _split(self, data: DeviceData) -> tuple[DeviceData, DeviceData | None]:
        """Return training and held-out rows."""
        fraction = self._resolved("validation_fraction")
        n_held_out = round(fraction * len(data))
        if fraction == 0:
            return data, None
        if not 0 < n_held_out < len(data):
            raise ValueError(
                f"validation_fraction={fraction} of {len(data)} rows leaves "
                "nothing to train on or nothing to hold out"
            )
        if len(data) - n_held_out < 2:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(data)} rows leaves one "
                "training row: expected at least two"
            )
        if n_held_out < self._min_held_out:
            raise ValueError(
                f"validation_fraction={fraction} holds out {n_held_out} rows: "
                f"{type(self).__name__} needs at least {self._min_held_out}"
            )
        order = np.random.default_rng(self.seed_).permutation(len(data))
        # held-out rows stay shuffled: a prefix of them is a random sample
        return data.subset(np.sort(order[n_held_out:])), data.subset(order[:n_held_out])

    def _calibrate(self, data: DeviceData) -> None:
        """Set the statistics of batch normalisation by one pass over the training rows."""

        def run_all() -> None:
            batches = data.batch_indices(
                self.batch_size, seed=self.seed_, n_labelled=self._n_labelled_per_batch
            )
            with engine.fork_rng(data.device):
                for number, index in enumerate(batches):
                    engine.seed(self.seed_, number)
                    self.model_.run(data.batch_at(index))  # type: ignore[operator]

        calibrate(self.model_, run_all)


MIN_EPOCHS, MAX_EPOCHS, TARGET_STEPS = 20, 1000, 2000
"""Limits of ``max_epochs="auto"``, and the number of steps that it aims at."""

ADAM_BETA2 = 0.999
"""Adam's decay of second moments where that of first moments is given."""


def check_held_out(patience: int | str | None, validation_fraction: float | str) -> None:
    """Raise ``ValueError`` for early stopping without held-out rows."""
    if patience not in (None, "auto") and validation_fraction == 0:
        raise ValueError(f"patience={patience} compares held-out rows: set validation_fraction too")


def check_optimizer_params(params: GradientEstimator) -> None:
    """Raise ``ValueError`` for optimiser parameters that contradict one another."""
    milestones, max_epochs, rule = params.lr_milestones, params.max_epochs, params.optimizer
    if milestones and (max_epochs == "auto" or max(milestones) >= max_epochs):
        raise ValueError(
            f"lr_milestones={milestones}: expected epochs before max_epochs={max_epochs}"
        )
    if params.eps is not None and rule == "sgd":
        raise ValueError(f"eps={params.eps}: optimizer='sgd' has no second moments")
    if params.beta1 is not None and rule not in ("adam", "iwae_adam"):
        raise ValueError(f"beta1={params.beta1} is for Adam and optimizer={rule!r}: leave it out")
    if params.momentum is None:
        return
    if rule != "sgd":
        raise ValueError(
            f"momentum={params.momentum} is for optimizer='sgd' and optimizer={rule!r}: leave it "
            "out (Adam's decay of first moments is beta1)"
        )
    n = len(milestones) + 1
    if isinstance(params.momentum, tuple | list) and len(params.momentum) != n:
        raise ValueError(
            f"momentum={params.momentum}: expected one number, or {n} numbers, one up to the first "
            "of the lr_milestones and one after each"
        )


def build_optimizer(params: GradientEstimator, learning_rate: float | None = None) -> Optimizer:
    """Return the optimiser of an estimator's hyper-parameters.

    Parameters
    ----------
    params : GradientEstimator
        Estimator whose fields name rule, rate, schedule, momentum, clipping, decay and averaging.
    learning_rate : float, optional
        Initial learning rate of one of several players; by default that of ``params``.
    """
    rate = SCHEDULES[params.schedule](learning_rate or params._resolved("learning_rate"))
    if params.lr_milestones:
        rate = step_decay(rate, _milestone_fractions(params), params.lr_decay)
    if params.warmup_steps:
        rate = with_warmup(rate, params.warmup_steps)
    options: dict[str, Any] = {} if params.eps is None else {"eps": params.eps}
    optimizer = RULES[params.optimizer](rate, **options | _momentum_options(params))
    if params.clip_norm is not None or params.clip_value is not None:
        optimizer = clip(optimizer, params.clip_norm, params.clip_value)
    if params.weight_decay:
        optimizer = weight_decay(optimizer, lambda step, n: params.weight_decay * rate(step, n))
    return optimizer if params.ema_decay is None else ema(optimizer, params.ema_decay)


def n_epochs(params: GradientEstimator, n_batches: int) -> int:
    """Return the number of epochs of ``n_batches`` steps each."""
    if params.max_epochs != "auto":
        return params.max_epochs
    return min(max(MIN_EPOCHS, -(-TARGET_STEPS // n_batches)), MAX_EPOCHS)


def _milestone_fractions(params: GradientEstimator) -> list[float]:
    """Return the fractions of training after which the learning rate drops."""
    assert params.max_epochs != "auto"
    return [epoch / params.max_epochs for epoch in params.lr_milestones]


def _momentum_options(params: GradientEstimator) -> dict[str, Any]:
    """Return the options of the update rule that set its momentum."""
    if params.beta1 is not None:
        return {"betas": (params.beta1, ADAM_BETA2)}
    if params.momentum is None:
        return {}
    if not isinstance(params.momentum, tuple | list):
        return {"momentum": params.momentum}
    momentum, warmup = (
        piecewise_constant(params.momentum, _milestone_fractions(params)),
        params.warmup_steps,
    )
    # changes with the milestones, which a warm-up delays
    return {"momentum": lambda step, n: momentum(max(0, step - warmup), n - warmup)}
