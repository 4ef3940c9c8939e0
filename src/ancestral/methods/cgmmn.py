"""Conditional moment matching: one objective for classifiers, and for generators of a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from ancestral import engine
from ancestral.data import Batch, Data
from ancestral.fields import Count, Natural, Positive, Sizes, Weight
from ancestral.kernels import DeltaKernel
from ancestral.labels import ClassLearner, LabelLearner
from ancestral.methods.implicit import (
    WIDTHS,
    ImplicitEstimator,
    Noise,
    Variances,
    kernel_of_rows,
    noise,
)
from ancestral.methods.networked import Networked
from ancestral.models import Generator
from ancestral.networks import linear
from ancestral.objectives import Objective, cmmd, gaussian_prior
from ancestral.train import Player

INPUT_WIDTHS = (0.02, 0.18, 0.4, 0.8, 1.6)
"""Variances of the kernel of rows to be classified, in units of the median heuristic's."""


class NoisyBody(nn.Module):
    """Hidden layers of rows, to whose values noise is added as further columns.

    Parameters
    ----------
    body : Module
        Rows [n, d] to [n, m].
    d : int
        Columns of a row; the rest of the input is noise.
    """

    def __init__(self, body: nn.Module, d: int) -> None:
        super().__init__()
        self.body, self.d = body, d

    def forward(self, u: Tensor) -> Tensor:
        """Return [n, m + n_noise]."""
        return torch.cat([self.body(u[:, : self.d]), u[:, self.d :]], -1)


class CGMMNClassifier(ClassifierMixin, ClassLearner, Networked):
    """Conditional generative moment-matching network that draws a row's class (Ren et al., 2016).

    A network of row and noise draws one-hot classes; the conditional maximum mean discrepancy to
    the classes of the training rows is minimised. A prediction is the mean over many draws.

    Parameters
    ----------
    n_noise : int
        Noise beside a row: at the input of a dense network, at the last layer of a convolutional
        one. Without, the network is deterministic, as the authors' CNN.
    noise : {"uniform", "unit", "normal", "bits"}
        Of which kind; the lecture's is uniform on [0, 1], the authors' are bits.
    input_variances : list of float, or "auto"
        Of the Gaussians in the kernel of rows. ``"auto"`` takes five, from a fiftieth of the median
        heuristic's, as narrow as the authors' on MNIST.
    output_variances : list of float
        Of those in the kernel of classes.
    regularization : float
        lambda of the regression in feature space. The smaller it is, the more the objective looks
        at differences between rows that are alike; the authors' 0.001 suits narrow kernels.
    form : {"cmmd", "diagonal"}
        The lecture's formula, or what the authors' script for classification computes in its
        place: see ``objectives.cmmd``.
    prior : float
        Precision of the Gaussian prior on every parameter, for the sum over all batches.
    n_draws : int
        Whose mean is a prediction.
    batch_size : int
        Rows whose conditional moments are matched at once. Batches are drawn once and recur, so
        that each is factorised once.

    Attributes
    ----------
    classes_ : array [n_classes]
        What ``predict`` answers.
    temperature_ : float
        Of ``predict_proba``.

    References
    ----------
    Conditional Generative Moment-Matching Networks, https://arxiv.org/abs/1606.04218

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> how = {"hidden": (50,), "learning_rate": 5e-3, "max_epochs": 20, "random_state": 0}
    >>> cgmmn = CGMMNClassifier(batch_size=100, **how).fit(X / 16, y)
    >>> cgmmn.score(X / 16, y) > 0.9
    True
    """

    n_noise: Natural = 20
    noise: Noise = "unit"
    hidden: Sizes = (500, 200, 100)
    batch_norm: bool = False
    input_variances: Variances = "auto"
    output_variances: tuple[Positive, ...] = (1.0, 3.0, 5.0, 7.0, 9.0)
    regularization: Positive = 0.1
    form: Literal["cmmd", "diagonal"] = "cmmd"
    prior: Weight = 1.0
    n_draws: Count = 20
    batch_size: Count = 500
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    _shuffle = "once"

    def spread(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the drawn outputs, both [n_samples, n_classes].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        """
        mean = self._map_rows(X, lambda batch: self._outputs(batch).mean(0))
        return mean, self._map_rows(X, lambda batch: self._outputs(batch).std(0, correction=0))

    def _build(self) -> dict[str, nn.Module]:
        columns, n_classes = self._columns(), len(self.classes_)
        if columns.recodes:
            raise ValueError(
                "likelihood: CGMMNClassifier compares rows by a kernel: bernoulli and gaussian "
                "columns only"
            )
        d = columns.n_features
        if self.network == "dense":
            body, n = self._body(d + self.n_noise)
        else:
            body, n = self._body(d)
            body, n = NoisyBody(body, d), n + self.n_noise
        network = nn.Sequential(body, linear(n, n_classes), nn.Sigmoid())
        model = Generator(network, noise(self.noise, self.n_noise), "x", n_classes)
        return {"columns_": columns, "model_": model}

    def _initialise(self, data: Data) -> None:
        check_labelled(self, data)
        self.input_variances_ = kernel_of_rows(
            self.input_variances, data, self.batch_size, INPUT_WIDTHS
        )

    def _players(self) -> Player:
        objective: Objective = cmmd(
            "x",
            "y",
            self.input_variances_,
            self.output_variances,
            self.regularization,
            len(self.classes_),
            self.form,
        )
        if self.prior > 0:
            n_batches = -(-self.n_rows_ // min(self.batch_size, self.n_rows_))
            objective = objective + gaussian_prior(self.prior / n_batches)
        return Player(self.model_, objective, self._optimizer())

    def _learn_scores(self, data: Data) -> None:
        """Scores are the outputs of the network."""

    def _scores(self, batch: Batch) -> Tensor:
        return self._outputs(batch).mean(0)

    def _outputs(self, batch: Batch) -> Tensor:
        """Outputs [n_draws, batch, n_classes] at noise that is the same for every row and call."""
        model = self.model_
        assert isinstance(model, Generator)
        with engine.seeded(self.seed_, device=batch.x.device):
            drawn = model.noise().sample((self.n_draws if self.n_noise else 1,))
        return torch.stack([model.at(h.expand(len(batch.x), -1), batch.x) for h in drawn])

    if TYPE_CHECKING:
        model_: nn.Module


class CGMMN(LabelLearner, ImplicitEstimator):
    """Conditional generative moment-matching network that draws rows of a class (Ren et al., 2016).

    Parameters
    ----------
    variances : list of float, or "auto"
        Of the Gaussians in the kernel of rows; ``"auto"`` takes five around the median
        heuristic's. Classes have the delta kernel.
    regularization : float
        lambda of the regression in feature space.
    form : {"cmmd", "classwise"}
        The lecture's formula, or what the authors' script for generation computes in its place,
        the sum of discrepancies inside each class: see ``objectives.cmmd``.
    batch_size : int
        Rows, and samples, a step. Batches are drawn once and recur.

    Attributes
    ----------
    classes_ : array [n_classes]
        What rows can be drawn of.

    References
    ----------
    Conditional Generative Moment-Matching Networks, https://arxiv.org/abs/1606.04218

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> cgmmn = CGMMN(hidden=(50,), max_epochs=5, random_state=0).fit(X / 16, y)
    >>> cgmmn.sample(3, y=[0, 1, 2]).shape
    (3, 64)
    """

    n_noise: Count = 5
    hidden: Sizes = (64, 256, 256, 512)
    variances: Variances = "auto"
    regularization: Positive = 1e-3
    form: Literal["cmmd", "classwise"] = "cmmd"
    batch_size: Count = 500

    _shuffle = "once"

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        return {"columns_": columns, "model_": self._make_generator(columns)}

    def _initialise(self, data: Data) -> None:
        check_labelled(self, data)
        assert data.y is not None
        self.class_shares_ = (data.y.bincount() / len(data)).tolist()
        self.variances_ = kernel_of_rows(self.variances, data, self.batch_size, WIDTHS)

    def _players(self) -> Player:
        objective = cmmd(
            "y",
            "x",
            DeltaKernel(),
            self.variances_,
            self.regularization,
            len(self.classes_),
            self.form,
        )
        return Player(self.model_, objective, self._optimizer())


def check_labelled(estimator: LabelLearner, data: Data) -> None:
    """Refuse unlabelled rows.

    Raises
    ------
    ValueError
        If there are some.
    """
    assert data.y is not None
    n = int((data.y < 0).sum())
    if n:
        raise ValueError(
            f"y: {n} rows are unlabelled (-1) and {type(estimator).__name__} learns from labelled "
            "rows only: leave them out"
        )
