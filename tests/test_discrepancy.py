"""Kernels, their features, discrepancies of two samples, and the test built on them."""

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

from ancestral.conditional import standard_normal
from ancestral.data import Batch
from ancestral.discrepancy import (
    cmmd2,
    conditional_mmd2,
    mmd2,
    mmd2_of_features,
    mmd2_standard_error,
    regression_operator,
    ridge_inverse,
    two_sample_test,
)
from ancestral.kernels import (
    DeltaKernel,
    GaussianKernel,
    Kernel,
    LaplaceKernel,
    NystromFeatures,
    RandomFeatures,
    RationalQuadraticKernel,
    gaussian_gram,
    median_variance,
)
from ancestral.models import Generator, Run
from ancestral.networks import one_hot
from ancestral.objectives import cmmd, mmd

NOTHING = nn.Module()
SMOOTH = [
    GaussianKernel((0.5, 3.0)),
    LaplaceKernel(2.0),
    RationalQuadraticKernel(variance=0.7, alpha=1.5),
]


class LinearKernel(Kernel):
    """Anyone can add a kernel."""

    def __call__(self, a, b):
        return a @ b.T


def rand(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


# ---- kernels


@pytest.mark.parametrize("kernel", SMOOTH)
def test_kernels_against_scipy(kernel):
    a, b = rand(5, 3), rand(4, 3, seed=1)
    d2, d1 = cdist(a, b, "sqeuclidean"), cdist(a, b, "cityblock")
    expected = {
        GaussianKernel: np.exp(-d2 / 1.0) + np.exp(-d2 / 6.0),
        LaplaceKernel: np.exp(-d1 / 2),
        RationalQuadraticKernel: (1 + d2 / 2.1) ** -1.5,
    }
    np.testing.assert_allclose(kernel(a, b), expected[type(kernel)], rtol=1e-10)
    assert torch.autograd.gradcheck(lambda x: kernel(x, b).sum(), a.requires_grad_())


def test_the_delta_kernel_knows_equal_rows():
    codes = one_hot(torch.tensor([0, 1, 0]), 3)
    assert DeltaKernel()(codes, codes).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_kernels_without_meaning_are_refused():
    for variances in ((), (1.0, 0.0), (math.nan,), (1.0, math.inf), (-1.0,)):
        with pytest.raises(ValueError, match="variances="):
            GaussianKernel(variances)
        with pytest.raises(ValueError, match="variances="):
            gaussian_gram(torch.zeros(2, 1), torch.ones(2, 1), variances)
    with pytest.raises(ValueError, match="DeltaKernel has no random features"):
        RandomFeatures(DeltaKernel(), 3)
    with pytest.raises(ValueError, match="all points coincide"):
        median_variance(torch.zeros(5, 2))


def test_median_heuristic_against_all_pairs():
    x = rand(101, 4)
    pairs = cdist(x, x)[np.triu_indices(101, 1)]
    assert median_variance(x) == pytest.approx(np.median(pairs**2) / 2, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_row_far_away_makes_no_others_coincide(dtype):
    a, b = rand(100, 2), rand(100, 2, seed=1) + 3
    b[0] = -9999
    both = torch.cat([a, b]).to(dtype)
    pairs = cdist(both, both)[np.triu_indices(200, 1)]
    assert median_variance(both) == pytest.approx(np.median(pairs**2) / 2, rel=0.01)
    assert two_sample_test(a, b).p_value == 0.001


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_rows_that_repeat_do_not_count_for_the_median(offset):
    few = rand(8, 30)
    pairs = cdist(few, few)[np.triu_indices(8, 1)]
    far = (few.repeat(25, 1) + offset).float()
    assert median_variance(far) == pytest.approx(np.median(np.sort(pairs**2)[:-1]) / 2, rel=0.1)
    assert median_variance(far) == pytest.approx(median_variance(far.double()), rel=1e-4)


@pytest.mark.parametrize("kernel", SMOOTH)
def test_random_features_average_to_the_kernel(kernel):
    x = rand(6, 3).float()
    phi = RandomFeatures(kernel, 3, n_frequencies=40_000)
    n_parts = len(getattr(kernel, "variances", (1,)))
    gap = phi(x) @ phi(x).T - kernel(x, x)
    assert gap.abs().max() < 5 * n_parts / math.sqrt(40_000)


@pytest.mark.parametrize("kernel", [*SMOOTH, LinearKernel()])
def test_nystrom_features_are_exact_at_landmarks(kernel):
    x = rand(8, 3)
    phi = NystromFeatures(kernel, x)
    torch.testing.assert_close(phi(x) @ phi(x).T, kernel(x, x), atol=1e-9, rtol=1e-7)
    some = NystromFeatures(kernel, x[:4])
    gap = (kernel(x, x) - some(x) @ some(x).T).diagonal()
    assert (gap > -1e-9).all()  # a projection never overshoots


# ---- discrepancies of two samples


@pytest.mark.parametrize("estimator", ["unbiased", "linear"])
def test_unbiased_estimators_average_to_the_closed_form(estimator):
    """D1: N(0, 1) and N(1, 1), variance 1."""
    values = [
        mmd2(rand(200, 1, seed=i), rand(200, 1, seed=1000 + i) + 1, [1.0], estimator).item()
        for i in range(200)
    ]
    error = np.std(values) / math.sqrt(len(values))
    assert np.mean(values) == pytest.approx(0.177267634920, abs=4 * error)


def test_the_biased_estimator_is_above_by_what_theory_says():
    """D2, at N = 20."""
    draws = [(rand(20, 1, seed=i), rand(20, 1, seed=1000 + i) + 1) for i in range(400)]
    both = [[mmd2(a, b, [1.0], e).item() for e in ("biased", "unbiased")] for a, b in draws]
    within = 1 / math.sqrt(3)  # E k(x, x') of N(0, 1) at variance 1
    gap = np.mean(both, axis=0) @ [1, -1]
    assert gap == pytest.approx(2 * (1 - within) / 20, rel=0.02)


def test_features_at_a_hundred_thousand_points():
    a, b = rand(100_000, 1).float(), rand(100_000, 1, seed=1).float() + 1
    phi = RandomFeatures([1.0], 1, n_frequencies=1000)
    assert mmd2_of_features(phi(a), phi(b)).item() == pytest.approx(0.177267634920, abs=0.02)
    linear = mmd2(a, b, [1.0], "linear").item()
    assert linear == pytest.approx(0.177267634920, abs=0.02)


def test_the_permutation_test_is_calibrated_and_has_power():
    p = [
        two_sample_test(
            rand(20, 2, seed=2 * i), rand(30, 2, seed=2 * i + 1), n_permutations=99, random_state=i
        ).p_value
        for i in range(200)
    ]
    assert 0.01 <= np.mean(np.array(p) <= 0.05) <= 0.09  # 0.05 by right
    assert 0.4 < np.mean(p) < 0.6
    found = two_sample_test(rand(50, 2), rand(50, 2, seed=1) + 1.2)
    assert found.p_value == 0.001
    assert found.mmd2 > found.permuted.max()
    assert "p = 0.001 (999 permutations)" in str(found)


def test_samples_too_small_are_refused():
    with pytest.raises(ValueError, match="two points"):
        mmd2(rand(1, 2), rand(5, 2), [1.0], "unbiased")
    with pytest.raises(ValueError, match="same size"):
        mmd2(rand(4, 2), rand(5, 2), [1.0], "linear")


# ---- conditional discrepancies


def sets(n=12, m=9):
    first = rand(n, 2), rand(n, 3, seed=1)
    return first, (rand(m, 2, seed=2), rand(m, 3, seed=3))


def test_d6_linear_kernels_compare_two_ridge_regressions_of_any_sizes():
    found = sets()
    maps = [
        y.T @ x @ torch.linalg.inv(x.T @ x + 0.3 * torch.eye(2, dtype=x.dtype)) for x, y in found
    ]
    got = conditional_mmd2(*found, LinearKernel(), LinearKernel(), 0.3)
    torch.testing.assert_close(got, (maps[0] - maps[1]).square().sum(), atol=1e-12, rtol=1e-10)


def test_d4_inputs_that_say_nothing_leave_the_plain_discrepancy():
    (_, y1), (_, y2) = sets(8, 8)
    same = torch.ones(8, 1).double()
    got = conditional_mmd2((same, y1), (same, y2), [1.0], [1.0, 4.0], 0.5)
    torch.testing.assert_close(got, (8 / 8.5) ** 2 * mmd2(y1, y2, [1.0, 4.0]))


def test_three_traces_agree_with_the_form_at_equal_inputs():
    (x, y1), (_, y2) = sets(10, 10)
    objective = cmmd("x", "y", [1.0], [2.0], 0.1)
    (term,) = objective.terms.values()
    got = term(NOTHING, Run(Batch(x, y1), sample=y2))
    torch.testing.assert_close(got, conditional_mmd2((x, y1), (x, y2), [1.0], [2.0], 0.1))


def test_d7_symmetric_and_blind_to_order():
    first, second = sets()
    value = conditional_mmd2(first, second, [1.0], [1.0], 0.1)
    assert value > 0
    torch.testing.assert_close(conditional_mmd2(second, first, [1.0], [1.0], 0.1), value)
    order = torch.randperm(12)
    shuffled = tuple(part[order] for part in first)
    torch.testing.assert_close(conditional_mmd2(shuffled, second, [1.0], [1.0], 0.1), value)


@pytest.mark.parametrize("regularization", [1e-3, 1e-6])
def test_little_regularisation_is_stable(regularization):
    x, y = rand(100, 5), rand(100, 2, seed=1)
    gram = GaussianKernel((1.0, 9.0, 20.0, 40.0, 80.0))(x, x)
    operator = regression_operator(gram, regularization)
    inverse = np.linalg.inv(gram.numpy() + regularization * np.eye(100))
    expected = inverse @ gram.numpy() @ inverse
    assert np.abs(operator.numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    assert conditional_mmd2((x, y), (x, y + 1), [1.0, 9.0], [1.0], regularization) > 0
    twice = torch.cat([x[:3], x[:3]])
    with pytest.raises(ValueError, match="singular with regularization=0"):
        conditional_mmd2((twice, twice), (twice, twice), [1.0], [1.0], 0.0)


@pytest.mark.parametrize("n", [500, 1500])
@pytest.mark.parametrize("regularization", [1e-3, 1e-6])
def test_many_inputs_in_the_plane_are_stable(n, regularization):
    x = rand(n, 2)
    gram = GaussianKernel((1.0, 9.0, 20.0, 40.0, 80.0))(x, x)
    values, vectors = np.linalg.eigh(gram.numpy())
    shares = np.clip(values, 0, None) / (np.clip(values, 0, None) + regularization) ** 2
    expected = (vectors * shares) @ vectors.T
    got = regression_operator(gram, regularization).numpy()
    assert np.linalg.norm(got - expected, 2) < 1e-4 / (4 * regularization)


def test_d8_the_classifier_script_is_a_weighted_regression():
    (x, y1), (_, y2) = sets(7, 7)
    gram, kernel = GaussianKernel((1.0,))(x, x), GaussianKernel((2.0,))
    inverse = torch.linalg.inv(gram + 0.1 * torch.eye(7).double())
    weights = gram.diagonal() * inverse.diagonal() ** 2
    grams = kernel(y1, y1) + kernel(y2, y2) - kernel(y1, y2)
    (term,) = cmmd("x", "y", [1.0], [2.0], 0.1, form="diagonal").terms.values()
    got = term(NOTHING, Run(Batch(x, y1), sample=y2))
    torch.testing.assert_close(got, (weights * grams.diagonal()).sum())


class Answers(Generator):
    """A generator of y = x + h whose noise is told, one draw of all rows after another."""

    def __init__(self, *told):
        super().__init__(nn.Identity(), standard_normal(1), "x")
        self.told = list(told)

    def sample(self, n, c=None):
        return c + self.told.pop(0)


def test_two_draws_measure_the_distribution_that_is_drawn_from():
    # with fair bits as noise, the mean over all pairs of draws is the discrepancy of the mean
    # embedding of what is drawn for each row, which is computed here from all answers of a row
    (x, y), bits = (rand(3, 1), rand(3, 1, seed=1)), list(product([0.0, 1.0], repeat=3))
    (term,) = cmmd("x", "y", [1.0], [2.0], 0.1, form="unbiased").terms.values()
    draws = [torch.tensor(b).double()[:, None] for b in bits]
    values = [term(Answers(b), Run(Batch(x, y), sample=x + a)) for a, b in product(draws, draws)]
    kernel = GaussianKernel((2.0,))
    answers = torch.cat([x, x + 1])
    mean = torch.cat([torch.eye(3), torch.eye(3)]).double() / 2  # of a row's two answers
    own, between = mean.T @ kernel(answers, answers) @ mean, kernel(y, answers) @ mean
    operator = regression_operator(GaussianKernel((1.0,))(x, x), 0.1)
    expected = (operator * (kernel(y, y) + own - 2 * between)).sum()
    torch.testing.assert_close(torch.stack(values).mean(), expected)
    assert expected > 0


def test_two_draws_need_what_can_be_drawn_from():
    (term,) = cmmd("x", "y", [1.0], [2.0], 0.1, form="unbiased").terms.values()
    with pytest.raises(TypeError, match="Module is no Generator"):
        term(NOTHING, Run(Batch(rand(3, 1), rand(3, 1)), sample=rand(3, 1)))


def test_d9_the_generator_script_sums_the_classes():
    y = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2, 1, 0])
    x, sample = rand(10, 4), rand(10, 4, seed=1)
    objective = cmmd("y", "x", [1.0], [1.0, 10.0], n_classes=3, form="classwise")
    (term,) = objective.terms.values()
    got = term(NOTHING, Run(Batch(x, y), sample=sample))
    classes = [mmd2(x[y == c], sample[y == c], [1.0, 10.0]) for c in range(3)]
    torch.testing.assert_close(got, 100 * sum(classes))


def test_d11_a_student_that_does_as_the_teacher_has_no_discrepancy():
    x = rand(30, 1)
    y = x.sin()
    values = [
        conditional_mmd2((x, y), (x, y + s * rand(30, 1, seed=5)), [1.0], [1.0], 1e-2).item()
        for s in (0.0, 0.1, 0.5)
    ]
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert values[0] < values[1] < values[2]


def test_d3_the_root_of_half_the_discrepancy():
    x, sample = rand(9, 2), rand(9, 2, seed=1)
    (term,) = mmd([1.0], root=True).terms.values()
    got = term(NOTHING, Run(Batch(x), sample=sample))
    torch.testing.assert_close(got, (mmd2(x, sample, [1.0]) / 2).sqrt(), atol=1e-8, rtol=1e-8)
    start = x.clone().requires_grad_()
    term(NOTHING, Run(Batch(x), sample=start)).backward()
    assert start.grad.isfinite().all()


def test_the_standard_error_of_mmd_is_its_spread_over_samples():
    for shift in (0.0, 0.7):
        found = [pair(seed, shift) for seed in range(300)]
        values, errors = np.array(found).T
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.25)


def pair(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 100, 2, generator=generator, dtype=torch.float64)
    b = b + shift
    return float(mmd2(a, b, [1.0], "unbiased")), mmd2_standard_error(a, b, [1.0])


def test_the_discrepancy_of_samples_that_are_almost_the_same_is_never_negative():
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        a = torch.randn(40, 5, generator=generator)
        b = a + 1e-5 * torch.randn(40, 5, generator=generator)
        assert mmd2(a, b.requires_grad_(), [1.0, 1e4]).item() >= 0
        term = mmd([1.0, 1e4], root=True).terms["mmd"](NOTHING, Run(Batch(a), sample=b))
        assert torch.autograd.grad(term, b)[0].isfinite().all()


def test_samples_of_two_precisions_are_compared_in_the_higher():
    a, b = rand(50, 2).double(), rand(50, 2).double() + 1
    exact = mmd2(a, b, [1.0])
    for pair in ((a.float(), b), (a, b.float())):
        assert mmd2(*pair, [1.0]).item() == pytest.approx(exact.item(), abs=1e-6)


# ---- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: mmd2(a, a, [1.0], "best"), "estimator='best'"),
        (lambda a: mmd2(a[0], a[1], [1.0]), "expected rows"),
        (lambda a: mmd2(a, a[:, :1], [1.0]), "same columns"),
        (lambda a: mmd2(a.long(), a, [1.0]), "floating point"),
        (lambda a: two_sample_test(a, a.where(a < 1, torch.nan)), "missing"),
        (lambda a: mmd2(a, a[:0], [1.0]), "50 and 0 rows"),
        (lambda a: two_sample_test(a[:0], a), "0 and 50 rows"),
        (lambda a: mmd2_standard_error(a, a[:20], [1.0]), "50 and 20 rows"),
        (lambda a: median_variance(a.where(a < 1, torch.nan)), "missing"),
        (lambda a: mmd2(a.where(a < 1, torch.nan), a, [1.0]), "a holds infinite or missing"),
        (lambda a: mmd2(a, a / 0, [1.0]), "b holds infinite or missing"),
        (lambda a: mmd2_standard_error(a, a * math.nan, [1.0]), "b holds"),
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
        (lambda a: RandomFeatures([1.0], 3)(a), "as many columns"),
        (lambda a: NystromFeatures([1.0], a[:0]), r"landmarks of the shape \(0, 2\)"),
    ],
)
def test_what_can_not_be_compared_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(rand(50, 2))


@pytest.mark.parametrize("wide", [2, 3])
@pytest.mark.parametrize("kernel", [*SMOOTH, DeltaKernel()])
def test_points_of_other_spaces_are_refused(kernel, wide, unchecked_shapes):
    narrow, points = rand(4, 1), rand(4, wide)
    for pair in ((narrow, points), (points, narrow)):
        with pytest.raises(ValueError, match="as many columns"):
            kernel(*pair)
    with pytest.raises(ValueError, match="as many columns"):
        gaussian_gram(points, narrow, [1.0])
    with pytest.raises(ValueError, match="as many columns"):
        NystromFeatures(kernel, points)(narrow)


@pytest.fixture
def unchecked_shapes():
    """As the user runs it: shapes in annotations are not looked at."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


CONDITIONAL = [
    ({"y2": (10, 3)}, "outputs and other outputs.*same columns"),
    ({"x2": (10, 1)}, "inputs and other inputs.*same columns"),
    ({"y1": (9, 1)}, "first: 10 inputs and 9 outputs"),
    ({"y1": (10,), "y2": (10,)}, "outputs.*expected rows"),
    ({"x1": (0, 2), "y1": (0, 1)}, "0 and 10 rows"),
]


@pytest.mark.parametrize(("shapes", "message"), CONDITIONAL)
def test_sets_that_do_not_fit_together_are_named(shapes, message):
    usual = {"x1": (10, 2), "y1": (10, 1), "x2": (10, 2), "y2": (10, 1)}
    x1, y1, x2, y2 = (rand(*shape) for shape in (usual | shapes).values())
    with pytest.raises(ValueError, match=message):
        conditional_mmd2((x1, y1), (x2, y2), [1.0], [1.0])


def test_values_that_are_missing_from_sets_are_named():
    x, y = rand(10, 2), rand(10, 1)
    gone = torch.full_like(y, math.nan)
    for first, name in (((x, gone), "outputs"), ((x * math.nan, y), "inputs")):
        with pytest.raises(ValueError, match=f"^{name} holds infinite or missing"):
            conditional_mmd2(first, (x, y), [1.0], [1.0])
    with pytest.raises(ValueError, match=r"^other outputs holds"):
        conditional_mmd2((x, y), (x, gone), [1.0], [1.0])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((10, 10), (10, 1), (10, 3)), "real and generated.*same columns"),
        (((10, 10), (9, 1), (10, 1)), "at the same n inputs"),
        (((9, 9), (10, 1), (10, 1)), r"operator \(9, 9\)"),
        (((0, 0), (0, 1), (0, 1)), "0 and 0 rows"),
    ],
)
def test_operators_and_outputs_that_do_not_fit_together_are_named(shapes, message):
    with pytest.raises(ValueError, match=message):
        cmmd2(*(rand(*shape) for shape in shapes), [1.0])


def test_missing_outputs_and_operators_are_named():
    y = rand(3, 1)
    bad = torch.full((3, 3), math.nan).double()
    with pytest.raises(ValueError, match=r"^operator holds"):
        cmmd2(bad, y, y, [1.0])
    with pytest.raises(ValueError, match=r"^generated holds"):
        cmmd2(torch.eye(3), y, bad[:, :1], [1.0])


@pytest.mark.parametrize("regularization", [-0.5, math.nan, math.inf])
def test_a_regularisation_is_finite_and_not_negative(regularization):
    x, y = rand(5, 2), rand(5, 1)
    for call in (regression_operator, ridge_inverse):
        with pytest.raises(ValueError, match=f"regularization={regularization}: expected a number"):
            call(torch.eye(5), regularization)
    with pytest.raises(ValueError, match=f"regularization={regularization}: expected a number"):
        conditional_mmd2((x, y), (x, y), [1.0], [1.0], regularization)


def test_conditional_discrepancies_are_never_negative():
    for seed in range(50):
        x, y = rand(15, 2, seed=seed), rand(15, 1, seed=100 + seed)
        assert conditional_mmd2((x, y), (x, y), [1.0], [1.0], 1e-6).item() >= 0
        operator = regression_operator(GaussianKernel((1.0,))(x, x), 1e-6)
        assert cmmd2(operator, y, y + 1e-9, [1.0]).item() >= 0


@pytest.mark.parametrize(("setting", "value"), [("form", "diag"), ("inputs", "z")])
def test_conditional_moments_refuse_what_they_do_not_know(setting, value):
    how = {"inputs": "x", "outputs": "y", "input_kernel": [1.0], "output_kernel": [1.0]}
    with pytest.raises((ValueError, TypeCheckError), match=value):
        cmmd(**how | {setting: value})


@pytest.mark.parametrize("regularization", [1e-4, 1e-6, 1e-8])
def test_repeated_inputs_against_60_digits(regularization):
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
    given = ((x, y), (x, y + 1), kernel, kernel, regularization)
    assert conditional_mmd2(*given).item() == pytest.approx(expected, rel=1e-3)


def test_repeated_inputs_are_singular_before_the_factor_of_their_matrix_fails():
    x, y = rand(30, 2).repeat(2, 1), rand(60, 1)
    for regularization in (0.0, 1e-12):
        with pytest.raises(ValueError, match=f"singular with regularization={regularization}"):
            conditional_mmd2((x, y), (x, y + 1), [1.0], [1.0], regularization)
        with pytest.raises(ValueError, match="singular"):
            ridge_inverse(GaussianKernel((1.0,))(x, x), regularization)
