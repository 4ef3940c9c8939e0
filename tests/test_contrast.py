"""Contrast normalisation, compared with the formulas pixel by pixel."""

import numpy as np
import pytest
from scipy.signal import convolve2d

from ancestral import datasets
from ancestral.cli.main import main
from ancestral.data.contrast_normalization import (
    contrast_normalization,
    global_contrast_normalization,
    local_contrast_normalization,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 3 * 12 * 10)).astype(np.uint8)
SHAPE = (3, 12, 10)


def gaussian_window():
    i = np.arange(7) - 3
    weights = np.exp(-(i[:, None] ** 2 + i[None] ** 2) / (2 * 2.0**2))
    return weights / weights.sum()


def test_global_contrast_normalization_has_zero_mean_and_unit_norm():
    normalized = global_contrast_normalization(IMAGES.astype(np.float64))
    np.testing.assert_allclose(normalized.mean(1), 0, atol=1e-15)
    np.testing.assert_allclose((normalized**2).sum(1), 1)
    np.testing.assert_allclose(normalized, global_contrast_normalization(IMAGES / 255.0))
    assert not global_contrast_normalization(np.full((1, 5), 7.0)).any()


def test_local_contrast_normalization_matches_formula():
    x = RNG.normal(size=(2, 360))
    maps = x.reshape(2, 3, 12, 10)
    for n, normalized in enumerate(local_contrast_normalization(x, SHAPE).reshape(maps.shape)):
        for channel, image in enumerate(maps[n]):
            mean = convolve2d(image, gaussian_window(), mode="full")[3:-3, 3:-3]
            std = np.sqrt(convolve2d(image**2, gaussian_window(), mode="full")[3:-3, 3:-3])
            divisor = np.maximum(np.maximum(std, std.mean()), 1e-4)
            np.testing.assert_allclose(normalized[channel], (image - mean) / divisor, atol=1e-12)


def test_minimum_std_limits_contrast_of_faint_images():
    faint = 1e-6 * RNG.normal(size=(1, 360))
    assert np.abs(local_contrast_normalization(faint, SHAPE)).max() < 0.1


def test_contrast_normalization_in_blocks_is_float32_and_matches_float64():
    images = np.repeat(IMAGES, 500, 0)
    normalized = contrast_normalization(images, SHAPE)
    assert normalized.dtype == np.float32
    exact = local_contrast_normalization(
        global_contrast_normalization(IMAGES.astype(np.float64)), SHAPE
    )
    np.testing.assert_allclose(normalized[::500], exact, atol=1e-4)
    np.testing.assert_array_equal(normalized[499], normalized[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 6}, "odd number"), ({"sigma": 0.0}, "sigma"), ({"window": 0}, "window")],
)
def test_local_contrast_rejects_invalid_window_and_sigma(options, message):
    with pytest.raises(ValueError, match=message):
        local_contrast_normalization(IMAGES, SHAPE, **options)


def test_contrast_normalization_requires_images(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"image_shape=\(2, 2\) does not match"):
        local_contrast_normalization(IMAGES, (2, 2))
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n3,4\n5,6\n")
    assert main(["fit", "vae", str(table), "--contrast", "--out", str(tmp_path / "run")]) == 2
    assert "requires images" in capsys.readouterr().err


def test_load_with_contrast_normalization(tmp_path):
    np.savez(tmp_path / "pictures.npz", x=IMAGES.reshape(3, *SHAPE), y=np.arange(3))
    original, normalized = (
        datasets.load(tmp_path / "pictures.npz", contrast=c) for c in (False, True)
    )
    np.testing.assert_array_equal(normalized.x_train, contrast_normalization(IMAGES, SHAPE))
    assert normalized.checksum == original.checksum
    assert "Contrast normalised" in normalized.note
