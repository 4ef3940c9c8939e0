"""Parameters that follow from the data, and densities of small tables with them."""

import json
import logging

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

import ancestral
from ancestral.estimators.base.network import NetworkDefaults, network_defaults
from ancestral.estimators.mixture import covariance_type
from ancestral.training import History
from ancestral.training.early_stopping import report_rise

TOLERANCE = 1.0
"""Nats per row that a model may be below factor analysis."""

TODAY = NetworkDefaults((500, 500), True, 1e-3, 0.0, None, -14.0)


def split(X: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(seed).permutation(len(X))
    n = round(0.7 * len(X))
    return X[order[:n]], X[order[n:]]


@pytest.mark.parametrize(
    ("n_rows", "kinds", "options"),
    [
        (100, ["bernoulli"] * 3, {}),
        (5000, ["gaussian"] * 3, {}),
        (100, ["gaussian"] * 3, {"is_image": True}),
        (100, ["gaussian"] * 3, {"has_targets": True}),
    ],
)
def test_images_bits_targets_and_large_tables_have_wide_networks(n_rows, kinds, options):
    assert network_defaults(n_rows, kinds, **options) == TODAY


def test_small_tables_have_narrow_networks_held_out_rows_and_a_floor():
    assert network_defaults(125, ["gaussian"] * 13) == NetworkDefaults(
        (50,), False, 3e-3, 0.15, 100, -6.0
    )
    # 4,250 training rows in 43 batches: 5 epochs are 200 steps or more
    assert network_defaults(4999, ["gaussian"]).patience == 5
    assert network_defaults(9, ["gaussian"]).validation_fraction == 0


def test_mixtures_of_small_real_tables_share_a_covariance_matrix():
    assert covariance_type(39, ["gaussian"] * 13) == "tied"
    assert covariance_type(38, ["gaussian"] * 13) == "diag"
    assert covariance_type(5000, ["gaussian"] * 13) == "diag"
    assert covariance_type(100, ["gaussian", "poisson"]) == "diag"


@pytest.mark.parametrize("n_latents", [50, 3])
def test_default_vae_of_wine_is_no_worse_than_factor_analysis(n_latents):
    train, test = split(load_wine().data, 0)
    bound = ancestral.FactorAnalysis(random_state=0).fit(train).score(test) - TOLERANCE
    model = ancestral.VAE(n_latents=n_latents, random_state=0, verbose=2).fit(train)
    assert model.score(test) > bound
    assert (model.batch_norm_, model.hidden_) == (False, (50,))


@pytest.mark.parametrize("load", [load_iris, load_wine, load_diabetes])
def test_default_mixture_is_no_worse_than_factor_analysis(load):
    train, test = split(load().data, 0)
    bound = ancestral.FactorAnalysis(random_state=0).fit(train).score(test) - TOLERANCE
    assert ancestral.MixtureModel(random_state=0).fit(train).score(test) > bound


def test_saved_models_keep_resolved_values_and_old_ones_their_limit(tmp_path):
    X = load_iris().data
    model = ancestral.VAE(max_epochs=3, random_state=0, verbose=True).fit(X)
    model.save(tmp_path / "m")
    loaded = ancestral.VAE.load(tmp_path / "m")
    assert loaded.model_.likelihood.log_var_range == (-6.0, 14.0)
    np.testing.assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    description = json.loads((tmp_path / "m" / "model.json").read_text())
    assert description["fitted"]["min_log_var_"] == -6.0
    # a model of before: all sizes explicit, no limit in its description
    old = ancestral.VAE(hidden=(5,), batch_norm=True)
    assert old._log_var_range() == (-14.0, 14.0)


def test_explicit_values_are_kept():
    X = load_iris().data
    options = {"hidden": (7,), "batch_norm": True, "validation_fraction": 0.0, "min_log_var": -9.0}
    model = ancestral.VAE(**options, max_epochs=2, random_state=0).fit(X)
    assert (model.hidden_, model.batch_norm_, model.patience_) == ((7,), True, None)
    assert model.model_.likelihood.log_var_range == (-9.0, 14.0)
    assert "validation.loss" not in model.history_[0]


@pytest.mark.parametrize(("patience", "level"), [(None, "WARNING"), (5, "INFO")])
def test_a_rise_of_the_held_out_loss_is_one_line(caplog, patience, level):
    losses = [*np.linspace(5, 1, 20), *np.linspace(1, 4, 20)]
    with caplog.at_level(logging.INFO, logger="ancestral"):
        report_rise(History({"validation.loss": v} for v in losses), "VAE", "loss", patience)
    (record,) = caplog.records
    assert record.levelname == level
    assert "from 1 at epoch 20" in record.message


def test_a_loss_that_only_falls_is_not_reported(caplog):
    with caplog.at_level(logging.INFO, logger="ancestral"):
        falls = History({"validation.loss": v} for v in np.linspace(5, 1, 40))
        report_rise(falls, "VAE", "loss", None)
    assert not caplog.records


def test_automatic_hidden_layers_of_a_memory_follow_its_lists():
    model = ancestral.MemoryVAE(n_slots=(4, 0), max_epochs=1, random_state=0).fit(load_iris().data)
    assert model.hidden_ == (50, 50)
    assert model.memories_ == (0,)
