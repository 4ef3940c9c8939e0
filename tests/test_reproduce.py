"""Recipes, execution of recipes, records and shipped models."""

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ancestral
from ancestral import datasets
from ancestral.cli.main import main
from ancestral.estimators import registry
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.evaluation.class_fidelity import class_consistency_errors
from ancestral.evaluation.metrics import classification_errors
from ancestral.evaluation.parzen import PARZEN_BANDWIDTHS
from ancestral.experiments import (
    corruption,
    evaluation_settings,
    recipe_files,
    recipes,
    records,
    scoring,
    zoo,
)
from ancestral.experiments.jobs import Job
from ancestral.experiments.launchers import run_on_cluster, run_parallel, run_serial, schedule
from ancestral.experiments.metrics import EvaluationTask, evaluate_task
from ancestral.experiments.metrics_file import read_metrics
from ancestral.experiments.reproduce import run_job
from ancestral.experiments.scoring import ERROR
from ancestral.experiments.zoo import ship, zoo_name
from ancestral.utils import files

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted(p.name for p in (ROOT / "zoo").glob("*"))

HEAD = """
title = "Digits"
source = "nobody"
rows = ["vae", "iwae"]
[protocol]
n_importance_samples = 20
binarize_seeds = [0, 1]
n_rows = 50
"""
VAE = """
title = "VAE"
published = -20.0
method = "vae"
data = "digits"
[options]
n_latents = 3
hidden = [20]
[sizes.smoke]
n_valid = 300
stages = [{ max_epochs = 2 }, { max_epochs = 1, batch_size = 300 }]
"""
IWAE = """
title = "IWAE"
published = -19.0
method = "iwae"
data = "digits"
[options]
n_latents = 3
hidden = [20]
[sizes.smoke]
n_valid = 300
init_from = "digits/vae"
options = { max_epochs = 1, n_importance_samples = 3 }
"""


@pytest.fixture
def workdir_with_reports(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    (folder / "digits").mkdir(parents=True)
    for name, text in {"table": HEAD, "vae": VAE, "iwae": IWAE}.items():
        (folder / f"digits/{name}.toml").write_text(text)
    monkeypatch.setattr(recipe_files, "recipes_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def workdir(workdir_with_reports, monkeypatch):
    """Working directory without report pages, which take longer than training."""
    monkeypatch.setattr("ancestral.experiments.run_folder.write_report", lambda *_: None)
    return workdir_with_reports


def job(row, seed=0, **more):
    (recipe,) = recipe_files.find_recipes(f"digits/{row}")
    return Job(recipe, "smoke", seed, **more)


def call(*arguments):
    return main([str(a) for a in arguments])


def test_run_fits_stages_and_writes_complete_record(workdir):
    path = run_job(job("iwae"), workdir / "runs", workdir / "results")
    assert path == workdir / "results/digits/iwae/smoke-0.json"
    record = json.loads(path.read_text())
    fits = [(f["row"], f["options"]["max_epochs"]) for f in record["fits"]]
    assert fits == [("digits/vae", 2), ("digits/vae", 1), ("digits/iwae", 1)]
    assert record["fit_seconds"] == pytest.approx(sum(f["seconds"] for f in record["fits"]))
    values = [e["value"] for e in record["evaluations"]]
    assert record["value"] == pytest.approx(np.mean(values))
    assert [e["binarize_seed"] for e in record["evaluations"]] == [0, 1]
    assert record["binarisation_spread"] == pytest.approx(np.std(values, ddof=1))
    for key in ("data_checksum", "versions", "processor", "threads", "date", "active_units"):
        assert record[key]
    assert record["device"] == record["processor"]["model"] == record["versions"]["device"]
    assert all(fit["device"] == record["device"] for fit in record["fits"])
    assert len(record["versions"]["commit"]) >= 7

    model = ancestral.load(workdir / "runs/digits/iwae/smoke-0/model")
    x = ancestral.datasets.load("digits").x_test[:50]
    assert model.log_likelihood(x, 20, binarize_seed=1).mean == pytest.approx(values[1])


def test_changes_apply_to_all_stages_or_to_those_before_the_last(workdir):
    first_stage, all_stages = ("init_from.max_epochs", 5), ("batch_size", 100)
    options = [
        job("vae", changes=(first_stage, all_stages), stage=stage).config(workdir / "runs").options
        for stage in (0, 1)
    ]
    assert [(o["max_epochs"], o["batch_size"]) for o in options] == [(5, 100), (1, 100)]
    changes = ("--set", "init_from.max_epochs=3", "--set", "max_epochs=1")
    assert call("reproduce", "digits/vae", "--size", "smoke", "--select", *changes) == 0
    record = json.loads(next((workdir / "results/digits/vae").glob("*.json")).read_text())
    assert [fit["options"]["max_epochs"] for fit in record["fits"]] == [3, 1]


def test_repeated_run_reuses_model_and_metrics(workdir, monkeypatch, capsys):
    first = json.loads(run_job(job("vae"), workdir / "runs", workdir / "results").read_text())
    folder = workdir / "runs/digits/vae/smoke-0"
    n_metrics = len(read_metrics(folder))
    weights = (folder / "model" / files.WEIGHTS).stat().st_mtime_ns
    again = json.loads(run_job(job("vae"), workdir / "runs", workdir / "results").read_text())
    assert (folder / "model" / files.WEIGHTS).stat().st_mtime_ns == weights
    assert len(read_metrics(folder)) == n_metrics
    assert again == first


def test_run_folder_with_other_settings_raises(workdir, capsys):
    arguments = ("reproduce", "digits/vae", "--size", "smoke")
    assert call(*arguments) == 0
    path = workdir / "recipes/digits/vae.toml"
    path.write_text(path.read_text().replace("hidden = [20]", "hidden = [21]"))
    recipe_files._cached_tables.cache_clear()
    assert call(*arguments) == 2
    assert "other settings" in capsys.readouterr().err
    assert call(*arguments, "--runs", "others") == 0


def test_select_scores_validation_rows_only(workdir, capsys):
    assert call("reproduce", "digits/vae", "--size", "smoke", "--select") == 0
    record = json.loads((workdir / "results/digits/vae/smoke-0-valid.json").read_text())
    assert record["split"] == "valid"
    assert {e["split"] for e in record["evaluations"]} == {"valid"}
    metrics = read_metrics(workdir / "runs/reproduce/digits/vae/smoke-0-valid")
    assert {m["split"] for m in metrics} == {"valid"}
    assert f"{record['value']:.2f}" in capsys.readouterr().out
    model = ancestral.load(workdir / "runs/reproduce/digits/vae/smoke-0-valid/model")
    digits = ancestral.datasets.load("digits", n_valid=300)
    assert len(digits.x_train) == 1200
    values = model.log_likelihood(digits.x_valid[:50], 20, binarize_seed=0).mean
    assert record["evaluations"][0]["value"] == pytest.approx(values)


def test_set_requires_select_and_is_recorded_as_changes(workdir, capsys):
    arguments = ("reproduce", "digits/vae", "--size", "smoke", "--set", "batch_size=50")
    assert call(*arguments) == 2
    assert "add --select" in capsys.readouterr().err
    assert call(*arguments, "--select", "--set", "hidden=[5]") == 0
    path = workdir / "results/digits/vae/smoke-0-valid-batch_size=50-hidden=[5].json"
    record = json.loads(path.read_text())
    assert record["changes"] == {"batch_size": 50, "hidden": [5]}
    assert [f["options"]["batch_size"] for f in record["fits"]] == [50, 50]
    (standing,) = records.summarize_results(recipe_files.find_recipes("digits"), [record], "valid")
    assert standing.changes == ["batch_size=50", "hidden=[5]"]
    assert standing.command.endswith("--seeds 1 --select --set batch_size=50 --set 'hidden=[5]'")
    other = records.ResultSummary(standing.recipe, standing.size, [record | {"seed": 3}])
    assert "--seed 3 " in other.command
    both = records.ResultSummary(standing.recipe, standing.size, [record, record | {"seed": 2}])
    assert "--seeds 3 " in both.command
    assert records.summarize_results(recipe_files.find_recipes("digits"), [record]) == []


def test_set_with_start_prefix_changes_initialising_run(workdir, capsys):
    arguments = ("reproduce", "digits/iwae", "--size", "smoke", "--select")
    assert call(*arguments, "--set", "init_from.batch_size=50", "--set", "batch_size=60") == 0
    (path,) = (workdir / "results/digits/iwae").glob("*.json")
    record = json.loads(path.read_text())
    assert [f["options"].get("batch_size") for f in record["fits"]] == [50, 50, 60]
    assert (workdir / "runs/reproduce/digits/vae/smoke-0-valid-batch_size=50").is_dir()
    capsys.readouterr()
    assert call(*arguments, "--set", "init_from.init_from.init_from.batch_size=50") == 2
    assert "digits/vae has no other row as its init_from" in capsys.readouterr().err
    assert call(*arguments, "--set", "init_from.batchsize=50") == 2
    assert "batch_size" in capsys.readouterr().err


def test_moved_run_folders_are_reused(workdir):
    arguments = ("reproduce", "digits/iwae", "--size", "smoke")
    assert call(*arguments, "--runs", "before") == 0
    (workdir / "before").rename(workdir / "after")
    assert call(*arguments, "--runs", workdir / "after") == 0


def test_list_shows_published_and_measured_values_with_gap(workdir, capsys):
    assert call("reproduce", "--list") == 0
    assert "ancestral reproduce digits/vae --size smoke" in capsys.readouterr().out
    assert call("reproduce", "digits/vae", "--size", "smoke", "--seeds", 2) == 0
    (vae,) = records.summarize_results(
        recipe_files.find_recipes("digits"), records.read([workdir / "results"])
    )
    values = [r["value"] for r in vae.records]
    assert vae.gap == pytest.approx(np.mean(values) + 20)
    assert vae.spread == pytest.approx(np.std(values, ddof=1))
    capsys.readouterr()
    assert call("reproduce", "--list") == 0
    out = capsys.readouterr().out
    assert f"{vae.value:.2f}" in out
    assert f"{vae.gap:+.2f}" in out
    assert "--seeds 2" in out


def test_row_without_published_value_has_no_gap(workdir_with_reports, capsys):
    workdir = workdir_with_reports
    path = workdir / "recipes/digits/vae.toml"
    path.write_text(path.read_text().replace("published = -20.0", ""))
    assert call("reproduce", "digits/vae", "--size", "smoke") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:3] == ["digits/vae", "smoke", "-"]
    (standing,) = records.summarize_results(
        recipe_files.find_recipes("digits"), records.read([workdir / "results"])
    )
    assert np.isnan(standing.gap)
    record = json.loads((workdir / "results/digits/vae/smoke-0.json").read_text())
    assert record["published"] is None
    for stage in ("smoke-0-stage1", "smoke-0"):
        assert (workdir / f"runs/reproduce/digits/vae/{stage}/report.html").is_file()


def test_select_with_n_valid_zero_holds_out_no_rows(workdir, monkeypatch):
    path = workdir / "recipes/digits/vae.toml"
    path.write_text(path.read_text().replace("n_valid = 300", "n_valid = 0"))
    config = job("vae", select=True).config(workdir / "runs")
    assert "n_valid" not in config.data_options


def test_seeded_data_option_is_set_to_the_seed():
    for row in ("boston-housing/pbp", "boston-housing/pbp-density"):
        config = recipe_files.find_recipes(row)[0].config("fast", 7)
        assert config.data_options == {"split": 7}
        assert config.options["random_state"] == 7


def test_schedule_puts_initialising_runs_first(workdir):
    jobs = [job("iwae"), job("vae"), job("vae", seed=1)]
    assert schedule(jobs) == [[jobs[1], jobs[2]], [jobs[0]]]
    assert job("iwae").parts() == {"init_from": job("vae")}


@pytest.mark.filterwarnings("ignore:unclosed|subprocess:ResourceWarning")
@pytest.mark.parametrize("launcher", ["processes", "submitit"])
def test_parallel_launchers_agree_with_serial_runs(workdir, launcher):
    jobs = [job("vae", select=True), job("vae", seed=1, select=True)]  # --select writes no reports
    serial = run_serial(workdir / "runs", workdir / "results")(jobs)
    if launcher == "processes":
        submit = run_parallel(workdir / "parallel", workdir / "results2", 2)
    else:
        submit = run_on_cluster(workdir / "parallel", workdir / "results2", "local", timeout_min=5)
    for paths in zip(serial, submit(jobs), strict=True):
        expected, actual = (json.loads(path.read_text()) for path in paths)
        assert expected["value"] == pytest.approx(actual["value"], abs=1e-4)
    assert not list(workdir.glob("parallel/**/report.html"))


def test_shipped_model_reproduces_record(workdir, capsys):
    shipped = ("--ship", "zoo")
    assert call("reproduce", "digits/vae", "--size", "smoke", *shipped) == 0
    folder = workdir / "zoo/digits-vae"
    assert {p.name for p in folder.iterdir()} == {
        "config.toml", "record.json", files.WEIGHTS, files.DESCRIPTION,
    }  # fmt: skip
    record = json.loads((folder / "record.json").read_text())
    original = workdir / "runs/reproduce/digits/vae/smoke-0/model" / files.WEIGHTS
    assert (folder / files.WEIGHTS).stat().st_size < 0.7 * original.stat().st_size
    capsys.readouterr()
    arguments = ("--n-importance-samples", 20, "--n-rows", 50, "--binarize-seed", "0,1")
    assert call("evaluate", folder, *arguments) == 0
    out = capsys.readouterr().out
    assert f"{record['evaluations'][1]['value']:.3f}" in out
    mean = float(out.split("mean over 2 binarisations: ")[1].split(",")[0])
    assert mean == pytest.approx(record["value"], abs=0.02)
    assert {p.name for p in folder.iterdir()} >= {"record.json"}
    assert not (folder / "metrics.json").exists()


def test_reuse_creates_run_folder_from_shipped_model_with_same_settings(workdir, capsys):
    head = workdir / "recipes/digits/table.toml"
    head.write_text(head.read_text().replace('"iwae"]', '"iwae", "imputation"]'))
    (workdir / "recipes/digits/imputation.toml").write_text(OF.split("[variants.wrong]")[0])
    imputation = ("reproduce", "digits/imputation-half", "--size", "smoke", "--reuse", "zoo")
    assert call("reproduce", "digits/vae", "--size", "smoke", "--ship", "zoo") == 0
    shutil.rmtree(workdir / "runs")
    capsys.readouterr()
    assert call(*imputation[:-1], "no-zoo") == 2
    assert "--reuse no-zoo" in capsys.readouterr().err
    assert call(*imputation) == 0
    out = capsys.readouterr().out
    assert "smoke-0: created from zoo/digits-vae" in out
    assert "training" not in out
    path = workdir / "results/digits/imputation-half/smoke-0.json"
    record = json.loads(path.read_text())
    assert [fit["shipped"] for fit in record["fits"]] == [True]
    shipped = workdir / "zoo/digits-vae/record.json"
    shipped.write_text(shipped.read_text().replace('"max_epochs": 2', '"max_epochs": 3'))
    shutil.rmtree(workdir / "runs")
    assert call(*imputation) == 0  # a model with other settings is not reused
    assert "training" in capsys.readouterr().out
    assert not any(fit["shipped"] for fit in json.loads(path.read_text())["fits"])


def use_error_rate(workdir):
    for name, old, new in [
        ("table", "n_rows = 50", 'metric = "error"'),
        ("vae", 'method = "vae"', 'method = "max-margin-vae"'),
    ]:
        path = workdir / f"recipes/digits/{name}.toml"
        path.write_text(path.read_text().replace(old, new))


def test_error_rate_recipe_matches_predictions_of_shipped_model(workdir, capsys):
    use_error_rate(workdir)
    assert call("reproduce", "digits/vae", "--size", "smoke", "--ship", "zoo") == 0
    assert "0 of 1,500 decisions" in capsys.readouterr().out
    record = json.loads((workdir / "results/digits/vae/smoke-0.json").read_text())
    model, digits = ancestral.load(workdir / "zoo/digits-vae"), ancestral.datasets.load("digits")
    wrong = model.predict(digits.x_test) != digits.y_test
    assert record["value"] == pytest.approx(100 * wrong.mean())
    assert record["evaluations"][0]["n_rows"] == len(wrong)
    assert call("evaluate", workdir / "zoo/digits-vae", "--metric", "error", "--out", "w.csv") == 0
    out = capsys.readouterr().out
    assert f"test error: {record['value']:.2f} +-" in out
    assert f"test error, %: {record['value']:.3f} +-" in out
    assert "log-likelihood" not in out
    assert np.loadtxt("w.csv", skiprows=1).sum() == wrong.sum()


def test_ship_tolerates_decision_changes_up_to_a_tenth_of_standard_error(workdir, monkeypatch):
    use_error_rate(workdir)
    assert call("reproduce", "digits/vae", "--size", "smoke") == 0
    path = workdir / "results/digits/vae/smoke-0.json"
    record = json.loads(path.read_text())
    load = registry.load

    class Rounded:  # changes 3 of 1,500 decisions
        def __init__(self, folder):
            self.original = load(folder)

        def predict(self, x):
            return np.where(np.arange(len(x)) < 3, -1, self.original.predict(x))

    monkeypatch.setattr(zoo, "registry", SimpleNamespace(load=Rounded))
    for error, accepted in [(1.9, False), (2.1, True)]:  # per cent; a tenth: 2.9 or 3.2 decisions
        path.write_text(json.dumps(record | {"standard_error": error}))
        if accepted:
            assert "3 of 1,500" in ship(Path(RUN).parent, path, workdir / "zoo/it")
        else:
            with pytest.raises(ValueError, match="change 3 of 1,500 decisions"):
                ship(Path(RUN).parent, path, workdir / "zoo/it")


RUN = "runs/reproduce/digits/vae/smoke-0/model"
OF = """
title = "VAE"
model_from = "digits/vae"
[variants.half]
published = 0.0123
protocol = { metric = "imputation_error", corruption = "half", n_iter = 2 }
[variants.wrong]
title = "VAE, a square of 4"
published = 3.5
[variants.wrong.protocol]
metric = "error"
corruption = "square:4"
n_iter = 2
linear_classifier = "liblinear"
[variants.error]
protocol = { metric = "error", corruption = "half", n_iter = 2 }
"""


def test_rows_with_of_score_the_model_of_another_row(workdir, capsys):
    (workdir / "recipes/digits/imputation.toml").write_text(OF)
    head, vae = (workdir / f"recipes/digits/{name}.toml" for name in ("table", "vae"))
    head.write_text(head.read_text().replace('"iwae"]', '"iwae", "imputation"]'))
    vae.write_text(vae.read_text().replace('method = "vae"', 'method = "max-margin-vae"'))
    half, wrong = (
        recipe_files.find_recipes(f"digits/imputation-{name}")[0] for name in ("half", "wrong")
    )
    assert (half.title, wrong.title) == ("VAE half", "VAE, a square of 4")
    rounds = schedule([job("imputation-half"), job("imputation-wrong"), job("vae")])
    assert [len(jobs) for jobs in rounds] == [1, 2]  # the first job trains the model of all three
    assert call("reproduce", "digits/imputation-half", "--size", "smoke") == 0
    assert call("reproduce", "digits/imputation-wrong", "--size", "smoke") == 0
    assert capsys.readouterr().out.count("training") == 2  # two stages, trained once
    records_ = [
        json.loads((workdir / f"results/digits/imputation-{name}/smoke-0.json").read_text())
        for name in ("half", "wrong")
    ]
    assert [r["fits"][0]["row"] for r in records_] == ["digits/vae"] * 2
    model, digits = ancestral.load(workdir / RUN), datasets.load("digits")
    rows = evaluation_settings.EvaluationSettings(split="test", n_rows=50)
    imputation = corruption.score_imputation(
        model, digits, corruption.Corruption("half"), corruption.ImputationSettings(2), rows
    )
    assert records_[0]["value"] == pytest.approx(imputation.metric["value"])
    assert "imputed rows, square 4, by LinearSVC" in records_[1]["metric"]
    lines = records.results_table((half, wrong), records_).splitlines()
    assert "0.0123" in lines[1]
    assert f"{records_[0]['value']:.4f}" in lines[1]
    assert f"{records_[1]['value'] - 3.5:+.2f}" in lines[2]
    assert call("reproduce", "digits/imputation-error", "--size", "smoke") == 0
    assert (
        len(list((workdir / RUN).parent.glob("imputations/*.npz"))) == 2
    )  # the left half is imputed once
    record = json.loads((workdir / "results/digits/imputation-error/smoke-0.json").read_text())
    assert record["evaluation_seconds"] >= records_[0]["evaluation_seconds"]


SAMPLES = {
    "table": """
title = "Samples"
source = "none"
rows = ["gmmn", "cgmmn", "coder", "half", "classifier"]
protocol = { metric = "mmd2", n_rows = 100 }
""",
    "gmmn": """
title = "GMMN"
method = "gmmn"
data = "digits"
published = 0.5
submodels = { autoencoder = "samples/coder" }
[also_score.parzen]
published = 20
protocol = { metric = "parzen" }
[also_score.rarest]
protocol = { metric = "rarest_class_frequency", classifier = "samples/classifier" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 1, hidden = [8], batch_size = 200 }
""",
    "cgmmn": """
title = "CGMMN"
method = "cgmmn"
data = "digits"
protocol = { metric = "class_consistency_error", classifier = "samples/classifier" }
[also_score.taught]
protocol = { metric = "train_on_generated_error", classifier = "samples/classifier" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 1, hidden = [8] }
""",
    "coder": """
title = "AutoencoderModel"
method = "autoencoder"
data = "digits"
protocol = { metric = "reconstruction" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 1, hidden = [8], n_latents = 4 }
""",
    "half": """
title = "Half"
method = "cgmmn-regressor"
data = "digits"
data_options = { halves = true }
protocol = { metric = "target_error" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 1, hidden = [8] }
""",
    "classifier": """
title = "Classifier"
method = "network-classifier"
data = "digits"
protocol = { metric = "error" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 3, hidden = [20], learning_rate = 1e-2 }
""",
}


def test_sample_metrics_with_classifier_and_parts_from_other_rows(workdir, monkeypatch, capsys):
    monkeypatch.setattr("ancestral.experiments.metrics.PARZEN_SAMPLES", 300)
    (workdir / "recipes/samples").mkdir()
    for name, text in SAMPLES.items():
        (workdir / f"recipes/samples/{name}.toml").write_text(text)
    jobs = [Job(row, "smoke", 0) for row in recipe_files.find_recipes("samples")]
    by_name = {j.recipe.row.removeprefix("samples/"): j for j in jobs}
    assert list(by_name) == [
        "gmmn",
        "gmmn-parzen",
        "gmmn-rarest",
        "cgmmn",
        "cgmmn-taught",
        "coder",
        "half",
        "classifier",
    ]
    assert by_name["gmmn-rarest"].recipe.title == "GMMN rarest"
    assert by_name["gmmn-rarest"].models() == [by_name[n] for n in ("classifier", "coder", "gmmn")]
    rounds = schedule(jobs)
    assert rounds[0] == [by_name["coder"], by_name["half"], by_name["classifier"]]
    assert rounds[1] == [by_name["gmmn"], by_name["cgmmn"]]
    assert call("reproduce", "samples", "--size", "smoke") == 0
    assert capsys.readouterr().out.count(": training") == 5
    results = {
        name: json.loads((workdir / f"results/samples/{name}/smoke-0.json").read_text())
        for name in by_name
    }
    assert [f["row"] for f in results["gmmn"]["fits"]] == ["samples/coder", "samples/gmmn"]
    assert "autoencoder" not in results["gmmn"]["fits"][1]["options"]
    window = results["gmmn-parzen"]["evaluations"][0]
    assert window["chosen_on"] == "halves of test"  # all other rows are training rows
    assert len(window["widths"]) == 2
    assert set(window["widths"]) <= set(PARZEN_BANDWIDTHS)
    shares = results["gmmn-rarest"]["evaluations"][0]["shares"]
    assert sum(shares) == pytest.approx(1)
    assert results["gmmn-rarest"]["value"] == pytest.approx(100 * min(shares))
    assert all(0 <= results[name]["value"] <= 100 for name in ("cgmmn", "cgmmn-taught"))
    assert results["gmmn"]["standard_error"] > 0
    for name in ("coder", "cgmmn", "half"):
        record = workdir / f"results/samples/{name}/smoke-0.json"
        change = ship(
            workdir / f"runs/reproduce/samples/{name}/smoke-0", record, workdir / "zoo" / name
        )
        assert "of their range (16 bits)" in change
    changes = ("--select", "--set", "autoencoder.n_latents=3")
    assert call("reproduce", "samples/gmmn", "--size", "smoke", *changes) == 0
    assert (workdir / "runs/reproduce/samples/coder/smoke-0-valid-n_latents=3/model").is_dir()


@pytest.mark.parametrize(
    ("split", "n_valid", "chosen_on", "n_widths"),
    [
        ("test", 100, "valid", 1),
        ("test", None, "halves of test", 2),
        ("valid", 100, "halves of valid", 2),
    ],
)
def test_parzen_width_does_not_depend_on_training_rows(
    monkeypatch, split, n_valid, chosen_on, n_widths
):
    monkeypatch.setattr("ancestral.experiments.metrics.PARZEN_SAMPLES", 300)
    data = datasets.load("digits", n_valid=n_valid)
    model = ancestral.GMMN(hidden=(8,), max_epochs=1, batch_size=300, random_state=0)
    model.fit(data.x_train)
    rows = evaluation_settings.EvaluationSettings(split=split)

    def window(dataset):
        fields = {"name": "", "folder": None, "protocol": recipes.Protocol(metric="parzen")}
        return evaluate_task(EvaluationTask(**fields, estimator=model, dataset=dataset, rows=rows))[
            0
        ]

    metric = window(data)
    assert metric["chosen_on"] == chosen_on
    assert metric["n_rows"] == len(rows.rows(data)[1])
    assert len(metric["widths"]) == n_widths
    other = window(replace(data, x_train=1 - data.x_train))
    assert {k: other[k] for k in ("widths", "value")} == {k: metric[k] for k in ("widths", "value")}


def test_ship_raises_for_model_above_size_limit(workdir, monkeypatch):
    path = run_job(job("vae"), workdir / "runs", workdir / "results")
    monkeypatch.setattr("ancestral.experiments.zoo.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="MB of weights"):
        ship(workdir / "runs/digits/vae/smoke-0", path, workdir / "zoo/x")
    assert not (workdir / "zoo/x").exists()


@pytest.mark.parametrize("bits", [12, 8])
def test_ship_quantizes_large_model_within_rounding_error(workdir, monkeypatch, bits):
    path = run_job(job("vae"), workdir / "runs", workdir / "results")
    folder = workdir / "runs/digits/vae/smoke-0"
    monkeypatch.setattr("ancestral.utils.quantization.MIN_QUANTIZED_SIZE", 100)
    ancestral.load(folder / "model").save(workdir / "larger", bits={12: 16, 8: 12}[bits])
    limit = (workdir / "larger" / files.WEIGHTS).stat().st_size
    monkeypatch.setattr("ancestral.experiments.zoo.MAX_BYTES", limit - 1)
    assert f"({bits} bits)" in ship(folder, path, workdir / "zoo/x")
    folders = workdir / "zoo/x", folder / "model"
    quantized, original = (ancestral.load(folder).model_.state_dict() for folder in folders)
    assert quantized.keys() == original.keys()
    for name, weight in original.items():
        step = weight.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
        integer, half = 0.51 * step, weight.abs() * 2**-11  # small matrices: half precision
        assert ((quantized[name] - weight).abs() <= integer.maximum(half)).all()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("vae", 'method = "vae"', "", "some of .*method.* are missing"),
        ("vae", "published = -20.0", "publised = -20.0", "publised.*did you mean 'published'"),
        ("vae", "-20.0", '"good"', "published='good': expected a number"),
        ("vae", "[sizes.smoke]", "[sizes.tiny]", "size 'tiny'"),
        ("vae", "n_valid = 300", "n_valid = -1", "n_valid=-1: expected a whole number"),
        ("vae", "[options]", "[options", "not valid TOML"),
        ("table", '"iwae"]', '"gan"]', "must name the files"),
        ("table", "n_rows = 50", "n_row = 50", "unknown key 'n_row'"),
        (
            "table",
            "n_rows = 50",
            'metric = "imputation_error"',
            "corruption is required for metric='imputation_error'",
        ),
        ("table", "n_rows = 50", 'corruption = "disc:3"', "expected square:SIDE"),
        (
            "table",
            "n_rows = 50",
            'metric = "class_consistency_error"',
            "a classifier is required for",
        ),
        ("table", "n_rows = 50", 'linear_classifier = "pegasos"', "requires metric='error'"),
        ("iwae", "[options]", 'model_from = "digits/va"\n[options]', "did you mean 'digits/vae'"),
    ],
)
def test_invalid_recipe_raises_with_file_and_key(workdir, file, old, new, message):
    path = workdir / f"recipes/digits/{file}.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"recipes/digits/.*{message}"):
        recipe_files.tables()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits/va"], "did you mean 'digits/vae'"),
        ([], "missing TARGET"),
        (["digits", "--size", "paper"], "has the sizes smoke"),
        (["digits", "--seeds", "0"], "--seeds 0"),
        (["digits/vae", "--size", "smoke", "--jobs", "0"], "--jobs 0"),
        (["digits", "--size", "smoke", "--select", "--set", "batch=9"], "no option 'batch'"),
        (["digits", "--size", "smoke", "--select", "--set", "batch_size=x"], "batch_size='x'"),
        (["digits", "--size", "smoke", "--select", "--set", "batch_size"], "expected NAME=VALUE"),
        (["digits", "--size", "smoke", "--select", "--set", "random_state=5"], "use --seed"),
        (["digits", "--size", "smoke", "--select", "--set", "log_path=a.csv"], "is set by the run"),
        (["digits", "--size", "smoke", "--seed", "-1"], "--seed -1"),
    ],
)
def test_invalid_reproduce_options_exit_with_2(workdir, capsys, arguments, message):
    assert call("reproduce", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (workdir / "runs").exists()


@pytest.mark.parametrize("row", ["gmmn", "gmmn-ae"])
def test_paper_size_of_gmmn_has_published_optimizer_schedule(row):
    """40,000 SGD steps: learning rate 2, momentum 0.9; after 10,000 steps 0.2 and 0.99."""
    config = recipe_files.find_recipes(f"mnist-samples/{row}")[0].config("paper", 0)
    estimator, n_rows = config.estimator(), 60_000 - config.data_options["n_valid"]
    steps_per_epoch = n_rows / estimator.batch_size
    n_steps = round(estimator.max_epochs * steps_per_epoch)
    assert abs(n_steps - 40_000) < steps_per_epoch
    optimizer = estimator._optimizer()
    assert "velocity" in optimizer.init(torch.zeros(1), [torch.Size([1])])
    for step in (0, 9_999):
        assert optimizer.rates(step, n_steps) == pytest.approx((2.0, 0.9))
    for step in (10_000 + steps_per_epoch, n_steps - 1):
        assert optimizer.rates(step, n_steps) == pytest.approx((0.2, 0.99))


@pytest.fixture
def results_page(monkeypatch):
    """Module that writes the results page."""
    monkeypatch.syspath_prepend(ROOT / "docs" / "scripts")
    return importlib.import_module("result_page")


def test_results_page_names_training_and_evaluation_machines(results_page):
    machines = importlib.import_module("result_tables").machines
    cpu, gpu = {"device": "CPU"}, {"device": "GPU"}
    machine = {"threads": 1, "processor": {"model": "CPU"}}
    records_ = [
        {"seed": 0, **machine, "versions": {}},  # an old record without devices
        {"seed": 1, **machine, **cpu, "versions": cpu},
        {"seed": 2, **machine, **gpu, "versions": gpu},
        {"seed": 3, **machine, **gpu, "versions": cpu},
    ]
    assert machines(records_[:2]) == "1 thread of CPU"
    assert machines(records_) == (
        "1 thread of CPU (seeds 0-1), GPU (seed 2), "
        "trained on 1 thread of CPU, evaluated on GPU (seed 3)"
    )


def test_results_page_and_readme_match_committed_records(results_page):
    """The output of `python docs/scripts/result_page.py` is committed."""
    all_records = records.read([ROOT / "results"])
    pages = results_page.results_page(all_records), results_page.trials_page(all_records)
    assert (ROOT / "docs/results.md").read_text() == pages[0]
    assert (ROOT / "docs/trials.md").read_text() == pages[1]
    assert results_page.readme_table(all_records) in (ROOT / "README.md").read_text()
    for record in all_records:
        table = record["row"].split("/")[0]
        trained = recipe_files.find_recipes(record["row"])[0].model_from is None
        if trained and record["split"] == "test" and record["size"] != "smoke":
            assert (ROOT / f"docs/images/curves-{table}.svg").is_file()


def test_committed_records_match_current_recipe_settings():
    """Including records of model selection with changed options."""
    for record in records.read([ROOT / "results"]):
        assert records.record_path(record, ROOT / "results").is_file()
        recipe, valid = recipe_files.find_recipes(record["row"])[0], record["split"] == "valid"
        changes = tuple(
            (k, tuple(v) if type(v) is list else v) for k, v in record["changes"].items()
        )
        job = Job(recipe, record["size"], record["seed"], valid, changes)
        for model in job.models():
            fits = [fit["options"] for fit in record["fits"] if fit["row"] == model.recipe.row]
            if fits:  # models created from shipped ones may have no fit in the record
                options = json.loads(json.dumps(model.config(Path("runs")).options))
                for name in ("verbose", *model.parts()):
                    options.pop(name, None)
                stage = model.stage if len(fits) > 1 else 0
                assert fits[stage] == options, records.record_path(record, ROOT)


@pytest.mark.parametrize("name", SHIPPED)
def test_committed_shipped_models_reproduce_records(name):
    """The first 300 test images, within three standard errors of the record of all images."""
    folder = ROOT / "zoo" / name
    record = json.loads((folder / files.RECORD).read_text())
    assert (folder / files.WEIGHTS).stat().st_size <= 3e6
    try:
        dataset = ancestral.datasets.load(record["data"], **record["data_options"])
    except ancestral.datasets.DataError as error:
        pytest.skip(f"data not available: {error}")
    if record["metric"] == ERROR:
        model, error, n = ancestral.load(folder), record["standard_error"], len(dataset.y_test)
        if isinstance(model, ancestral.ClassConditionalVAE):  # many samples per class and row
            error, n = 3 * error * (n / 500) ** 0.5, 500
        result = classification_errors(model.predict(dataset.x_test[:n]), dataset.y_test[:n])
        assert result.percent == pytest.approx(record["value"], abs=error)
        return
    classifier = recipe_files.find_recipes(record["row"])[0].protocol.classifier
    if classifier is not None:
        result = class_consistency_errors(
            ancestral.load(folder), ancestral.load(ROOT / "zoo" / zoo_name(classifier))
        )
        assert result.percent == pytest.approx(record["value"], abs=record["standard_error"])
        return
    model = ancestral.load(folder)
    if isinstance(model, LatentEstimator):
        result = model.log_likelihood(dataset.x_test[:300], 200)
        assert abs(result.mean - record["value"]) < 3 * result.standard_error
        return
    metrics = {
        "Autoencoder": scoring.score_reconstruction,
        "CGMMNRegressor": scoring.score_regression,
    }
    metric = metrics.get(type(model).__name__, scoring.score_sample_quality)
    result = metric(model, dataset, evaluation_settings.EvaluationSettings())
    assert result["value"] == pytest.approx(record["value"], abs=record["standard_error"])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_contain_no_absolute_paths(name):
    for file in ("model.json", "config.toml", files.RECORD):
        assert '"/' not in (ROOT / "zoo" / name / file).read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_generative_models_have_a_sample_image(name):
    method = json.loads((ROOT / "zoo" / name / "model.json").read_text())["method"]
    image = ROOT / "docs" / "images" / f"zoo-{name}.png"
    assert image.is_file() == hasattr(getattr(ancestral, method), "sample")


def test_all_shipped_recipes_have_valid_configurations():
    for table in recipe_files.tables().values():
        for recipe in table.rows:
            # SVHN is too large for a fast size; its subset has no published schedule
            missing = {"svhn-classes": {"fast"}, "svhn-part": {"paper"}}.get(table.name, set())
            assert set(recipe.sizes) == set(recipe_files.SIZES) - missing
            for size in recipe.sizes:
                final = Job(recipe, size, 0)
                jobs = [final, replace(final, select=True)]
                for job_ in [*jobs, *final.models()]:
                    job_.config(records.RESULTS).estimator()._check_fields()
