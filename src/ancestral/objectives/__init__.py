"""Training objectives: named terms on one run of a model, minimised, in nats per example."""

from ancestral.discrepancy import cmmd2, mmd2
from ancestral.objectives.adversarial import critic_loss, generator_loss, gradient_penalty
from ancestral.objectives.base import Objective, Term
from ancestral.objectives.bits import reweighted_wake, vimco
from ancestral.objectives.classes import class_bound
from ancestral.objectives.exact import nll, reconstruction
from ancestral.objectives.importance import elbo, iwae, log_mean_exp, posterior_mean
from ancestral.objectives.local import local_error, local_reconstruction
from ancestral.objectives.margin import gaussian_prior, hinge, hinge_loss, sparse_units
from ancestral.objectives.moments import cmmd, mmd

__all__ = [
    "Objective",
    "Term",
    "class_bound",
    "cmmd",
    "cmmd2",
    "critic_loss",
    "elbo",
    "gaussian_prior",
    "generator_loss",
    "gradient_penalty",
    "hinge",
    "hinge_loss",
    "iwae",
    "local_error",
    "local_reconstruction",
    "log_mean_exp",
    "mmd",
    "mmd2",
    "nll",
    "posterior_mean",
    "reconstruction",
    "reweighted_wake",
    "sparse_units",
    "vimco",
]
