"""Class-conditional VAE (M2, M1+M2): exact models, digits, saving, command line."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import ancestral
from ancestral.cli.main import main
from ancestral.data import device_data
from ancestral.data.batch import Batch
from ancestral.estimators.class_conditional_vae import ClassConditionalVAE
from ancestral.evaluation.log_likelihood import log_likelihood
from ancestral.experiments.run_folder import open_run
from ancestral.models.latent import LatentModel
from ancestral.nn import ReadContext, Slice
from ancestral.objectives import semi_supervised_bound
from ancestral.probability.class_conditional import (
    ClassThenLatent,
    OneHotConditional,
    StandardNormalLike,
    uniform_classes,
)
from ancestral.probability.conditionals import Bernoulli, Gaussian
from ancestral.probability.distributions import rsample_or_sample

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
SMALL = {"n_latents": 3, "hidden": (20,), "learning_rate": 5e-3, "random_state": 0}
QUICK = SMALL | {"n_decision_samples": 5, "max_epochs": 8}


@pytest.fixture(scope="module")
def fitted():
    return ClassConditionalVAE(**QUICK).fit(X[:1000], Y[:1000])


# ---- the bound


def model_with_exact_posterior():
    """Model of two classes of three bits, independent of z, with exact posteriors."""
    logits = torch.tensor([[1.0, -1.0, 0.5], [-2.0, 0.3, 0.0]])
    bits = nn.Linear(2, 3, bias=False)
    posterior = nn.Linear(3, 2)
    heads = nn.Linear(5, 2)
    with torch.no_grad():
        bits.weight.copy_(logits.T)
        posterior.weight.copy_(logits)  # log p(x | y) = x . logits - sum softplus(logits)
        posterior.bias.copy_(-nn.functional.softplus(logits).sum(1))
        heads.weight.zero_()
        heads.bias.zero_()
    q_z = Gaussian(nn.Sequential(heads, Split()))
    model = LatentModel(
        ClassThenLatent(uniform_classes(2), StandardNormalLike(1), (2, 1)),
        Bernoulli(nn.Sequential(Slice(0, 2), bits)),
        ClassThenLatent(OneHotConditional(posterior), q_z, (2, 1), encoder=ReadContext("x")),
    )
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    log_pxy = torch.distributions.Bernoulli(logits=logits).log_prob(x[:, None]).sum(-1)
    return model, x, log_pxy + math.log(0.5)


class Split(nn.Module):
    def forward(self, u):
        return u.chunk(2, -1)


def bound(model, x, y, **kwargs):
    terms = semi_supervised_bound(0.0, **kwargs)(model, Batch(x, torch.tensor(y)))
    return -sum(terms.values()).item()


def test_class_bound_equals_log_likelihood_for_exact_posteriors():
    model, x, log_pxy = model_with_exact_posterior()
    labelled = log_pxy[torch.arange(3), torch.tensor([0, 1, 1])].mean()
    unlabelled = log_pxy.logsumexp(1).mean()
    mixed = (log_pxy[0, 1] + log_pxy[1:].logsumexp(1).sum()) / 3
    assert bound(model, x, [0, 1, 1]) == pytest.approx(labelled.item(), abs=1e-5)
    assert bound(model, x, [0, 1, 1], all_classes=True) == pytest.approx(labelled.item(), abs=1e-5)
    assert bound(model, x, [-1, -1, -1], all_classes=True) == pytest.approx(
        unlabelled.item(), abs=1e-5
    )
    assert bound(model, x, [1, -1, -1], all_classes=True) == pytest.approx(mixed.item(), abs=1e-5)


def test_log_likelihood_sums_over_classes():
    model, x, log_pxy = model_with_exact_posterior()
    result = log_likelihood(model, device_data.DeviceData(x), 10)
    np.testing.assert_allclose(result.values, log_pxy.logsumexp(1), atol=1e-5)


def test_gradients_are_finite_for_saturated_class_posterior():
    model, x, _ = model_with_exact_posterior()
    with torch.no_grad():
        model.posterior.label.network.weight.mul_(300)
    terms = semi_supervised_bound(0.1, all_classes=True)(model, Batch(x, torch.tensor([1, -1, -1])))
    sum(terms.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_classification_term_is_scaled_by_alpha():
    model, x, log_pxy = model_with_exact_posterior()
    terms = semi_supervised_bound(0.5)(model, Batch(x, torch.tensor([0, 1, 1])))
    log_qy = log_pxy.log_softmax(1)[torch.arange(3), torch.tensor([0, 1, 1])]
    assert terms["classes"].item() == pytest.approx(-0.5 * log_qy.mean().item(), abs=1e-5)
    none = semi_supervised_bound(0.5, all_classes=True)(model, Batch(x, torch.tensor([-1, -1, -1])))
    assert none["classes"] == 0


def test_prior_samples_are_one_hot_class_and_latent():
    model, _, _ = model_with_exact_posterior()
    vector = rsample_or_sample(model.prior(), (200,))
    assert vector.shape == (200, 3)
    assert (vector[:, :2].sum(1) == 1).all()
    assert 60 < vector[:, 0].sum() < 140


# ---- the estimator


def test_m2_on_digits_accuracy_likelihood_and_imputation(fitted):
    assert fitted.score(X[1000:], Y[1000:]) > 0.7
    assert fitted.predict_proba(X[:3]).shape == (3, 10)
    assert fitted.log_likelihood(X[1000:1100], 50).mean > -35
    assert fitted.transform(X[:3]).shape == (3, 13)
    incomplete = X[:5].copy()
    incomplete[:, :20] = np.nan
    imputed = fitted.impute(incomplete, n_iter=3)
    assert np.isfinite(imputed).all()


def test_decision_function_is_batch_invariant(fitted):
    np.testing.assert_array_equal(
        fitted.decision_function(X[:7])[3], fitted.decision_function(X[3:4])[0]
    )


def test_sampling_of_given_classes(fitted):
    samples = fitted.sample(300, np.repeat([0, 1, 4], 100), mean=True)
    assert (fitted.predict(samples) == np.repeat([0, 1, 4], 100)).mean() > 0.8
    assert fitted.sample(4, y=3).shape == fitted.sample(4).shape == (4, 64)
    with pytest.raises(ValueError, match="unknown classes 11"):
        fitted.sample(2, [3, 11])
    with pytest.raises(ValueError, match="expected one class, or 3 of them"):
        fitted.sample(3, [1, 2])
    vae = ancestral.VAE(**SMALL, max_epochs=1).fit(X[:50])
    with pytest.raises(ValueError, match="does not generate rows of a class"):
        vae.sample(2, 3)


def test_unlabelled_samples_improve_accuracy():
    partial_labels = Y[:1000].copy()
    partial_labels[60:] = -1
    kwargs = QUICK | {"hidden": (50,), "alpha": 5.0, "decision_rule": "network"}
    m2 = ClassConditionalVAE(**kwargs | {"max_epochs": 30}).fit(X[:1000], partial_labels)
    supervised = {"max_epochs": 50, "batch_size": 20}
    supervised = ClassConditionalVAE(**kwargs | supervised).fit(X[:60], partial_labels[:60])
    assert m2.score(X[1000:], Y[1000:]) > supervised.score(X[1000:], Y[1000:])


@pytest.mark.parametrize(("n_labels", "n_samples"), [(1000, 1), (500, 10)])
def test_objective_samples_per_row_with_and_without_unlabelled(n_labels, n_samples):
    y = np.where(np.arange(1000) < n_labels, Y[:1000], -1)
    model = ClassConditionalVAE(**SMALL, max_epochs=1).fit(X[:1000], y)
    assert model._objective().n_samples == n_samples


def test_m2_save_load_and_dense_network_check(fitted, tmp_path):
    fitted.save(tmp_path / "m2")
    loaded = ancestral.load(tmp_path / "m2")
    np.testing.assert_array_equal(loaded.decision_function(X[:9]), fitted.decision_function(X[:9]))
    with pytest.raises(ValueError, match="network='mnist'"):
        ClassConditionalVAE(network="mnist", image_shape=(8, 8)).fit(X[:20], Y[:20])


def test_n_labels_command_line_option(tmp_path):
    run, options = tmp_path / "run", ["--max-epochs", "1", "--hidden", "5", "--no-report"]
    command = ["class-conditional-vae", "digits", "--n-labels", "50", "--label-seed", "3"]
    assert main(["fit", *command, *options, "--out", str(run)]) == 0
    assert open_run(run)[1].dataset().y_train.tolist().count(-1) == 1450
    assert (
        main(["fit", *command[:2], "--n-labels", "7", *options, "--out", str(tmp_path / "r")]) == 2
    )


def test_m2_command_line(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "rows.npy"
    options = ["--n-latents", "3", "--hidden", "20", "--max-epochs", "2", "--n-train", "300"]
    options += ["--n-decision-samples", "2"]
    fit = ["fit", "class-conditional-vae", "digits", *options, "--out", str(run)]
    assert main(fit) == 0
    assert (run / "report.html").is_file()
    assert any(m["metric"] == "error, %" for m in json.loads((run / "metrics.json").read_text()))
    sample = ["sample", str(run), "-n", "6", "--out", str(out)]
    assert main([*sample, "--label", "4"]) == 0
    assert np.load(out).shape == (6, 64)
    assert main([*sample, "--label", "x"]) == 2
    assert "--label x" in capsys.readouterr().err


# ---- on codes: M1+M2


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("base_path") / "vae"
    kwargs = {"n_latents": 10, "hidden": (40,), "learning_rate": 5e-3, "max_epochs": 60}
    ancestral.VAE(**kwargs, random_state=0).fit(X[:1000]).save(path)
    return str(path)


@pytest.fixture(scope="module")
def m1m2(base_path):
    kwargs = SMALL | {"hidden": (50,), "max_epochs": 60, "batch_norm": False}
    model = ClassConditionalVAE(**kwargs, n_decision_samples=20, base_model=base_path)
    return model.fit(X[:1000], Y[:1000])


def test_m1m2_accuracy_and_unchanged_base_model(m1m2, base_path, tmp_path):
    assert m1m2.score(X[1000:], Y[1000:]) > 0.75
    vae = ancestral.load(base_path)
    before, after = vae.model_.state_dict(), m1m2.model_.bottom.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    m1m2.save(tmp_path / "both")
    loaded = ancestral.load(tmp_path / "both")
    np.testing.assert_array_equal(loaded.predict(X[:50]), m1m2.predict(X[:50]))
    np.testing.assert_array_equal(loaded.sample(4, y=3), m1m2.sample(4, y=3))


def test_m1m2_likelihood_exceeds_that_of_its_base_model(m1m2, base_path):
    plain = ancestral.load(base_path).log_likelihood(X[:1000], 200).mean
    assert plain < m1m2.log_likelihood(X[:1000], 200).mean < plain + 2
    assert m1m2.transform(X[:3]).shape == (3, 10 + 3 + 10)
    assert m1m2.active_units(X[:100])[0] > 5
    sevens = m1m2.sample(50, y=7, mean=True)
    assert (m1m2.predict(sevens) == 7).mean() > 0.5
    incomplete = X[:5].copy()
    incomplete[:, :20] = np.nan
    assert np.isfinite(m1m2.impute(incomplete, n_iter=3)).all()


@pytest.fixture(scope="module")
def vae_with_inactive_codes(base_path, tmp_path_factory):
    """The base VAE with two of ten codes made inactive by small encoder weights."""
    vae = ancestral.load(base_path)
    *_, mean_head, _ = (m for m in vae.model_.posterior.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        mean_head.weight[[2, 7]] *= 1e-3
    path = tmp_path_factory.mktemp("vae_with_inactive_codes") / "vae"
    vae.save(path)
    return vae, str(path)


def test_code_spread_excludes_inactive_codes(vae_with_inactive_codes, tmp_path):
    vae, path = vae_with_inactive_codes
    kwargs = SMALL | {"hidden": (50,), "max_epochs": 40, "batch_norm": False, "base_model": path}
    model = ClassConditionalVAE(**kwargs, n_decision_samples=10, min_code_std=0.1)
    model.fit(X[:1000], Y[:1000])
    spread = vae.transform(X[:1000]).std(0)
    active = np.flatnonzero(spread > 0.1)
    assert model.active_codes_ == active.tolist()
    assert set(range(10)) - set(model.active_codes_) == {2, 7}
    top = model.model_.top
    latent = top.sample_prior(30)
    p = top.decode(latent)
    inactive = torch.tensor([2, 7])
    assert not p.mean[:, inactive].any()  # N(0, 1) for every class
    assert (p.stddev[:, inactive] == 1).all()
    assert p.mean[:, active].std(0).min() > 0
    codes = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[:, inactive] += 3.0
    q, changed_q = (top.encode(Batch(c)).first.logits for c in (codes, changed))
    assert torch.equal(q, changed_q)
    changed[:, active[0]] += 3.0
    assert not torch.equal(q, top.encode(Batch(changed)).first.logits)
    model.save(tmp_path / "both")
    loaded = ancestral.load(tmp_path / "both")
    np.testing.assert_array_equal(loaded.decision_function(X[:9]), model.decision_function(X[:9]))
    assert loaded.active_codes_ == model.active_codes_
    assert loaded.score(X[1000:], Y[1000:]) > 0.5
    plain = vae.log_likelihood(X[:200], 100).mean  # prior N(0, 1) of all codes
    assert plain < loaded.log_likelihood(X[:200], 100).mean < plain + 2


def test_invalid_code_spread_raises(base_path):
    with pytest.raises(
        ValueError, match=r"min_code_std=50\.0 exceeds the standard deviation of ev"
    ):
        ClassConditionalVAE(**QUICK, base_model=base_path, min_code_std=50.0).fit(X[:100], Y[:100])
    with pytest.raises(ValueError, match=r"min_code_std=0\.1 requires codes"):
        ClassConditionalVAE(**QUICK, min_code_std=0.1).fit(X[:100], Y[:100])


def test_base_model_is_reloaded_after_failed_fit(base_path):
    model = ClassConditionalVAE(**QUICK | {"max_epochs": 1}, base_model=base_path, batch_size=1)
    with pytest.raises(ValueError, match="batch"):
        model.fit(X, Y)
    model.set_params(batch_size=100).fit(X, Y)
    saved = ancestral.load(base_path).model_.state_dict()
    torch.testing.assert_close(model.model_.bottom.state_dict(), saved, rtol=0, atol=0)


def test_codes_of_other_data_raise(base_path, fitted, tmp_path):
    with pytest.raises(ValueError, match=r"base_model=.*was fitted to 64 columns"):
        ClassConditionalVAE(**QUICK, base_model=base_path).fit(X[:, :30], Y)
    ancestral.Autoencoder(n_latents=2, hidden=(5,), max_epochs=1).fit(X).save(tmp_path / "coder")
    with pytest.raises(ValueError, match="Autoencoder: expected a saved model with latent"):
        ClassConditionalVAE(**QUICK, base_model=str(tmp_path / "coder")).fit(X, Y)
