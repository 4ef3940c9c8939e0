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
    rate = SCHEDULES[params.schedule](learning_rate or params.learning_rate)
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
