"""An objective: how to run the model, and the named terms that read the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from ancestral.data import Batch
from ancestral.models import Run

Term = Callable[[nn.Module, Run], Tensor]
"""(model, run) -> one named part of an objective: a scalar to minimise, in nats per example."""

RunModel = Callable[[nn.Module, Batch], Run]


def run_once(model: nn.Module, batch: Batch) -> Run:
    """Run the model as it stands: ``model.run(batch)``."""
    return model.run(batch)  # type: ignore[operator]


@dataclass(frozen=True)
class Objective:
    """Named terms on one run of the model; the loss is their sum.

    Parameters
    ----------
    terms : mapping of str to Term
        Each minimised; their means over an epoch are logged under these names.
    run : callable, optional
        (model, batch) -> Run; by default ``model.run(batch)``.
    separable : bool
        Whether every term is a mean over rows, so that processes may each take a share of a batch.
    compiles : bool
        Whether run and terms are tensor operations only, so that they may become a graph.
    n_samples : int
        Latent samples of each row in a run: how much work a step is.

    Notes
    -----
    ``a + b`` has the terms of both and runs the model once, as the one that says how does. So a
    bound plus a hinge loss share encoder, noise and dropout. ``0.5 * a`` counts a's terms half.

    Examples
    --------
    >>> a = Objective({"fit": lambda model, run: run.log_px.mean()})
    >>> b = Objective({"size": lambda model, run: run.z.square().mean()})
    >>> list((a + b).terms)
    ['fit', 'size']
    """

    terms: Mapping[str, Term]
    run: RunModel = field(default=run_once)
    separable: bool = True
    compiles: bool = True
    n_samples: int = 1

    def __add__(self, other: Objective) -> Objective:
        """Join the terms of two objectives on one run."""
        twice = self.terms.keys() & other.terms.keys()
        if twice:
            raise ValueError(f"both objectives have a term named {', '.join(sorted(twice))}")
        if run_once not in (self.run, other.run) and self.run is not other.run:
            raise ValueError("both objectives say how to run the model: it is run once a step")
        run = other.run if self.run is run_once else self.run
        return Objective(
            {**self.terms, **other.terms},
            run,
            self.separable and other.separable,
            self.compiles and other.compiles,
            max(self.n_samples, other.n_samples),
        )

    def __rmul__(self, weight: float) -> Objective:
        """Count every term ``weight`` times."""

        def weighted(term: Term) -> Term:
            return lambda model, run: weight * term(model, run)

        return replace(self, terms={name: weighted(term) for name, term in self.terms.items()})

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model once and evaluate every term on that run."""
        run = self.run(model, batch)
        return {name: term(model, run) for name, term in self.terms.items()}
