"""Estimators that learn by gradients: the verb ``train``, with fields for all it can be told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from ancestral import engine
from ancestral.batching import Labelled, Shuffle
from ancestral.checkpoint import Checkpoint
from ancestral.data import Data
from ancestral.descent import Descent
from ancestral.estimator import Estimator
from ancestral.fields import Count, Fraction
from ancestral.labels import ClassLearner
from ancestral.networks import calibrate
from ancestral.train import Player, Progress, train


class GradientEstimator(Descent, Estimator, ABC):
    """An estimator whose players go downhill.

    A subclass implements ``_prepare``, ``_build``, ``_initialise`` and ``_players``.

    Parameters
    ----------
    validation_fraction : float
        Part of the training rows held out, for a held-out curve in ``history_``.
    patience : int, optional
        Stop early: when the held-out loss has not fallen for so many epochs; the model of the best
        epoch is kept. Needs a ``validation_fraction``. Games look at the squared MMD of samples
        to held-out rows.
    precision : {"auto", "float32", "bfloat16"}
        Of the matrix products of training; parameters and sums stay in float32. ``"auto"`` is
        bfloat16 where it has hardware of its own (GPUs, and CPUs with AMX or
        AVX-512's bfloat16).
    compile : "auto" or bool
        Make training steps one compiled graph; ``"auto"`` does so when there is enough to do, by a
        fixed rule. Results agree within rounding.
    """

    validation_fraction: Fraction = 0.0
    patience: Count | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto"] | bool = "auto"

    _shuffle: ClassVar[Shuffle] = True
    _criterion: ClassVar[str] = "loss"
    _fewest_held_out: ClassVar[int] = 1
    """Rows, by which something is to be seen."""

    @abstractmethod
    def _players(self) -> Player | Mapping[str, Player]:
        """Say who moves which parameters of ``model_``, by which objective."""

    def _check_combination(self) -> None:
        if self.patience is not None and self.validation_fraction == 0:
            raise ValueError(
                f"patience={self.patience} looks at held-out rows: set validation_fraction too"
            )
        self._check_descent()

    def _learn(self, data: Data, checkpoint: Checkpoint | None) -> None:
        training, validation = self._split(data)
        self.n_rows_ = len(training)
        makeup = training.makeup(self.batch_size, self._labelled_rows)
        self.history_ = train(
            self.model_,
            self._players(),
            training,
            max_epochs=self._n_epochs(makeup.n_batches),
            batch_size=self.batch_size,
            random_state=self.seed_,
            validation=validation,
            patience=self.patience,
            criterion=self._criterion,
            watch=self._look if isinstance(self, Watched) else None,
            callbacks=self._callbacks(),
            checkpoint=checkpoint,
            compile=self.compile,
            precision=self.precision,
            shuffle=self._shuffle,
            n_labelled=self._labelled_rows,
        )
        self._calibrate(training)
        if isinstance(self, ClassLearner):
            self._learn_scores(training)
            self._learn_temperature(training, validation)

    @property
    def _labelled_rows(self) -> Labelled:
        """How many rows of a step have a label, for those that learn from others too."""
        return self.n_labelled if isinstance(self, PartlyLabelled) else None

    def _split(self, data: Data) -> tuple[Data, Data | None]:
        n_held_out = round(self.validation_fraction * len(data))
        if self.validation_fraction == 0:
            return data, None
        if not 0 < n_held_out < len(data):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(data)} rows leaves "
                "nothing to train on or nothing to hold out"
            )
        if n_held_out < self._fewest_held_out:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} leaves {n_held_out} rows, and "
                f"{type(self).__name__} is compared with {self._fewest_held_out} or more"
            )
        order = np.random.default_rng(self.seed_).permutation(len(data))
        # held-out rows as drawn: the first of them stand for all, however the rows were sorted
        return data.subset(np.sort(order[n_held_out:])), data.subset(order[:n_held_out])

    def _calibrate(self, data: Data) -> None:
        def passes() -> None:
            how: dict[str, Any] = {"seed": self.seed_, "n_labelled": self._labelled_rows}
            with engine.private_randomness(data.device):
                for number, index in enumerate(data.batches(self.batch_size, **how)):
                    engine.seed(self.seed_, number)
                    self.model_.run(data.take(index))

        calibrate(self.model_, passes)


class Watched(ABC):
    """An estimator whose model is looked at after every epoch."""

    @abstractmethod
    def _look(self, progress: Progress, held_out: Data | None) -> Mapping[str, float]:
        """Return what is seen, for the record; see ``watch`` of :func:`ancestral.train.train`."""


class PartlyLabelled(GradientEstimator, ABC):
    """An estimator of classes that learns from rows without a label (-1) too.

    Parameters
    ----------
    n_labelled : int or "share"
        Where some rows are unlabelled: how many of the ``batch_size`` rows of a step have a label,
        or their share of the rows, rounded up. What is learnt of labels is a mean over the labelled
        rows of a step, so it counts as its weight says however few they are. They go round in an
        order of their own; with more than their share they also count for more in the bound. An
        epoch is over when every row was visited.
    """

    n_labelled: Count | Literal["share"] = "share"
