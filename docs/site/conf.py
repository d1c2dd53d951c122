"""Sphinx settings of the site. `docs/site/build.py` stages the pages and calls Sphinx with this file."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

from figures import figures_with_words  # noqa: E402

import cvxinv  # noqa: E402

project = "cvxinv"
author = "The cvxinv authors"
copyright = "the cvxinv authors, BSD-3-Clause"
version = release = cvxinv.__version__

extensions = [
    "sphinx.ext.autodoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "prose_docstrings",
    "running_blocks",
    "build_time_maths",
    "decision_tree",
    "house_map",
    "whole_pictures",
]
root_doc = "docs/index"
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["docs/examples/**", "docs/site/*"]
show_warning_types = True

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_block", "attrs_inline"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
smartquotes = False
python_display_short_literal_types = True
python_maximum_signature_line_length = 100
add_module_names = False
default_role = "literal"
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "docs/examples",
    "gallery_dirs": "docs/gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (figures_with_words,),
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 0,
    "remove_config_comments": True,
    "download_all_examples": False,
    "copyfile_regex": "",
    "show_signature": False,
}
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"cvxinv {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
html_theme_options = {"navigation_with_keys": False}  # arrows scroll wide code and tables, and move sliders
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
