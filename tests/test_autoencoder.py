"""Autoencoders, and moment matching on their codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from ancestral import CGMMN, GMMN, VAE, Autoencoder, load
from ancestral.cli.main import main
from ancestral.data.batch import Batch
from ancestral.evaluation.sample_quality import nearest_neighbors
from ancestral.utils.serialization import ModelFileError

X, Y = load_digits(return_X_y=True)
X = X / 16
SMALL = {"n_latents": 8, "hidden": (40,), "random_state": 0}
QUICK = SMALL | {"max_epochs": 3}
LEARNS = SMALL | {"max_epochs": 15, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def fitted():
    return Autoencoder(**LEARNS).fit(X)


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder") / "model"
    fitted.save(folder)
    return str(folder)


def test_transform_inverse_transform_and_reconstruct_agree(fitted, saved):
    codes = fitted.transform(X[:300])
    assert codes.shape == (300, 8)
    assert 0 <= codes.min() < codes.max() <= 1
    reconstructions = fitted.reconstruct(X[:300])
    np.testing.assert_allclose(fitted.inverse_transform(codes), reconstructions, atol=1e-5)
    assert np.square(reconstructions - X[:300]).mean() < 0.5 * X.var(0).mean()
    assert list(fitted.get_feature_names_out()[:2]) == ["autoencoder0", "autoencoder1"]
    np.testing.assert_array_equal(load(saved).transform(X[:300]), codes)
    with pytest.raises(ValueError, match="expected codes of length 8, got 5"):
        fitted.inverse_transform(codes[:, :5])


def test_reconstruction_loss_is_cross_entropy_for_grey_values(fitted):
    model = Autoencoder(**QUICK | {"batch_norm": False, "learning_rate": 1e-12}).fit(X)
    p = model.reconstruct(X)
    cross = -(X * np.log(p) + (1 - X) * np.log1p(-p)).sum(1)
    assert model.history_[-1]["reconstruction"] == pytest.approx(cross.mean(), rel=1e-3)


def test_linear_autoencoder_matches_pca_reconstruction_error():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(500, 6))
    rows = (rows - rows.mean(0)) / rows.std(0)
    kwargs = {"n_latents": 2, "hidden": (), "code_activation": "linear", "likelihood": "gaussian"}
    linear = Autoencoder(**kwargs, max_epochs=40, learning_rate=0.1, random_state=0).fit(rows)
    pca = PCA(2).fit(rows)
    best = np.square(rows - pca.inverse_transform(pca.transform(rows))).sum(1).mean()
    assert np.square(rows - linear.reconstruct(rows)).sum(1).mean() == pytest.approx(best, rel=5e-3)
    expected = best / 2 + 3 * np.log(2 * np.pi)
    assert linear.history_[-1]["loss"] == pytest.approx(expected, rel=1e-2)


def test_dropout_is_applied_in_training_only():
    dropping = Autoencoder(**QUICK, dropout=(0.2, 0.5)).fit(X)
    np.testing.assert_array_equal(dropping.transform(X[:9]), dropping.transform(X[:9]))
    plain = Autoencoder(**QUICK).fit(X)
    assert dropping.history_[0]["loss"] > plain.history_[0]["loss"]
    with pytest.raises(ValueError, match="at most 2 numbers"):
        Autoencoder(**QUICK, dropout=(0.1, 0.1, 0.1)).fit(X)


def test_convolutional_text_specification():
    kwargs = QUICK | {"image_shape": (8, 8), "max_epochs": 1}
    text = "3:4 p2 | 20 -> 4x4x4 | u2 3:1"
    assert Autoencoder(**kwargs, network=text).fit(X).reconstruct(X[:2]).shape == (2, 64)
    with pytest.raises(ValueError, match="has outputs of 1 x 16 x 16: expected 1 x 8 x 8"):
        Autoencoder(**kwargs, network="3:4 p2 -> 8x8x8 | u2 3:1").fit(X)
    with pytest.raises(ValueError, match="specify it in network"):
        Autoencoder(**kwargs, network=text, dropout=(0.5,)).fit(X)


def test_mixed_column_types_and_missing_values():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 400)
    table = np.column_stack([kind, 100 + 2.0 * kind + rng.normal(size=400), kind > 1])
    table[rng.random(table.shape) < 0.1] = np.nan
    kinds = ("categorical", "gaussian", "bernoulli")
    model = Autoencoder(**LEARNS | {"n_latents": 3}, likelihood=kinds).fit(table)
    reconstructions, observed = model.reconstruct(table), ~np.isnan(table)
    assert (reconstructions[:, 0] == table[:, 0])[observed[:, 0]].mean() > 0.9
    assert np.square(reconstructions - table)[:, 1][observed[:, 1]].mean() < 1.5


# ---- moment matching on codes


def test_gmmn_on_autoencoder_codes_matches_moments(fitted, saved, tmp_path):
    kwargs = {"hidden": (64,), "batch_size": 200, "learning_rate": 1e-2, "random_state": 0}
    model = GMMN(**kwargs, kernel_variances=(0.3,), autoencoder=saved, max_epochs=12).fit(X)
    torch.testing.assert_close(
        model.model_.autoencoder.state_dict(), fitted.model_.state_dict(), rtol=0, atol=0
    )
    samples = model.sample(1000)
    codes = fitted.transform(samples)  # generated samples lie near the data
    assert np.abs(codes.mean(0) - fitted.transform(X).mean(0)).max() < 0.1
    assert np.abs(samples.mean(0) - X.mean(0)).mean() < 0.05
    assert model.history_[-1]["loss"] < 0.7 * model.history_[0]["loss"]
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    loaded.autoencoder = "/nowhere"  # the saved model contains it
    np.testing.assert_array_equal(loaded.sample(1000), samples)
    loaded.save(tmp_path / "n")
    np.testing.assert_array_equal(load(tmp_path / "n").sample(1000), samples)


def test_cgmmn_on_autoencoder_codes_generates_requested_classes(saved):
    kwargs = {"hidden": (64,), "batch_size": 200, "learning_rate": 1e-2, "random_state": 0}
    model = CGMMN(**kwargs, kernel_variances=(0.3,), autoencoder=saved, max_epochs=10).fit(X, Y)
    centres = np.stack([X[c == Y].mean(0) for c in range(10)])
    samples = model.sample(100, np.repeat(model.classes_, 10))
    assert (nearest_neighbors(samples, centres)[1] == np.repeat(np.arange(10), 10)).mean() > 0.75


@pytest.mark.parametrize("n_latents", [6, [6, 3]])
def test_cgmmn_on_vae_codes_uses_posterior_means(n_latents, tmp_path):
    kwargs = {"hidden": (40,), "max_epochs": 15, "learning_rate": 1e-2, "random_state": 0}
    vae = VAE(n_latents=n_latents, **kwargs).fit(X)
    vae.save(tmp_path / "vae")
    model = CGMMN(
        **kwargs, batch_size=200, kernel_variances=(2.0,), autoencoder=str(tmp_path / "vae")
    )
    model.fit(X, Y)
    columns = torch.from_numpy(X[:9]).float()
    codes = model.model_.codes(Batch(columns)).numpy()
    np.testing.assert_allclose(codes, vae.transform(X[:9]), atol=1e-5)
    samples = model.sample(1000, np.repeat(model.classes_, 100))
    assert np.abs(samples.mean(0) - X.mean(0)).mean() < 0.06
    centres = np.stack([X[c == Y].mean(0) for c in range(10)])
    assert (nearest_neighbors(samples, centres)[1] == np.repeat(np.arange(10), 100)).mean() > 0.7
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    loaded.autoencoder = "/nowhere"
    np.testing.assert_array_equal(loaded.sample(5, 3), model.sample(5, 3))
    model.save(tmp_path / "shipped", whole=False)  # sampling needs no encoder
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("m", "shipped")]
    assert sizes[1] < 0.8 * sizes[0]
    np.testing.assert_array_equal(load(tmp_path / "shipped").sample(5, 3), model.sample(5, 3))


def test_autoencoder_is_reloaded_after_failed_fit(fitted, saved):
    model = GMMN(autoencoder=saved, network="16x8x8 | 3:1", max_epochs=1)
    with pytest.raises(ValueError, match="network"):
        model.fit(X)
    model.set_params(network="dense").fit(X)
    torch.testing.assert_close(
        model.model_.autoencoder.state_dict(), fitted.model_.state_dict(), rtol=0, atol=0
    )


def test_autoencoder_fitted_to_other_data_raises(saved, tmp_path):
    small = {"hidden": (10,), "max_epochs": 1, "autoencoder": saved}
    with pytest.raises(ValueError, match="was fitted to 64 columns"):
        GMMN(**small).fit(X[:, :10])
    with pytest.raises(ModelFileError, match="contains no saved model"):
        GMMN(**small | {"autoencoder": str(tmp_path)}).fit(X)
    GMMN(hidden=(10,), max_epochs=1).fit(X).save(tmp_path / "gmmn")
    with pytest.raises(ValueError, match="holds a GMMN: expected a saved autoencoder"):
        GMMN(**small | {"autoencoder": str(tmp_path / "gmmn")}).fit(X)
    rows = np.random.default_rng(0).normal(size=(200, 3))
    Autoencoder(**QUICK).fit(rows).save(tmp_path / "real")
    with pytest.raises(ValueError, match="columns with other means and scales"):
        GMMN(**small | {"autoencoder": str(tmp_path / "real")}).fit(10 + rows)


def test_autoencoder_command_line(tmp_path, capsys):
    coder, run, out = tmp_path / "coder", tmp_path / "run", tmp_path / "s.npy"
    small = ["--max-epochs", "2", "--hidden", "20"]
    assert main(["fit", "autoencoder", "digits", *small, "--out", str(coder)]) == 0
    assert "mean squared error of reconstructions" in capsys.readouterr().out
    assert "Reconstructions" in (coder / "report.html").read_text()
    assert main(["evaluate", str(coder)]) == 0
    assert "test mean squared error of reconstructions" in capsys.readouterr().out
    assert main(["sample", str(coder), "--out", str(out)]) == 2
    options = ["--autoencoder", str(coder), "--out", str(run), "--no-report"]
    assert main(["fit", "gmmn", "digits", *small, *options]) == 0
    assert main(["sample", str(run), "-n", "3", "--out", str(out)]) == 0
    assert np.load(out).shape == (3, 64)
    assert "MMD^2 of samples" in capsys.readouterr().out
