"""Training: players take turns, in one loop."""

from ancestral.train.loop import train
from ancestral.train.players import Callback, History, Player, Progress, Watch
from ancestral.train.state import NonFiniteError

__all__ = ["Callback", "History", "NonFiniteError", "Player", "Progress", "Watch", "train"]
