"""Conditional moment matching of what is told of rows: a classifier, and a regressor."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from torch import Tensor, nn

from ancestral import engine
from ancestral.data import Batch, Data
from ancestral.fields import Count, Natural, Positive, Sizes, Weight
from ancestral.kernels import check_variances
from ancestral.labels import ClassLearner, TargetLearner, check_labelled
from ancestral.methods.implicit import WIDTHS, Noise, Variances, kernel_of_rows, noise
from ancestral.methods.networked import Disturbed
from ancestral.methods.student import Student
from ancestral.models import Generator
from ancestral.networks import linear, logit, set_output_bias
from ancestral.objectives import Objective, cmmd, gaussian_prior
from ancestral.preprocess import Columns
from ancestral.train import Player

INPUT_WIDTHS = (0.02, 0.18, 0.4, 0.8, 1.6)
"""Variances of the kernel of rows, in units of the median heuristic's."""


NEIGHBOURHOOD = 0.1
"""That of rows whose targets are one distribution, likewise."""


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


class ConditionalMatcher(Disturbed, ABC):
    """A network of row and noise whose outputs match the conditional moments of the data.

    Parameters
    ----------
    n_noise : int
        Noise beside a row: at the input of a dense network, at the last layer of a convolutional
        one. Without, the network is deterministic, as the authors' CNN.
    noise : {"uniform", "unit", "centred", "normal", "bits"}
        Uniform on [-1, 1], on [0, 1] as published or on [-1/2, 1/2], standard normal, or fair
        bits as those of the authors' script for classification.
    input_variances : list of float, or "auto"
        Of the Gaussians in the kernel of rows. ``"auto"`` takes five, from a fiftieth of the median
        heuristic's, as narrow as the authors' on MNIST.
    regularization : float
        lambda of the regression in feature space. The smaller it is, the more the objective looks
        at differences between rows that are alike; the authors' 0.001 suits narrow kernels.
    prior : float
        Precision of the Gaussian prior on every parameter, for the sum over all batches.
    n_draws : int
        Number of generated answers per row; a prediction is their mean.
    batch_size : int
        Rows whose conditional moments are matched at once. Batches are drawn once and recur, so
        that each is factorised once.
    """

    n_noise: Natural = 20
    noise: Noise = "unit"
    hidden: Sizes = (500, 200, 100)
    batch_norm: bool = False
    input_variances: Variances = "auto"
    regularization: Positive = 0.1
    prior: Weight = 1.0
    n_draws: Count = 20
    batch_size: Count = 500
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    _shuffle = "once"

    def _drawer(self, columns: Columns, n_out: int, last: list[nn.Module]) -> Generator:
        """Make the network of rows and noise, with ``n_out`` outputs."""
        if columns.recodes:
            raise ValueError(
                f"likelihood: {type(self).__name__} compares rows by a kernel: bernoulli and "
                "gaussian columns only"
            )
        d = columns.n_features
        if self.network == "dense":
            body, n = self._disturbed(d + self.n_noise)
        else:
            body, n = self._disturbed(d)
            body, n = NoisyBody(body, d), n + self.n_noise
        network = nn.Sequential(body, linear(n, n_out), *last)
        return Generator(network, noise(self.noise, self.n_noise), "x")

    def _matched(self, objective: Objective) -> Player:
        """Add the prior, and say who moves."""
        if self.prior > 0:
            n_batches = -(-self.n_rows_ // min(self.batch_size, self.n_rows_))
            objective = objective + gaussian_prior(self.prior / n_batches)
        return Player(self.model_, objective, self._optimizer())

    def _outputs(self, batch: Batch) -> Tensor:
        """Outputs [n_draws, batch, n_out] at noise that is the same for every row and call."""
        model = self.model_
        assert isinstance(model, Generator)
        with engine.seeded(self.seed_, device=batch.x.device):
            drawn = model.noise().sample((self.n_draws if self.n_noise else 1,))
        return torch.stack([model.at(h.expand(len(batch.x), -1), batch.x) for h in drawn])

    if TYPE_CHECKING:
        model_: nn.Module
        n_rows_: int


class CGMMNClassifier(ClassifierMixin, ClassLearner, ConditionalMatcher):
    """Conditional generative moment-matching network that draws a row's class (Ren et al., 2016).

    A network of row and noise draws one-hot classes; the conditional maximum mean discrepancy to
    the classes of the training rows is minimised. A prediction is the mean over many draws.

    Parameters
    ----------
    output_variances : list of float
        Of the Gaussians in the kernel of classes.
    form : {"cmmd", "diagonal"}
        The published formula, or what the authors' script for classification computes in its
        place: see ``objectives.cmmd``. Their script for convolutional networks computes the formula
        without noise: ``n_noise=0``.

    Attributes
    ----------
    classes_ : array [n_classes]
        The classes, sorted, as ``predict`` returns them.
    temperature_ : float
        What scores are divided by in ``predict_proba``, so that probabilities are calibrated.

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

    output_variances: tuple[Positive, ...] = (1.0, 3.0, 5.0, 7.0, 9.0)
    form: Literal["cmmd", "diagonal"] = "cmmd"

    def spread(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the drawn outputs, both [n_samples, n_classes].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        """

        def both(batch: Batch) -> Tensor:
            drawn = self._outputs(batch)
            return torch.stack([drawn.mean(0), drawn.std(0, correction=0)], 1)

        mean, spread = np.moveaxis(self._map_rows(X, both), 1, 0)
        return mean, spread

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        model = self._drawer(columns, len(self.classes_), [nn.Sigmoid()])
        return {"columns_": columns, "model_": model}

    def _initialise(self, data: Data) -> None:
        check_labelled(self, data.y)
        n, given = self.batch_size, self.input_variances
        self.input_variances_ = kernel_of_rows("input_variances", given, data, n, INPUT_WIDTHS)
        check_variances("output_variances", self.output_variances)

    def _players(self) -> Player:
        kernels = (self.input_variances_, self.output_variances)
        n_classes = len(self.classes_)
        return self._matched(cmmd("x", "y", *kernels, self.regularization, n_classes, self.form))

    def _learn_scores(self, data: Data) -> None:
        """Scores are the outputs of the network."""

    def _scores(self, batch: Batch) -> Tensor:
        return self._outputs(batch).mean(0)


class CGMMNRegressor(RegressorMixin, TargetLearner, Student, ConditionalMatcher):
    """Conditional generative moment-matching network that draws a row's targets (Ren et al., 2016).

    It learns the distribution of the targets given the row, not only their mean, if rows that are
    alike are compared with one another. The discrepancy weighs eigenvectors of the kernel of rows
    by e / (e + lambda)^2: a small lambda, as for classification, looks at single rows, of which
    there is one target each, and a deterministic answer is then the best. So lambda is large here,
    and ``form="unbiased"`` mends what is left of this.

    Parameters
    ----------
    input_variances : list of float, or "auto"
        Of the Gaussians in the kernel of rows; ``"auto"`` takes one, a tenth of the median
        heuristic's.
    regularization : float
        lambda of the regression in feature space: a twentieth of a batch or so.
    form : {"cmmd", "unbiased"}
        The published formula, which has one answer for every row in a step and leaves a spread that
        is too small; or that with two, by which the spread comes out right. See
        ``objectives.ConditionalMMD``.
    prior : float
        As of a classifier, but none by default: beside a discrepancy that a large lambda makes
        small it would decide everything.
    output_variances : list of float, or "auto"
        Of the Gaussians in the kernel of standardised targets; ``"auto"`` takes five around the
        median heuristic's.
    bounded : bool
        Targets lie in [0, 1], pixels for instance: they are not standardised, and so are draws.

    References
    ----------
    Conditional Generative Moment-Matching Networks, https://arxiv.org/abs/1606.04218

    Examples
    --------
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> how = {"hidden": (50,), "learning_rate": 1e-2, "max_epochs": 100, "random_state": 0}
    >>> CGMMNRegressor(n_noise=2, batch_size=50, **how).fit(x, y).score(x, y) > 0.8
    True
    """

    regularization: Positive = 10.0
    form: Literal["cmmd", "unbiased"] = "cmmd"
    prior: Weight = 0.0
    output_variances: Variances = "auto"
    bounded: bool = False
    n_draws: Count = 100
    batch_size: Count = 200

    _for_classes: ClassVar[str] = "CGMMNClassifier"

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return the mean of many draws for every row, in the units of the targets.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        return_std : bool
            Return the standard deviation of the draws too.
        """
        drawn = self.draw(X)
        mean = drawn.mean(0).astype(np.float64)
        return (mean, drawn.std(0).astype(np.float64)) if return_std else mean

    def draw(self, X: Any) -> np.ndarray:
        """Return ``n_draws`` draws for every row, [n_draws, n_samples] or [..., n_targets].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        """
        drawn = self._map_rows(X, lambda batch: self._outputs(batch).transpose(0, 1))
        values = drawn * np.asarray(self.target_scale_) + np.asarray(self.target_location_)
        values = np.moveaxis(values, 1, 0)
        return values[..., 0] if self.one_target_ else values

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        last: list[nn.Module] = [nn.Sigmoid()] if self.bounded else []
        model = self._drawer(columns, len(self.target_scale_), last)
        return {"columns_": columns, "model_": model}

    def _initialise(self, data: Data) -> None:
        n, given = self.batch_size, self.input_variances
        self.input_variances_ = kernel_of_rows("input_variances", given, data, n, (NEIGHBOURHOOD,))
        assert data.y is not None
        if self.bounded:
            set_output_bias(self.model_, logit(data.y.to(self._device()).mean(0)))
        targets, given = Data(data.y, device=data.device), self.output_variances
        self.output_variances_ = kernel_of_rows("output_variances", given, targets, n, WIDTHS)

    def _players(self) -> Player:
        kernels = (self.input_variances_, self.output_variances_)
        return self._matched(cmmd("x", "y", *kernels, self.regularization, form=self.form))
