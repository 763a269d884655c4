"""Configuration of the documentation (Sphinx, MyST, the PyData theme). `make docs` builds it, without network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from generated import write_pages  # noqa: E402

import rrsis_bench  # noqa: E402

project = "rrsis-bench"
author = "the authors of rrsis-bench"
version = release = rrsis_bench.__version__

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_templates"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False  # they would turn --option into a dash
highlight_language = "text"
pygments_style = "tango"

html_theme = "pydata_sphinx_theme"
html_title = "rrsis-bench"
html_sidebars = {"**": ["pages.html"]}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "rrsis-bench"},
    "navbar_align": "left",
    "navbar_center": [],
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}
copyright = "the authors of rrsis-bench, Apache-2.0"  # noqa: A001 - Sphinx's name


def setup(app) -> None:
    """Write the pages that follow from the code before Sphinx looks for its sources."""
    app.connect("builder-inited", lambda _: write_pages(HERE / "reference"))
