"""Moment matching: maximum mean discrepancy, plain and conditional, of a generator's samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ancestral.discrepancy import Kernels, biased_mmd2, regression_operator, ridge_inverse
from ancestral.kernels import DeltaKernel, as_kernel
from ancestral.models import Generator, Run
from ancestral.networks import one_hot
from ancestral.objectives.base import Objective

Form = Literal["cmmd", "unbiased", "diagonal", "classwise"]
TINY = 1e-10
"""Keeps the root of a discrepancy differentiable where it vanishes."""


def mmd(kernel: Kernels, *, root: bool = False) -> Objective:
    """Squared MMD between the rows of a batch and as many samples of a generator.

    Parameters
    ----------
    kernel : Kernel or sequence of float
        Numbers stand for the variances of a sum of Gaussians.
    root : bool
        Minimise sqrt(MMD^2 / 2), as the GMMN authors do (Li, Swersky and Zemel, 2015): steps do
        not shrink as the samples come closer.

    Returns
    -------
    Objective
        Term ``mmd``.
    """
    k = as_kernel(kernel)

    def term(_: nn.Module, run: Run) -> Tensor:
        assert run.sample is not None
        value = biased_mmd2(run.batch.x, run.sample, k)
        return (value / 2 + TINY).sqrt() if root else value

    return Objective({"mmd": term}, separable=False)


MOST_NUMBERS = 250_000_000
"""Entries of operators that are kept: two gigabytes."""


class ConditionalMMD:
    """Term: the squared CMMD between a batch's outputs and those generated at the same inputs.

    What depends on real rows alone, the operator W and Tr(W L_d), is computed once for every batch
    seen and kept under ``Batch.index`` (as long as all have ``MOST_NUMBERS`` entries at most);
    train with ``shuffle="once"`` for batches that recur. Between different labels a delta kernel
    makes W zero: rows are then compared within their label alone.

    Parameters
    ----------
    inputs, outputs : {"x", "y"}
        Which field is given and which is generated.
    input_kernel, output_kernel : Kernel or sequence of float
        Numbers stand for the variances of a sum of Gaussians.
    regularization : float
        lambda.
    n_classes : int, optional
        Class indices in ``y`` become one-hot.
    form : {"cmmd", "unbiased", "diagonal", "classwise"}
        The formula, Tr(W (L_d + L_s - 2 L_ds)), of one generated output for every input; the same
        with two, compared with each other in L_s: see below; or one of the two that the authors'
        scripts compute in its place: its diagonal entries only, sum_i K_ii (K~^-1)_ii^2 (L_d + L_s
        - L_ds)_ii, a weighted kernel regression (their classifier); or N^2 times the sum over
        classes of the MMD^2 inside each (their generator; inputs are labels then).

    Notes
    -----
    A generated output compared with itself is as like as can be, wherever it lies: with one for
    every input the diagonal of L_s is constant, while that of L_ds draws each output to the real
    one. The generator gains by answering with less spread than the data have, the more so the
    less W compares different rows (the smaller lambda is). Two independent outputs leave no
    constant: averaged over noise, the value is the discrepancy of the generator's own conditional
    distribution; averaged over data too, it is least where the two distributions agree. With W = 1
    it is the kernel score of each row (Gneiting and Raftery, 2007).
    """

    def __init__(
        self,
        inputs: Literal["x", "y"],
        outputs: Literal["x", "y"],
        input_kernel: Kernels,
        output_kernel: Kernels,
        regularization: float = 1e-3,
        n_classes: int | None = None,
        form: Form = "cmmd",
    ) -> None:
        for name, value, kinds in (
            ("inputs", inputs, ("x", "y")),
            ("outputs", outputs, ("x", "y")),
            ("form", form, get_args(Form)),
        ):
            if value not in kinds:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(kinds)}")
        self.inputs, self.outputs, self.n_classes = inputs, outputs, n_classes
        self.input_kernel = as_kernel(input_kernel if form != "classwise" else DeltaKernel())
        self.output_kernel = as_kernel(output_kernel)
        self.regularization, self.form = regularization, form
        self._known: dict[tuple[int, ...], _RealRows] = {}

    def __call__(self, model: nn.Module, run: Run) -> Tensor:
        """Return the discrepancy of one run of a generator."""
        sample = run.sample
        assert sample is not None
        real = self._field(run, self.outputs).to(sample.dtype)
        known = self._real_rows(run, real)
        rows, drawn = _at(known.rows, real), _at(known.rows, sample)
        if self.form == "unbiased":
            again = _at(known.rows, _again(model, run))
            own = self.output_kernel(drawn, again)
            between = (self.output_kernel(rows, drawn) + self.output_kernel(rows, again)) / 2
        else:
            own, between = self.output_kernel(drawn, drawn), self.output_kernel(rows, drawn)
        if self.form == "diagonal":
            moving = own.diagonal(dim1=-2, dim2=-1) - between.diagonal(dim1=-2, dim2=-1)
        else:
            moving = own - 2 * between  # W is symmetric: L_ds and its transpose count alike
        return (known.fixed + (known.operator * moving).sum()).to(sample.dtype)

    def _field(self, run: Run, name: str) -> Tensor:
        value = getattr(run.batch, name)
        if value is None:
            raise ValueError(f"conditional moment matching reads {name}: the batch has {name}=None")
        return one_hot(value, self.n_classes) if name == "y" and self.n_classes else value

    def _real_rows(self, run: Run, real: Tensor) -> _RealRows:
        """Return what of the value does not depend on the sample, known or computed."""
        inputs, index = self._field(run, self.inputs), run.batch.index
        key = () if index is None else tuple(index.tolist())
        known = self._known.get(key)
        if known is not None and known.are(inputs, real):
            return known
        found = self._computed(inputs, real)
        if key and (1 + len(self._known)) * found.operator.numel() <= MOST_NUMBERS:
            self._known[key] = found
        return found

    def _computed(self, inputs: Tensor, real: Tensor) -> _RealRows:
        joined = self._joined(inputs)
        operators = [self._operator(inputs[rows], len(inputs)) for rows in joined]
        longest = max(map(len, joined))
        # groups that are shorter end in rows that count for nothing
        rows = torch.stack([_padded(rows, longest) for rows in joined])
        operator = torch.stack([_padded(one, longest) for one in operators])
        among = _at(rows, real)
        gram = self.output_kernel(among, among)
        if self.form == "diagonal":
            gram = gram.diagonal(dim1=-2, dim2=-1)
        return _RealRows(inputs, real, rows, operator, (operator * gram).sum())

    def _joined(self, inputs: Tensor) -> list[Tensor]:
        """Return the rows that W joins: all of them, or those of one label."""
        if not isinstance(self.input_kernel, DeltaKernel):
            return [torch.arange(len(inputs), device=inputs.device)]
        _, which = inputs.unique(dim=0, return_inverse=True)
        return [(which == label).nonzero()[:, 0] for label in which.unique()]

    def _operator(self, inputs: Tensor, n: int) -> Tensor:
        # in float64 from the start: W multiplies what is rounded off by up to 1 / lambda^2
        exact = inputs.double()
        gram = self.input_kernel(exact, exact)
        if self.form == "classwise":
            share = gram.sum(1) / n
            return gram / (share * share.unsqueeze(1))
        if self.form in ("cmmd", "unbiased"):
            return regression_operator(gram, self.regularization)
        inverse = ridge_inverse(gram, self.regularization)
        return gram.diagonal() * inverse.diagonal() ** 2


def _again(model: nn.Module, run: Run) -> Tensor:
    """Draw once more at the conditions of a run."""
    if not isinstance(model, Generator):
        raise TypeError(f"form='unbiased' draws twice, and {type(model).__name__} is no Generator")
    return model.sample(len(run.batch.x), model.condition_of(run.batch))


def _padded(one: Tensor, n: int) -> Tensor:
    """Return a vector or a square matrix filled up with zeros, to n or n x n."""
    return nn.functional.pad(one, (0, n - len(one)) * one.ndim)


def _at(rows: Tensor, of: Tensor) -> Tensor:
    """Return the chosen rows in groups, [groups, n, d]."""
    return of.index_select(0, rows.flatten()).unflatten(0, rows.shape)


@dataclass(frozen=True, eq=False)
class _RealRows:
    """A batch's inputs and outputs, and what of the discrepancy depends on them alone.

    Attributes
    ----------
    inputs, outputs : Tensor [n, ...]
        The batch.
    rows : Tensor [groups, m]
        Which rows W joins.
    operator : Tensor [groups, m, m]
        W of every group; in the diagonal form [groups, m].
    fixed : Tensor []
        Tr(W L_d).
    """

    inputs: Tensor
    outputs: Tensor
    rows: Tensor
    operator: Tensor
    fixed: Tensor

    def are(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Whether these are the rows that are meant."""
        return torch.equal(self.inputs, inputs) and torch.equal(self.outputs, outputs)


def cmmd(
    inputs: Literal["x", "y"],
    outputs: Literal["x", "y"],
    input_kernel: Kernels,
    output_kernel: Kernels,
    regularization: float = 1e-3,
    n_classes: int | None = None,
    form: Form = "cmmd",
) -> Objective:
    """Conditional moment matching; see :class:`ConditionalMMD`.

    Returns
    -------
    Objective
        Term ``cmmd``.
    """
    term = ConditionalMMD(
        inputs, outputs, input_kernel, output_kernel, regularization, n_classes, form
    )
    return Objective({"cmmd": term}, separable=False, compiles=False)
