"""Base classes of implicit generators: noise through a network, with samples and no density."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, Uniform

from ancestral.data.batch import Batch
from ancestral.data.columns import Columns
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base import tabular
from ancestral.estimators.base.generative import GenerativeEstimator
from ancestral.estimators.base.network import NetworkEstimator
from ancestral.estimators.base.sample_log import (
    MAX_VALIDATION_SAMPLES,
    MIN_VALIDATION_SAMPLES,
    N_LOGGED_SAMPLES,
    SampleLog,
    validation_sample_metrics,
)
from ancestral.estimators.base.supervised import check_labelled, encode_classes, one_hot_classes
from ancestral.evaluation.ais import Annealing, annealed_log_likelihood
from ancestral.evaluation.log_likelihood import LogLikelihood
from ancestral.models.implicit import AdversarialPair, Generator, LatentSpaceGenerator
from ancestral.models.latent import LatentModel
from ancestral.models.noisy_generator import NoisyGenerator
from ancestral.nn import ConvNet, MapShape, linear, one_hot, parse_layers
from ancestral.probability.conditionals import Unconditional
from ancestral.probability.kernels import check_variances, median_variance
from ancestral.training import Progress
from ancestral.utils.hooks import hook
from ancestral.utils.random import mix_seed
from ancestral.utils.validation import Count, Positive, Sizes, check_field

Variances = tuple[Positive, ...] | Literal["auto"]

Noise = Literal["uniform", "unit", "centred", "normal", "bits"]

BOUNDS = {"uniform": (-1.0, 1.0), "unit": (0.0, 1.0), "centred": (-0.5, 0.5)}
"""Ranges of uniform noise."""

VARIANCE_MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Variances of an automatic kernel, as multiples of that of the median heuristic."""


def noise(kind: Noise, n: int) -> Unconditional:
    """Return the distribution of n independent noise variables.

    Examples
    --------
    >>> noise("bits", 3)().sample((2,)).shape
    torch.Size([2, 3])
    """
    ones = torch.ones(n)
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        return Unconditional(Uniform(low * ones, high * ones, validate_args=False))
    return Unconditional(Normal(0 * ones, ones) if kind == "normal" else Bernoulli(0.5 * ones))


class Output(nn.Module):
    """Output layer of a generator: sigmoid for Bernoulli columns, identity for Gaussian ones."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        bits = torch.tensor([kind == "bernoulli" for kind in columns.kinds])
        self.register_buffer("bits", bits, persistent=False)
        self.bits: Tensor

    def forward(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Apply the sigmoid to Bernoulli columns."""
        return torch.where(self.bits, u.sigmoid(), u)


class ImplicitEstimator(NetworkEstimator, GenerativeEstimator, ABC):
    """A generator of rows: noise through a network. It has samples and no density.

    Parameters
    ----------
    n_noise : int
        Number of independent noise variables per row.
    noise_distribution : {"uniform", "unit", "centred", "normal", "bits"}
        Distribution of the noise: uniform on [-1, 1], on [0, 1] or on [-1/2, 1/2], standard normal,
        or fair bits.
    network : str
        ``"dense"``, with ``hidden`` layers; or, for images, layers from the noise to the image as
        text: ``"500 | 64x5x5 | 3:64 | u2 3:64f | u2 5:1f"`` (see ``networks.written``).
    """

    n_noise: Count = 10
    noise_distribution: Noise = "uniform"
    hidden: Sizes = (64, 256, 256, 1024)
    batch_norm: bool = False
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    _supports_missing = False
    _min_held_out = MIN_VALIDATION_SAMPLES

    # ---- hooks of class-conditional generators

    @property
    @hook
    def _n_classes(self) -> int:
        """Number of classes among the inputs of the network; 0 for an unconditional generator."""
        return 0

    @hook
    def _class_conditions(self, codes: Tensor | None) -> Tensor | None:  # noqa: ARG002
        """Return the one-hot classes of class codes [n], taken modulo the number of classes."""
        return None

    @hook
    def _class_codes(self, y: Any, n: int) -> np.ndarray | None:  # noqa: ARG002
        """Return the class codes of n rows, [n], of their classes ``y``."""
        return None

    # ---- public methods

    def log_likelihood(
        self,
        X: Any,
        y: Any = None,
        *,
        variance: float,
        annealing: Annealing | None = None,
        progress: bool = False,
    ) -> LogLikelihood:
        """Estimate log p(x) of every row by annealing, under the generator with Gaussian noise.

        Without added noise there is no density. Numbers are comparable at the same variance only,
        and measure the distance of rows to the nearest samples rather than the quality of samples
        (Wu et al., 2017, use 0.025 and 0.01 for images in [0, 1]).

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows.
        y : array-like [n_samples], optional
            Classes of the rows, required by a class-conditional generator: the result is then
            log p(x | y).
        variance : float
            Variance of the noise, in the units of the model: values in [0, 1] unchanged, other
            columns standardised.
        annealing : Annealing, optional
            Settings; by default 1,000 distributions and 16 chains from the prior.
        progress : bool
            Show a progress bar.

        Returns
        -------
        LogLikelihood
            Values in nats, in the units of ``X``, with standard errors.

        Raises
        ------
        ValueError
            If the noise of the generator is discrete, classes are missing or unknown, or
            ``annealing`` starts at the posterior.
        """
        self._check_fitted()
        model = self._density_model(variance, annealing)
        X = self._validate(X, fit=False)
        if y is not None and not self.is_class_conditional_:
            raise ValueError(f"y: {type(self).__name__} is not class-conditional, leave it out")
        codes = self._class_codes(y, len(X))
        data = self._data(X, self._device(), y=codes, batch_transform=self.columns_.to_model_units)
        seed = mix_seed(self.seed_, 1)
        result = annealed_log_likelihood(model, data, annealing, seed=seed, progress=progress)
        return tabular.in_user_units(self, result, data)

    def sample_log(self) -> tuple[list[int], np.ndarray]:
        """Return samples of the same noise after several epochs of training.

        Returns
        -------
        (list of int, array [n_epochs, 10, n_features])
            Epochs, and ten samples after each, of all classes in turn if the generator is
            class-conditional.
        """
        self._check_fitted()
        epochs, samples = self._sample_log.entries()
        values = self.columns_.to_data_units(samples.flatten(0, 1)).unflatten(0, samples.shape[:2])
        return epochs, values.cpu().numpy()

    # ---- internals

    def _sample_batch(self, n: int, conditions: Tensor | None, mean: bool) -> Tensor:  # noqa: ARG002
        return self._generator.sample(n, conditions)

    def _density_model(self, variance: float | None, annealing: Annealing | None) -> LatentModel:
        name = type(self).__name__
        if variance is None:
            raise ValueError(
                f"variance=None: {name} has no density without added noise: set its variance"
            )
        check_field("variance", variance, Positive)
        if annealing is not None and annealing.initial_distribution != "prior":
            raise ValueError(
                f"annealing: initial_distribution={annealing.initial_distribution!r} needs a "
                f"posterior, and {name} has none: "
                "chains start at 'prior'"
            )
        return NoisyGenerator(self._generator, variance).eval().to(self._device())

    def _epoch_metrics(self, progress: Progress, held_out: DeviceData | None) -> dict[str, float]:
        source, log = self._generator, self._sample_log
        if progress.epoch == 1:
            log.clear()  # samples of the model that initialised this training
        if log.is_logged(progress.epoch, progress.n_epochs):
            cycle = torch.arange(N_LOGGED_SAMPLES, device=self._device())
            samples = source.generate(
                source.sample_noise(N_LOGGED_SAMPLES), self._class_conditions(cycle)
            )
            log.write(progress.epoch, progress.n_epochs, samples)
        if held_out is None:
            return {}
        index = torch.arange(min(MAX_VALIDATION_SAMPLES, len(held_out)), device=held_out.device)
        batch = held_out.batch_at(index)
        return validation_sample_metrics(source, batch.x, self._class_conditions(batch.y))

    @property
    def _sample_log(self) -> SampleLog:
        log = self.model_.sample_log
        assert isinstance(log, SampleLog)
        return log

    @property
    def _generator(self) -> Generator | LatentSpaceGenerator:
        """The module that generates rows."""
        model = self.model_
        source = model.generator if isinstance(model, AdversarialPair) else model
        assert isinstance(source, Generator | LatentSpaceGenerator)
        return source

    def _build_row_generator(self, columns: Columns) -> Generator:
        """Return a generator of rows with the given columns."""
        unsupported = sorted(set(columns.kinds) - {"bernoulli", "gaussian"})
        if unsupported:
            raise ValueError(
                f"likelihood: {type(self).__name__} generates bernoulli and gaussian columns, and "
                f"some are {', '.join(unsupported)}"
            )
        shape = MapShape(len(columns.kinds)) if self.network == "dense" else self._image_maps()
        return self._build_generator(shape, Output(columns))

    def _build_generator(self, shape: MapShape, output: nn.Module) -> Generator:
        """Return a generator with outputs of a shape, whose last module is ``output``."""
        n_in = self.n_noise + self._n_classes
        if self.network == "dense":
            body, width = self._hidden_layers(n_in)
            layers: list[nn.Module] = [body, linear(width, math.prod(shape))]
        else:
            options = {"linear_last": True, **self._layer_options()}
            stack = ConvNet(parse_layers(self.network), MapShape(n_in), **options)
            self._check_shape(stack.output_shape, shape)
            layers = [stack]
        network = nn.Sequential(*layers, output)
        condition = ("y", self._n_classes) if self._n_classes else ()
        return Generator(network, noise(self.noise_distribution, self.n_noise), *condition)


class ClassConditionalGenerator(ImplicitEstimator, ABC):
    """A generator of rows of a given class.

    Attributes
    ----------
    classes_ : array [n_classes]
        Sorted classes.
    class_frequencies_ : list of float
        Frequencies of the classes in the training rows.
    """

    target_kind = "classes"

    @property
    def is_class_conditional_(self) -> bool:
        """Whether rows of a given class can be generated."""
        return True

    @property
    def _n_classes(self) -> int:
        return len(self.classes_)

    def _encode_targets(self, y: Any, n_rows: int) -> np.ndarray:
        """Set classes and class frequencies, after checking that every row is labelled."""
        self.classes_, codes = encode_classes(y, n_rows, type(self).__name__)
        check_labelled(self, codes)
        self.class_frequencies_ = (torch.from_numpy(codes).bincount() / len(codes)).tolist()
        return codes

    def _sample_conditions(self, n: int, y: Any) -> Tensor:
        if y is not None:
            return one_hot_classes(y, n, self.classes_, self._device())
        shares = torch.tensor(self.class_frequencies_, device=self._device())
        return one_hot(torch.multinomial(shares, n, replacement=True), self._n_classes)

    def _class_cycle(self, n: int) -> Tensor:
        return torch.arange(n, device=self._device()) % self._n_classes

    def _class_conditions(self, codes: Tensor | None) -> Tensor | None:
        return None if codes is None else one_hot(codes % self._n_classes, self._n_classes)

    def _class_codes(self, y: Any, n: int) -> np.ndarray:
        if y is None:
            raise ValueError(f"y: {type(self).__name__} is class-conditional: give the classes")
        return one_hot_classes(y, n, self.classes_, self._device()).argmax(1).cpu().numpy()

    if TYPE_CHECKING:
        class_frequencies_: list[float]


def resolve_variances(
    option: str,
    variances: Variances,
    data: DeviceData,
    n: int,
    widths: Sequence[float],
    seen_as: Callable[[Batch], Tensor] | None = None,
) -> list[float]:
    """Return kernel variances: those given, or multiples of the median heuristic.

    Parameters
    ----------
    option : str
        Name of the hyper-parameter, for messages.
    variances : list of float, or "auto"
        Its value.
    data : Data
        Training rows.
    n : int
        Number of rows, evenly spaced, of the median heuristic.
    widths : sequence of float
        Multiples.
    seen_as : callable, optional
        Map from a batch to the values that the kernel compares; by default the rows themselves.

    Raises
    ------
    ValueError
        If the given variances are empty, or "auto" finds no two rows of a batch that differ.
    """
    if variances != "auto":
        check_variances(option, variances)
        return list(variances)
    if n < 2:
        raise ValueError(
            f"batch_size={n}: {option}='auto' compares the rows of a batch: expected two or more, "
            "or numbers instead of 'auto'"
        )
    evenly = torch.linspace(0, len(data) - 1, min(len(data), n), device=data.device).long()
    batch = data.batch_at(evenly)
    try:
        median = median_variance(batch.x if seen_as is None else seen_as(batch))
    except ValueError as error:
        raise ValueError(f"{option}='auto': {error}; give numbers") from None
    return [width * median for width in widths]
