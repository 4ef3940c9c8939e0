"""Implicit models: noise through a network, a model that can be drawn from and no more."""

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

from ancestral.ais import Annealing, Sandwich, annealed_log_likelihood, sandwich
from ancestral.conditional import Fixed
from ancestral.data import Batch, Data, mix_seed
from ancestral.evaluate import LogLikelihood
from ancestral.fields import Count, Positive, RandomState, Sizes, check, draw_seed
from ancestral.gradients import Watched
from ancestral.kernels import check_variances, median_variance
from ancestral.labels import LabelLearner, check_labelled
from ancestral.methods.diary import COMPARED, FEWEST, ROWS, Diary, beside_held_out
from ancestral.methods.networked import Networked
from ancestral.models import Coded, Game, Generator
from ancestral.networks import Maps, Stack, linear, one_hot, parse_layers
from ancestral.observed import Observed
from ancestral.preprocess import Columns
from ancestral.train import Progress

Variances = tuple[Positive, ...] | Literal["auto"]
Noise = Literal["uniform", "unit", "centred", "normal", "bits"]
BOUNDS = {"uniform": (-1.0, 1.0), "unit": (0.0, 1.0), "centred": (-0.5, 0.5)}
"""Between which noise is uniform."""
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Variances of an automatic kernel, in units of the median heuristic's."""
PIECE = 10_000


def noise(kind: Noise, n: int) -> Fixed:
    """Return n independent numbers: uniform between ``BOUNDS``, standard normal, or fair bits.

    Examples
    --------
    >>> noise("bits", 3)().sample((2,)).shape
    torch.Size([2, 3])
    """
    ones = torch.ones(n)
    if kind in BOUNDS:
        low, high = BOUNDS[kind]
        return Fixed(Uniform(low * ones, high * ones, validate_args=False))
    return Fixed(Normal(0 * ones, ones) if kind == "normal" else Bernoulli(0.5 * ones))


class Output(nn.Module):
    """The last step of a generator: shares of one for columns of bits, real values as they are."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        bits = torch.tensor([kind == "bernoulli" for kind in columns.kinds])
        self.register_buffer("bits", bits, persistent=False)
        self.bits: Tensor

    def forward(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Squash the columns of bits."""
        return torch.where(self.bits, u.sigmoid(), u)


class ImplicitEstimator(Watched, Networked, ABC):
    """A generator of rows: noise through a network.

    Parameters
    ----------
    n_noise : int
        How many independent numbers a row is made of.
    noise : {"uniform", "unit", "centred", "normal", "bits"}
        Uniform on [-1, 1], on [0, 1] or on [-1/2, 1/2], standard normal, or fair bits.
    network : str
        ``"dense"``, with ``hidden`` layers; or, for images, layers from the noise up, as text:
        ``"500 | 64x5x5 | 3:64 | u2 3:64f | u2 5:1f"`` (see ``networks.written``).
    """

    n_noise: Count = 10
    noise: Noise = "uniform"
    hidden: Sizes = (64, 256, 256, 1024)
    batch_norm: bool = False
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    _learns_from_gaps = False
    _fewest_held_out = FEWEST

    def sample(
        self, n_samples: int = 1, y: Any = None, *, random_state: RandomState = None
    ) -> np.ndarray:
        """Draw rows, [n_samples, n_features], in the units of the training rows.

        Bytes come as fractions of 255, columns of bits as shares of one.

        Parameters
        ----------
        n_samples : int
            How many.
        y : array-like [n_samples], or a single label, optional
            Classes of the rows, for a conditional model; by default drawn as often as they are in
            the training rows.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own, so that a call can be repeated.

        Raises
        ------
        ValueError
            If a class is unknown, there are more or fewer than samples, or the model knows none.
        """
        self._check_fitted()
        check("n_samples", n_samples, Count)
        if y is not None and not isinstance(self, LabelLearner):
            raise ValueError(f"y={y!r}: {type(self).__name__} knows no classes")
        with self._noise(random_state), torch.no_grad():
            codes = self._condition(n_samples, y) if isinstance(self, LabelLearner) else None
            parts = [
                self.columns_.to_user(self._drawn(n_samples, codes, start)).cpu().numpy()
                for start in range(0, n_samples, PIECE)
            ]
        return np.concatenate(parts)

    def _drawn(self, n: int, codes: Tensor | None, start: int) -> Tensor:
        stop = min(start + PIECE, n)
        c = None if codes is None else codes[start:stop]
        return self._source.sample(stop - start, c)

    def _condition(self, n: int, y: Any) -> Tensor:
        """One-hot classes of the rows to draw, [n, n_classes]."""
        assert isinstance(self, LabelLearner)
        if y is not None:
            return self._one_hot(y, n, self._device())
        shares = torch.tensor(self.class_shares_, device=self._device())
        return one_hot(torch.multinomial(shares, n, replacement=True), len(self.classes_))

    def _look(self, progress: Progress, held_out: Data | None) -> dict[str, float]:
        source, diary = self._source, self._diary
        if progress.epoch == 1:
            diary.clear()  # of what the model that this one starts from has written
        if diary.is_due(progress.epoch, progress.n_epochs):
            in_turn = torch.arange(ROWS, device=self._device())
            rows = source.at(source.draw_noise(ROWS), self._conditions(in_turn))
            diary.write(progress.epoch, progress.n_epochs, rows)
        if held_out is None:
            return {}
        first = torch.arange(min(COMPARED, len(held_out)), device=held_out.device)
        batch = held_out.take(first)
        return beside_held_out(source, batch.x, self._conditions(batch.y))

    def _conditions(self, codes: Tensor | None) -> Tensor | None:
        """One-hot classes of codes, which go round, [n, n_classes]; of a model without, nothing."""
        if not isinstance(self, LabelLearner) or codes is None:
            return None
        return one_hot(codes % len(self.classes_), len(self.classes_))

    def log_likelihood(
        self,
        X: Any,
        y: Any = None,
        *,
        variance: float,
        annealing: Annealing | None = None,
        progress: bool = False,
    ) -> LogLikelihood:
        """Estimate log p(x) of every row by annealing, of the generator with normal noise on top.

        Without such noise there is no density; numbers are comparable at the same variance only,
        and say more of how near a sample some row is than of the samples (Wu et al., 2017, take
        0.025 and 0.01 for images in [0, 1]).

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Rows; missing entries are integrated out.
        y : array-like [n_samples], optional
            Their classes, for a conditional model: the answer is then log p(x | y).
        variance : float
            Of the noise, for values as the model has them: within [0, 1] as they are, others
            standardised.
        annealing : Annealing, optional
            How; by default 1,000 distributions and 16 chains from the prior.
        progress : bool
            Show a progress bar.

        Returns
        -------
        LogLikelihood
            Values in nats, in the units of ``X``, with standard errors.

        Raises
        ------
        ValueError
            If the noise that rows are made of has jumps, classes are missing, or chains were to
            start at a posterior.
        """
        model, how = self._observed(variance, annealing)
        rows = self._validate(X, fit=False)
        codes = self._told(y, len(rows))
        data = self._data(rows, self._device(), y=codes, on_batch=self.columns_.to_model)
        seed = mix_seed(self.seed_, 1)
        found = annealed_log_likelihood(model, data, how, seed=seed, progress=progress)
        return self._in_user_units(found, data)

    def sandwich(
        self,
        n_rows: int = 100,
        annealing: Annealing | None = None,
        *,
        variance: float,
        random_state: RandomState = None,
        progress: bool = False,
    ) -> Sandwich:
        """Bound the log-likelihood of rows that the model draws, with noise, from both sides.

        Parameters
        ----------
        n_rows : int
            How many rows to draw, of all classes in turn if there are some.
        annealing : Annealing, optional
            How; by default 1,000 distributions and 16 chains from the prior.
        variance : float
            Of the noise, as in :meth:`log_likelihood`.
        random_state : int, RandomState, Generator or None
            By default derived from the fit's own.
        progress : bool
            Show a progress bar.
        """
        model, how = self._observed(variance, annealing)
        check("n_rows", n_rows, Count)
        seed = mix_seed(self.seed_, 2) if random_state is None else draw_seed(random_state)
        y = None
        if isinstance(self, LabelLearner):
            y = torch.arange(n_rows, device=self._device()) % len(self.classes_)
        bounds = sandwich(model, n_rows, how, y=y, seed=seed, progress=progress)
        return self._bounds_in_user_units(bounds)

    def _observed(self, variance: float, how: Annealing | None) -> tuple[Observed, Annealing]:
        """Return the generator with noise on top, and how to anneal."""
        self._check_fitted()
        check("variance", variance, Positive)
        how = how or Annealing()
        if how.start != "prior":
            raise ValueError(
                f"annealing: start={how.start!r}, and {type(self).__name__} recognises no rows: "
                "chains start at 'prior'"
            )
        return Observed(self._source, variance).eval().to(self._device()), how

    def _told(self, y: Any, n: int) -> np.ndarray | None:
        """Return the classes of rows as codes, for a model that makes rows of a class."""
        if not isinstance(self, LabelLearner):
            if y is not None:
                raise ValueError(f"y: {type(self).__name__} knows no classes")
            return None
        if y is None:
            raise ValueError(f"y: {type(self).__name__} makes rows of a class: tell theirs")
        return self._one_hot(y, n, self._device()).argmax(1).cpu().numpy()

    def diary(self) -> tuple[list[int], np.ndarray]:
        """Return what the same noise became after ever more epochs, until training ended.

        Returns
        -------
        (list of int, array [n_pages, 10, n_features])
            Which epochs, and ten rows after each, of every class in turn if there are some.
        """
        self._check_fitted()
        epochs, pages = self._diary.written()
        rows = self.columns_.to_user(pages.flatten(0, 1)).unflatten(0, pages.shape[:2])
        return epochs, rows.cpu().numpy()

    @property
    def _diary(self) -> Diary:
        diary = self.model_.diary
        assert isinstance(diary, Diary)
        return diary

    def _learn_shares(self, data: Data) -> None:
        """Learn how often the classes are, if there are some."""
        if isinstance(self, LabelLearner) and data.y is not None:
            check_labelled(self, data.y)
            self.class_shares_ = (data.y.bincount() / len(data)).tolist()

    @property
    def _source(self) -> Generator | Coded:
        """What rows are drawn from."""
        model = self.model_
        found = model.generator if isinstance(model, Game) else model
        assert isinstance(found, Generator | Coded)
        return found

    def _make_generator(self, columns: Columns) -> Generator:
        """Make the generator for the columns that the training rows have."""
        unsuited = sorted(set(columns.kinds) - {"bernoulli", "gaussian"})
        if unsuited:
            raise ValueError(
                f"likelihood: {type(self).__name__} makes bernoulli and gaussian columns, and some "
                f"here are {', '.join(unsuited)}"
            )
        shape = Maps(len(columns.kinds)) if self.network == "dense" else self._maps()
        return self._generator_of(shape, Output(columns))

    def _generator_of(self, shape: Maps, output: nn.Module) -> Generator:
        """Make a generator of rows of a shape, whose last step is ``output``."""
        n_classes = len(self.classes_) if isinstance(self, LabelLearner) else 0
        n_in = self.n_noise + n_classes
        if self.network == "dense":
            body, width = self._body(n_in)
            layers: list[nn.Module] = [body, linear(width, math.prod(shape))]
        else:
            how = {"linear_last": True, **self._style()}
            stack = Stack(parse_layers(self.network), Maps(n_in), **how)
            self._check_shape(stack.shape_out, shape)
            layers = [stack]
        drawn = noise(self.noise, self.n_noise)
        network = nn.Sequential(*layers, output)
        return Generator(network, drawn, *(("y", n_classes) if n_classes else ()))

    if TYPE_CHECKING:
        classes_: np.ndarray
        class_shares_: list[float]


def kernel_of_rows(
    option: str,
    variances: Variances,
    data: Data,
    n: int,
    widths: Sequence[float],
    seen_as: Callable[[Batch], Tensor] | None = None,
) -> list[float]:
    """Return the variances given, or multiples of the median heuristic's on n rows, taken evenly.

    ``option`` is what the caller calls the variances, for a message where there are none.
    ``seen_as`` says what of the rows the kernel compares, if not all as it is.

    Raises
    ------
    ValueError
        If the variances given are none, or "auto" finds no two rows of a batch that differ.
    """
    if variances != "auto":
        check_variances(option, variances)
        return list(variances)
    if n < 2:
        raise ValueError(
            f"batch_size={n}: {option}='auto' looks at how far apart the rows of a batch are: "
            "expected two or more, or numbers in the place of 'auto'"
        )
    evenly = torch.linspace(0, len(data) - 1, min(len(data), n), device=data.device).long()
    batch = data.take(evenly)
    try:
        median = median_variance(batch.x if seen_as is None else seen_as(batch))
    except ValueError as error:
        raise ValueError(f"{option}='auto': {error}; give numbers") from None
    return [width * median for width in widths]
