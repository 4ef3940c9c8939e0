"""Training callbacks: progress bar and loggers of learning curves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ancestral.training import Callback, Progress
from ancestral.utils.files import to_csv, write_file


class ProgressBar:
    """Progress bar on standard error with epoch, loss, speed and remaining time.

    Parameters
    ----------
    name : str
        Description shown before the bar.
    """

    def __init__(self, name: str = "fit") -> None:
        self.name = name
        self.bar: tqdm | None = None

    def __call__(self, progress: Progress) -> None:
        """Process an event of training."""
        if progress.event == "start":
            interval = 0.5 if sys.stderr.isatty() else 30.0  # seconds; fewer lines in a log file
            self.bar = tqdm(
                total=progress.n_steps,
                initial=progress.step,
                desc=self.name,
                unit="step",
                mininterval=interval,
            )
        elif self.bar is not None and progress.event == "step":
            self.bar.update()
        elif self.bar is not None and progress.event == "epoch":
            record = progress.history[-1]
            losses = {k: f"{v:.2f}" for k, v in record.items() if k.endswith("loss")}
            self.bar.set_postfix(
                {"epoch": f"{progress.epoch}/{progress.n_epochs}", **losses}, refresh=False
            )
        elif self.bar is not None and progress.event == "end":
            self.bar.close()


def curve_logger(path: Path | str) -> Callback:
    """Return a logger of learning curves: CSV if ``path`` ends in ``.csv``, else TensorBoard.

    Raises
    ------
    ValueError
        If TensorBoard is needed and not installed, or the folder of the CSV file does not exist.
    """
    return CSVLogger(path) if Path(path).suffix == ".csv" else TensorBoardLogger(path)


class CSVLogger:
    """Logger of the history as a CSV file with one row per epoch, rewritten after each epoch.

    Parameters
    ----------
    path : path
        CSV file; its folder must exist.

    Raises
    ------
    ValueError
        If the folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from ancestral.training import History
    >>> path = Path(tempfile.mkdtemp()) / "curves.csv"
    >>> history = History([{"epoch": 1, "loss": 2.5}])
    >>> CSVLogger(path)(Progress("epoch", 1, 1, 9, 9, None, history))
    >>> print(path.read_text(), end="")
    epoch,loss
    1,2.5
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(
                f"log={self.path}: the folder {self.path.parent} does not exist; create it first"
            )

    def __call__(self, progress: Progress) -> None:
        """Process an event of training."""
        if progress.event == "epoch":
            write_file(self.path, to_csv(progress.history))


class TensorBoardLogger:
    """Logger of learning curves as TensorBoard scalars over steps.

    Parameters
    ----------
    folder : path
        Folder of the event files; a resumed training run adds event files.

    Raises
    ------
    ValueError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError(
                f"log={folder}: TensorBoard is not installed; run pip install "
                "ancestral[tensorboard], or give a name that ends in .csv"
            ) from None
        self._open: Any = lambda: SummaryWriter(str(folder))
        self._writer: Any = None

    def __call__(self, progress: Progress) -> None:
        """Process an event of training."""
        if progress.event == "start":
            self._writer = self._open()
        elif progress.event == "epoch":
            record = progress.history[-1]
            for name, value in record.items():
                if name not in ("epoch", "step"):
                    self._writer.add_scalar(name.replace(".", "/"), value, int(record["step"]))
        elif progress.event == "end" and self._writer is not None:
            self._writer.close()
