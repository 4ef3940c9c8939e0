"""The one loop: players take turns at moving their parameters down their objectives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ancestral import engine
from ancestral.data import Data
from ancestral.objectives.base import Objective
from ancestral.optim import Optimizer, State, adam


@dataclass
class Player:
    """Who moves which parameters, by which objective and optimiser, how often.

    Parameters
    ----------
    params : Module or iterable of Parameter
        What this player moves; players move disjoint parameters.
    objective : Objective
        What it minimises.
    optimizer : Optimizer
        How.
    every : int
        It moves at every ``every``-th step only.
    repeat : int
        It moves this often in a row.
    """

    params: nn.Module | Iterable[nn.Parameter]
    objective: Objective
    optimizer: Optimizer = field(default_factory=adam)
    every: int = 1
    repeat: int = 1


class History(list[dict[str, float]]):
    """One record per epoch: ``epoch``, ``step``, ``seconds``, and the mean of every term.

    Examples
    --------
    >>> History([{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}]).curve("loss")
    [3.0, 2.0]
    """

    def curve(self, name: str) -> list[float]:
        """Return one column, in the order of the epochs."""
        return [record[name] for record in self if name in record]


@dataclass(frozen=True)
class Progress:
    """What a callback is told: where training stands.

    Attributes
    ----------
    event : str
        ``start``, ``step``, ``epoch`` or ``end``.
    epoch, n_epochs, step, n_steps : int
        Done so far, and in all.
    model : Module
        In training.
    history : History
        The records so far.
    """

    event: str
    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    model: nn.Module
    history: History


Callback = Callable[[Progress], None]


class NonFiniteError(FloatingPointError):
    """A term of an objective became infinite or not a number."""


class _Seat:
    """A player with its flat parameters and optimiser state."""

    def __init__(self, name: str, player: Player, parameters: Sequence[nn.Parameter]) -> None:
        self.name, self.player = name, player
        self.flat = engine.FlatParameters(parameters)
        self.state: State = player.optimizer.init(self.flat.vector)
        self.updates = 0

    def move(self, model: nn.Module, batch: object, n_steps: int) -> dict[str, Tensor]:
        terms = self.player.objective(model, batch)  # type: ignore[arg-type]
        loss = torch.stack(list(terms.values())).sum()
        gradient = self.flat.gradient(loss)
        with torch.no_grad():
            self.player.optimizer.update(
                self.flat.vector, gradient, self.state, self.updates, n_steps
            )
        self.updates += 1
        return {"loss": loss.detach(), **{k: v.detach() for k, v in terms.items()}}

    def turns(self, step: int) -> int:
        return self.player.repeat if step % self.player.every == 0 else 0

    def n_updates(self, n_steps: int) -> int:
        return -(-n_steps // self.player.every) * self.player.repeat


def train(
    model: nn.Module,
    players: Player | Mapping[str, Player],
    data: Data,
    *,
    max_epochs: int,
    batch_size: int = 100,
    shuffle: bool = True,
    random_state: int = 0,
    validation: Data | None = None,
    callbacks: Sequence[Callback] = (),
) -> History:
    """Train a model: the one loop of this library.

    Every step takes one minibatch; the players then move in order, each seeing the moves before
    its own. All noise of a step comes from a stream seeded by (random_state, step), so that the
    same seed gives the same result to the bit and the user's own streams are untouched.

    Parameters
    ----------
    model : Module
        Trained in place and left in evaluation mode; batch-normalised ones still need
        :func:`ancestral.networks.calibrate`.
    players : Player or mapping of str to Player
        With several, their terms are recorded as ``name.term``.
    data : Data
        The rows.
    max_epochs, batch_size : int
        Passes over the rows, and rows a step (at most as many as there are).
    shuffle : bool
        Visit the rows in a new order every epoch; without, the same batches recur.
    random_state : int
        Seeds order and noise.
    validation : Data, optional
        Held-out rows on which every term is evaluated after each epoch (recorded as
        ``validation.term``), batch normalisation by the statistics of the batch at hand.
    callbacks : sequence of callable
        Told of the start, every step, every epoch and the end.

    Returns
    -------
    History
        A record per epoch.

    Raises
    ------
    NonFiniteError
        If a term becomes infinite or not a number; the message names it, the step and the cures.
    """
    named = {"": players} if isinstance(players, Player) else dict(players)
    parameters = _parameters(named)
    seats = [_Seat(name, player, parameters[name]) for name, player in named.items()]
    n_epoch_steps = -(-len(data) // min(batch_size, len(data)))
    n_steps, step = max_epochs * n_epoch_steps, 0
    history, began = History(), time.perf_counter()

    def tell(event: str, epoch: int) -> None:
        for callback in callbacks:
            callback(Progress(event, epoch, max_epochs, step, n_steps, model, history))

    tell("start", 0)
    try:
        with engine.private_randomness(data.device):
            for epoch in range(max_epochs):
                model.train()
                engine.seed(random_state, epoch, 1)
                data.start_epoch()
                means = _Means()
                for index in data.batches(
                    batch_size, seed=random_state, epoch=epoch, shuffle=shuffle
                ):
                    means.add(_step(model, seats, data, index, step, n_steps, random_state))
                    step += 1
                    tell("step", epoch)
                record = {"epoch": epoch + 1, "step": step, **means.take()}
                if validation is not None:
                    record |= _validate(model, seats, validation, batch_size, random_state)
                history.append(record | {"seconds": time.perf_counter() - began})
                tell("epoch", epoch + 1)
    finally:
        for seat in seats:
            seat.flat.release()
        model.eval()
        tell("end", len(history))
    return history


def _step(
    model: nn.Module,
    seats: Sequence[_Seat],
    data: Data,
    index: Tensor,
    step: int,
    n_steps: int,
    random_state: int,
) -> dict[str, Tensor]:
    engine.seed(random_state, step)
    batch = data.take(index)
    terms: dict[str, Tensor] = {}
    for seat in seats:
        for _ in range(seat.turns(step)):
            moved = seat.move(model, batch, seat.n_updates(n_steps))
            terms |= {_label(seat.name, k): v for k, v in moved.items()}
    _check_finite(terms, step)
    return terms


def _parameters(players: Mapping[str, Player]) -> dict[str, list[nn.Parameter]]:
    """What each player moves; raises if two move the same."""
    owners: dict[nn.Parameter, str] = {}
    for name, player in players.items():
        given = player.params
        for parameter in given.parameters() if isinstance(given, nn.Module) else given:
            owner = owners.setdefault(parameter, name)
            if owner != name:
                raise ValueError(
                    f"the players {owner!r} and {name!r} move the same parameter: "
                    "give each parameter to one of them"
                )
    return {name: [p for p, owner in owners.items() if owner == name] for name in players}


def _label(player: str, term: str) -> str:
    return f"{player}.{term}" if player else term


def _check_finite(terms: Mapping[str, Tensor], step: int) -> None:
    if not terms or torch.isfinite(torch.stack(list(terms.values()))).all():
        return
    broken = [(name, v.item()) for name, v in terms.items() if not v.isfinite()]
    name, value = broken[-1]  # the loss comes first: blame one of its terms
    raise NonFiniteError(
        f"the term {name!r} became {value} at step {step + 1}. Usual cures: a smaller "
        "learning_rate, standardised inputs, a bounded log-variance, or clipped gradients."
    )


def _validate(
    model: nn.Module, seats: Sequence[_Seat], data: Data, batch_size: int, random_state: int
) -> dict[str, float]:
    means = _Means()
    with torch.no_grad():
        n_batches = -(-len(data) // batch_size)
        for number, index in enumerate(torch.arange(len(data)).tensor_split(n_batches)):
            engine.seed(random_state, 0, number)
            batch = data.take(index.to(data.device))
            for seat in seats:
                terms = seat.player.objective(model, batch)
                named = {_label(seat.name, k): v for k, v in terms.items()}
                loss = torch.stack(list(terms.values())).sum()
                means.add({_label(seat.name, "loss"): loss, **named}, len(index))
    return {f"validation.{k}": v for k, v in means.take().items()}


class _Means:
    """Running means of named scalars, kept on the device until they are taken."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor], weight: int = 1) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * value.double()
            self.counts[name] = self.counts.get(name, 0) + weight

    def take(self) -> dict[str, float]:
        return {name: (self.sums[name] / self.counts[name]).item() for name in self.sums}
