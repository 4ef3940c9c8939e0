"""Hamiltonian Monte Carlo transition of annealed importance sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def hmc_step(
    value_and_grad: Callable[[Tensor], tuple[Tensor, Tensor]],
    z: Float[Tensor, "*b l"],
    step: Tensor,
    n_leapfrog: int,
) -> tuple[Float[Tensor, "*b l"], Tensor]:
    """Run one Hamiltonian Monte Carlo transition (Neal, 2011).

    Parameters
    ----------
    value_and_grad : callable
        Unnormalised log-density and its gradient, z [..., l] -> ([...], [..., l]).
    z : Tensor [..., l]
        Current states of the chains.
    step : Tensor
        Leapfrog step size, broadcast over z.
    n_leapfrog : int
        Number of leapfrog steps of the trajectory.

    Returns
    -------
    (Tensor [..., l], bool Tensor [...])
        New states of the chains, and whether each proposal was accepted.

    Examples
    --------
    >>> z = torch.zeros(1000, 1)
    >>> def value_and_grad(z):
    ...     return -0.5 * z.square().sum(-1), -z
    >>> for _ in range(20):
    ...     z, accepted = hmc_step(value_and_grad, z, torch.tensor(0.3), 5)
    >>> bool(0.8 < z.var() < 1.2), bool(accepted.float().mean() > 0.9)
    (True, True)
    """
    momentum = torch.randn_like(z)
    value, gradient = value_and_grad(z)
    initial_log_joint = value - 0.5 * momentum.square().sum(-1)  # log f(z) N(p; 0, I) + const
    proposal, p = z, momentum + 0.5 * step * gradient
    for i in range(n_leapfrog):
        proposal = proposal + step * p
        value, gradient = value_and_grad(proposal)
        p = p + (1.0 if i < n_leapfrog - 1 else 0.5) * step * gradient
    final_log_joint = value - 0.5 * p.square().sum(-1)
    log_u = torch.rand_like(initial_log_joint).log()
    accepted = log_u < final_log_joint - initial_log_joint  # False for NaN
    return torch.where(accepted.unsqueeze(-1), proposal, z), accepted


def value_and_grad(
    log_f: Callable[[Tensor], Tensor], z: Float[Tensor, "*b l"]
) -> tuple[Tensor, Float[Tensor, "*b l"]]:
    """Compute the values [...] of a log-density at states z [..., l], and their gradients.

    Examples
    --------
    >>> value_and_grad(lambda z: -0.5 * z.square().sum(-1), torch.tensor([[2.0]]))
    (tensor([-2.]), tensor([[-2.]]))
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        value = log_f(leaf)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient
