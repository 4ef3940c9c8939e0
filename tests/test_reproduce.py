"""Recipes, records, the runner that makes one of the other, and small models to ship."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ancestral
from ancestral import damage, datasets, protocol, recipes, records, scoring, storage, zoo
from ancestral.classification import ERROR
from ancestral.cli import main
from ancestral.density import LatentEstimator
from ancestral.errors import errors
from ancestral.kept import read_metrics
from ancestral.labelled import label_errors
from ancestral.likeness import PARZEN_WIDTHS
from ancestral.measures import Subject, measure
from ancestral.reproduce import Job, in_order, on_cluster, one_by_one, run, side_by_side
from ancestral.zoo import name_of, ship

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
start = "digits/vae"
options = { max_epochs = 1, n_importance_samples = 3 }
"""


@pytest.fixture
def place_with_pages(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    (folder / "digits").mkdir(parents=True)
    for name, text in {"table": HEAD, "vae": VAE, "iwae": IWAE}.items():
        (folder / f"digits/{name}.toml").write_text(text)
    monkeypatch.setattr(recipes, "folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place(place_with_pages, monkeypatch):
    """The same without report pages, which take longer than training: one test has them."""
    monkeypatch.setattr("ancestral.experiment.write_report", lambda *_: None)
    return place_with_pages


def job(row, seed=0, **more):
    (recipe,) = recipes.find(f"digits/{row}")
    return Job(recipe, "smoke", seed, **more)


def call(*arguments):
    return main([str(a) for a in arguments])


def test_a_row_is_fitted_in_stages_scored_and_recorded(place):
    path = run(job("iwae"), place / "runs", place / "results")
    assert path == place / "results/digits/iwae/smoke-0.json"
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

    model = ancestral.load(place / "runs/digits/iwae/smoke-0/model")
    x = ancestral.datasets.load("digits").x_test[:50]
    assert model.log_likelihood(x, 20, binarize_seed=1).mean == pytest.approx(values[1])


def test_a_change_is_of_all_fits_or_of_those_before_the_last(place):
    of_the_first, of_both = ("start.max_epochs", 5), ("batch_size", 100)
    options = [
        job("vae", changes=(of_the_first, of_both), stage=stage).config(place / "runs").options
        for stage in (0, 1)
    ]
    assert [(o["max_epochs"], o["batch_size"]) for o in options] == [(5, 100), (1, 100)]
    told = ("--size", "smoke", "--select", "--set", "start.max_epochs=3", "--set", "max_epochs=1")
    assert call("reproduce", "digits/vae", *told) == 0
    record = json.loads(next((place / "results/digits/vae").glob("*.json")).read_text())
    assert [fit["options"]["max_epochs"] for fit in record["fits"]] == [3, 1]


def test_what_is_done_is_not_done_again(place, monkeypatch, capsys):
    first = json.loads(run(job("vae"), place / "runs", place / "results").read_text())
    folder = place / "runs/digits/vae/smoke-0"
    n_metrics = len(read_metrics(folder))
    weights = (folder / "model" / storage.WEIGHTS).stat().st_mtime_ns
    again = json.loads(run(job("vae"), place / "runs", place / "results").read_text())
    assert (folder / "model" / storage.WEIGHTS).stat().st_mtime_ns == weights
    assert len(read_metrics(folder)) == n_metrics
    assert again == first


def test_a_run_of_other_settings_is_not_taken_for_this_one(place, capsys):
    arguments = ("reproduce", "digits/vae", "--size", "smoke")
    assert call(*arguments) == 0
    path = place / "recipes/digits/vae.toml"
    path.write_text(path.read_text().replace("hidden = [20]", "hidden = [21]"))
    recipes._tables.cache_clear()
    assert call(*arguments) == 2
    assert "other settings" in capsys.readouterr().err
    assert call(*arguments, "--runs", "others") == 0


def test_settings_are_chosen_without_the_test_rows(place, capsys):
    assert call("reproduce", "digits/vae", "--size", "smoke", "--select") == 0
    record = json.loads((place / "results/digits/vae/smoke-0-valid.json").read_text())
    assert record["split"] == "valid"
    assert {e["split"] for e in record["evaluations"]} == {"valid"}
    metrics = read_metrics(place / "runs/reproduce/digits/vae/smoke-0-valid")
    assert {m["split"] for m in metrics} == {"valid"}
    assert f"{record['value']:.2f}" in capsys.readouterr().out
    model = ancestral.load(place / "runs/reproduce/digits/vae/smoke-0-valid/model")
    digits = ancestral.datasets.load("digits", n_valid=300)
    assert len(digits.x_train) == 1200
    values = model.log_likelihood(digits.x_valid[:50], 20, binarize_seed=0).mean
    assert record["evaluations"][0]["value"] == pytest.approx(values)


def test_changes_are_tried_on_held_out_rows_only(place, capsys):
    arguments = ("reproduce", "digits/vae", "--size", "smoke", "--set", "batch_size=50")
    assert call(*arguments) == 2
    assert "give --select too" in capsys.readouterr().err
    assert call(*arguments, "--select", "--set", "hidden=[5]") == 0
    path = place / "results/digits/vae/smoke-0-valid-batch_size=50-hidden=[5].json"
    record = json.loads(path.read_text())
    assert record["changes"] == {"batch_size": 50, "hidden": [5]}
    assert [f["options"]["batch_size"] for f in record["fits"]] == [50, 50]
    (found,) = records.standings(recipes.find("digits"), [record], "valid")
    assert found.changes == ["batch_size=50", "hidden=[5]"]
    assert found.command.endswith("--seeds 1 --select --set batch_size=50 --set 'hidden=[5]'")
    other = records.Standing(found.recipe, found.size, [record | {"seed": 3}])
    assert "--seed 3 " in other.command
    both = records.Standing(found.recipe, found.size, [record, record | {"seed": 2}])
    assert "--seeds 3 " in both.command
    assert records.standings(recipes.find("digits"), [record]) == []


def test_changes_reach_the_run_that_another_starts_from(place, capsys):
    arguments = ("reproduce", "digits/iwae", "--size", "smoke", "--select")
    assert call(*arguments, "--set", "start.batch_size=50", "--set", "batch_size=60") == 0
    (path,) = (place / "results/digits/iwae").glob("*.json")
    record = json.loads(path.read_text())
    assert [f["options"].get("batch_size") for f in record["fits"]] == [50, 50, 60]
    assert (place / "runs/reproduce/digits/vae/smoke-0-valid-batch_size=50").is_dir()
    capsys.readouterr()
    assert call(*arguments, "--set", "start.start.start.batch_size=50") == 2
    assert "digits/vae has no other row as its start" in capsys.readouterr().err
    assert call(*arguments, "--set", "start.batchsize=50") == 2
    assert "batch_size" in capsys.readouterr().err


def test_run_folders_may_be_moved(place):
    arguments = ("reproduce", "digits/iwae", "--size", "smoke")
    assert call(*arguments, "--runs", "here") == 0
    (place / "here").rename(place / "there")
    assert call(*arguments, "--runs", place / "there") == 0


def test_the_list_shows_published_numbers_ours_and_the_gap(place, capsys):
    assert call("reproduce", "--list") == 0
    assert "ancestral reproduce digits/vae --size smoke" in capsys.readouterr().out
    assert call("reproduce", "digits/vae", "--size", "smoke", "--seeds", 2) == 0
    found = records.standings(recipes.find("digits"), records.read([place / "results"]))
    (vae,) = found
    values = [r["value"] for r in vae.records]
    assert vae.gap == pytest.approx(np.mean(values) + 20)
    assert vae.spread == pytest.approx(np.std(values, ddof=1))
    capsys.readouterr()
    assert call("reproduce", "--list") == 0
    out = capsys.readouterr().out
    assert f"{vae.value:.2f}" in out
    assert f"{vae.gap:+.2f}" in out
    assert "--seeds 2" in out


def test_a_row_that_was_never_published_has_no_gap(place_with_pages, capsys):
    place = place_with_pages
    path = place / "recipes/digits/vae.toml"
    path.write_text(path.read_text().replace("published = -20.0", ""))
    assert call("reproduce", "digits/vae", "--size", "smoke") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.split()[:3] == ["digits/vae", "smoke", "-"]
    (found,) = records.standings(recipes.find("digits"), records.read([place / "results"]))
    assert np.isnan(found.gap)
    record = json.loads((place / "results/digits/vae/smoke-0.json").read_text())
    assert record["published"] is None
    for stage in ("smoke-0-stage1", "smoke-0"):
        assert (place / f"runs/reproduce/digits/vae/{stage}/report.html").is_file()


def test_a_data_set_with_validation_rows_of_its_own(place, monkeypatch):
    path = place / "recipes/digits/vae.toml"
    path.write_text(path.read_text().replace("n_valid = 300", "n_valid = 0"))
    config = job("vae", select=True).config(place / "runs")
    assert "n_valid" not in config.data_options


def test_a_seed_may_be_a_split_of_the_data():
    for row in ("boston-housing/pbp", "boston-housing/pbp-density"):
        config = recipes.find(row)[0].config("fast", 7)
        assert config.data_options == {"split": 7}
        assert config.options["random_state"] == 7


def test_what_a_row_starts_from_comes_first(place):
    jobs = [job("iwae"), job("vae"), job("vae", seed=1)]
    assert in_order(jobs) == [[jobs[1], jobs[2]], [jobs[0]]]
    assert job("iwae").parts() == {"start": job("vae")}


@pytest.mark.filterwarnings("ignore:unclosed|subprocess:ResourceWarning")
@pytest.mark.parametrize("how", ["processes", "submitit"])
def test_runs_spread_over_processes_agree(place, how):
    jobs = [job("vae", select=True), job("vae", seed=1, select=True)]  # no pages there either
    alone = one_by_one(place / "runs", place / "results")(jobs)
    if how == "processes":
        submit = side_by_side(place / "far", place / "results2", 2)
    else:
        submit = on_cluster(place / "far", place / "results2", "local", timeout_min=5)
    for path, other in zip(alone, submit(jobs), strict=True):
        ours, theirs = json.loads(path.read_text()), json.loads(other.read_text())
        assert ours["value"] == pytest.approx(theirs["value"], abs=1e-4)
    assert not list(place.glob("far/**/report.html"))


def test_a_shipped_model_gives_its_numbers_again(place, capsys):
    shipped = ("--ship", "zoo")
    assert call("reproduce", "digits/vae", "--size", "smoke", *shipped) == 0
    folder = place / "zoo/digits-vae"
    assert {p.name for p in folder.iterdir()} == {
        "config.toml", "record.json", storage.WEIGHTS, storage.DESCRIPTION,
    }  # fmt: skip
    record = json.loads((folder / "record.json").read_text())
    whole = place / "runs/reproduce/digits/vae/smoke-0/model" / storage.WEIGHTS
    assert (folder / storage.WEIGHTS).stat().st_size < 0.7 * whole.stat().st_size
    capsys.readouterr()
    arguments = ("--n-importance-samples", 20, "--rows", 50, "--binarize-seed", "0,1")
    assert call("evaluate", folder, *arguments) == 0
    out = capsys.readouterr().out
    assert f"{record['evaluations'][1]['value']:.3f}" in out
    mean = float(out.split("mean over 2 binarisations: ")[1].split(",")[0])
    assert mean == pytest.approx(record["value"], abs=0.02)
    assert {p.name for p in folder.iterdir()} >= {"record.json"}
    assert not (folder / "metrics.json").exists()


def test_a_row_is_scored_with_the_shipped_model_of_another(place, capsys):
    head = place / "recipes/digits/table.toml"
    head.write_text(head.read_text().replace('"iwae"]', '"iwae", "repairs"]'))
    (place / "recipes/digits/repairs.toml").write_text(OF.split("[variants.wrong]")[0])
    repairs = ("reproduce", "digits/repairs-half", "--size", "smoke", "--reuse", "zoo")
    assert call("reproduce", "digits/vae", "--size", "smoke", "--ship", "zoo") == 0
    shutil.rmtree(place / "runs")
    capsys.readouterr()
    assert call(*repairs[:-1], "no-zoo") == 2
    assert "--reuse no-zoo" in capsys.readouterr().err
    assert call(*repairs) == 0
    out = capsys.readouterr().out
    assert "smoke-0: taken from zoo/digits-vae" in out
    assert "training" not in out
    path = place / "results/digits/repairs-half/smoke-0.json"
    found = json.loads(path.read_text())
    assert [fit["shipped"] for fit in found["fits"]] == [True]
    shipped = place / "zoo/digits-vae/record.json"
    shipped.write_text(shipped.read_text().replace('"max_epochs": 2', '"max_epochs": 3'))
    shutil.rmtree(place / "runs")
    assert call(*repairs) == 0  # a model of other settings is not taken
    assert "training" in capsys.readouterr().out
    assert not any(fit["shipped"] for fit in json.loads(path.read_text())["fits"])


def count_errors(place):
    for name, old, new in [
        ("table", "n_rows = 50", 'metric = "error"'),
        ("vae", 'method = "vae"', 'method = "max-margin-vae"'),
    ]:
        path = place / f"recipes/digits/{name}.toml"
        path.write_text(path.read_text().replace(old, new))


def test_a_row_that_counts_errors(place, capsys):
    count_errors(place)
    assert call("reproduce", "digits/vae", "--size", "smoke", "--ship", "zoo") == 0
    assert "0 of 1,500 decisions" in capsys.readouterr().out
    record = json.loads((place / "results/digits/vae/smoke-0.json").read_text())
    model, digits = ancestral.load(place / "zoo/digits-vae"), ancestral.datasets.load("digits")
    wrong = model.predict(digits.x_test) != digits.y_test
    assert record["value"] == pytest.approx(100 * wrong.mean())
    assert record["evaluations"][0]["n_rows"] == len(wrong)
    assert call("evaluate", place / "zoo/digits-vae", "--metric", "error", "--out", "w.csv") == 0
    out = capsys.readouterr().out
    assert f"test error: {record['value']:.2f} +-" in out
    assert f"test error, %: {record['value']:.3f} +-" in out
    assert "log-likelihood" not in out
    assert np.loadtxt("w.csv", skiprows=1).sum() == wrong.sum()


def test_rounding_may_change_as_many_decisions_as_the_recorded_error_hides(place, monkeypatch):
    count_errors(place)
    assert call("reproduce", "digits/vae", "--size", "smoke") == 0
    path = place / "results/digits/vae/smoke-0.json"
    record = json.loads(path.read_text())
    load = zoo.methods.load

    class Rounded:  # three decisions of 1,500 are others
        def __init__(self, folder):
            self.whole = load(folder)

        def predict(self, x):
            return np.where(np.arange(len(x)) < 3, -1, self.whole.predict(x))

    monkeypatch.setattr(zoo, "methods", SimpleNamespace(load=Rounded))
    for error, fits in [(1.9, False), (2.1, True)]:  # in per cent: a tenth is 2.9 or 3.2 decisions
        path.write_text(json.dumps(record | {"standard_error": error}))
        if fits:
            assert "3 of 1,500" in ship(Path(RUN).parent, path, place / "zoo/it")
        else:
            with pytest.raises(ValueError, match="change 3 of 1,500 decisions"):
                ship(Path(RUN).parent, path, place / "zoo/it")


RUN = "runs/reproduce/digits/vae/smoke-0/model"
OF = """
title = "VAE"
of = "digits/vae"
[variants.half]
published = 0.0123
protocol = { metric = "repair", damage = "half", n_iter = 2 }
[variants.wrong]
title = "VAE, a square of 4"
published = 3.5
protocol = { metric = "error", damage = "rect:4", n_iter = 2, second_stage = "liblinear" }
[variants.told]
protocol = { metric = "error", damage = "half", n_iter = 2 }
"""


def test_rows_that_score_the_model_of_another(place, capsys):
    (place / "recipes/digits/repairs.toml").write_text(OF)
    head, vae = (place / f"recipes/digits/{name}.toml" for name in ("table", "vae"))
    head.write_text(head.read_text().replace('"iwae"]', '"iwae", "repairs"]'))
    vae.write_text(vae.read_text().replace('method = "vae"', 'method = "max-margin-vae"'))
    half, wrong = (recipes.find(f"digits/repairs-{name}")[0] for name in ("half", "wrong"))
    assert (half.title, wrong.title) == ("VAE half", "VAE, a square of 4")
    rounds = in_order([job("repairs-half"), job("repairs-wrong"), job("vae")])
    assert [len(jobs) for jobs in rounds] == [1, 2]  # the first trains the model of all
    assert call("reproduce", "digits/repairs-half", "--size", "smoke") == 0
    assert call("reproduce", "digits/repairs-wrong", "--size", "smoke") == 0
    assert capsys.readouterr().out.count("training") == 2  # two stages, once
    records_ = [
        json.loads((place / f"results/digits/repairs-{name}/smoke-0.json").read_text())
        for name in ("half", "wrong")
    ]
    assert [r["fits"][0]["row"] for r in records_] == ["digits/vae"] * 2
    model, digits = ancestral.load(place / RUN), datasets.load("digits")
    rows = protocol.Scoring(split="test", n_rows=50)
    repaired = damage.repair(model, digits, damage.Damage("half"), damage.Repair(2), rows)
    assert records_[0]["value"] == pytest.approx(repaired.metric["value"])
    assert "refined rows, rect 4, by LinearSVC" in records_[1]["metric"]
    lines = records.standing_table((half, wrong), records_).splitlines()
    assert "0.0123" in lines[1]
    assert f"{records_[0]['value']:.4f}" in lines[1]
    assert f"{records_[1]['value'] - 3.5:+.2f}" in lines[2]
    assert call("reproduce", "digits/repairs-told", "--size", "smoke") == 0
    assert len(list((place / RUN).parent.glob("repairs/*.npz"))) == 2  # the half is filled in once
    told = json.loads((place / "results/digits/repairs-told/smoke-0.json").read_text())
    assert told["evaluation_seconds"] >= records_[0]["evaluation_seconds"]


SAMPLES = {
    "table": """
title = "Samples"
source = "none"
rows = ["gmmn", "cgmmn", "coder", "half", "judge"]
protocol = { metric = "resemblance", n_rows = 100 }
""",
    "gmmn": """
title = "GMMN"
method = "gmmn"
data = "digits"
published = 0.5
parts = { autoencoder = "samples/coder" }
[also.parzen]
published = 20
protocol = { metric = "parzen" }
[also.rarest]
protocol = { metric = "smallest_share", judge = "samples/judge" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 1, hidden = [8], batch_size = 200 }
""",
    "cgmmn": """
title = "CGMMN"
method = "cgmmn"
data = "digits"
protocol = { metric = "label_error", judge = "samples/judge" }
[also.taught]
protocol = { metric = "retrained_error", judge = "samples/judge" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 1, hidden = [8] }
""",
    "coder": """
title = "Coder"
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
    "judge": """
title = "Judge"
method = "network-classifier"
data = "digits"
protocol = { metric = "error" }
[sizes.smoke]
n_valid = 300
options = { max_epochs = 3, hidden = [20], learning_rate = 1e-2 }
""",
}


def test_samples_are_judged_and_parts_are_other_rows(place, monkeypatch, capsys):
    monkeypatch.setattr("ancestral.measures.PARZEN_SAMPLES", 300)
    (place / "recipes/samples").mkdir()
    for name, text in SAMPLES.items():
        (place / f"recipes/samples/{name}.toml").write_text(text)
    rows = [Job(row, "smoke", 0) for row in recipes.find("samples")]
    named = {j.recipe.row.removeprefix("samples/"): j for j in rows}
    assert list(named) == [
        "gmmn",
        "gmmn-parzen",
        "gmmn-rarest",
        "cgmmn",
        "cgmmn-taught",
        "coder",
        "half",
        "judge",
    ]
    assert named["gmmn-rarest"].recipe.title == "GMMN rarest"
    assert named["gmmn-rarest"].models() == [named[n] for n in ("judge", "coder", "gmmn")]
    rounds = in_order(rows)
    assert rounds[0] == [named["coder"], named["half"], named["judge"]]
    assert rounds[1] == [named["gmmn"], named["cgmmn"]]
    assert call("reproduce", "samples", "--size", "smoke") == 0
    assert capsys.readouterr().out.count(": training") == 5
    found = {
        name: json.loads((place / f"results/samples/{name}/smoke-0.json").read_text())
        for name in named
    }
    assert [f["row"] for f in found["gmmn"]["fits"]] == ["samples/coder", "samples/gmmn"]
    assert "autoencoder" not in found["gmmn"]["fits"][1]["options"]
    window = found["gmmn-parzen"]["evaluations"][0]
    assert window["chosen_on"] == "halves of test"  # all other rows were learnt from
    assert len(window["widths"]) == 2
    assert set(window["widths"]) <= set(PARZEN_WIDTHS)
    shares = found["gmmn-rarest"]["evaluations"][0]["shares"]
    assert sum(shares) == pytest.approx(1)
    assert found["gmmn-rarest"]["value"] == pytest.approx(100 * min(shares))
    assert all(0 <= found[name]["value"] <= 100 for name in ("cgmmn", "cgmmn-taught"))
    assert found["gmmn"]["standard_error"] > 0
    for name in ("coder", "cgmmn", "half"):
        record = place / f"results/samples/{name}/smoke-0.json"
        told = ship(place / f"runs/reproduce/samples/{name}/smoke-0", record, place / "zoo" / name)
        assert "of their range (16 bits)" in told
    changed = ("--select", "--set", "autoencoder.n_latents=3")
    assert call("reproduce", "samples/gmmn", "--size", "smoke", *changed) == 0
    assert (place / "runs/reproduce/samples/coder/smoke-0-valid-n_latents=3/model").is_dir()


@pytest.mark.parametrize(
    ("split", "n_valid", "chosen_on", "n_widths"),
    [
        ("test", 100, "valid", 1),
        ("test", None, "halves of test", 2),
        ("valid", 100, "halves of valid", 2),
    ],
)
def test_the_width_of_a_parzen_window_is_chosen_on_rows_that_nothing_was_learnt_from(
    monkeypatch, split, n_valid, chosen_on, n_widths
):
    monkeypatch.setattr("ancestral.measures.PARZEN_SAMPLES", 300)
    data = datasets.load("digits", n_valid=n_valid)
    model = ancestral.GMMN(hidden=(8,), max_epochs=1, batch_size=300, random_state=0)
    model.fit(data.x_train)
    rows = protocol.Scoring(split=split)

    def window(dataset):
        about = {"name": "", "folder": None, "protocol": recipes.Protocol(metric="parzen")}
        return measure(Subject(**about, estimator=model, dataset=dataset, rows=rows))[0]

    found = window(data)
    assert found["chosen_on"] == chosen_on
    assert found["n_rows"] == len(rows.rows(data)[1])
    assert len(found["widths"]) == n_widths
    other = window(replace(data, x_train=1 - data.x_train))
    assert {k: other[k] for k in ("widths", "value")} == {k: found[k] for k in ("widths", "value")}


def test_a_model_that_is_too_large_is_not_shipped(place, monkeypatch):
    path = run(job("vae"), place / "runs", place / "results")
    monkeypatch.setattr("ancestral.zoo.LARGEST", 1000)
    with pytest.raises(ValueError, match="MB of weights"):
        ship(place / "runs/digits/vae/smoke-0", path, place / "zoo/x")
    assert not (place / "zoo/x").exists()


@pytest.mark.parametrize("bits", [12, 8])
def test_a_large_model_is_shipped_in_few_bits(place, monkeypatch, bits):
    path = run(job("vae"), place / "runs", place / "results")
    folder = place / "runs/digits/vae/smoke-0"
    monkeypatch.setattr("ancestral.rounding.LARGE", 100)
    ancestral.load(folder / "model").save(place / "more", bits={12: 16, 8: 12}[bits])
    more = (place / "more" / storage.WEIGHTS).stat().st_size
    monkeypatch.setattr("ancestral.zoo.LARGEST", more - 1)
    assert f"({bits} bits)" in ship(folder, path, place / "zoo/x")
    folders = place / "zoo/x", folder / "model"
    ours, theirs = (ancestral.load(folder).model_.state_dict() for folder in folders)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        step = weight.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
        few, half = 0.51 * step, weight.abs() * 2**-11  # small matrices are in half precision
        assert ((ours[name] - weight).abs() <= few.maximum(half)).all()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("vae", 'method = "vae"', "", "some of .*method.* are missing"),
        ("vae", "published = -20.0", "publised = -20.0", "publised.*did you mean 'published'"),
        ("vae", "-20.0", '"good"', "published='good': expected a number"),
        ("vae", "[sizes.smoke]", "[sizes.tiny]", "size 'tiny'"),
        ("vae", "n_valid = 300", "n_valid = -1", "n_valid=-1: expected a whole number"),
        ("vae", "[options]", "[options", "not valid TOML"),
        ("table", '"iwae"]', '"gan"]', "should name the files"),
        ("table", "n_rows = 50", "n_row = 50", "unknown key 'n_row'"),
        ("table", "n_rows = 50", 'metric = "repair"', "repairs need a damage"),
        ("table", "n_rows = 50", 'damage = "disc:3"', "expected rect:SIDE"),
        ("table", "n_rows = 50", 'metric = "label_error"', "a judge classifies samples"),
        ("table", "n_rows = 50", 'second_stage = "pegasos"', "tells classes: metric='error'"),
        ("iwae", "[options]", 'of = "digits/va"\n[options]', "did you mean 'digits/vae'"),
    ],
)
def test_bad_recipes_are_named(place, file, old, new, message):
    path = place / f"recipes/digits/{file}.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"recipes/digits/.*{message}"):
        recipes.tables()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits/va"], "did you mean 'digits/vae'"),
        ([], "needs a TARGET"),
        (["digits", "--size", "paper"], "has the sizes smoke"),
        (["digits", "--seeds", "0"], "--seeds 0"),
        (["digits/vae", "--size", "smoke", "--jobs", "0"], "--jobs 0"),
        (["digits", "--size", "smoke", "--select", "--set", "batch=9"], "no option 'batch'"),
        (["digits", "--size", "smoke", "--select", "--set", "batch_size=x"], "batch_size='x'"),
        (["digits", "--size", "smoke", "--select", "--set", "batch_size"], "expected NAME=VALUE"),
        (["digits", "--size", "smoke", "--select", "--set", "random_state=5"], "goes by --seed"),
        (["digits", "--size", "smoke", "--select", "--set", "log=a.csv"], "is left to the run"),
        (["digits", "--size", "smoke", "--seed", "-1"], "--seed -1"),
    ],
)
def test_bad_requests_exit_with_2(place, capsys, arguments, message):
    assert call("reproduce", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (place / "runs").exists()


@pytest.mark.parametrize("row", ["gmmn", "gmmn-ae"])
def test_the_paper_size_of_moment_matching_has_the_published_optimiser(row):
    """40,000 steps of SGD at rate 2 and momentum 0.9; after 10,000 a tenth of it and 0.99."""
    config = recipes.find(f"mnist-samples/{row}")[0].config("paper", 0)
    made, n_rows = config.estimator(), 60_000 - config.data_options["n_valid"]
    an_epoch = n_rows / made.batch_size
    n_steps = round(made.max_epochs * an_epoch)
    assert abs(n_steps - 40_000) < an_epoch
    optimizer = made._optimizer()
    assert "velocity" in optimizer.init(torch.zeros(1), [torch.Size([1])])
    for step in (0, 9_999):
        assert optimizer.rates(step, n_steps) == pytest.approx((2.0, 0.9))
    for step in (10_000 + an_epoch, n_steps - 1):
        assert optimizer.rates(step, n_steps) == pytest.approx((0.2, 0.99))


@pytest.fixture
def results_page(monkeypatch):
    """The module that writes the page of results."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    spec = importlib.util.spec_from_file_location("results", ROOT / "docs/results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_trained_a_model_and_what_scored_it(results_page):
    own, gpu = {"device": "CPU"}, {"device": "GPU"}
    about = {"threads": 1, "processor": {"model": "CPU"}}
    made = [
        {"seed": 0, **about, "versions": {}},  # a record from before devices were told
        {"seed": 1, **about, **own, "versions": own},
        {"seed": 2, **about, **gpu, "versions": gpu},
        {"seed": 3, **about, **gpu, "versions": own},
    ]
    assert results_page.machines(made[:2]) == "1 thread of CPU"
    assert results_page.machines(made) == (
        "1 thread of CPU (seed 0 and 1), GPU (seed 2), "
        "trained by 1 thread of CPU, scored by GPU (seed 3)"
    )


def test_the_results_page_says_what_the_records_say(results_page):
    """`python docs/results.py` was run after the last record was committed."""
    module = results_page
    found = records.read([ROOT / "results"])
    assert (ROOT / "docs/results.md").read_text() == module.page(found)
    assert module.headlines(found) in (ROOT / "README.md").read_text()
    for record in found:
        table = record["row"].split("/")[0]
        trained = recipes.find(record["row"])[0].of is None
        if trained and record["split"] == "test" and record["size"] != "smoke":
            assert (ROOT / f"docs/images/curves-{table}.svg").is_file()


def test_records_were_made_by_the_settings_that_the_recipes_have_now():
    """Those of trials too: with what they changed, a command makes each of them again."""
    for record in records.read([ROOT / "results"]):
        assert records.path_of(record, ROOT / "results").is_file()
        recipe, valid = recipes.find(record["row"])[0], record["split"] == "valid"
        changes = tuple(
            (k, tuple(v) if type(v) is list else v) for k, v in record["changes"].items()
        )
        job = Job(recipe, record["size"], record["seed"], valid, changes)
        for model in job.models():
            made = [fit["options"] for fit in record["fits"] if fit["row"] == model.recipe.row]
            if made:  # what was taken from a shipped model may have left no fit
                options = json.loads(json.dumps(model.config(Path("runs")).options))
                for what in ("verbose", *model.parts()):
                    options.pop(what, None)
                stage = model.stage if len(made) > 1 else 0
                assert made[stage] == options, records.path_of(record, ROOT)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_give_their_numbers_again(name):
    """The first 300 test images, within three standard errors of the record of all of them."""
    folder = ROOT / "zoo" / name
    record = json.loads((folder / storage.RECORD).read_text())
    assert (folder / storage.WEIGHTS).stat().st_size <= 3e6
    try:
        dataset = ancestral.datasets.load(record["data"], **record["data_options"])
    except ancestral.datasets.DataError as error:
        pytest.skip(f"no data: {error}")
    if record["metric"] == ERROR:
        model, error, n = ancestral.load(folder), record["standard_error"], len(dataset.y_test)
        if isinstance(model, ancestral.ClassConditionalVAE):  # many draws for every class of a row
            error, n = 3 * error * (n / 500) ** 0.5, 500
        wrong = errors(model.predict(dataset.x_test[:n]), dataset.y_test[:n])
        assert wrong.percent == pytest.approx(record["value"], abs=error)
        return
    judge = recipes.find(record["row"])[0].protocol.judge
    if judge is not None:
        wrong = label_errors(ancestral.load(folder), ancestral.load(ROOT / "zoo" / name_of(judge)))
        assert wrong.percent == pytest.approx(record["value"], abs=record["standard_error"])
        return
    model = ancestral.load(folder)
    if isinstance(model, LatentEstimator):
        got = model.log_likelihood(dataset.x_test[:300], 200)
        assert abs(got.mean - record["value"]) < 3 * got.standard_error
        return
    again = {"Autoencoder": scoring.rebuild, "CGMMNRegressor": scoring.regress}
    got = again.get(type(model).__name__, scoring.resemble)(model, dataset, protocol.Scoring())
    assert got["value"] == pytest.approx(record["value"], abs=record["standard_error"])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_name_no_place_of_the_machine_that_trained_them(name):
    for file in ("model.json", "config.toml", storage.RECORD):
        assert '"/' not in (ROOT / "zoo" / name / file).read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_that_draw_rows_have_a_picture(name):
    method = json.loads((ROOT / "zoo" / name / "model.json").read_text())["method"]
    drawn = ROOT / "docs" / "images" / f"zoo-{name}.png"
    assert drawn.is_file() == hasattr(getattr(ancestral, method), "sample")


def test_every_recipe_that_comes_with_the_package_can_be_configured():
    for table in recipes.tables().values():
        for recipe in table.rows:
            # the whole of SVHN is too much for two cores, and its part has no published schedule
            lacking = {"svhn-classes": {"fast"}, "svhn-part": {"paper"}}.get(table.name, set())
            assert set(recipe.sizes) == set(recipes.SIZES) - lacking
            for size in recipe.sizes:
                final = Job(recipe, size, 0)
                jobs = [final, replace(final, select=True)]
                for each in [*jobs, *final.models()]:
                    each.config(records.RESULTS).estimator()._check_fields()
