"""Tests of the report: correct numbers, no external resources, well-formed HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest
import torch

from ancestral import datasets
from ancestral.datasets import Dataset
from ancestral.estimators.vae import IWAE, VAE
from ancestral.experiments import report
from ancestral.experiments.report import images, imputation, latent_space, tabular
from ancestral.experiments.report.context import make_context
from ancestral.experiments.report.elements import (
    format_count,
    format_number,
    format_significant,
    join_words,
)
from ancestral.experiments.report.figures import MISSING, class_colours, image_grid, to_rgb
from ancestral.utils import serialization

VOID = {"meta", "link", "img", "br", "hr"}
KEYS = ["likelihood", "learning", "samples", "reconstructions", "latents", "imputation", "details"]
TITLE = '<script>alert("x")</script>'
MIXED = ("gaussian", "poisson", "categorical", "bernoulli")


class Reader(HTMLParser):
    """HTML parser that collects tags and text, and checks that tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        return [a[name] or "" for t, a in self.tags if t == tag and name in a]


def digits(n: int = 120) -> Dataset:
    whole = datasets.load("digits")
    return Dataset(
        name="digits",
        x_train=whole.x_train[:300],
        y_train=whole.y_train[:300],
        x_test=whole.x_test[:n],
        y_test=whole.y_test[:n],
        image_shape=whole.image_shape,
        class_names=whole.class_names,
        licence="CC BY 4.0",
        note="A part of the digits.",
    )


def mixed(n: int = 200) -> Dataset:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 3, 2 * n)
    code[:3] = 0, 1, 2
    x = np.stack(
        [50 + 9 * code + rng.normal(size=2 * n), rng.poisson(1 + 3 * code), code, code > 1], axis=1
    ).astype(float)
    gaps = rng.random(x.shape) < 0.1
    gaps[:3] = False
    x[gaps] = np.nan
    names = ("weight <kg>", "visits $x^{$", "region & co", "owner")
    return Dataset(name="mixed", x_train=x[:n], x_test=x[n:], feature_names=names)


def fit(data: Dataset, cls: type = VAE, **params) -> VAE:
    chosen = {"n_latents": 3, "hidden": (16,), "max_epochs": 3, "random_state": 0} | params
    return cls(**chosen).fit(data.x_train)


@pytest.fixture(scope="module")
def digits_page():
    data = digits()
    vae = fit(data, validation_fraction=0.2)
    evaluation = vae.log_likelihood(data.x_test, 20)
    html = report.render_page(
        vae, data, title="Digits", evaluation=evaluation, command="make it again"
    )
    return vae, data, evaluation, html


@pytest.fixture(scope="module")
def mixed_page(tmp_path_factory):
    data = mixed()
    vae = fit(data, likelihood=MIXED)
    path = tmp_path_factory.mktemp("report") / "pages" / "mixed.html"
    report.write_page(path, vae, data, title=TITLE, command="a <b> && c")
    return vae, data, path, path.read_text(encoding="utf-8")


def headline(html: str) -> dict[str, float]:
    """Unrounded numbers of the headline by label."""
    found = re.findall(r'<dt>([^<]*)</dt>\s*<dd><data class="value" value="([^"]*)">', html)
    return {label: float(value) for label, value in found}


# ---- the page


def test_headline_shows_the_numbers_of_the_evaluation(digits_page):
    _, data, evaluation, html = digits_page
    shown = headline(html)
    assert shown["test log-likelihood"] == evaluation.mean
    bits = -evaluation.values.mean() / 64 / np.log(2)
    np.testing.assert_allclose(shown["bits per dimension"], bits, rtol=1e-12)
    assert shown["importance samples"] == 20
    assert shown["effective sample size"] == np.median(evaluation.effective_sample_sizes)
    assert shown["rows"] == len(data.x_test)
    text = Reader(html).text
    assert format_number(evaluation.mean) in text
    assert f"± {evaluation.standard_error:.2f} nats" in text


def test_sections_charts_and_details(digits_page):
    vae, data, _, html = digits_page
    reader = Reader(html)
    assert reader.attributes("section", "id") == KEYS
    pictures = reader.attributes("img", "src")
    # two grids of samples, reconstructions and three corruptions
    assert len(pictures) == 6
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    assert len(reader.attributes("svg", "viewbox")) == 4  # likelihood, loss, terms, latents
    drawings = [a for t, a in reader.tags if a.get("role") == "img"]
    assert all(a["aria-label"] for a in drawings)
    assert all(len(alt) > 20 for alt in reader.attributes("img", "alt"))
    for name, value in [*serialization.versions().items(), ("note", data.note), ("hidden", "16")]:
        assert f"<dt>{name}</dt><dd>{value}</dd>" in html
    assert "make it again" in reader.text
    assert f"{vae.history_[-1]['seconds']:.1f} s" in reader.text


def test_no_external_resources(digits_page, mixed_page):
    for html in (digits_page[-1], mixed_page[-1]):
        reader = Reader(html)
        assert not [tag for tag, _ in reader.tags if tag in ("script", "iframe", "object", "embed")]
        wanted = [
            value or ""
            for _, attrs in reader.tags
            for name, value in attrs.items()
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
        ]
        assert wanted
        assert all(value.startswith(("data:", "#")) for value in wanted)
        assert "@import" not in html
        assert all(url.startswith("#") for url in re.findall(r"url\(([^)]*)\)", html))
        assert "http" not in html


def test_ids_are_unique_and_links_resolve(digits_page):
    reader = Reader(digits_page[-1])
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"][1:] for _, a in reader.tags if (a.get("href") or "").startswith("#")]
    assert set(links) <= set(ids)


def test_drawings_use_page_colours(digits_page):
    html = digits_page[-1]
    assert "prefers-color-scheme: dark" in html
    assert "#01020" not in html
    assert "var(--model)" in html


def test_same_seed_gives_same_samples(digits_page):
    vae, data, _, html = digits_page
    sheets = [
        images.samples_section(make_context(vae, data, seed)).charts[0].png for seed in (0, 0, 1)
    ]
    assert sheets[0] == sheets[1] != sheets[2]
    assert sheets[0] in html


def test_text_is_escaped(mixed_page):
    html = mixed_page[-1]
    reader = Reader(html)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert TITLE in reader.text
    assert "a <b> && c" in reader.text
    assert "weight <kg>" in reader.text  # in the drawing and in the table
    assert "<kg>" not in html


def test_mixed_table_with_missing_values(mixed_page):
    html = mixed_page[-1]
    reader = Reader(html)
    assert reader.attributes("section", "id") == KEYS
    assert reader.attributes("img", "src") == []
    assert "quick estimate" in reader.text
    assert "error rate" in reader.text
    assert "bits per dimension" not in headline(html)


def test_two_latents_have_decoded_grid_and_global_state_is_unchanged():
    x = np.random.default_rng(0).random((60, 30)) < 0.3
    data = Dataset(name="bits", x_train=x, x_test=x[:30], image_shape=(6, 5))
    vae = fit(data, n_latents=2)
    settings = dict(mpl.rcParams)
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    html = report.render_page(vae, data, title="Two")
    assert dict(mpl.rcParams) == settings
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    reader = Reader(html)
    assert len(reader.attributes("img", "src")) == 7
    assert "The axes are the two latent variables." in reader.text


# ---- unusual data


def test_no_test_split_one_latent_one_column_and_user_rcparams():
    x = np.random.default_rng(0).normal(3, 2, (60, 1))
    data = Dataset(name="line", x_train=x)
    vae = fit(data, n_latents=1)
    html = report.render_page(vae, data, title="Line")
    reader = Reader(html)
    assert "no test split" in reader.text
    assert "training log-likelihood" in reader.text
    assert "imputation requires at least two" in reader.text
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "text.usetex": True}):
        assert report.render_page(vae, data, title="Line") == html


def test_gaussian_pixels_with_missing_values_targets_and_layers():
    rng = np.random.default_rng(0)
    x = rng.normal(100, 30, (80, 20))
    x[rng.random(x.shape) < 0.1] = np.nan
    data = Dataset(name="scans", x_train=x, x_test=x[:40], y_test=x[:40, 0] * 0 + rng.random(40),
                   image_shape=(4, 5))  # fmt: skip
    vae = fit(data, cls=IWAE, n_latents=(3, 2), likelihood="gaussian")
    context = make_context(vae, data, 0)
    assert context.pixel_range == (np.nanmin(x[:40]), np.nanmax(x[:40]))
    reader = Reader(report.render_page(vae, data, title="Scans"))
    assert "coloured by target" in str(reader.tags)
    assert "with 3 + 2 latent variables" in reader.text


def test_colour_bytes_many_classes_and_unlabelled_rows():
    x = np.random.default_rng(0).integers(0, 256, (120, 48)).astype(np.uint8)
    letters = tuple("abcdefghijklmnopqrstuvwxyz")
    data = Dataset(name="letters", x_train=x, x_test=x, y_test=np.arange(120) % 27 - 1,
                   image_shape=(3, 4, 4), class_names=letters)  # fmt: skip
    vae = fit(data)
    assert make_context(vae, data, 0).x.max() == 1
    reader = Reader(report.render_page(vae, data, title="Letters"))
    assert len(reader.attributes("img", "src")) == 6
    assert "embedded by t-SNE" in reader.text
    assert "unlabelled" in reader.text


def test_data_set_with_other_features_raises(mixed_page):
    with pytest.raises(ValueError, match="64 features, but the estimator was fitted on 4"):
        report.render_page(mixed_page[0], digits(), title="Wrong")


def test_write_page_leaves_no_temporary_file(mixed_page):
    path = mixed_page[2]
    assert [p.name for p in path.parent.iterdir()] == ["mixed.html"]


# ---- the numbers on it


def test_table_imputation_errors_match_manual_values(mixed_page):
    vae, data = mixed_page[:2]
    context = make_context(vae, data, 0)
    table = imputation.section(context).table
    from ancestral.data.preprocessing import corrupt

    corrupted = corrupt(data.x_test, "random", 0.2, seed=0)
    removed = np.isnan(corrupted) & ~np.isnan(data.x_test)
    imputed = vae.impute(corrupted, n_iter=20, random_state=0)
    true, guess, train = (
        data.x_test[removed[:, 0], 0],
        imputed[removed[:, 0], 0],
        data.x_train[:, 0],
    )
    model_error = np.mean((true - guess) ** 2) / np.nanvar(train)
    baseline = np.mean((true - np.nanmean(train)) ** 2) / np.nanvar(train)
    assert table.rows[0] == (
        "weight <kg>", "squared error / variance", f"{model_error:.2f}", f"{baseline:.2f}"
    )  # fmt: skip
    wrong = np.mean(data.x_test[removed[:, 2], 2] != imputed[removed[:, 2], 2])
    assert table.rows[2][1:3] == ("error rate", f"{wrong:.2f}")


def test_image_imputation_errors_match_manual_values(digits_page):
    vae, data, _, _ = digits_page
    context = make_context(vae, data, 0)
    table = images.imputation_section(context).table
    half = data.x_test.copy().reshape(-1, 8, 8)
    half[:, :, :4] = np.nan
    half = half.reshape(-1, 64)
    mask = np.isnan(half)
    imputations = [images.impute(context, half, number) for number in range(4)]
    one, several = (
        np.mean((r - data.x_test)[mask] ** 2) for r in (imputations[0], sum(imputations) / 4)
    )
    assert np.array_equal(imputations[1][~mask], data.x_test[~mask])
    assert not np.array_equal(imputations[0], imputations[1])
    baseline = np.mean((data.x_train.mean(0) - data.x_test)[mask] ** 2)
    assert table.rows[1] == (
        "the left half",
        "50%",
        *map(format_significant, (one, several, baseline)),
    )


def test_corruption_masks_cover_all_channels():
    for mask in images.corruption_masks(5, (3, 14, 14), seed=0).values():
        planes = mask.reshape(5, 3, 14, 14)
        assert (planes == planes[:, :1]).all()
    square = next(iter(images.corruption_masks(1, (14, 14), seed=0).values())).reshape(14, 14)
    assert square.sum() == 36
    assert square[4:10, 4:10].all()


def test_pairs_are_the_most_correlated_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4))
    x[:, 3] = -x[:, 1] + 0.1 * rng.normal(size=500)
    x[::7, 0] = np.nan
    assert tabular._correlated_pairs(x)[0] == (1, 3)


def test_principal_components_have_explained_variance():
    data = digits()
    unlabelled = Dataset(name="d", x_train=data.x_train, x_test=data.x_test)
    found = latent_space.project(make_context(fit(data), unlabelled, 0))
    spread = np.linalg.svd(found.points - found.points.mean(0), compute_uv=False) ** 2
    z = fit(data).transform(data.x_test).astype(float)
    whole = np.square(z - z.mean(0)).sum()
    assert f"{spread.sum() / whole:.0%} of the variance" in found.method


def test_to_rgb_and_image_grid():
    grey = to_rgb(np.array([[0.0, 5.0, 10.0, np.nan]]), (2, 2), (0.0, 10.0))
    assert grey[0, :, :, 0].tolist() == [[0, 128], [255, MISSING[0]]]
    assert tuple(grey[0, 1, 1]) == MISSING
    colour = to_rgb(np.array([[1.0, 0.5, 0.0]]), (3, 1, 1), (0.0, 1.0))
    assert colour[0, 0, 0].tolist() == [255, 128, 0]
    assert image_grid(grey.repeat(3, 0), 2).startswith("data:image/png;base64,iVBOR")


def test_colours_are_distinct():
    for n in (1, 10, 26, 40):
        assert len(set(class_colours(n))) == n


def test_formats_of_numbers_and_words():
    assert format_number(float("-inf")) == "\N{MINUS SIGN}\N{INFINITY}"
    assert format_significant(0.0) == "0"
    assert format_significant(-0.0001234) == "\N{MINUS SIGN}0.000123"
    assert format_count(2, "branch", "branches") == "2 branches"
    assert join_words(["a"]) == "a"
    assert join_words([]) == ""
