"""Contrast of images, against the formulas pixel by pixel."""

import numpy as np
import pytest
from scipy.signal import convolve2d

from ancestral import datasets
from ancestral.cli import main
from ancestral.contrast import global_contrast, local_contrast, normalise_contrast

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, 3 * 12 * 10)).astype(np.uint8)
SHAPE = (3, 12, 10)


def window():
    i = np.arange(7) - 3
    bell = np.exp(-(i[:, None] ** 2 + i[None] ** 2) / (2 * 2.0**2))
    return bell / bell.sum()


def test_global_contrast_has_mean_zero_and_length_one():
    done = global_contrast(IMAGES.astype(np.float64))
    np.testing.assert_allclose(done.mean(1), 0, atol=1e-15)
    np.testing.assert_allclose((done**2).sum(1), 1)
    np.testing.assert_allclose(done, global_contrast(IMAGES / 255.0))
    assert not global_contrast(np.full((1, 5), 7.0)).any()


def test_local_contrast_is_the_formula():
    x = RNG.normal(size=(2, 360))
    maps = x.reshape(2, 3, 12, 10)
    for n, done in enumerate(local_contrast(x, SHAPE).reshape(maps.shape)):
        for channel, image in enumerate(maps[n]):
            around = convolve2d(image, window(), mode="full")[3:-3, 3:-3]
            spread = np.sqrt(convolve2d(image**2, window(), mode="full")[3:-3, 3:-3])
            divisor = np.maximum(np.maximum(spread, spread.mean()), 1e-4)
            np.testing.assert_allclose(done[channel], (image - around) / divisor, atol=1e-12)


def test_the_smallest_spread_holds_faint_images_down():
    faint = 1e-6 * RNG.normal(size=(1, 360))
    assert np.abs(local_contrast(faint, SHAPE)).max() < 0.1


def test_blocks_and_precision():
    many = np.repeat(IMAGES, 500, 0)
    done = normalise_contrast(many, SHAPE)
    assert done.dtype == np.float32
    exact = local_contrast(global_contrast(IMAGES.astype(np.float64)), SHAPE)
    np.testing.assert_allclose(done[::500], exact, atol=1e-4)
    np.testing.assert_array_equal(done[499], done[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"window": 6}, "odd number"), ({"sigma": 0.0}, "sigma"), ({"window": 0}, "window")],
)
def test_bad_windows(options, message):
    with pytest.raises(ValueError, match=message):
        local_contrast(IMAGES, SHAPE, **options)


def test_images_are_needed(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"image_shape=\(2, 2\) does not describe"):
        local_contrast(IMAGES, (2, 2))
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n3,4\n5,6\n")
    assert main(["fit", "vae", str(table), "--contrast", "--out", str(tmp_path / "run")]) == 2
    assert "is for images" in capsys.readouterr().err


def test_a_data_set_with_its_contrast_normalised(tmp_path):
    np.savez(tmp_path / "pictures.npz", x=IMAGES.reshape(3, *SHAPE), y=np.arange(3))
    plain, done = (datasets.load(tmp_path / "pictures.npz", contrast=c) for c in (False, True))
    np.testing.assert_array_equal(done.x_train, normalise_contrast(IMAGES, SHAPE))
    assert done.checksum == plain.checksum
    assert "Contrast normalised" in done.note
