"""Corruption, binarisation and column transforms of model inputs."""

import numpy as np
import pytest
import torch

from ancestral.data.columns import Columns, has_missing, infer_columns, is_binary
from ancestral.data.preprocessing import binarize, corrupt

RNG = np.random.default_rng(0)


def test_corrupt_rect_removes_centred_square():
    missing = np.isnan(corrupt(np.zeros((2, 784)), "square", 12, image_shape=(28, 28)))
    image = missing[0].reshape(28, 28)
    assert image[8:20, 8:20].all()  # rows and columns 8 to 19, as in the papers
    assert image.sum() == 144
    np.testing.assert_array_equal(missing[0], missing[1])


def test_corrupt_half_removes_left_half():
    missing = np.isnan(corrupt(np.zeros((1, 784)), "half", image_shape=(28, 28))).reshape(28, 28)
    assert missing[:, :14].all()
    assert not missing[:, 14:].any()


def test_corrupt_random_has_given_probability_and_is_reproducible():
    missing = np.isnan(corrupt(np.zeros((500, 784)), "random", 0.6, seed=3))
    assert missing.mean() == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / missing.size))
    repeated = np.isnan(corrupt(np.zeros((500, 784)), "random", 0.6, seed=3))
    np.testing.assert_array_equal(missing, repeated)


@pytest.mark.parametrize(("kind", "amount"), [("square", 2), ("half", 0), ("random", 0.5)])
def test_corrupt_removes_all_channels_of_a_pixel(kind, amount):
    x = np.zeros((5, 48))
    missing = np.isnan(corrupt(x, kind, amount, image_shape=(3, 4, 4))).reshape(5, 3, 16)
    np.testing.assert_array_equal(missing[:, 0], missing[:, 1])
    np.testing.assert_array_equal(missing[:, 0], missing[:, 2])
    assert 0 < missing.mean() < 1


def test_corrupt_copies_input_and_scales_bytes_to_unit_interval():
    x = np.full((1, 4), 51, dtype=np.uint8)
    out = corrupt(x, "half", image_shape=(2, 2))
    np.testing.assert_allclose(out, [[np.nan, 0.2, np.nan, 0.2]], rtol=1e-6)
    assert (x == 51).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blur", 1), "kind='blur'"),
        (("random", 1.5), "amount=1.5"),
        (("square", 3), "image_shape=None"),
        (("square", 9, (2, 2)), "amount=9"),
        (("half", 0, (3, 3)), r"image_shape=\(3, 3\)"),
    ],
)
def test_corrupt_rejects_invalid_arguments(arguments, message):
    kind, amount, *shape = arguments
    with pytest.raises(ValueError, match=message):
        corrupt(np.zeros((1, 4)), kind, amount, image_shape=shape[0] if shape else None)


def test_binarize_has_given_means_and_keeps_missing_values():
    x = np.tile(np.linspace(0, 1, 11), (4000, 1))
    bits = binarize(x, seed=1)
    assert set(np.unique(bits)) == {0.0, 1.0}
    standard_error = np.sqrt(x[0] * (1 - x[0]) / len(x))
    assert (np.abs(bits.mean(0) - x[0]) <= 4 * standard_error).all()
    assert not np.array_equal(bits, binarize(x, seed=2))
    incomplete = np.where(RNG.random(x.shape) < 0.5, np.nan, x)
    np.testing.assert_array_equal(np.isnan(binarize(incomplete)), np.isnan(incomplete))


def test_columns_standardise_and_invert():
    x = RNG.normal(3, 5, size=(200, 4))
    columns = infer_columns(x, "gaussian")
    standardized = columns.to_model_units(torch.from_numpy(x))
    np.testing.assert_allclose(standardized.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(standardized.var(0, correction=0), 1, atol=1e-12)
    np.testing.assert_allclose(columns.to_data_units(standardized), x, atol=1e-12)
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    expected = np.log(x.std(0)[[0, 3]]).sum()
    assert columns.log_volume(mask).item() == pytest.approx(expected)


def test_location_and_scale_of_data_far_from_zero_with_missing_values():
    x = 1e9 + RNG.normal(size=(20_000, 2))
    incomplete = np.where(RNG.random(x.shape) < 0.3, np.nan, x)
    columns = infer_columns(incomplete, "gaussian")
    np.testing.assert_allclose(columns.scale, np.nanstd(incomplete, 0), rtol=1e-6)
    np.testing.assert_allclose(columns.loc, np.nanmean(incomplete, 0), rtol=1e-12)


def test_network_inputs_of_mixed_columns():
    columns = Columns(["categorical", "poisson", "bernoulli"], [0] * 3, [1] * 3, [3, 0, 0])
    x = torch.tensor([[2.0, 4.0, 1.0]])
    assert columns.n_features == 5
    np.testing.assert_allclose(columns.to_features(x), [[0, 0, 1, np.log(5), 1]], rtol=1e-6)
    missing = columns.to_features(torch.zeros(1, 3), torch.zeros(1, 3))
    np.testing.assert_array_equal(missing, np.zeros((1, 5)))  # a missing code is not code 0


@pytest.mark.parametrize(
    ("x", "binary"),
    [
        (np.array([[0.0, 1.0]]), True),
        (np.array([[0.0, np.nan]]), True),
        (np.array([[0.0, 0.5]]), False),
        (np.array([[0, 255]], dtype=np.uint8), True),
        (np.array([[0, 1]], dtype=np.uint8), True),
        (np.array([[1, 255]], dtype=np.uint8), False),
        (np.array([[True, False]]), True),
    ],
)
def test_is_binary_and_has_missing(x, binary):
    assert is_binary(x) is binary
    assert has_missing(x) == bool(np.isnan(x).any())
