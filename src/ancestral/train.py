"""The one loop: players take turns at moving their parameters down their objectives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor, nn

from ancestral import engine
from ancestral.checkpoint import Checkpoint, Snapshot
from ancestral.data import Batch, Data
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

    def move(self, model: nn.Module, batch: Batch, n_steps: int) -> dict[str, Tensor]:
        terms = self.player.objective(model, batch)
        loss = torch.stack(list(terms.values())).sum()
        gradient = self.flat.gradient(loss)
        with torch.no_grad():
            self.player.optimizer.update(
                self.flat.vector, gradient, self.state, self.updates, n_steps
            )
        self.updates += 1
        named = {"loss": loss.detach(), **{k: v.detach() for k, v in terms.items()}}
        return {_label(self.name, k): v for k, v in named.items()}

    def turns(self, step: int) -> int:
        return self.player.repeat if step % self.player.every == 0 else 0

    def n_updates(self, n_steps: int) -> int:
        return -(-n_steps // self.player.every) * self.player.repeat

    def tensors(self) -> dict[str, Tensor]:
        return {"vector": self.flat.vector, **{f"state.{k}": v for k, v in self.state.items()}}


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


class _Training:
    """A training under way: what moves on, and what a checkpoint keeps of it."""

    def __init__(
        self, model: nn.Module, players: Mapping[str, Player], random_state: int, n_steps: int
    ) -> None:
        parameters = _parameters(players)
        self.model, self.random_state, self.n_steps = model, random_state, n_steps
        self.seats = [_Seat(name, player, parameters[name]) for name, player in players.items()]
        self.step, self.means, self.history = 0, _Means(), History()
        self.seconds_before, self.began = 0.0, time.perf_counter()

    def take_step(self, data: Data, index: Tensor) -> None:
        """Let every player whose turn it is move on the rows ``index``."""
        engine.seed(self.random_state, self.step)
        batch = data.take(index)
        terms: dict[str, Tensor] = {}
        for seat in self.seats:
            for _ in range(seat.turns(self.step)):
                terms |= seat.move(self.model, batch, seat.n_updates(self.n_steps))
        _check_finite(terms, self.step)
        self.means.add(terms)
        self.step += 1

    @property
    def seconds(self) -> float:
        """Time spent, that before a resume included."""
        return self.seconds_before + time.perf_counter() - self.began

    def snapshot(self) -> Snapshot:
        """Everything a resume needs; the noise to come needs only the step number."""
        tensors = {f"{s.name}/{k}": v for s in self.seats for k, v in s.tensors().items()}
        tensors |= {f"buffer/{k}": v for k, v in self.model.named_buffers()}
        tensors |= {f"sum/{k}": v for k, v in self.means.sums.items()}
        facts = {
            "step": self.step,
            "updates": [seat.updates for seat in self.seats],
            "counts": self.means.counts,
            "history": list(self.history),
            "seconds": self.seconds,
        }
        return Snapshot(tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where a snapshot was taken."""
        tensors, facts = snapshot
        own = self.snapshot().tensors
        for name, value in tensors.items():
            if name.startswith("sum/"):
                self.means.sums[name.removeprefix("sum/")] = value
            else:
                own[name].copy_(value)
        for seat, updates in zip(self.seats, facts["updates"], strict=True):
            seat.updates = updates
        self.step, self.means.counts = facts["step"], facts["counts"]
        self.history.extend(facts["history"])
        self.seconds_before = facts["seconds"]


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
    checkpoint: Checkpoint | None = None,
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
    checkpoint : Checkpoint, optional
        Where the state of training is kept from time to time. If it holds one of this very
        training, training goes on from there, and ends as if it had never stopped.

    Returns
    -------
    History
        A record per epoch.

    Raises
    ------
    NonFiniteError
        If a term becomes infinite or not a number; the message names it, the step and the cures.
    CheckpointError
        If the checkpoint is damaged, or of another training.
    """
    named = {"": players} if isinstance(players, Player) else dict(players)
    n_epoch_steps = -(-len(data) // min(batch_size, len(data)))
    training = _Training(model, named, random_state, max_epochs * n_epoch_steps)
    history = training.history

    def tell(event: str, epoch: int) -> None:
        for callback in callbacks:
            callback(
                Progress(event, epoch, max_epochs, training.step, training.n_steps, model, history)
            )

    try:
        with engine.private_randomness(data.device):
            if checkpoint is not None and (snapshot := checkpoint.load()) is not None:
                training.restore(snapshot)
            tell("start", len(history))
            for epoch in range(len(history), max_epochs):
                model.train()
                engine.seed(random_state, epoch, 1)
                data.start_epoch()
                batches = data.batches(batch_size, seed=random_state, epoch=epoch, shuffle=shuffle)
                for index in islice(batches, training.step - epoch * n_epoch_steps, None):
                    training.take_step(data, index)
                    tell("step", epoch)
                    if checkpoint is not None and checkpoint.is_due():
                        checkpoint.save(training.snapshot())
                record = {"epoch": epoch + 1, "step": training.step, **training.means.take()}
                training.means = _Means()
                if validation is not None:
                    record |= _validate(training, validation, batch_size)
                history.append(record | {"seconds": training.seconds})
                tell("epoch", epoch + 1)
    finally:
        for seat in training.seats:
            seat.flat.release()
        model.eval()
        tell("end", len(history))
    return history


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


def _validate(training: _Training, data: Data, batch_size: int) -> dict[str, float]:
    means = _Means()
    with torch.no_grad():
        n_batches = -(-len(data) // batch_size)
        for number, index in enumerate(torch.arange(len(data)).tensor_split(n_batches)):
            engine.seed(training.random_state, 0, number)
            batch = data.take(index.to(data.device))
            for seat in training.seats:
                terms = seat.player.objective(training.model, batch)
                named = {_label(seat.name, k): v for k, v in terms.items()}
                loss = torch.stack(list(terms.values())).sum()
                means.add({_label(seat.name, "loss"): loss, **named}, len(index))
    return {f"validation.{k}": v for k, v in means.take().items()}
