"""Evaluation: log-likelihoods, annealing, imputation, metrics, sample quality.

Functions of fitted models and of samples; nothing here trains an estimator.
"""

from ancestral.evaluation.ais import Annealing, annealed_log_likelihood, bidirectional_bounds
from ancestral.evaluation.imputation import pseudo_gibbs
from ancestral.evaluation.log_likelihood import LogLikelihood, compare
from ancestral.evaluation.metrics import mcnemar
from ancestral.evaluation.parzen import parzen_log_likelihood
from ancestral.evaluation.sample_quality import count_covered_modes, sample_quality

__all__ = [
    "Annealing",
    "LogLikelihood",
    "annealed_log_likelihood",
    "bidirectional_bounds",
    "compare",
    "count_covered_modes",
    "mcnemar",
    "parzen_log_likelihood",
    "pseudo_gibbs",
    "sample_quality",
]
