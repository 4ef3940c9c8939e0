"""The examples run, and their models learn."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name, folder=EXAMPLES):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "variant", ["mixture_prior", "full_covariance_posterior", "laplace_posterior"]
)
def test_variants_learn(variant):
    blocks = load("combine_blocks")
    result = blocks.fit_and_score(getattr(blocks, variant), max_epochs=15)
    mean = blocks.TRAINING.mean(0).clip(1e-3, 1 - 1e-3)
    bits = blocks.TEST
    without_latents = (bits * np.log(mean) + (1 - bits) * np.log(1 - mean)).sum(1)
    gain = result.values - without_latents
    assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def test_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    load("quickstart")
    assert "nats (L_1000)" in capsys.readouterr().out
    assert (tmp_path / "digits-vae" / "model.json").is_file()


def test_halves_are_drawn_beside_the_half_that_is_given():
    other = load("other_half")
    digits = other.ancestral.datasets.load("digits")
    model = other.learn(digits, 300, hidden=(100,), max_epochs=60, learning_rate=5e-3)
    left, right = other.halves(digits.x_test, digits)
    drawn = model.draw(left)
    assert drawn.shape == (other.DRAWS, *right.shape)
    assert drawn.std(0).mean() > 0.02
    by_mean = (right - other.halves(digits.x_train, digits)[1].mean(0)) ** 2
    assert ((right - drawn.mean(0)) ** 2).mean() < by_mean.mean()
    page = other.sheet(model, digits)
    assert page.shape == ((1 + other.DRAWS) * 10, other.SHOWN * 10)
    np.testing.assert_allclose(page[1:9, 1:9], digits.x_test[0].reshape(8, 8), atol=1e-6)


def test_the_picture_of_a_game_shows_densities():
    process = load("process", EXAMPLES.parent / "docs")
    (moment,) = process.play((15,))
    for density in (moment.p, moment.q):
        assert abs(density.sum() * np.diff(moment.x)[0] - 1) < 0.02
    seen = np.minimum(moment.p, moment.q) > 0.01
    best, odds = moment.best_critic[seen], moment.p[seen] / moment.q[seen]
    np.testing.assert_allclose(best / (1 - best), odds)
    assert 0 < moment.critic.min() < moment.critic.max() < 1
    assert len(process.draw([moment]).axes) == 2
