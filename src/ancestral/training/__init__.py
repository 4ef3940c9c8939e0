"""Training loops: gradient steps of one or several players, and gradient-free iterations."""

from ancestral.training.em import expectation_maximisation, is_settled
from ancestral.training.iterations import rounds
from ancestral.training.loop import train
from ancestral.training.player import Callback, History, Player, Progress, Watch
from ancestral.training.state import NonFiniteError

__all__ = [
    "Callback",
    "History",
    "NonFiniteError",
    "Player",
    "Progress",
    "Watch",
    "expectation_maximisation",
    "is_settled",
    "rounds",
    "train",
]
