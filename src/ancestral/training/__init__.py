"""Training loops: gradient steps of one or several players, and gradient-free iterations."""

from ancestral.training.em import expectation_maximisation, has_converged
from ancestral.training.iterations import iterate
from ancestral.training.loop import train
from ancestral.training.player import Callback, EpochMetrics, History, Player, Progress
from ancestral.training.state import NonFiniteError

__all__ = [
    "Callback",
    "EpochMetrics",
    "History",
    "NonFiniteError",
    "Player",
    "Progress",
    "expectation_maximisation",
    "has_converged",
    "iterate",
    "train",
]
