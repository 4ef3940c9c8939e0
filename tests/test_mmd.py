"""Kernels, kernel features, MMD, its two-sample test, and conditional MMD."""

from __future__ import annotations

import math
from itertools import product

import jaxtyping
import mpmath
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.spatial.distance import cdist
from torch import nn

from ancestral.data.batch import Batch
from ancestral.models.implicit import Generator
from ancestral.models.run import GeneratorRun
from ancestral.nn import one_hot
from ancestral.objectives import cmmd, mmd
from ancestral.probability.cmmd import cmmd2, conditional_mmd2, regression_operator, ridge_inverse
from ancestral.probability.conditionals import standard_normal
from ancestral.probability.kernel_features import NystromFeatures, RandomFeatures
from ancestral.probability.kernels import (
    DeltaKernel,
    GaussianKernel,
    Kernel,
    LaplaceKernel,
    RationalQuadraticKernel,
    median_variance,
)
from ancestral.probability.mmd import mmd2, mmd2_of_features, mmd2_standard_error, two_sample_test

EMPTY_MODEL = nn.Module()
SMOOTH = [
    GaussianKernel((0.5, 3.0)),
    LaplaceKernel(2.0),
    RationalQuadraticKernel(variance=0.7, alpha=1.5),
]


class LinearKernel(Kernel):
    """User-defined kernel a^T b."""

    def __call__(self, a, b):
        return a @ b.T


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# ---- kernels


@pytest.mark.parametrize("kernel", SMOOTH)
def test_gram_matrices_match_scipy_and_gradcheck(kernel):
    a, b = rand(5, 3), rand(4, 3, seed=1)
    d2, d1 = cdist(a, b, "sqeuclidean"), cdist(a, b, "cityblock")
    expected = {
        GaussianKernel: np.exp(-d2 / 1.0) + np.exp(-d2 / 6.0),
        LaplaceKernel: np.exp(-d1 / 2),
        RationalQuadraticKernel: (1 + d2 / 2.1) ** -1.5,
    }
    np.testing.assert_allclose(kernel(a, b), expected[type(kernel)], rtol=1e-10)
    assert torch.autograd.gradcheck(lambda x: kernel(x, b).sum(), a.requires_grad_())


def test_delta_kernel_of_one_hot_labels():
    codes = one_hot(torch.tensor([0, 1, 0]), 3)
    assert DeltaKernel()(codes, codes).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_invalid_kernels_raise():
    for variances in ((), (1.0, 0.0), (math.nan,), (1.0, math.inf), (-1.0,)):
        with pytest.raises(ValueError, match="variances="):
            GaussianKernel(variances)
    with pytest.raises(ValueError, match="DeltaKernel has no random features"):
        RandomFeatures(DeltaKernel(), 3)
    with pytest.raises(ValueError, match="all points coincide"):
        median_variance(torch.zeros(5, 2))


def test_median_heuristic_matches_all_pairs():
    x = rand(101, 4)
    pairs = cdist(x, x)[np.triu_indices(101, 1)]
    assert median_variance(x) == pytest.approx(np.median(pairs**2) / 2, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_median_heuristic_is_robust_to_an_outlier(dtype):
    a, b = rand(100, 2), rand(100, 2, seed=1) + 3
    b[0] = -9999
    pooled = torch.cat([a, b]).to(dtype)
    pairs = cdist(pooled, pooled)[np.triu_indices(200, 1)]
    assert median_variance(pooled) == pytest.approx(np.median(pairs**2) / 2, rel=0.01)
    assert two_sample_test(a, b).p_value == 0.001


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_median_heuristic_ignores_duplicate_rows(offset):
    unique = rand(8, 30)
    pairs = cdist(unique, unique)[np.triu_indices(8, 1)]
    x = (unique.repeat(25, 1) + offset).float()
    assert median_variance(x) == pytest.approx(np.median(np.sort(pairs**2)[:-1]) / 2, rel=0.1)
    assert median_variance(x) == pytest.approx(median_variance(x.double()), rel=1e-4)


@pytest.mark.parametrize("kernel", SMOOTH)
def test_random_features_approximate_the_kernel(kernel):
    x = rand(6, 3).float()
    phi = RandomFeatures(kernel, 3, n_frequencies=40_000)
    n_parts = len(getattr(kernel, "variances", (1,)))
    error = phi(x) @ phi(x).T - kernel(x, x)
    assert error.abs().max() < 5 * n_parts / math.sqrt(40_000)


@pytest.mark.parametrize("kernel", [*SMOOTH, LinearKernel()])
def test_nystrom_features_are_exact_at_landmarks_and_lower_bounds_elsewhere(kernel):
    x = rand(8, 3)
    phi = NystromFeatures(kernel, x)
    torch.testing.assert_close(phi(x) @ phi(x).T, kernel(x, x), atol=1e-9, rtol=1e-7)
    phi = NystromFeatures(kernel, x[:4])
    residual = (kernel(x, x) - phi(x) @ phi(x).T).diagonal()
    assert (residual > -1e-9).all()  # a projection does not increase the norm


# ---- maximum mean discrepancy


@pytest.mark.parametrize("estimator", ["unbiased", "linear"])
def test_unbiased_mmd2_estimators_match_closed_form_for_gaussians(estimator):
    """Samples of N(0, 1) and N(1, 1), Gaussian kernel of variance 1."""
    values = [
        mmd2(rand(200, 1, seed=i), rand(200, 1, seed=1000 + i) + 1, [1.0], estimator).item()
        for i in range(200)
    ]
    error = np.std(values) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(0.177267634920, abs=4 * error)


def test_bias_of_biased_mmd2_matches_theory():
    """Samples of 20 points of N(0, 1) and N(1, 1)."""
    samples = [(rand(20, 1, seed=i), rand(20, 1, seed=1000 + i) + 1) for i in range(400)]
    values = [[mmd2(a, b, [1.0], e).item() for e in ("biased", "unbiased")] for a, b in samples]
    mean_kernel = 1 / math.sqrt(3)  # E k(x, x') of N(0, 1) at variance 1
    bias = np.mean(values, axis=0) @ [1, -1]
    assert bias == pytest.approx(2 * (1 - mean_kernel) / 20, rel=0.02)


def test_feature_and_linear_mmd2_at_100000_points():
    a, b = rand(100_000, 1).float(), rand(100_000, 1, seed=1).float() + 1
    phi = RandomFeatures([1.0], 1, n_frequencies=1000)
    assert mmd2_of_features(phi(a), phi(b)).item() == pytest.approx(0.177267634920, abs=0.02)
    linear = mmd2(a, b, [1.0], "linear").item()
    assert linear == pytest.approx(0.177267634920, abs=0.02)


def test_permutation_test_calibration_and_power():
    p = [
        two_sample_test(
            rand(20, 2, seed=2 * i), rand(30, 2, seed=2 * i + 1), n_permutations=99, random_state=i
        ).p_value
        for i in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.09  # the nominal level is 0.05
    assert 0.4 < np.mean(p) < 0.6
    result = two_sample_test(rand(50, 2), rand(50, 2, seed=1) + 1.2)
    assert result.p_value == 0.001
    assert result.mmd2 > result.null_distribution.max()
    assert "p = 0.001 (999 permutations)" in str(result)


def test_mmd2_rejects_too_small_or_unequal_samples():
    with pytest.raises(ValueError, match="two points"):
        mmd2(rand(1, 2), rand(5, 2), [1.0], "unbiased")
    with pytest.raises(ValueError, match="same size"):
        mmd2(rand(4, 2), rand(5, 2), [1.0], "linear")


# ---- conditional maximum mean discrepancy


def sets(n=12, m=9):
    """Two sets of inputs and outputs, of sizes n and m."""
    first = rand(n, 2), rand(n, 3, seed=1)
    return first, (rand(m, 2, seed=2), rand(m, 3, seed=3))


def test_conditional_mmd2_with_linear_kernels_is_distance_of_ridge_regressions():
    pairs = sets()
    maps = [
        y.T @ x @ torch.linalg.inv(x.T @ x + 0.3 * torch.eye(2, dtype=x.dtype)) for x, y in pairs
    ]
    got = conditional_mmd2(*pairs, LinearKernel(), LinearKernel(), 0.3)
    torch.testing.assert_close(got, (maps[0] - maps[1]).square().sum(), atol=1e-12, rtol=1e-10)


def test_conditional_mmd2_with_constant_inputs_is_scaled_mmd2():
    (_, y1), (_, y2) = sets(8, 8)
    constant = torch.ones(8, 1).double()
    got = conditional_mmd2((constant, y1), (constant, y2), [1.0], [1.0, 4.0], 0.5)
    torch.testing.assert_close(got, (8 / 8.5) ** 2 * mmd2(y1, y2, [1.0, 4.0]))


def test_cmmd_objective_matches_conditional_mmd2_at_equal_inputs():
    (x, y1), (_, y2) = sets(10, 10)
    objective = cmmd("x", "y", [1.0], [2.0], 0.1)
    (term,) = objective.terms.values()
    got = term(EMPTY_MODEL, GeneratorRun(Batch(x, y1), sample=y2))
    torch.testing.assert_close(got, conditional_mmd2((x, y1), (x, y2), [1.0], [2.0], 0.1))


def test_conditional_mmd2_is_symmetric_and_permutation_invariant():
    first, second = sets()
    value = conditional_mmd2(first, second, [1.0], [1.0], 0.1)
    assert value > 0
    torch.testing.assert_close(conditional_mmd2(second, first, [1.0], [1.0], 0.1), value)
    order = torch.randperm(12)
    shuffled = tuple(part[order] for part in first)
    torch.testing.assert_close(conditional_mmd2(shuffled, second, [1.0], [1.0], 0.1), value)


@pytest.mark.parametrize("regularization", [1e-3, 1e-6])
def test_regression_operator_with_small_regularization_matches_inverse(regularization):
    x, y = rand(100, 5), rand(100, 2, seed=1)
    gram = GaussianKernel((1.0, 9.0, 20.0, 40.0, 80.0))(x, x)
    operator = regression_operator(gram, regularization)
    inverse = np.linalg.inv(gram.numpy() + regularization * np.eye(100))
    expected = inverse @ gram.numpy() @ inverse
    assert np.abs(operator.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    assert conditional_mmd2((x, y), (x, y + 1), [1.0, 9.0], [1.0], regularization) > 0
    duplicates = torch.cat([x[:3], x[:3]])
    with pytest.raises(ValueError, match="singular with regularization=0"):
        conditional_mmd2((duplicates, duplicates), (duplicates, duplicates), [1.0], [1.0], 0.0)


@pytest.mark.parametrize("n", [500, 1500])
@pytest.mark.parametrize("regularization", [1e-3, 1e-6])
def test_regression_operator_of_ill_conditioned_gram_matches_eigendecomposition(n, regularization):
    x = rand(n, 2)
    gram = GaussianKernel((1.0, 9.0, 20.0, 40.0, 80.0))(x, x)
    values, vectors = np.linalg.eigh(gram.numpy())
    weights = np.clip(values, 0, None) / (np.clip(values, 0, None) + regularization) ** 2
    expected = (vectors * weights) @ vectors.T
    got = regression_operator(gram, regularization).numpy()
    assert np.linalg.norm(got - expected, 2) < 1e-4 / (4 * regularization)


def test_diagonal_cmmd_is_a_weighted_regression_loss():
    (x, y1), (_, y2) = sets(7, 7)
    gram, kernel = GaussianKernel((1.0,))(x, x), GaussianKernel((2.0,))
    inverse = torch.linalg.inv(gram + 0.1 * torch.eye(7).double())
    weights = gram.diagonal() * inverse.diagonal() ** 2
    grams = kernel(y1, y1) + kernel(y2, y2) - kernel(y1, y2)
    (term,) = cmmd("x", "y", [1.0], [2.0], 0.1, estimator="diagonal").terms.values()
    got = term(EMPTY_MODEL, GeneratorRun(Batch(x, y1), sample=y2))
    torch.testing.assert_close(got, (weights * grams.diagonal()).sum())


class FixedNoiseGenerator(Generator):
    """Generator of y = x + h with a predefined sequence of noise batches h."""

    def __init__(self, *noise_batches):
        super().__init__(nn.Identity(), standard_normal(1), "x")
        self.noise_batches = list(noise_batches)

    def sample(self, n, c=None):
        return c + self.noise_batches.pop(0)


def test_unbiased_cmmd_estimates_the_discrepancy_of_the_generator_distribution():
    # with fair Bernoulli noise, the mean over all pairs of samples is the discrepancy of the mean
    # embedding of the generator's distribution at each row, computed here from all its outputs
    (x, y), bits = (rand(3, 1), rand(3, 1, seed=1)), list(product([0.0, 1.0], repeat=3))
    (term,) = cmmd("x", "y", [1.0], [2.0], 0.1, estimator="unbiased").terms.values()
    noise = [torch.tensor(b).double()[:, None] for b in bits]
    values = [
        term(FixedNoiseGenerator(b), GeneratorRun(Batch(x, y), sample=x + a))
        for a, b in product(noise, noise)
    ]
    kernel = GaussianKernel((2.0,))
    outputs = torch.cat([x, x + 1])
    mean = torch.cat([torch.eye(3), torch.eye(3)]).double() / 2  # over the two outputs of a row
    generated, cross = mean.T @ kernel(outputs, outputs) @ mean, kernel(y, outputs) @ mean
    operator = regression_operator(GaussianKernel((1.0,))(x, x), 0.1)
    expected = (operator * (kernel(y, y) + generated - 2 * cross)).sum()
    torch.testing.assert_close(torch.stack(values).mean(), expected)
    assert expected > 0


def test_unbiased_cmmd_requires_a_generator():
    (term,) = cmmd("x", "y", [1.0], [2.0], 0.1, estimator="unbiased").terms.values()
    with pytest.raises(TypeError, match=r"needs a Generator.*got Module"):
        term(EMPTY_MODEL, GeneratorRun(Batch(rand(3, 1), rand(3, 1)), sample=rand(3, 1)))


def test_classwise_cmmd_is_sum_of_mmd2_per_class():
    y = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2, 1, 0])
    x, sample = rand(10, 4), rand(10, 4, seed=1)
    objective = cmmd("y", "x", [1.0], [1.0, 10.0], n_classes=3, estimator="classwise")
    (term,) = objective.terms.values()
    got = term(EMPTY_MODEL, GeneratorRun(Batch(x, y), sample=sample))
    classes = [mmd2(x[y == c], sample[y == c], [1.0, 10.0]) for c in range(3)]
    torch.testing.assert_close(got, 100 * sum(classes))


def test_conditional_mmd2_increases_with_noise_on_the_outputs():
    x = rand(30, 1)
    y = x.sin()
    values = [
        conditional_mmd2((x, y), (x, y + s * rand(30, 1, seed=5)), [1.0], [1.0], 1e-2).item()
        for s in (0.0, 0.1, 0.5)
    ]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[0] < values[1] < values[2]


def test_mmd_root_loss_value_and_finite_gradient_at_equal_samples():
    x, sample = rand(9, 2), rand(9, 2, seed=1)
    (term,) = mmd([1.0], sqrt_loss=True).terms.values()
    got = term(EMPTY_MODEL, GeneratorRun(Batch(x), sample=sample))
    torch.testing.assert_close(got, (mmd2(x, sample, [1.0]) / 2).sqrt(), atol=1e-8, rtol=1e-8)
    equal_sample = x.clone().requires_grad_()
    term(EMPTY_MODEL, GeneratorRun(Batch(x), sample=equal_sample)).backward()
    assert equal_sample.grad.isfinite().all()


def test_mmd2_standard_error_matches_standard_deviation_over_samples():
    for shift in (0.0, 0.7):
        estimates = [mmd2_and_standard_error(seed, shift) for seed in range(300)]
        values, errors = np.array(estimates).T
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.25)


def mmd2_and_standard_error(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 100, 2, generator=generator, dtype=torch.float64)
    b = b + shift
    return float(mmd2(a, b, [1.0], "unbiased")), mmd2_standard_error(a, b, [1.0])


def test_mmd2_of_nearly_equal_samples_is_nonnegative_with_finite_gradient():
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        a = torch.randn(40, 5, generator=generator)
        b = a + 1e-5 * torch.randn(40, 5, generator=generator)
        assert mmd2(a, b.requires_grad_(), [1.0, 1e4]).item() >= 0
        term = mmd([1.0, 1e4], sqrt_loss=True).terms["mmd"](
            EMPTY_MODEL, GeneratorRun(Batch(a), sample=b)
        )
        assert torch.autograd.grad(term, b)[0].isfinite().all()


def test_mmd2_of_mixed_precision_samples_is_computed_in_the_wider_dtype():
    a, b = rand(50, 2).double(), rand(50, 2).double() + 1
    exact = mmd2(a, b, [1.0])
    for pair in ((a.float(), b), (a, b.float())):
        assert mmd2(*pair, [1.0]).item() == pytest.approx(exact.item(), abs=1e-6)


# ---- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: mmd2(a, a, [1.0], "best"), "estimator='best'"),
        (lambda a: mmd2(a[0], a[1], [1.0]), r"expected \[n, d\]"),
        (lambda a: mmd2(a, a[:, :1], [1.0]), "same columns"),
        (lambda a: mmd2(a.long(), a, [1.0]), "floating point"),
        (lambda a: two_sample_test(a, a.where(a < 1, torch.nan)), "contains NaN"),
        (lambda a: mmd2(a, a[:0], [1.0]), "50 and 0 rows"),
        (lambda a: two_sample_test(a[:0], a), "0 and 50 rows"),
        (lambda a: mmd2_standard_error(a, a[:20], [1.0]), "50 and 20 rows"),
        (lambda a: median_variance(a.where(a < 1, torch.nan)), "contains NaN"),
        (lambda a: mmd2(a.where(a < 1, torch.nan), a, [1.0]), "a contains NaN or infinite"),
        (lambda a: mmd2(a, a / 0, [1.0]), "b contains NaN or infinite"),
        (lambda a: mmd2_standard_error(a, a * math.nan, [1.0]), "b contains"),
        (lambda a: mmd2_of_features(a, a[:, :1]), "same columns"),
        (lambda a: mmd2_of_features(a[:0], a), "0 and 50 rows"),
        (lambda a: two_sample_test(a, a, n_permutations=0), "n_permutations=0"),
        (lambda a: two_sample_test(a, a, n_permutations=-1), "n_permutations=-1"),
        (lambda a: two_sample_test(a, a, n_permutations=1.5), "n_permutations=1.5"),
        (lambda _: LaplaceKernel(-1.0), "scale=-1.0"),
        (lambda _: LaplaceKernel(math.inf), "scale=inf"),
        (lambda _: RationalQuadraticKernel(alpha=0.0), "alpha=0.0"),
        (lambda _: RandomFeatures([1.0], 2, n_frequencies=0), "n_frequencies=0"),
        (lambda _: RandomFeatures([1.0], 0), "d=0"),
        (lambda a: RandomFeatures([1.0], 3)(a), "same number of columns"),
        (lambda a: NystromFeatures([1.0], a[:0]), r"landmarks of shape \(0, 2\)"),
    ],
)
def test_invalid_input_raises_and_names_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call(rand(50, 2))


@pytest.mark.parametrize("n_columns", [2, 3])
@pytest.mark.parametrize("kernel", [*SMOOTH, DeltaKernel()])
def test_points_with_different_numbers_of_columns_raise(kernel, n_columns, unchecked_shapes):
    narrow, points = rand(4, 1), rand(4, n_columns)
    for pair in ((narrow, points), (points, narrow)):
        with pytest.raises(ValueError, match="same number of columns"):
            kernel(*pair)
    with pytest.raises(ValueError, match="same number of columns"):
        NystromFeatures(kernel, points)(narrow)


@pytest.fixture
def unchecked_shapes():
    """Disable the run-time check of shape annotations, which exists in tests only."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


INCONSISTENT_SETS = [
    ({"y2": (10, 3)}, "outputs and other outputs.*same columns"),
    ({"x2": (10, 1)}, "inputs and other inputs.*same columns"),
    ({"y1": (9, 1)}, "first: 10 inputs and 9 outputs"),
    ({"y1": (10,), "y2": (10,)}, r"outputs.*expected \[n, d\]"),
    ({"x1": (0, 2), "y1": (0, 1)}, "0 and 10 rows"),
]


@pytest.mark.parametrize(("shapes", "message"), INCONSISTENT_SETS)
def test_conditional_mmd2_with_inconsistent_shapes_raises(shapes, message):
    valid = {"x1": (10, 2), "y1": (10, 1), "x2": (10, 2), "y2": (10, 1)}
    x1, y1, x2, y2 = (rand(*shape) for shape in (valid | shapes).values())
    with pytest.raises(ValueError, match=message):
        conditional_mmd2((x1, y1), (x2, y2), [1.0], [1.0])


def test_conditional_mmd2_with_nan_raises_and_names_the_argument():
    x, y = rand(10, 2), rand(10, 1)
    missing = torch.full_like(y, math.nan)
    for first, name in (((x, missing), "outputs"), ((x * math.nan, y), "inputs")):
        with pytest.raises(ValueError, match=f"^{name} contains NaN or infinite"):
            conditional_mmd2(first, (x, y), [1.0], [1.0])
    with pytest.raises(ValueError, match=r"^other outputs contains"):
        conditional_mmd2((x, y), (x, missing), [1.0], [1.0])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((10, 10), (10, 1), (10, 3)), "real and generated.*same columns"),
        (((10, 10), (9, 1), (10, 1)), "at the same n inputs"),
        (((9, 9), (10, 1), (10, 1)), r"operator \(9, 9\)"),
        (((0, 0), (0, 1), (0, 1)), "0 and 0 rows"),
    ],
)
def test_cmmd2_with_inconsistent_shapes_raises(shapes, message):
    with pytest.raises(ValueError, match=message):
        cmmd2(*(rand(*shape) for shape in shapes), [1.0])


def test_cmmd2_with_nan_raises_and_names_the_argument():
    y = rand(3, 1)
    nans = torch.full((3, 3), math.nan).double()
    with pytest.raises(ValueError, match=r"^operator contains"):
        cmmd2(nans, y, y, [1.0])
    with pytest.raises(ValueError, match=r"^generated contains"):
        cmmd2(torch.eye(3), y, nans[:, :1], [1.0])


@pytest.mark.parametrize("regularization", [-0.5, math.nan, math.inf])
def test_negative_or_non_finite_regularization_raises(regularization):
    x, y = rand(5, 2), rand(5, 1)
    for call in (regression_operator, ridge_inverse):
        with pytest.raises(ValueError, match=f"regularization={regularization}: expected a number"):
            call(torch.eye(5), regularization)
    with pytest.raises(ValueError, match=f"regularization={regularization}: expected a number"):
        conditional_mmd2((x, y), (x, y), [1.0], [1.0], regularization)


def test_conditional_mmd2_and_cmmd2_are_nonnegative():
    for seed in range(50):
        x, y = rand(15, 2, seed=seed), rand(15, 1, seed=100 + seed)
        assert conditional_mmd2((x, y), (x, y), [1.0], [1.0], 1e-6).item() >= 0
        operator = regression_operator(GaussianKernel((1.0,))(x, x), 1e-6)
        assert cmmd2(operator, y, y + 1e-9, [1.0]).item() >= 0


@pytest.mark.parametrize(("setting", "value"), [("estimator", "diag"), ("inputs", "z")])
def test_cmmd_rejects_unknown_options(setting, value):
    kwargs = {"inputs": "x", "outputs": "y", "input_kernel": [1.0], "output_kernel": [1.0]}
    with pytest.raises((ValueError, TypeCheckError), match=value):
        cmmd(**kwargs | {setting: value})


@pytest.mark.parametrize("regularization", [1e-4, 1e-6, 1e-8])
def test_conditional_mmd2_of_repeated_inputs_matches_mpmath_at_60_digits(regularization):
    x, y, kernel = rand(15, 2).repeat(2, 1), rand(30, 1), GaussianKernel((1.0,))
    with mpmath.workdps(60):
        gram = mpmath.matrix(kernel(x, x).tolist())
        inverse = (gram + mpmath.mpf(regularization) * mpmath.eye(30)) ** -1
        operator = np.array((inverse * gram * inverse).tolist(), dtype=float)
    outputs = kernel(y, y) + kernel(y + 1, y + 1) - 2 * kernel(y, y + 1)
    expected = (operator * outputs.numpy()).sum()
    assert cmmd2(regression_operator(kernel(x, x), regularization), y, y + 1, kernel).item() == (
        pytest.approx(expected, rel=1e-8 + 1e-13 / regularization)
    )
    arguments = ((x, y), (x, y + 1), kernel, kernel, regularization)
    assert conditional_mmd2(*arguments).item() == pytest.approx(expected, rel=1e-3)


def test_repeated_inputs_with_negligible_regularization_raise_singular_error():
    x, y = rand(30, 2).repeat(2, 1), rand(60, 1)
    for regularization in (0.0, 1e-12):
        with pytest.raises(ValueError, match=f"singular with regularization={regularization}"):
            conditional_mmd2((x, y), (x, y + 1), [1.0], [1.0], regularization)
        with pytest.raises(ValueError, match="singular"):
            ridge_inverse(GaussianKernel((1.0,))(x, x), regularization)


def test_two_sample_test_in_blocks_equals_full_gram_matrix(monkeypatch):
    torch.manual_seed(0)
    a, b = torch.randn(40, 2), torch.randn(30, 2) + 0.3
    full = two_sample_test(a, b, [1.0], n_permutations=99)
    pooled = torch.cat([a, b]).double()
    w = torch.tensor([1 / 40] * 40 + [-1 / 30] * 30, dtype=torch.float64)
    expected = w @ torch.exp(-torch.cdist(pooled, pooled).square() / 2) @ w
    monkeypatch.setattr("ancestral.probability.mmd.GRAM_BLOCK_SIZE", 16)
    blocks = two_sample_test(a, b, [1.0], n_permutations=99)
    assert blocks.mmd2 == pytest.approx(expected.item(), rel=1e-10)
    assert blocks.p_value == full.p_value
    torch.testing.assert_close(blocks.null_distribution, full.null_distribution)
