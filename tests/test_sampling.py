"""Semi-supervised minibatches: composition, visits per epoch, and weight of supervised terms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from ancestral import ClassConditionalVAE, MaxMarginVAE
from ancestral.data.batch import Batch
from ancestral.data.device_data import DeviceData
from ancestral.models.run import Run
from ancestral.objectives import hinge
from ancestral.training import Player, train

X, Y = load_digits(return_X_y=True)
X = X / 16
SMALL = {"n_latents": 4, "hidden": (20,), "random_state": 0}
FROZEN = {"max_epochs": 1, "learning_rate": 1e-12, "batch_norm": False, "binarize": "none"}
SHUFFLES = st.sampled_from([True, False, "once"])


def few(n, n_labelled, seed=0):
    """Labels of the first n digits, -1 except for n_labelled random rows."""
    labelled = np.random.default_rng(seed).permutation(n)[:n_labelled]
    y = np.full(n, -1)
    y[labelled] = Y[labelled]
    return y


def partly_labelled_data(n, n_labelled):
    return DeviceData(np.zeros((n, 1)), few(n, n_labelled))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data(), st.integers(2, 60), st.integers(2, 70), SHUFFLES)
def test_batches_have_given_number_of_labelled_rows_and_cover_all_rows(draw, n, size, shuffle):
    n_all_labelled = draw.draw(st.integers(1, n - 1))
    n_labelled = draw.draw(st.sampled_from(["proportional", *range(1, min(size, n))]))
    data = partly_labelled_data(n, n_all_labelled)
    options = {"n_labelled": n_labelled, "shuffle": shuffle, "seed": 1}
    batches = [b.numpy() for b in data.batch_indices(size, epoch=2, **options)]
    assert {len(b) for b in batches} == {min(size, n)}
    assert len(batches) == data.make_batch_sampler(size, n_labelled).n_batches
    labelled = data.y.numpy() >= 0
    counts = {int(labelled[b].sum()) for b in batches}
    share = min(-(-n_all_labelled * min(size, n) // n), min(size, n) - 1)
    assert counts == {share if n_labelled == "proportional" else n_labelled}
    visits = np.bincount(np.concatenate(batches), minlength=n)
    assert visits.min() == 1  # every row is visited, in the smallest number of batches
    for group in (labelled, ~labelled):  # visit counts differ by the last, incomplete cycle only
        assert visits[group].max() - visits[group].min() <= 1
    repeated = [b.numpy() for b in data.batch_indices(size, epoch=2, **options)]
    np.testing.assert_array_equal(repeated, batches)


def test_unlabelled_rows_are_visited_once_per_epoch_and_labelled_rows_cycle():
    data = partly_labelled_data(500, 20)  # 480 unlabelled rows: 40 and 10 labelled rows per batch
    order = torch.stack(list(data.batch_indices(50, n_labelled=10)))
    visits = np.bincount(order.flatten(), minlength=500)
    assert order.shape == (12, 50)
    assert set(visits[data.y < 0].tolist()) == {1}
    assert set(visits[data.y >= 0].tolist()) == {6}
    cycles = order[:, :10].reshape(6, 20)
    assert all(len(set(cycle.tolist())) == 20 for cycle in cycles)
    assert len({tuple(cycle.tolist()) for cycle in cycles}) == 6  # a new order in every cycle


def test_semi_supervised_batch_order_is_determined_by_seed_and_epoch():
    def order(seed, epoch, shuffle=True):
        options = {"n_labelled": 3, "seed": seed, "epoch": epoch, "shuffle": shuffle}
        batches = partly_labelled_data(60, 9).batch_indices(10, **options)
        return torch.stack(list(batches)).flatten().tolist()

    orders = {tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4
    assert tuple(order(1, 1)) in orders
    assert order(0, 0, "once") == order(0, 5, "once")


@pytest.mark.parametrize("y", [Y[:33], np.full(33, -1), np.linspace(-1, 1, 33), None])
def test_n_labelled_has_no_effect_unless_data_is_partly_labelled(y):
    data = DeviceData(X[:33], y)
    default = torch.stack(list(data.batch_indices(10, seed=1, epoch=2)))
    with_n_labelled = torch.stack(list(data.batch_indices(10, seed=1, epoch=2, n_labelled=3)))
    assert torch.equal(default, with_n_labelled)
    # reference order: a permutation, with the last batch completed from its beginning
    order = np.random.default_rng([1, 2]).permutation(33)
    np.testing.assert_array_equal(default.flatten(), [*order, *order[:7]])


@pytest.mark.parametrize(
    ("size", "n_labelled", "message"),
    [
        (10, 10, "n_labelled=10: expected at least 1 and fewer than the 10 rows"),
        (10, 0, "n_labelled=0: expected at least 1"),
        (100, 60, "n_labelled=60: expected at least 1 and fewer than the 50 rows"),
        (1, "share", "batch_size=1: expected at least 2"),
    ],
)
def test_sampler_rejects_batches_without_labelled_or_unlabelled_rows(size, n_labelled, message):
    with pytest.raises(ValueError, match=message):
        partly_labelled_data(50, 5).make_batch_sampler(size, n_labelled)


def test_fit_rejects_invalid_n_labelled():
    for invalid in (0, 2.5, "all"):
        with pytest.raises(ValueError, match="n_labelled="):
            MaxMarginVAE(**SMALL, n_labelled=invalid).fit(X[:50], few(50, 20))
    with pytest.raises(ValueError, match=r"n_labelled=100: .* fewer than the 100 rows"):
        MaxMarginVAE(**SMALL, n_labelled=100).fit(X[:500], few(500, 50))
    MaxMarginVAE(**SMALL, n_labelled=100, max_epochs=1).fit(X[:100], Y[:100])  # all are labelled


def test_validation_batches_distribute_labelled_rows_evenly():
    for n_labelled in (3, 17):
        data = partly_labelled_data(100, n_labelled)
        batches = [b.numpy() for b in data.validation_batch_indices(10)]
        counts = [(data.y[b] >= 0).sum().item() for b in batches]
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1
        assert set(np.concatenate(batches).tolist()) == set(range(100))
        assert sum(map(len, batches)) == 100 + max(10 - n_labelled, 0)


# ---- weight of supervised terms


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(64, 10)

    def run(self, batch):
        return Run(batch)


@pytest.mark.parametrize("n_labelled", [4, 8, 16])
def test_supervised_term_is_unbiased_over_epoch(n_labelled):
    """With complete cycles, the mean of the term over an epoch is its mean over labelled rows."""
    y = few(16 + 20 * (20 - n_labelled), 16)  # 20 batches: 5, 10 and 20 cycles
    data = DeviceData(X[: len(y)], y)
    model, objective = Linear(), hinge(2.0, 1.0, lambda run: run.batch.x)
    (term,) = objective.terms.values()
    batches = list(data.batch_indices(20, seed=3, epoch=1, n_labelled=n_labelled))
    assert len(batches) == 20
    values = [term(model, Run(data.batch_at(index))).item() for index in batches]
    rows = torch.from_numpy(np.flatnonzero(y >= 0))
    expected = term(model, Run(data.batch_at(rows))).item()
    assert np.mean(values) == pytest.approx(expected, rel=1e-5)
    unbalanced = [term(model, Run(data.batch_at(index))).item() for index in data.batch_indices(20)]
    assert 0.0 in unbalanced  # value of a batch without labelled rows
    assert np.mean(unbalanced) < expected


@pytest.mark.parametrize("n_labelled", ["proportional", 5, 30])
def test_hinge_weight_is_independent_of_number_of_labels(n_labelled):
    """With a zero-initialised classifier and no parameter updates every hinge is C times margin."""
    y = few(400, 40)
    y[np.flatnonzero(y < 0)[::40]] = 3  # additional labelled rows, for the validation set
    sizes = {"validation_fraction": 0.3, "n_labelled": n_labelled, "batch_size": 60}
    (record,) = MaxMarginVAE(**SMALL | FROZEN | sizes, C=15.0, margin=3.0).fit(X[:400], y).history_
    assert record["hinge"] == pytest.approx(45)
    assert record["validation.hinge"] == pytest.approx(45)


def test_class_posterior_term_is_weighted_at_every_step():
    y = few(1000, 10)
    y[np.flatnonzero(y >= 0)] = np.arange(10) % 2
    options = SMALL | FROZEN | {"n_decision_samples": 1, "alpha": 2.0, "precision": "float32"}
    vae = ClassConditionalVAE(**options).fit(X[:1000], y)
    rows = torch.as_tensor(X[:1000][y >= 0], dtype=torch.float32)
    with torch.no_grad():
        log_qy = vae.model_.encode(Batch(rows)).first.logits
    expected = -log_qy[torch.arange(10), torch.as_tensor(y[y >= 0])].mean().item()
    (record,) = vae.history_
    assert record["step"] == 10  # 990 unlabelled rows: 99 and one labelled row per batch
    assert record["classes"] == pytest.approx(2 * expected, rel=1e-4)


def test_digits_are_classified_with_forty_labels():
    y = few(700, 40, seed=1)
    options = SMALL | {"hidden": (50,), "batch_size": 50, "max_epochs": 10, "learning_rate": 1e-2}
    model = MaxMarginVAE(**options, n_labelled=20).fit(X[:700], y)
    assert model.score(X[700:], Y[700:]) > 0.65
    assert model.history_[-1]["step"] == 10 * -(-660 // 30)
    model.set_params(n_labelled="proportional").fit(X[:700], y)
    assert model.score(X[700:], Y[700:]) > 0.5
    assert model.history_[-1]["step"] == 10 * -(-660 // 47)


def test_train_ignores_labels_in_sampling_by_default():
    def history(**options):
        torch.manual_seed(0)
        player = Player(Linear(), hinge(1.0, 1.0, lambda run: run.batch.x))
        data = DeviceData(X[:90], few(90, 9))
        return train(player.params, player, data, max_epochs=1, batch_size=9, **options)[0]

    assert history()["step"] == 10
    assert history(n_labelled=3)["step"] == 14  # 81 unlabelled rows, six per batch
