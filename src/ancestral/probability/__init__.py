"""Probability: conditionals, closed-form densities, kernels and discrepancies.

A conditional is a module that maps a context to a torch distribution.
"""

from ancestral.probability.cmmd import cmmd2
from ancestral.probability.composite import Chain, Mixture, Product, Unconditional, standard_normal
from ancestral.probability.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    Context,
    FullGaussian,
    Gaussian,
    Laplace,
    Poisson,
)
from ancestral.probability.kernels import GaussianKernel, Kernel
from ancestral.probability.mmd import mmd2

__all__ = [
    "Bernoulli",
    "Categorical",
    "Chain",
    "Conditional",
    "Context",
    "FullGaussian",
    "Gaussian",
    "GaussianKernel",
    "Kernel",
    "Laplace",
    "Mixture",
    "Poisson",
    "Product",
    "Unconditional",
    "cmmd2",
    "mmd2",
    "standard_normal",
]
