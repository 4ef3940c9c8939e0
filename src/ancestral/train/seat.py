"""One player at work: its flat parameters, its optimiser's state, its step as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ancestral import engine, parallel
from ancestral.data import Batch
from ancestral.objectives.base import Objective
from ancestral.optim import Rates, State
from ancestral.parallel import World
from ancestral.train.players import Player


class Seat:
    """A player at work.

    Its step is one function of a batch: run the model, differentiate, update. Alone it is one
    graph; among several processes two, with one average of the flat gradient between them.
    """

    def __init__(
        self,
        name: str,
        player: Player,
        parameters: Sequence[nn.Parameter],
        model: nn.Module,
        plan: engine.Plan,
        world: World,
    ) -> None:
        self.name, self.player, self.world = name, player, world
        self.plan = plan
        self.flat = engine.FlatParameters(parameters, plan.reduced)
        self.state: State = player.optimizer.init(self.flat.vector, self.flat.shapes)
        self.updates, self.terms = 0, list[str]()
        self.game = _Game(model, player.objective)
        self.names = _names(self.game, self.flat.parameters)
        traces = player.objective.compiles and self.names is not None
        compiled, captured = plan.compiled and traces, plan.captured and traces
        self._whole = engine.Graph(self._step, compiled=compiled, captured=captured)
        self._halves = [engine.Graph(f, compiled=compiled) for f in (self._slope, self._update)]

    def move(self, batch: Batch, n_steps: int) -> Tensor:
        """Take one step; return the loss and its terms, [1 + number of terms]."""
        n_updates = -(-n_steps // self.player.every) * self.player.repeat
        numbers = self.player.optimizer.rates(self.updates, n_updates)
        vector = self.flat.vector
        # not to be waited for: a GPU is still busy with the step before
        rates = torch.tensor(numbers, dtype=vector.dtype).to(vector.device, non_blocking=True)
        self.updates += 1
        if self.world.size == 1:
            self.terms, values = self._whole(batch, rates)
            return values
        with parallel.splitting(self.world):
            self.terms, values, gradient = self._halves[0](batch)
        both = torch.cat([gradient, values])
        parallel.mean_(both, self.world)
        gradient, values = both.split([len(gradient), len(values)])
        self._halves[1](gradient, rates)
        return values

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the loss and its terms on other rows, with nothing moved."""
        with self.plan.products(batch.x.device):
            self.terms, values = _stack(self.game(batch))
        return values

    def _step(self, batch: Batch, rates: Tensor) -> tuple[list[str], Tensor]:
        terms, values, gradient = self._slope(batch)
        self._update(gradient, rates)
        return terms, values

    def _slope(self, batch: Batch) -> tuple[list[str], Tensor, Tensor]:
        """Loss and terms, and the gradient of the loss as one vector."""
        with torch.enable_grad():
            terms, values, leaves = self._play(batch)
            gradients = torch.autograd.grad(values[0], leaves, allow_unused=True)
        return terms, values.detach(), self.flat.gather(gradients)

    def _play(self, batch: Batch) -> tuple[list[str], Tensor, Sequence[Tensor]]:
        with self.plan.products(batch.x.device):
            if self.names is None:
                return *_stack(self.game(batch)), self.flat.parameters
            leaves = self.flat.leaves()
            values = functional_call(
                self.game, dict(zip(self.names, leaves, strict=True)), (batch,)
            )
            return *_stack(values), leaves

    @torch.no_grad()
    def _update(self, gradient: Tensor, rates: Tensor) -> None:
        numbers: Rates = rates.unbind()
        self.player.optimizer.update(self.flat.vector, gradient, self.state, numbers)
        self.flat.refresh()

    def turns(self, step: int) -> int:
        """Return how often the player moves at this step."""
        return self.player.repeat if step % self.player.every == 0 else 0

    def result(self) -> Tensor:
        """Return the parameters to evaluate with, as one vector."""
        return self.player.optimizer.result(self.flat.vector, self.state)

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"vector": self.flat.vector, **{f"state.{k}": v for k, v in self.state.items()}}

    def named(self, values: Iterable[float]) -> list[tuple[str, float]]:
        """Give the loss and its terms the names under which they are recorded."""
        prefix = f"{self.name}." if self.name else ""
        return [(prefix + k, v) for k, v in zip(["loss", *self.terms], values, strict=False)]


class _Game(nn.Module):
    """A model and an objective, as one module: what is called with other parameters in place."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective(self.model, batch)


def _stack(terms: dict[str, Tensor]) -> tuple[list[str], Tensor]:
    """Loss first, then the terms it is the sum of."""
    values = torch.stack(list(terms.values()))
    return list(terms), torch.cat([values.sum().unsqueeze(0), values])


def _names(game: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str] | None:
    """Names of the parameters inside the game; none if one of them is not part of it."""
    names = {p: name for name, p in game.named_parameters()}
    return [names[p] for p in parameters] if all(p in names for p in parameters) else None
