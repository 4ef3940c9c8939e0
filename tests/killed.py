"""Train with a checkpoint, killed at random instants until N kills are done, then left in peace.

Run by test_checkpoint.py:  python killed.py FOLDER N_KILLS
Writes FOLDER/undisturbed.pt and FOLDER/resumed.pt: final state and history of both.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from ancestral import Data, LatentModel, Player
from ancestral.checkpoint import Checkpoint
from ancestral.conditional import Bernoulli, Gaussian, standard_normal
from ancestral.networks import MLP
from ancestral.objectives import iwae
from ancestral.optim import adam, cosine
from ancestral.preprocess import bernoulli_draw
from ancestral.train import train

torch.set_num_threads(1)


def fit(target: Path, checkpoint: Checkpoint | None) -> None:
    torch.manual_seed(0)
    model = LatentModel(
        standard_normal(4),
        Bernoulli(MLP(4, (16,), 64, activation="relu", batch_norm=True)),
        Gaussian(MLP(64, (16,), heads=(4, 4))),
    )
    rows = np.random.default_rng(0).random((300, 64)).astype(np.float32)
    history = train(
        model,
        {
            "p": Player(model.likelihood, iwae(3), adam(cosine(1e-2)), every=2),
            "q": Player(model.posterior, iwae(3), adam(cosine(1e-2))),
        },
        Data(rows[:250], on_epoch=bernoulli_draw),
        max_epochs=60,
        batch_size=20,
        random_state=3,
        validation=Data(rows[250:]),
        checkpoint=checkpoint,
    )
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in history]
    torch.save({"model": model.state_dict(), "history": records}, target)


def main(folder: Path, n_kills: int) -> None:
    fit(folder / "undisturbed.pt", None)
    moments, kills = random.Random(0), 0
    while True:
        child = os.fork()
        if child == 0:
            kept = Checkpoint(folder / "state.checkpoint", identity="one", every=0.0)
            fit(folder / "resumed.pt", kept)
            os._exit(0)
        if kills < n_kills:
            time.sleep(moments.uniform(0.02, 0.15))
            os.kill(child, signal.SIGKILL)
            kills += 1
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            print(kills, os.WEXITSTATUS(status))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
