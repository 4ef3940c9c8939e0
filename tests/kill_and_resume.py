"""Train with a checkpoint in processes that are killed at random times; run by test_checkpoint.py.

Usage: python kill_and_resume.py FOLDER N_KILLS

After N_KILLS kills, the last process runs to the end. Writes FOLDER/uninterrupted.pt and
FOLDER/resumed.pt with the final parameters and history of each.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

from ancestral import DeviceData, LatentModel, Player
from ancestral.data.device_data import sample_bernoulli
from ancestral.nn import MLP
from ancestral.objectives import iwae
from ancestral.probability.conditionals import Bernoulli, Gaussian, standard_normal
from ancestral.training import train
from ancestral.training.checkpoint import Checkpoint
from ancestral.training.optim import adam, cosine

torch.set_num_threads(1)


def fit(path: Path, checkpoint: Checkpoint | None) -> None:
    """Train a model and save its final parameters and history."""
    torch.manual_seed(0)
    model = LatentModel(
        standard_normal(4),
        Bernoulli(MLP(4, (16,), 64, activation="relu", batch_norm=True)),
        Gaussian(MLP(64, (16,), heads=(4, 4))),
    )
    x = np.random.default_rng(0).random((300, 64)).astype(np.float32)
    history = train(
        model,
        {
            "p": Player(model.likelihood, iwae(3), adam(cosine(1e-2)), every=2),
            "q": Player(model.posterior, iwae(3), adam(cosine(1e-2))),
        },
        DeviceData(x[:250], epoch_transform=sample_bernoulli),
        max_epochs=60,
        batch_size=20,
        random_state=3,
        validation=DeviceData(x[250:]),
        checkpoint=checkpoint,
    )
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in history]
    torch.save({"model": model.state_dict(), "history": records}, path)


def main(folder: Path, n_kills: int) -> None:
    fit(folder / "uninterrupted.pt", None)
    rng, count = random.Random(0), 0
    while True:
        pid = os.fork()
        if pid == 0:
            checkpoint = Checkpoint(folder / "state.checkpoint", identity="one", every=0.0)
            fit(folder / "resumed.pt", checkpoint)
            os._exit(0)
        if count < n_kills:
            time.sleep(rng.uniform(0.02, 0.15))
            os.kill(pid, signal.SIGKILL)
            count += 1
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            print(count, os.WEXITSTATUS(status))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
