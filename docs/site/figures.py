"""Figures of executed pages: saved by the build, each with an alternative text that says what it shows."""

from pathlib import Path
from typing import Any

DOTS = 110  # per inch


def words_of(figure: Any) -> str:
    """The alternative text of a figure, which an example gives by `figure.set_label(...)`.

    Raises ValueError where there is none: a picture without words is no part of a page.
    """
    words = str(figure.get_label()).strip()
    if len(words) < 20:
        raise ValueError(f"a figure has the label {words!r}; say what it shows: figure.set_label('...'), 20 letters or more")
    return " ".join(words.split())


def open_figures() -> list[Any]:
    """The figures of pyplot that are open, in the order in which they were made."""
    import matplotlib.pyplot as plt

    return [plt.figure(number) for number in plt.get_fignums()]


def save(figure: Any, path: Path) -> None:
    """Write one figure as PNG, on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS, facecolor="white", bbox_inches="tight")


def figures_with_words(block: Any, block_vars: dict, gallery_conf: dict, **_: Any) -> str:
    """Sphinx-gallery's scraper: every open figure as an image with its words; reST."""
    import matplotlib.pyplot as plt

    lines, source = [], Path(gallery_conf["src_dir"])
    for figure in open_figures():
        path = Path(next(block_vars["image_path_iterator"]))
        save(figure, path)
        lines += [f".. image:: /{path.relative_to(source).as_posix()}", f"   :alt: {words_of(figure)}", ""]
    plt.close("all")
    return "\n".join(lines)
