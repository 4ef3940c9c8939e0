"""Damage, bits and columns, against what they say they do."""

import numpy as np
import pytest
import torch

from ancestral.preprocess import Columns, binarize, corrupt
from ancestral.tables import has_missing, is_binary, learn_columns

RNG = np.random.default_rng(0)


def test_centred_square():
    lost = np.isnan(corrupt(np.zeros((2, 784)), "rect", 12, image_shape=(28, 28)))
    picture = lost[0].reshape(28, 28)
    assert picture[8:20, 8:20].all()  # rows and columns 8 to 19, as in the papers
    assert picture.sum() == 144
    np.testing.assert_array_equal(lost[0], lost[1])


def test_left_half():
    lost = np.isnan(corrupt(np.zeros((1, 784)), "half", image_shape=(28, 28))).reshape(28, 28)
    assert lost[:, :14].all()
    assert not lost[:, 14:].any()


def test_random_drops():
    lost = np.isnan(corrupt(np.zeros((500, 784)), "random", 0.6, seed=3))
    assert lost.mean() == pytest.approx(0.6, abs=4 * np.sqrt(0.24 / lost.size))
    again = np.isnan(corrupt(np.zeros((500, 784)), "random", 0.6, seed=3))
    np.testing.assert_array_equal(lost, again)


@pytest.mark.parametrize(("kind", "amount"), [("rect", 2), ("half", 0), ("random", 0.5)])
def test_all_channels_of_a_pixel_are_lost_together(kind, amount):
    x = np.zeros((5, 48))
    lost = np.isnan(corrupt(x, kind, amount, image_shape=(3, 4, 4))).reshape(5, 3, 16)
    np.testing.assert_array_equal(lost[:, 0], lost[:, 1])
    np.testing.assert_array_equal(lost[:, 0], lost[:, 2])
    assert 0 < lost.mean() < 1


def test_the_input_is_left_alone_and_bytes_become_fractions():
    x = np.full((1, 4), 51, dtype=np.uint8)
    out = corrupt(x, "half", image_shape=(2, 2))
    np.testing.assert_allclose(out, [[np.nan, 0.2, np.nan, 0.2]], rtol=1e-6)
    assert (x == 51).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blur", 1), "kind='blur'"),
        (("random", 1.5), "amount=1.5"),
        (("rect", 3), "image_shape=None"),
        (("rect", 9, (2, 2)), "amount=9"),
        (("half", 0, (3, 3)), r"image_shape=\(3, 3\)"),
    ],
)
def test_bad_damage(arguments, message):
    kind, amount, *shape = arguments
    with pytest.raises(ValueError, match=message):
        corrupt(np.zeros((1, 4)), kind, amount, image_shape=shape[0] if shape else None)


def test_bits_have_the_given_means():
    x = np.tile(np.linspace(0, 1, 11), (4000, 1))
    bits = binarize(x, seed=1)
    assert set(np.unique(bits)) == {0.0, 1.0}
    spread = np.sqrt(x[0] * (1 - x[0]) / len(x))
    assert (np.abs(bits.mean(0) - x[0]) <= 4 * spread).all()
    assert not np.array_equal(bits, binarize(x, seed=2))
    holes = np.where(RNG.random(x.shape) < 0.5, np.nan, x)
    np.testing.assert_array_equal(np.isnan(binarize(holes)), np.isnan(holes))


def test_columns_there_and_back():
    x = RNG.normal(3, 5, size=(200, 4))
    columns = learn_columns(x, "gaussian")
    inside = columns.to_model(torch.from_numpy(x))
    np.testing.assert_allclose(inside.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(inside.var(0, correction=0), 1, atol=1e-12)
    np.testing.assert_allclose(columns.to_user(inside), x, atol=1e-12)
    mask = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    expected = np.log(x.std(0)[[0, 3]]).sum()
    assert columns.log_volume(mask).item() == pytest.approx(expected)


def test_location_and_scale_far_from_zero_and_with_gaps():
    x = 1e9 + RNG.normal(size=(20_000, 2))
    holes = np.where(RNG.random(x.shape) < 0.3, np.nan, x)
    columns = learn_columns(holes, "gaussian")
    np.testing.assert_allclose(columns.scale, np.nanstd(holes, 0), rtol=1e-6)
    np.testing.assert_allclose(columns.loc, np.nanmean(holes, 0), rtol=1e-12)


def test_network_inputs_of_mixed_columns():
    columns = Columns(["categorical", "poisson", "bernoulli"], [0] * 3, [1] * 3, [3, 0, 0])
    x = torch.tensor([[2.0, 4.0, 1.0]])
    assert columns.n_features == 5
    np.testing.assert_allclose(columns.to_features(x), [[0, 0, 1, np.log(5), 1]], rtol=1e-6)
    nothing = columns.to_features(torch.zeros(1, 3), torch.zeros(1, 3))
    np.testing.assert_array_equal(nothing, np.zeros((1, 5)))  # a missing code is not code 0


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
def test_what_counts_as_bits(x, binary):
    assert is_binary(x) is binary
    assert has_missing(x) == bool(np.isnan(x).any())
