"""Training loops: gradient steps of one or several players, and gradient-free iterations."""

from ancestral.train.em import expectation_maximisation, is_settled
from ancestral.train.loop import train
from ancestral.train.players import Callback, History, Player, Progress, Watch
from ancestral.train.rounds import rounds
from ancestral.train.state import NonFiniteError

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
