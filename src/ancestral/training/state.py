"""State of a training run: player states, running means, history and snapshots."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from torch import Tensor, nn

from ancestral.data.device_data import DeviceData
from ancestral.training import engine
from ancestral.training.checkpoint import Checkpoint, Snapshot
from ancestral.training.player import History, Player, Progress
from ancestral.training.player_state import PlayerState
from ancestral.utils.distributed import World


class NonFiniteError(FloatingPointError):
    """Raised when a term of an objective is infinite or not a number."""


class RunningMeans:
    """Running means of named vectors of terms, accumulated on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, values: Tensor, weight: int = 1) -> None:
        """Add the values of one step with a weight."""
        values = values.to(engine.widest_float_dtype(values.device))
        self.sums[name] = (
            self.sums[name].add_(values, alpha=weight) if name in self.sums else (weight * values)
        )
        self.counts[name] = self.counts.get(name, 0) + weight

    def compute(self) -> dict[str, list[float]]:
        """Return the means as lists of numbers."""
        return {name: (self.sums[name] / self.counts[name]).tolist() for name in self.sums}


class TrainingState:
    """State of a training run.

    Parameters
    ----------
    model : Module
        Model that is trained in place.
    players : mapping of str to Player
        Players by name.
    random_state : int
        Seed of the noise.
    n_steps : int
        Maximal number of steps.
    plan : Plan
        Execution plan of the steps.
    world : World
        Rank and number of processes.

    Raises
    ------
    ValueError
        If two players have a parameter in common.
    """

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
        if engine.has_convolutions(model):  # the fastest layout for convolution kernels
            engine.set_memory_format(model, torch.channels_last)
        self.player_states = [
            PlayerState(name, player, parameters[name], model, plan, world)
            for name, player in players.items()
        ]
        self.step, self.means, self.history = 0, RunningMeans(), History()
        self.best: dict[str, Tensor] = {}
        self.previous_seconds, self.start_time = 0.0, time.perf_counter()

    def take_step(self, data: DeviceData, index: Tensor) -> None:
        """Update each player that is due, on the samples ``index``, [batch_size]."""
        engine.seed(self.random_state, self.step)
        batch = data.batch_at(index)
        if self.world.size > 1:
            batch = batch.shard(self.world)
        for player_state in self.player_states:
            for _ in range(player_state.updates_at(self.step)):
                self.means.add(player_state.name, player_state.take_step(batch, self.n_steps))
        self.step += 1
        if self.step % FINITE_CHECK_INTERVAL[index.device.type] == 0:
            self.check_finite()

    def autocast(self) -> torch.autocast:
        """Return a context for calls of the model in the precision of the steps."""
        return self.plan.autocast(self.player_states[0].flat.vector.device)

    def check_finite(self) -> None:
        """Raise if a running sum of a term is not finite; such a sum remains non-finite.

        Raises
        ------
        NonFiniteError
            If a term is infinite or not a number.
        """
        for player_state in self.player_states:
            sums = self.means.sums.get(player_state.name)
            if sums is None or sums.sum().isfinite():
                continue
            # the loss is first; report one of its terms instead
            name, value = [
                (k, v) for k, v in player_state.named_terms(sums.tolist()) if not _finite(v)
            ][-1]
            raise NonFiniteError(
                f"the term {name!r} is {value} at step {self.step}; expected a finite number. "
                "Reduce learning_rate, standardise the inputs, bound the log-variance or clip the "
                "gradients."
            )

    def pop_means(self) -> dict[str, float]:
        """Return the mean of every term since the last call and reset the means."""
        self.check_finite()
        means, self.means = self.means.compute(), RunningMeans()
        return {
            k: v
            for player_state in self.player_states
            for k, v in player_state.named_terms(means.get(player_state.name, []))
        }

    def record(self, terms: Mapping[str, float]) -> None:
        """Append the record of an epoch to the history."""
        counts = {"epoch": len(self.history) + 1, "step": self.step}
        self.history.append({**counts, **terms, "seconds": self.seconds})

    def progress(self, event: str, epoch: int, n_epochs: int) -> Progress:
        """Return the progress passed to callbacks."""
        return Progress(event, epoch, n_epochs, self.step, self.n_steps, self.model, self.history)

    @property
    def seconds(self) -> float:
        """Training time in seconds, including the time before resuming."""
        return self.previous_seconds + time.perf_counter() - self.start_time

    @contextmanager
    def evaluation_parameters(self) -> Iterator[None]:
        """Set the model's parameters to those for evaluation inside the context."""
        flats = [
            player_state.flat
            for player_state in self.player_states
            if player_state.evaluation_vector() is not player_state.flat.vector
        ]
        vectors = [flat.vector.clone() for flat in flats]
        for player_state in self.player_states:
            player_state.flat.write(player_state.evaluation_vector())
        try:
            yield
        finally:
            for flat, vector in zip(flats, vectors, strict=True):
                flat.write(vector)

    def store_best(self) -> None:
        """Copy the current evaluation parameters as the best on the held-out set."""
        self.best = {
            player_state.name: player_state.evaluation_vector().clone()
            for player_state in self.player_states
        }

    def release(self) -> None:
        """Return the parameters to the model: the best if they were stored, else the last."""
        for player_state in self.player_states:
            player_state.flat.release(
                self.best.get(player_state.name, player_state.evaluation_vector())
            )
        engine.set_memory_format(self.model, torch.contiguous_format)

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Save a snapshot; if a term is not finite, raise and leave the previous one unchanged.

        Raises
        ------
        NonFiniteError
            If a term is infinite or not a number.
        """
        self.check_finite()
        if self.world.rank == 0:
            checkpoint.save(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return the state needed to resume; the noise depends only on the step number."""
        tensors = {f"{s.name}/{k}": v for s in self.player_states for k, v in s.tensors().items()}
        tensors |= {f"buffer/{k}": v for k, v in self.model.named_buffers()}
        tensors |= {f"sum/{k}": v for k, v in self.means.sums.items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        metadata = {
            "step": self.step,
            "updates": [player_state.updates for player_state in self.player_states],
            "terms": [player_state.terms for player_state in self.player_states],
            "counts": self.means.counts,
            "history": list(self.history),
            "seconds": self.seconds,
            "plan": asdict(self.plan),
        }
        return Snapshot(tensors, metadata)

    def restore(self, snapshot: Snapshot | None) -> None:
        """Restore the state of a snapshot; None leaves the state unchanged."""
        if snapshot is None:
            return
        tensors, metadata = snapshot
        current = self.snapshot().tensors
        for name, value in tensors.items():
            kind, _, key = name.partition("/")
            if kind in ("sum", "best") and name not in current:
                device = self.player_states[0].flat.vector.device
                (self.means.sums if kind == "sum" else self.best)[key] = value.to(device)
            else:
                current[name].copy_(value)
        for player_state, updates, terms in zip(
            self.player_states, metadata["updates"], metadata["terms"], strict=True
        ):
            player_state.updates, player_state.terms = updates, terms
            player_state.flat.refresh()
        self.step, self.means.counts = metadata["step"], metadata["counts"]
        self.history.extend(metadata["history"])
        self.previous_seconds = metadata["seconds"]


FINITE_CHECK_INTERVAL = {"cpu": 1, "cuda": 50, "mps": 50}
"""Steps between checks for non-finite terms; on GPUs a check waits for all queued steps."""


def check_shardable(players: Mapping[str, Player], batch_size: int, world: World) -> None:
    """Check that batches can be split among the processes.

    Raises
    ------
    ValueError
        If ``batch_size`` is not a multiple of the number of processes, or an objective compares
        samples of a batch and there are several processes.
    """
    if batch_size % world.size:
        raise ValueError(
            f"batch_size={batch_size} can't be split among {world.size} processes: expected a "
            f"multiple of {world.size}"
        )
    for name, player in players.items() if world.size > 1 else ():
        if not player.objective.separable:
            terms = ", ".join(player.objective.terms)
            raise ValueError(
                f"the objective {name or terms!r} ({terms}) compares the samples of a batch with "
                f"each other, so its batches can't be split among {world.size} processes; train "
                "with one process"
            )


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _parameters(players: Mapping[str, Player]) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each player; raise if two players share one."""
    owners: dict[nn.Parameter, str] = {}
    for name, player in players.items():
        params = player.params
        for parameter in params.parameters() if isinstance(params, nn.Module) else params:
            owner = owners.setdefault(parameter, name)
            if owner != name:
                raise ValueError(
                    f"the players {owner!r} and {name!r} update the same parameter: expected "
                    "disjoint params; assign each parameter to one player"
                )
    return {name: [p for p, owner in owners.items() if owner == name] for name in players}
