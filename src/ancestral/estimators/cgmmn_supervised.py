"""Conditional moment-matching networks for labels and targets: a classifier and a regressor."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from torch import Tensor, nn

from ancestral.data.batch import Batch
from ancestral.data.columns import Columns
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.implicit import (
    VARIANCE_MULTIPLIERS,
    Noise,
    Variances,
    noise,
    resolve_variances,
)
from ancestral.estimators.base.network import RegularizedNetworkEstimator
from ancestral.estimators.base.supervised import ClassifierBase, RegressorBase, check_labelled
from ancestral.estimators.distillation import DistillationMixin
from ancestral.models.implicit import Generator
from ancestral.nn import linear, logit, set_output_bias
from ancestral.objectives import Objective, cmmd, gaussian_weight_prior
from ancestral.probability.kernels import check_variances
from ancestral.training import Player, engine
from ancestral.utils.validation import Count, Natural, Positive, Sizes, Weight

INPUT_VARIANCE_MULTIPLIERS = (0.02, 0.18, 0.4, 0.8, 1.6)
"""Variances of the classifier's automatic input kernel, in units of the median heuristic's."""

REGRESSION_VARIANCE_MULTIPLIER = 0.1
"""Variance of the regressor's automatic input kernel, in units of the median heuristic's.

Samples within this distance are treated as draws of one distribution of targets.
"""


class NoisyBody(nn.Module):
    """Hidden layers whose outputs are concatenated with noise.

    Parameters
    ----------
    body : Module
        Hidden layers, from inputs [n, d] to [n, m].
    d : int
        Number of input features; the remaining columns of the input are noise.
    """

    def __init__(self, body: nn.Module, d: int) -> None:
        super().__init__()
        self.body, self.d = body, d

    def forward(self, u: Tensor) -> Tensor:
        """Map inputs and noise [n, d + n_noise] to [n, m + n_noise]."""
        return torch.cat([self.body(u[:, : self.d]), u[:, self.d :]], -1)


class ConditionalMomentMatcher(RegularizedNetworkEstimator, ABC):
    """Network of input and noise whose outputs match the conditional moments of the data.

    Parameters
    ----------
    n_noise : int
        Dimension of the noise, which enters a dense network at the input and a convolutional one at
        the last layer. With 0 the network is deterministic, as the authors' CNN.
    noise_distribution : {"uniform", "unit", "centred", "normal", "bits"}
        Distribution of the noise: uniform on [-1, 1], on [0, 1] (as published) or on [-1/2, 1/2],
        standard normal, or Bernoulli(1/2) (as in the authors' classification script).
    input_kernel_variances : list of float, or "auto"
        Variances of the Gaussians in the kernel of inputs. ``"auto"`` selects five multiples of the
        median heuristic's variance, from 0.02 on, as narrow as the authors' on MNIST.
    regularization : float
        lambda > 0 of the regression in feature space. The smaller it is, the larger the weight of
        differences between similar inputs; the authors' 0.001 suits narrow kernels.
    weight_prior_precision : float
        Precision of the Gaussian prior on every parameter, for the sum over all batches.
    n_draws : int
        Number of generated outputs per sample; a prediction is their mean.
    batch_size : int
        Number of samples whose conditional moments are matched at once. Batches are drawn once and
        reused in every epoch, so that each kernel matrix is factorised once.
    """

    n_noise: Natural = 20
    noise_distribution: Noise = "unit"
    hidden: Sizes = (500, 200, 100)
    batch_norm: bool = False
    input_kernel_variances: Variances = "auto"
    regularization: Positive = 0.1
    weight_prior_precision: Weight = 1.0
    n_draws: Count = 20
    batch_size: Count = 500
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    _shuffle = "once"

    def _build_row_generator(
        self, columns: Columns, n_out: int, output_layers: list[nn.Module]
    ) -> Generator:
        """Build the network of inputs and noise, with ``n_out`` outputs."""
        if columns.needs_encoding:
            raise ValueError(
                f"likelihood: the kernel of {type(self).__name__} supports only bernoulli and "
                "gaussian columns"
            )
        d = columns.n_features
        if self.network == "dense":
            body, n = self._regularized_layers(d + self.n_noise)
        else:
            body, n = self._regularized_layers(d)
            body, n = NoisyBody(body, d), n + self.n_noise
        network = nn.Sequential(body, linear(n, n_out), *output_layers)
        return Generator(network, noise(self.noise_distribution, self.n_noise), "x")

    def _make_player(self, objective: Objective) -> Player:
        """Return the player that minimises the objective plus the prior."""
        if self.weight_prior_precision > 0:
            n_batches = -(-self.n_rows_ // min(self.batch_size, self.n_rows_))
            objective = objective + gaussian_weight_prior(self.weight_prior_precision / n_batches)
        return Player(self.model_, objective, self._optimizer())

    def _outputs(self, batch: Batch) -> Tensor:
        """Outputs [n_draws, batch, n_out] at noise that is shared by all samples and calls."""
        model = self.model_
        assert isinstance(model, Generator)
        with engine.seeded_rng(self.seed_, device=batch.x.device):
            noises = model.noise().sample((self.n_draws if self.n_noise else 1,))
        return torch.stack([model.generate(h.expand(len(batch.x), -1), batch.x) for h in noises])

    if TYPE_CHECKING:
        model_: nn.Module
        n_rows_: int


class CGMMNClassifier(ClassifierMixin, ClassifierBase, ConditionalMomentMatcher):
    """Conditional generative moment-matching network as a classifier (Ren et al., 2016).

    A network of input and noise generates one-hot classes. It minimises the conditional maximum
    mean discrepancy to the labels of the training data. Scores are means over ``n_draws`` outputs.

    Parameters
    ----------
    output_kernel_variances : list of float
        Variances of the Gaussians in the kernel of classes.
    objective : {"cmmd", "diagonal"}
        The published formula, or the one that the authors' classification script computes; see
        ``objectives.cmmd``. Their script for convolutional networks computes the published formula
        without noise (``n_noise=0``).

    Attributes
    ----------
    classes_ : array [n_classes]
        Sorted class labels.
    temperature_ : float
        Divisor of the scores in ``predict_proba``, which calibrates the probabilities.

    References
    ----------
    Conditional Generative Moment-Matching Networks, https://arxiv.org/abs/1606.04218

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> settings = {"hidden": (50,), "learning_rate": 5e-3, "max_epochs": 20, "random_state": 0}
    >>> cgmmn = CGMMNClassifier(batch_size=100, **settings).fit(X / 16, y)
    >>> cgmmn.score(X / 16, y) > 0.9
    True
    """

    output_kernel_variances: tuple[Positive, ...] = (1.0, 3.0, 5.0, 7.0, 9.0)
    objective: Literal["cmmd", "diagonal"] = "cmmd"

    def output_moments(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the generated outputs, both [n_samples, n_classes].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data.
        """

        def moments(batch: Batch) -> Tensor:
            outputs = self._outputs(batch)
            return torch.stack([outputs.mean(0), outputs.std(0, correction=0)], 1)

        mean, std = np.moveaxis(self._map_rows(X, moments), 1, 0)
        return mean, std

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        model = self._build_row_generator(columns, len(self.classes_), [nn.Sigmoid()])
        return {"columns_": columns, "model_": model}

    def _init_parameters(self, data: DeviceData) -> None:
        assert data.y is not None
        check_labelled(self, data.y.numpy(force=True))
        n, variances = self.batch_size, self.input_kernel_variances
        self.input_kernel_variances_ = resolve_variances(
            "input_kernel_variances", variances, data, n, INPUT_VARIANCE_MULTIPLIERS
        )
        check_variances("output_kernel_variances", self.output_kernel_variances)

    def _players(self) -> Player:
        kernels = (self.input_kernel_variances_, self.output_kernel_variances)
        n_classes = len(self.classes_)
        return self._make_player(
            cmmd("x", "y", *kernels, self.regularization, n_classes, self.objective)
        )

    def _scores(self, batch: Batch) -> Tensor:
        return self._outputs(batch).mean(0)


class CGMMNRegressor(RegressorMixin, RegressorBase, DistillationMixin, ConditionalMomentMatcher):
    """Conditional generative moment-matching network as a regressor (Ren et al., 2016).

    It fits the conditional distribution of the targets, not only its mean, if the kernel compares
    similar inputs with one another. The discrepancy weights the eigenvectors of the input kernel,
    with eigenvalues e, by e / (e + lambda)^2. A small lambda, as for classification, emphasises
    single samples; each has only one target, so that a deterministic output is then optimal. The
    default lambda is therefore large, and ``objective="unbiased"`` removes the remaining bias of
    the variance.

    Parameters
    ----------
    input_kernel_variances : list of float, or "auto"
        Variances of the Gaussians in the kernel of inputs; ``"auto"`` selects one, 0.1 times the
        median heuristic's.
    regularization : float
        lambda > 0 of the regression in feature space; about a twentieth of ``batch_size``.
    objective : {"cmmd", "unbiased"}
        The published formula, with one generated output per sample and step, which underestimates
        the conditional variance; or its unbiased form with two independent outputs. See
        ``objectives.ConditionalMMD``.
    weight_prior_precision : float
        Precision of the Gaussian prior on every parameter, for the sum over all batches. The
        default is 0, because the prior would dominate the discrepancy, which a large lambda makes
        small.
    output_kernel_variances : list of float, or "auto"
        Variances of the Gaussians in the kernel of standardised targets; ``"auto"`` selects five
        multiples, from a quarter to four times, of the median heuristic's.
    bounded : bool
        Whether targets lie in [0, 1], as pixels do. They are then not standardised, and outputs are
        confined to [0, 1].

    References
    ----------
    Conditional Generative Moment-Matching Networks, https://arxiv.org/abs/1606.04218

    Examples
    --------
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> settings = {"hidden": (50,), "learning_rate": 1e-2, "max_epochs": 100, "random_state": 0}
    >>> CGMMNRegressor(n_noise=2, batch_size=50, **settings).fit(x, y).score(x, y) > 0.8
    True
    """

    regularization: Positive = 10.0
    objective: Literal["cmmd", "unbiased"] = "cmmd"
    weight_prior_precision: Weight = 0.0
    output_kernel_variances: Variances = "auto"
    bounded: bool = False
    n_draws: Count = 100
    batch_size: Count = 200

    _classifier_name: ClassVar[str] = "CGMMNClassifier"

    @property
    def _targets_in_unit_interval(self) -> bool:
        return self.bounded

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Mean of ``n_draws`` draws for each sample, in the units of the targets.

        Its shape is [n_samples], or [n_samples, n_targets].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data.
        return_std : bool
            Whether to return a pair: the mean, and the standard deviation of the draws.
        """
        draws = self.draw(X)
        mean = draws.mean(0).astype(np.float64)
        return (mean, draws.std(0).astype(np.float64)) if return_std else mean

    def draw(self, X: Any) -> np.ndarray:
        """Draw ``n_draws`` targets for each sample, in the units of the targets.

        The shape is [n_draws, n_samples], or [n_draws, n_samples, n_targets].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data.
        """
        outputs = self._map_rows(X, lambda batch: self._outputs(batch).transpose(0, 1))
        values = outputs * np.asarray(self.target_scale_) + np.asarray(self.target_location_)
        values = np.moveaxis(values, 1, 0)
        return values[..., 0] if self.one_target_ else values

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        output: list[nn.Module] = [nn.Sigmoid()] if self.bounded else []
        model = self._build_row_generator(columns, len(self.target_scale_), output)
        return {"columns_": columns, "model_": model}

    def _init_parameters(self, data: DeviceData) -> None:
        n, variances = self.batch_size, self.input_kernel_variances
        self.input_kernel_variances_ = resolve_variances(
            "input_kernel_variances", variances, data, n, (REGRESSION_VARIANCE_MULTIPLIER,)
        )
        assert data.y is not None
        if self.bounded:
            set_output_bias(self.model_, logit(data.y.to(self._device()).mean(0)))
        targets, variances = DeviceData(data.y, device=data.device), self.output_kernel_variances
        self.output_kernel_variances_ = resolve_variances(
            "output_kernel_variances", variances, targets, n, VARIANCE_MULTIPLIERS
        )

    def _players(self) -> Player:
        kernels = (self.input_kernel_variances_, self.output_kernel_variances_)
        return self._make_player(
            cmmd("x", "y", *kernels, self.regularization, estimator=self.objective)
        )
