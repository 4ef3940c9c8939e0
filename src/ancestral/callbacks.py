"""What may listen to training: a progress bar."""

from __future__ import annotations

import sys

from tqdm import tqdm

from ancestral.train import Progress


class ProgressBar:
    """A line on standard error: epoch, loss, speed, time left.

    Parameters
    ----------
    name : str
        Shown in front.
    """

    def __init__(self, name: str = "fit") -> None:
        self.name = name
        self.bar: tqdm | None = None

    def __call__(self, progress: Progress) -> None:
        """Follow training."""
        if progress.event == "start":
            patience = 0.5 if sys.stderr.isatty() else 30.0  # a log file wants few lines
            self.bar = tqdm(
                total=progress.n_steps,
                initial=progress.step,
                desc=self.name,
                unit="step",
                mininterval=patience,
            )
        elif self.bar is not None and progress.event == "step":
            self.bar.update()
        elif self.bar is not None and progress.event == "epoch":
            record = progress.history[-1]
            shown = {k: f"{v:.2f}" for k, v in record.items() if k.endswith("loss")}
            self.bar.set_postfix(
                {"epoch": f"{progress.epoch}/{progress.n_epochs}", **shown}, refresh=False
            )
        elif self.bar is not None and progress.event == "end":
            self.bar.close()
