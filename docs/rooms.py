"""Draw the house: every module a room, from the ground up, with what it imports.

Run it:  python docs/rooms.py     (writes docs/rooms.svg from the code's own imports)
"""

import ast
from pathlib import Path

from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent / "src" / "ancestral"
FLOORS = [
    ("what a user touches", "cli commands demo"),
    ("published numbers", "reproduce zoo measures records recipes"),
    ("run folders and their pages", "experiment report judging damage"),
    ("scores", "kept scoring classification protocol"),
    ("systems", "methods density rows gradients estimator saving descent labelled labels"),
    ("what is done with a model", "slots told ais divergence likeness errors evaluate impute"),
    ("learning", "callbacks train engine optim objectives discrepancy kernels"),
    (
        "models",
        "observed assumed exact components models classes conditional distributions bits networks",
    ),
    ("data", "tables preprocess datasets contrast data batching"),
    ("files and fields", "parallel checkpoint storage rounding provenance docstrings fields"),
]
"""Every room, from the top down; on one floor each stands beside those it imports from."""

INK, PAPER, LINE = "#22303c", "#f4efe6", "#b5652a"


def imports(room: str) -> set[str]:
    path = ROOT / room
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ancestral"):
                parts = (node.module or "").split(".")
                found |= {parts[1]} if len(parts) > 1 else {a.name for a in node.names}
    return found - {room}


def purpose(room: str) -> str:
    path = ROOT / room
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    line = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]
    return line.rstrip(".")


def draw() -> Figure:
    figure = Figure(figsize=(13, 1.55 * len(FLOORS)), facecolor=PAPER)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.axis("off")
    axes.set(xlim=(0, 13), ylim=(-0.2, len(FLOORS) * 1.55))
    places = {}
    for level, (title, names) in enumerate(reversed(FLOORS)):
        rooms = names.split()
        y = level * 1.55
        axes.text(0.1, y + 1.22, title, color=LINE, fontsize=10, style="italic")
        width = 12.6 / len(rooms)
        for column, room in enumerate(reversed(rooms)):
            x = 0.1 + column * width
            box = axes.bar(x, 0.85, width - 0.35, y + 0.25, align="edge")
            box[0].set(facecolor="white", edgecolor=INK, linewidth=1.2, zorder=2)
            places[room] = (x + (width - 0.35) / 2, y + 0.25)
            axes.text(x + 0.1, y + 0.86, room, color=INK, fontsize=11, weight="bold", zorder=3)
            axes.text(x + 0.1, y + 0.74, wrap(purpose(room), int(width * 11.5)), color=INK,
                      fontsize=6.5, va="top", zorder=3)  # fmt: skip
    for room, (x, y) in places.items():
        for below in sorted(imports(room) & places.keys()):
            to = (places[below][0], places[below][1] + 0.85)
            if to[1] < y:  # rooms of one floor stand side by side
                axes.annotate("", to, (x, y), arrowprops={
                    "arrowstyle": "-|>", "color": LINE, "alpha": 0.28, "linewidth": 0.8,
                    "connectionstyle": "arc3,rad=0.06"}, zorder=1)  # fmt: skip
    return figure


def wrap(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width)[:4])


if __name__ == "__main__":
    target = Path(__file__).with_name("rooms.svg")
    draw().savefig(target, metadata={"Date": None})
    print(target)
