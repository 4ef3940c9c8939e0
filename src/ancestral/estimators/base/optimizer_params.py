"""Optimiser, schedule and number of epochs from the hyper-parameters of an estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ancestral.estimators.base.gradient import GradientEstimator


MIN_EPOCHS, MAX_EPOCHS, TARGET_STEPS = 20, 1000, 2000
"""Limits of ``max_epochs="auto"``, and the number of steps that it aims at."""

ADAM_BETA2 = 0.999
"""Adam's decay of second moments where that of first moments is given."""


def check_optimizer_params(params: GradientEstimator) -> None:
    """Raise ``ValueError`` for optimiser parameters that contradict one another."""
    drops, max_epochs = params.drops, params.max_epochs
    if drops and (max_epochs == "auto" or max(drops) >= max_epochs):
        raise ValueError(f"drops={drops}: expected epochs before max_epochs={max_epochs}")
    if params.epsilon is not None and params.optimizer == "sgd":
        raise ValueError(f"epsilon={params.epsilon}: optimizer='sgd' has no second moments")
    _check_momentum(params)


def _check_momentum(params: GradientEstimator) -> None:
    given, drops = f"momentum={params.momentum}", params.drops
    if params.momentum is not None and params.optimizer == "adagrad":
        raise ValueError(f"{given}: optimizer='adagrad' has no momentum; leave it out")
    if not isinstance(params.momentum, tuple | list):
        return
    if params.optimizer != "sgd":
        raise ValueError(f"{given}: expected one number, or optimizer='sgd'")
    if len(params.momentum) != len(drops) + 1:
        raise ValueError(
            f"{given}: expected {len(drops) + 1} numbers, one up to the first of the drops "
            f"({len(drops)} of them) and one after each"
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
    rate = SCHEDULES[params.schedule](learning_rate or params.learning_rate)
    if params.drops:
        rate = step_decay(rate, _drop_fractions(params), params.drop_factor)
    if params.warmup:
        rate = with_warmup(rate, params.warmup)
    options: dict[str, Any] = {} if params.epsilon is None else {"eps": params.epsilon}
    optimizer = RULES[params.optimizer](rate, **options | _momentum_options(params))
    if params.clip_norm is not None or params.clip_value is not None:
        optimizer = clip(optimizer, params.clip_norm, params.clip_value)
    if params.weight_decay:
        optimizer = weight_decay(optimizer, lambda step, n: params.weight_decay * rate(step, n))
    return optimizer if params.averaging is None else ema(optimizer, params.averaging)


def n_epochs(params: GradientEstimator, n_batches: int) -> int:
    """Return the number of epochs of ``n_batches`` steps each."""
    if params.max_epochs != "auto":
        return params.max_epochs
    return min(max(MIN_EPOCHS, -(-TARGET_STEPS // n_batches)), MAX_EPOCHS)


def _drop_fractions(params: GradientEstimator) -> list[float]:
    """Return the fractions of training after which the learning rate drops."""
    assert params.max_epochs != "auto"
    return [epoch / params.max_epochs for epoch in params.drops]


def _momentum_options(params: GradientEstimator) -> dict[str, Any]:
    """Return the options of the update rule that set its momentum."""
    if params.momentum is None:
        return {}
    if isinstance(params.momentum, tuple | list):
        momentum, warmup = (
            piecewise_constant(params.momentum, _drop_fractions(params)),
            params.warmup,
        )
        # changes with the drops, which a warm-up delays
        return {"momentum": lambda step, n: momentum(max(0, step - warmup), n - warmup)}
    if params.optimizer == "sgd":
        return {"momentum": params.momentum}
    return {"betas": (params.momentum, ADAM_BETA2)}
