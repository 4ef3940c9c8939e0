"""The other half of a digit, given one: conditional moment matching draws what it was not shown.

Run it:  python examples/other_half.py          (scikit-learn's digits, half a minute)
         python examples/other_half.py mnist    (ten minutes)
         python examples/other_half.py mnist zoo/mnist-samples-cgmmn-half     (fitted before)

Each step draws two right halves for every left one and compares them with each other: with one, the
best answer to a left half that has been seen once is the right half that was seen with it.
"""

import sys

import numpy as np
import torch
from PIL import Image

import ancestral
from ancestral.datasets import Dataset
from ancestral.probability.kernels import median_variance

HOW = {"digits": {"max_epochs": 300}, "mnist": {"max_epochs": 30, "hidden": (1000, 1000)}}
SHOWN, DRAWS, BATCH = 12, 5, 500


def halves(rows: np.ndarray, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the left and the right half of every row, in [0, 1]."""
    height, width = data.image_shape
    pictures = (rows / (255 if rows.dtype == np.uint8 else 1)).reshape(-1, height, width)
    left, right = np.split(pictures, [width // 2], axis=2)
    return left.reshape(len(rows), -1), right.reshape(len(rows), -1)


def learn(data: Dataset, batch: int = BATCH, **how) -> ancestral.CGMMNRegressor:
    """Learn to draw right halves of left ones."""
    left, right = halves(data.x_train, data)
    width = 0.15 * float(median_variance(torch.from_numpy(left[:batch])))
    how = {"hidden": (400, 400), "n_noise": 10, "learning_rate": 2e-3, "n_draws": DRAWS} | how
    model = ancestral.CGMMNRegressor(
        objective="unbiased",
        input_kernel_variances=(width,),
        regularization=1.0,
        bounded=True,
        batch_size=batch,
        random_state=0,
        **how,
    )
    return model.fit(left, right)


def sheet(model: ancestral.CGMMNRegressor, data: Dataset) -> np.ndarray:
    """Lay out test digits in columns: as they are, then draws beside the half that is given."""
    height, width = data.image_shape
    left, right = halves(data.x_test[:SHOWN], data)
    columns = [right, *model.draw(left)]
    whole = [
        np.concatenate([half.reshape(SHOWN, height, -1) for half in (left, other)], axis=2)
        for other in columns
    ]
    framed = np.pad(np.stack(whole), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.5)
    return framed.transpose(0, 2, 1, 3).reshape(-1, SHOWN * (width + 2))


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "digits"
    digits = ancestral.datasets.load(name)
    if sys.argv[2:]:
        model = ancestral.load(sys.argv[2]).set_params(n_draws=DRAWS)
    else:
        model = learn(digits, **HOW[name])
    page = sheet(model, digits)
    zoom = 900 // page.shape[1] or 1
    Image.fromarray((255 * page).astype(np.uint8)).resize(
        (page.shape[1] * zoom, page.shape[0] * zoom), Image.Resampling.NEAREST
    ).save("other-half.png")
    print("other-half.png")
