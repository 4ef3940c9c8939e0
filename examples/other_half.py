"""Right halves of digits sampled given the left halves, by conditional moment matching.

Usage:  python examples/other_half.py          (scikit-learn's digits, half a minute)
        python examples/other_half.py mnist    (ten minutes)
        python examples/other_half.py mnist zoo/mnist-samples-cgmmn-half     (a fitted model)

Each step samples two right halves per left half. With one sample the minimiser for a left half that
occurs once would be the right half it occurs with, without any spread.
"""

import sys

import numpy as np
import torch
from PIL import Image

import ancestral
from ancestral.datasets import Dataset
from ancestral.probability.kernels import median_variance

OPTIONS = {"digits": {"max_epochs": 300}, "mnist": {"max_epochs": 30, "hidden": (1000, 1000)}}
N_DIGITS, N_DRAWS, BATCH_SIZE = 12, 5, 500


def halves(rows: np.ndarray, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Left and right halves of all rows, in [0, 1]."""
    height, width = data.image_shape
    images = (rows / (255 if rows.dtype == np.uint8 else 1)).reshape(-1, height, width)
    left, right = np.split(images, [width // 2], axis=2)
    return left.reshape(len(rows), -1), right.reshape(len(rows), -1)


def fit(data: Dataset, batch_size: int = BATCH_SIZE, **options) -> ancestral.CGMMNRegressor:
    """Conditional generator of right halves, fitted to the training images."""
    left, right = halves(data.x_train, data)
    variance = 0.15 * float(median_variance(torch.from_numpy(left[:batch_size])))
    defaults = {"hidden": (400, 400), "n_noise": 10, "learning_rate": 2e-3, "n_draws": N_DRAWS}
    model = ancestral.CGMMNRegressor(
        objective="unbiased",
        input_kernel_variances=(variance,),
        regularization=1.0,
        bounded=True,
        batch_size=batch_size,
        random_state=0,
        **defaults | options,
    )
    return model.fit(left, right)


def image_grid(model: ancestral.CGMMNRegressor, data: Dataset) -> np.ndarray:
    """Test digits in the first row; below, sampled right halves beside the given left half."""
    height, width = data.image_shape
    left, right = halves(data.x_test[:N_DIGITS], data)
    rows = [right, *model.draw(left)]
    images = [
        np.concatenate([half.reshape(N_DIGITS, height, -1) for half in (left, other)], axis=2)
        for other in rows
    ]
    framed = np.pad(np.stack(images), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)
    return framed.transpose(0, 2, 1, 3).reshape(-1, N_DIGITS * (width + 2))


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "digits"
    dataset = ancestral.datasets.load(name)
    if sys.argv[2:]:
        regressor = ancestral.load(sys.argv[2]).set_params(n_draws=N_DRAWS)
    else:
        regressor = fit(dataset, **OPTIONS[name])
    grid = image_grid(regressor, dataset)
    zoom = 900 // grid.shape[1] or 1
    Image.fromarray((255 * grid).astype(np.uint8)).resize(
        (grid.shape[1] * zoom, grid.shape[0] * zoom), Image.Resampling.NEAREST
    ).save("other-half.png")
    print("other-half.png")
