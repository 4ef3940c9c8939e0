"""Moment matching: maximum mean discrepancy, plain and conditional."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.kernels import gaussian_gram
from ancestral.models import Run
from ancestral.networks import one_hot
from ancestral.objectives.base import Objective


def mmd2(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], variances: Sequence[float]
) -> Float[Tensor, ""]:
    """Biased (V-statistic) squared maximum mean discrepancy (Gretton et al., 2012).

    Examples
    --------
    >>> x = torch.randn(4, 2)
    >>> mmd2(x, x, [1.0]).item()
    0.0
    """
    within = gaussian_gram(a, a, variances).mean() + gaussian_gram(b, b, variances).mean()
    return within - 2 * gaussian_gram(a, b, variances).mean()


def regression_operator(gram: Float[Tensor, "n n"], regularisation: float) -> Float[Tensor, "n n"]:
    """W = (K + lambda I)^-1 K (K + lambda I)^-1, by Cholesky in float64.

    Raises
    ------
    ValueError
        If K + lambda I is not positive definite.
    """
    k = gram.double()
    ridge = k + regularisation * torch.eye(len(k), dtype=k.dtype, device=k.device)
    factor, info = torch.linalg.cholesky_ex(ridge)
    if info.item():
        raise ValueError(
            f"K + lambda I is singular with regularisation={regularisation}: "
            "raise it, or remove repeated inputs"
        )
    half = torch.cholesky_solve(k, factor)
    return torch.cholesky_solve(half.T, factor).to(gram.dtype)


def cmmd2(
    operator: Float[Tensor, "n n"],
    real: Float[Tensor, "n d"],
    generated: Float[Tensor, "n d"],
    variances: Sequence[float],
) -> Float[Tensor, ""]:
    """Squared conditional MMD of two sets of outputs at the same inputs (Ren et al., 2016).

    Tr(W (L_d + L_s - L_ds - L_ds^T)) with W of :func:`regression_operator`.

    Parameters
    ----------
    operator : Tensor [n, n]
        W, from the Gram matrix of the inputs alone.
    real, generated : Tensor [n, d]
        The outputs.
    variances : sequence of float
        Of the output kernel.
    """
    cross = gaussian_gram(real, generated, variances)
    within = gaussian_gram(real, real, variances) + gaussian_gram(generated, generated, variances)
    return (operator * (within - cross - cross.T)).sum()


def mmd(variances: Sequence[float]) -> Objective:
    """Squared MMD between the rows of a batch and as many samples of a generator.

    Returns
    -------
    Objective
        Term ``mmd``.
    """

    def term(_: nn.Module, run: Run) -> Tensor:
        assert run.sample is not None
        return mmd2(run.batch.x, run.sample, variances)

    return Objective({"mmd": term}, separable=False)


MOST_OPERATORS = 500


class ConditionalMMD:
    """Term: the squared CMMD between a batch's outputs and those generated at the same inputs.

    The operator depends on the inputs alone, so it is computed once for every batch seen and kept
    under ``Batch.index`` (up to ``MOST_OPERATORS`` of them); train with ``shuffle=False`` for
    batches that recur.

    Parameters
    ----------
    inputs, outputs : {"x", "y"}
        Which field is given and which is generated.
    input_variances, output_variances : sequence of float
        Of the two Gaussian mixture kernels.
    regularisation : float
        lambda.
    n_classes : int, optional
        Class indices in ``y`` become one-hot.
    """

    def __init__(
        self,
        inputs: Literal["x", "y"],
        outputs: Literal["x", "y"],
        input_variances: Sequence[float],
        output_variances: Sequence[float],
        regularisation: float = 1e-3,
        n_classes: int | None = None,
    ) -> None:
        self.inputs, self.outputs, self.n_classes = inputs, outputs, n_classes
        self.input_variances, self.output_variances = input_variances, output_variances
        self.regularisation = regularisation
        self._operators: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, _: nn.Module, run: Run) -> Tensor:
        """Return the discrepancy of one run of a generator."""
        assert run.sample is not None
        real = self._field(run, self.outputs).to(run.sample.dtype)
        return cmmd2(self._operator(run), real, run.sample, self.output_variances)

    def _field(self, run: Run, name: str) -> Tensor:
        value = getattr(run.batch, name)
        return one_hot(value, self.n_classes) if name == "y" and self.n_classes else value

    def _operator(self, run: Run) -> Tensor:
        inputs, index = self._field(run, self.inputs), run.batch.index
        key = () if index is None else tuple(index.tolist())
        known = self._operators.get(key)
        if known is not None and torch.equal(known[0], inputs):
            return known[1]
        gram = gaussian_gram(inputs, inputs, self.input_variances)
        operator = regression_operator(gram, self.regularisation)
        if key and len(self._operators) < MOST_OPERATORS:
            self._operators[key] = (inputs, operator)
        return operator


def cmmd(
    inputs: Literal["x", "y"],
    outputs: Literal["x", "y"],
    input_variances: Sequence[float],
    output_variances: Sequence[float],
    regularisation: float = 1e-3,
    n_classes: int | None = None,
) -> Objective:
    """Conditional moment matching; see :class:`ConditionalMMD`.

    Returns
    -------
    Objective
        Term ``cmmd``.
    """
    term = ConditionalMMD(
        inputs, outputs, input_variances, output_variances, regularisation, n_classes
    )
    return Objective({"cmmd": term}, separable=False, compiles=False)
