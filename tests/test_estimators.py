"""The scikit-learn contract, reproducibility, saving, input types, training options."""

import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ancestral
from ancestral import (
    GAN,
    GMMN,
    IWAE,
    VAE,
    Autoencoder,
    BeliefNet,
    CGMMNClassifier,
    CGMMNRegressor,
    ClassConditionalVAE,
    MaxMarginVAE,
    MemoryVAE,
    MixtureModel,
    NetworkClassifier,
)
from ancestral.estimators.base.deep_latent import DeepLatentEstimator
from ancestral.estimators.base.em import EMEstimator
from ancestral.estimators.base.gradient import n_epochs
from ancestral.objectives import Objective, elbo
from ancestral.training.optim import adam, iwae_adam, sgd
from ancestral.utils.serialization import ModelFileError
from ancestral.utils.validation import Positive

X = load_digits().data / 16
SMALL = {"n_latents": 3, "hidden": (20,), "random_state": 0, "device": "cpu"}
QUICK = SMALL | {"max_epochs": 2, "n_evaluation_samples": 10}
MONTE_CARLO = "score_samples draws importance samples jointly for all samples of a batch"


UNLABELLED = "-1 marks an unlabelled sample and cannot be a class"


def expected_failures(estimator):
    checks = ("check_methods_subset_invariance", "check_methods_sample_order_invariance")
    is_monte_carlo = hasattr(estimator, "score_samples") and not isinstance(estimator, EMEstimator)
    failures = dict.fromkeys(checks, MONTE_CARLO) if is_monte_carlo else {}
    return failures | (
        {"check_classifiers_classes": UNLABELLED} if is_classifier(estimator) else {}
    )


@parametrize_with_checks(
    [
        VAE(**QUICK),
        IWAE(**QUICK | {"n_latents": (3, 2)}),
        MemoryVAE(**QUICK, n_slots=3),
        BeliefNet(n_latents=(3, 2), max_epochs=1, n_evaluation_samples=10, random_state=0),
        ancestral.FactorAnalysis(n_components=1, random_state=0),
        MixtureModel(n_components=2, random_state=0),
        MixtureModel(
            n_components=2,
            covariance_type="full",
            likelihood="gaussian",
            max_iter=20,
            random_state=0,
        ),
        MaxMarginVAE(**QUICK | {"max_epochs": 6, "learning_rate": 0.05}),
        ClassConditionalVAE(**QUICK | {"max_epochs": 6, "learning_rate": 0.05}),
        NetworkClassifier(hidden=(20,), max_epochs=8, learning_rate=0.02, random_state=0),
        CGMMNClassifier(
            hidden=(20,), batch_size=100, max_epochs=8, learning_rate=0.05, random_state=0
        ),
        ancestral.PBP(hidden=(8,), max_epochs=3, random_state=0),
        CGMMNRegressor(hidden=(20,), max_epochs=30, learning_rate=0.01, random_state=0),
        Autoencoder(n_latents=3, hidden=(20,), max_epochs=1, random_state=0),
        GMMN(hidden=(10,), max_epochs=1, random_state=0),
        GAN(hidden=(10,), critic=(10,), max_epochs=1, random_state=0),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["transform", "reconstruct"])
def test_inference_is_batch_invariant(method):
    apply = getattr(VAE(**QUICK).fit(X), method)
    batch, single = apply(X[:300]), np.concatenate([apply(X[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(batch[:5], single)


@pytest.mark.parametrize("cls", [VAE, IWAE])
def test_fits_with_equal_seed_are_bitwise_identical(cls):
    first, second = (cls(**QUICK).fit(X) for _ in range(2))
    for a, b in zip(first.model_.parameters(), second.model_.parameters(), strict=True):
        assert torch.equal(a, b)
    losses = [[r["loss"] for r in e.history_] for e in (first, second)]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(first.score_samples(X[:20]), second.score_samples(X[:20]))
    np.testing.assert_array_equal(first.sample(5), second.sample(5))
    other = cls(**QUICK | {"random_state": 1}).fit(X)
    assert other.history_[-1]["loss"] != losses[0][-1]


def test_global_random_streams_and_torch_settings_are_unchanged():
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    streams = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    estimator = VAE(**QUICK).fit(X)
    estimator.score_samples(X[:5])
    estimator.sample(3)
    estimator.impute(np.where(X[:3] > 0.5, np.nan, X[:3]), n_iter=2)
    VAE(**QUICK | {"random_state": None}).fit(X[:200])
    assert torch.equal(streams[0], torch.get_rng_state())
    np.testing.assert_array_equal(streams[1], np.random.get_state()[1])  # noqa: NPY002
    assert torch.get_default_dtype() == torch.float32
    assert torch.distributions.Distribution._validate_args is True


@pytest.mark.parametrize(
    "estimator",
    [
        VAE(**QUICK),
        IWAE(**QUICK, batch_norm=False),
        VAE(**QUICK | {"n_latents": (3, 2)}),
        VAE(**QUICK, likelihood="gaussian"),
        BeliefNet(n_latents=(3, 2), max_epochs=1, n_evaluation_samples=10, random_state=0),
        ancestral.FactorAnalysis(n_components=2, random_state=0),
        MixtureModel(n_components=3, random_state=0),
        MixtureModel(n_components=2, covariance_type="tied", likelihood="gaussian", random_state=0),
    ],
    ids=[
        "vae",
        "iwae without batch norm",
        "two layers",
        "gaussian",
        "bits",
        "factors",
        "classes",
        "tied",
    ],
)
def test_loaded_model_gives_identical_results(estimator, tmp_path):
    rows = X[:, X.std(0) > 0]
    estimator = clone(estimator).fit(rows)
    estimator.save(tmp_path / "model")
    loaded = ancestral.load(tmp_path / "model")
    assert type(loaded) is type(estimator)
    assert loaded.get_params() == estimator.get_params()
    assert loaded.history_ == estimator.history_
    for method in ("transform", "reconstruct", "score_samples"):
        expected = getattr(estimator, method)(rows[:10])
        np.testing.assert_array_equal(getattr(loaded, method)(rows[:10]), expected)
    np.testing.assert_array_equal(loaded.sample(4), estimator.sample(4))
    pickled = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(pickled.transform(rows[:9]), estimator.transform(rows[:9]))


def test_linear_gaussian_vae_matches_factor_analysis_likelihood():
    rng = np.random.default_rng(0)
    loading = rng.normal(size=(6, 2))
    rows = rng.normal(size=(3000, 2)) @ loading.T + rng.normal(size=(3000, 6)) + 10
    vae = VAE(
        n_latents=2, hidden=(), likelihood="gaussian", max_epochs=50, learning_rate=2e-2,
        n_latent_samples=5, random_state=0,
    ).fit(rows[:2000])  # fmt: skip
    exact = FactorAnalysis(2, tol=1e-6, max_iter=2000).fit(rows[:2000])
    result = vae.log_likelihood(rows[2000:])
    assert abs(result.mean - exact.score(rows[2000:])) < 0.03
    assert np.median(result.effective_sample_sizes) > 100


def test_log_likelihood_is_in_units_of_the_data():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 3))
    plain = VAE(**QUICK, likelihood="gaussian").fit(rows)
    scaled = VAE(**QUICK, likelihood="gaussian").fit(rows * 1000 + 5)
    shift = plain.score(rows) - scaled.score(rows * 1000 + 5)
    assert shift == pytest.approx(3 * np.log(1000), abs=1e-3)


def test_missing_values_are_integrated_out():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 1))
    rows = np.hstack([z, z]) + 0.3 * rng.normal(size=(2000, 2))
    incomplete = np.where(rng.random(rows.shape) < 0.3, np.nan, rows)
    kwargs = {"max_epochs": 100, "batch_size": 200, "learning_rate": 1e-2}
    vae = VAE(n_latents=1, hidden=(20,), random_state=0, **kwargs).fit(incomplete)
    probe = np.array([[1.5, np.nan], [-1.5, np.nan], [np.nan, np.nan]])
    variance = 1 + 0.09
    exact = -0.5 * (np.log(2 * np.pi * variance) + probe[0, 0] ** 2 / variance)
    values = vae.score_samples(probe)
    assert values[0] == pytest.approx(exact, abs=0.25)
    assert values[2] == pytest.approx(0.0, abs=0.5)  # no observed value: log 1, by sampling
    many = np.repeat(probe[:2], 200, 0)
    imputed = vae.impute(many, n_iter=50)
    np.testing.assert_array_equal(imputed[:, 0], many[:, 0])
    conditional_mean = 1.5 / variance
    assert imputed[:200, 1].mean() == pytest.approx(conditional_mean, abs=0.25)
    assert imputed[200:, 1].mean() == pytest.approx(-conditional_mean, abs=0.25)


def test_mixed_column_types():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 1500)
    rows = np.column_stack(
        [code * 4 + rng.normal(size=1500), code, rng.poisson(1 + 5 * code), code == 2]
    ).astype(float)
    kinds = ("gaussian", "categorical", "poisson", "bernoulli")
    kwargs = {"hidden": (40,), "max_epochs": 40, "batch_size": 150, "learning_rate": 1e-2}
    sample = (vae := VAE(**SMALL | kwargs, likelihood=kinds)).fit(rows).sample(2000)
    assert set(np.unique(sample[:, 1])) <= {0, 1, 2}
    assert set(np.unique(sample[:, 3])) <= {0, 1}
    assert (sample[:, 2] == np.round(sample[:, 2])).all()
    expected = np.corrcoef(rows[:, 0], rows[:, 2])[0, 1]
    assert np.corrcoef(sample[:, 0], sample[:, 2])[0, 1] == pytest.approx(expected, abs=0.1)
    incomplete = rows[:300].copy()
    incomplete[:, 1] = np.nan
    assert (vae.impute(incomplete)[:, 1] == code[:300]).mean() > 0.85


@pytest.mark.parametrize("binarize", ["batch", "epoch", "once", "none"])
def test_likelihood_under_binarize_modes(binarize):
    vae = VAE(**QUICK, binarize=binarize).fit(X)
    bits = (np.random.default_rng(5).random(X.shape) < X).astype(float)
    direct = vae.log_likelihood(bits).values
    if binarize == "none":
        assert vae.log_likelihood(X).values.mean() != pytest.approx(direct.mean(), abs=1e-6)
    else:
        means = [vae.log_likelihood(X, 20, binarize_seed=s).mean for s in (0, 1)]
        assert means[0] != means[1]
        assert means[0] == pytest.approx(vae.log_likelihood(bits, 20).mean, abs=0.5)


def test_pandas_and_polars_input_and_output():
    frame = pd.DataFrame(X[:200], columns=[f"pixel{j}" for j in range(64)])
    vae = VAE(**QUICK).fit(frame)
    assert list(vae.feature_names_in_) == list(frame.columns)
    out = vae.set_output(transform="pandas").transform(frame)
    assert isinstance(out, pd.DataFrame)
    assert list(out.columns) == ["vae0", "vae1", "vae2"]
    out = vae.set_output(transform="polars").transform(pl.from_pandas(frame))
    assert isinstance(out, pl.DataFrame)


def test_uint8_bool_tensor_and_memmap_inputs(tmp_path):
    bytes_ = np.round(X * 255).astype(np.uint8)
    floats = VAE(**QUICK).fit(bytes_ / np.float32(255))
    expected = floats.transform(bytes_ / np.float32(255))
    np.save(tmp_path / "x.npy", bytes_)
    memmap = np.load(tmp_path / "x.npy", mmap_mode="r")
    for rows in (bytes_, torch.from_numpy(bytes_), memmap):
        fitted = VAE(**QUICK).fit(rows)
        assert set(fitted.likelihood_) == {"bernoulli"}
        np.testing.assert_allclose(fitted.transform(rows), expected, atol=1e-5)
    bits = X > 0.5
    np.testing.assert_array_equal(
        VAE(**QUICK).fit(bits).transform(bits), VAE(**QUICK).fit(bits * 1.0).transform(bits * 1.0)
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memmap_is_not_loaded_into_memory(tmp_path, dtype):
    rows = np.round(X * 255).astype(dtype) if dtype == np.uint8 else X.astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    memmap = np.load(tmp_path / "x.npy", mmap_mode="r")
    vae = VAE(**QUICK)
    data = vae._prepare_data(memmap, None, torch.device("cpu"))
    assert isinstance(data.x, np.memmap)
    part = data.subset(np.arange(10, 20))
    assert isinstance(part.x, np.memmap)
    vae.binarize = "none"
    part = vae._prepare_data(memmap, None, torch.device("cpu")).subset(np.arange(10, 20))
    np.testing.assert_allclose(part.batch_at(torch.tensor([3])).x[0], X[13], atol=2e-3)


def test_large_integers_are_not_rounded():
    rows = np.c_[1_600_000_001 + np.arange(60), np.arange(60) % 7]
    for data in (rows, pl.DataFrame(rows, schema=["a", "b"]), pd.DataFrame(rows)):
        vae = VAE(**QUICK).fit(data)
        np.testing.assert_array_equal(vae.impute(data, n_iter=1), rows)


def test_small_uint8_values_are_counts_not_pixels():
    counts = np.random.default_rng(0).integers(0, 3, (200, 4)).astype(np.uint8)
    vae = VAE(**QUICK, likelihood="categorical").fit(counts)
    assert vae.n_categories_ == [3, 3, 3, 3]
    expected = VAE(**QUICK, likelihood="categorical").fit(counts.astype(float))
    np.testing.assert_array_equal(vae.score_samples(counts), expected.score_samples(counts * 1.0))


def test_masked_array_entries_are_missing():
    masked = np.ma.masked_array(X, mask=X > 0.9)
    vae = VAE(**QUICK).fit(masked)
    imputed = vae.impute(masked, n_iter=1)
    assert not np.isnan(imputed).any()
    assert (imputed[masked.mask] != X[masked.mask]).all()


def test_fit_is_independent_of_default_dtype_and_grad_mode():
    expected = VAE(**QUICK).fit(X).transform(X[:5])
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            fitted = VAE(**QUICK).fit(X)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(fitted.transform(X[:5]), expected)


def test_pipeline_and_grid_search():
    pipe = make_pipeline(MinMaxScaler(clip=True), VAE(**QUICK))
    search = GridSearchCV(pipe, {"vae__n_latents": [1, 2]}, cv=2, error_score="raise")
    search.fit(X[:100] * 16)
    assert np.isfinite(search.best_score_)


def test_numpy_scalar_parameters(tmp_path):
    vae = VAE(**QUICK | {"n_latents": np.int64(2), "learning_rate": np.float32(1e-3)}).fit(X)
    vae.save(tmp_path / "model")
    assert ancestral.load(tmp_path / "model").transform(X).shape == (len(X), 2)


def test_to_moves_model_to_device():
    vae = VAE(**QUICK)
    with pytest.raises(NotFittedError):
        vae.to("cpu")
    vae.fit(X)
    with pytest.raises(ValueError, match="device='gpu' can't be used here"):
        vae.to("gpu")
    assert vae.to("meta") is vae  # available on every machine
    assert {p.device.type for p in vae.model_.parameters()} == {"meta"}


def test_validation_curves_in_history():
    vae = VAE(**QUICK, validation_fraction=0.2).fit(X)
    assert "validation.loss" in vae.history_[-1]
    assert len(vae.history_.curve("validation.kl")) == 2


def test_automatic_number_of_epochs_by_batches_per_epoch():
    """The number of epochs depends on the number of batches per epoch."""
    assert n_epochs(VAE(), 600) == 20
    assert n_epochs(VAE(), 15) == 134
    assert n_epochs(VAE(), 1) == 1000
    assert n_epochs(VAE(max_epochs=3), 10) == 3


def test_default_vae_beats_independent_gaussians_on_iris():
    rows = load_iris().data
    independent = -0.5 * np.log(2 * np.pi * np.e * rows[::2].var(0)).sum()
    assert VAE(random_state=0).fit(rows[::2]).score(rows[1::2]) > independent + 2


class BetaVAE(DeepLatentEstimator):
    """Example of CONTRIBUTING.md: an estimator in one class."""

    beta: Positive = 4.0

    def _objective(self):
        bound = elbo()
        weighted = {"kl": lambda model, run: self.beta * bound.terms["kl"](model, run)}
        return Objective({**bound.terms, **weighted}, bound.run)


def test_new_estimator_as_a_single_class():
    assert clone(BetaVAE(beta=3.0)).get_params()["beta"] == 3.0
    with pytest.raises(ValueError, match="beta=-1"):
        BetaVAE(**QUICK, beta=-1.0).fit(X)
    settings = SMALL | {"max_epochs": 8}
    kl_values = [BetaVAE(**settings, beta=b).fit(X).history_[-1]["kl"] / b for b in (0.1, 8.0)]
    assert kl_values[0] > 2 * kl_values[1]  # a larger weight reduces the KL term


# ---- initialisation and optimizers


def test_start_initialises_from_saved_model(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (200, 6)).astype(float)
    shape = {"n_latents": 2, "hidden": (8,), "random_state": 0}
    first = VAE(**shape, max_epochs=3).fit(x)
    first.save(tmp_path / "run/model")
    frozen = {"max_epochs": 1, "learning_rate": 1e-12}
    for path in ("run", "run/model"):
        restarted = IWAE(**shape, **frozen, init_from=str(tmp_path / path)).fit(x)
        for name, value in first.model_.state_dict().items():
            if "running" not in name and not name.endswith((".mean", ".var")):
                torch.testing.assert_close(
                    value, restarted.model_.state_dict()[name], atol=1e-6, rtol=0
                )
    restarted.save(tmp_path / "again")
    assert IWAE.load(tmp_path / "again").init_from is None
    wider = VAE(n_latents=2, hidden=(9,), init_from=str(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"init_from=.* another shape"):
        wider.fit(x)
    with pytest.raises(ModelFileError, match=r"^init_from='.*nowhere': .* no saved model"):
        VAE(init_from=str(tmp_path / "nowhere")).fit(x)


@pytest.mark.parametrize("optimizer", ["adam", "iwae_adam", "adagrad", "sgd"])
def test_optimizers_reduce_loss(optimizer):
    x = np.random.default_rng(0).integers(0, 2, (200, 1)) * np.ones((1, 6))
    rate = {"adam": 0.01, "iwae_adam": 0.05, "adagrad": 0.1, "sgd": 0.01}[optimizer]
    vae = VAE(n_latents=2, hidden=(8,), max_epochs=60, random_state=0, optimizer=optimizer)
    vae.set_params(
        learning_rate=rate,
        warmup_steps=5,
        clip_norm=5.0,
        clip_value=1.0,
        schedule="delayed_exponential",
    )
    history = vae.fit(x).history_
    assert history[-1]["loss"] < history[0]["loss"] - 0.5


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"beta1": 0.5}, adam(1e-3, (0.5, 0.999))),
        ({"beta1": 0.5, "optimizer": "iwae_adam"}, iwae_adam(1e-3, (0.5, 0.999))),
        ({"momentum": 0.5, "optimizer": "sgd"}, sgd(1e-3, 0.5)),
        ({"optimizer": "sgd"}, sgd(1e-3)),
        ({"optimizer": "iwae_adam", "eps": 0.1}, iwae_adam(1e-3, eps=0.1)),
    ],
)
def test_momentum_and_epsilon_are_passed_to_optimizer(fields, rule):
    results = []
    vae = VAE(learning_rate=1e-3, schedule="constant", **fields)
    for optimizer in (vae._optimizer(), rule):
        x = torch.ones(3)
        state = optimizer.init(x, [x.shape])
        for step in range(5):
            gradient = torch.tensor([1.0, -1.0, 0.5]) * (step - 2.5)
            optimizer.update(x, gradient, state, optimizer.rates(step, 5))
        results.append(x)
    torch.testing.assert_close(results[0], results[1], atol=0, rtol=0)
    assert not torch.equal(results[0], torch.ones(3))


@pytest.mark.parametrize("warmup_steps", [0, 7])
def test_momentum_changes_at_learning_rate_drops(warmup_steps):
    vae = VAE(optimizer="sgd", momentum=(0.5, 0.9, 0.99), lr_milestones=(2, 3), max_epochs=4)
    vae.set_params(schedule="constant", learning_rate=1.0, lr_decay=10.0, warmup_steps=warmup_steps)
    optimizer, n_steps = vae._optimizer(), 40
    rates = [optimizer.rates(step, n_steps) for step in range(warmup_steps, n_steps)]
    n = n_steps - warmup_steps
    assert rates[0] == pytest.approx((1.0, 0.5))
    changes = [i for i, pair in enumerate(pairwise(rates)) if pair[0] != pair[1]]
    assert [i + 1 for i in changes] == [-(-n // 2), -(-3 * n // 4)]
    assert rates[changes[0] + 1] == pytest.approx((0.1, 0.9))
    assert rates[-1] == pytest.approx((0.01, 0.99))


def test_weight_decay_is_scaled_by_learning_rate():
    """Without a gradient, n steps multiply a weight by (1 - rate decay)^n."""
    x = np.zeros((40, 3))
    vae = VAE(hidden=(), n_latents=2, batch_size=20, likelihood="bernoulli", random_state=0)
    vae.set_params(max_epochs=5, schedule="constant", learning_rate=0.01, weight_decay=2.0)
    start, end = clone(vae).set_params(max_epochs=1, learning_rate=1e-12), vae
    before, after = (dict(v.fit(x).model_.named_parameters()) for v in (start, end))
    name = next(k for k, v in before.items() if k.startswith("posterior") and v.ndim == 2)
    share = (after[name] / before[name]).detach().numpy()
    np.testing.assert_allclose(share, (1 - 0.01 * 2.0) ** 10, rtol=1e-5)


def test_epsilon_with_sgd_raises():
    with pytest.raises(ValueError, match=r"eps=0\.1: optimizer='sgd'"):
        VAE(optimizer="sgd", eps=0.1).fit(np.zeros((4, 2)))
