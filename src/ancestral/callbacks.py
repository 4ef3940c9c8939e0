"""What may listen to training: a progress bar, and logs of the learning curves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ancestral.storage import to_csv, write_file
from ancestral.train import Callback, Progress


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


def curve_log(path: Path | str) -> Callback:
    """Return what writes learning curves: to a file ending in ``.csv``, or for TensorBoard.

    Raises
    ------
    ValueError
        If TensorBoard is asked for and not installed.
    """
    return CsvLog(path) if Path(path).suffix == ".csv" else TensorBoardLog(path)


class CsvLog:
    """The history as a table, one row an epoch, written anew after each.

    Parameters
    ----------
    path : path
        The file.

    Examples
    --------
    >>> import tempfile
    >>> from ancestral.train import History
    >>> path = Path(tempfile.mkdtemp()) / "curves.csv"
    >>> history = History([{"epoch": 1, "loss": 2.5}])
    >>> CsvLog(path)(Progress("epoch", 1, 1, 9, 9, None, history))
    >>> print(path.read_text(), end="")
    epoch,loss
    1,2.5
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(f"log={self.path}: the folder {self.path.parent} is not there")

    def __call__(self, progress: Progress) -> None:
        """Follow training."""
        if progress.event == "epoch":
            write_file(self.path, to_csv(progress.history))


class TensorBoardLog:
    """The curves as scalars in a TensorBoard folder, over steps.

    Parameters
    ----------
    folder : path
        Where the event files go; a resumed training adds to them.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                f"log={folder}: TensorBoard is not installed (pip install ancestral[tensorboard]); "
                "a name ending in .csv needs nothing"
            ) from None
        self._open: Any = lambda: SummaryWriter(str(folder))
        self._writer: Any = None

    def __call__(self, progress: Progress) -> None:
        """Follow training."""
        if progress.event == "start":
            self._writer = self._open()
        elif progress.event == "epoch":
            record = progress.history[-1]
            for name, value in record.items():
                if name not in ("epoch", "step"):
                    self._writer.add_scalar(name.replace(".", "/"), value, int(record["step"]))
        elif progress.event == "end" and self._writer is not None:
            self._writer.close()
