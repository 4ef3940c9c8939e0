"""Training state of a player: flat parameters, optimiser state and compiled step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ancestral.data.batch import Batch
from ancestral.objectives.base import Objective
from ancestral.training import engine
from ancestral.training.optim import Rates, State
from ancestral.training.player import Player
from ancestral.utils import distributed
from ancestral.utils.distributed import World


class PlayerState:
    """Training state of one player.

    A step is a function of a batch: evaluate the objective, compute gradients, update. With one
    process it is one graph; with several it is two graphs, between which the flat gradient is
    averaged over processes.

    Parameters
    ----------
    name : str
        Name of the player, empty if it is the only one.
    player : Player
        Objective, optimiser and update frequency.
    parameters : sequence of Parameter
        Parameters that the player updates.
    model : Module
        Model that the objective is evaluated on.
    plan : Plan
        Execution plan of the steps.
    world : World
        Rank and number of processes.
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
        self.flat = engine.FlatParameters(parameters, plan.reduced_dtype)
        self.state: State = player.optimizer.init(self.flat.vector, self.flat.shapes)
        self.updates, self.terms = 0, list[str]()
        self.model_with_objective = _ModelWithObjective(model, player.objective)
        self.parameter_names = _parameter_names(self.model_with_objective, self.flat.parameters)
        is_traceable = player.objective.compilable and self.parameter_names is not None
        compiled, cuda_graph = plan.compiled and is_traceable, plan.cuda_graph and is_traceable
        self._full_step = engine.CompiledFunction(
            self._step, compiled=compiled, cuda_graph=cuda_graph
        )
        self._split_step = [
            engine.CompiledFunction(f, compiled=compiled) for f in (self._gradient, self._update)
        ]

    def take_step(self, batch: Batch, n_steps: int) -> Tensor:
        """Update the parameters once; return the loss and its terms, [1 + n_terms]."""
        n_updates = -(-n_steps // self.player.every) * self.player.repeat
        scalars = self.player.optimizer.rates(self.updates, n_updates)
        vector = self.flat.vector
        # non-blocking, because a GPU may still execute the previous step
        rates = torch.tensor(scalars, dtype=vector.dtype).to(vector.device, non_blocking=True)
        self.updates += 1
        if self.world.size == 1:
            self.terms, values = self._full_step(batch, rates)
            return values
        with distributed.sharded_batch(self.world):
            self.terms, values, gradient = self._split_step[0](batch)
        gradient_and_values = torch.cat([gradient, values])
        distributed.all_reduce_mean_(gradient_and_values, self.world)
        gradient, values = gradient_and_values.split([len(gradient), len(values)])
        self._split_step[1](gradient, rates)
        return values

    def evaluate(self, batch: Batch) -> Tensor:
        """Return the loss and its terms on a batch without an update, [1 + n_terms]."""
        with self.plan.autocast(batch.x.device):
            self.terms, values = _stack_terms(self.model_with_objective(batch))
        return values

    def _step(self, batch: Batch, rates: Tensor) -> tuple[list[str], Tensor]:
        terms, values, gradient = self._gradient(batch)
        self._update(gradient, rates)
        return terms, values

    def _gradient(self, batch: Batch) -> tuple[list[str], Tensor, Tensor]:
        """Return term names, the loss with its terms, and the flat gradient of the loss, [n]."""
        with torch.enable_grad():
            terms, values, leaves = self._evaluate_terms(batch)
            gradients = torch.autograd.grad(values[0], leaves, allow_unused=True)
        return terms, values.detach(), self.flat.gather(gradients)

    def _evaluate_terms(self, batch: Batch) -> tuple[list[str], Tensor, Sequence[Tensor]]:
        """Return term names, the loss with its terms, and the leaves to differentiate by."""
        with self.plan.autocast(batch.x.device):
            if self.parameter_names is None:
                return *_stack_terms(self.model_with_objective(batch)), self.flat.parameters
            leaves = self.flat.leaves()
            values = functional_call(
                self.model_with_objective,
                dict(zip(self.parameter_names, leaves, strict=True)),
                (batch,),
            )
            return *_stack_terms(values), leaves

    @torch.no_grad()
    def _update(self, gradient: Tensor, rates: Tensor) -> None:
        scalars: Rates = rates.unbind()
        self.player.optimizer.update(self.flat.vector, gradient, self.state, scalars)
        self.flat.refresh()

    def updates_at(self, step: int) -> int:
        """Return the number of updates at a step."""
        return self.player.repeat if step % self.player.every == 0 else 0

    def evaluation_vector(self) -> Tensor:
        """Return the flat parameters for evaluation, [n]."""
        return self.player.optimizer.evaluation_vector(self.flat.vector, self.state)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors to store in a checkpoint."""
        return {"vector": self.flat.vector, **{f"state.{k}": v for k, v in self.state.items()}}

    def named_terms(self, values: Iterable[float]) -> list[tuple[str, float]]:
        """Return the loss and its terms with the names under which they are recorded."""
        prefix = f"{self.name}." if self.name else ""
        return [(prefix + k, v) for k, v in zip(["loss", *self.terms], values, strict=False)]


class _ModelWithObjective(nn.Module):
    """Model and objective as one module, for ``torch.func.functional_call``."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective(self.model, batch)


def _stack_terms(terms: dict[str, Tensor]) -> tuple[list[str], Tensor]:
    """Return the term names and the loss followed by its terms, [1 + n_terms]."""
    values = torch.stack(list(terms.values()))
    return list(terms), torch.cat([values.sum().unsqueeze(0), values])


def _parameter_names(module: nn.Module, parameters: Sequence[nn.Parameter]) -> list[str] | None:
    """Return the names of the parameters in the module, or None if it lacks one of them."""
    names = {p: name for name, p in module.named_parameters()}
    return [names[p] for p in parameters] if all(p in names for p in parameters) else None
