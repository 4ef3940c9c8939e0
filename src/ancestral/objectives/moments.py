"""Moment matching: maximum mean discrepancy, plain and conditional, of a generator's samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ancestral.discrepancy import Kernels, mmd2, regression_operator, ridge_inverse
from ancestral.kernels import DeltaKernel, as_kernel
from ancestral.models import Run
from ancestral.networks import one_hot
from ancestral.objectives.base import Objective

Form = Literal["cmmd", "diagonal", "classwise"]
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

    def term(_: nn.Module, run: Run) -> Tensor:
        assert run.sample is not None
        value = mmd2(run.batch.x, run.sample, kernel)
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
    regularisation : float
        lambda.
    n_classes : int, optional
        Class indices in ``y`` become one-hot.
    form : {"cmmd", "diagonal", "classwise"}
        The formula, Tr(W (L_d + L_s - 2 L_ds)); or one of the two that the authors' scripts
        compute in its place: its diagonal entries only, sum_i K_ii (K~^-1)_ii^2 (L_d + L_s -
        L_ds)_ii, a weighted kernel regression (their classifier); or N^2 times the sum over
        classes of the MMD^2 inside each (their generator; inputs are labels then).
    """

    def __init__(
        self,
        inputs: Literal["x", "y"],
        outputs: Literal["x", "y"],
        input_kernel: Kernels,
        output_kernel: Kernels,
        regularisation: float = 1e-3,
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
        self.regularisation, self.form = regularisation, form
        self._known: dict[tuple[int, ...], _RealRows] = {}

    def __call__(self, _: nn.Module, run: Run) -> Tensor:
        """Return the discrepancy of one run of a generator."""
        sample = run.sample
        assert sample is not None
        real = self._field(run, self.outputs).to(sample.dtype)
        parts = [
            block.fixed + self._moving(block.operator, real[block.rows], sample[block.rows])
            for block in self._blocks(run, real)
        ]
        return torch.stack(parts).sum().to(sample.dtype)

    def _moving(self, operator: Tensor, real: Tensor, sample: Tensor) -> Tensor:
        """Return what of the value depends on the sample, of rows that W joins."""
        between = self.output_kernel(real, sample)
        if self.form == "diagonal":
            own = self.output_kernel(sample, sample).diagonal()
            return (operator * (own - between.diagonal())).sum()
        # W is symmetric: L_ds and its transpose count alike
        return (operator * (self.output_kernel(sample, sample) - 2 * between)).sum()

    def _field(self, run: Run, name: str) -> Tensor:
        value = getattr(run.batch, name)
        if value is None:
            raise ValueError(f"conditional moment matching reads {name}: the batch has {name}=None")
        return one_hot(value, self.n_classes) if name == "y" and self.n_classes else value

    def _blocks(self, run: Run, real: Tensor) -> list[_Block]:
        """Return what of the value does not depend on the sample, known or computed."""
        inputs, index = self._field(run, self.inputs), run.batch.index
        key = () if index is None else tuple(index.tolist())
        known = self._known.get(key)
        if known is not None and known.are(inputs, real):
            return known.blocks
        blocks = [self._block(rows, inputs, real) for rows in self._joined(inputs)]
        found = _RealRows(inputs, real, blocks)
        if key and (1 + len(self._known)) * found.size <= MOST_NUMBERS:
            self._known[key] = found
        return blocks

    def _joined(self, inputs: Tensor) -> list[Tensor | slice]:
        """Return the rows that W joins: all of them, or those of one label."""
        if not isinstance(self.input_kernel, DeltaKernel):
            return [slice(None)]
        _, which = inputs.unique(dim=0, return_inverse=True)
        return [(which == label).nonzero()[:, 0] for label in which.unique()]

    def _block(self, rows: Tensor | slice, inputs: Tensor, real: Tensor) -> _Block:
        operator = self._operator(inputs[rows], len(inputs))
        gram = self.output_kernel(real[rows], real[rows])
        if self.form == "diagonal":
            return _Block(rows, operator, (operator * gram.diagonal()).sum())
        return _Block(rows, operator, (operator * gram).sum())

    def _operator(self, inputs: Tensor, n: int) -> Tensor:
        # in float64 from the start: W multiplies what is rounded off by up to 1 / lambda^2
        exact = inputs.double()
        gram = self.input_kernel(exact, exact)
        if self.form == "classwise":
            share = gram.sum(1) / n
            return gram / (share * share.unsqueeze(1))
        if self.form == "cmmd":
            return regression_operator(gram, self.regularisation)
        return gram.diagonal() * ridge_inverse(gram, self.regularisation).diagonal() ** 2


@dataclass(frozen=True, eq=False)
class _Block:
    """Rows that W joins, W among them, and what of their part does not depend on the sample."""

    rows: Tensor | slice
    operator: Tensor
    fixed: Tensor


@dataclass(frozen=True, eq=False)
class _RealRows:
    """A batch's inputs and outputs, and its blocks."""

    inputs: Tensor
    outputs: Tensor
    blocks: list[_Block]

    @property
    def size(self) -> int:
        """Entries of W that are kept."""
        return sum(block.operator.numel() for block in self.blocks)

    def are(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Whether these are the rows that are meant."""
        return torch.equal(self.inputs, inputs) and torch.equal(self.outputs, outputs)


def cmmd(
    inputs: Literal["x", "y"],
    outputs: Literal["x", "y"],
    input_kernel: Kernels,
    output_kernel: Kernels,
    regularisation: float = 1e-3,
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
        inputs, outputs, input_kernel, output_kernel, regularisation, n_classes, form
    )
    return Objective({"cmmd": term}, separable=False, compiles=False)
