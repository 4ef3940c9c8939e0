"""M2: the class as a latent variable, against models whose posterior is known, and on digits."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import ancestral
from ancestral.classes import Classes, ClassFirst, Same, equal_classes
from ancestral.cli import main
from ancestral.conditional import Bernoulli, Gaussian
from ancestral.data import Batch
from ancestral.distributions import draw
from ancestral.evaluate import log_likelihood
from ancestral.methods.conditional import ClassConditionalVAE
from ancestral.models import LatentModel
from ancestral.networks import Read, Take
from ancestral.objectives import class_bound

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
SMALL = {"n_latents": 3, "hidden": (20,), "learning_rate": 5e-3, "random_state": 0}
QUICK = SMALL | {"n_decision_samples": 5, "max_epochs": 8}


@pytest.fixture(scope="module")
def fitted():
    return ClassConditionalVAE(**QUICK).fit(X[:1000], Y[:1000])


# ---- the bound


def known_model():
    """Two classes of three bits that z says nothing of, with exact posteriors."""
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
    rest = Gaussian(nn.Sequential(heads, Split()))
    model = LatentModel(
        ClassFirst(equal_classes(2), Same(1), (2, 1)),
        Bernoulli(nn.Sequential(Take(0, 2), bits)),
        ClassFirst(Classes(posterior), rest, (2, 1), look=Read("x")),
    )
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    log_pxy = torch.distributions.Bernoulli(logits=logits).log_prob(x[:, None]).sum(-1)
    return model, x, log_pxy + math.log(0.5)


class Split(nn.Module):
    def forward(self, u):
        return u.chunk(2, -1)


def bound(model, x, y, **how):
    terms = class_bound(0.0, **how)(model, Batch(x, torch.tensor(y)))
    return -sum(terms.values()).item()


def test_the_bound_is_tight_where_posteriors_are_exact():
    model, x, log_pxy = known_model()
    labelled = log_pxy[torch.arange(3), torch.tensor([0, 1, 1])].mean()
    unlabelled = log_pxy.logsumexp(1).mean()
    mixed = (log_pxy[0, 1] + log_pxy[1:].logsumexp(1).sum()) / 3
    assert bound(model, x, [0, 1, 1]) == pytest.approx(labelled.item(), abs=1e-5)
    assert bound(model, x, [0, 1, 1], everywhere=True) == pytest.approx(labelled.item(), abs=1e-5)
    assert bound(model, x, [-1, -1, -1], everywhere=True) == pytest.approx(
        unlabelled.item(), abs=1e-5
    )
    assert bound(model, x, [1, -1, -1], everywhere=True) == pytest.approx(mixed.item(), abs=1e-5)


def test_the_class_is_summed_out_of_densities():
    model, x, log_pxy = known_model()
    found = log_likelihood(model, ancestral.data.Data(x), 10)
    np.testing.assert_allclose(found.values, log_pxy.logsumexp(1), atol=1e-5)


def test_a_class_that_is_out_of_the_question_leaves_gradients_finite():
    model, x, _ = known_model()
    with torch.no_grad():
        model.posterior.label.network.weight.mul_(300)
    terms = class_bound(0.1, everywhere=True)(model, Batch(x, torch.tensor([1, -1, -1])))
    sum(terms.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_labels_are_told_by_the_network_as_alpha_says():
    model, x, log_pxy = known_model()
    terms = class_bound(0.5)(model, Batch(x, torch.tensor([0, 1, 1])))
    log_qy = log_pxy.log_softmax(1)[torch.arange(3), torch.tensor([0, 1, 1])]
    assert terms["classes"].item() == pytest.approx(-0.5 * log_qy.mean().item(), abs=1e-5)
    none = class_bound(0.5, everywhere=True)(model, Batch(x, torch.tensor([-1, -1, -1])))
    assert none["classes"] == 0


def test_ancestral_sampling_of_a_class_and_what_comes_of_it():
    model, _, _ = known_model()
    vector = draw(model.prior(), (200,))
    assert vector.shape == (200, 3)
    assert (vector[:, :2].sum(1) == 1).all()
    assert 60 < vector[:, 0].sum() < 140


# ---- the estimator


def test_it_learns_digits_and_stays_a_density_model(fitted):
    assert fitted.score(X[1000:], Y[1000:]) > 0.7
    assert fitted.predict_proba(X[:3]).shape == (3, 10)
    assert fitted.log_likelihood(X[1000:1100], 50).mean > -35
    assert fitted.transform(X[:3]).shape == (3, 13)
    gaps = X[:5].copy()
    gaps[:, :20] = np.nan
    filled = fitted.impute(gaps, n_iter=3)
    assert np.isfinite(filled).all()


def test_a_rows_class_does_not_depend_on_its_neighbours(fitted):
    np.testing.assert_array_equal(
        fitted.decision_function(X[:7])[3], fitted.decision_function(X[3:4])[0]
    )


def test_rows_of_a_class(fitted):
    drawn = fitted.sample(300, np.repeat([0, 1, 4], 100), mean=True)
    assert (fitted.predict(drawn) == np.repeat([0, 1, 4], 100)).mean() > 0.8
    assert fitted.sample(4, y=3).shape == fitted.sample(4).shape == (4, 64)
    with pytest.raises(ValueError, match="unknown classes 11"):
        fitted.sample(2, [3, 11])
    with pytest.raises(ValueError, match="expected one class, or 3 of them"):
        fitted.sample(3, [1, 2])
    vae = ancestral.VAE(**SMALL, max_epochs=1).fit(X[:50])
    with pytest.raises(ValueError, match="does not draw rows of a class"):
        vae.sample(2, 3)


def test_unlabelled_rows_help():
    few = Y[:1000].copy()
    few[60:] = -1
    how = QUICK | {"hidden": (50,), "alpha": 5.0, "decision": "network"}
    m2 = ClassConditionalVAE(**how | {"max_epochs": 30}).fit(X[:1000], few)
    alone = {"max_epochs": 50, "batch_size": 20}
    alone = ClassConditionalVAE(**how | alone).fit(X[:60], few[:60])
    assert m2.score(X[1000:], Y[1000:]) > alone.score(X[1000:], Y[1000:])


@pytest.mark.parametrize(("n_labels", "n_samples"), [(1000, 1), (500, 10)])
def test_a_row_without_a_label_counts_as_much_work_as_all_classes(n_labels, n_samples):
    y = np.where(np.arange(1000) < n_labels, Y[:1000], -1)
    model = ClassConditionalVAE(**SMALL, max_epochs=1).fit(X[:1000], y)
    assert model._objective().n_samples == n_samples


def test_it_survives_saving_and_is_dense_only(fitted, tmp_path):
    fitted.save(tmp_path / "m2")
    again = ancestral.load(tmp_path / "m2")
    np.testing.assert_array_equal(again.decision_function(X[:9]), fitted.decision_function(X[:9]))
    with pytest.raises(ValueError, match="network='mnist'"):
        ClassConditionalVAE(network="mnist", image_shape=(8, 8)).fit(X[:20], Y[:20])


def test_few_labels_from_the_command_line(tmp_path):
    run, how = tmp_path / "run", ["--max-epochs", "1", "--hidden", "5", "--no-report"]
    told = ["class-conditional-vae", "digits", "--n-labels", "50", "--label-seed", "3"]
    assert main(["fit", *told, *how, "--out", str(run)]) == 0
    assert ancestral.experiment.open_run(run)[1].dataset().y_train.tolist().count(-1) == 1450
    assert main(["fit", *told[:2], "--n-labels", "7", *how, "--out", str(tmp_path / "r")]) == 2


def test_from_the_command_line(tmp_path, capsys):
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
def below(tmp_path_factory):
    where = tmp_path_factory.mktemp("below") / "vae"
    how = {"n_latents": 10, "hidden": (40,), "learning_rate": 5e-3, "max_epochs": 60}
    ancestral.VAE(**how, random_state=0).fit(X[:1000]).save(where)
    return str(where)


@pytest.fixture(scope="module")
def on_codes(below):
    how = SMALL | {"hidden": (50,), "max_epochs": 60, "batch_norm": False}
    model = ClassConditionalVAE(**how, n_decision_samples=20, codes=below)
    return model.fit(X[:1000], Y[:1000])


def test_a_model_on_codes_learns_classes_and_leaves_the_one_below_as_it_was(
    on_codes, below, tmp_path
):
    assert on_codes.score(X[1000:], Y[1000:]) > 0.75
    vae = ancestral.load(below)
    was, now = vae.model_.state_dict(), on_codes.model_.bottom.state_dict()
    assert all(torch.equal(was[k], now[k]) for k in was)
    on_codes.save(tmp_path / "both")
    again = ancestral.load(tmp_path / "both")
    np.testing.assert_array_equal(again.predict(X[:50]), on_codes.predict(X[:50]))
    np.testing.assert_array_equal(again.sample(4, y=3), on_codes.sample(4, y=3))


def test_a_model_on_codes_is_a_density_of_rows_that_gains_by_a_better_prior(on_codes, below):
    plain = ancestral.load(below).log_likelihood(X[:1000], 200).mean
    assert plain < on_codes.log_likelihood(X[:1000], 200).mean < plain + 2
    assert on_codes.transform(X[:3]).shape == (3, 10 + 3 + 10)
    assert on_codes.active_units(X[:100])[0] > 5
    sevens = on_codes.sample(50, y=7, mean=True)
    assert (on_codes.predict(sevens) == 7).mean() > 0.5
    gaps = X[:5].copy()
    gaps[:, :20] = np.nan
    assert np.isfinite(on_codes.impute(gaps, n_iter=3)).all()


@pytest.fixture(scope="module")
def idle(below, tmp_path_factory):
    """A VAE of which two codes out of ten say nothing: that below, their weights set to zero."""
    vae = ancestral.load(below)
    *_, mean_head, _ = (m for m in vae.model_.posterior.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        mean_head.weight[[2, 7]] *= 1e-3
    where = tmp_path_factory.mktemp("idle") / "vae"
    vae.save(where)
    return vae, str(where)


def test_codes_that_say_nothing_are_left_out(idle, tmp_path):
    vae, where = idle
    how = SMALL | {"hidden": (50,), "max_epochs": 40, "batch_norm": False, "codes": where}
    model = ClassConditionalVAE(**how, n_decision_samples=10, code_spread=0.1)
    model.fit(X[:1000], Y[:1000])
    spread = vae.transform(X[:1000]).std(0)
    kept = np.flatnonzero(spread > 0.1)
    assert model.codes_kept_ == kept.tolist()
    assert set(range(10)) - set(model.codes_kept_) == {2, 7}
    top = model.model_.top
    latent = top.draw_latents(30)
    p = top.decode(latent)
    others = torch.tensor([2, 7])
    assert not p.mean[:, others].any()  # N(0, 1), whatever the class
    assert (p.stddev[:, others] == 1).all()
    assert p.mean[:, kept].std(0).min() > 0
    codes = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[:, others] += 3.0
    q, again = (top.encode(Batch(c)).first.logits for c in (codes, changed))
    assert torch.equal(q, again)
    changed[:, kept[0]] += 3.0
    assert not torch.equal(q, top.encode(Batch(changed)).first.logits)
    model.save(tmp_path / "both")
    loaded = ancestral.load(tmp_path / "both")
    np.testing.assert_array_equal(loaded.decision_function(X[:9]), model.decision_function(X[:9]))
    assert loaded.codes_kept_ == model.codes_kept_
    assert loaded.score(X[1000:], Y[1000:]) > 0.5
    plain = vae.log_likelihood(X[:200], 100).mean  # whose codes had N(0, 1) for a prior
    assert plain < loaded.log_likelihood(X[:200], 100).mean < plain + 2


def test_a_spread_that_leaves_nothing_is_refused(below):
    with pytest.raises(ValueError, match=r"code_spread=50\.0: no code of codes=.* most by"):
        ClassConditionalVAE(**QUICK, codes=below, code_spread=50.0).fit(X[:100], Y[:100])
    with pytest.raises(ValueError, match=r"code_spread=0\.1 is for a model on codes"):
        ClassConditionalVAE(**QUICK, code_spread=0.1).fit(X[:100], Y[:100])


def test_a_failed_fit_leaves_the_model_below_to_be_read_again(below):
    model = ClassConditionalVAE(**QUICK | {"max_epochs": 1}, codes=below, batch_size=1)
    with pytest.raises(ValueError, match="batch"):
        model.fit(X, Y)
    model.set_params(batch_size=100).fit(X, Y)
    saved = ancestral.load(below).model_.state_dict()
    torch.testing.assert_close(model.model_.bottom.state_dict(), saved, rtol=0, atol=0)


def test_codes_of_other_rows_are_refused(below, fitted, tmp_path):
    with pytest.raises(ValueError, match=r"codes=.*was fitted to 64 columns"):
        ClassConditionalVAE(**QUICK, codes=below).fit(X[:, :30], Y)
    ancestral.Autoencoder(n_latents=2, hidden=(5,), max_epochs=1).fit(X).save(tmp_path / "coder")
    with pytest.raises(ValueError, match="Autoencoder: expected a saved model with latent"):
        ClassConditionalVAE(**QUICK, codes=str(tmp_path / "coder")).fit(X, Y)
