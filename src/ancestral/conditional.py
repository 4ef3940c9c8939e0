"""Conditional distributions: modules that map a context to a torch ``Distribution``.

Priors, likelihoods, posteriors, mixtures and factor analysers share this interface and can be
combined freely. The network of a conditional maps the context to the distribution's parameters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributions, nn
from torch.distributions import Distribution

from ancestral.distributions import Ancestral, MixedColumns, log_prob, parameters
from ancestral.networks.precision import at_least_single


class Context(NamedTuple):
    """Inputs of a conditional; a network that begins with ``Read`` selects fields of it."""

    x: Tensor | None = None
    y: Tensor | None = None
    mask: Tensor | None = None
    z: Tensor | None = None


Given = Tensor | Context | None


class Conditional(nn.Module, ABC):
    """Conditional distribution p(. | c) over vectors of d entries.

    A call on a context c returns a torch ``Distribution`` that is either elementwise (its batch
    shape ends in d) or has events of shape [d].
    """

    @abstractmethod
    def forward(self, c: Given = None) -> Distribution:
        """Return p(. | c), with parameters of float32 or a wider dtype."""

    def log_prob(
        self,
        x: Float[Tensor, "*b d"],
        c: Given = None,
        mask: Float[Tensor, "*b2 d"] | None = None,
    ) -> Float[Tensor, "*b3"]:
        """Log-density of the observed entries in nats; missing entries are integrated out exactly.

        ``mask`` is 1 where an entry is observed and 0 where it is missing. See
        :func:`ancestral.distributions.log_prob`.
        """
        return log_prob(self(c), x, mask)


def reads_context(conditional: Conditional) -> bool:
    """Return whether a network inside begins with ``Read`` and needs the full ``Context``."""
    return any(getattr(m, "reads", None) for m in conditional.modules())


class Gaussian(Conditional):
    """Gaussian with diagonal covariance, N(mu(c), diag exp(log_var(c))).

    Parameters
    ----------
    network : Module
        Map c -> (mu [..., d], log_var [..., d]), or c -> mu if ``log_var`` is given.
    log_var : float or Tensor, optional
        Log-variance that does not depend on c: fixed, or fitted if it is a ``Parameter``.
    log_var_range : (float, float)
        Range to which log-variances are clamped. Without it, the density of a constant column is
        unbounded.

    Examples
    --------
    >>> Gaussian(nn.Linear(3, 2), log_var=0.0)(torch.zeros(5, 3)).batch_shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        network: nn.Module,
        log_var: float | Tensor | None = None,
        log_var_range: tuple[float, float] = (-14.0, 14.0),
    ) -> None:
        super().__init__()
        self.network, self.log_var_range = network, log_var_range
        self.log_var: Tensor | None
        if isinstance(log_var, nn.Parameter) or log_var is None:
            self.log_var = log_var
        else:
            self.register_buffer("log_var", torch.as_tensor(log_var))

    def forward(self, c: Given = None) -> distributions.Normal:
        """Return the normal distribution, elementwise."""
        output = at_least_single(self.network(c))
        mu, log_var = output if self.log_var is None else (output, self.log_var)
        scale = torch.exp(0.5 * log_var.clamp(*self.log_var_range))
        return distributions.Normal(mu, scale, validate_args=False)


class FullGaussian(Conditional):
    """Gaussian with full covariance, N(mu(c), L(c) L(c)^T).

    L is lower triangular; its diagonal is the exponential of the network's output.

    Parameters
    ----------
    network : Module
        Map c -> (mu [..., d], l [..., d (d + 1) / 2]); l holds the entries of L in row-major
        order, those of the diagonal as logarithms.

    Examples
    --------
    >>> from ancestral.networks import MLP
    >>> FullGaussian(MLP(4, (8,), heads=(2, 3)))(torch.zeros(5, 4)).event_shape
    torch.Size([2])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: Given = None) -> distributions.MultivariateNormal:
        """Return the multivariate normal distribution."""
        mu, entries = at_least_single(self.network(c))
        d = mu.shape[-1]
        row, column = torch.tril_indices(d, d, device=mu.device)
        tril = mu.new_zeros(*entries.shape[:-1], d, d)
        tril[..., row, column] = entries
        diagonal = tril.diagonal(dim1=-2, dim2=-1)
        tril = tril.tril(-1) + torch.diag_embed(diagonal.exp())
        return distributions.MultivariateNormal(mu, scale_tril=tril, validate_args=False)


class Laplace(Conditional):
    """Independent Laplace entries with location mu(c) and scale exp(log_scale(c)).

    Parameters
    ----------
    network : Module
        Map c -> (mu [..., d], log_scale [..., d]); log-scales are clamped to [-7, 7].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: Given = None) -> distributions.Laplace:
        """Return the Laplace distribution, elementwise."""
        mu, log_scale = at_least_single(self.network(c))
        return distributions.Laplace(mu, log_scale.clamp(-7.0, 7.0).exp(), validate_args=False)


class Bernoulli(Conditional):
    """Independent Bernoulli entries, parametrised by logits.

    Parameters
    ----------
    network : Module
        Map c -> logits [..., d].
    clip : float, default 0
        Means are clamped to [clip, 1 - clip], with zero gradient outside; in [0, 1/2), where 0
        disables clamping.

    Raises
    ------
    ValueError
        If ``clip`` is not in [0, 1/2).

    Examples
    --------
    >>> Bernoulli(nn.Identity(), clip=0.001)(torch.tensor([-20.0, 0.0, 20.0])).mean
    tensor([0.0010, 0.5000, 0.9990])
    """

    def __init__(self, network: nn.Module, clip: float = 0.0) -> None:
        super().__init__()
        if not 0 <= clip < 0.5:
            raise ValueError(f"clip={clip}: expected a number in [0, 0.5)")
        self.network = network
        self.most = math.inf if clip == 0 else math.log((1 - clip) / clip)

    def forward(self, c: Given = None) -> distributions.Bernoulli:
        """Return the Bernoulli distribution, elementwise."""
        logits = at_least_single(self.network(c))
        if self.most < math.inf:
            logits = logits.clamp(-self.most, self.most)
        return distributions.Bernoulli(logits=logits, validate_args=False)


class Poisson(Conditional):
    """Independent Poisson entries, parametrised by log-rates.

    Parameters
    ----------
    network : Module
        Map c -> log_rate [..., d]; log-rates are clamped to [-20, 20].
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: Given = None) -> distributions.Poisson:
        """Return the Poisson distribution, elementwise."""
        log_rate = at_least_single(self.network(c)).clamp(-20, 20)
        return distributions.Poisson(log_rate.exp(), validate_args=False)


class Categorical(Conditional):
    """Independent categorical columns with codes 0 .. n - 1; n may differ between columns.

    Parameters
    ----------
    network : Module
        Map c -> logits [..., sum of n], concatenated over columns.
    n_categories : sequence of int
        Number n of categories of each column.

    Examples
    --------
    >>> p = Categorical(nn.Linear(2, 5), [2, 3])
    >>> p.log_prob(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)).shape
    torch.Size([1])
    """

    def __init__(self, network: nn.Module, n_categories: Sequence[int]) -> None:
        super().__init__()
        self.network, self.n_categories = network, tuple(n_categories)

    def forward(self, c: Given = None) -> distributions.Categorical:
        """Return one distribution per column, padded to max n with categories of probability 0."""
        width = max(self.n_categories)
        columns = at_least_single(self.network(c)).split(self.n_categories, -1)
        min_logit = torch.finfo(columns[0].dtype).min
        padded = [nn.functional.pad(u, (0, width - u.shape[-1]), value=min_logit) for u in columns]
        return distributions.Categorical(logits=torch.stack(padded, -2), validate_args=False)


class Mixture(Conditional):
    """Finite mixture sum_k pi_k(c) p_k(. | c); missing entries are integrated out exactly.

    Parameters
    ----------
    component : Conditional
        Conditional with k distributions along the axis before the entries, from a network or a
        ``Constant`` with outputs [..., k, d].
    logits : Module or Tensor [k]
        Logits of the mixture weights: a network of c, a fixed tensor, or a ``Parameter`` to fit.

    Examples
    --------
    >>> from ancestral.networks import Constant
    >>> p = Mixture(Gaussian(Constant(torch.randn(3, 2), torch.zeros(3, 2))), torch.zeros(3))
    >>> p.log_prob(torch.zeros(7, 2)).shape
    torch.Size([7])
    """

    def __init__(self, component: Conditional, logits: nn.Module | Tensor) -> None:
        super().__init__()
        self.component = component
        self.logits: nn.Module | Tensor
        if isinstance(logits, nn.Module | nn.Parameter):
            self.logits = logits
        else:
            self.register_buffer("logits", logits)

    def forward(self, c: Given = None) -> distributions.MixtureSameFamily:
        """Return the mixture, over events of d entries."""
        logits = self.logits(c) if isinstance(self.logits, nn.Module) else self.logits
        logits = at_least_single(logits)
        component = self.component(c)
        if not component.event_shape:
            component = distributions.Independent(component, 1, validate_args=False)
        logits = logits.expand(component.batch_shape)
        weights = distributions.Categorical(logits=logits, validate_args=False)
        return distributions.MixtureSameFamily(weights, component, validate_args=False)


class Product(Conditional):
    """Columns of mixed kinds: groups of columns, independent given c.

    Parameters
    ----------
    parts : sequence of Conditional
        Elementwise conditional of each group.
    columns : sequence of sequence of int
        Column indices of each group; each column of the table belongs to exactly one group.
    trunk : Module, optional
        Shared network c -> input of the parts. Default: the parts are called on c.

    Raises
    ------
    ValueError
        If the groups do not partition the columns, or their number differs from that of the parts.
    """

    def __init__(
        self,
        parts: Sequence[Conditional],
        columns: Sequence[Sequence[int]],
        trunk: nn.Module | None = None,
    ) -> None:
        super().__init__()
        flat = [j for group in columns for j in group]
        if sorted(flat) != list(range(len(flat))) or len(parts) != len(columns):
            raise ValueError(
                f"columns={columns}: expected {len(parts)} groups that contain each column "
                "0 .. d - 1 exactly once"
            )
        self.parts, self.trunk = nn.ModuleList(parts), trunk
        self.register_buffer("order", torch.tensor(flat).argsort())
        self.order: Tensor

    def forward(self, c: Given = None) -> MixedColumns:
        """Return the joint distribution of the columns, in the order of the table."""
        c = c if self.trunk is None else self.trunk(c)
        return MixedColumns([part(c) for part in self.parts], self.order)


class Fixed(Conditional):
    """Context-independent distribution, such as a standard normal prior.

    Parameters
    ----------
    distribution : Distribution
        Distribution to return. Its parameters become buffers, so that they move with the module
        to a device or dtype.

    Raises
    ------
    TypeError
        If the distribution wraps another one and has no tensor parameters.

    Examples
    --------
    >>> Fixed(distributions.Normal(torch.zeros(2), torch.ones(2)))().sample((3,)).shape
    torch.Size([3, 2])
    """

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        if not parameters(distribution):
            raise TypeError(
                f"distribution: {type(distribution).__name__} has no tensor parameters; pass the "
                "distribution it wraps"
            )
        self.family = type(distribution)
        self.names = tuple(parameters(distribution))
        for name, value in parameters(distribution).items():
            self.register_buffer(name, value.detach().clone())

    def forward(self, c: Given = None) -> Distribution:  # noqa: ARG002
        """Return the distribution."""
        return self.family(**{n: getattr(self, n) for n in self.names}, validate_args=False)


def standard_normal(d: int) -> Fixed:
    """Return the standard normal distribution N(0, I) over d entries."""
    return Fixed(distributions.Normal(torch.zeros(d), torch.ones(d)))


class Chain(Conditional):
    """Chain of stochastic layers as one vector: p(h_1 | c) p(h_2 | h_1) ...

    Parameters
    ----------
    layers : sequence of Conditional
        Conditionals of the layers. The first is called on c, each other on the value of its
        predecessor.
    sizes : sequence of int
        Widths of the layers, in sampling order.
    reverse : bool, default False
        Concatenate the layers in reverse sampling order, so that a top-down prior and a bottom-up
        posterior have the same layout.
    """

    def __init__(
        self, layers: Sequence[Conditional], sizes: Sequence[int], reverse: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.sizes, self.reverse = nn.ModuleList(layers), tuple(sizes), reverse

    def forward(self, c: Given = None) -> Ancestral:
        """Return the joint distribution of the layers."""
        first, *rest = self.layers
        return Ancestral(first(c), rest, self.sizes, self.reverse)


class FactorAnalyser(Conditional):
    """Factor analyser N(mu, W W^T + Psi) with diagonal Psi: x = W z + mu + noise, z ~ N(0, I).

    ``log_prob`` is exact, also with missing entries (Rubin and Thayer, 1982).

    Parameters
    ----------
    loading : Tensor [d, q]
        Initial loading matrix W, a parameter.
    mu : Tensor [d]
        Initial mean, a parameter.
    log_psi : Tensor [d]
        Initial log noise variances, a parameter.

    Examples
    --------
    >>> fa = FactorAnalyser(torch.ones(3, 1), torch.zeros(3), torch.zeros(3))
    >>> round(fa.log_prob(torch.zeros(3)).item(), 4)
    -3.45
    """

    def __init__(self, loading: Tensor, mu: Tensor, log_psi: Tensor) -> None:
        super().__init__()
        self.loading, self.mu = nn.Parameter(loading.clone()), nn.Parameter(mu.clone())
        self.log_psi = nn.Parameter(log_psi.clone())

    def forward(self, c: Given = None) -> distributions.LowRankMultivariateNormal:  # noqa: ARG002
        """Return the marginal distribution p(x)."""
        return distributions.LowRankMultivariateNormal(
            self.mu, self.loading, self.log_psi.exp(), validate_args=False
        )

    def given(self, z: Float[Tensor, "*b q"]) -> distributions.Normal:
        """Return p(x | z) = N(W z + mu, Psi)."""
        mean = z @ self.loading.T + self.mu
        return distributions.Normal(mean, torch.exp(0.5 * self.log_psi), validate_args=False)

    def posterior(
        self, x: Float[Tensor, "*b d"], mask: Float[Tensor, "*b d"] | None = None
    ) -> distributions.MultivariateNormal:
        """Return p(z | x) = N(G W^T Psi^-1 (x - mu), G) with G = (I + W^T Psi^-1 W)^-1.

        Sums over entries skip those where ``mask`` is 0 (missing).
        """
        scaled = self.loading / self.log_psi.exp().unsqueeze(-1)
        if mask is None:
            residual, precision = x - self.mu, self.loading.T @ scaled
        else:
            residual = (x - self.mu) * mask
            outer = self.loading.unsqueeze(-1) * scaled.unsqueeze(-2)  # [d, q, q]
            precision = (mask.to(x.dtype) @ outer.flatten(1)).unflatten(-1, outer.shape[1:])
        identity = torch.eye(self.loading.shape[1], dtype=x.dtype, device=x.device)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(identity + precision))
        mean = (residual @ scaled).unsqueeze(-2) @ covariance
        return distributions.MultivariateNormal(mean.squeeze(-2), covariance, validate_args=False)
