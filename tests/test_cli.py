"""Command-line interface: outputs, exit codes and written files."""

import csv
import json
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import ancestral
from ancestral.cli.main import main
from ancestral.data import preprocessing

TINY = ["--n-latents", "2", "--hidden", "16", "--max-epochs", "2"]


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(workdir):
    rng = np.random.default_rng(0)
    size = rng.normal(5, 2, 120)
    frame = {"size": size, "weight": 3 * size + rng.normal(size=120)}
    frame["kind"] = ["small" if s < 5 else "large" for s in size]
    frame["size"] = [None if i % 10 == 0 else s for i, s in enumerate(size)]
    pl.DataFrame(frame).write_csv(workdir / "table.csv")
    return "table.csv"


def run(*arguments):
    return main([str(a) for a in arguments])


def test_fit_writes_complete_run_folder_and_config_reproduces_model(workdir, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "run") == 0
    names = {p.name for p in (workdir / "run").iterdir()}
    assert names == {
        "config.toml", "versions.json", "history.csv", "metrics.json", "model", "report.html",
    }  # fmt: skip
    out = capsys.readouterr().out
    metric = json.loads((workdir / "run/metrics.json").read_text())[0]
    assert f"{metric['value']:.3f}" in out
    rows = list(csv.DictReader((workdir / "run/history.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert json.loads((workdir / "run/versions.json").read_text())["torch"]
    config = tomllib.loads((workdir / "run/config.toml").read_text())
    assert config["options"]["hidden"] == [16]

    assert run("evaluate", "run", "--n-importance-samples", 20, "--n-rows", 50) == 0
    metrics = json.loads((workdir / "run/metrics.json").read_text())
    assert metrics[1]["n_rows"] == 50
    assert metrics[1]["metric"] == "log-likelihood L_20, nats"

    assert run("fit", "--config", "run/config.toml", "--out", "again", "--no-report") == 0
    first, again = (ancestral.load(workdir / f"{name}/model") for name in ("run", "again"))
    np.testing.assert_array_equal(first.sample(3), again.sample(3))

    page = (workdir / "run/report.html").read_text()
    assert "VAE on digits" in page
    (workdir / "run/report.html").unlink()
    assert run("report", "run") == 0
    assert (workdir / "run/report.html").read_text() == page


def test_evaluate_writes_rowwise_values_and_compare_reports_paired_difference(workdir, capsys):
    for method in ("vae", "iwae"):
        assert run("fit", method, "digits", *TINY, "--out", method, "--no-report") == 0
    capsys.readouterr()
    options = ("--n-importance-samples", 20, "--n-rows", 40)
    assert run("evaluate", "vae", *options, "--binarize-seed", "0,1", "--out", "rows.csv") == 0
    assert "mean over 2 binarisations" in capsys.readouterr().out
    rows = list(csv.DictReader((workdir / "rows.csv").read_text().splitlines()))
    assert len(rows) == 40
    metrics = json.loads((workdir / "vae/metrics.json").read_text())
    values = np.array([float(r["log_likelihood"]) for r in rows])
    assert values.mean() == pytest.approx(metrics[-1]["value"])
    cached = workdir / "vae" / metrics[-1]["rows"]
    assert cached.read_text() == (workdir / "rows.csv").read_text()

    assert run("compare", "iwae", "vae", *options, "--binarize-seed", 1, "--out", "d.json") == 0
    iwae = json.loads((workdir / "iwae/metrics.json").read_text())[-1]
    out = capsys.readouterr().out
    assert f"{iwae['value'] - values.mean():+.3f} +- " in out
    (difference,) = json.loads((workdir / "d.json").read_text())["differences"]
    assert difference["difference"] == pytest.approx(iwae["value"] - values.mean())
    assert difference["binarize_seed"] == 1
    assert json.loads((workdir / "vae/metrics.json").read_text()) == metrics  # from the cache

    assert run("compare", "iwae", "nowhere", *options) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_evaluate_annealed_and_two_sided_and_count_active_units(workdir, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "run", "--no-report") == 0
    short = ("--n-steps", 5, "--n-chains", 2)
    assert run("evaluate", "run", "--annealed", "--n-rows", 20, *short) == 0
    metric = json.loads((workdir / "run/metrics.json").read_text())[-1]
    assert metric["metric"] == "log-likelihood AIS_2, 5 steps from the prior, nats"
    assert run("evaluate", "run", "--bidirectional", 10, *short) == 0
    out = capsys.readouterr().out
    assert "lower bound" in out
    assert "gap" in out
    assert run("active-units", "run", "--n-rows", 50) == 0
    assert " of 2" in capsys.readouterr().out
    assert run("evaluate", "run", "--n-steps", 5) == 2
    assert "requires --annealed" in capsys.readouterr().err
    assert run("evaluate", "run", "--annealed", "--n-steps", 0) == 2
    assert "--n-steps 0: expected" in capsys.readouterr().err
    assert run("evaluate", "run", "--out", "no/where.csv") == 2
    assert run("evaluate", "run", "--binarize-seed", "-1") == 2
    assert "--binarize-seed -1:" in capsys.readouterr().err


def test_evaluate_and_predict_with_classifier(workdir, capsys):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    kind = np.where(x[:, 0] + 0.1 * rng.normal(size=200) > 0, "up", "down")
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": kind})
    frame.write_csv(workdir / "table.csv")
    options = (
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
    assert run("fit", "max-margin-vae", "table.csv", *options, "--out", "run") == 0
    capsys.readouterr()
    assert run("evaluate", "run", "--n-importance-samples", 5) == 0
    out = capsys.readouterr().out
    metric = json.loads((workdir / "run/metrics.json").read_text())[1]
    assert metric["metric"] == "error, %"
    assert metric["value"] < 25
    assert f"test error: {metric['value']:.2f} +- " in out
    frame.drop("kind").write_csv(workdir / "new.csv")
    assert run("predict", "run", "new.csv", "--out", "classes.csv") == 0
    rows = list(csv.DictReader((workdir / "classes.csv").read_text().splitlines()))
    assert np.mean([r["class"] == k for r, k in zip(rows, kind, strict=True)]) > 0.75
    assert float(rows[0]["p(up)"]) + float(rows[0]["p(down)"]) == pytest.approx(1, abs=1e-4)
    assert run("fit", "vae", "digits", *TINY, "--out", "vae", "--no-report") == 0
    assert run("predict", "vae", "digits", "--out", "c.csv") == 2
    assert "VAE, which is not a classifier" in capsys.readouterr().err


def test_evaluate_imputation_scores_and_writes_image(workdir, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "run", "--no-report") == 0
    arguments = ("evaluate-imputation", "run", "--n-rows", 40, "--n-iter", 3, "--batch-statistics")
    arguments += ("--method", "pseudo-gibbs")
    assert run(*arguments, "--corruption", "square:3,half", "--out", "imputations.png") == 0
    out = capsys.readouterr().out
    metrics = json.loads((workdir / "run/metrics.json").read_text())[1:]
    assert [m["metric"] for m in metrics] == [
        "mean squared error of imputations, square 3", "mean squared error of imputations, half",
    ]  # fmt: skip
    assert all(f"{m['value']:.4f} +- {m['standard_error']:.4f}" in out for m in metrics)
    assert metrics[0]["batch_statistics"] is True
    digits = ancestral.datasets.load("digits")
    model = ancestral.load(workdir / "run/model")
    x = digits.x_test[:40]
    corrupted = preprocessing.corrupt(x, "half", image_shape=(8, 8), seed=0)
    options = {"method": "pseudo-gibbs", "n_iter": 3, "batch_statistics": True}
    filled = model.impute(corrupted, **options, random_state=0)
    missing = np.isnan(corrupted)
    assert np.square(filled - x)[missing].mean() == pytest.approx(metrics[1]["value"])
    with Image.open(workdir / "imputations.png") as picture:
        assert picture.size[0] > picture.size[1]


def test_impute_and_sample_csv_table_with_target_column(workdir, table, capsys):
    target = ["--target", "kind"]
    assert run("fit", "vae", table, *target, *TINY, "--test-fraction", 0.2, "--out", "r") == 0
    # without --target: the target column is that of the run
    assert run("impute", "r", table, "--out", "imputed.csv") == 0
    assert "imputed 12 missing entries of 120 rows" in capsys.readouterr().out
    imputed, original = pl.read_csv("imputed.csv"), pl.read_csv(table)
    assert imputed.columns == ["size", "weight", "kind"]
    assert imputed["size"].null_count() == 0
    assert imputed.select("weight", "kind").equals(original.select("weight", "kind"))
    observed = ~original["size"].is_null()
    assert imputed["size"].filter(observed).equals(original["size"].filter(observed))
    before = Path(table).read_bytes()
    assert run("impute", "r", table, "--out", table) == 2
    assert "choose another name" in capsys.readouterr().err
    assert Path(table).read_bytes() == before
    assert run("sample", "r", "-n", 7, "--out", "s.csv") == 0
    assert pl.read_csv("s.csv").shape == (7, 2)


def test_invalid_output_options_fail_before_computation(workdir, table, capsys, monkeypatch):
    target = ["--target", "kind"]
    assert run("fit", "vae", table, *target, *TINY, "--out", "r", "--no-report") == 0
    monkeypatch.setattr(ancestral.VAE, "sample", None)  # fail if called
    monkeypatch.setattr(ancestral.VAE, "impute", None)
    capsys.readouterr()
    for command, message in (
        (["sample", "r", "-n", 0, "--out", "s.csv"], "n=0: expected"),
        (["sample", "r", "--out", "s.png"], "--out s.png: the rows are not images"),
        (["impute", "r", table, "--out", "s.png"], "--out s.png: the rows are not images"),
        (
            ["evaluate-imputation", "r", "--corruption", "random:0.5", "--out", "s.png"],
            "the rows are not images",
        ),
        (["evaluate", "r", "--bidirectional", 0], "--bidirectional 0: expected"),
    ):
        assert run(*command) == 2
        assert message in capsys.readouterr().err


def test_drop_column_name_with_comma_and_metric_of_one_row(workdir, capsys):
    rng = np.random.default_rng(0)
    frame = {"a,b": rng.normal(size=60), "c": rng.normal(size=60), "d": rng.normal(size=60)}
    pl.DataFrame(frame).write_csv("comma.csv")
    fit = ("fit", "vae", "comma.csv", *TINY, "--no-report")
    assert run(*fit, "--drop", '"a,b"', "--out", "r") == 0
    assert ancestral.load("r").n_features_in_ == 2
    assert run("evaluate", "r", "--n-importance-samples", 5, "--n-rows", 1) == 0
    assert "NaN" not in (workdir / "r/metrics.json").read_text()


def test_columns_are_matched_by_name(workdir, table, capsys):
    assert run("fit", "vae", table, "--target", "kind", *TINY, "--out", "r", "--no-report") == 0
    assert "likelihood: gaussian (2 columns)" in capsys.readouterr().out
    frame = pl.read_csv(table)
    frame.select("weight", "size").write_csv("swapped.csv")  # without labels, in another order
    for name in (table, "swapped.csv"):
        assert run("impute", "r", name, "--out", f"filled-{name}") == 0
    first, second = pl.read_csv(f"filled-{table}"), pl.read_csv("filled-swapped.csv")
    assert second.columns == ["weight", "size"]  # in the order of the input
    assert first.select("weight", "size").equals(second)
    frame.select("weight").rename({"weight": "mass"}).write_csv("other.csv")
    assert run("impute", "r", "other.csv", "--out", "x.csv") == 2
    assert "its columns are mass; the model was fitted on size, weight" in capsys.readouterr().err


def test_partly_missing_labels_raise_only_where_labels_are_required(workdir, capsys):
    rows = np.random.default_rng(0).normal(size=(60, 2))
    frame = pl.DataFrame(rows, schema=["a", "b"]).with_columns(kind=np.arange(60) % 2)
    frame.write_csv("complete.csv")
    frame.with_columns(pl.when(pl.col("a") > 0).then("kind").alias("kind")).write_csv("partial.csv")
    options = ("--target", "kind", "--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "network-classifier", "complete.csv", *options, "--out", "classifier") == 0
    assert run("fit", "vae", "complete.csv", *options, "--n-latents", 1, "--out", "vae") == 0
    for name in ("complete.csv", "partial.csv"):
        predict = ("predict", "classifier", name)
        assert run(*predict, "--out", f"predicted-{name}") == 0
        assert run(*predict, "--target", "kind", "--out", f"target-{name}") == 0
        assert run("impute", "vae", name, "--out", "imputed.csv") == 0
    assert Path("predicted-complete.csv").read_text() == Path("predicted-partial.csv").read_text()
    assert Path("predicted-complete.csv").read_text() == Path("target-partial.csv").read_text()
    capsys.readouterr()
    assert run("evaluate", "classifier", "partial.csv") == 2
    assert "target 'kind' has" in capsys.readouterr().err


def test_split_option_of_predict_and_impute(workdir, capsys):
    options = ("--hidden", 8, "--max-epochs", 1, "--no-report")
    digits = ancestral.datasets.load("digits")
    assert run("fit", "network-classifier", "digits", *options, "--out", "classifier") == 0
    assert run("fit", "vae", "digits", *options, "--n-latents", 1, "--out", "vae") == 0
    capsys.readouterr()
    assert run("predict", "classifier", "digits", "--split", "test", "--out", "test.npy") == 0
    assert "predictions for 297 test rows" in capsys.readouterr().out
    model = ancestral.load(workdir / "classifier/model")
    np.testing.assert_array_equal(np.load("test.npy").astype(int), model.predict(digits.x_test))
    assert run("predict", "classifier", "digits", "--out", "train.csv") == 0
    assert "predictions for 1500 train rows" in capsys.readouterr().out
    assert run("impute", "vae", "digits", "--split", "test", "--out", "imputed.npy") == 0
    np.testing.assert_array_equal(np.load("imputed.npy"), digits.x_test)
    assert run("impute", "vae", "digits", "--split", "valid", "--out", "imputed.npy") == 2
    assert "--split valid: the data set digits has no such rows" in capsys.readouterr().err
    assert run("sample", "vae", "--label", 1, "--out", "s.npy") == 2
    error = capsys.readouterr().err
    assert "--label 1: vae contains a VAE, which is not class-conditional" in error
    for corruption, message in (("square:12", "for images of 8x8"), ("random:2", "from 0 to 1")):
        assert run("evaluate-imputation", "classifier", "--corruption", corruption) == 2
        error = capsys.readouterr().err
        assert f"--corruption {corruption}: " in error
        assert message in error


@pytest.mark.parametrize(
    ("labels", "names"), [(["0.0", "1.0"], ["0", "1"]), (["true", "false"], ["false", "true"])]
)
def test_class_names_of_numeric_and_boolean_labels(workdir, capsys, labels, names):
    x = np.random.default_rng(0).normal(size=(40, 2))
    lines = [f"{a},{b},{labels[int(a > 0)]}" for a, b in x]
    Path("t.csv").write_text("\n".join(["a,b,kind", *lines]) + "\n")
    Path("other.csv").write_text("a,b,kind\n0,1,cat\n0,1,dog\n")
    options = ("--target", "kind", "--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "network-classifier", "t.csv", *options, "--out", "run") == 0
    assert run("predict", "run", "t.csv", "--out", "predicted.csv") == 0
    table = pl.read_csv("predicted.csv", infer_schema=False)
    assert table.columns == ["class", *(f"p({name})" for name in names)]
    assert set(table["class"]) <= set(names)
    assert run("evaluate", "run", "t.csv") == 0
    assert run("evaluate", "run", "other.csv") == 2
    assert f"the model was fitted on {', '.join(names)}" in capsys.readouterr().err


def test_impute_with_draws_writes_integer_counts(workdir):
    counts = np.random.default_rng(0).poisson(3, (60, 2)).tolist()
    counts[3][1] = counts[7][0] = None
    pl.DataFrame(counts, schema=["a", "b"], orient="row").write_csv("counts.csv")
    fit = ("fit", "vae", "counts.csv", *TINY, "--likelihood", "poisson", "--out", "r")
    assert run(*fit, "--no-report") == 0
    assert run("impute", "r", "counts.csv", "--result", "sample", "--out", "f.csv") == 0
    assert pl.read_csv("f.csv").dtypes == [pl.Int64, pl.Int64]


def test_fit_resumes_after_interrupt_between_training_and_evaluation(workdir, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    fit = ("fit", "vae", "digits", *TINY, "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr("ancestral.experiments.scoring.score_all", stop)
        assert run(*fit) == 130
    weights = (workdir / "run/model/model.safetensors").read_bytes()
    assert not (workdir / "run/metrics.json").exists()
    assert run(*fit, "--n-latents", 3) == 2  # the run folder contains another model
    assert run(*fit) == 0
    assert (workdir / "run/model/model.safetensors").read_bytes() == weights
    (metric,) = json.loads((workdir / "run/metrics.json").read_text())
    assert metric["fit_seconds"] > 0
    assert (workdir / "run/report.html").exists()
    capsys.readouterr()
    assert run(*fit) == 2
    assert "add --overwrite" in capsys.readouterr().err


def test_changed_data_warn_from_any_working_directory(workdir, table, capfd, monkeypatch):
    assert run("fit", "vae", table, "--target", "kind", *TINY, "--out", "r", "--no-report") == 0
    (workdir / "elsewhere").mkdir()
    monkeypatch.chdir(workdir / "elsewhere")
    short = ("--n-importance-samples", 5)
    assert run("evaluate", "../r", *short) == 0
    assert "has changed since" not in capfd.readouterr().err
    frame = pl.read_csv(workdir / table)
    frame.with_columns(pl.col("weight") + 1).write_csv(workdir / table)
    assert run("evaluate", "../r", *short) == 0
    assert "has changed since ../r was fitted to it" in capfd.readouterr().err


def test_compare_checks_models_and_data_before_evaluation(workdir, table, capfd, monkeypatch):
    frame = pl.read_csv(table)
    frame.write_csv("second.csv")
    options = ("--target", "kind", "--hidden", 8, "--max-epochs", 1, "--no-report")
    assert run("fit", "vae", table, *options, "--n-latents", 1, "--out", "a") == 0
    assert run("fit", "vae", "second.csv", *options, "--n-latents", 1, "--out", "b") == 0
    assert run("fit", "network-classifier", table, *options, "--out", "c") == 0
    frame.with_columns(pl.col("weight") + 1).write_csv("second.csv")
    monkeypatch.setattr(
        "ancestral.experiments.metrics_file.evaluate_cached",
        lambda *_, **__: pytest.fail("evaluate_cached"),
    )
    assert run("compare", "a", "c") == 2
    assert "c contains a NetworkClassifier" in capfd.readouterr().err
    assert run("compare", "a", "b") == 2
    error = capfd.readouterr().err
    assert "second.csv has changed since b was fitted to it" in error
    assert "a and b have different evaluation rows: data_checksum" in error
    assert run("compare", "a", "a", "--split", "test") == 2
    assert "--split test: the data set table has no such rows" in capfd.readouterr().err


def test_constant_column_raises_for_density_models_only(workdir):
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


def test_fit_csv_with_separator_and_without_header(workdir):
    (workdir / "semi.csv").write_text("1;2\n3;4\n5;7\n")
    arguments = ["--separator", ";", "--no-header", *TINY, "--out", "r", "--no-report"]
    assert run("fit", "vae", "semi.csv", *arguments) == 0
    assert ancestral.load(workdir / "r/model").n_features_in_ == 2


def test_symbolic_link_as_output_folder_is_followed(workdir):
    (workdir / "real").mkdir()
    (workdir / "link").symlink_to("real/x")
    for _ in range(2):
        arguments = [*TINY, "--out", "link", "--overwrite", "--no-report"]
        assert run("fit", "vae", "digits", *arguments) == 0
    assert (workdir / "real" / "x" / "metrics.json").is_file()
    assert sorted(p.name for p in workdir.iterdir()) == ["link", "real"]


def test_sample_writes_npy_and_png(workdir):
    assert run("fit", "iwae", "digits", *TINY, "--n-importance-samples", 2, "--out", "r",
               "--no-report") == 0  # fmt: skip
    assert run("sample", "r", "-n", 9, "--out", "s.npy", "--random-state", 3) == 0
    assert np.load("s.npy").shape == (9, 64)
    assert set(np.unique(np.load("s.npy"))) <= {0, 1}
    assert run("sample", "r", "-n", 9, "--mean", "--out", "s.png") == 0
    assert (workdir / "s.png").read_bytes().startswith(b"\x89PNG")


INVALID = [
    (["fit", "vea", "digits"], "unknown method 'vea': did you mean 'vae'?"),
    (["fit", "vae", "digit"], "Did you mean 'digits'"),
    (["fit", "vae"], "missing METHOD or DATA"),
    (["fit", "vae", "nowhere.csv"], "no such file or folder"),
    (["fit", "vae", "digits", "--n-latents", "0"], "--n-latents 0: expected a whole number"),
    (["fit", "vae", "digits", "--no-such-option", "1"], "unrecognized arguments"),
    (["fit", "memoryvae", "digits", "--n-slots", "1"], "did you mean 'memory-vae'?"),
    (["fit", "vae", "digits", "--n-latnets", "1"], "did you mean --n-latents?"),
    (["fit", "cgmmn-classifier", "few.csv"], "name their column by --target COLUMN"),
    (["fit", "gan", "few.csv", "--test-fraction", "0.25"], "has 2 test rows"),
    (["fit", "vae", "few.csv", "--drop", "b"], "no column 'b'"),
    (["fit", "vae", "few.csv", "--drop", "a"], "no feature columns"),
    (["fit", "vae", "split.csv"], "pass --separator ';'"),
    (["fit", "vae", "flat.csv"], "column 'b' is constant"),
    (["reproduce", "mnist-densty"], "did you mean 'mnist-density'?"),
    (["fit", "vae", "digits", "--likelihood", "bernouli"], "--likelihood bernouli"),
    (["fit", "vae", "digits", "--out", "file"], "file is a file"),
    (["fit", "vae", "digits", "--out", "full"], "already exists"),
    (["fit", "vae", "digits", "--out", "file/run"], "not a folder"),
    (["fit", "--config", "broken.toml"], "not valid TOML"),
    (["fit", "--config", "key.toml"], "unknown key 'metod': did you mean 'method'?"),
    (["fit", "--config", "option.toml"], "no option 'n_latent': did you mean 'n_latents'?"),
    (["fit", "--config", "value.toml"], "n_latents='five'"),
    (["fit", "--config", "missing.toml"], "missing.toml"),
    (["fit", "vae", "text.csv"], "'name'"),
    (["fit", "vae", "damaged.npz"], "damaged.npz"),
    (["evaluate", "nowhere"], "nowhere does not exist"),
    (["fit", "vae", "digits", "--test-fraction", "2"], "digits has no option test_fraction"),
    (["evaluate", "full"], "contains no saved model"),
    (["evaluate", "full", "--n-rows", "0"], "--n-rows 0: expected a whole number of at least 1"),
    (
        ["evaluate-imputation", "full", "--n-rows", "-3"],
        "--n-rows -3: expected a whole number of at least 1",
    ),
    (["compare", "full", "full", "--n-rows", "0"], "--n-rows 0: expected a whole number"),
    (
        ["evaluate-imputation", "full", "--corruption", "round:3"],
        "--corruption round:3: expected square:SIDE",
    ),
    (
        ["fit", "vae", "digits", "--init-from", "nowhere"],
        "--init-from nowhere: nowhere contains no saved",
    ),
    (["fit", "vae", "digits", "--network", "5:3w -> 3:1"], "--network '5:3w -> 3:1': layer '5:3w'"),
    (["fit", "vae", "few.csv", "--network", "mnist"], "set --image-shape height,width"),
    (["fit", "max-margin-vae", "digits", "--C", "inf"], "--C inf: expected a number"),
    (["sample", "full", "--out", "s.gif"], "expected a name ending in"),
    (["sample", "full", "--out", "no/s.npy"], "the folder no does not exist"),
    (
        ["evaluate-imputation", "full", "--corruption", "round:3"],
        "expected square:SIDE, random:PROBABILITY or half",
    ),
    (["evaluate-imputation", "full", "--out", "strips.csv"], "expected a name ending in .png"),
    (["impute", "full", "digits", "--out", "s"], "expected a name ending in"),
]


@pytest.mark.parametrize(("arguments", "message"), INVALID, ids=[" ".join(a) for a, _ in INVALID])
def test_invalid_input_exits_with_2_and_writes_no_files(workdir, capsys, arguments, message):
    (workdir / "file").write_text("mine")
    (workdir / "full").mkdir()
    (workdir / "broken.toml").write_text("method = ")
    (workdir / "key.toml").write_text('metod = "vae"')
    options = 'method="vae"\ndata="digits"\n[options]\n'
    (workdir / "option.toml").write_text(options + "n_latent = 5")
    (workdir / "value.toml").write_text(options + 'n_latents = "five"')
    (workdir / "text.csv").write_text("name,size\nann,1\nbob,2\n")
    (workdir / "few.csv").write_text("a\n1\n2\n3\n4\n5\n6\n7\n8\n")
    (workdir / "split.csv").write_text("a;b\n1;2\n3;4\n")
    (workdir / "flat.csv").write_text("a,b\n1,2\n3,2\n4,2\n")
    (workdir / "damaged.npz").write_bytes(b"PK\x03\x04 not really")
    before = sorted(workdir.rglob("*"))
    try:
        code = run(*arguments)
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    assert code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert [p for p in sorted(workdir.rglob("*")) if "/runs" not in str(p)] == before
    assert not [p for p in workdir.rglob("*") if p.is_file() and "runs" in p.parts]


@pytest.mark.skipif(
    not Path("/proc/version").exists(), reason="requires a folder without write permission"
)
def test_unwritable_output_folder_fails_before_training(workdir, capsys):
    assert run("fit", "vae", "digits", *TINY, "--out", "/proc/run") == 2
    captured = capsys.readouterr()
    assert "can't write in /proc" in captured.err
    assert "step" not in captured.err  # no training step


def test_overwrite_does_not_replace_unrelated_folder(workdir, capsys):
    (workdir / "papers").mkdir()
    (workdir / "papers" / "thesis.tex").write_text("years of work")
    (workdir / "papers" / "config.toml").write_text('title = "my site"')
    assert run("fit", "vae", "digits", *TINY, "--out", "papers", "--overwrite") == 2
    assert "contains files that do not belong to a run" in capsys.readouterr().err
    assert (workdir / "papers" / "thesis.tex").read_text() == "years of work"


def test_methods_datasets_and_help(capsys):
    assert run("methods") == 0
    assert run("datasets") == 0
    assert "mnist" in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_info:
        run("fit", "iwae", "--help")
    assert exit_info.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--n-importance-samples" in text
    assert "samples of z per data point and step; the bound tightens with K" in text


def test_interrupt_exits_with_130_and_writes_no_files(workdir, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ancestral.estimators.base.gradient.train", interrupt)
    assert run("fit", "vae", "digits", *TINY, "--out", "r") == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(workdir.iterdir()) == []
