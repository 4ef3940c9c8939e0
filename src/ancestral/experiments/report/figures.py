"""Drawings as SVG in the colours of the page, and image grids as PNG."""

from __future__ import annotations

import base64
import colorsys
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from ancestral.experiments.report.context import ReportContext

# Placeholders for the colours of the page, which depend on light or dark mode: see
# `_apply_page_colours`.
INK, MUTED, RULE, PAPER, DATA, MODEL = (f"#01020{i}" for i in range(1, 7))

_PAGE_COLOURS = dict(
    zip(
        (INK, MUTED, RULE, PAPER, DATA, MODEL),
        ("--ink", "--muted", "--rule", "--paper", "--data", "--model"),
        strict=True,
    )
)

# Rasterised points and images have one colour, legible in light and dark mode.
DATA_PIXELS, MODEL_PIXELS, MISSING = "#7d8ba0", "#d9603b", (236, 122, 78)

CLASS_COLOURS = (
    *("#4e79a7", "#f28e2b", "#d6494f", "#4fa8a0", "#59a14f"),
    *("#d9b327", "#a2669a", "#f08fa0", "#8c6650", "#8f8b88"),
)

UNLABELLED = "#9a9a9a"

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.facecolor": "none",
    "figure.dpi": 144,  # resolution of rasterised parts
    "grid.color": RULE,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
}

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def draw_svg(key: str, width: float, height: float, paint: Callable[[Figure], Any]) -> str:
    """Draw a figure as SVG markup in the colours of the page.

    Parameters
    ----------
    key : str
        Salt of the identifiers in the markup, unique in the page.
    width, height : float
        Size in inches; 7.5 is the full width.
    paint : callable
        Function that draws into an empty figure.
    """
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if k.split(".")[0] in _FAMILIES}
    with mpl.rc_context({**defaults, **_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata=_NO_METADATA)  # savefig draws twice
    return _apply_page_colours(out.getvalue())


_FAMILIES = {
    *("axes", "figure", "font", "grid", "hist", "image", "legend", "lines", "mathtext", "patch"),
    *("path", "savefig", "scatter", "svg", "text", "xaxis", "xtick", "yaxis", "ytick"),
}


def _apply_page_colours(svg: str) -> str:
    """Convert a stand-alone SVG file to inline markup with the colour variables of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    head, body = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    for colour, variable in _PAGE_COLOURS.items():
        body = body.replace(colour, f"var({variable})")
    return f'<svg {view[0]} aria-hidden="true" focusable="false">{body}'


def class_colours(n: int) -> list[str]:
    """Return ``n`` distinct colours."""
    if n <= len(CLASS_COLOURS):
        return list(CLASS_COLOURS[:n])
    wheel = [(i / n, (0.42, 0.62)[i % 2], 0.55) for i in range(n)]
    rgb = [[round(255 * c) for c in colorsys.hls_to_rgb(*hls)] for hls in wheel]
    return ["#{:02x}{:02x}{:02x}".format(*c) for c in rgb]


def to_rgb(x: np.ndarray, shape: tuple[int, ...], value_range: tuple[float, float]) -> np.ndarray:
    """Convert rows to RGB images; missing pixels are orange.

    Parameters
    ----------
    x : array [n, d]
        Rows. Images of one or two channels become grey.
    shape : tuple of int
        Image shape of a row, (height, width) or (channels, height, width).
    value_range : (float, float)
        Values of black and white.

    Returns
    -------
    uint8 array [n, height, width, 3]
        Images.
    """
    low, high = value_range
    height, width = shape[-2:]
    planes = np.asarray(x, dtype=np.float64).reshape(len(x), -1, height, width)
    if planes.shape[1] != 3:
        planes = planes.mean(1, keepdims=True)
    missing = np.isnan(planes).any(1)
    scaled = np.nan_to_num((planes - low) / ((high - low) or 1.0)).clip(0, 1)
    rgb = np.repeat(scaled, 3 // scaled.shape[1], axis=1).transpose(0, 2, 3, 1)
    images = np.round(255 * rgb).astype(np.uint8)
    images[missing] = MISSING
    return images


def image_grid(images: np.ndarray, n_columns: int) -> str:
    """Arrange images [n, height, width, 3] in a grid; return a PNG file as a data URI."""
    png = image_grid_png(images, n_columns)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def image_grid_png(images: np.ndarray, n_columns: int) -> bytes:
    """Arrange images [n, height, width, 3] in a grid, one pixel apart; return a PNG file.

    Pixels are enlarged by an integer factor, to about twice the width of the page.
    """
    n, height, width, _ = images.shape
    n_rows = -(-n // n_columns)
    grid = np.zeros((n_rows * (height + 1) - 1, n_columns * (width + 1) - 1, 4), dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = (height + 1) * (i // n_columns), (width + 1) * (i % n_columns)
        grid[top : top + height, left : left + width] = np.dstack(
            [image, np.full((height, width), 255, dtype=np.uint8)]
        )
    factor = max(1, round(1300 / grid.shape[1]))
    enlarged = grid.repeat(factor, axis=0).repeat(factor, axis=1)
    out = io.BytesIO()
    Image.fromarray(enlarged).save(out, "PNG", optimize=True)
    return out.getvalue()


def image_row_grid(context: ReportContext, rows: np.ndarray, n_columns: int) -> str:
    """Arrange rows of an image data set in a grid; return a PNG file as a data URI."""
    return image_grid(to_rgb(rows, context.image_shape or (), context.pixel_range), n_columns)
