"""Scripts in examples/ and commands in docs/guide.md."""

import importlib.util
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_iris

from ancestral.cli.main import main

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name, folder=EXAMPLES):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "variant", ["mixture_prior", "full_covariance_posterior", "laplace_posterior"]
)
def test_combined_blocks_exceed_independent_bernoulli_likelihood(variant):
    blocks = load("combine_blocks")
    result = blocks.fit_and_score(getattr(blocks, variant), max_epochs=15)
    mean = blocks.TRAINING.mean(0).clip(1e-3, 1 - 1e-3)
    bits = blocks.TEST
    baseline = (bits * np.log(mean) + (1 - bits) * np.log(1 - mean)).sum(1)
    gain = result.values - baseline
    assert gain.mean() > 4 * gain.std() / np.sqrt(len(gain))


def test_quickstart_prints_log_likelihood_and_saves_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    load("quickstart")
    assert "nats (L_1000" in capsys.readouterr().out
    assert (tmp_path / "digits-vae" / "model.json").is_file()


def test_other_half_samples_vary_and_improve_on_mean_prediction():
    example = load("other_half")
    digits = example.ancestral.datasets.load("digits")
    model = example.fit(digits, 300, hidden=(100,), max_epochs=60, learning_rate=5e-3)
    left, right = example.halves(digits.x_test, digits)
    samples = model.draw(left)
    assert samples.shape == (example.N_DRAWS, *right.shape)
    assert samples.std(0).mean() > 0.02
    baseline = (right - example.halves(digits.x_train, digits)[1].mean(0)) ** 2
    assert ((right - samples.mean(0)) ** 2).mean() < baseline.mean()
    grid = example.image_grid(model, digits)
    assert grid.shape == ((1 + example.N_DRAWS) * 10, example.N_DIGITS * 10)
    np.testing.assert_allclose(grid[1:9, 1:9], digits.x_test[0].reshape(8, 8), atol=1e-6)


def test_gan_figure_shows_normalised_densities_and_best_critic():
    process = load("gan_process", EXAMPLES.parent / "docs" / "scripts")
    (state,) = process.train_gan((15,))
    for density in (state.p, state.q):
        assert abs(density.sum() * np.diff(state.x)[0] - 1) < 0.02
    support = np.minimum(state.p, state.q) > 0.01
    best, odds = state.best_critic[support], state.p[support] / state.q[support]
    np.testing.assert_allclose(best / (1 - best), odds)
    assert 0 < state.critic.min() < state.critic.max() < 1
    assert len(process.draw([state]).axes) == 2


def commands(section):
    """Commands in a section of the guide, as lists of arguments."""
    guide = (EXAMPLES.parent / "docs" / "guide.md").read_text()
    text = guide.partition(f"## {section}\n")[2].partition("\n## ")[0]
    blocks = text.split("```")[1::2]
    lines = [line for block in blocks for line in block.strip().splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def test_commands_of_the_guide_write_the_described_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng, flowers = np.random.default_rng(0), load_iris()
    incomplete = np.where(rng.random(flowers.data.shape) < 0.1, np.nan, flowers.data)
    table = pl.DataFrame(incomplete, schema=["a", "b", "c", "d"]).fill_nan(None)
    table.with_columns(species=flowers.target_names[flowers.target]).write_csv("flowers.csv")
    for name, *arguments in commands("The command line"):
        assert name == "ancestral"
        # the command `report` of the guide writes the report
        options = ["--no-report"] if arguments[0] == "fit" else []
        assert main([*arguments, *options]) == 0, capsys.readouterr().err
    assert Path("samples.png").stat().st_size > 1000
    assert pl.read_csv("filled.csv").null_count().sum_horizontal().item() == 0
    assert pl.read_csv("filled.csv")["species"].to_list() == list(
        flowers.target_names[flowers.target]
    )
    assert len(pl.read_csv("made-up.csv")) == len(pl.read_csv("classes.csv")) == 100
    assert "error" in capsys.readouterr().out
    guide = (EXAMPLES.parent / "docs" / "guide.md").read_text()
    for path in Path("runs/vae-digits").iterdir():
        assert f"| `{path.name}{'/' * path.is_dir()}` |" in guide
