"""Moment matching: (conditional) maximum mean discrepancy of generated samples and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ancestral.models.implicit import Generator
from ancestral.models.run import GeneratorRun
from ancestral.nn import one_hot
from ancestral.objectives.base import Objective
from ancestral.probability.cmmd import regression_operator, ridge_inverse
from ancestral.probability.kernels import DeltaKernel, as_kernel
from ancestral.probability.mmd import KernelLike, biased_mmd2

CMMDEstimator = Literal["cmmd", "unbiased", "diagonal", "classwise"]

SQRT_EPS = 1e-10
"""Constant under the square root of a discrepancy, which keeps it differentiable at zero."""


def mmd(kernel: KernelLike, *, sqrt_loss: bool = False) -> Objective:
    """Squared MMD between a batch and a generated batch of the same size.

    Parameters
    ----------
    kernel : Kernel or sequence of float
        Kernel, or the variances of a sum of Gaussian kernels.
    sqrt_loss : bool
        Whether to minimise sqrt(MMD^2 / 2), as Li, Swersky and Zemel (2015) do for GMMNs; its
        gradient does not vanish as the discrepancy decreases.

    Returns
    -------
    Objective
        Term ``mmd``.
    """
    k = as_kernel(kernel)

    def term(_: nn.Module, run: GeneratorRun) -> Tensor:
        value = biased_mmd2(run.batch.x, run.sample, k)
        return (value / 2 + SQRT_EPS).sqrt() if sqrt_loss else value

    return Objective({"mmd": term}, separable=False)


MAX_CACHED_ENTRIES = 250_000_000
"""Maximum number of cached operator entries: two gigabytes in float64."""


class ConditionalMMD:
    """Term: squared CMMD between the outputs of a batch and outputs generated at its inputs.

    The quantities that depend on the data alone, W and Tr(W L_d), are computed once per batch and
    cached under ``Batch.index``, up to ``MAX_CACHED_ENTRIES`` entries in total; train with
    ``shuffle="once"`` so that batches recur. With a delta kernel on the inputs, W is zero between
    different labels and only samples of the same label are compared.

    Parameters
    ----------
    inputs, outputs : {"x", "y"}
        Batch field that is the condition, and field that is generated.
    input_kernel, output_kernel : Kernel or sequence of float
        Kernel, or the variances of a sum of Gaussian kernels.
    regularization : float
        Regularization constant lambda of the kernel regression, positive.
    n_classes : int, optional
        Number of classes; encodes the class indices in ``y`` one-hot.
    estimator : {"cmmd", "unbiased", "diagonal", "classwise"}
        Estimator. ``"cmmd"``: Tr(W (L_d + L_s - 2 L_ds)) with one generated output per input.
        ``"unbiased"``: the same with two independent outputs per input, compared with each other
        in L_s; see Notes. The other two are those of the CMMD authors' scripts. ``"diagonal"``
        (their classifier): the weighted kernel regression sum_i K_ii (K~^-1)_ii^2
        (L_d + L_s - L_ds)_ii. ``"classwise"`` (their generator): N^2 times the sum over classes of
        the MMD^2 within each class; the inputs must be labels.

    Raises
    ------
    ValueError
        If ``inputs``, ``outputs`` or ``estimator`` is unknown; at the first step, if a field is
        None.
    TypeError
        At the first step, if ``estimator="unbiased"`` and the model is not a ``Generator``.

    Notes
    -----
    The kernel of a sample with itself is constant. With one generated output per input, the
    diagonal of L_s has no gradient while that of L_ds pulls each output towards its target, so the
    fitted conditional is under-dispersed; the smaller lambda, and hence the off-diagonal entries
    of W, the stronger the effect. Two independent outputs per input remove this bias: averaged
    over the noise, the value is the discrepancy of the generator's conditional distribution;
    averaged over the data too, it is minimal where the two distributions agree. With W = 1 it is
    the kernel score of each sample (Gneiting and Raftery, 2007).
    """

    def __init__(
        self,
        inputs: Literal["x", "y"],
        outputs: Literal["x", "y"],
        input_kernel: KernelLike,
        output_kernel: KernelLike,
        regularization: float = 1e-3,
        n_classes: int | None = None,
        estimator: CMMDEstimator = "cmmd",
    ) -> None:
        for name, value, choices in (
            ("inputs", inputs, ("x", "y")),
            ("outputs", outputs, ("x", "y")),
            ("estimator", estimator, get_args(CMMDEstimator)),
        ):
            if value not in choices:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(choices)}")
        self.inputs, self.outputs, self.n_classes = inputs, outputs, n_classes
        self.input_kernel = as_kernel(input_kernel if estimator != "classwise" else DeltaKernel())
        self.output_kernel = as_kernel(output_kernel)
        self.regularization, self.estimator = regularization, estimator
        self._cache: dict[tuple[int, ...], _BatchConstants] = {}

    def __call__(self, model: nn.Module, run: GeneratorRun) -> Tensor:
        """Return the discrepancy of one run of a generator, a scalar."""
        sample = run.sample
        targets = self._field(run, self.outputs).to(sample.dtype)
        constants = self._constants(run, targets)
        real, fake = _gather_rows(constants.rows, targets), _gather_rows(constants.rows, sample)
        if self.estimator == "unbiased":
            second = _gather_rows(constants.rows, _second_sample(model, run))
            l_s = self.output_kernel(fake, second)
            l_ds = (self.output_kernel(real, fake) + self.output_kernel(real, second)) / 2
        else:
            l_s, l_ds = self.output_kernel(fake, fake), self.output_kernel(real, fake)
        if self.estimator == "diagonal":
            difference = l_s.diagonal(dim1=-2, dim2=-1) - l_ds.diagonal(dim1=-2, dim2=-1)
        else:
            difference = l_s - 2 * l_ds  # W is symmetric: L_ds and its transpose have one trace
        return (constants.data_trace + (constants.operator * difference).sum()).to(sample.dtype)

    def _field(self, run: GeneratorRun, name: str) -> Tensor:
        value = getattr(run.batch, name)
        if value is None:
            raise ValueError(
                f"conditional moment matching needs {name}: the batch has {name}=None; pass {name}"
            )
        return one_hot(value, self.n_classes) if name == "y" and self.n_classes else value

    def _constants(self, run: GeneratorRun, targets: Tensor) -> _BatchConstants:
        """Return the constants of a batch that do not depend on the sample, cached if possible."""
        inputs, index = self._field(run, self.inputs), run.batch.index
        key = () if index is None else tuple(index.tolist())
        cached = self._cache.get(key)
        if cached is not None and cached.matches(inputs, targets):
            return cached
        constants = self._compute_constants(inputs, targets)
        if key and (1 + len(self._cache)) * constants.operator.numel() <= MAX_CACHED_ENTRIES:
            self._cache[key] = constants
        return constants

    def _compute_constants(self, inputs: Tensor, targets: Tensor) -> _BatchConstants:
        groups = self._groups(inputs)
        operators = [self._operator(inputs[rows], len(inputs)) for rows in groups]
        size = max(map(len, groups))
        # smaller groups are padded with rows of zero weight
        rows = torch.stack([_zero_pad(rows, size) for rows in groups])
        operator = torch.stack([_zero_pad(operator, size) for operator in operators])
        real = _gather_rows(rows, targets)
        gram = self.output_kernel(real, real)
        if self.estimator == "diagonal":
            gram = gram.diagonal(dim1=-2, dim2=-1)
        return _BatchConstants(inputs, targets, rows, operator, (operator * gram).sum())

    def _groups(self, inputs: Tensor) -> list[Tensor]:
        """Return the row indices of each diagonal block of W: all rows, or those of each label."""
        if not isinstance(self.input_kernel, DeltaKernel):
            return [torch.arange(len(inputs), device=inputs.device)]
        _, labels = inputs.unique(dim=0, return_inverse=True)
        return [(labels == label).nonzero()[:, 0] for label in labels.unique()]

    def _operator(self, inputs: Tensor, n: int) -> Tensor:
        # float64 throughout: W amplifies rounding errors by up to 1 / lambda^2
        inputs = inputs.double()
        gram = self.input_kernel(inputs, inputs)
        if self.estimator == "classwise":
            share = gram.sum(1) / n
            return gram / (share * share.unsqueeze(1))
        if self.estimator in ("cmmd", "unbiased"):
            return regression_operator(gram, self.regularization)
        inverse = ridge_inverse(gram, self.regularization)
        return gram.diagonal() * inverse.diagonal() ** 2


def _second_sample(model: nn.Module, run: GeneratorRun) -> Tensor:
    """Return a second, independent sample at the conditions of a run."""
    if not isinstance(model, Generator):
        raise TypeError(
            "estimator='unbiased' needs a Generator, which can be sampled twice at the same "
            "inputs; got "
            f"{type(model).__name__}"
        )
    return model.sample(len(run.batch.x), model.condition_of(run.batch))


def _zero_pad(values: Tensor, n: int) -> Tensor:
    """Pad a vector or a square matrix with zeros to size [n] or [n, n]."""
    return nn.functional.pad(values, (0, n - len(values)) * values.ndim)


def _gather_rows(rows: Tensor, values: Tensor) -> Tensor:
    """Return the values [n, d] at the row indices [groups, m], as [groups, m, d]."""
    return values.index_select(0, rows.flatten()).unflatten(0, rows.shape)


@dataclass(frozen=True, eq=False)
class _BatchConstants:
    """Data of a batch and the parts of its discrepancy that do not depend on generated samples.

    Attributes
    ----------
    inputs, outputs : Tensor [n, ...]
        Inputs and outputs of the batch.
    rows : Tensor [groups, m]
        Row indices of each diagonal block of W.
    operator : Tensor [groups, m, m]
        Blocks of W; in the diagonal estimator its weights [groups, m].
    data_trace : Tensor []
        Constant Tr(W L_d).
    """

    inputs: Tensor
    outputs: Tensor
    rows: Tensor
    operator: Tensor
    data_trace: Tensor

    def matches(self, inputs: Tensor, outputs: Tensor) -> bool:
        """Return whether the constants are those of the given inputs and outputs."""
        return torch.equal(self.inputs, inputs) and torch.equal(self.outputs, outputs)


def cmmd(
    inputs: Literal["x", "y"],
    outputs: Literal["x", "y"],
    input_kernel: KernelLike,
    output_kernel: KernelLike,
    regularization: float = 1e-3,
    n_classes: int | None = None,
    estimator: CMMDEstimator = "cmmd",
) -> Objective:
    """Objective of conditional moment matching; parameters as in :class:`ConditionalMMD`.

    Returns
    -------
    Objective
        Term ``cmmd``.
    """
    term = ConditionalMMD(
        inputs, outputs, input_kernel, output_kernel, regularization, n_classes, estimator
    )
    return Objective({"cmmd": term}, separable=False, compilable=False)
