"""Probability: conditionals, closed-form densities, kernels and discrepancies.

A conditional is a module that maps a context to a torch distribution.
"""

from ancestral.probability.cmmd import cmmd2, conditional_mmd2
from ancestral.probability.composite import Chain, Mixture, Product
from ancestral.probability.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    Context,
    FullGaussian,
    Gaussian,
    Laplace,
    Poisson,
    Unconditional,
    standard_normal,
)
from ancestral.probability.kernel_features import NystromFeatures, RandomFeatures
from ancestral.probability.kernels import (
    DeltaKernel,
    GaussianKernel,
    Kernel,
    LaplaceKernel,
    RationalQuadraticKernel,
)
from ancestral.probability.mmd import mmd2, mmd2_of_features, two_sample_test

__all__ = [
    "Bernoulli",
    "Categorical",
    "Chain",
    "Conditional",
    "Context",
    "DeltaKernel",
    "FullGaussian",
    "Gaussian",
    "GaussianKernel",
    "Kernel",
    "Laplace",
    "LaplaceKernel",
    "Mixture",
    "NystromFeatures",
    "Poisson",
    "Product",
    "RandomFeatures",
    "RationalQuadraticKernel",
    "Unconditional",
    "cmmd2",
    "conditional_mmd2",
    "mmd2",
    "mmd2_of_features",
    "standard_normal",
    "two_sample_test",
]
