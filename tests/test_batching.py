"""Labelled rows in every minibatch: who is in it, who is visited, and what labels weigh."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from ancestral import ClassConditionalVAE, MaxMarginVAE
from ancestral.data import Batch, Data
from ancestral.models import Run
from ancestral.objectives import hinge
from ancestral.train import Player, train

X, Y = load_digits(return_X_y=True)
X = X / 16
SMALL = {"n_latents": 4, "hidden": (20,), "random_state": 0}
STILL = {"max_epochs": 1, "learning_rate": 1e-12, "batch_norm": False, "binarize": "none"}
SHUFFLES = st.sampled_from([True, False, "once"])


def few(n, n_labelled, seed=0):
    """Classes of the first n digits, all but some of them hidden."""
    known = np.random.default_rng(seed).permutation(n)[:n_labelled]
    y = np.full(n, -1)
    y[known] = Y[known]
    return y


def partly(n, n_labelled):
    return Data(np.zeros((n, 1)), few(n, n_labelled))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.data(), st.integers(2, 60), st.integers(2, 70), SHUFFLES)
def test_every_batch_has_its_labelled_rows_and_every_row_is_visited(draw, n, size, shuffle):
    labelled = draw.draw(st.integers(1, n - 1))
    wanted = draw.draw(st.sampled_from(["share", *range(1, min(size, n))]))
    data = partly(n, labelled)
    how = {"n_labelled": wanted, "shuffle": shuffle, "seed": 1}
    batches = [b.numpy() for b in data.batches(size, epoch=2, **how)]
    assert {len(b) for b in batches} == {min(size, n)}
    assert len(batches) == data.makeup(size, wanted).n_batches
    known = data.y.numpy() >= 0
    n_known = {int(known[b].sum()) for b in batches}
    share = min(-(-labelled * min(size, n) // n), min(size, n) - 1)
    assert n_known == {share if wanted == "share" else wanted}
    visits = np.bincount(np.concatenate(batches), minlength=n)
    assert visits.min() == 1  # everybody, and no batch more than that takes
    for group in (known, ~known):  # all of a kind are visited as often, but for the last round
        assert visits[group].max() - visits[group].min() <= 1
    again = [b.numpy() for b in data.batches(size, epoch=2, **how)]
    np.testing.assert_array_equal(again, batches)


def test_unlabelled_rows_are_visited_once_an_epoch_while_labelled_ones_go_round():
    data = partly(500, 20)  # 480 others in batches of 40 with 10 labelled ones beside them
    order = torch.stack(list(data.batches(50, n_labelled=10)))
    visits = np.bincount(order.flatten(), minlength=500)
    assert order.shape == (12, 50)
    assert set(visits[data.y < 0].tolist()) == {1}
    assert set(visits[data.y >= 0].tolist()) == {6}
    rounds = order[:, :10].reshape(6, 20)
    assert all(len(set(one.tolist())) == 20 for one in rounds)
    assert len({tuple(one.tolist()) for one in rounds}) == 6  # in a new order every time


def test_order_depends_on_seed_and_epoch_alone():
    def order(data, seed, epoch, shuffle=True):
        how = {"n_labelled": 3, "seed": seed, "epoch": epoch, "shuffle": shuffle}
        return torch.stack(list(data.batches(10, **how))).flatten().tolist()

    orders = {tuple(order(partly(60, 9), s, e)) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4
    assert tuple(order(partly(60, 9), 1, 1)) in orders
    assert order(partly(60, 9), 0, 0, "once") == order(partly(60, 9), 0, 5, "once")


@pytest.mark.parametrize("y", [Y[:33], np.full(33, -1), np.linspace(-1, 1, 33), None])
def test_rows_of_one_kind_come_as_they_are(y):
    data = Data(X[:33], y)
    plain = torch.stack(list(data.batches(10, seed=1, epoch=2)))
    mixed = torch.stack(list(data.batches(10, seed=1, epoch=2, n_labelled=3)))
    assert torch.equal(plain, mixed)
    # the house's order since its first day: a permutation, the last batch filled from its beginning
    order = np.random.default_rng([1, 2]).permutation(33)
    np.testing.assert_array_equal(plain.flatten(), [*order, *order[:7]])


@pytest.mark.parametrize(
    ("size", "n_labelled", "message"),
    [
        (10, 10, "n_labelled=10: expected at least 1 and fewer than the 10 rows"),
        (10, 0, "n_labelled=0: expected at least 1"),
        (100, 60, "n_labelled=60: expected at least 1 and fewer than the 50 rows"),
        (1, "share", "batch_size=1 has no room"),
    ],
)
def test_what_leaves_no_room_is_refused(size, n_labelled, message):
    with pytest.raises(ValueError, match=message):
        partly(50, 5).makeup(size, n_labelled)


def test_an_estimator_names_a_bad_number():
    for bad in (0, 2.5, "all"):
        with pytest.raises(ValueError, match="n_labelled="):
            MaxMarginVAE(**SMALL, n_labelled=bad).fit(X[:50], few(50, 20))
    with pytest.raises(ValueError, match=r"n_labelled=100: .* fewer than the 100 rows"):
        MaxMarginVAE(**SMALL, n_labelled=100).fit(X[:500], few(500, 50))
    MaxMarginVAE(**SMALL, n_labelled=100, max_epochs=1).fit(X[:100], Y[:100])  # all are labelled


def test_rows_are_spread_so_that_a_label_is_everywhere():
    for n_labelled in (3, 17):
        data = partly(100, n_labelled)
        parts = [p.numpy() for p in data.spread(10)]
        known = [(data.y[p] >= 0).sum().item() for p in parts]
        assert min(known) >= 1
        assert max(known) - min(known) <= 1
        assert set(np.concatenate(parts).tolist()) == set(range(100))
        assert sum(map(len, parts)) == 100 + max(10 - n_labelled, 0)


# ---- what labels weigh


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(64, 10)

    def run(self, batch):
        return Run(batch)


@pytest.mark.parametrize("n_labelled", [4, 8, 16])
def test_a_term_of_labels_is_unbiased(n_labelled):
    """Its mean over an epoch is its mean over the labelled rows, where they go round in full."""
    y = few(16 + 20 * (20 - n_labelled), 16)  # 20 batches: 5, 10 and 20 rounds
    data = Data(X[: len(y)], y)
    model, objective = Linear(), hinge(2.0, 1.0, lambda run: run.batch.x)
    (term,) = objective.terms.values()
    batches = list(data.batches(20, seed=3, epoch=1, n_labelled=n_labelled))
    assert len(batches) == 20
    values = [term(model, Run(data.take(index))).item() for index in batches]
    rows = torch.from_numpy(np.flatnonzero(y >= 0))
    whole = term(model, Run(data.take(rows))).item()
    assert np.mean(values) == pytest.approx(whole, rel=1e-5)
    plain = [term(model, Run(data.take(index))).item() for index in data.batches(20)]
    assert 0.0 in plain  # of a batch without a label
    assert np.mean(plain) < whole


@pytest.mark.parametrize("wanted", ["share", 5, 30])
def test_few_labels_count_as_their_weight_says(wanted):
    """Nothing moves, and the classifier starts at zero: every hinge is C times the margin."""
    y = few(400, 40)
    y[np.flatnonzero(y < 0)[::40]] = 3  # rows of their own for the held-out part
    how = SMALL | STILL | {"validation_fraction": 0.3, "n_labelled": wanted, "batch_size": 60}
    (record,) = MaxMarginVAE(**how, c=15.0, margin=3.0).fit(X[:400], y).history_
    assert record["hinge"] == pytest.approx(45)
    assert record["validation.hinge"] == pytest.approx(45)


def test_q_of_the_class_learns_at_every_step():
    y = few(1000, 10)
    y[np.flatnonzero(y >= 0)] = np.arange(10) % 2
    how = SMALL | STILL | {"n_decision_samples": 1, "alpha": 2.0, "precision": "float32"}
    fitted = ClassConditionalVAE(**how).fit(X[:1000], y)
    rows = torch.as_tensor(X[:1000][y >= 0], dtype=torch.float32)
    with torch.no_grad():
        log_qy = fitted.model_.encode(Batch(rows)).first.logits
    expected = -log_qy[torch.arange(10), torch.as_tensor(y[y >= 0])].mean().item()
    (record,) = fitted.history_
    assert record["step"] == 10  # 990 rows in batches of 99, one of the ten beside them
    assert record["classes"] == pytest.approx(2 * expected, rel=1e-4)


def test_digits_are_told_by_forty_labels():
    y = few(700, 40, seed=1)
    how = SMALL | {"hidden": (50,), "batch_size": 50, "max_epochs": 10, "learning_rate": 1e-2}
    model = MaxMarginVAE(**how, n_labelled=20).fit(X[:700], y)
    assert model.score(X[700:], Y[700:]) > 0.65
    assert model.history_[-1]["step"] == 10 * -(-660 // 30)
    model.set_params(n_labelled="share").fit(X[:700], y)
    assert model.score(X[700:], Y[700:]) > 0.5
    assert model.history_[-1]["step"] == 10 * -(-660 // 47)


def test_the_loop_takes_rows_as_they_come_unless_told():
    def history(**how):
        torch.manual_seed(0)
        player = Player(Linear(), hinge(1.0, 1.0, lambda run: run.batch.x))
        rows = Data(X[:90], few(90, 9))
        return train(player.params, player, rows, max_epochs=1, batch_size=9, **how)[0]

    assert history()["step"] == 10
    assert history(n_labelled=3)["step"] == 14  # 81 others, six at a time
