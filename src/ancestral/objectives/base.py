"""Objectives: a forward pass of the model and named terms computed from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.models.run import Run

Term = Callable[[nn.Module, Any], Tensor]
"""(model, run) -> scalar term of an objective, minimised, in nats per example."""

RunModel = Callable[[nn.Module, Batch], Run]
"""(model, batch) -> record of one forward pass."""


def run_once(model: nn.Module, batch: Batch) -> Run:
    """Return ``model.run(batch)``, the default forward pass."""
    return model.run(batch)  # type: ignore[operator]


@dataclass(frozen=True)
class Objective:
    """Named terms on one run of the model; the loss is their sum.

    Parameters
    ----------
    terms : mapping of str to Term
        Terms to minimise, by name. Their means over an epoch are logged under these names.
    run : callable, optional
        Forward pass (model, batch) -> Run; by default ``model.run(batch)``.
    separable : bool
        Whether every term is a mean over samples, so that data-parallel processes can each
        compute it on a part of the batch.
    compilable : bool
        Whether run and terms consist of tensor operations only, so that they can be compiled.
    n_samples : int
        Number of latent samples per data sample in a run, an estimate of the work per step.

    Notes
    -----
    ``a + b`` has the terms of both and runs the model once, by the ``run`` that is not the
    default. A bound and a hinge loss therefore share encoder outputs, noise and dropout masks.
    ``0.5 * a`` multiplies every term of ``a`` by 0.5.

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
    compilable: bool = True
    n_samples: int = 1

    def __add__(self, other: Objective) -> Objective:
        """Return an objective with the terms of both on one run.

        Raises
        ------
        ValueError
            If both have a term of the same name, or different non-default ``run`` functions.
        """
        duplicates = self.terms.keys() & other.terms.keys()
        if duplicates:
            raise ValueError(
                f"both objectives have a term named {', '.join(sorted(duplicates))}; expected "
                "distinct names"
            )
        if run_once not in (self.run, other.run) and self.run is not other.run:
            raise ValueError(
                "the two objectives have different run functions, but a step runs the model once: "
                "leave run out of one of them"
            )
        run = other.run if self.run is run_once else self.run
        return Objective(
            {**self.terms, **other.terms},
            run,
            self.separable and other.separable,
            self.compilable and other.compilable,
            max(self.n_samples, other.n_samples),
        )

    def __rmul__(self, weight: float) -> Objective:
        """Return the objective with every term multiplied by ``weight``."""

        def weighted(term: Term) -> Term:
            return lambda model, run: weight * term(model, run)

        return replace(self, terms={name: weighted(term) for name, term in self.terms.items()})

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run the model once and return the value of every term, by name."""
        run = self.run(model, batch)
        return {name: term(model, run) for name, term in self.terms.items()}
