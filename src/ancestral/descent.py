"""How an estimator goes downhill: fields that name an update rule, its rate and its length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ancestral.fields import Count, Fraction, Natural, Positive, Weight
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

LEAST_EPOCHS, MOST_EPOCHS, ENOUGH_STEPS = 20, 1000, 2000

SECOND_MOMENTS = 0.999
"""Adam's decay of second moments, where that of the first is chosen."""


@dataclass(kw_only=True, eq=False, repr=False)
class Descent:
    """Fields from which an optimiser is made.

    Parameters
    ----------
    max_epochs : int or "auto"
        Passes over the training rows; ``"auto"`` makes 20, or more on small data: as many as
        2,000 steps take, up to 1,000.
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
        Decoupled weight decay, as in AdamW (Loshchilov and Hutter, 2019): at every update
        weights shrink by the factor 1 - learning rate * this; biases and scales do not.
    clip_norm : float, optional
        Gradients longer than this are scaled down to it.
    clip_value : float, optional
        Entries of gradients are clipped to [-clip_value, clip_value], after ``clip_norm``.
    averaging : float, optional
        Evaluate with an exponential moving average of the parameters with this decay, say 0.999.
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
    averaging: Fraction | None = None

    def _check_descent(self) -> None:
        """Refuse fields that contradict one another."""
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
                f"{told}: expected {len(self.drops) + 1} numbers, one up to the first of the drops "
                f"({len(self.drops)} of them) and one after each"
            )

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

    def _n_epochs(self, n_batches: int) -> int:
        """Return how many passes of so many steps to make."""
        if self.max_epochs != "auto":
            return self.max_epochs
        return min(max(LEAST_EPOCHS, -(-ENOUGH_STEPS // n_batches)), MOST_EPOCHS)
