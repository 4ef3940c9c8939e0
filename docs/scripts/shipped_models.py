"""Section of docs/results.md on the trained models that are shipped with the sources."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from markdown_tables import collapsed, markdown_table

from ancestral.experiments import recipe_files
from ancestral.experiments.scoring import ERROR
from ancestral.experiments.zoo import zoo_name

ROOT = Path(__file__).resolve().parent.parent.parent
INTRODUCTION = """\
## Trained models

Weights are stored in half precision, large matrices in twelve or eight bits where the file would
exceed 3 MB. An evaluation takes minutes and prints each number beside that of the record. Rows that
score the model of another row, such as Parzen windows and imputation, use the shipped models with
`ancestral reproduce ROW --size fast --reuse zoo`.
"""
CAPTION = """\
Figures (`python docs/scripts/sample_figures.py`): samples; with latent variables, also test images
and their reconstructions, and test images with half of the pixels missing, their imputations and
the originals; of generators, samples of the same noise during training.
"""


def shipped_models_section() -> list[str]:
    """Section of the shipped models, with a figure of each that has one; empty without models."""
    paths = sorted((ROOT / "zoo").glob("*/record.json"))
    if not paths:
        return []
    heads = ["model", "row", "seed", "MB", "command"]
    images = [
        f"**{path.parent.name}**\n\n![Samples of {path.parent.name}](images/{image.name})\n"
        for path in paths
        if (image := ROOT / "docs" / "images" / f"zoo-{path.parent.name}.png").is_file()
    ]
    table = markdown_table(heads, map(_cells, paths))
    figures = collapsed("Samples of the shipped models", "\n".join(images))
    return [INTRODUCTION, table, CAPTION, figures]


def _cells(path: Path) -> list[str]:
    """Cells of one shipped model."""
    record, name = json.loads(path.read_text()), path.parent.name
    megabytes = (path.parent / "model.safetensors").stat().st_size / 1e6
    command = f"`ancestral evaluate zoo/{name}{_options(record)}`"
    return [name, record["row"], str(record["seed"]), f"{megabytes:.1f}", command]


def _options(record: dict[str, Any]) -> str:
    """Options of ``ancestral evaluate`` that reproduce the evaluation of a record."""
    classifier = recipe_files.find_recipes(record["row"])[0].protocol.classifier
    if classifier is not None:
        return f" --classifier zoo/{zoo_name(classifier)}"
    if record["metric"] == ERROR:
        return " --metric error"
    if not record["metric"].startswith("log-likelihood"):
        return ""
    n_samples = record["metric"].split("_")[1].split(",")[0]
    options = "" if n_samples == "5000" else f" --n-importance-samples {n_samples}"
    seeds = [evaluation["binarize_seed"] for evaluation in record["evaluations"]]
    return options + ("" if seeds == [None] else f" --binarize-seed {','.join(map(str, seeds))}")
