"""Conditionals: modules that, called on a context, answer with a distribution.

A prior, a likelihood, a posterior, a mixture and a factor analyser are all of this one kind, which
is what lets them be combined freely. A conditional holds no layers of its own: its network maps
the context to the distribution's parameters.
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
    """What a conditional may be given; a network that begins with ``Read`` takes its pick."""

    x: Tensor | None = None
    y: Tensor | None = None
    mask: Tensor | None = None
    z: Tensor | None = None


Given = Tensor | Context | None


class Conditional(nn.Module, ABC):
    """p(. | c): called on a context it returns a torch ``Distribution`` over vectors of d entries.

    The distribution is either elementwise (its batch shape ends in d) or has events of shape [d].
    """

    @abstractmethod
    def forward(self, c: Given = None) -> Distribution:
        """Return p(. | c), its parameters in single precision at least."""

    def log_prob(
        self,
        x: Float[Tensor, "*b d"],
        c: Given = None,
        mask: Float[Tensor, "*b2 d"] | None = None,
    ) -> Float[Tensor, "*b3"]:
        """Log-density in nats of the observed entries, the exact marginal of the others.

        See :func:`ancestral.distributions.log_prob`.
        """
        return log_prob(self(c), x, mask)


def reads_context(conditional: Conditional) -> bool:
    """Whether some network inside begins with ``Read`` and so wants the whole ``Context``."""
    return any(getattr(m, "reads", None) for m in conditional.modules())


class Gaussian(Conditional):
    """N(mu(c), diag exp(log_var(c))).

    Parameters
    ----------
    network : Module
        c -> (mu [..., d], log_var [..., d]); or c -> mu alone when ``log_var`` is given.
    log_var : float or Tensor, optional
        A fixed log-variance, or a ``Parameter`` to learn one that does not depend on c.
    log_var_range : (float, float)
        Log-variances are held within: the density of a constant column would grow without bound.

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
        read = at_least_single(self.network(c))
        mu, log_var = read if self.log_var is None else (read, self.log_var)
        scale = torch.exp(0.5 * log_var.clamp(*self.log_var_range))
        return distributions.Normal(mu, scale, validate_args=False)


class FullGaussian(Conditional):
    """N(mu(c), L(c) L(c)^T) with a lower-triangular L whose diagonal is the exponential of its own.

    Parameters
    ----------
    network : Module
        c -> (mu [..., d], l [..., d (d + 1) / 2]), the rows of L one after another.

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
        c -> (mu [..., d], log_scale [..., d]).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: Given = None) -> distributions.Laplace:
        """Return the Laplace distribution, elementwise."""
        mu, log_scale = at_least_single(self.network(c))
        return distributions.Laplace(mu, log_scale.clamp(-7.0, 7.0).exp(), validate_args=False)


class Bernoulli(Conditional):
    """Independent bits with the given log-odds.

    Parameters
    ----------
    network : Module
        c -> logits [..., d].
    clip : float
        Means are held within [clip, 1 - clip], below a half; beyond, no gradient flows. 0 for none.

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
            raise ValueError(f"clip={clip}: means are held within [clip, 1 - clip], below a half")
        self.network = network
        self.most = math.inf if clip == 0 else math.log((1 - clip) / clip)

    def forward(self, c: Given = None) -> distributions.Bernoulli:
        """Return the Bernoulli distribution, elementwise."""
        logits = at_least_single(self.network(c))
        if self.most < math.inf:
            logits = logits.clamp(-self.most, self.most)
        return distributions.Bernoulli(logits=logits, validate_args=False)


class Poisson(Conditional):
    """Independent counts with the given log-rates.

    Parameters
    ----------
    network : Module
        c -> log_rate [..., d]; held between -20 and 20.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, c: Given = None) -> distributions.Poisson:
        """Return the Poisson distribution, elementwise."""
        log_rate = at_least_single(self.network(c)).clamp(-20, 20)
        return distributions.Poisson(log_rate.exp(), validate_args=False)


class Categorical(Conditional):
    """Independent codes 0 .. n - 1, each column with its own number n of categories.

    Parameters
    ----------
    network : Module
        c -> logits [..., sum of n], the columns one after another.
    n_categories : sequence of int
        Of every column.

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
        """Return one distribution per column; shorter columns are padded by probability zero."""
        widest = max(self.n_categories)
        columns = at_least_single(self.network(c)).split(self.n_categories, -1)
        lowest = torch.finfo(columns[0].dtype).min
        padded = [nn.functional.pad(u, (0, widest - u.shape[-1]), value=lowest) for u in columns]
        return distributions.Categorical(logits=torch.stack(padded, -2), validate_args=False)


class Mixture(Conditional):
    """sum_k pi_k(c) p_k(. | c): a finite mixture, its missing entries integrated out exactly.

    Parameters
    ----------
    component : Conditional
        Answers with k distributions along the axis before the entries: a network or
        ``Constant`` of shape [..., k, d].
    logits : Module or Tensor [k]
        Of the weights: a network of c, a fixed tensor, or a ``Parameter`` to learn.

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
    """Columns of mixed kinds: independent groups of columns given a shared network's features.

    Parameters
    ----------
    parts : sequence of Conditional
        One per group, elementwise.
    columns : sequence of sequence of int
        Which columns of the table each group holds; together every column once.
    trunk : Module, optional
        c -> what the parts are called on.
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
            raise ValueError(f"columns={columns}: together the parts must hold every column once")
        self.parts, self.trunk = nn.ModuleList(parts), trunk
        self.register_buffer("order", torch.tensor(flat).argsort())
        self.order: Tensor

    def forward(self, c: Given = None) -> MixedColumns:
        """Return the distribution of the table's columns in their order."""
        c = c if self.trunk is None else self.trunk(c)
        return MixedColumns([part(c) for part in self.parts], self.order)


class Fixed(Conditional):
    """One distribution whatever the context: the standard normal prior, uniform noise.

    Parameters
    ----------
    distribution : Distribution
        Its tensors become buffers, which move with the module to a device or dtype.

    Raises
    ------
    TypeError
        If the distribution wraps another and so has no tensors of its own.

    Examples
    --------
    >>> Fixed(distributions.Normal(torch.zeros(2), torch.ones(2)))().sample((3,)).shape
    torch.Size([3, 2])
    """

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        if not parameters(distribution):
            raise TypeError(
                f"{type(distribution).__name__} has no tensors of its own: give what it wraps"
            )
        self.family = type(distribution)
        self.names = tuple(parameters(distribution))
        for name, value in parameters(distribution).items():
            self.register_buffer(name, value.detach().clone())

    def forward(self, c: Given = None) -> Distribution:  # noqa: ARG002
        """Return the distribution."""
        return self.family(**{n: getattr(self, n) for n in self.names}, validate_args=False)


def standard_normal(d: int) -> Fixed:
    """N(0, I) over d entries."""
    return Fixed(distributions.Normal(torch.zeros(d), torch.ones(d)))


class Chain(Conditional):
    """Several stochastic layers as one vector: p(h_1 | c) p(h_2 | h_1) ...

    Parameters
    ----------
    layers : sequence of Conditional
        The first is called on c, each other one on the value of the one before.
    sizes : sequence of int
        Widths of the layers, in the order of drawing.
    reverse : bool
        Lay out the layer drawn last first, so that a top-down prior and a bottom-up posterior
        speak of the same vector.
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
    """N(mu, W W^T + Psi): latent features drawn from N(0, I), seen through a linear map.

    Its ``log_prob`` is exact, with missing entries too (Rubin and Thayer, 1982).

    Parameters
    ----------
    loading : Tensor [d, q]
        W, learned.
    mu : Tensor [d]
        Mean, learned.
    log_psi : Tensor [d]
        Log of the noise variances, learned.

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
        """Return the marginal distribution of a row."""
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

        Sums over entries leave out those that ``mask`` says are missing.
        """
        scaled = self.loading / self.log_psi.exp().unsqueeze(-1)
        if mask is None:
            known, products = x - self.mu, self.loading.T @ scaled
        else:
            known = (x - self.mu) * mask
            each = self.loading.unsqueeze(-1) * scaled.unsqueeze(-2)  # [d, q, q]
            products = (mask.to(x.dtype) @ each.flatten(1)).unflatten(-1, each.shape[1:])
        identity = torch.eye(self.loading.shape[1], dtype=x.dtype, device=x.device)
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(identity + products))
        mean = (known @ scaled).unsqueeze(-2) @ covariance
        return distributions.MultivariateNormal(mean.squeeze(-2), covariance, validate_args=False)
