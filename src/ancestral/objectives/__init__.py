"""Training objectives: named terms on one run of a model, minimised, in nats per example."""

from ancestral.objectives.adversarial import critic_loss, generator_loss, gradient_penalty
from ancestral.objectives.base import Objective, Term
from ancestral.objectives.likelihood import nll, reconstruction
from ancestral.objectives.local_reconstruction import local_error, local_reconstruction
from ancestral.objectives.max_margin import hinge, hinge_loss
from ancestral.objectives.moment_matching import cmmd, mmd
from ancestral.objectives.regularizers import gaussian_weight_prior, sparsity_penalty
from ancestral.objectives.score_function import reweighted_wake, vimco
from ancestral.objectives.semi_supervised import semi_supervised_bound
from ancestral.objectives.variational import elbo, iwae, log_mean_exp, posterior_mean
from ancestral.probability.cmmd import cmmd2
from ancestral.probability.mmd import mmd2

__all__ = [
    "Objective",
    "Term",
    "cmmd",
    "cmmd2",
    "critic_loss",
    "elbo",
    "gaussian_weight_prior",
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
    "semi_supervised_bound",
    "sparsity_penalty",
    "vimco",
]
