"""A map of the package at the head of every page without a picture: the rooms that the page speaks of are marked.

Marked rooms have a thick border, a tick and bold letters as well as a colour.
"""

import re
from pathlib import Path
from typing import Any

from docutils import nodes

# Room, what it does, the words by which a page is known to speak of it, and its place: column and row.
ROOMS: tuple[tuple[str, str, str, int, int], ...] = (
    ("generator", "what made the signal", r"generator|activation|\bmaps?\b|onnx|module", 0, 0),
    ("measurement", "what was seen of it", r"measurement|mask|hidden pixels|magnitude|noise", 1, 0),
    ("layers", "convex problems", r"layer problem|lasso|basis pursuit|\(P\)|layers/", 2, 0),
    ("solvers", "points h, p", r"solver|admm|pdhg|interior.point|iteration", 0, 1),
    ("certificate", "what a point proves", r"certif|judge|\bgap\b|optimal\b|cvxinv check", 1, 1),
    ("inversion", "latents z", r"\binvert\b|\binversions?\b|latents?\b", 2, 1),
    ("exact", "is it the best one?", r"\bprove|proof|branch and bound", 0, 2),
    ("guarantees", "when can it be done?", r"guarantee|theorem|unique|spark|diagnos", 1, 2),
    ("sparse_models", "many layers at once", r"sparse model|multi.layer|sparse_models|dictionar|ista", 2, 2),
)
WIDE, HIGH = 160, 50
STEP_X, STEP_Y = 176, 66
PICTURE = re.compile(r"!\[|\.\. image::|\.\. figure::|<svg|\{image\}|\{figure\}|\{run\}|<img")


def spoken_of(text: str) -> list[str]:
    """The rooms that a text speaks of often: at least a third as often as of the one that it names most; at most four."""
    counts = {room: len(re.findall(words, text, re.I)) for room, _, words, _, _ in ROOMS}
    most = max(counts.values())
    found = [room for room, count in counts.items() if count and 3 * count >= most]
    return sorted(found, key=lambda room: -counts[room])[:4]


def drawing(marked: list[str]) -> str:
    """The map as inline SVG."""
    listed = ", ".join(marked) or "none in particular"
    words = (
        "Map of cvxinv in three rows: generator, measurement, layers; solvers, certificate, inversion; exact, guarantees, "
        f"sparse_models. Marked, as this page speaks of them: {listed}."
    )
    width, height = 2 * STEP_X + WIDE + 4, 2 * STEP_Y + HIGH + 4
    parts = [f'<svg class="house-map" viewBox="0 0 {width} {height}" role="img" aria-label="{words}"><title>{words}</title>']
    for column in (0, 1):
        for row in (0, 1, 2):
            x, y = column * STEP_X + WIDE + 2, row * STEP_Y + HIGH / 2 + 2
            parts.append(f'<path class="way" d="M{x} {y} h16"/>')
    parts.append(f'<path class="way" d="M{2 * STEP_X + 76} {HIGH + 2} v8 H76 v8"/>')
    parts.append(f'<path class="way" d="M{2 * STEP_X + 76} {STEP_Y + HIGH + 2} v8 H76 v8"/>')
    for room, does, _, column, row in ROOMS:
        x, y, kind = column * STEP_X + 2, row * STEP_Y + 2, "room marked" if room in marked else "room"
        name = f"✓ {room}" if room in marked else room
        parts.append(f'<g class="{kind}"><rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="6"/>')
        parts.append(f'<text class="name" x="{x + 8}" y="{y + 21}">{name}</text>')
        parts.append(f'<text x="{x + 8}" y="{y + 39}">{does}</text></g>')
    return "".join([*parts, "</svg>"])


def add_map(app: Any, tree: nodes.document) -> None:
    """Put the map below the title of a page that holds no picture."""
    for image in tree.findall(nodes.image):
        if not image.get("alt"):  # thumbnails of the gallery
            image["alt"] = "First picture of the example " + re.sub(r"^sphx_glr_plot_|_thumb$", "", Path(image["uri"]).stem)
    drawn = [node for node in tree.findall(nodes.raw) if "<svg" in node.astext()]
    if list(tree.findall(nodes.image)) or drawn:
        return
    title = next(iter(tree.findall(nodes.title)), None)
    if title is None:
        return
    picture = nodes.raw("", drawing(spoken_of(tree.astext())), format="html")
    title.parent.insert(title.parent.index(title) + 1, picture)


def setup(app: Any) -> dict[str, bool]:
    """Connect."""
    app.connect("doctree-read", add_map)
    return {"parallel_read_safe": True}
