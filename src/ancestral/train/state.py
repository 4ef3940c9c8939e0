"""A training under way: what moves on from step to step, and what a checkpoint keeps of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn

from ancestral import engine
from ancestral.checkpoint import Checkpoint, Snapshot
from ancestral.data import Data
from ancestral.parallel import World
from ancestral.train.players import History, Player, Progress
from ancestral.train.seat import Seat


class NonFiniteError(FloatingPointError):
    """A term of an objective became infinite or not a number."""


class Means:
    """Running means of named vectors of terms, kept on the device until they are taken."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor, weight: int = 1) -> None:
        """Count the values of one step, ``weight`` times."""
        values = values.to(engine.widest(values.device))
        self.sums[name] = (
            self.sums[name].add_(values, alpha=weight) if name in self.sums else (weight * values)
        )
        self.counts[name] = self.counts.get(name, 0) + weight

    def take(self) -> dict[str, list[float]]:
        """Return the means as numbers."""
        return {name: (self.sums[name] / self.counts[name]).tolist() for name in self.sums}


class Training:
    """A training under way: what moves on, and what a checkpoint keeps of it."""

    def __init__(
        self,
        model: nn.Module,
        players: Mapping[str, Player],
        random_state: int,
        n_steps: int,
        plan: engine.Plan,
        world: World,
    ) -> None:
        self.model, self.random_state, self.n_steps = model, random_state, n_steps
        self.plan, self.world = plan, world
        parameters = _parameters(players)
        if engine.convolves(model):  # pictures lie pixel by pixel, as the kernels want them
            engine.lay_out(model, torch.channels_last)
        self.seats = [
            Seat(name, player, parameters[name], model, plan, world)
            for name, player in players.items()
        ]
        self.step, self.means, self.history = 0, Means(), History()
        self.best: dict[str, Tensor] = {}
        self.seconds_before, self.began = 0.0, time.perf_counter()

    def take_step(self, data: Data, index: Tensor) -> None:
        """Let every player whose turn it is move on the rows ``index``."""
        engine.seed(self.random_state, self.step)
        batch = data.take(index).share(self.world)
        for seat in self.seats:
            for _ in range(seat.turns(self.step)):
                self.means.add(seat.name, seat.move(batch, self.n_steps))
        self.step += 1
        if self.step % FINITE_CHECKS[index.device.type] == 0:
            self.check_finite()

    def products(self) -> torch.autocast:
        """Return a context in which the model can be called, in the precision of its steps."""
        return self.plan.products(self.seats[0].flat.vector.device)

    def check_finite(self) -> None:
        """Stop where a term has left the numbers: a sum that did never comes back."""
        for seat in self.seats:
            total = self.means.sums.get(seat.name)
            if total is None or total.sum().isfinite():
                continue
            # the loss comes first: blame one of its terms
            name, value = [(k, v) for k, v in seat.named(total.tolist()) if not _finite(v)][-1]
            raise NonFiniteError(
                f"the term {name!r} became {value} at step {self.step}. Usual cures: a smaller "
                "learning_rate, standardised inputs, a bounded log-variance, or clipped gradients."
            )

    def take_means(self) -> dict[str, float]:
        """Return the mean of every term since the last call, by name."""
        self.check_finite()
        means, self.means = self.means.take(), Means()
        return {k: v for seat in self.seats for k, v in seat.named(means.get(seat.name, []))}

    def record(self, terms: Mapping[str, float]) -> None:
        """Add an epoch to the history."""
        counts = {"epoch": len(self.history) + 1, "step": self.step}
        self.history.append({**counts, **terms, "seconds": self.seconds})

    def progress(self, event: str, epoch: int, n_epochs: int) -> Progress:
        """Say where training stands."""
        n = self.n_steps
        return Progress(event, epoch, n_epochs, self.step, n, self.model, self.history)

    @property
    def seconds(self) -> float:
        """Time spent, that before a resume included."""
        return self.seconds_before + time.perf_counter() - self.began

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model read the parameters to evaluate with inside."""
        flats = [seat.flat for seat in self.seats if seat.result() is not seat.flat.vector]
        kept = [flat.vector.clone() for flat in flats]
        for seat in self.seats:
            seat.flat.write(seat.result())
        try:
            yield
        finally:
            for flat, vector in zip(flats, kept, strict=True):
                flat.write(vector)

    def remember_best(self) -> None:
        """Keep a copy of the parameters: none so far did better on held-out rows."""
        self.best = {seat.name: seat.result().clone() for seat in self.seats}

    def release(self) -> None:
        """Hand the parameters back to the model: the best, if they were kept, else the last."""
        for seat in self.seats:
            seat.flat.release(self.best.get(seat.name, seat.result()))
        engine.lay_out(self.model, torch.contiguous_format)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Save a snapshot, unless a term has left the numbers: then the one before is kept."""
        self.check_finite()
        if self.world.rank == 0:
            checkpoint.save(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Everything a resume needs; the noise to come needs only the step number."""
        tensors = {f"{s.name}/{k}": v for s in self.seats for k, v in s.tensors().items()}
        tensors |= {f"buffer/{k}": v for k, v in self.model.named_buffers()}
        tensors |= {f"sum/{k}": v for k, v in self.means.sums.items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        facts = {
            "step": self.step,
            "updates": [seat.updates for seat in self.seats],
            "terms": [seat.terms for seat in self.seats],
            "counts": self.means.counts,
            "history": list(self.history),
            "seconds": self.seconds,
            "plan": asdict(self.plan),
        }
        return Snapshot(tensors, facts)

    def restore(self, snapshot: Snapshot | None) -> None:
        """Go back to where a snapshot was taken, if there is one."""
        if snapshot is None:
            return
        tensors, facts = snapshot
        own = self.snapshot().tensors
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind in ("sum", "best") and name not in own:
                device = self.seats[0].flat.vector.device
                (self.means.sums if kind == "sum" else self.best)[rest] = value.to(device)
            else:
                own[name].copy_(value)
        for seat, updates, terms in zip(self.seats, facts["updates"], facts["terms"], strict=True):
            seat.updates, seat.terms = updates, terms
            seat.flat.refresh()
        self.step, self.means.counts = facts["step"], facts["counts"]
        self.history.extend(facts["history"])
        self.seconds_before = facts["seconds"]


FINITE_CHECKS = {"cpu": 1, "cuda": 50, "mps": 50}
"""Steps from one look at the terms to the next: where steps queue up, a look waits for them."""


def check_shares(players: Mapping[str, Player], batch_size: int, world: World) -> None:
    """Refuse what several processes can't share."""
    if batch_size % world.size:
        raise ValueError(
            f"batch_size={batch_size} can't be shared by {world.size} processes: take a multiple"
        )
    for name, player in players.items() if world.size > 1 else ():
        if not player.objective.separable:
            terms = ", ".join(player.objective.terms)
            raise ValueError(
                f"the objective {name or terms!r} ({terms}) compares the rows of a batch with one "
                f"another: {world.size} processes can't share its batches; train it in one"
            )


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


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
