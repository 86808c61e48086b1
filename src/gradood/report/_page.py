"""Rendering of the content as one self-contained HTML file."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from gradood.report.page_policy import embedded, environment, hashed, themed

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

_SCRIPTS = (
    *("element.js", "scale.js", "chart.js", "board.js", "curves.js"),
    *("gallery.js", "cost.js", "agreement.js", "ranking.js", "main.js"),
)


def page(content: Mapping[str, Any], pictures: Mapping[str, Any] | None) -> str:
    """The file.

    Its policy lets the browser run the one script whose hash it names, and fetch nothing.

    Args:
        content: as `gradood.report._content.content` makes it.
        pictures: as `Sheets.to_dict` makes it, or None.

    Raises:
        ModuleNotFoundError: jinja2 is not installed.
    """
    template = _environment().get_template("page.html")
    from markupsafe import Markup

    script, style = _script(), _style()
    return template.render(
        content=content,
        pictures=pictures is not None,
        # Not escaped once more: both are ours, and are checked by their hash.
        script=Markup(script),
        style=Markup(style),
        script_hash=hashed(script),
        style_hash=hashed(style),
        data=Markup(embedded({**content, "pictures": pictures})),
    )


@cache
def _script() -> str:
    """All parts in one closed scope."""
    parts = "\n".join(_read(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


@cache
def _style() -> str:
    return themed(_read("style.css"), _read("dark.css"))


def _read(name: str) -> str:
    return files("gradood.report").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    made = environment("gradood.report")
    made.filters["figure"] = _figure
    made.filters["interval"] = _interval
    made.filters["ratio"] = _ratio
    return made


def _figure(figure: list[float | None] | None) -> str:
    value = figure[0] if figure else None
    return "–" if value is None else f"{100 * value:.1f}"


def _interval(figure: list[float | None] | None) -> str:
    _, low, high = figure if figure else (None, None, None)
    return "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def _ratio(value: float | None) -> str:
    if value == 1:
        return "≈ 1×"
    return "–" if value is None else f"{value:.2f}×"
