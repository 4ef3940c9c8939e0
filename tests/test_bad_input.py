"""Errors for invalid input: they name the argument, its value and the expected values."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import ancestral
from ancestral import IWAE, VAE
from ancestral.utils.serialization import ModelFileError

QUICK = {"n_latents": 2, "hidden": (8,), "max_epochs": 1, "random_state": 0}
RNG = np.random.default_rng(0)
GOOD = RNG.random((50, 4))


def with_value(value, row=3, column=1):
    X = GOOD.copy()
    X[row, column] = value
    return X


INVALID_DATA = {
    "infinite": ({}, with_value(np.inf), "contains infinity"),
    "one row": ({}, GOOD[:1], r"1 sample\(s\).*minimum of 2"),
    "no rows": ({}, GOOD[:0], "0 sample"),
    "no columns": ({}, GOOD[:, :0], "0 feature"),
    "one dimension": ({}, GOOD[0], "Expected 2D array, got 1D"),
    "three dimensions": ({}, GOOD.reshape(5, 10, 4), r"image_shape"),
    "strings": ({}, np.array([["a", "b"]] * 5), "could not convert string to float.*codes"),
    "ragged": ({}, [[1, 2], [3]], "inhomogeneous"),
    "constant column": (
        {"likelihood": "gaussian"},
        np.c_[GOOD, np.full(50, 2.0)],
        "column 4 is constant.*drop it",
    ),
    "empty column": ({}, np.c_[GOOD, np.full(50, np.nan)], "column 4 has no observed value"),
    "pixels out of range": (
        {"likelihood": "bernoulli"},
        GOOD * 255,
        r"columns 0, 1, 2, 3 has values from .* to 25\d.*\[0, 1\].*Rescale",
    ),
    "negative counts": ({"likelihood": "poisson"}, -np.ones((5, 2)), "integers of at least 0"),
    "codes that are identifiers": (
        {"likelihood": "categorical"},
        np.array([[600_000_000.0], [1.0]]),
        "column 0 has codes up to 6e.08.*Recode",
    ),
    "values beyond double precision": (
        {"likelihood": "gaussian"},
        GOOD * 1e200,
        "overflows double precision",
    ),
    "grey bits in a mixed table": (
        {"likelihood": ("bernoulli", "gaussian", "gaussian", "gaussian")},
        GOOD,
        "binarize them first",
    ),
    "fractional codes": ({"likelihood": "categorical"}, GOOD * 3, "integers of at least 0"),
}

INVALID_PARAMETERS = [
    (VAE, {"n_latents": 0}, r"n_latents=0: expected a whole number of at least 1"),
    (VAE, {"n_latents": "many"}, "n_latents='many'"),
    (VAE, {"n_latents": 2.5}, "n_latents=2.5"),
    (VAE, {"hidden": (500, 0)}, "hidden="),
    (VAE, {"hidden": ((8,), (8,), (8,)), "n_latents": (2, 2)}, "3 stochastic layers"),
    (VAE, {"likelihood": "binomial"}, "likelihood='binomial': expected auto, bernoulli"),
    (
        VAE,
        {"likelihood": ("gaussian",)},
        "likelihood has 1 entries; expected one per column, 4 in all",
    ),
    (VAE, {"activation": "sin"}, "activation='sin': expected tanh"),
    (VAE, {"kl": "exact"}, "kl='exact': expected auto"),
    (VAE, {"kl": "analytic", "n_latents": (2, 2)}, "single stochastic layer"),
    (VAE, {"max_epochs": 0}, "max_epochs=0"),
    (VAE, {"max_epochs": "long"}, "max_epochs='long'.*auto"),
    (VAE, {"batch_size": -5}, "batch_size=-5"),
    (VAE, {"batch_size": 1}, "batch_size=1: batch_norm=True needs at least 2 rows"),
    (VAE, {"learning_rate": 0.0}, "learning_rate=0.0: expected a number above 0"),
    (VAE, {"validation_fraction": 1.0}, "validation_fraction=1.0"),
    (VAE, {"validation_fraction": 0.001}, "nothing to hold out"),
    (VAE, {"device": "mps"}, "device='mps' can't be used here"),
    (VAE, {"patience": 3}, "validation_fraction"),
    (VAE, {"max_epochs": 10, "lr_milestones": (10,)}, "lr_milestones"),
    (VAE, {"max_epochs": "auto", "lr_milestones": (3,)}, "max_epochs=auto"),
    (VAE, {"lr_decay": 0.0}, "lr_decay=0.0"),
    (VAE, {"momentum": 1.0}, "momentum=1.0"),
    (
        VAE,
        {"momentum": 0.5, "optimizer": "adagrad"},
        "momentum=0.5 is for optimizer='sgd'",
    ),
    (VAE, {"momentum": (0.9,)}, "is for optimizer='sgd'"),
    (VAE, {"momentum": (0.9, 0.99), "optimizer": "sgd"}, r"expected one number, or 1 numbers"),
    (VAE, {"log_path": "no/such/folder/curves.csv"}, "does not exist"),
    (VAE, {"device": "tpu9"}, "device='tpu9' can't be used.*auto"),
    (VAE, {"random_state": "seed"}, "random_state='seed'"),
    (VAE, {"random_state": -1}, "random_state=-1"),
    (VAE, {"image_shape": (3, 3)}, r"image_shape=\(3, 3\).*with 4 entries"),
    (VAE, {"binarize": True}, "binarize=True"),
    (VAE, {"verbose": -1}, "verbose=-1"),
    (IWAE, {"n_importance_samples": 0}, "n_importance_samples=0"),
    (IWAE, {"gradient_estimator": "triply"}, "gradient_estimator='triply'"),
    (IWAE, {"gradient_estimator": "doubly", "n_latents": (2, 2)}, "single stochastic layer"),
]


@pytest.mark.parametrize("case", INVALID_DATA)
def test_fit_rejects_invalid_data(case):
    fields, X, message = INVALID_DATA[case]
    with pytest.raises(ValueError, match=f"(?s){message}"):
        VAE(**QUICK | fields).fit(X)


@pytest.mark.parametrize(("cls", "fields", "message"), INVALID_PARAMETERS)
def test_fit_rejects_invalid_parameters(cls, fields, message):
    with pytest.raises(ValueError, match=message):
        cls(**QUICK | fields).fit(GOOD)


@pytest.mark.parametrize("X", [GOOD[:, :1], with_value(np.nan), np.repeat(GOOD[:1], 9, 0)])
def test_fit_accepts_single_column_missing_values_and_duplicate_rows(X):
    values = VAE(**QUICK).fit(X).score_samples(X)
    assert np.isfinite(values).all()


def test_fitted_model_rejects_invalid_arguments():
    vae = VAE(**QUICK).fit(GOOD)
    with pytest.raises(ValueError, match="4 features"):
        vae.transform(GOOD[:, :2])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        vae.score_samples(GOOD * 2)
    with pytest.raises(ValueError, match="n_samples=0"):
        vae.sample(0)
    with pytest.raises(ValueError, match="n_iter=0"):
        vae.impute(GOOD, n_iter=0)
    with pytest.raises(ValueError, match="return_mean='median'"):
        vae.impute(GOOD, return_mean="median")
    with pytest.raises(ValueError, match="n_importance_samples=0"):
        vae.log_likelihood(GOOD, 0)
    codes = VAE(**QUICK, likelihood="categorical").fit(GOOD.round())
    with pytest.raises(ValueError, match="codes present in the training data"):
        codes.transform(GOOD.round() + 2)


def test_methods_of_unfitted_model_raise_not_fitted_error(tmp_path):
    for method in (VAE().transform, VAE().score_samples, VAE().impute, VAE().reconstruct):
        with pytest.raises(NotFittedError):
            method(GOOD)
    with pytest.raises(NotFittedError):
        VAE().sample()
    with pytest.raises(NotFittedError):
        VAE().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def saved(tmp_path):
    VAE(**QUICK).fit(GOOD).save(tmp_path / "model")
    return tmp_path / "model"


def test_save_does_not_overwrite_existing_files(saved):
    vae = VAE(**QUICK).fit(GOOD)
    with pytest.raises(FileExistsError, match="already exists"):
        vae.save(saved)
    vae.save(saved, overwrite=True)
    (saved.parent / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file"):
        vae.save(saved.parent / "file", overwrite=True)
    assert (saved.parent / "file").read_text() == "mine"
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        vae.save(saved.parent / "file" / "model")
    assert sorted(p.name for p in saved.parent.iterdir()) == ["file", "model"]


def edit(path, **changes):
    description = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(description | changes))


def test_load_rejects_model_of_another_format_version(saved):
    edit(saved, format=99, versions={"ancestral": "7.0"})
    with pytest.raises(ModelFileError, match=r"ancestral 7\.0 in format 99.*reads format 1"):
        ancestral.load(saved)


def test_load_rejects_model_of_another_class(saved):
    with pytest.raises(ModelFileError, match="holds a VAE, not a IWAE"):
        IWAE.load(saved)
    edit(saved, method="os.system")
    with pytest.raises(ModelFileError, match=r"unknown method 'os\.system'"):
        ancestral.load(saved)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_load_rejects_incomplete_model_folder(saved, name):
    (saved / name).unlink()
    with pytest.raises(ModelFileError, match=f"{name} is missing"):
        ancestral.load(saved)


def test_load_rejects_modified_weights(saved):
    weights = bytearray((saved / "model.safetensors").read_bytes())
    weights[-3] ^= 1
    (saved / "model.safetensors").write_bytes(bytes(weights))
    with pytest.raises(ModelFileError, match="checksum differs"):
        ancestral.load(saved)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"library": "other", "format": 1}', "\x00\x01"]
)
def test_load_rejects_invalid_model_description(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(ModelFileError, match="corrupt"):
        ancestral.load(saved)


def test_load_rejects_description_inconsistent_with_weights(saved):
    description = json.loads((saved / "model.json").read_text())
    edit(saved, params=description["params"] | {"n_latents": 5})
    with pytest.raises(ModelFileError, match="does not fit its weights"):
        ancestral.load(saved)
    edit(saved, params=None)
    with pytest.raises(ModelFileError, match="does not fit its weights"):
        ancestral.load(saved)
    edit(saved, params=description["params"], fitted={})
    with pytest.raises(ModelFileError, match="does not fit its weights"):
        ancestral.load(saved)
    edit(saved, params=description["params"] | {"no_such_field": 5})
    with pytest.raises(ModelFileError, match="does not fit its weights"):
        ancestral.load(saved)


def test_bits_as_bytes_are_refused_by_a_model_of_grey_bytes():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (60, 16), dtype=np.uint8)
    bits = (grey > 127).astype(np.uint8)
    model = VAE(n_latents=2, hidden=(8,), max_epochs=1, random_state=0).fit(grey)
    with pytest.raises(ValueError, match="X: 60 uint8 rows of zeros and ones"):
        model.transform(bits)
    np.testing.assert_array_equal(
        model.transform(bits.astype(bool)), model.transform(bits * np.uint8(255))
    )
    assert model.transform(bits[:5]).shape == (5, 2)  # may be dark images


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3)])
def test_image_shape_with_channels_last_is_refused(shape):
    X = np.random.default_rng(0).random((20, int(np.prod(shape))))
    with pytest.raises(ValueError, match=rf"channels, height, width\) = \({shape[2]}, 8, 8\)"):
        VAE(n_latents=2, hidden=(8,), max_epochs=1, image_shape=shape).fit(X)


def test_a_single_training_row_is_refused():
    X = np.random.default_rng(0).normal(size=(10, 3))
    with pytest.raises(ValueError, match="one training row"):
        VAE(n_latents=2, hidden=(8,), max_epochs=1, validation_fraction=0.9).fit(X)
