"""A training under way: what moves on from step to step, and what a checkpoint keeps of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ancestral import engine
from ancestral.checkpoint import Snapshot
from ancestral.data import Batch, Data
from ancestral.optim import State
from ancestral.train.players import History, Player


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
        with torch.enable_grad():
            terms = self.player.objective(model, batch)
            loss = torch.stack(list(terms.values())).sum()
            gradient = self.flat.gradient(loss)
        with torch.no_grad():
            self.player.optimizer.update(
                self.flat.vector, gradient, self.state, self.updates, n_steps
            )
        self.updates += 1
        named = {"loss": loss.detach(), **{k: v.detach() for k, v in terms.items()}}
        return {label(self.name, k): v for k, v in named.items()}

    def turns(self, step: int) -> int:
        return self.player.repeat if step % self.player.every == 0 else 0

    def n_updates(self, n_steps: int) -> int:
        return -(-n_steps // self.player.every) * self.player.repeat

    def tensors(self) -> dict[str, Tensor]:
        return {"vector": self.flat.vector, **{f"state.{k}": v for k, v in self.state.items()}}


class Means:
    """Running means of named scalars, kept on the device until they are taken."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor], weight: int = 1) -> None:
        """Count the values of one step, ``weight`` times."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * value.double()
            self.counts[name] = self.counts.get(name, 0) + weight

    def take(self) -> dict[str, float]:
        """Return the means as numbers."""
        return {name: (self.sums[name] / self.counts[name]).item() for name in self.sums}


class Training:
    """A training under way: what moves on, and what a checkpoint keeps of it."""

    def __init__(
        self, model: nn.Module, players: Mapping[str, Player], random_state: int, n_steps: int
    ) -> None:
        parameters = _parameters(players)
        self.model, self.random_state, self.n_steps = model, random_state, n_steps
        self.seats = [_Seat(name, player, parameters[name]) for name, player in players.items()]
        self.step, self.means, self.history = 0, Means(), History()
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


def label(player: str, term: str) -> str:
    """Return the name under which a player's term is recorded."""
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
