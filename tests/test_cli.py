"""The command line as a user types it: outputs, exit codes, nothing half-written."""

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import ancestral
from ancestral.cli import main

TINY = ["--n-latents", "2", "--hidden", "16", "--max-epochs", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(here):
    rng = np.random.default_rng(0)
    size = rng.normal(5, 2, 120)
    frame = {"size": size, "weight": 3 * size + rng.normal(size=120)}
    frame["kind"] = ["small" if s < 5 else "large" for s in size]
    frame["size"] = [None if i % 10 == 0 else s for i, s in enumerate(size)]
    pl.DataFrame(frame).write_csv(here / "table.csv")
    return "table.csv"


def run(*arguments):
    return main([str(a) for a in arguments])


def test_a_run_folder_holds_everything(here, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "run") == 0
    names = {p.name for p in (here / "run").iterdir()}
    assert names == {
        "config.toml", "versions.json", "history.csv", "metrics.json", "model", "report.html",
    }  # fmt: skip
    out = capsys.readouterr().out
    metric = json.loads((here / "run/metrics.json").read_text())[0]
    assert f"{metric['value']:.3f}" in out
    rows = list(csv.DictReader((here / "run/history.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert json.loads((here / "run/versions.json").read_text())["torch"]
    config = tomllib.loads((here / "run/config.toml").read_text())
    assert config["options"]["hidden"] == [16]

    assert run("evaluate", "run", "--n-importance-samples", 20, "--rows", 50) == 0
    metrics = json.loads((here / "run/metrics.json").read_text())
    assert metrics[1]["n_rows"] == 50
    assert metrics[1]["metric"] == "log-likelihood L_20, nats"

    assert run("fit", "--config", "run/config.toml", "--out", "again", "--no-report") == 0
    first, again = (ancestral.load(here / f"{name}/model") for name in ("run", "again"))
    np.testing.assert_array_equal(first.sample(3), again.sample(3))

    page = (here / "run/report.html").read_text()
    assert "VAE on digits" in page
    (here / "run/report.html").unlink()
    assert run("report", "run") == 0
    assert (here / "run/report.html").read_text() == page


def test_evaluations_row_by_row_and_compared(here, capsys):
    for method in ("vae", "iwae"):
        assert run("fit", method, "digits", *TINY, "--out", method, "--no-report") == 0
    capsys.readouterr()
    how = ("--n-importance-samples", 20, "--rows", 40)
    assert run("evaluate", "vae", *how, "--binarize-seed", "0,1", "--out", "rows.csv") == 0
    assert "mean over 2 binarisations" in capsys.readouterr().out
    found = list(csv.DictReader((here / "rows.csv").read_text().splitlines()))
    assert len(found) == 40
    metrics = json.loads((here / "vae/metrics.json").read_text())
    values = np.array([float(r["log_likelihood"]) for r in found])
    assert values.mean() == pytest.approx(metrics[-1]["value"])
    kept = here / "vae" / metrics[-1]["rows"]
    assert kept.read_text() == (here / "rows.csv").read_text()

    assert run("compare", "iwae", "vae", *how, "--binarize-seed", 1, "--out", "d.json") == 0
    iwae = json.loads((here / "iwae/metrics.json").read_text())[-1]
    out = capsys.readouterr().out
    assert f"{iwae['value'] - values.mean():+.3f} +- " in out
    (kept,) = json.loads((here / "d.json").read_text())["differences"]
    assert kept["difference"] == pytest.approx(iwae["value"] - values.mean())
    assert kept["binarize_seed"] == 1
    assert json.loads((here / "vae/metrics.json").read_text()) == metrics  # recalled, not redone

    assert run("compare", "iwae", "nowhere", *how) == 2
    assert "nowhere is not there" in capsys.readouterr().err


def test_annealing_and_units_on_the_command_line(here, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "run", "--no-report") == 0
    short = ("--n-steps", 5, "--n-chains", 2)
    assert run("evaluate", "run", "--annealed", "--rows", 20, *short) == 0
    metric = json.loads((here / "run/metrics.json").read_text())[-1]
    assert metric["metric"] == "log-likelihood AIS_2, 5 steps from the prior, nats"
    assert run("evaluate", "run", "--two-sided", 10, *short) == 0
    out = capsys.readouterr().out
    assert "from below" in out
    assert "gap" in out
    assert run("units", "run", "--rows", 50) == 0
    assert " of 2" in capsys.readouterr().out
    assert run("evaluate", "run", "--n-steps", 5) == 2
    assert "goes with --annealed" in capsys.readouterr().err
    assert run("evaluate", "run", "--annealed", "--n-steps", 0) == 2
    assert "--n-steps 0: expected" in capsys.readouterr().err
    assert run("evaluate", "run", "--out", "no/where.csv") == 2
    assert run("evaluate", "run", "--binarize-seed", "-1") == 2
    assert "--binarize-seed -1:" in capsys.readouterr().err


def test_a_classifier_on_the_command_line(here, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    kind = np.where(x[:, 0] + 0.1 * rng.normal(size=200) > 0, "up", "down")
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": kind})
    frame.write_csv(here / "table.csv")
    how = (
        "--n-latents",
        2,
        "--hidden",
        16,
        "--max-epochs",
        60,
        "--test-fraction",
        0.25,
        "--no-report",
        "--target",
        "kind",
    )
    assert run("fit", "max-margin-vae", "table.csv", *how, "--out", "run") == 0
    capsys.readouterr()
    assert run("evaluate", "run", "--n-importance-samples", 5) == 0
    out = capsys.readouterr().out
    metric = json.loads((here / "run/metrics.json").read_text())[1]
    assert metric["metric"] == "error, %"
    assert metric["value"] < 25
    assert f"test error: {metric['value']:.2f} +- " in out
    frame.drop("kind").write_csv(here / "new.csv")
    assert run("predict", "run", "new.csv", "--out", "classes.csv") == 0
    rows = list(csv.DictReader((here / "classes.csv").read_text().splitlines()))
    assert np.mean([r["class"] == k for r, k in zip(rows, kind, strict=True)]) > 0.75
    assert float(rows[0]["p(up)"]) + float(rows[0]["p(down)"]) == pytest.approx(1, abs=1e-4)
    assert run("fit", "vae", "digits", *TINY, "--out", "vae", "--no-report") == 0
    assert run("predict", "vae", "digits", "--out", "c.csv") == 2
    assert "VAE, which does not tell the class of rows" in capsys.readouterr().err


def test_repairs_are_scored_and_drawn(here, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "run", "--no-report") == 0
    arguments = ("repair", "run", "--rows", 40, "--n-iter", 3, "--batch-statistics")
    assert run(*arguments, "--damage", "rect:3,half", "--out", "repairs.png") == 0
    out = capsys.readouterr().out
    found = json.loads((here / "run/metrics.json").read_text())[1:]
    assert [m["metric"] for m in found] == [
        "mean squared error of repairs, rect 3", "mean squared error of repairs, half",
    ]  # fmt: skip
    assert all(f"{m['value']:.4f} +- {m['standard_error']:.4f}" in out for m in found)
    assert found[0]["batch_statistics"] is True
    digits = ancestral.datasets.load("digits")
    model = ancestral.load(here / "run/model")
    x = digits.x_test[:40]
    damaged = ancestral.preprocess.corrupt(x, "half", image_shape=(8, 8), seed=0)
    filled = model.impute(damaged, n_iter=3, batch_statistics=True, random_state=0)
    missing = np.isnan(damaged)
    assert np.square(filled - x)[missing].mean() == pytest.approx(found[1]["value"])
    with Image.open(here / "repairs.png") as picture:
        assert picture.size[0] > picture.size[1]


def test_own_table(here, table, capsys):
    target = ["--target", "kind"]
    assert run("fit", "vae", table, *target, *TINY, "--test-fraction", 0.2, "--out", "r") == 0
    assert run("impute", "r", table, "--out", "filled.csv") == 0  # the run knows its target
    assert "filled in 12 missing entries of 120 rows" in capsys.readouterr().out
    filled, damaged = pl.read_csv("filled.csv"), pl.read_csv(table)
    assert filled.columns == ["size", "weight", "kind"]
    assert filled["size"].null_count() == 0
    assert filled.select("weight", "kind").equals(damaged.select("weight", "kind"))
    seen = ~damaged["size"].is_null()
    assert filled["size"].filter(seen).equals(damaged["size"].filter(seen))
    before = Path(table).read_bytes()
    assert run("impute", "r", table, "--out", table) == 2
    assert "choose another name" in capsys.readouterr().err
    assert Path(table).read_bytes() == before
    assert run("sample", "r", "-n", 7, "--out", "s.csv") == 0
    assert pl.read_csv("s.csv").shape == (7, 2)


def test_what_cannot_be_done_is_said_before_it_is_tried(here, table, capsys, monkeypatch):
    target = ["--target", "kind"]
    assert run("fit", "vae", table, *target, *TINY, "--out", "r", "--no-report") == 0
    monkeypatch.setattr(ancestral.VAE, "sample", None)  # what would take long
    monkeypatch.setattr(ancestral.VAE, "impute", None)
    capsys.readouterr()
    for command, message in (
        (["sample", "r", "-n", 0, "--out", "s.csv"], "n=0: expected"),
        (["sample", "r", "--out", "s.png"], "--out s.png: the rows are not images"),
        (["impute", "r", table, "--out", "s.png"], "--out s.png: the rows are not images"),
        (["repair", "r", "--damage", "random:0.5", "--out", "s.png"], "the rows are not images"),
        (["evaluate", "r", "--two-sided", 0], "--two-sided 0: expected"),
    ):
        assert run(*command) == 2
        assert message in capsys.readouterr().err


def test_a_name_with_a_comma_and_a_metric_of_one_row(here, capsys):
    rng = np.random.default_rng(0)
    frame = {"a,b": rng.normal(size=60), "c": rng.normal(size=60), "d": rng.normal(size=60)}
    pl.DataFrame(frame).write_csv("comma.csv")
    fit = ("fit", "vae", "comma.csv", *TINY, "--no-report")
    assert run(*fit, "--drop", '"a,b"', "--out", "r") == 0
    assert ancestral.load("r").n_features_in_ == 2
    assert run("evaluate", "r", "--n-importance-samples", 5, "--rows", 1) == 0
    assert "NaN" not in (here / "r/metrics.json").read_text()


def test_columns_go_by_name(here, table, capsys):
    assert run("fit", "vae", table, "--target", "kind", *TINY, "--out", "r", "--no-report") == 0
    assert "likelihood: gaussian (2 columns)" in capsys.readouterr().out
    frame = pl.read_csv(table)
    frame.select("weight", "size").write_csv("swapped.csv")  # no labels, another order
    for name in (table, "swapped.csv"):
        assert run("impute", "r", name, "--out", f"filled-{name}") == 0
    first, second = pl.read_csv(f"filled-{table}"), pl.read_csv("filled-swapped.csv")
    assert second.columns == ["weight", "size"]  # each as it came
    assert first.select("weight", "size").equals(second)
    frame.select("weight").rename({"weight": "mass"}).write_csv("other.csv")
    assert run("impute", "r", "other.csv", "--out", "x.csv") == 2
    assert "its columns are mass; the model was fitted on size, weight" in capsys.readouterr().err


def test_labels_that_are_partly_missing_matter_only_where_labels_are_needed(here, capsys):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    frame = pl.DataFrame(rows, schema=["a", "b"]).with_columns(kind=np.arange(60) % 2)
    frame.write_csv("whole.csv")
    frame.with_columns(pl.when(pl.col("a") > 0).then("kind").alias("kind")).write_csv("part.csv")
    how = ("--target", "kind", "--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "network-classifier", "whole.csv", *how, "--out", "told") == 0
    assert run("fit", "vae", "whole.csv", *how, "--n-latents", 1, "--out", "vae") == 0
    for name in ("whole.csv", "part.csv"):
        assert run("predict", "told", name, "--out", f"of-{name}") == 0
        assert run("predict", "told", name, "--target", "kind", "--out", f"asked-{name}") == 0
        assert run("impute", "vae", name, "--out", "filled.csv") == 0
    assert Path("of-whole.csv").read_text() == Path("of-part.csv").read_text()
    assert Path("of-whole.csv").read_text() == Path("asked-part.csv").read_text()
    capsys.readouterr()
    assert run("evaluate", "told", "part.csv") == 2
    assert "target 'kind' has" in capsys.readouterr().err


def test_answers_for_the_split_that_is_named(here, capsys):
    how = ("--hidden", 8, "--max-epochs", 1, "--no-report")
    digits = ancestral.datasets.load("digits")
    assert run("fit", "network-classifier", "digits", *how, "--out", "told") == 0
    assert run("fit", "vae", "digits", *how, "--n-latents", 1, "--out", "vae") == 0
    capsys.readouterr()
    assert run("predict", "told", "digits", "--split", "test", "--out", "test.npy") == 0
    assert "predictions for 297 test rows" in capsys.readouterr().out
    model = ancestral.load(here / "told/model")
    np.testing.assert_array_equal(np.load("test.npy").astype(int), model.predict(digits.x_test))
    assert run("predict", "told", "digits", "--out", "train.csv") == 0
    assert "predictions for 1500 train rows" in capsys.readouterr().out
    assert run("impute", "vae", "digits", "--split", "test", "--out", "filled.npy") == 0
    np.testing.assert_array_equal(np.load("filled.npy"), digits.x_test)
    assert run("impute", "vae", "digits", "--split", "valid", "--out", "filled.npy") == 2
    assert "--split valid: the data set digits has no such rows" in capsys.readouterr().err
    assert run("sample", "vae", "--label", 1, "--out", "s.npy") == 2
    assert "--label 1: vae holds a VAE, which draws no rows of a class" in capsys.readouterr().err
    for damage, message in (("rect:12", "inside 8x8"), ("random:2", "between 0 and 1")):
        assert run("repair", "told", "--damage", damage) == 2
        error = capsys.readouterr().err
        assert f"--damage {damage}: " in error
        assert message in error


@pytest.mark.parametrize(
    ("labels", "names"), [(["0.0", "1.0"], ["0", "1"]), (["true", "false"], ["false", "true"])]
)
def test_classes_have_one_spelling(here, capsys, labels, names):
    x = np.random.default_rng(0).normal(size=(40, 2))
    lines = [f"{a},{b},{labels[int(a > 0)]}" for a, b in x]
    Path("t.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")
    Path("other.csv").write_text("a,b,kind\n0,1,cat\n0,1,dog\n")
    how = ("--target", "kind", "--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "network-classifier", "t.csv", *how, "--out", "run") == 0
    assert run("predict", "run", "t.csv", "--out", "told.csv") == 0
    found = pl.read_csv("told.csv", infer_schema=False)
    assert found.columns == ["class", *(f"p({name})" for name in names)]
    assert set(found["class"]) <= set(names)
    assert run("evaluate", "run", "t.csv") == 0
    assert run("evaluate", "run", "other.csv") == 2
    assert f"the model was fitted on {', '.join(names)}" in capsys.readouterr().err


def test_counts_stay_whole_where_draws_fill_the_gaps(here):
    counts = np.random.default_rng(0).poisson(3, (60, 2)).tolist()
    counts[3][1] = counts[7][0] = None
    pl.DataFrame(counts, schema=["a", "b"], orient="row").write_csv("counts.csv")
    fit = ("fit", "vae", "counts.csv", *TINY, "--likelihood", "poisson", "--out", "r")
    assert run(*fit, "--no-report") == 0
    assert run("impute", "r", "counts.csv", "--fill", "sample", "--out", "f.csv") == 0
    assert pl.read_csv("f.csv").dtypes == [pl.Int64, pl.Int64]


def test_a_run_stopped_after_training_goes_on(here, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    fit = ("fit", "vae", "digits", *TINY, "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr("ancestral.scoring.look", stop)
        assert run(*fit) == 130
    weights = (here / "run/model/model.safetensors").read_bytes()
    assert not (here / "run/metrics.json").exists()
    assert run(*fit, "--n-latents", 3) == 2  # another model is not the one that is there
    assert run(*fit) == 0
    assert (here / "run/model/model.safetensors").read_bytes() == weights
    (metric,) = json.loads((here / "run/metrics.json").read_text())
    assert metric["fit_seconds"] > 0
    assert (here / "run/report.html").exists()
    capsys.readouterr()
    assert run(*fit) == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_data_that_changed_are_noticed_from_anywhere(here, table, capfd, monkeypatch):
    assert run("fit", "vae", table, "--target", "kind", *TINY, "--out", "r", "--no-report") == 0
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    short = ("--n-importance-samples", 5)
    assert run("evaluate", "../r", *short) == 0
    assert "is not what it was" not in capfd.readouterr().err
    frame = pl.read_csv(here / table)
    frame.with_columns(pl.col("weight") + 1).write_csv(here / table)
    assert run("evaluate", "../r", *short) == 0
    assert "is not what it was when ../r was fitted to it" in capfd.readouterr().err


def test_what_can_not_be_compared_is_refused_before_anything_is_scored(
    here, table, capfd, monkeypatch
):
    frame = pl.read_csv(table)
    frame.write_csv("second.csv")
    how = ("--target", "kind", "--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "vae", table, *how, "--n-latents", 1, "--out", "a") == 0
    assert run("fit", "vae", "second.csv", *how, "--n-latents", 1, "--out", "b") == 0
    assert run("fit", "network-classifier", table, *how, "--out", "c") == 0
    frame.with_columns(pl.col("weight") + 1).write_csv("second.csv")
    monkeypatch.setattr("ancestral.kept.scored", lambda *_, **__: pytest.fail("scored"))
    assert run("compare", "a", "c") == 2
    assert "c holds a NetworkClassifier" in capfd.readouterr().err
    assert run("compare", "a", "b") == 2
    error = capfd.readouterr().err
    assert "second.csv is not what it was when b was fitted to it" in error
    assert "a and b are not about the same rows: data_checksum" in error
    assert run("compare", "a", "a", "--split", "test") == 2
    assert "--split test: the data set table has no such rows" in capfd.readouterr().err


def test_a_constant_column_bothers_only_densities(here):
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=60), np.full(60, 7.0)])
    np.save("flat.npy", x)
    assert run("fit", "vae", "flat.npy", *TINY) == 2
    tiny = ("--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "gmmn", "flat.npy", *tiny, "--out", "g") == 0
    drawn = ancestral.load("g").sample(5)
    assert drawn.shape == (5, 2)
    assert run("fit", "autoencoder", "flat.npy", *tiny, "--out", "a") == 0
    assert ancestral.load("a").reconstruct(x).shape == (60, 2)


def test_other_separators(here):
    (here / "semi.csv").write_text("1;2\n3;4\n5;7\n")
    arguments = ["--separator", ";", "--no-header", *TINY, "--out", "r", "--no-report"]
    assert run("fit", "vae", "semi.csv", *arguments) == 0
    assert ancestral.load(here / "r/model").n_features_in_ == 2


def test_a_link_is_followed(here):
    (here / "real").mkdir()
    (here / "link").symlink_to("real/x")
    for _ in range(2):
        arguments = [*TINY, "--out", "link", "--overwrite", "--no-report"]
        assert run("fit", "vae", "digits", *arguments) == 0
    assert (here / "real" / "x" / "metrics.json").is_file()
    assert sorted(p.name for p in here.iterdir()) == ["link", "real"]


def test_samples_as_array_and_picture(here):
    assert run("fit", "iwae", "digits", *TINY, "--n-importance-samples", 2, "--out", "r",
               "--no-report") == 0  # fmt: skip
    assert run("sample", "r", "-n", 9, "--out", "s.npy", "--random-state", 3) == 0
    assert np.load("s.npy").shape == (9, 64)
    assert set(np.unique(np.load("s.npy"))) <= {0, 1}
    assert run("sample", "r", "-n", 9, "--mean", "--out", "s.png") == 0
    assert (here / "s.png").read_bytes().startswith(b"\x89PNG")


BAD = [
    (["fit", "vea", "digits"], "no method 'vea': did you mean 'vae'?"),
    (["fit", "vae", "digit"], "Did you mean 'digits'"),
    (["fit", "vae"], "needs a METHOD and DATA"),
    (["fit", "vae", "nowhere.csv"], "there is no such file"),
    (["fit", "vae", "digits", "--n-latents", "0"], "--n-latents 0: expected a whole number"),
    (["fit", "vae", "digits", "--no-such-option", "1"], "unrecognized arguments"),
    (["fit", "memoryvae", "digits", "--n-slots", "1"], "did you mean 'memory-vae'?"),
    (["fit", "vae", "digits", "--n-latnets", "1"], "did you mean --n-latents?"),
    (["fit", "cgmmn-classifier", "few.csv"], "name their column by --target COLUMN"),
    (["fit", "gan", "few.csv", "--test-fraction", "0.25"], "has 2 test rows"),
    (["fit", "vae", "few.csv", "--drop", "b"], "no column 'b'"),
    (["fit", "vae", "few.csv", "--drop", "a"], "no column"),
    (["fit", "vae", "split.csv"], "pass --separator ';'"),
    (["fit", "vae", "flat.csv"], "column 'b' is constant"),
    (["reproduce", "mnist-densty"], "did you mean 'mnist-density'?"),
    (["fit", "vae", "digits", "--likelihood", "bernouli"], "--likelihood bernouli"),
    (["fit", "vae", "digits", "--out", "file"], "file is a file"),
    (["fit", "vae", "digits", "--out", "full"], "already there"),
    (["fit", "vae", "digits", "--out", "file/run"], "not a folder"),
    (["fit", "--config", "broken.toml"], "not valid TOML"),
    (["fit", "--config", "key.toml"], "unknown key 'metod': did you mean 'method'?"),
    (["fit", "--config", "option.toml"], "no option 'n_latent': did you mean 'n_latents'?"),
    (["fit", "--config", "value.toml"], "n_latents='five'"),
    (["fit", "--config", "missing.toml"], "missing.toml"),
    (["fit", "vae", "text.csv"], "'name'"),
    (["fit", "vae", "damaged.npz"], "damaged.npz"),
    (["evaluate", "nowhere"], "nowhere is not there"),
    (["fit", "vae", "digits", "--test-fraction", "2"], "digits does not take test_fraction"),
    (["evaluate", "full"], "holds no saved model"),
    (["evaluate", "full", "--rows", "0"], "--rows 0: expected a whole number of at least 1"),
    (["repair", "full", "--rows", "-3"], "--rows -3: expected a whole number of at least 1"),
    (["compare", "full", "full", "--rows", "0"], "--rows 0: expected a whole number"),
    (["repair", "full", "--damage", "round:3"], "--damage round:3: expected rect:SIDE"),
    (["fit", "vae", "digits", "--start", "nowhere"], "--start nowhere: nowhere holds no saved"),
    (["fit", "vae", "digits", "--network", "5:3w -> 3:1"], "--network '5:3w -> 3:1': layer '5:3w'"),
    (["fit", "vae", "few.csv", "--network", "mnist"], "set --image-shape height,width"),
    (["fit", "max-margin-vae", "digits", "--c", "inf"], "--c inf: expected a number"),
    (["sample", "full", "--out", "s.gif"], "expected a name ending in"),
    (["sample", "full", "--out", "no/s.npy"], "the folder no is not there"),
    (["repair", "full", "--damage", "round:3"], "expected rect:SIDE, random:PROBABILITY or half"),
    (["repair", "full", "--out", "strips.csv"], "expected a name ending in .png"),
    (["impute", "full", "digits", "--out", "s"], "expected a name ending in"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_exits_with_2_and_leaves_nothing(here, capsys, arguments, message):
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "broken.toml").write_text("method = ")
    (here / "key.toml").write_text('metod = "vae"')
    (here / "option.toml").write_text('method="vae"\ndata="digits"\n[options]\nn_latent = 5')
    (here / "value.toml").write_text('method="vae"\ndata="digits"\n[options]\nn_latents = "five"')
    (here / "text.csv").write_text("name,size\nann,1\nbob,2\n")
    (here / "few.csv").write_text("a\n1\n2\n3\n4\n5\n6\n7\n8\n")
    (here / "split.csv").write_text("a;b\n1;2\n3;4\n")
    (here / "flat.csv").write_text("a,b\n1,2\n3,2\n4,2\n")
    (here / "damaged.npz").write_bytes(b"PK\x03\x04 not really")
    before = sorted(here.rglob("*"))
    try:
        code = run(*arguments)
    except SystemExit as leaving:
        code = leaving.code
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert [p for p in sorted(here.rglob("*")) if "/runs" not in str(p)] == before
    assert not [p for p in here.rglob("*") if p.is_file() and "runs" in p.parts]


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder no one can write in")
def test_output_folder_that_can_not_be_written(here, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "/proc/run") == 2
    captured = capsys.readouterr()
    assert "can't write in /proc" in captured.err
    assert "step" not in captured.err  # before any training


def test_a_folder_of_something_else_is_never_replaced(here, capsys):
    (here / "papers").mkdir()
    (here / "papers" / "thesis.tex").write_text("years of work")
    (here / "papers" / "config.toml").write_text('title = "my site"')
    assert run("fit", "vae", "digits", *TINY, "--out", "papers", "--overwrite") == 2
    assert "holds files that are not a run" in capsys.readouterr().err
    assert (here / "papers" / "thesis.tex").read_text() == "years of work"


def test_lists_and_help(capsys):
    assert run("methods") == 0
    assert run("datasets") == 0
    assert "mnist" in capsys.readouterr().out
    with pytest.raises(SystemExit) as leaving:
        run("fit", "iwae", "--help")
    assert leaving.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--n-importance-samples" in text
    assert "samples of z per row and step; the bound tightens with K" in text


def test_interrupted(here, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ancestral.gradients.train", interrupt)
    assert run("fit", "vae", "digits", *TINY, "--out", "r") == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(here.iterdir()) == []
