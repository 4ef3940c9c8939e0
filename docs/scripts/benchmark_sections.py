"""What docs/results.md says beside the tables: pairs of models, bounds, steps, games, weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ancestral.experiments import recipe_files
from ancestral.experiments.scoring import ERROR
from ancestral.experiments.zoo import zoo_name

ROOT = Path(__file__).resolve().parent.parent
SOURCE, ZOO = ROOT / "results", ROOT / "zoo"
SEEN = (
    "Samples; where there are latent variables, also test images and their reconstructions, and "
    "others with half taken away, filled in, and as they were; of a generator, what the same noise "
    "became as training went on"
)


def sections() -> list[str]:
    """Return the parts of the page that there are records for."""
    recorded: dict[str, Callable[[dict[str, Any]], str]] = {
        "annealing": annealing,
        "ring": ring,
        "slots": slots,
        "resampling": resampling,
        "memory-step": memory_steps,
        "margin-step": margin_steps,
        "moments-step": moment_steps,
    }
    found = compared()
    for name, written in recorded.items():
        path = SOURCE / f"{name}.json"
        if path.is_file():
            found.append(written(json.loads(path.read_text())))
    return [*found, *shipped()]


def made(record: dict[str, Any], script: str) -> str:
    """Return how a record was made."""
    others = record.get("cores_used_by_others")
    beside = "" if others is None else f", {others:.1f} cores busy with other work"
    threads = f"{record['threads']} thread{'s' * (record['threads'] > 1)}"
    return (
        f"`python benchmarks/{script}.py`; {threads} of {record['processor']['model']}{beside}; "
        f"torch {record['versions']['torch']}; {record['date']}."
    )


def ring(r: dict[str, Any]) -> str:
    """Return how many modes a GAN covers."""
    games = r["games"]
    modes = ", ".join(str(game["modes"]) for game in games)
    within = sum(game["share_within"] for game in games) / len(games)
    return (
        "## A ring of eight Gaussians\n\n"
        f"Games of {len(games)} seeds cover {modes} of the eight modes; {within:.0%} of what is "
        "drawn lies within three standard deviations of one. A mode counts if one sample in a "
        f"hundred is that near. The rate and the length were found by looking at seeds 2, 4 and 6. "
        f"{made(r, 'ring')}\n\n"
        "![Samples of each game on the ring](images/ring.svg)\n"
    )


def slots(r: dict[str, Any]) -> str:
    """Return which classes ask for which slots of a memory, beside published ones."""
    first, *above = r["memories"]
    n = len(r["classes"])
    lines = [
        "## What the slots of a memory stand for\n",
        f"How the test images of a class share their attention among the {first['n_slots']} slots "
        f"next to the pixels of `{r['model']}`: the three largest averages of each class "
        f"(number of the slot), and those of Jun Zhu's lecture on these models (Tsinghua, 2017). "
        f"Evenly spread it would be "
        f"{1 / first['n_slots']:.3f}. The {n} classes have {first['favourites']} different "
        "favourites"
        + "".join(f", of the {m['n_slots']} slots above {m['favourites']}" for m in above)
        + "; those of the authors' model have nine in either memory.\n",
        "| | " + " | ".join(r["classes"]) + " |",
        "|" + " --- |" * (1 + n),
    ]
    for rank, sizes, which, theirs in zip(
        ("first", "second", "third"), first["largest"], first["slots"], r["published"], strict=True
    ):
        ours = " | ".join(f"{v:.2f} ({k})" for v, k in zip(sizes, which, strict=True))
        lines.append(f"| {rank} | {ours} |")
        lines.append(f"| lecture | {' | '.join(f'{v:.2f}' for v in theirs)} |")
    whole, *without = r["rebuilt"].items()
    lines.append(
        f"\nA pixel is rebuilt with a squared error of {whole[1]:.4f}; where a memory answers ones "
        "whatever it is asked, of "
        + ", ".join(f"{error:.4f} ({name})" for name, error in without)
        + f". `python benchmarks/slots.py`; {r['date']}.\n\n"
        "![Every slot as a picture, slots ordered by the class that asks most for them, and the "
        "share of its attention that a class gives to each](images/slots.png)\n"
    )
    return "\n".join(lines)


def memory_steps(r: dict[str, Any]) -> str:
    """Return what a memory costs."""
    lines = [
        "## What a memory costs\n",
        "Seconds of a training step over those of the same network without memory, in one run: by "
        "the medians of the rounds, and by their shortest, which a busy machine disturbs least.\n",
        "| importance samples | memory | memory and local error |",
        "|" + " --- |" * 3,
    ]
    least: dict[str, float] = {}
    for m in r["measurements"]:
        least[m["side"]] = min(m["seconds"], least.get(m["side"], math.inf))
    for k, ratios in r["ratios"].items():
        cells = []
        for name in ("memory", "memory and local error"):
            shortest = least[f"K = {k}, {name}"] / least[f"K = {k}, plain"]
            cells.append(f"{ratios[name]:.2f}, {shortest:.2f}")
        lines.append(f"| {k} | {' | '.join(cells)} |")
    return "\n".join([*lines, f"\n{made(r, 'memory')}\n"])


def resampling(r: dict[str, Any]) -> str:
    """Return what it costs and saves to differentiate a few of many samples."""
    config = r["config"]
    lines = [
        "## Differentiating a few of many samples\n",
        f"`zoo/{config['model']}` goes on with K = {config['k']}, for {r['n_passes']} passes over "
        f"{config['n_rows']:,} training images; all of the samples are differentiated, or a few "
        f"drawn by weight. Compared on {config['n_held_out']:,} training images that these "
        "passes do not see.\n",
        "| differentiated | seconds of a pass | log-likelihood less that of all |",
        "|" + " --- |" * 3,
        f"| all | {r['seconds_of_a_pass']:.1f} | |",
    ]
    for n, few in r["few"].items():
        gap = f"{few['difference']:+.3f} ± {few['difference_standard_error']:.3f}"
        lines.append(f"| {n} | {few['seconds_of_a_pass']:.1f} | {gap} |")
    return "\n".join([*lines, f"\n{made(r, 'resampling')}\n"])


def margin_steps(r: dict[str, Any]) -> str:
    """Return how fast CMMVA trains."""
    ratios, config = r["ratios"], r["config"]
    return (
        "## CMMVA beside a plain loop\n\n"
        f"The same network as one writes it down in PyTorch, in float32, takes "
        f"{ratios['ancestral']:.2f} times as long a step of {config['batch_size']} images as ours "
        f"by default, which on this processor has its products in {config['precision']}, and "
        f"{ratios['ancestral, float32']:.2f} times as long as ours in float32. "
        f"{made(r, 'margin')}\n"
    )


def moment_steps(r: dict[str, Any]) -> str:
    """Return how fast moments are matched."""
    large, ratios = r["large_samples"], r["ratios"]
    features, linear = large["random features"], large["linear time"]
    return (
        "## Moment matching beside plain loops\n\n"
        f"Written down from the formula, a step of GMMN takes {ratios['MMD']:.2f} times as long, a "
        f"step of CGMMN as a classifier {ratios['CMMD']:.2f} times. The squared MMD of two samples "
        f"of {large['rows']:,} rows, in truth {large['mmd2_exact']:.4f}, is "
        f"{features['mmd2']:.4f} by {large['frequencies']:,} random frequencies "
        f"({features['seconds']:.0f} s) and {linear['mmd2']:.4f} by pairs of neighbours "
        f"({linear['seconds']:.0f} s). {made(r, 'moments')}\n"
    )


def annealing(r: dict[str, Any]) -> str:
    """Return how far L_S is from log p(x)."""
    how, test, drawn = r["annealing"], r["test_rows"], r["drawn_rows"]
    rows = [
        (f"{r['n_rows']} test images, L_5000", test["importance"]),
        (f"{r['n_rows']} test images, annealed", test["annealed"]),
        (f"{r['n_rows']} images drawn by the model, from below", drawn["below"]),
        (f"{r['n_rows']} images drawn by the model, from above", drawn["above"]),
    ]
    lines = [
        "## How far the bounds are from log p(x)\n",
        f"`zoo/{r['model']}`, annealed over {how['n_steps']:,} distributions from the "
        f"{how['start']} with {how['n_chains']} chains of {how['n_leapfrog']} leapfrog steps "
        f"(`python benchmarks/annealing.py`, record `results/annealing.json`, {r['date']}).\n",
        "| images | estimate, nats | seconds |",
        "|" + " --- |" * 3,
        *(
            f"| {n} | {e['value']:.2f} ± {e['standard_error']:.2f} | {e['seconds']:.0f} |"
            for n, e in rows
        ),
        f"\nAnnealed less L_5000, image by image: {test['difference']:+.3f} ± "
        f"{test['standard_error']:.3f} nats. Above less below: {drawn['gap']:.3f} nats, between "
        "which the truth lies.\n",
    ]
    return "\n".join(lines)


def compared() -> list[str]:
    """Return the differences of models on the same rows, if some were recorded."""
    found = [json.loads(path.read_text()) for path in sorted(SOURCE.glob("compared/*.json"))]
    if not found:
        return []
    lines = [
        "## Models compared, image by image\n",
        "What is hard for both cancels, so the error is that of the difference: first less second, "
        "log-likelihoods in nats, errors in per cent.\n",
        "| first | second | rows | difference | |",
        "|" + " --- |" * 5,
    ]
    for pair in found:
        for d in pair["differences"]:
            names = [f"`{_row(pair[k])}`" for k in ("first", "second")]
            bits = "" if d["binarize_seed"] is None else f", bits of seed {d['binarize_seed']}"
            lines.append(
                f"| {names[0]} | {names[1]} | {d['n_rows']:,} {d['split']}{bits} | "
                f"{d['difference']:+.2f} ± {d['standard_error']:.2f} | {_verdict(d)} |"
            )
    return ["\n".join(lines) + "\n"]


def _verdict(d: dict[str, Any]) -> str:
    """Say on how many rows the first is better, or what McNemar's test says."""
    if d["metric"] != ERROR:
        return f"better on {d['share_better']:.0%}"
    alone = " and ".join(map(str, d["wrong_alone"]))
    return f"wrong alone on {alone}, p = {d['p_value']:.2g}"


def _row(run: str) -> str:
    """Return the row and the run of a run folder, or the name of a shipped model."""
    parts = Path(run).parts
    return "/".join(parts[-3:] if parts[0] != "zoo" else parts)


def shipped() -> list[str]:
    """Return the trained models that come with the sources."""
    models = sorted(ZOO.glob("*/record.json"))
    if not models:
        return []
    lines = [
        "## Trained models\n",
        "Weights in half precision, large matrices in twelve or eight bits where that takes more "
        "than 3 MB; an evaluation takes minutes and says beside each number what the record "
        "says. Rows that score the model of another row, as Parzen windows and repairs, are run on "
        "shipped models by `ancestral reproduce ROW --size fast --reuse zoo`.\n",
        "| model | row | seed | MB | again |",
        "|" + " --- |" * 5,
    ]
    for path in models:
        record, name = json.loads(path.read_text()), path.parent.name
        size = (path.parent / "model.safetensors").stat().st_size / 1e6
        command = f"`ancestral evaluate zoo/{name}{_how(record)}`"
        lines.append(f"| {name} | {record['row']} | {record['seed']} | {size:.1f} | {command} |")
    drawn = [path.parent.name for path in models if picture(path.parent.name).is_file()]
    pictures = [
        f"**{name}**\n\n![Samples of {name}](images/{picture(name).name})\n" for name in drawn
    ]
    return ["\n".join(lines) + "\n", f"{SEEN} (`python docs/pictures.py`):\n", *pictures]


def _how(record: dict[str, Any]) -> str:
    """Return the options by which a model is evaluated again as its record says."""
    again = record["evaluations"]
    judge = recipe_files.find_recipes(record["row"])[0].protocol.judge
    if judge is not None:
        return f" --classifier zoo/{zoo_name(judge)}"
    if record["metric"] == ERROR:
        return " --metric error"
    if not record["metric"].startswith("log-likelihood"):
        return ""
    n, seeds = record["metric"].split("_")[1].split(",")[0], [e["binarize_seed"] for e in again]
    words = "" if n == "5000" else f" --n-importance-samples {n}"
    return words if seeds == [None] else f"{words} --binarize-seed {','.join(map(str, seeds))}"


def picture(model: str) -> Path:
    """Return where the picture of a shipped model is."""
    return ROOT / "docs" / "images" / f"zoo-{model}.png"
