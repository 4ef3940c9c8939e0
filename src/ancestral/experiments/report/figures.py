"""Pictures as text: figures in the colours of the page, and sheets of images."""

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

# Stand-ins for the colours of the page, which differ by day and by night: see `_themed`.
INK, MUTED, RULE, PAPER, DATA, MODEL = (f"#01020{i}" for i in range(1, 7))

_THEMED = dict(
    zip(
        (INK, MUTED, RULE, PAPER, DATA, MODEL),
        ("--ink", "--muted", "--rule", "--paper", "--data", "--model"),
        strict=True,
    )
)

# What is seen in pixels keeps one colour, legible by day and by night.
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
    "figure.dpi": 144,  # of what is drawn as pixels
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


def draw(key: str, width: float, height: float, paint: Callable[[Figure], Any]) -> str:
    """Draw a figure as SVG markup that takes its colours from the page.

    Parameters
    ----------
    key : str
        Distinguishes the marks of one figure from those of another on the same page.
    width, height : float
        In inches; 7.5 is the full width.
    paint : callable
        Draws into the empty figure it is given.
    """
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if k.split(".")[0] in _FAMILIES}
    with mpl.rc_context({**defaults, **_STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure)
        out = io.StringIO()
        FigureCanvasSVG(figure).print_svg(out, metadata=_NO_METADATA)  # savefig draws twice
    return _themed(out.getvalue())


_FAMILIES = {
    *("axes", "figure", "font", "grid", "hist", "image", "legend", "lines", "mathtext", "patch"),
    *("path", "savefig", "scatter", "svg", "text", "xaxis", "xtick", "yaxis", "ytick"),
}


def _themed(svg: str) -> str:
    """Cut a stand-alone SVG down to what a page takes in, with the colours of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    head, body = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    for colour, variable in _THEMED.items():
        body = body.replace(colour, f"var({variable})")
    return f'<svg {view[0]} aria-hidden="true" focusable="false">{body}'


def colours(n: int) -> list[str]:
    """Return colours to tell ``n`` classes apart."""
    if n <= len(CLASS_COLOURS):
        return list(CLASS_COLOURS[:n])
    wheel = [(i / n, (0.42, 0.62)[i % 2], 0.55) for i in range(n)]
    rgb = [[round(255 * c) for c in colorsys.hls_to_rgb(*hls)] for hls in wheel]
    return ["#{:02x}{:02x}{:02x}".format(*c) for c in rgb]


def tiles(x: np.ndarray, shape: tuple[int, ...], limits: tuple[float, float]) -> np.ndarray:
    """Turn rows [n, d] into pictures [n, height, width, 3] of bytes; what is missing stands out."""
    low, high = limits
    height, width = shape[-2:]
    planes = np.asarray(x, dtype=np.float64).reshape(len(x), -1, height, width)
    if planes.shape[1] != 3:
        planes = planes.mean(1, keepdims=True)
    missing = np.isnan(planes).any(1)
    scaled = np.nan_to_num((planes - low) / ((high - low) or 1.0)).clip(0, 1)
    pictures = np.repeat(scaled, 3 // scaled.shape[1], axis=1).transpose(0, 2, 3, 1)
    bytes_ = np.round(255 * pictures).astype(np.uint8)
    bytes_[missing] = MISSING
    return bytes_


def sheet(pictures: np.ndarray, n_columns: int) -> str:
    """Lay pictures [n, height, width, 3] out as :func:`sheet_png`, as a data URI."""
    png = sheet_png(pictures, n_columns)
    return "data:image/png;base64," + base64.b64encode(png).decode()


def sheet_png(pictures: np.ndarray, n_columns: int) -> bytes:
    """Lay pictures [n, height, width, 3] out row by row, a pixel apart, as a PNG file.

    Pixels are enlarged by a whole factor, to about twice the width of the page.
    """
    n, height, width, _ = pictures.shape
    n_rows = -(-n // n_columns)
    shape = (n_rows * (height + 1) - 1, n_columns * (width + 1) - 1, 4)
    page = np.zeros(shape, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (height + 1) * (number // n_columns), (width + 1) * (number % n_columns)
        page[top : top + height, left : left + width] = np.dstack(
            [picture, np.full((height, width), 255, dtype=np.uint8)]
        )
    factor = max(1, round(1300 / page.shape[1]))
    enlarged = page.repeat(factor, axis=0).repeat(factor, axis=1)
    out = io.BytesIO()
    Image.fromarray(enlarged).save(out, "PNG", optimize=True)
    return out.getvalue()
