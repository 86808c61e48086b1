"""Settings of Sphinx; `docs/build.py` stages the pages and runs it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import docstrings

import gradood

project = "gradood"
author = "the gradood authors"
copyright = author
release = version = gradood.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
language = "en"

# `Monitor` in a docstring is a link where it names something, else code.
default_role = "py:obj"
add_module_names = False
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Cost"]

myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "gradood"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd3a7", "color-brand-content": "#5fd3a7"},
}


def setup(app) -> None:
    """Docstrings are made reStructuredText; the navigation shows the branch of its page alone."""
    app.connect("autodoc-process-docstring", docstrings.prepare, priority=400)
    app.connect("autodoc-process-docstring", docstrings.process, priority=600)
    app.connect("html-page-context", _one_branch, priority=400)  # before the theme's own


def _one_branch(app, page, template, context, doctree) -> None:
    """All branches on each of 250 pages would be half of the build, and too much to look at."""
    whole = context["toctree"]
    context["toctree"] = lambda **options: whole(**{**options, "collapse": True})
