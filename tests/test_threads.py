"""Results of concurrent threads are those of one thread, to the bit."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine

from ancestral import GAN, VAE, MaxMarginVAE, MemoryVAE

X, Y = load_digits(return_X_y=True)
X = X[:200] / 16
Y = Y[:200]
INCOMPLETE = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
SMALL = {"hidden": (16,), "max_epochs": 2, "random_state": 0}


def run_in_threads(function, arguments, n_threads=4):
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, arguments))


def assert_same(results, expected):
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("model", [VAE(**SMALL), MemoryVAE(**SMALL)], ids=repr)
@pytest.mark.parametrize("method", ["score_samples", "transform", "reconstruct", "impute"])
def test_threads_share_one_fitted_model(model, method):
    """Inference of one model in four threads: no error, and the values of one thread."""
    model = clone(model).set_params(n_evaluation_samples=50).fit(X)
    rows = INCOMPLETE if method == "impute" else X
    expected = getattr(model, method)(rows)
    assert_same(run_in_threads(lambda _: getattr(model, method)(rows), range(8)), expected)


@pytest.mark.parametrize(
    "model", [VAE(**SMALL), GAN(**SMALL), MaxMarginVAE(n_latents=5, **SMALL)], ids=repr
)
def test_one_estimator_for_each_thread(model):
    """Fits with the same seed in parallel threads have the parameters and samples of one thread."""

    def fit(seed):
        fitted = clone(model).set_params(random_state=seed).fit(X, Y)
        values = [v.numpy() for v in fitted.model_.state_dict().values()]
        return [*values, fitted.sample(5, random_state=1)]

    expected = [fit(seed) for seed in range(4)]
    for results, values in zip(run_in_threads(fit, range(4)), expected, strict=True):
        for result, value in zip(results, values, strict=True):
            np.testing.assert_array_equal(result, value)


def test_joblib_threads_fit_and_impute_as_one_thread():
    rows = load_wine().data
    incomplete = np.where(np.random.default_rng(0).random(rows.shape) < 0.2, np.nan, rows)

    def impute(seed):
        return VAE(n_latents=2, **SMALL | {"random_state": seed}).fit(incomplete).impute(incomplete)

    expected = [impute(seed) for seed in range(4)]
    results = Parallel(n_jobs=4, prefer="threads")(delayed(impute)(s) for s in range(4))
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, value)


def test_threads_leave_the_random_state_and_dtype_of_torch():
    model = VAE(**SMALL).fit(X)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        run_in_threads(lambda s: VAE(**SMALL | {"random_state": s}).fit(X).sample(3), range(4))
        run_in_threads(lambda _: model.score_samples(X[:20]), range(4))
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
